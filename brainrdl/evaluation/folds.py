"""Which conditions are held out together: folds over stimuli, by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_conditions, check_unique, quote, refuse
from brainrdl.evaluation.options import Splitter
from brainrdl.stimuli.categories import group_numbers, groups_of


def stimulus_folds(
    names: Sequence[str],
    folds: int | Splitter = 5,
    *,
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | pd.Series | str | Path | None = None,
    seed: int = 0,
    what: str = "folds",
) -> pd.DataFrame:
    """Assign each condition to the fold that holds it out.

    Parameters
    ----------
    names : sequence of str
        Names of all conditions.
    folds : int or scikit-learn splitter
        Number of folds, shuffled by `seed` and stratified by `labels` (unless all categories have fewer members than
        there are folds); or a splitter whose test sets do not overlap and whose training sets contain all other
        conditions.
    labels : mapping of name to category, optional
        Categories, for stratification.
    groups : mapping of name to group, pandas.Series, str or Path, optional
        Names of one group (an object, an identity, a video) are held out together; folds have similar sizes, and
        similar shares of the categories, as far as the groups permit. Or the path of a CSV table with the columns
        ``stimulus`` and ``group``. Names that are not listed are groups of one. A splitter is given the numbers of the
        groups as its third argument, if it accepts one.
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
        held-out condition, uses only some conditions in a fold, separates a group, makes no fold, or needs groups or
        labels that were not given.

    Examples
    --------
    >>> stimulus_folds(list("abcdefgh"), 2).groupby("fold").size().tolist()
    [4, 4]
    """
    check_unique(names, "the conditions to split")
    check_conditions(names if labels else (), labels or (), "the labels")
    categories = [labels[name] for name in names] if labels else None
    given = isinstance(folds, Splitter) and not isinstance(folds, str)
    grouped = groups_of(groups, names)
    numbers = group_numbers(names, grouped) if grouped else None
    splitter = cast(Splitter, folds) if given else _k_fold(folds, categories, numbers, seed, len(names), what)
    parts = _parts_of(splitter, names, categories, numbers)
    advice = ("hold out more conditions", "hold out fewer") if given else (f"use fewer {what}", f"use more {what}")
    rows: list[dict[str, Any]] = []
    for fold, (train, test) in enumerate(parts):
        _check_complement(fold, train, test, len(names))
        _check_whole_groups(fold, test, names, numbers)
        _check_sizes(fold, len(train), [names[i] for i in test], *advice)
        rows += [{"stimulus": names[i], "fold": fold} for i in test]
    check_unique([row["stimulus"] for row in rows], "the splitter's test sets")
    if not rows:
        refuse(f"splitter {splitter!r} made no fold of the {len(names)} conditions")
    return pd.DataFrame(rows)


def _parts_of(
    splitter: Splitter, names: Sequence[str], categories: list[str] | None, numbers: list[int] | None
) -> list[tuple[Sequence[int], Sequence[int]]]:
    takes_groups = len(inspect.signature(splitter.split).parameters) > 2
    more = () if numbers is None or not takes_groups else (numbers,)
    # from splitters of scikit-learn that ignore groups; whether they separate one is checked
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The groups parameter is ignored", category=UserWarning)
        try:
            return list(splitter.split(list(names), categories, *more))
        except (TypeError, ValueError) as error:
            lacks = [] if categories else ["labels of the stimuli"]
            lacks += [arg("groups", python="groups={name: group}")] if numbers is None and takes_groups else []
            advice = f"; if it needs {' or '.join(lacks)}, give them" if lacks else ""
            refuse(f"splitter {splitter!r} cannot split {len(names)} conditions: {error}{advice}")


def _check_whole_groups(fold: int, test: Sequence[int], names: Sequence[str], numbers: list[int] | None) -> None:
    if numbers is None:
        return
    held_out = {numbers[i] for i in test}
    apart = [i for i in range(len(names)) if numbers[i] in held_out and i not in set(test)]
    if apart:
        (partner,) = [names[i] for i in test if numbers[i] == numbers[apart[0]]][:1]
        refuse(
            f"fold {fold} of the splitter holds out {partner!r} but not {names[apart[0]]!r} of the same group; use a "
            f"splitter for groups, such as scikit-learn's GroupKFold, or a number of {arg('folds')}"
        )


def _k_fold(
    n_folds: object, categories: list[str] | None, numbers: list[int] | None, seed: int, n: int, what: str
) -> Splitter:
    from sklearn.model_selection import KFold, StratifiedKFold

    if not isinstance(n_folds, int | np.integer) or not 2 <= n_folds <= n:
        refuse(
            f"{what} must be a scikit-learn splitter or a whole number from 2 to the {n} conditions, got {n_folds!r}"
        )
    largest = max(categories.count(category) for category in set(categories)) if categories else 0
    if numbers is not None:
        if len(set(numbers)) < n_folds:
            refuse(f"{what} must be at most the number of groups, {len(set(numbers))}, got {n_folds}")
        return _GroupFolds(int(n_folds), seed, stratified=bool(largest >= n_folds))
    if largest >= n_folds:
        return _Stratified(StratifiedKFold(n_folds, shuffle=True, random_state=seed))
    return cast(Splitter, KFold(n_folds, shuffle=True, random_state=seed))


@dataclass(frozen=True)
class _Stratified:
    """Stratified folds, without scikit-learn's warning about categories with fewer members than folds."""

    folds: Any

    def split(self, X: Any, y: Any = None) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            return list(self.folds.split(X, y))


@dataclass(frozen=True)
class _GroupFolds:
    """Folds of whole groups with similar sizes and, if stratified, similar shares of the categories.

    scikit-learn's StratifiedGroupKFold balances the categories first: of few conditions, a fold may get too few.
    """

    n_folds: int
    seed: int
    stratified: bool

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        categories = y if y and self.stratified else ["all"] * len(X)
        counts = pd.crosstab(np.asarray(groups), np.asarray(categories)).to_numpy(dtype=float)
        fold_of = self._assigned(counts)[np.asarray(groups)]
        for fold in range(self.n_folds):
            yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)

    def _assigned(self, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Assign groups (rows; columns are categories) to folds, the largest first, each where it fits best."""
        random = np.random.default_rng(self.seed)
        sizes, shuffled = counts.sum(1), random.permutation(len(counts))
        order = shuffled[np.lexsort((counts.argmax(1)[shuffled], -sizes[shuffled]))]
        held, fold_of = np.zeros((self.n_folds, counts.shape[1])), np.zeros(len(counts), dtype=np.int64)
        preferred = random.permutation(self.n_folds)
        for group in order:
            more = (held[preferred] * counts[group] / counts.sum(0)).sum(1)
            larger = 2 * held[preferred].sum(1) * sizes[group] / sizes.sum() * counts.shape[1]
            fold_of[group] = preferred[np.argmin(more + larger)]
            held[fold_of[group]] += counts[group]
        return fold_of


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
