"""Multiple regression of RDMs on model RDMs: weights, semi-partial and partial correlations, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.rows import Against
from brainrdl.inference.intervals import Estimate, cut, holm
from brainrdl.inference.pairwise import Compare, is_constant
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.rdm_models.targets import stacked, subjects_of_targets
from brainrdl.rdms.by_name import names as names_of
from brainrdl.similarity.pair_sums import dot
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

STATISTICS = ("weight", "semipartial", "partial")

_REGRESSED = ("corr", "spearman")

_DEPENDENT = 1e-10  # share of a model's variance that the other models leave; below, it is a rounding error

_TINY = 1e-300


def regress(
    models: Mapping[str, RDMs],
    rdms: RDMs,
    names: Sequence[str] | None = None,
    *,
    average_over: str | Sequence[str] = (),
    comparator: str = "corr",
) -> pd.DataFrame:
    """Regress the RDMs of each target on all model RDMs at once.

    Parameters
    ----------
    models : mapping of name to RDMs
        One RDM each; the models must be linearly independent.
    rdms : RDMs
        Data; the rdm descriptor ``"subject"`` distinguishes subjects, others distinguish targets.
    names : sequence of str, optional
        Conditions to use; by default all of `rdms`.
    average_over : str or sequence of str
        Rdm descriptors over which a subject's RDMs are averaged.
    comparator : {"corr", "spearman"}
        Whether values or ranks are regressed.

    Returns
    -------
    pandas.DataFrame
        One row per target x against ("mean" RDM of the subjects, or mean over "subjects") x model x statistic. The
        statistics are ``"weight"`` (of z-scored RDMs), ``"semipartial"`` (correlation of the data with what the other
        models leave of this model; its square is the unique variance) and ``"partial"`` (the same with what they leave
        of the data). Columns value, 95% interval over stimuli and subjects (low, high), p, and p_corrected by Holm's
        method over the models and targets with the same statistic and reference.

    Raises
    ------
    BrainrdlError
        If a model is constant or a linear combination of the others, or lacks conditions or pairs.

    Notes
    -----
    Pairs that share a stimulus are not independent, so the standard errors of ordinary regression are too small.
    Intervals are from the influence of pairs, stimuli and subjects, see `brainrdl.inference.intervals.Dyadic`; their
    coverage in simulations is in docs/validity.md.

    References
    ----------
    Aronow, Samii & Assenova (2015), Political Analysis 23:564-577, doi 10.1093/pan/mpv018.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl.rdms import from_array
    >>> random, names = np.random.default_rng(0), [f"image{k}" for k in range(16)]
    >>> form, colour = random.random((2, 120))
    >>> models = {"form": from_array(form, names), "colour": from_array(colour, names)}
    >>> data = from_array(form + random.random((3, 120)), names, descriptors={"subject": list("abc")})
    >>> table = regress(models, data).query("statistic == 'weight' and against == 'mean'")
    >>> table[["model", "value", "low", "high"]].round(2)
        model  value   low  high
    0    form   0.90  0.86  0.95
    3  colour   0.06 -0.07  0.19
    """
    check_option(comparator, _REGRESSED, "comparator of a regression")
    conditions = names_of(rdms) if names is None else tuple(names)
    regressors, rows = stacked(models, conditions), []
    check_independent(regressors, list(models))
    scale = SIMILARITIES[comparator].partial_scale
    for target, (_, of_subjects) in subjects_of_targets(rdms, conditions, average_over).items():
        for known in (~of_subjects.isnan()).unique(dim=0):  # ranks, and fewer pairs, may be dependent
            used = regressors[:, known]
            if used.shape[1] < len(models) + 2:
                refuse(
                    f"a regression on {len(models)} models needs at least {len(models) + 2} known pairs, got "
                    f"{used.shape[1]} in target {target!r}"
                )
            check_independent(scale(used, None) if scale else used, list(models))
        fold = FoldRDMs(conditions, of_subjects)
        for against in Against.MEAN, Against.SUBJECTS:
            for k, model in enumerate(models):
                for statistic in STATISTICS:
                    found = _estimate(regressors, k, fold, against, statistic, comparator)
                    limit = np.inf if statistic == "weight" else 1.0  # the others are correlations
                    low, high, p = cut(found.interval(), -limit, limit)
                    where = {"target": target, "against": against.value, "model": model, "statistic": statistic}
                    rows.append(where | {"value": found.value, "low": low, "high": high, "p": p})
    table = pd.DataFrame(rows).assign(p_corrected=float("nan"))
    for _, family in table.groupby(["against", "statistic"]):
        table.loc[family.index, "p_corrected"] = holm(family["p"].tolist())
    return table


def coefficients(
    models: Float[Tensor, "n_models n_pairs"],
    data: Float[Tensor, "*batch n_pairs"],
    weights: Float[Tensor, "*batch n_pairs"] | None = None,
    comparator: str = "corr",
) -> dict[str, Float[Tensor, "*batch n_models"]]:
    """Compute the statistics of `regress` for RDMs, with weights of pairs.

    Parameters
    ----------
    models : Tensor (n_models, n_pairs)
        Linearly independent regressors.
    data : Tensor (..., n_pairs)
        RDMs; NaN pairs are left out.
    weights : Tensor (..., n_pairs), optional
        Weights of the pairs, at least 0.
    comparator : {"corr", "spearman"}
        Values or ranks.

    Returns
    -------
    dict of str to Tensor (..., n_models)
        ``"weight"``, ``"semipartial"`` and ``"partial"``.

    Examples
    --------
    >>> models = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, -1.0, -1.0, 1.0]])
    >>> coefficients(models, models.sum(0))["semipartial"].round(decimals=3).tolist()
    [0.745, 0.667]
    """
    scales = {name: found for name, one in SIMILARITIES.items() if (found := one.partial_scale)}
    scale = scales[check_option(comparator, scales, "comparator of a regression")]
    data, models = data.double(), models.double()
    known = ~data.isnan()
    used = known.double() if weights is None else weights.double() * known
    y = scale(data.nan_to_num(), used)
    x = scale(models.expand(*used.shape[:-1], *models.shape), used[..., None, :])
    unknown = (used == 0).all(-1)  # without the only subject, for example
    products = torch.einsum("...ip,...p,...jp->...ij", x, used, x)
    products = torch.where(unknown[..., None, None], torch.eye(len(models)).to(products), products)
    lengths = products.diagonal(dim1=-2, dim2=-1).clamp(min=_TINY).sqrt()
    length = dot(used, y * y).clamp(min=_TINY).sqrt()[..., None]
    inverse = torch.linalg.inv(products / (lengths[..., None] * lengths[..., None, :]))
    correlations = torch.einsum("...ip,...p->...i", x, used * y) / (lengths * length)
    weight = torch.einsum("...ij,...j->...i", inverse, correlations)
    semipartial = weight / inverse.diagonal(dim1=-2, dim2=-1).sqrt()
    unexplained = 1 - (weight * correlations).sum(-1, keepdim=True)
    partial = semipartial / (unexplained.clamp(min=0) + semipartial.square()).clamp(min=_TINY).sqrt()
    undefined = (unknown | is_constant(torch.where(used > 0, data, torch.nan)))[..., None]
    computed = {"weight": weight, "semipartial": semipartial, "partial": partial}
    return {name: values.masked_fill(undefined, torch.nan) for name, values in computed.items()}


def check_independent(regressors: Float[Tensor, "n_models n_pairs"], names: Sequence[str]) -> None:
    """Refuse constant models, and models that are linear combinations of others, by name.

    Examples
    --------
    >>> check_independent(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]], dtype=torch.float64), ["a", "b"])
    Traceback (most recent call last):
    brainrdl.BrainrdlError: model 'b' is a linear combination of the models before it: leave it out, because its s...
    """
    centred = regressors - regressors.mean(1, keepdim=True)
    for k, (name, row) in enumerate(zip(names, centred, strict=True)):
        length = float(row @ row)
        if length <= _DEPENDENT**2 * float(regressors[k] @ regressors[k]):
            refuse(f"model {name!r} is constant, so it explains nothing; leave it out")
        before = centred[:k].T
        left = row - before @ torch.linalg.lstsq(before, row[:, None], driver="gelsd").solution[:, 0] if k else row
        if float(left @ left) <= _DEPENDENT * length:
            refuse(
                f"model {name!r} is a linear combination of the models before it: leave it out, because its "
                "share of the explained variance is undefined"
            )


def _estimate(
    regressors: Tensor, k: int, fold: FoldRDMs, against: Against, statistic: str, comparator: str
) -> Estimate:
    """Estimate a statistic of model k, with its influences."""
    compare, similarity = _statistic_of(regressors, k, statistic, comparator), SIMILARITIES[comparator]
    n_subjects, model = len(fold.rdms), regressors[k : k + 1]
    inference = DyadicInference(fold.names, n_subjects)
    if against is Against.MEAN:
        value = float(compare(model, fold.rdms.nanmean(0))[0])
        return inference.join(value, inference.of_mean(fold, model, compare, similarity))
    value = float(compare(regressors[k], fold.rdms).nanmean())
    parts = inference.of_subjects(fold, model, range(n_subjects), compare, similarity)
    return inference.join(value, [part for of_subject in parts for part in of_subject])


def _statistic_of(regressors: Tensor, k: int, statistic: str, comparator: str) -> Compare:
    def compare(a: Tensor, b: Tensor, weights: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
        a, b = torch.broadcast_tensors(a, b)  # a is model k
        return coefficients(regressors, b, weights, comparator)[statistic][..., k]

    return compare
