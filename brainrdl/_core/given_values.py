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

_LARGEST_WHOLE = 2**53  # up to which decimal numbers are exact


def as_numbers(given: Any, what: str) -> npt.NDArray[Any]:
    """Return real numbers in the type that they have, in native byte order and with strides that torch can read.

    Parameters
    ----------
    given : array, tensor, pandas table or nested list
        Numbers. What is masked, or pandas' NA, becomes NaN (in float64).
    what : str
        Name of the numbers in error messages.

    Returns
    -------
    array
        A view if possible; numbers of more than 64 bits become float64.

    Raises
    ------
    BrainrdlError
        If they are not real numbers.

    Examples
    --------
    >>> as_numbers(np.ma.masked_values([1.0, -9.0], -9.0), "x")
    array([ 1., nan])
    >>> as_numbers(np.arange(3, dtype=">i4")[::-1], "x")
    array([2, 1, 0], dtype=int32)
    """
    values = real_array(given, what)
    if not values.dtype.isnative or values.dtype.itemsize > 8:
        kind = values.dtype.newbyteorder("=") if values.dtype.itemsize <= 8 else np.dtype(np.float64)
        return values.astype(kind, order="C")
    readable = all(stride >= 0 and stride % values.itemsize == 0 for stride in values.strides)
    return values if readable else values.copy()


def as_float64(given: Any, what: str) -> npt.NDArray[np.float64]:
    """Return real numbers as float64; see `as_numbers`.

    Examples
    --------
    >>> as_float64([1, 2], "x")
    array([1., 2.])
    """
    return np.asarray(as_numbers(given, what), dtype=np.float64)


def real_array(given: Any, what: str) -> npt.NDArray[Any]:
    """Return real numbers as an array in the memory that it has, of any byte order; see `as_numbers`.

    Examples
    --------
    >>> real_array(np.arange(3, dtype=">i4")[::-1], "x").dtype.isnative
    False
    """
    try:
        values = np.asarray(_plain(given))
    except (ValueError, TypeError, RuntimeError) as error:  # for example rows of different lengths
        refuse(f"{what} is not an array of numbers: {error}")
    if values.dtype.kind not in "biuf":
        refuse(f"{what} must hold real numbers, got dtype {values.dtype}")
    return values


def _plain(given: Any) -> Any:
    """Return an array without a mask, gradient or type of pandas."""
    if hasattr(given, "detach"):
        tensor = given.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    if hasattr(given, "to_numpy") and type(given).__module__.partition(".")[0] == "pandas":
        return _of_pandas(given)
    if isinstance(given, list | tuple) and any(isinstance(part, np.ma.MaskedArray) for part in given):
        given = np.ma.stack(given)
    if isinstance(given, np.ma.MaskedArray):
        hidden = np.ma.is_masked(given) and given.dtype.kind in "biuf"
        return np.ma.filled(given.astype(np.float64), np.nan) if hidden else given.data
    return given


def _of_pandas(given: Any) -> Any:
    table = given.to_numpy(copy=True)  # pandas' own array is read-only
    if table.dtype != object or any(isinstance(value, str | bytes | complex) for value in table.ravel()):
        return table
    return given.to_numpy(dtype=np.float64, na_value=np.nan)  # numbers, and what is missing


def as_text(value: Any) -> str:
    """Write a value as text, a whole number without a decimal point: a column with a gap holds 1.0 instead of 1.

    Raises
    ------
    BrainrdlError
        If bytes are not UTF-8.

    Examples
    --------
    >>> as_text(b"face"), as_text(2.0), as_text(np.float32(22.1)), as_text("2.0"), as_text(-0.0)
    ('face', '2', '22.1', '2.0', '0')
    """
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            refuse(f"{value!r} is not UTF-8 text")
    if hasattr(value, "detach") and value.numel() == 1:
        value = value.item()
    if isinstance(value, float | np.floating):
        number = float(str(value))  # 0.1 of float32 is 0.1
        return str(int(number)) if number.is_integer() and abs(number) < _LARGEST_WHOLE else str(number)
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
