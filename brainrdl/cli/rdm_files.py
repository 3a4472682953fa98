"""RDM files on the command line: read them, select some of their RDMs, and name each after its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from brainrdl._core.errors import about, check_option, quote, refuse
from brainrdl._core.given_values import as_text
from brainrdl.cli.common import check_source

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs
_SHOWN = 5  # names


def read_rdms(path: Path, names: Path | None, words: Mapping[str, Sequence[str]], *, quiet: bool = False) -> RDMs:
    """Read RDMs and name their conditions by "stimulus"; `names` are for a file without names."""
    with about(f"file {str(path)!r}"):
        check_source(path)
        from rsatoolbox.rdm import RDMs

        from brainrdl import read
        from brainrdl.rdms import by_name
        from brainrdl.readers.reading import options_of

        options = options_of(path, words)
        by = options.get("by", "stimulus")
        found: Any = read(path, **options)
        if not isinstance(found, RDMs):
            refuse(f"it holds measurements ({type(found).__name__}), not RDMs; compute RDMs with `brainrdl rdm` first")
        if names is not None and by not in found.pattern_descriptors:
            found = read(path, names=names, **options)
            if names.is_dir() and not quiet:
                _say_order(path, names, by_name.names(found, by))
        found.pattern_descriptors["stimulus"] = list(by_name.names(found, by))
    return found


def _say_order(path: Path, folder: Path, names: Sequence[str]) -> None:
    """Say which order was assumed, because no file can prove it; on stderr, so that tables can be piped."""
    shown = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
    typer.echo(f"condition names of {path.name}: the files in {folder}/ in alphabetical order: {shown}", err=True)


def chosen(found: Sequence[RDMs], paths: Sequence[Path], targets: Sequence[str], subjects: Sequence[str]) -> list[RDMs]:
    """Select the RDMs of these targets and subjects, in the files that distinguish them."""
    kept = list(found)
    for option, key, wanted in (("--target", "roi", targets), ("--subject", "subject", subjects)):
        values = [[as_text(value) for value in rdms.rdm_descriptors.get(key, ())] for rdms in kept]
        known = list(dict.fromkeys(value for column in values for value in column))
        if wanted and not known:
            refuse(f"{option} {wanted[0]!r}: no RDM in {quote(map(str, paths))} has a descriptor {key!r}; leave it out")
        for value in wanted:
            check_option(value, known, option)
        for place, column in enumerate(values):
            rows = [row for row, value in enumerate(column) if value in wanted]
            if wanted and column and not rows:
                refuse(
                    f"{str(paths[place])!r} holds no RDM with {key} {quote(wanted)}; it has "
                    f"{quote(dict.fromkeys(column))}"
                )
            kept[place] = kept[place][rows] if rows else kept[place]
    return kept


def grouping(found: Sequence[RDMs], mean: bool, subject_by: str, average_over: Sequence[str]) -> list[dict[str, Any]]:
    """Give what counts as a subject in each file, as the arguments of `brainrdl.rdms.groups`.

    A descriptor must exist in one of the files at least; "index" is for files without subjects.
    """
    known = list(dict.fromkeys(key for rdms in found for key in rdms.rdm_descriptors))
    given = {"--subject-by": [subject_by] if subject_by != "subject" else [], "--average-over": list(average_over)}
    for option, keys in given.items():
        if keys and not mean:
            refuse(f"{option} says how RDMs are averaged, and needs --mean; add it, or leave {option} out")
        for key in keys:
            check_option(key, known, option)
    return [
        {
            "subject_by": subject_by if subject_by in _may_name_subjects(rdms) else "subject",
            "average_over": [key for key in average_over if key in rdms.rdm_descriptors],
        }
        for rdms in found
    ]


def _may_name_subjects(rdms: RDMs) -> list[str]:
    return [key for key in rdms.rdm_descriptors if key != "index" or "subject" not in rdms.rdm_descriptors]


def labelled(rdms: RDMs, file: str, mean: bool, how: Mapping[str, Any]) -> RDMs:
    """Name each RDM after its file and descriptors, if asked to after averaging over subjects.

    `how` says what counts as a subject, as the arguments of `brainrdl.rdms.groups`.
    """
    from brainrdl.evaluation.comparison import rdm_labels
    from brainrdl.rdms.by_name import concat
    from brainrdl.teachers.rdm_teacher import RDMTeacher

    described = set(rdms.rdm_descriptors) - {"index"}
    if mean:
        with about(f"file {file!r}"):
            teacher = RDMTeacher(rdms, **how)
        rdms = concat([teacher.combined(target) for target in teacher.targets])
        several = "roi" in described or len(teacher.targets) > 1
        labels = [f"{target}, mean" if several else "mean" for target in teacher.targets]
    else:
        labels = rdm_labels(rdms) if described or rdms.n_rdm > 1 else [""]
    twice = len(set(labels)) < len(labels)
    labels = [f"{label} ({k})" if twice else label for k, label in enumerate(labels, start=1)]
    rdms.rdm_descriptors = {"name": [f"{file}: {label}" if label else file for label in labels]}
    return rdms
