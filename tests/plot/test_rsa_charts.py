"""Figures of a plain RSA show the numbers of its tables: scores, shares, subjects, differences."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from brainrdl import BrainrdlError, plot
from brainrdl.plot.pair_marks import stars_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def test_a_map_with_many_columns_has_stars_only() -> None:
    wide = pd.concat([TABLE[TABLE["target"] == "IT"].assign(target=f"region {k}") for k in range(40)])
    ax = plot.model_map(wide, ax=Figure(figsize=(3.35, 3)).subplots())
    assert [text.get_text() for text in ax.texts] == ["*"] * 40
    assert ax.get_title(loc="right") == "* corrected p < 0.05"


def test_a_map_without_p_values_or_ceilings_has_no_stars_and_grey_cells() -> None:
    table = TABLE.drop(columns="p_corrected").assign(share=float("nan"))
    ax = plot.model_map(table, ax=Figure().subplots())
    assert not ax.texts
    assert np.ma.getmaskarray(ax.images[0].get_array()).all()


# Bars


def rows(n: int, **more: Any) -> pd.DataFrame:
    """Models a, b, c, ... without layers, with scores 0.1, 0.2, ..."""
    found = [ROW | {"model": "abcdefgh"[k], "layer": np.nan, "target": "IT", "score": (k + 1) / 10} for k in range(n)]
    return pd.DataFrame(found).assign(share=0.5, p_corrected=0.5, **more)


def contrast(one: str, other: str, difference: float, p: float, **more: Any) -> dict[str, Any]:
    return {
        "family": "models", "model": one, "layer": np.nan, "target": "IT", "other": other, "other_layer": np.nan,
        "comparator": "corr", "against": "subjects", "difference": difference, "p_corrected": p,
    } | more  # fmt: skip


def marks(ax: Axes, gid: str) -> list[list[float]]:
    return [np.asarray(line.get_ydata()).round(2).tolist() for line in ax.lines if line.get_gid() == gid]


def stars(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_gid() == "stars"]


CONTRASTS = pd.DataFrame(
    [
        contrast("a", "b", -0.1, 0.0004),
        contrast("a", "c", -0.2, 0.02),
        contrast("b", "c", -0.1, 0.2),
        contrast("b", "c", -0.1, 0.001, comparator="spearman"),
        contrast("b", "c", -0.1, 0.001, against="mean"),
        contrast("b", "c", -0.1, 0.001, target="EVC"),
        contrast("b", "c", -0.1, 0.001, family="targets"),
        contrast("a", "elsewhere", -0.1, 0.001),
    ]
)


def test_brackets_connect_the_rows_that_differ_in_this_table_and_no_others() -> None:
    ax = plot.model_bars(rows(3), ax=Figure().subplots(), contrasts=CONTRASTS)
    assert marks(ax, "bracket") == [[0.12, 0.12, 0.88, 0.88], [0.12, 0.12, 1.88, 1.88]]
    assert stars(ax) == ["***", "*"]


def test_brackets_over_the_same_rows_have_columns_of_their_own() -> None:
    chained = pd.DataFrame([contrast("a", "b", -1, 0.01), contrast("b", "c", -1, 0.01), contrast("a", "c", -1, 0.01)])
    ax = plot.model_bars(rows(3), ax=Figure().subplots(), contrasts=chained, differences="brackets")
    ends = [line.get_xdata()[1] for line in ax.lines if line.get_gid() == "bracket"]
    assert ends[0] == ends[1] < ends[2]


def test_arrows_point_from_the_better_row_to_those_that_are_worse() -> None:
    ax = plot.model_bars(rows(3), ax=Figure().subplots(), contrasts=CONTRASTS, differences="arrows")
    assert (marks(ax, "better"), marks(ax, "worse")) == ([[1], [2]], [[0], [0]])
    turned = CONTRASTS.assign(difference=-CONTRASTS["difference"])
    ax = plot.model_bars(rows(3), ax=Figure().subplots(), contrasts=turned, differences="arrows")
    assert (marks(ax, "better"), marks(ax, "worse")) == ([[0]], [[1, 2]])


def test_many_differences_are_arrows_and_few_are_brackets() -> None:
    many = pd.DataFrame([contrast(a, b, -1, 0.01) for a in "abcdefg" for b in "bcdefgh" if a < b])
    ax = plot.model_bars(rows(8), ax=Figure(figsize=(3.35, 3)).subplots(), contrasts=many)
    assert (len(marks(ax, "better")), marks(ax, "bracket")) == (7, [])
    assert not marks(plot.model_bars(rows(8), ax=Figure().subplots(), contrasts=many, differences="none"), "better")


def test_no_mark_is_drawn_without_a_corrected_p_below_a_twentieth() -> None:
    ax = plot.model_bars(rows(3), ax=Figure().subplots(), contrasts=CONTRASTS.assign(p_corrected=np.nan))
    assert not [line for line in ax.lines if line.get_gid()]
    assert [stars_of(p) for p in (0.05, 0.049, 0.01, 0.0099, 0.001, 0.00099)] == ["", "*", "*", "**", "**", "***"]


def test_marks_stay_in_the_figure_beside_the_axes() -> None:
    figure = Figure(figsize=(3.35, 2.5), layout="compressed")
    ax = plot.model_bars(rows(3), ax=figure.subplots(), contrasts=CONTRASTS)
    figure.draw_without_rendering()
    boxes = [line.get_window_extent() for line in ax.lines if line.get_gid() == "bracket"]
    assert all(ax.bbox.x1 < box.x0 and box.x1 < figure.bbox.x1 for box in boxes)


SUBJECTS = pd.DataFrame(
    {"model": list("abab"), "layer": np.nan, "target": "IT", "comparator": "corr", "subject": ["s1", "s1", "s2", "s2"],
     "score": [0.1, 0.3, 0.2, np.nan]}
)  # fmt: skip


def subject_points(ax: Axes) -> list[list[float]]:
    found = [line for line in ax.lines if line.get_label() == "single subjects"]
    return [np.round(point, 2).tolist() for line in found for point in line.get_xydata()]


def test_each_subject_is_a_point_at_the_same_height_in_all_rows() -> None:
    ax = plot.model_bars(rows(2), ax=Figure().subplots(), scores=SUBJECTS)
    assert subject_points(ax) == [[0.1, -0.27], [0.3, 0.73], [0.2, 0.27]]
    twice = pd.concat([SUBJECTS.assign(fold=0), SUBJECTS.assign(fold=1, score=SUBJECTS["score"] + 0.2)])
    assert subject_points(plot.model_bars(rows(2), ax=Figure().subplots(), scores=twice))[0] == [0.2, -0.27]


@pytest.mark.parametrize("n_subjects", [1, 3, 15])
def test_points_of_subjects_are_beside_the_line_of_the_interval(n_subjects: int) -> None:
    names = [f"s{k}" for k in range(n_subjects)]
    scores = pd.DataFrame({"model": "a", "layer": "", "target": "IT", "comparator": "corr", "subject": names})
    points = subject_points(plot.model_bars(rows(1), ax=Figure().subplots(), scores=scores.assign(score=0.2)))
    assert len(points) == n_subjects
    assert min(abs(y) for _, y in points) > 0.1


def test_the_mean_rdm_has_no_points_of_subjects() -> None:
    assert not subject_points(plot.model_bars(rows(2, against="mean"), ax=Figure().subplots(), scores=SUBJECTS))


def test_a_result_brings_its_subjects_and_contrasts_and_students_are_models() -> None:
    tables = {"summary": rows(3), "scores": SUBJECTS, "contrasts": CONTRASTS.drop(columns="family").head(3)}
    renamed = {name: table.rename(columns={"model": "student"}) for name, table in tables.items()}
    for result in (SimpleNamespace(**tables), SimpleNamespace(**renamed)):
        ax = plot.model_bars(result, ax=Figure().subplots())
        assert (len(subject_points(ax)), stars(ax)) == (3, ["***", "*"])
        assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "c"]


def test_dots_are_drawn_instead_of_bars() -> None:
    ax = plot.model_bars(rows(2), ax=Figure().subplots(), kind="dots")
    assert [line.get_xdata().tolist() for line in ax.lines if line.get_label() == "_scores"] == [[0.1, 0.2]]
    assert [bar for bar in ax.patches if bar.get_gid() != "ceiling"] == []


def test_a_score_that_is_missing_has_a_row_without_a_bar() -> None:
    table = rows(2).assign(
        score=[0.1, np.nan], low=[0, np.nan], high=[0.2, np.nan], ceiling_lower=0.0, ceiling_upper=0.0
    )
    ax = plot.model_bars(table, ax=Figure().subplots())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert len(ax.collections[0].get_segments()) == 1
    assert [line.get_xdata() for line in ax.lines if "ceiling" in str(line.get_label())] == [[0.0, 0.0]]


def test_unknown_options_and_tables_that_lack_columns_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="kind 'bar' is not known; nearest: 'bars'"):
        plot.model_bars(TABLE, kind="bar")  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match="differences 'stars'"):
        plot.model_bars(TABLE, differences="stars")  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match=r"contrasts lacks the columns \['p_corrected'\]"):
        plot.model_bars(TABLE, target="IT", contrasts=CONTRASTS.drop(columns="p_corrected"))
    with pytest.raises(BrainrdlError, match=r"scores lacks the columns \['subject'\]"):
        plot.model_bars(TABLE, target="IT", scores=SUBJECTS.drop(columns="subject"))
