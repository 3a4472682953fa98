"""Numbers as users give them: masks, byte order, strides, pandas and torch; and values as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brainrdl._core.errors import BrainrdlError
from brainrdl._core.given_values import as_float64, as_numbers, as_text, in_span

ROWS = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])
KNOWN = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "given",
    [
        KNOWN.tolist(), KNOWN.astype(">f8"), KNOWN.astype(">i2"), KNOWN.astype("f2"), KNOWN.astype(np.longdouble),
        np.asfortranarray(KNOWN), np.ascontiguousarray(KNOWN[::-1])[::-1], KNOWN.T.copy().T,
        np.array(list(zip(KNOWN, [b"a"] * 2, strict=True)), dtype=[("x", "f8", 3), ("y", "S1")])["x"],
        torch.tensor(KNOWN, requires_grad=True), torch.tensor(KNOWN).bfloat16(), torch.tensor(KNOWN).half(),
        pd.DataFrame(KNOWN), pd.DataFrame(KNOWN).astype(int).convert_dtypes(),
        np.ma.array(KNOWN),
    ],
)  # fmt: skip
def test_numbers_are_read_as_they_are(given: Any) -> None:
    found = as_float64(given, "x")
    np.testing.assert_array_equal(found, KNOWN)
    torch.testing.assert_close(torch.as_tensor(found), torch.tensor(KNOWN), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [float, int])
def test_what_is_masked_or_missing_is_nan(kind: type) -> None:
    held = np.nan_to_num(ROWS, nan=-99).astype(kind)
    for given in (
        np.ma.masked_equal(held, -99),
        pd.DataFrame(held).astype("Int64" if kind is int else "Float64").mask(held == -99),
    ):
        np.testing.assert_array_equal(as_numbers(given, "x"), ROWS)


@pytest.mark.parametrize(
    "given", [[["a"]], [[1], [1, 2]], np.array([1j]), np.array([None, 1]), pd.Series(["1"]), pd.NA]
)
def test_what_is_no_number_is_refused(given: Any) -> None:
    with pytest.raises(BrainrdlError, match=r"^the x (must hold real numbers, got|is not an array of numbers)"):
        as_numbers(given, "the x")


def test_masks_inside_a_list_are_kept() -> None:
    found = as_numbers([np.ma.masked_equal(np.array([1, -99]), -99), np.array([2, 3])], "x")
    np.testing.assert_array_equal(found, [[1, np.nan], [2, 3]])


def test_an_array_that_fits_is_not_copied() -> None:
    assert np.shares_memory(as_float64(KNOWN, "x"), KNOWN)
    assert as_numbers(KNOWN.astype(np.float32), "x").dtype == np.float32
    assert as_numbers(torch.tensor(KNOWN).half(), "x").dtype == np.float16


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.float32(0.1), "0.1"),
        (np.int64(3), "3"),
        (torch.tensor(4), "4"),
        ("1.0", "1.0"),
        (20240101123456789, "20240101123456789"),
        (1e20, "1e+20"),
        (-0.0, "0"),
    ],
)
def test_whole_numbers_have_one_text(value: Any, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize("kind", ["f4", "f8", ">f8"])
def test_both_ends_of_a_span_are_included(kind: str) -> None:
    times = (np.arange(61) * 0.01 - 0.1).astype(kind)
    assert int(in_span(times.astype(float), 0.1, 0.3).sum()) == 21
