"""The page of a plain RSA, from its tables and RDMs, in memory or in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from brainrdl.reporting.frame import PAGE, Block, Page, write_page
from brainrdl.reporting.rsa_figures import rdm_drawings, score_drawings
from brainrdl.reporting.rsa_methods import facts_of_rsa, methods_of_rsa, references_of_rsa
from brainrdl.reporting.rsa_source import RSA, main_rows
from brainrdl.reporting.rsa_tables import contrast_tables, group_tables, layer_tables, summary_table
from brainrdl.reporting.rsa_wording import headlines_of_rsa, limits_of_rsa
from brainrdl.reporting.tables import flat, long_table
from brainrdl.reporting.wording import and_joined


def write_rsa_page(folder: Path, out: Path | str | None = None) -> Path:
    """Write the self-contained HTML page of a saved RSA.

    Examples
    --------
    >>> write_rsa_page.__name__  # used by RSAResult.save
    'write_rsa_page'
    """
    path = folder if out is None else Path(out)
    return write_page(page_of_rsa(RSA.read(folder)), path / PAGE if path.is_dir() else path)


def page_of_rsa(rsa: RSA, title: str | None = None) -> Page:
    """Compose the page of a plain RSA."""
    summary, settings, tables = rsa.summary, rsa.settings, rsa.tables
    return Page(
        title=title,
        question=f"How similar are the models to {and_joined(dict.fromkeys(summary['target']))}?",
        answer=list(headlines_of_rsa(tables)),
        blocks=list(_blocks(rsa)),
        methods=list(methods_of_rsa(rsa)),
        references=references_of_rsa(rsa),
        caveats=list(limits_of_rsa(rsa)),
        facts=facts_of_rsa(summary, settings),
        provenance=[
            *flat(rsa.provenance), *((f"file: {name} (SHA-256)", digest) for name, digest in rsa.files.items())
        ],
        settings={"All settings": json.dumps(settings, indent=2, ensure_ascii=False)},
        versions=rsa.provenance.get("versions", {}),
    )  # fmt: skip


def _blocks(rsa: RSA) -> Iterator[Block]:
    tables, scores = rsa.tables, rsa.tables["scores"]
    of_subjects = [long_table("Scores of each subject", scores, "scores.csv")] if len(scores) else []
    drawings = list(score_drawings(tables))
    yield Block("Models and targets", drawings, [summary_table(main_rows(rsa.summary))], of_subjects)
    if layers := layer_tables(tables["best_layers"]):
        yield Block("The best layer of each network", tables=layers)
    differences = [*contrast_tables(tables["contrasts"], rsa.summary), *group_tables(tables["groups"])]
    if differences:
        yield Block("Differences", tables=differences)
    if rsa.rdms:
        yield Block("The RDMs", list(rdm_drawings(rsa.rdms)))
