"""A plain RSA to report: its tables and RDMs, from memory or from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from brainrdl._core.files import read_csv, read_json, read_rdms
from brainrdl._core.rows import Against
from brainrdl.reporting.target_names import named_rdms, named_table
from brainrdl.runs.provenance import describe, gather_provenance

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

RSA_FACTS = "rsa.json"

TABLES = ("summary", "contrasts", "best_layers", "scores", "groups")

_WORDS = (
    "model", "layer", "target", "comparator", "against", "other", "other_layer", "other_target", "family", "subject",
    "group", "other_group",
)  # fmt: skip


@runtime_checkable
class RSATables(Protocol):
    """What the page needs of an `RSAResult`."""

    summary: pd.DataFrame
    contrasts: pd.DataFrame
    best_layers: pd.DataFrame
    scores: pd.DataFrame
    groups: pd.DataFrame
    models: RDMs
    data: RDMs
    settings: dict[str, Any]


@dataclass(frozen=True, eq=False)
class RSA:
    """A plain RSA: its tables by name, settings, RDMs, and what is known of its origin."""

    tables: Mapping[str, pd.DataFrame]
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    rdms: Mapping[str, RDMs] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", {name: named_table(table) for name, table in self.tables.items()})
        object.__setattr__(self, "rdms", {name: named_rdms(rdms) for name, rdms in self.rdms.items()})

    @classmethod
    def read(cls, folder: Path) -> RSA:
        """Read the folder of a plain RSA."""
        facts = read_json(folder / RSA_FACTS)
        tables = {name: read_table(folder / f"{name}.csv") for name in TABLES}
        rdms = {name: read_rdms(folder / f"{name}.h5") for name in ("data", "models")}
        return cls(tables, facts["settings"], facts["provenance"], rdms, facts["files"], folder)

    @classmethod
    def of(cls, result: RSATables) -> RSA:
        """Use a result in memory; what made it is the program that writes the page."""
        tables = {name: getattr(result, name) for name in TABLES}
        rdms = {"data": result.data, "models": result.models}
        return cls(tables, describe(result.settings), gather_provenance(), rdms)

    @property
    def summary(self) -> pd.DataFrame:
        return self.tables["summary"]


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of an RSA; names stay text, also "NA" and "01".

    Examples
    --------
    >>> read_table.__name__  # used by RSAResult.load
    'read_table'
    """
    if not path.read_text(encoding="utf-8").strip():
        return pd.DataFrame()
    columns = read_csv(path, nrows=0).columns
    words = dict.fromkeys(columns.intersection(list(_WORDS)), str)
    unknown = {column: [""] for column in columns.difference(list(_WORDS))}
    return read_csv(path, dtype=words, keep_default_na=False, na_values=unknown)


def main_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first comparator, with single subjects if there are several, or else with the only RDM."""
    several = "n_subjects" not in table or int(table["n_subjects"].max()) > 1
    against = Against.SUBJECTS if several and (table["against"] == Against.SUBJECTS).any() else Against.MEAN
    return table[(table["comparator"] == table["comparator"].iloc[0]) & (table["against"] == against.value)]


def row_name(row: Mapping[Any, Any], model: str = "model", layer: str = "layer") -> str:
    return f"{row[model]} (layer {row[layer]})" if row[layer] else str(row[model])
