"""A stable order of numbers from a sort of integers, because NumPy sorts integers several times faster than indices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def stable_order(values: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating]]:
    """Order each vector; equal values keep their order. Same as ``values.argsort(-1, kind="stable")``.

    The bits of a positive float64 are an integer that grows with it. Its lowest bits are replaced by the index of the
    number, so that sorted integers contain the order. Numbers that differ only in these bits are then sorted again,
    which is fast, because they are close to their places already.

    Parameters
    ----------
    values : array (..., n)
        Numbers without NaN.

    Returns
    -------
    order : array (..., n)
        Indices of the sorted numbers.
    ordered : array (..., n)
        The sorted numbers.

    Examples
    --------
    >>> stable_order(np.array([0.5, -1.0, 0.5, 0.0]))
    (array([1, 3, 0, 2]), array([-1. ,  0. ,  0.5,  0.5]))
    """
    n = values.shape[-1]
    index = (1 << max(n - 1, 1).bit_length()) - 1
    keys = (values.astype(np.float64) + 0.0).view(np.int64)  # -0.0 becomes 0.0
    keys ^= (keys >> 63) & np.iinfo(np.int64).max  # negative numbers in their order
    keys &= ~index
    keys |= np.arange(n)
    keys.sort(-1)
    order = np.bitwise_and(keys, index, out=keys)
    ordered = np.take_along_axis(values, order, -1)
    if (ordered[..., 1:] < ordered[..., :-1]).any():
        again = ordered.argsort(-1, kind="stable")
        order, ordered = (np.take_along_axis(given, again, -1) for given in (order, ordered))
    return order, ordered
