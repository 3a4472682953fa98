"""Variance partitioning: which share of an RDM's variance only one model explains, and which several share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_conditions, check_unique, check_whole, refuse
from brainrdl.dissimilarity.pairs import pair_indices, to_square
from brainrdl.inference.intervals import Dyadic, cut
from brainrdl.inference.pairwise import Compare
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.rdm_models.regression import check_independent
from brainrdl.rdm_models.targets import stacked, subjects_of_targets
from brainrdl.rdms.by_name import names as names_of
from brainrdl.similarity.pair_sums import dot
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_MOST_MODELS = 6  # 63 parts

_JOINED = " & "


def partition_variance(
    models: Mapping[str, RDMs],
    rdms: RDMs,
    names: Sequence[str] | None = None,
    *,
    average_over: str | Sequence[str] = (),
    folds: int | Sequence[Sequence[str]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Divide the explained variance of each target's mean RDM into unique and shared parts of the models.

    Parameters
    ----------
    models : mapping of name to RDMs
        Two to six model RDMs, one RDM each, linearly independent.
    rdms : RDMs
        Data; the rdm descriptor ``"subject"`` distinguishes subjects, others distinguish targets.
    names : sequence of str, optional
        Conditions to use; by default all of `rdms`.
    average_over : str or sequence of str
        Rdm descriptors over which a subject's RDMs are averaged.
    folds : int or sequence of sequences of str, optional
        Fit the weights of the models to some conditions and explain pairs of the others: the number of folds, drawn by
        `seed`, or the conditions of each fold. By default, the variance of the fitted pairs is explained.
    seed : int
        Seed of the folds.

    Returns
    -------
    pandas.DataFrame
        One row per target x part: the names of the models that share it (joined by " & "), kind ("unique", "shared", or
        "total" of all models), value (share of the variance) and 95% interval over stimuli and subjects (low, high).
        The parts add up to the total.

    Raises
    ------
    BrainrdlError
        If there are not 2 to 6 models, a model is constant or a linear combination of others, a name of a model
        contains " & ", or a fold has fewer than 4 conditions or leaves fewer.

    Notes
    -----
    Shared parts are differences of explained variances, and can be negative (suppression). Without `folds`, explained
    variance is never negative, so that an interval of a unique part that is near 0 does not test it; test it by the
    p-value of the model's ``"semipartial"`` in `regress`. With `folds`, variance is relative to the mean of the
    held-out pairs, and can be negative.

    References
    ----------
    Groen et al. (2018), eLife 7:e32962, doi 10.7554/eLife.32962. Nimon et al. (2008), Behavior Research Methods
    40:457-466, doi 10.3758/BRM.40.2.457.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> random, names = np.random.default_rng(0), [f"image{k}" for k in range(16)]
    >>> form, colour = random.random((2, 120))
    >>> models = {"form": from_array(form, names), "both": from_array(form + colour, names)}
    >>> table = partition_variance(models, from_array(form + 0.1 * random.random(120), names))
    >>> table[["part", "kind", "value"]].round(2)
              part    kind  value
    0         form  unique   0.57
    1         both  unique   0.00
    2  form & both  shared   0.42
    3        total   total   0.99
    """
    conditions = names_of(rdms) if names is None else tuple(names)
    _check_models(models)
    regressors = stacked(models, conditions)
    check_independent(regressors, list(models))
    parts_of_names = _folds(conditions, folds, seed)
    rows = []
    for target, (_, of_subjects) in subjects_of_targets(rdms, conditions, average_over).items():
        explained = dict(_explained(regressors, of_subjects, conditions, parts_of_names))
        for label, kind, terms in _parts(list(models)):
            found = _combined((sign, explained[chosen]) for sign, chosen in terms)
            low, high, _ = cut(found.interval(), -np.inf, 1.0)
            rows.append({"target": target, "part": label, "kind": kind, "value": found.value, "low": low, "high": high})
    return pd.DataFrame(rows)


_Chosen = tuple[int, ...]


def _parts(models: Sequence[str]) -> Iterator[tuple[str, str, list[tuple[int, _Chosen]]]]:
    """Yield name, kind, and the signed sets of models whose explained variances add up to each part."""
    everything = tuple(range(len(models)))
    for size in range(1, len(models) + 1):
        for shared in combinations(everything, size):
            others = [k for k in everything if k not in shared]
            terms = [
                ((-1) ** (n + 1), tuple(sorted((*others, *kept))))
                for n in range(size + 1)
                for kept in combinations(shared, n)
                if others or kept
            ]
            yield _JOINED.join(models[k] for k in shared), "unique" if size == 1 else "shared", terms
    yield "total", "total", [(1, everything)]


