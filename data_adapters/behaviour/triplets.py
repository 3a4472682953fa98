"""Odd-one-out judgements: which of three items does not belong (as in THINGS).

Layout on disk, one trial per row:

- ``.txt``, ``.csv``, ``.tsv`` or ``.npy`` of whole numbers (n_trials, 3), indices of items. The last is the odd one
  out, as in the triplets of THINGS that SPoSE and VICE are fitted to (their readme: "col_0 = anchor_1, col_1 =
  anchor_2, col_2 = odd one out"). If it is the first, use ``odd="first"``. Three columns could also be pairs with
  ratings, so ``odd=`` is required for ``.csv`` and ``.tsv``, and if the first two columns contain every pair once;
- ``.csv`` or ``.tsv`` with the columns ``a``, ``b``, ``odd`` in any order and case: names of items (and ``subject``, if
  known).

Columns of a ``.csv`` are separated by the first of tab, semicolon and comma that occurs in its first row.

The dissimilarity of two items is the share of trials with both items in which one of the two was chosen as the odd one
out: 1 - (trials in which both were kept) / (trials that showed both). It is NaN for a pair that no trial showed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._core.errors import check_option, check_unique, check_whole, read_arg, refuse
from brainrdl.rdms.conversion import from_array
from data_adapters._shared.arrays import npy_array
from data_adapters._shared.text import read_text, suffix
from data_adapters._shared.triplet_files import NAMED, first_rows, is_named, looks_like_triplets, rows_of_cells

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
_MOST_ITEMS = 20_000  # their RDM needs 3 GB


class Triplets:
    """Reads odd-one-out judgements as an RDM: how often one of two items was the odd one out.

    Examples
    --------
    >>> READER.sniff(Path("brain.mat"))
    False
    """

    name = "triplets"
    layout = (
        "odd-one-out trials: .txt, .csv, .tsv or .npy of item indices (n_trials, 3), with the odd one last; or a "
        "table with the columns a, b, odd and, if known, subject"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files whose first row is a trial, or names the columns of trials.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether it looks like triplets.
        """
        return looks_like_triplets(path)

    def read(self, path: Path, *, odd: str | None = None, base: int | None = None, n_items: int | None = None) -> RDMs:
        """Count how often items were kept together, and compute the RDM.

        Parameters
        ----------
        path : Path
            The file.
        odd : {"last", "first"}, optional
            Which column of indices is the odd one out (default: the last, if the columns cannot be ratings).
        base : int, optional
            The index of the first item, 0 or 1; needed if no index is 0.
        n_items : int, optional
            Number of items, if some were never shown (default: up to the largest index).

        Returns
        -------
        rsatoolbox.rdm.RDMs
            (n_rdms, n_pairs), shares from 0 to 1. From indices, without names (give ``names=`` in the order of the
            indices). From names, with pattern descriptor ``stimulus`` in order of appearance, and rdm descriptor
            ``subject`` if there is that column.

        Raises
        ------
        BrainrdlError
            If the file is empty or not in UTF-8, could contain pairs with ratings, a row does not have three different
            items, the first index is unclear, there are too many items, or the RDM is not valid.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        if odd is not None:
            check_option(odd, ("last", "first"), "odd")
        if path.suffix.lower() != ".npy" and is_named(first_rows(path)[0]):
            if odd is not None or base is not None or n_items is not None:
                refuse(
                    f"{read_arg('odd')}, {read_arg('base')} and {read_arg('n_items')} are for indices; the columns of "
                    "this table have names, leave them out"
                )
            return _named(path)
        trials = _indices(path)
        if odd is None:
            _check_no_ratings(trials, path)
        trials = trials[:, ::-1] if odd == "first" else trials
        return _rdm(trials - _base(trials, base), n_items)


def _indices(path: Path) -> np.ndarray:
    """Load indices (n_trials, 3) as integers."""
    if path.suffix.lower() == ".npy":
        values = npy_array(path, path.name)
    else:
        values = np.loadtxt([" ".join(row) for row in rows_of_cells(read_text(path).splitlines(), path)], ndmin=2)
    if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "iuf" or not len(values):
        refuse(f"triplets must be numbers (n_trials, 3), got {values.dtype} of shape {values.shape}")
    bad = np.flatnonzero(~((values >= 0) & (values < 2**31) & (values == np.floor(values))).all(axis=1))
    if bad.size:
        refuse(f"trial {bad[0]} (counted from 0) is {values[bad[0]].tolist()}, expected indices: whole, not negative")
    return values.astype(np.int64)


def _check_no_ratings(trials: np.ndarray, path: Path) -> None:
    """Refuse three columns that could as well be the two items of a pair and its rating."""
    pairs = np.unique(np.sort(trials[:, :2], axis=1), axis=0)
    n_items = len(np.unique(pairs))
    every_pair_once = len(pairs) == len(trials) == n_items * (n_items - 1) // 2
    if every_pair_once or suffix(path) in {".csv", ".tsv"}:
        refuse(
            "three columns of whole numbers could be trials or pairs with ratings: for trials, use "
            f"{read_arg('odd', 'last')} (or 'first'); for ratings, add a first row a,b,rating in a .csv"
        )


def _base(trials: np.ndarray, base: int | None) -> int:
    """Decide which index the first item has."""
    least = int(trials.min())
    if base is not None:
        check_whole(base, "base", 0, 2)
        if least < base:
            refuse(f"base is {base}, but there is an item with index {least}")
        return base
    if least:
        refuse(
            f"the smallest index is {least}, so the first item could have index 0 or 1: use {read_arg('base', 0)} or "
            f"{read_arg('base', 1)}"
        )
    return 0


def _rdm(trials: np.ndarray, n_items: int | None) -> RDMs:
    """Make the RDM from trials of indices that start at 0."""
    found = int(trials.max()) + 1
    if n_items is not None:
        check_whole(n_items, f"n_items, where the largest index makes {found} items,", found)
    elif found > len(np.unique(trials)):
        missing = np.setdiff1d(np.arange(min(found, trials.size + 1)), trials)
        refuse(
            f"the largest index makes {found} items, but some were never shown, the first is item {missing[0]} "
            f"(counted from 0); if that is right, give the number of items with {read_arg('n_items')}"
        )
    return from_array(_dissimilarities(trials, n_items or found), None, where="the triplets")


def _dissimilarities(trials: np.ndarray, n_items: int) -> np.ndarray:
    """Return 1 - (trials in which both were kept) / (trials that showed both), (n_items, n_items)."""
    if n_items > _MOST_ITEMS:
        refuse(f"there are {n_items} items, but an RDM can have at most {_MOST_ITEMS} here; split the trials")
    repeated = np.flatnonzero((trials == np.roll(trials, 1, axis=1)).any(axis=1))
    if repeated.size:
        refuse(f"trial {repeated[0]} (counted from 0) shows one item twice; expected three different items")
    kept, shown = np.zeros((2, n_items, n_items))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        np.add.at(shown, (trials[:, i], trials[:, j]), 1)
    np.add.at(kept, (trials[:, 0], trials[:, 1]), 1)
    kept, shown = kept + kept.T, shown + shown.T
    separated = np.divide(shown - kept, shown, out=np.full_like(shown, np.nan), where=shown > 0)
    np.fill_diagonal(separated, 0)
    return separated


def _named(path: Path) -> RDMs:
    """Make the RDMs, one per subject, from a table of names."""
    rows = rows_of_cells(read_text(path).splitlines(), path)
    header = [cell.lower() for cell in rows.pop(0)]
    if not header[0]:  # row numbers, as pandas writes them
        header, rows = header[1:], [row[1:] for row in rows]
    check_unique(header, "the first row")
    for column in header:
        check_option(column, (*NAMED, "subject"), "column")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header) or not all(row):
            refuse(f"row {number} has the cells {row}; expected one for each of {header}")
    if not rows:
        refuse("the table has a first row only")
    names = list(dict.fromkeys(row[header.index(column)] for row in rows for column in NAMED))
    place = {name: index for index, name in enumerate(names)}
    trials = np.array([[place[row[header.index(column)]] for column in NAMED] for row in rows])
    of = np.array([row[header.index("subject")] if "subject" in header else "" for row in rows])
    subjects = list(dict.fromkeys(of.tolist()))
    squares = np.stack([_dissimilarities(trials[of == subject], len(names)) for subject in subjects])
    descriptors = {"subject": subjects} if "subject" in header else {}
    return from_array(squares, names, descriptors=descriptors, where="the triplets")


READER = Triplets()
