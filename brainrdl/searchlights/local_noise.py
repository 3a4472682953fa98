"""The noise covariance within each of many spheres at once, and patterns whitened with it.

The estimators and their names are those of rsatoolbox: shrinkage towards a multiple of the identity (Ledoit & Wolf
2004) or towards the diagonal (Schaefer & Strimmer 2005). The sums over entries of squared products that both need are
computed from sums over channels, so that only the covariance itself has the size n_channels^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from brainrdl._core.constants import NOISE
from brainrdl._core.errors import arg, check_option, refuse
from brainrdl.searchlights.measurements import Measurements, Values, mean_of_each

Places = npt.NDArray[np.int64]

_SINGULAR = 1e-12  # smallest pivot of a covariance, relative to its largest, that is more than rounding


@dataclass(frozen=True, eq=False)
class LocalNoise:
    """Residuals (n_channels, n_samples) with mean 0, and how their covariance is estimated."""

    residuals: Values
    dof: float
    method: str

    @classmethod
    def of(cls, measured: Measurements, method: str) -> LocalNoise:
        """Use the residuals of the first-level model, otherwise deviations of observations from their condition's mean.

        Raises
        ------
        BrainrdlError
            If the method is unknown, or there are no residuals and each condition is observed once.
        """
        check_option(method, NOISE, "noise normalisation")
        residuals, dof = measured.residuals, measured.dof
        if residuals is None:
            n_conditions = len(measured.names)
            if len(measured.codes) == n_conditions:
                refuse(
                    f"noise={method!r} needs residuals of a first-level model, or conditions observed more than once; "
                    f"each of the {n_conditions} conditions is observed once: leave {arg('noise')} out"
                )
            means = mean_of_each(measured.values, measured.codes, n_conditions)
            residuals = measured.values.T - means[:, measured.codes]
            dof = float(len(measured.codes) - n_conditions)
        residuals = np.ascontiguousarray(residuals - residuals.mean(1, keepdims=True))
        return cls(residuals, float(residuals.shape[1] - 1) if dof is None else dof, method)

    def deviations(self) -> Values:
        """Return the standard deviation of the noise in each channel (n_channels,)."""
        found: Values = np.sqrt(np.square(self.residuals).sum(1) / self.dof)
        return found

    def covariances(self, channels: Places) -> Values:
        """Estimate the covariance in each sphere, (n_spheres, n_channels, n_channels)."""
        residuals = self.residuals[channels]
        products = residuals @ residuals.transpose(0, 2, 1)
        if self.method == "full":
            return products / self.dof
        shrink = _towards_identity if self.method == "shrinkage_eye" else _towards_diagonal
        return shrink(products, residuals, self.dof)


def _diagonal(matrices: Values) -> Values:
    """Return a view of the diagonals that can be written to."""
    return np.einsum("bii->bi", matrices)


def _towards_identity(products: Values, residuals: Values, dof: float) -> Values:
    n = residuals.shape[2]
    found = products / n
    squares = np.square(np.square(residuals).sum(1)).sum(1) / n  # sum over entries of the mean squared product
    variance = (squares - np.square(found).sum((1, 2))) / n
    diagonal = _diagonal(found)
    mean = diagonal.mean(1)
    diagonal -= mean[:, None]
    spread = np.square(found).sum((1, 2))
    share = np.minimum(spread, variance) / np.where(spread > 0, spread, 1)
    found *= (1 - share)[:, None, None]
    diagonal += mean[:, None]
    found *= n / dof
    return found


def _towards_diagonal(products: Values, residuals: Values, dof: float) -> Values:
    n = residuals.shape[2]
    variances = _diagonal(products) / dof
    scales = np.sqrt(variances)
    correlations = products / scales[:, :, None] / scales[:, None, :] / (n - 1)
    off = np.square(correlations).sum((1, 2)) - np.square(_diagonal(correlations)).sum(1)
    squares = np.square(residuals) / variances[:, :, None]
    products_off = (np.square(squares.sum(1)) - np.square(squares).sum(1)).sum(1) / (n - 1)
    share = np.clip(n / dof**2 * (products_off - off) / np.where(off > 0, off, 1), 0, 1)
    found = products * ((1 - share) / dof)[:, None, None]
    _diagonal(found)[:] = variances
    return found


def whitened(patterns: Values, covariances: Values, symmetric: bool) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Whiten patterns (n_spheres, n_channels, n) of each sphere, and say which covariances cannot be inverted.

    Parameters
    ----------
    patterns, covariances : numpy.ndarray
        Patterns, and covariances (n_spheres, n_channels, n_channels).
    symmetric : bool
        Use the symmetric root of the precision, which changes the channels least. Otherwise a triangular root, which is
        quicker and gives the same distances.

    Examples
    --------
    >>> found, singular = whitened(np.ones((1, 2, 1)), np.array([[[4.0, 0.0], [0.0, 1.0]]]), symmetric=True)
    >>> found[0, :, 0].round(6).tolist(), singular.tolist()
    ([0.5, 1.0], [False])
    """
    held, given = torch.from_numpy(covariances), torch.from_numpy(patterns)
    if symmetric:
        values, vectors = torch.linalg.eigh(held)
        singular = values[:, 0] <= _SINGULAR * values[:, -1]
        roots = (vectors * values.clamp(min=1e-300).rsqrt()[:, None]) @ vectors.mT
        return (roots @ given).numpy(), singular.numpy()
    factors, failed = torch.linalg.cholesky_ex(held)
    pivots = factors.diagonal(dim1=-2, dim2=-1).square()
    singular = (failed != 0) | (pivots.amin(1) <= _SINGULAR * pivots.amax(1))
    factors[singular] = torch.eye(factors.shape[1], dtype=factors.dtype)
    return torch.linalg.solve_triangular(factors, given, upper=False).numpy(), singular.numpy()