def _explained(
    regressors: Tensor, of_subjects: Tensor, names: tuple[str, ...], folds: Sequence[Sequence[int]]
) -> Iterator[tuple[_Chosen, Dyadic]]:
    """Yield the variance that each set of models explains, with its influences."""
    inference, square = DyadicInference(names, len(of_subjects)), to_square(of_subjects)
    means = torch.stack([square.nanmean(0), *(_without(square, s) for s in range(len(square)))])
    for size in range(1, len(regressors) + 1):
        for chosen in combinations(range(len(regressors)), size):
            parts, values = [], []
            for test in folds:
                train = [k for k in range(len(names)) if k not in set(test)] or list(test)
                predicted = _predicted(to_square(regressors[list(chosen)]), means, train, test)
                held_out, compare = FoldRDMs(tuple(names[k] for k in test), _pairs(square, test)), _share_of(predicted)
                values.append(float(compare(predicted[:1], held_out.rdms.nanmean(0))))
                parts += inference.of_mean(held_out, predicted[:1], compare, SIMILARITIES["corr"])
            yield chosen, inference.join(float(np.nanmean(values)), parts)


def _without(square: Tensor, subject: int) -> Tensor:
    """Mean RDM of the other subjects; NaN if there are none."""
    return torch.cat([square[:subject], square[subject + 1 :]]).nanmean(0)


def _predicted(models: Tensor, data: Tensor, train: Sequence[int], test: Sequence[int]) -> Float[Tensor, "n_rdms _"]:
    """Predict the test pairs of each RDM by a linear regression with a constant over its known training pairs."""
    found: list[Tensor] = []
    x = _pairs(models, train).T
    shown = _with_constant(_pairs(models, test).T)
    for y in _pairs(data, train):
        known = ~y.isnan()
        n_known, fewest = int(known.sum()), len(models) + 2
        if n_known == 0 and found:  # without the only subject
            found.append(torch.full_like(found[0], torch.nan))
            continue
        if n_known < fewest:
            refuse(f"a regression on {len(models)} models needs at least {fewest} known pairs, got {n_known}")
        solved = torch.linalg.lstsq(_with_constant(x[known]), y[known, None], driver="gelsd").solution
        found.append((shown @ solved)[:, 0])
    return torch.stack(found)


def _share_of(predicted: Float[Tensor, "n_rdms n_pairs"]) -> Compare:
    """Make a comparator: share of the variance that the predictions explain, for the mean RDM and without subjects.

    The regression is fitted again without each subject, because the subjects' RDMs differ in mean and scale.
    """
    of_rows = {len(predicted) - 1: predicted[1:], 1: predicted[:1], len(predicted): predicted}

    def share(a: Tensor, b: Tensor, weights: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
        fitted = of_rows[b.shape[-2]] if b.ndim > 1 else predicted[0]
        known = ~b.isnan()
        used = known.double() if weights is None else weights * known
        y = b.nan_to_num()
        mean = dot(used, y) / used.sum(-1)
        return 1 - dot(used, (y - fitted).square()) / dot(used, (y - mean[..., None]).square())

    return share


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def _pairs(square: Tensor, chosen: Sequence[int]) -> Tensor:
    places = torch.tensor(list(chosen))
    i, j = pair_indices(len(places))
    return square[..., places[i], places[j]]


def _combined(terms: Iterable[tuple[int, Dyadic]]) -> Dyadic:
    """Add estimates of the same stimuli and subjects; each is linear in its influences."""
    signs, estimates = zip(*terms, strict=True)
    sums: dict[str, Any] = {
        field.name: sum(sign * getattr(one, field.name) for sign, one in zip(signs, estimates, strict=True))
        for field in fields(Dyadic)
        if field.name != "n_stimuli"
    }
    return Dyadic(n_stimuli=estimates[0].n_stimuli, **sums)


def _folds(names: Sequence[str], folds: int | Sequence[Sequence[str]] | None, seed: int) -> list[list[int]]:
    place = {name: k for k, name in enumerate(names)}
    if folds is None:
        return [list(range(len(names)))]
    if isinstance(folds, int):
        check_whole(folds, "folds", 2)
        drawn = np.random.default_rng(seed).permutation(len(names))
        parts = [sorted(part.tolist()) for part in np.array_split(drawn, folds)]
    else:
        asked = [name for fold in folds for name in fold]
        check_unique(asked, "the folds")
        check_conditions(asked, names, "the RDMs")
        parts = [[place[name] for name in fold] for fold in folds]
    for part in parts:
        if min(len(part), len(names) - len(part)) < MIN_CONDITIONS:
            refuse(
                f"a fold holds out {len(part)} of {len(names)} conditions; {arg('folds')} should hold out and leave at "
                f"least {MIN_CONDITIONS} each"
            )
    return parts


def _check_models(models: Mapping[str, RDMs]) -> None:
    if not 2 <= len(models) <= _MOST_MODELS:
        refuse(f"variance is partitioned between 2 to {_MOST_MODELS} models, got {len(models)}: {list(models)}")
    for name in models:
        if isinstance(name, str) and _JOINED in name:
            refuse(
                f"the name of model {name!r} contains {_JOINED!r}, which joins the names of models that share a part"
            )
