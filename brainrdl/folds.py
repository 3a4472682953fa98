"""Which conditions are held out together: folds over stimuli, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from brainrdl._checks import check_unique, quote, refuse
from brainrdl.sampling import MIN_CONDITIONS


class Splitter(Protocol):
    """A scikit-learn splitter: ``split(X, y)`` yields positions of training and test conditions."""

    def split(self, X: Any, y: Any = None) -> Any:
        """Positions of training and test conditions, fold by fold."""


def stimulus_folds(
    names: Sequence[str],
    folds: int | Splitter = 5,
    *,
    labels: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Assign each condition to the fold that holds it out.

    Parameters
    ----------
    names : sequence of str
        Conditions.
    folds : int or scikit-learn splitter
        Number of folds, shuffled by `seed` and stratified by `labels` where every category has enough members; or a splitter whose
        test sets do not overlap.
    labels : mapping of name to category, optional
        For stratification.
    seed : int
        Seed of the shuffling; a splitter brings its own.

    Returns
    -------
    pandas.DataFrame
        Columns stimulus, fold (0, 1, ...); a stimulus that a splitter never holds out is left out.

    Raises
    ------
    BrainrdlError
        If a fold holds out or leaves for training fewer than 4 conditions, or a splitter holds a condition out twice.

    Examples
    --------
    >>> stimulus_folds(list("abcdefgh"), 2).groupby("fold").size().tolist()
    [4, 4]
    """
    check_unique(names, "the conditions to split")
    categories = [labels[name] for name in names] if labels else None
    splitter = _k_fold(folds, categories, seed, len(names)) if isinstance(folds, int) else folds
    rows = []
    for fold, (train, test) in enumerate(splitter.split(list(names), categories)):
        _check_sizes(fold, len(train), [names[i] for i in test])
        rows += [{"stimulus": names[i], "fold": fold} for i in test]
    table = pd.DataFrame(rows)
    check_unique(table["stimulus"].tolist(), "the splitter's test sets")
    return table


def _k_fold(n_folds: int, categories: list[str] | None, seed: int, n: int) -> Splitter:
    from sklearn.model_selection import KFold, StratifiedKFold

    if not 2 <= n_folds <= n:
        refuse(f"folds must lie between 2 and the {n} conditions, got {n_folds!r}")
    smallest = min((categories.count(c) for c in set(categories)), default=0) if categories else 0
    kind = StratifiedKFold if smallest >= n_folds else KFold
    return kind(n_folds, shuffle=True, random_state=seed)  # type: ignore[no-any-return]


def _check_sizes(fold: int, n_train: int, test: Sequence[str]) -> None:
    if len(test) < MIN_CONDITIONS:
        refuse(
            f"fold {fold} holds out {len(test)} conditions {quote(test)}; only pairs held out together are scored, so each fold "
            f"needs at least {MIN_CONDITIONS}: use fewer folds"
        )
    if n_train < MIN_CONDITIONS:
        refuse(f"fold {fold} leaves {n_train} conditions to train on; at least {MIN_CONDITIONS} are needed: use more folds")
