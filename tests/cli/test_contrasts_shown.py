"""The differences between students on the command line."""

from __future__ import annotations

import pandas as pd
import pytest

from brainrdl.cli.common import print_table
from brainrdl.cli.summary_tables import print_contrasts


def test_the_differences_of_each_comparator_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "student": "fitted", "other": "unfitted", "layer": "1", "other_layer": "1", "target": "IT", "against": "mean",
        "difference": 0.25, "low": 0.1, "high": 0.4, "p": 0.01, "p_corrected": 0.02,
    }  # fmt: skip
    names = ("spearman", "corr", "partial corr")
    print_contrasts(pd.DataFrame([row | {"comparator": name} for name in names]))
    shown = capsys.readouterr().out
    titles = [line.split("(")[1].split(" with ")[0] for line in shown.splitlines() if line.startswith("differences")]
    assert titles == list(names)
    assert shown.count("0.10 to 0.40") == 3


def test_a_p_value_is_never_printed_as_0(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(pd.DataFrame({"p_corrected": [0.0, 0.0314, float("nan")], "score": [0.0, 0.0314, 1.0]}))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["<", "0.001", "0.000"], ["0.031", "0.031"], ["1.000"]]
