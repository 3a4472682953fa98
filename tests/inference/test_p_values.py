"""How p-values are written: one rule, for reports, printed tables, and the pages of the documentation."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from brainrdl.inference import format_p
from docs.run_tutorials import _shown


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.03, "0.030"), (1.0, "1.000"), (math.nan, "–")],
)
def test_a_p_value_has_a_leading_zero_and_is_never_0(p: float, text: str) -> None:
    assert format_p(p) == text


def test_the_text_for_an_unknown_p_value_can_be_chosen() -> None:
    assert format_p(math.nan, missing="") == ""


def test_tables_of_worked_examples_write_p_values_by_the_same_rule() -> None:
    table = _shown(pd.DataFrame({"p_corrected": [0.0001, 0.0312, math.nan], "pairs": [0.0001, 2.0, 3.0]}))
    assert "<td>&lt; 0.001</td>" in table
    assert "<td>0.031</td>" in table
    assert "<td>0.0001</td>" in table
