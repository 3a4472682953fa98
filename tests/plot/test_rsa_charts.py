"""Figures of a plain RSA show the numbers of its summary."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from brainrdl import BrainrdlError, plot

ROW = {
    "model": "net", "comparator": "corr", "against": "subjects", "low": 0.1, "high": 0.3, "ceiling_lower": 0.4,
    "ceiling_upper": 0.5,
}  # fmt: skip

TABLE = pd.DataFrame(
    [
        ROW | {"layer": layer, "target": target, "score": score, "share": 2 * score, "p_corrected": p}
        for layer, target, score, p in (
            ("conv1", "IT", 0.25, 0.01),
            ("conv2", "IT", 0.5, 0.2),
            ("conv1", "EVC", -0.1, 0.9),
            ("conv2", "EVC", float("nan"), float("nan")),
        )
    ]
)


def test_a_map_shows_shares_and_stars_in_the_order_of_the_table() -> None:
    ax = plot.model_map(TABLE, ax=Figure().subplots())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["conv1", "conv2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["IT", "EVC"]
    assert [text.get_text() for text in ax.texts] == ["0.50*", "-0.20", "1.00"]
    scores = plot.model_map(TABLE, ax=Figure().subplots(), value="score")
    assert [text.get_text() for text in scores.texts] == ["0.25*", "-0.10", "0.50"]


def test_bars_show_the_scores_of_one_target_with_its_ceiling() -> None:
    ax = plot.model_bars(TABLE, ax=Figure().subplots(), target="IT")
    bars = [bar for bar in ax.patches if bar.get_gid() != "ceiling"]
    assert [bar.get_width() for bar in bars] == [0.25, 0.5]
    (ceiling,) = [bar for bar in ax.patches if bar.get_gid() == "ceiling"]
    assert (ceiling.get_x(), ceiling.get_x() + ceiling.get_width()) == pytest.approx((0.4, 0.5))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["conv1 *", "conv2"]
    one = plot.model_bars(TABLE.assign(ceiling_lower=float("nan")), ax=Figure().subplots(), target="IT")
    assert len(one.patches) == 2


def test_what_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="target 'V4'"):
        plot.model_bars(TABLE, target="V4")
    with pytest.raises(BrainrdlError, match="value 'p'"):
        plot.model_map(TABLE, value="p")
    with pytest.raises(BrainrdlError, match="lacks the columns"):
        plot.model_map(TABLE.drop(columns="share"))
    mixed = pd.concat([TABLE, TABLE.assign(comparator="tau-a", against="mean")])
    with pytest.raises(BrainrdlError, match="no score with comparator 'tau-a' against 'subjects'"):
        plot.model_map(mixed, "tau-a", "subjects")
