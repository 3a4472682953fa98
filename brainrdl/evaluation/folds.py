"""Which conditions are held out together: folds over stimuli, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import check_conditions, check_unique, quote, refuse
from brainrdl.evaluation.options import Splitter


def stimulus_folds(
    names: Sequence[str],
    folds: int | Splitter = 5,
    *,
    labels: Mapping[str, str] | None = None,
    seed: int = 0,
    what: str = "folds",
) -> pd.DataFrame:
    """Assign each condition to the fold that holds it out.

    Parameters
    ----------
    names : sequence of str
        Names of all conditions.
    folds : int or scikit-learn splitter
        Number of folds, shuffled by `seed` and stratified by `labels` if every category has a member for each fold; or
        a splitter whose test sets do not overlap and whose training sets contain all other conditions.
    labels : mapping of name to category, optional
        Categories, for stratification.
    seed : int
        Seed of the shuffling; a splitter uses its own seed.
    what : str
        Name of `folds` in error messages.

    Returns
    -------
    pandas.DataFrame
        Columns stimulus, fold (0, 1, ...); stimuli that a splitter never holds out are omitted.

    Raises
    ------
    BrainrdlError
        If names occur more than once or have no label, the number of folds is not a whole number of at least 2, a fold
        holds out or trains on fewer than 4 conditions, or a splitter holds a condition out twice, trains on a
        held-out condition, uses only some conditions in a fold, or makes no fold.

    Examples
    --------
    >>> stimulus_folds(list("abcdefgh"), 2).groupby("fold").size().tolist()
    [4, 4]
    """
    check_unique(names, "the conditions to split")
    check_conditions(names if labels else (), labels or (), "the labels")
    categories = [labels[name] for name in names] if labels else None
    given = isinstance(folds, Splitter) and not isinstance(folds, str)
    splitter = cast(Splitter, folds) if given else _k_fold(folds, categories, seed, len(names), what)
    advice = ("hold out more conditions", "hold out fewer") if given else (f"use fewer {what}", f"use more {what}")
    rows = []
    for fold, (train, test) in enumerate(splitter.split(list(names), categories)):
        _check_complement(fold, train, test, len(names))
        _check_sizes(fold, len(train), [names[i] for i in test], *advice)
        rows += [{"stimulus": names[i], "fold": fold} for i in test]
    check_unique([row["stimulus"] for row in rows], "the splitter's test sets")
    if not rows:
        refuse(f"splitter {splitter!r} made no fold of the {len(names)} conditions")
    return pd.DataFrame(rows)


def _k_fold(n_folds: object, categories: list[str] | None, seed: int, n: int, what: str) -> Splitter:
    from sklearn.model_selection import KFold, StratifiedKFold

    if not isinstance(n_folds, int | np.integer) or not 2 <= n_folds <= n:
        refuse(
            f"{what} must be a scikit-learn splitter or a whole number from 2 to the {n} conditions, got {n_folds!r}"
        )
    smallest = min(categories.count(category) for category in set(categories)) if categories else 0
    kind = StratifiedKFold if smallest >= n_folds else KFold
    return cast(Splitter, kind(n_folds, shuffle=True, random_state=seed))


def _check_complement(fold: int, train: Sequence[int], test: Sequence[int], n: int) -> None:
    if sorted([*train, *test]) != list(range(n)):
        refuse(
            f"fold {fold} of the splitter trains on {len(train)} and holds out {len(test)} of {n} conditions; each "
            "condition should be in one of the two, because all conditions that are not held out are trained on"
        )


def _check_sizes(fold: int, n_train: int, test: Sequence[str], more: str, fewer: str) -> None:
    if len(test) < MIN_CONDITIONS:
        refuse(
            f"fold {fold} holds out {len(test)} conditions {quote(test)}; only pairs held out together are scored, so "
            f"each fold needs at least {MIN_CONDITIONS}: {more}"
        )
    if n_train < MIN_CONDITIONS:
        refuse(f"fold {fold} leaves {n_train} conditions for training, but needs at least {MIN_CONDITIONS}: {fewer}")
