"""Dissimilarities of many spheres with equal numbers of channels, from one gather and one batched product.

The named Gram dissimilarities are computed by NumPy, whose product of a matrix with its own transpose takes half the
time of a general one; any other dissimilarity is called with a batch of spheres. Spheres are never padded, so every
value is the one that `brainrdl.calc_rdm` computes for the channels of that sphere alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from brainrdl._core.errors import arg, quote, refuse
from brainrdl.dissimilarity.cross_validated import correlation_cv, is_reliable
from brainrdl.dissimilarity.measures import Dissimilarity, resolve, traits_of
from brainrdl.rdms.run_pairs import mean_over_run_pairs
from brainrdl.searchlights.local_noise import LocalNoise, whitened
from brainrdl.searchlights.measurements import Measurements, Values, mean_of_each

Places = npt.NDArray[np.int64]

Flags = npt.NDArray[np.bool_]

_GRAM = ("euclidean", "correlation", "cosine", "mahalanobis", "crossnobis")

_FLAT = 1e-12  # spread, relative to the size of the values, that is only rounding; as in `calc_rdm`

_BUFFER = 2**19  # numbers that are gathered at a time: 4 MiB stay in the cache


@dataclass(frozen=True, eq=False)
class Kernel:
    """Patterns (n_channels, n_cells), one cell per condition or per condition in a run, and what is computed from them.

    Attributes
    ----------
    patterns : numpy.ndarray (n_channels, n_cells)
        Cells are in the order of runs, and of conditions within each.
    n_conditions : int
        Number of conditions.
    name : str
        Which computation: a name in `_GRAM`, or "" for `function`.
    function : callable
        The dissimilarity.
    n_runs : int
        Number of runs of a cross-validated dissimilarity, otherwise 1.
    present : tuple of arrays
        The conditions of each run, if some are missing; otherwise empty.
    noise : LocalNoise, optional
        Noise that patterns are whitened with in each sphere.
    silent : numpy.ndarray of bool (n_channels,), optional
        Channels in which the noise has no variance (or is not known), which cannot be whitened.
    """

    patterns: Values
    n_conditions: int
    name: str
    function: Dissimilarity
    n_runs: int = 1
    present: tuple[Places, ...] = ()
    noise: LocalNoise | None = None
    silent: Flags | None = None

    def at_once(self, n_channels: int) -> int:
        """Return how many spheres of this size are computed at a time."""
        samples = 0 if self.noise is None else self.noise.residuals.shape[1] + n_channels
        numbers = n_channels * (self.patterns.shape[1] + samples) + self.n_conditions**2
        return max(1, min(1024, _BUFFER // numbers))

    def __call__(self, channels: Places) -> tuple[Values, Flags, Flags]:
        """Return dissimilarities (n_spheres, n_pairs), and which spheres have a constant pattern or singular noise."""
        patterns = np.take(self.patterns, channels, axis=0)
        singular = np.zeros(len(channels), bool)
        if self.noise is not None:
            symmetric = self.name not in ("mahalanobis", "crossnobis")
            patterns, singular = whitened(patterns, self.noise.covariances(channels), symmetric)
        if self.name:
            return *_BY_NAME[self.name](patterns, self.n_runs), singular
        return self._by_function(patterns), self._without_correlation(patterns), singular

    def _without_correlation(self, patterns: Values) -> Flags:
        """Find spheres with a condition that has no cross-validated correlation, which `calc_rdm` refuses."""
        if self.function is not correlation_cv:
            return np.zeros(len(patterns), bool)
        found: Flags = (~is_reliable(torch.from_numpy(patterns).mT.unflatten(1, (self.n_runs, -1)))).any(-1).numpy()
        return found

    def _by_function(self, patterns: Values) -> Values:
        given = torch.from_numpy(patterns).mT
        if self.present:
            starts = np.cumsum([0, *map(len, self.present)])
            parts = [given[:, first:last] for first, last in pairwise(starts)]
            found = mean_over_run_pairs(parts, self.present, self.n_conditions, lambda two, r, s: self.function(two))
        else:
            found = self.function(given if self.n_runs == 1 else given.unflatten(1, (self.n_runs, -1)))
        n_pairs = self.n_conditions * (self.n_conditions - 1) // 2
        if tuple(found.shape) != (len(patterns), n_pairs):
            refuse(
                f"the dissimilarity gave shape {tuple(found.shape)} for {len(patterns)} spheres of {self.n_conditions} "
                f"conditions, expected {(len(patterns), n_pairs)}; see brainrdl.testing.check_dissimilarity"
            )
        return found.detach().to(torch.float64).numpy()


def kernel_of(measured: Measurements, dissimilarity: str | Dissimilarity, noise: str | None) -> Kernel:
    """Average the measurements by condition (and run), and choose the computation.

    Parameters
    ----------
    measured : Measurements
        Observations of a subject.
    dissimilarity : str or callable
        As in `brainrdl.calc_rdm`.
    noise : str, optional
        Estimator of the local noise covariance.

    Returns
    -------
    Kernel

    Raises
    ------
    BrainrdlError
        If the dissimilarity is unknown, needs runs or noise that are lacking, or cannot be combined with noise.

    Examples
    --------
    >>> from brainrdl.searchlights.measurements import measurements_of
    >>> from brainrdl.searchlights import sensor_neighbourhoods
    >>> near = sensor_neighbourhoods([[0.0, 0.0], [0.03, 0.0]], 0.04)
    >>> measured = measurements_of(np.eye(3)[:, :2], near, ["a", "b", "c"], "run")
    >>> kernel_of(measured, "euclidean", None)(np.array([[0, 1]]))[0]
    array([[1. , 0.5, 0.5]])
    """
    traits = traits_of(dissimilarity)
    if traits.of_counts and noise is not None:
        refuse(f"{arg('noise')} whitens channels, and whitened counts are not counts: leave it out for this one")
    if dissimilarity == "mahalanobis" and noise is None:
        refuse(f"dissimilarity 'mahalanobis' needs {arg('noise')}, for example 'shrinkage_eye'; or use 'euclidean'")
    function = resolve("euclidean" if dissimilarity == "mahalanobis" else dissimilarity)
    if isinstance(dissimilarity, str):
        name = dissimilarity if dissimilarity in _GRAM else ""
    else:
        name = next((one for one in ("euclidean", "correlation", "cosine") if function is resolve(one)), "")
    n = len(measured.names)
    kernel = Kernel(mean_of_each(measured.values, measured.codes, n), n, name, function)
    if traits.cross_validated:
        kernel = _in_runs(kernel, measured, traits.label)
    if kernel.name in ("euclidean", "mahalanobis", "crossnobis"):  # an offset of all conditions changes no difference
        in_runs = kernel.patterns.reshape(len(kernel.patterns), kernel.n_runs, -1)
        kernel = replace(kernel, patterns=(in_runs - in_runs.mean(2, keepdims=True)).reshape(kernel.patterns.shape))
    if noise is None:
        return kernel
    local = LocalNoise.of(measured, noise)
    scales = local.deviations()
    silent = ~(scales > _FLAT * np.abs(measured.values).max(0))
    if noise != "diag":
        return replace(kernel, noise=local, silent=silent)
    return replace(kernel, patterns=kernel.patterns / np.where(silent, np.inf, scales)[:, None], silent=silent)


def _in_runs(kernel: Kernel, measured: Measurements, label: str) -> Kernel:
    """Average in each run; if conditions are missing from runs, pairs of runs are compared."""
    if measured.run_codes is None or measured.run_names is None:
        refuse(
            f"{label} is cross-validated over runs, and the observations have no {measured.runs}; give {arg('runs')} "
            "the descriptor that names the run of each observation, or the run of each observation"
        )
    n, n_runs = kernel.n_conditions, len(measured.run_names)
    if n_runs < 2:
        refuse(
            f"{label} is cross-validated over runs, and all observations are of run {measured.run_names[0]!r}; give "
            f"{arg('runs')} a descriptor with several values, or use a dissimilarity that is not cross-validated"
        )
    cells, codes = np.unique(measured.run_codes * n + measured.codes, return_inverse=True)
    patterns = mean_of_each(measured.values, codes, len(cells))
    if len(cells) == n * n_runs:
        return replace(kernel, patterns=patterns, n_runs=n_runs)
    run_of, condition_of = np.divmod(cells, n)
    present = tuple(condition_of[run_of == run] for run in range(n_runs))
    if kernel.function is correlation_cv:
        run = next(number for number, part in enumerate(present) if len(part) < n)
        lacking = [measured.names[k] for k in range(n) if k not in present[run]]
        refuse(
            f"correlation_cv divides by what is shared by all runs, so it needs all conditions in all runs, and run "
            f"{measured.run_names[run]!r} lacks {quote(lacking)}; leave out conditions or runs, or use 'crossnobis'"
        )
    return replace(kernel, patterns=patterns, name="", present=present)


# Gram dissimilarities of patterns (n_spheres, n_channels, n_cells)


def _pairs(square: Values) -> Values:
    n = square.shape[1]
    first, second = np.triu_indices(n, 1)
    return square.reshape(len(square), -1).take(first * n + second, axis=1)


def _differences(gram: Values, scale: float) -> Values:
    """Return ``scale * (g_ii + g_jj - 2 g_ij)`` of each pair."""
    own = np.einsum("bii->bi", gram).copy()
    gram *= -2
    gram += own[:, :, None]
    gram += own[:, None, :]
    found = _pairs(gram)
    found *= scale
    return found


def _euclidean(patterns: Values, n_runs: int) -> tuple[Values, Flags]:
    found = _differences(patterns.transpose(0, 2, 1) @ patterns, 1 / patterns.shape[1])
    return np.maximum(found, 0, out=found), np.zeros(len(found), bool)


def _crossnobis(patterns: Values, n_runs: int) -> tuple[Values, Flags]:
    """Sum over pairs of runs, as the product of sums over runs minus the products within runs."""
    n_spheres, n_channels, _ = patterns.shape
    in_runs = patterns.reshape(n_spheres, n_channels, n_runs, -1)
    total = in_runs.sum(2)
    stacked = in_runs.reshape(n_spheres, n_channels * n_runs, -1)
    products = total.transpose(0, 2, 1) @ total
    products -= stacked.transpose(0, 2, 1) @ stacked
    found = _differences(products, 1 / (n_channels * n_runs * (n_runs - 1)))
    return found, np.zeros(n_spheres, bool)


def _correlation(patterns: Values, n_runs: int) -> tuple[Values, Flags]:
    mean = patterns.mean(1, keepdims=True)
    patterns -= mean
    return _cosines(patterns, _FLAT * np.abs(mean[:, 0]) * patterns.shape[1] ** 0.5)


def _cosine(patterns: Values, n_runs: int) -> tuple[Values, Flags]:
    return _cosines(patterns, np.zeros(1))


def _cosines(patterns: Values, floor: Values) -> tuple[Values, Flags]:
    gram = patterns.transpose(0, 2, 1) @ patterns
    lengths = np.sqrt(np.einsum("bii->bi", gram))
    flat = lengths <= floor
    inverse = 1 / np.where(flat, np.inf, lengths)
    gram *= inverse[:, :, None]
    gram *= inverse[:, None, :]
    found = _pairs(gram)
    np.subtract(1, found, out=found)
    return np.maximum(found, 0, out=found), flat.any(1)


_BY_NAME: dict[str, Callable[[Values, int], tuple[Values, Flags]]] = {
    "euclidean": _euclidean,
    "mahalanobis": _euclidean,
    "crossnobis": _crossnobis,
    "correlation": _correlation,
    "cosine": _cosine,
}
