"""The best layer of each network: chosen on some stimuli and subjects, scored on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.progress import track_slow
from brainrdl.analysis.comparisons import TargetRDMs
from brainrdl.dissimilarity.pairs import n_conditions_of, pair_indices
from brainrdl.inference.batches import score_batch_of
from brainrdl.inference.ceilings import Agreement, share_of_ceiling
from brainrdl.inference.closed_forms import influences
from brainrdl.inference.intervals import of_score
from brainrdl.inference.pairwise import comparison_of

COLUMNS = (
    "model", "target", "comparator", "layer", "chosen", "score", "low", "high", "p", "ceiling", "share", "n_folds",
    "n_stimuli", "n_subjects",
)  # fmt: skip


def best_layers(
    targets: Sequence[TargetRDMs],
    comparators: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:
    """Choose the best layer of each network for each target by cross-validation, and score it on other data.

    For each fold of the stimuli and each subject, the layer is chosen that has the highest mean score with the other
    subjects among the other stimuli; it is then scored with this subject among the stimuli of the fold. So no number of
    this table is from data that chose a layer.

    Parameters
    ----------
    targets : sequence of TargetRDMs
        Targets with their models; networks are models with several layers.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    folds : int
        Number of folds over stimuli; fewer if a fold would have fewer than 4 stimuli.
    seed : int
        Seed of the assignment of stimuli to folds.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    pandas.DataFrame
        One row per network, target and comparator: the layer that was chosen most often, and how often; the score on
        held-out stimuli and subjects with its 95% interval, p and ceiling; numbers of folds with a score, stimuli and
        subjects. A fold has no score if the RDM of the chosen layer is constant among its stimuli.

    Examples
    --------
    >>> best_layers([], ["corr"]).empty
    True
    """
    asked = [
        (target, [place for place, one in enumerate(target.models) if one.model == model], comparator)
        for comparator in comparators
        for target in targets
        for model in dict.fromkeys(one.model for one in target.models)
        if _is_network(target, model) and len(target.names) >= 2 * MIN_CONDITIONS
    ]
    rows = [_row(*one, folds, seed) for one in track_slow(asked, "best layers", len(asked), progress)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _is_network(target: TargetRDMs, model: str) -> bool:
    return sum(one.model == model and one.layer != "" for one in target.models) > 1


def _row(target: TargetRDMs, places: list[int], comparator: str, folds: int, seed: int) -> dict[str, Any]:
    models, rdms, n = target.stacked[places], target.rdms, len(target.names)
    models = models[:, None] if models.ndim == 2 else models
    parts = _folds(n, min(folds, n // MIN_CONDITIONS), seed)
    values = torch.zeros(len(parts), len(rdms), dtype=torch.float64)
    pairs = torch.zeros(len(rdms), rdms.shape[1], dtype=torch.float64)
    conditions = torch.zeros(len(rdms), n, dtype=torch.float64)
    chosen: list[int] = []
    agreements = []
    each = torch.arange(len(rdms))
    for k, held_out in enumerate(parts):
        training = np.setdiff1d(np.arange(n), held_out)
        best = _best(comparator, _cut(models, training), _cut(rdms, training)[None])
        own = _cut(rdms, held_out)
        found = influences(comparator, _cut(models, held_out), own[None])
        values[k] = found.value[best, each]
        undefined = values[k].isnan()[:, None]  # few stimuli may have a constant RDM
        pairs.index_add_(1, _places(held_out, n), found.pairs[best, each].masked_fill(undefined, 0))
        conditions[:, held_out] += found.conditions[best, each].masked_fill(undefined, 0)
        chosen += best.tolist()
        agreements.append(Agreement.of(own, comparator))
    scored = values[~values.isnan().all(1)]
    n_scored = (~scored.isnan()).sum(0)[:, None]
    batch = score_batch_of(scored.nanmean(0)[None].numpy(), (pairs / n_scored)[None], (conditions / n_scored)[None])
    score = of_score(batch.scores(), comparator)
    layers = [target.models[places[k]].layer for k in chosen]
    often = max(dict.fromkeys(layers), key=layers.count)
    ceiling = Agreement.average(agreements).ceiling_for_subjects()
    return {
        "model": target.models[places[0]].model, "target": target.target, "comparator": comparator, "layer": often,
        "chosen": layers.count(often) / len(layers), "score": score.value[0], "low": score.low[0],
        "high": score.high[0], "p": score.p[0], "ceiling": ceiling,
        "share": float(share_of_ceiling(score.value[0], ceiling)), "n_folds": len(scored),
        "n_stimuli": n, "n_subjects": len(rdms),
    }  # fmt: skip


def _folds(n: int, folds: int, seed: int) -> list[Int[np.ndarray, " n_fold"]]:
    order = np.random.default_rng(seed).permutation(n)
    return [np.sort(order[start::folds]) for start in range(folds)]


def _best(comparator: str, models: Tensor, rdms: Tensor) -> Tensor:
    """For each subject, the model with the highest mean score with the other subjects; with one subject, with this."""
    values = comparison_of(comparator)(models, rdms)
    undefined = values.isnan() & ~values.isnan().all(0)  # of a constant model, not of a subject without a score
    values = values.nan_to_num()
    if values.shape[1] > 1:
        values = values.sum(1, keepdim=True) - values
        undefined = undefined.sum(1, keepdim=True) > undefined.long()
    return values.masked_fill(undefined, -torch.inf).argmax(0)


def _cut(pairs: Tensor, kept: Int[np.ndarray, " n_kept"]) -> Tensor:
    return pairs.index_select(-1, _places(kept, n_conditions_of(pairs.shape[-1])))


def _places(kept: Int[np.ndarray, " n_kept"], n: int) -> Tensor:
    """Positions of the pairs of `kept` (in order) among all pairs."""
    i, j = torch.from_numpy(kept)[pair_indices(len(kept))]
    return i * n - i * (i + 1) // 2 + j - i - 1
