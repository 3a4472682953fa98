"""Cross-validated dissimilarities of designs in which not every condition occurs in every run.

With two runs, a cross-validated dissimilarity multiplies the differences between conditions in one run by those in the
other. With more runs, it is the mean of these products over all pairs of different runs. So a pair of conditions needs
only those runs in which both occur: if ``d(i, j; r, s)`` is the estimate from runs r and s, and ``R(i, j)`` the runs in
which conditions i and j both occur, the estimate is the mean of ``d(i, j; r, s)`` over all r < s in ``R(i, j)``.

- If all conditions occur in all runs, it is the same estimate as from all runs together.
- The crossnobis distance remains unbiased, also if runs differ in their offset (the same pattern added to all
  conditions of a run), because only differences within a run are used.
- A pair whose conditions occur together in fewer than two runs has no estimate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import arg, refuse, spell

_LISTED = 3

_Places = npt.NDArray[np.int64]


def mean_over_run_pairs(
    patterns: Sequence[Float[Tensor, "n_windows n_present n_channels"]],
    present: Sequence[_Places],
    n_conditions: int,
    of_two_runs: Callable[[Float[Tensor, "n_windows 2 n_shared n_channels"], int, int], Float[Tensor, "n_windows n"]],
) -> Float[Tensor, "n_windows n_pairs"]:
    """Average a dissimilarity of two runs over all pairs of runs in which both conditions occur.

    Parameters
    ----------
    patterns : sequence of Tensor, each (n_windows, n_present, n_channels)
        The patterns of each run.
    present : sequence of arrays of int, each (n_present,)
        The conditions of each run, as sorted positions in 0, ..., ``n_conditions - 1``.
    n_conditions : int
        Number of conditions of all runs.
    of_two_runs : callable
        ``(patterns (n_windows, 2, n_shared, n_channels), r, s) -> (n_windows, n_shared * (n_shared - 1) / 2)``, for
        runs r < s.

    Returns
    -------
    Tensor (n_windows, n_pairs)
        In float64; NaN for conditions that occur together in fewer than two runs.

    Examples
    --------
    >>> from brainrdl.dissimilarity import crossnobis
    >>> runs = [torch.tensor([[[0.0], [1.0], [5.0]]]), torch.tensor([[[0.0], [2.0]]])]
    >>> mean_over_run_pairs(runs, [np.arange(3), np.arange(2)], 3, lambda two, r, s: crossnobis(two))
    tensor([[2., nan, nan]], dtype=torch.float64)
    """
    n_pairs = n_conditions * (n_conditions - 1) // 2
    sums = torch.zeros(len(patterns[0]), n_pairs, dtype=torch.float64)
    counts = torch.zeros(n_pairs, dtype=torch.float64)
    for r, s, shared, in_r, in_s in _pairs_of_runs(present):
        two = torch.stack([patterns[r][:, torch.as_tensor(in_r)], patterns[s][:, torch.as_tensor(in_s)]], dim=1)
        places = torch.as_tensor(_places(shared, n_conditions))
        sums[:, places] += of_two_runs(two, r, s)
        counts[places] += 1
    return sums / counts.where(counts > 0, torch.nan)


def _pairs_of_runs(present: Sequence[_Places]) -> Iterator[tuple[int, int, _Places, _Places, _Places]]:
    """Yield two runs, the conditions of both, and their positions in each; runs without a shared pair are left out."""
    for r, s in combinations(range(len(present)), 2):
        shared, in_r, in_s = np.intersect1d(present[r], present[s], assume_unique=True, return_indices=True)
        if len(shared) > 1:
            yield r, s, shared, in_r, in_s


def _places(conditions: _Places, n: int) -> _Places:
    """Return the positions of the pairs of some conditions (sorted) among the pairs of all `n`."""
    i, j = (conditions[axis] for axis in np.triu_indices(len(conditions), 1))
    places: _Places = i * n - i * (i + 1) // 2 + j - i - 1
    return places


def report_missing(pairs: Float[Tensor, "n_windows n_pairs"], names: Sequence[str], label: str) -> None:
    """Warn about pairs of conditions that occur together in fewer than two runs; refuse if there are no others.

    Raises
    ------
    BrainrdlError
        If no pair has an estimate.

    Warns
    -----
    UserWarning
        If some pairs are NaN; the message names conditions.

    Examples
    --------
    >>> report_missing(torch.full((1, 3), torch.nan), ["cat", "dog", "car"], "crossnobis")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: no two conditions occur together in two or more runs, so crossnobis cannot be computed; ...
    """
    missing = pairs[0].isnan().numpy()
    if not missing.any():
        return
    advice = (
        f"give {arg('runs')} a descriptor with fewer values (a session, or the repetition of each condition), leave "
        "out conditions, or use a dissimilarity that is not cross-validated"
    )
    if missing.all():
        refuse(f"no two conditions occur together in two or more runs, so {label} cannot be computed; {advice}")
    first, second = (axis[missing] for axis in np.triu_indices(len(names), 1))
    some = ", ".join(f"{names[i]!r} and {names[j]!r}" for i, j in zip(first[:_LISTED], second[:_LISTED], strict=True))
    more = f" (and {len(first) - _LISTED} more)" if len(first) > _LISTED else ""
    warnings.warn(
        f"{len(first)} of {len(missing)} pairs of conditions occur together in fewer than two runs, so their {label} "
        f"is NaN: {some}{more}; if you need them, {spell(advice)}",
        stacklevel=2,
    )
