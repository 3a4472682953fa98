"""What figures need of the tables of a plain RSA and of an evaluation: their rows, and the names of models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainrdl._core.errors import refuse
from brainrdl.plot.style import check_columns, one_of, table_of

ALPHA = 0.05

_SCORED = ("model", "layer", "target", "comparator", "against", "score")


def chosen(
    summary: Any, comparator: str | None, against: str | None, columns: tuple[str, ...]
) -> tuple[pd.DataFrame, str, str]:
    """Return the rows of a summary with one comparator and reference, by default the first in the table.

    Raises
    ------
    BrainrdlError
        If the table lacks a column or is empty, or has no such rows.
    """
    table = as_models(table_of(summary, "summary"))
    check_columns(table, (*_SCORED, *columns), "summary")
    comparator, against = one_of(table, "comparator", comparator), one_of(table, "against", against)
    found = table[(table["comparator"] == comparator) & (table["against"] == against)]
    if found.empty:
        refuse(f"the table has no score with comparator {comparator!r} against {against!r}")
    return found, comparator, against


def as_models(table: pd.DataFrame) -> pd.DataFrame:
    """Name the students of an evaluation as the models of a plain RSA, and layers that are missing as "".

    Examples
    --------
    >>> as_models(pd.DataFrame({"student": ["fitted"], "layer": [None]})).to_dict("list")
    {'model': ['fitted'], 'layer': ['']}
    """
    if "model" not in table and "student" in table:
        table = table.rename(columns={"student": "model"})
    layers = {
        column: table[column].astype(object).where(table[column].notna(), "")
        for column in ("layer", "other_layer")
        if column in table
    }
    return table.assign(**layers)


def of_result(result: Any, name: str) -> pd.DataFrame | None:
    """Return a table of a result; None for a table without the others, or if it is empty."""
    found = None if isinstance(result, pd.DataFrame) else getattr(result, name, None)
    return found if isinstance(found, pd.DataFrame) and len(found) else None


def matching(table: pd.DataFrame, wanted: Mapping[str, str], what: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows with these values, in those columns that the table has; differences between models only.

    Raises
    ------
    BrainrdlError
        If the table lacks a column.
    """
    table = as_models(table)
    check_columns(table, ("model", "layer", "target", "comparator", *columns), what)
    known = {column: value for column, value in wanted.items() if column in table}
    known |= {"family": "models"} if "family" in table else {}
    keep = np.ones(len(table), dtype=bool)
    for column, value in known.items():
        keep &= (table[column].astype(str) == value).to_numpy()
    return table[keep]


def significant(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Say of which rows the corrected p is below .05; of none without such a column."""
    if "p_corrected" not in table:
        return np.zeros(len(table), dtype=bool)
    return np.asarray(table["p_corrected"].to_numpy(float) < ALPHA)


def labels_of(table: pd.DataFrame) -> list[str]:
    """Name rows by model and layer; by layer only if all rows are of one network, by model if each has one layer.

    Examples
    --------
    >>> labels_of(pd.DataFrame({"model": ["net", "net", "pixels"], "layer": ["conv1", "conv2", ""]}))
    ['net, conv1', 'net, conv2', 'pixels']
    """
    if table["model"].nunique() == 1:
        return [str(layer or model) for model, layer in zip(table["model"], table["layer"], strict=True)]
    one_layer = table.groupby("model", sort=False)["layer"].nunique().max() == 1
    return [
        f"{model}, {layer}" if layer and not one_layer else str(model)
        for model, layer in zip(table["model"], table["layer"], strict=True)
    ]
