"""Confounds of preprocessed series, from the tables that fMRIPrep writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from brainrdl._core.errors import check_option, read_arg, refuse
from data_adapters._shared.text_tables import blaming, read_table
from data_adapters.fmri_bold.bids_files import is_raw, name_of
from data_adapters.fmri_bold.series import is_here

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def read_confounds(file: Path, confounds: str | Sequence[str]) -> pd.DataFrame:
    """Read confounds of a preprocessed series.

    Parameters
    ----------
    file : Path
        The series.
    confounds : str or sequence of str
        As of ``bids``.

    Returns
    -------
    pandas.DataFrame
        (n_volumes, n_confounds). ``n/a`` in the first row, where a derivative has no value, is replaced by the mean of
        the column.

    Raises
    ------
    BrainrdlError
        If `confounds` is empty, there is no table, a column is missing, or a value is not a number.
    """
    if confounds == "simple" and not is_raw(file):
        return _simple(file)
    kinds = ("timeseries", "regressors")
    tables = [file.with_name(name_of(file, desc="confounds", suffix=f"{kind}.tsv")) for kind in kinds]
    there = [table for table in tables if is_here(table)]
    if not there and is_raw(file):
        refuse(
            f"{file.name!r} is a raw series, as it was measured: it has no confounds {tables[0].name!r}, and its "
            "volumes are not aligned. There are no derivatives of it here; preprocess it first, for example with "
            "fMRIPrep, and read the derivatives"
        )
    if not there:
        refuse(
            f"there is no table of confounds {tables[0].name!r} for {file.name!r}; give {read_arg('confounds', None)} "
            "to remove none"
        )
    with blaming("the confounds", there[0]):
        table = read_table(there[0])
    if not confounds:
        refuse("confounds= is empty; give None to remove none")
    asked = MOTION if confounds == "minimal" else [confounds] if isinstance(confounds, str) else confounds
    for name in asked:
        check_option(name, ["minimal", "simple", *table] if name == confounds else list(table), "confounds")
    return pd.DataFrame({name: _column(table[name], name, there[0]) for name in asked})


def _column(cells: Sequence[str], name: str, file: Path) -> np.ndarray:
    try:
        values = np.array([np.nan if cell.lower() in {"n/a", "nan", ""} else float(cell) for cell in cells])
    except ValueError as error:
        refuse(f"column {name!r} of {file.name!r}: {error}")
    if not np.isfinite(values[1:]).all():
        refuse(f"column {name!r} of {file.name!r} holds a value that is not a number after its first row")
    if len(values) and np.isnan(values[0]):
        values[0] = values[1:].mean()
    return values


def _simple(file: Path) -> pd.DataFrame:
    """Give nilearn's simple strategy without its slow cosines, which the model adds itself."""
    try:
        from nilearn.interfaces.fmriprep import load_confounds
    except ImportError:
        refuse("confounds='simple' needs nilearn, which is not installed; install it with: pip install nilearn")
    try:
        table, _ = load_confounds(str(file), strategy=("motion", "wm_csf"), motion="full", wm_csf="basic")
    except ValueError as error:
        refuse(
            f"nilearn finds no confounds for {file.name!r} ({error}); name columns, or give "
            f"{read_arg('confounds', None)}"
        )
    return table
