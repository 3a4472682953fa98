"""Means of RDMs that know different pairs: their scales are made equal first.

Where each subject judged other conditions, each pair of the mean comes from other subjects. If one subject's values are
twice as large as another's, the mean then shows who judged a pair, not how different its conditions are.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from brainrdl._core.errors import refuse

_MOST_ROUNDS, _SAME = 10_000, 1e-20  # rounds, and squared change of an estimate of unit length


def has_gaps(rows: Float[Tensor, "n_rdms n_pairs"]) -> bool:
    """Say whether some RDMs know pairs that others do not.

    Examples
    --------
    >>> has_gaps(torch.tensor([[1.0, torch.nan], [2.0, torch.nan]]))  # both know the first pair only
    False
    """
    known = ~rows.isnan()
    return bool((known != known[:1]).any())


def comparable(
    rows: Float[Tensor, "n_rdms n_pairs"], where: str = "the RDMs", on: Bool[Tensor, " n_pairs"] | None = None
) -> Float[Tensor, "n_rdms n_pairs"]:
    """Bring RDMs that know different pairs to one scale, by the pairs that they share.

    Parameters
    ----------
    rows : Tensor, shape (n_rdms, n_pairs)
        Dissimilarities, any unit; NaN for pairs that were not measured.
    where : str
        Name of the RDMs in error messages.
    on : Tensor, shape (n_pairs,), optional
        Which pairs the factors are computed from; by default all.

    Returns
    -------
    Tensor, shape (n_rdms, n_pairs)
        The same object if all RDMs know the same pairs. Otherwise each row times a factor, so that it is as large as
        the mean on the pairs that it knows; the root mean square of all values stays the same.

    Raises
    ------
    BrainrdlError
        If RDMs share no pair with the others, also not through further RDMs: their scale is not known.

    Notes
    -----
    The iteration is that of ``rsatoolbox.rdm.combine.rescale`` with ``method="simple"``.

    Examples
    --------
    >>> rows = torch.tensor([[1.0, 2.0, 3.0, torch.nan], [torch.nan, 20.0, 30.0, 40.0]])
    >>> scaled = comparable(rows)
    >>> bool(torch.allclose(scaled[0, 1:3], scaled[1, 1:3], rtol=1e-4))
    True
    """
    if len(rows) < 2 or not has_gaps(rows):
        return rows
    return rows * _factors(rows if on is None else rows[:, on], where)[:, None]


def _factors(rows: Tensor, where: str) -> Tensor:
    """Return the factor of each row that makes it as large as the mean of the rows times these factors."""
    known = ~rows.isnan()
    _refuse_islands(known, where)
    filled = rows.nan_to_num()
    length = filled.norm(dim=1, keepdim=True)
    unit = torch.where(length > 0, filled / length, filled)
    counts = known.sum(0).clamp(min=1)
    estimate = _unit(filled.sum(0) / counts)
    for _ in range(_MOST_ROUNDS):
        size = (known * estimate).norm(dim=1, keepdim=True)
        before, estimate = estimate, _unit((unit * size).sum(0) / counts)
        if float((estimate - before).square().sum()) <= _SAME:
            break
    factors = torch.where(length > 0, size / length, torch.ones_like(size))
    return (factors * filled.norm() / (filled * factors).norm())[:, 0]


def mean_rdm(rows: Float[Tensor, "n_rdms n_pairs"], where: str = "the RDMs") -> Float[Tensor, " n_pairs"]:
    """Average RDMs over the pairs that each knows, on one scale if they know different pairs (see `comparable`).

    Examples
    --------
    >>> mean_rdm(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([2., 3.])
    """
    return comparable(rows, where).nanmean(0)


def _unit(pairs: Tensor) -> Tensor:
    return pairs / pairs.norm()


def _refuse_islands(known: Tensor, where: str) -> None:
    """Refuse RDMs of which some share no pair with the others, directly or through further RDMs."""
    reached = known[0]
    while True:
        joined = (known & reached).any(1)
        further = known[joined].any(0)
        if bool((further == reached).all()):
            break
        reached = further
    if not bool(joined.all()):
        apart = [index for index, is_joined in enumerate(joined.tolist()) if not is_joined]
        refuse(
            f"{len(apart)} of the {len(joined)} RDMs of {where} (the first is number {apart[0]}, counted from 0) share "
            "no pair with the others, so that it is not known how their scales compare, and they have no mean; leave "
            "them out, or measure some pairs in all"
        )
