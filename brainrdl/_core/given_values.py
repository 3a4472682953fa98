"""Numbers that users give: arrays, tensors and tables as NumPy arrays, and values as text.

NumPy and torch read some inputs in ways that nobody expects: they use what is below a mask, refuse arrays of another
byte order or with negative strides, and write 1.0 where a table without gaps holds 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import refuse

SLACK = 0.01  # of a sampling step: 0.1 of float32 is not 0.1


def as_numbers(given: Any, what: str) -> npt.NDArray[Any]:
    """Return real numbers in the type that they have, in the byte order of the machine and with positive strides.

    Parameters
    ----------
    given : array, tensor, pandas table or nested list
        Numbers. What is masked, or pandas' NA, becomes NaN (in float64).
    what : str
        Name of the numbers in error messages.

    Returns
    -------
    array
        A view if possible.

    Raises
    ------
    BrainrdlError
        If these are no real numbers.

    Examples
    --------
    >>> as_numbers(np.ma.masked_values([1.0, -9.0], -9.0), "x")
    array([ 1., nan])
    >>> as_numbers(np.arange(3, dtype=">i4")[::-1], "x")
    array([2, 1, 0], dtype=int32)
    """
    try:
        values = np.asarray(_plain(given))
    except (ValueError, TypeError, RuntimeError) as error:  # for example rows of different lengths
        refuse(f"{what} is not an array of numbers: {error}")
    if values.dtype.kind not in "biuf":
        refuse(f"{what} must hold real numbers, got dtype {values.dtype}")
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return values.copy() if any(stride < 0 for stride in values.strides) else values


def as_float64(given: Any, what: str) -> npt.NDArray[np.float64]:
    """Return real numbers as float64; see `as_numbers`.

    Examples
    --------
    >>> as_float64([1, 2], "x")
    array([1., 2.])
    """
    return np.asarray(as_numbers(given, what), dtype=np.float64)


def _plain(given: Any) -> Any:
    if hasattr(given, "detach"):
        tensor = given.detach().cpu()
        return tensor.float().numpy() if tensor.dtype.itemsize == 2 and tensor.is_floating_point() else tensor.numpy()
    if type(given).__module__.partition(".")[0] == "pandas":
        table = given.to_numpy(copy=True)  # pandas' own array is read-only
        return given.to_numpy(dtype=np.float64, na_value=np.nan) if table.dtype == object else table
    if isinstance(given, np.ma.MaskedArray):
        return np.ma.filled(given.astype(np.float64), np.nan) if np.ma.is_masked(given) else given.data
    return given


def as_text(value: Any) -> str:
    """Write a value as text, a whole number without a decimal point: a column with a gap holds 1.0 instead of 1.

    Examples
    --------
    >>> as_text(b"face"), as_text(2.0), as_text(np.float32(22.5)), as_text("2.0")
    ('face', '2', '22.5', '2.0')
    """
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "detach"):
        value = value.item()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value)


def in_span(times: npt.NDArray[np.float64], start: float, end: float) -> npt.NDArray[np.bool_]:
    """Mark the times from `start` to `end`, both included, with a tolerance of a hundredth of the sampling step.

    Examples
    --------
    >>> in_span(np.arange(4, dtype=np.float32).astype(float) * 0.1, 0.1, 0.3)
    array([False,  True,  True,  True])
    """
    slack = SLACK * step_of(times)
    return (times >= start - slack) & (times <= end + slack)


def step_of(times: npt.NDArray[np.float64]) -> float:
    """Median difference between neighbouring times; 0 for a single one."""
    return float(np.median(np.diff(np.sort(times)))) if len(times) > 1 else 0.0
