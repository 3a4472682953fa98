"""The data that figures draw: image arrays, offsets, limits of bands, labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from brainrdl import BrainrdlError, plot
from brainrdl._core.rows import Role
from brainrdl.plot import style
from brainrdl.plot.score_charts import MARKS
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rsatoolbox.rdm import RDMs

NAMES = ["cat", "car", "dog", "van", "cow"]
GROUPS = {"cat": "animal", "dog": "animal", "cow": "animal", "car": "vehicle", "van": "vehicle"}


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def one(values: Any, names: list[str] = NAMES, **options: Any) -> RDMs:
    return from_array(np.asarray(values, dtype=float), names, **options)


def random_rdm(seed: int = 0, n: int = 5, **options: Any) -> RDMs:
    values = np.random.default_rng(seed).uniform(0.2, 1, n * (n - 1) // 2)
    return one(values, NAMES if n == 5 else [f"c{i:03d}" for i in range(n)], **options)


def labels(ticks: list[Text]) -> list[str]:
    return [tick.get_text() for tick in ticks]


def drawn(ax: Axes) -> np.ndarray:
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def sizes_of_text(figure: Any) -> list[float]:
    figure.draw_without_rendering()
    return [text.get_fontsize() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


# rdm


def test_an_rdm_without_groups_is_drawn_in_its_own_order(ax: Axes) -> None:
    rdm = random_rdm()
    plot.rdm(rdm, ax)
    np.testing.assert_allclose(drawn(ax), rdm.get_matrices()[0])
    assert labels(ax.get_xticklabels()) == NAMES


def test_conditions_are_sorted_by_category_and_each_category_is_labelled_once(ax: Axes) -> None:
    rdm = random_rdm()
    plot.rdm(rdm, ax, GROUPS)
    expected = select(rdm, ["cat", "dog", "cow", "car", "van"]).get_matrices()[0]
    np.testing.assert_allclose(drawn(ax), expected)
    assert labels(ax.get_yticklabels()) == ["animal", "vehicle"]
    assert ax.get_yticks().tolist() == [1.0, 3.5]


def test_brackets_span_their_categories(ax: Axes) -> None:
    plot.rdm(random_rdm(), ax, GROUPS)
    (bars,) = (found for found in ax.collections if found.get_label() == "bars of rows")
    beside = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert not bars.get_clip_on()
    assert max(x for segment in bars.get_segments() for x in segment[:, 0]) < 0
    assert beside == [pytest.approx([-0.5, 2.5], abs=0.05), pytest.approx([2.5, 4.5], abs=0.05)]
    assert beside[0][1] < 2.5 < beside[1][0]


def test_missing_pairs_are_grey(ax: Axes) -> None:
    plot.rdm(one([np.nan, *range(1, 10)]), ax)
    assert np.isnan(drawn(ax)[0, 1])
    assert to_hex(ax.images[0].cmap.get_bad()).upper() == style.MISSING


def test_the_scale_spans_the_pairs_and_not_the_diagonal(ax: Axes) -> None:
    plot.rdm(one(np.linspace(0.5, 0.9, 10)), ax)
    assert ax.images[0].get_clim() == pytest.approx((0.5, 0.9))


def test_limits_that_are_given_are_kept(ax: Axes) -> None:
    plot.rdm(random_rdm(), ax, vmin=0, vmax=2)
    assert ax.images[0].get_clim() == (0, 2)


def test_the_colour_scale_names_the_measure_with_its_unit(ax: Axes) -> None:
    plot.rdm(random_rdm(measure="correlation"), ax)
    assert ax.child_axes[0].get_ylabel() == "correlation distance (1 - r)"


def test_index_chooses_the_rdm(ax: Axes) -> None:
    stack = one(np.arange(20).reshape(2, 10))
    plot.rdm(stack, ax, index=1, title="second")
    np.testing.assert_allclose(drawn(ax), stack.get_matrices()[1])
    assert ax.get_title(loc="left") == "second"


def test_an_rdm_that_is_not_there_is_refused(ax: Axes) -> None:
    with pytest.raises(BrainrdlError, match="RDM 3 does not exist: there are 1 RDMs"):
        plot.rdm(random_rdm(), ax, index=3)


def test_a_condition_without_category_is_refused_with_the_nearest_name(ax: Axes) -> None:
    groups = {("kow" if name == "cow" else name): group for name, group in GROUPS.items()}
    with pytest.raises(BrainrdlError, match=r"\['cow'\] are not in groups .*nearest: 'kow'"):
        plot.rdm(random_rdm(), ax, groups)


def test_many_conditions_are_counted_instead_of_named(ax: Axes) -> None:
    plot.rdm(random_rdm(n=40), ax)
    assert ax.get_xlabel() == "40 conditions"


def test_many_categories_are_counted_instead_of_named(ax: Axes) -> None:
    plot.rdm(random_rdm(n=80), ax, {f"c{i:03d}": f"category {i // 2}" for i in range(80)})
    assert ax.get_xlabel() == "80 conditions in 40 categories"
    assert not ax.collections


def test_a_name_with_dollars_is_no_mathematics(ax: Axes) -> None:
    names = [r"$\frac$", "a$b$", "c", "d", "e"]
    plot.rdm(one(np.arange(10), names), ax)
    ax.figure.draw_without_rendering()
    assert labels(ax.get_xticklabels())[1] == r"a\$b\$"


@pytest.mark.parametrize(
    ("n", "form"),
    [
        (16, "stimulus_{:02d}"),
        (9, "a rather long name {}"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(16, "c{}"), (24, "{}")]),
    ],
)
def test_names_in_a_figure_of_three_panels_do_not_overlap(n: int, form: str) -> None:
    rdm = one(np.arange(n * (n - 1) / 2), [form.format(i) for i in range(n)])
    figure = plot.rdm_pair(rdm, rdm)
    figure.draw_without_rendering()
    for ax in figure.axes[:3]:
        columns = [tick for tick in ax.get_xticklabels() if tick.get_text()]
        assert len(columns) == n or ax.get_xlabel() == f"{n} conditions"
        pitch = 72 / figure.dpi * ax.get_window_extent().width / n  # points, of rows as of columns
        assert all(pitch >= 0.95 * 8.5 * (2**0.5 if tick.get_rotation() == 45 else 1) for tick in columns)
        corners = [corner for tick in columns for corner in tick.get_window_extent().corners()]
        assert all(figure.bbox.contains(*corner) for corner in corners)


def test_sixteen_names_fit_into_a_figure_of_three_panels() -> None:
    names = [f"stimulus_{i:02d}" for i in range(16)]
    rdm = one(np.arange(120.0), names)
    assert labels(plot.rdm_pair(rdm, rdm).axes[1].get_xticklabels()) == names


FOREIGN = ["\u72ac", "\u732b", "dog", "van", "cow"]  # Chinese for dog and cat


def test_names_whose_letters_no_font_has_are_numbered_without_a_warning(ax: Axes) -> None:
    with mpl.rc_context({"font.family": ["DejaVu Sans"]}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "_FALLBACKS", ())
        plot.rdm(one(np.arange(10), FOREIGN, measure="\u72ac"), ax, title="\u72ac: IT")
    ax.figure.draw_without_rendering()
    assert labels(ax.get_xticklabels()) == ["no. 1", "no. 2", "dog", "van", "cow"]
    assert ax.get_title(loc="left") == "?: IT"
    assert ax.child_axes[0].get_ylabel() == "?"


def test_letters_that_the_font_lacks_come_from_an_installed_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    letter = "\u2a0c"  # DejaVu Sans Mono has none, DejaVu Sans does
    monkeypatch.setattr(style, "_FALLBACKS", ("no such font", "DejaVu Sans"))
    with mpl.rc_context({"font.family": ["DejaVu Sans Mono"]}):
        ax, other = Figure().subplots(), Figure().subplots()  # their own texts have the narrow font
        plot.rdm(one(np.arange(10), [letter, *NAMES[1:]]), ax, title=letter)
        plot.scores(pd.DataFrame([summary_row(letter, 0.3)]), ax=other)
    for figure in (ax.figure, other.figure):
        figure.draw_without_rendering()
    assert [labels(a.get_yticklabels())[0] for a in (ax, other)] == [letter, letter]
    assert ax.get_title(loc="left") == letter
    assert not caplog.records  # matplotlib logs each font it does not find


def test_a_new_figure_is_made_without_axes() -> None:
    assert plot.rdm(random_rdm()).figure.get_constrained_layout()


# rdms


def test_every_rdm_of_a_stack_is_drawn_on_one_scale_under_its_name() -> None:
    stack = one(np.arange(30).reshape(3, 10), descriptors={"subject": ["s1", "s2", "s3"], "roi": ["V1", "V1", "IT"]})
    figure = plot.rdms(stack, GROUPS, figure=Figure())
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in panels] == ["s1, V1", "s2, V1", "s3, IT"]
    assert {ax.images[0].get_clim() for ax in panels} == {(0.0, 29.0)}
    assert len(figure.axes) == 3


def test_each_fact_stands_in_a_title_once() -> None:
    facts = {"name": ["IT | s1 | Session: 1", "IT | s1 | Session: 2"], "subject": ["s1", "s1"], "session": ["1", "2"]}
    stack = one(np.arange(20).reshape(2, 10), descriptors=facts | {"roi": ["IT", "IT"], "target": ["IT", "IT"]})
    panels = plot.rdms(stack, figure=Figure()).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["s1, session 1, IT", "s1, session 2, IT"]


def test_a_name_tells_apart_what_nothing_else_does() -> None:
    facts = {"name": ["pixels", "HMAX"], "roi": ["IT", "IT"]}
    panels = plot.rdms(one(np.arange(20).reshape(2, 10), descriptors=facts), figure=Figure()).axes
    assert [ax.get_title(loc="left") for ax in panels] == ["pixels", "HMAX"]


def test_rdms_without_names_are_numbered_and_titles_can_be_given() -> None:
    figure = plot.rdms(one(np.arange(20).reshape(2, 10)), figure=Figure())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["RDM 0", "RDM 1"]
    figure = plot.rdms(one(np.arange(20).reshape(2, 10)), titles=["a", "b"], figure=Figure())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "b"]


def test_there_is_one_title_for_each_rdm() -> None:
    with pytest.raises(BrainrdlError, match="got 1 titles for 2 RDMs; give one title per RDM"):
        plot.rdms(one(np.arange(20).reshape(2, 10)), titles=["a"])


def test_more_rdms_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="there are 65 RDMs, but a figure shows at most 64"):
        plot.rdms(one(np.random.default_rng(0).random((65, 10))))


# rdm_pair


def test_a_pair_is_ranked_from_0_to_1_on_one_scale_and_its_difference_is_centred() -> None:
    student, teacher = random_rdm(0), random_rdm(1)
    left, middle, right = plot.rdm_pair(student, teacher, figure=Figure()).axes[:3]
    off_diagonal = ~np.eye(5, dtype=bool)
    assert np.unique(drawn(left)[off_diagonal]) == pytest.approx(np.arange(10) / 9)
    assert left.images[0].get_clim() == middle.images[0].get_clim() == (0, 1)
    np.testing.assert_allclose(drawn(right), drawn(left) - drawn(middle))
    low, high = right.images[0].get_clim()
    assert -low == high == np.abs(drawn(right)).max()


def test_a_raw_pair_shares_its_limits() -> None:
    figure = plot.rdm_pair(one(np.arange(10)), one(np.arange(10) + 5), scale="raw", figure=Figure())
    assert [ax.images[0].get_clim() for ax in figure.axes[:2]] == [(0, 14), (0, 14)]
    assert drawn(figure.axes[2])[0, 1] == -5


def test_the_colour_scales_of_a_pair_say_what_they_measure() -> None:
    rdm = random_rdm(measure="correlation")

    def scales(**options: Any) -> list[str]:
        axes = plot.rdm_pair(rdm, options.pop("teacher", rdm), figure=Figure(), **options).axes
        return [ax.child_axes[0].get_ylabel() for ax in axes[1:3]]

    assert scales() == ["rank of dissimilarity (0-1)", "difference of ranks"]
    measure = "correlation distance (1 - r)"
    assert scales(scale="raw") == [measure, measure]
    assert scales(scale="raw", teacher=random_rdm()) == ["dissimilarity", "dissimilarity"]


def test_raw_dissimilarities_of_two_measures_are_refused() -> None:
    student, teacher = random_rdm(measure="correlation"), random_rdm(measure="euclidean")
    with pytest.raises(
        BrainrdlError, match=r"student's measure is 'correlation' and the teacher's is 'euclidean'; use"
    ):
        plot.rdm_pair(student, teacher, scale="raw")
    assert plot.rdm_pair(student, teacher, figure=Figure()).axes


def test_a_pair_is_matched_by_name() -> None:
    student = random_rdm()
    figure = plot.rdm_pair(student, select(student, NAMES[::-1]), figure=Figure())
    assert not drawn(figure.axes[2]).any()


def test_a_pair_that_one_of_them_lacks_is_grey_in_all_panels_and_takes_no_rank() -> None:
    student, teacher = one([np.nan, *range(9)]), one([*range(9), np.nan])
    figure = plot.rdm_pair(student, teacher, figure=Figure())
    for ax in figure.axes[:3]:
        assert np.isnan(drawn(ax)[0, 1])
        assert np.isnan(drawn(ax)[3, 4])
    assert np.nanmax(drawn(figure.axes[0])) == np.nanmax(drawn(figure.axes[1])) == 1


def test_cells_of_categories_are_means_over_pairs_without_the_diagonal() -> None:
    student = one(np.arange(10.0))
    groups = {"cat": "a", "car": "a", "dog": "b", "van": "b", "cow": "c"}
    figure = plot.rdm_pair(student, student, groups, scale="raw", cells="groups", figure=Figure())
    square = student.get_matrices()[0]
    assert drawn(figure.axes[0])[0, 0] == square[0, 1]
    assert drawn(figure.axes[0])[0, 1] == square[:2, 2:4].mean()
    assert np.isnan(drawn(figure.axes[0])[2, 2])
    assert labels(figure.axes[0].get_yticklabels()) == ["a (2)", "b (2)", "c (1)"]


def test_cells_of_categories_need_categories() -> None:
    with pytest.raises(BrainrdlError, match='cells="groups" needs groups'):
        plot.rdm_pair(random_rdm(), random_rdm(), cells="groups")


def test_rdms_of_different_conditions_are_refused() -> None:
    other = one(np.arange(10), ["cat", "car", "dog", "van", "hen"])
    with pytest.raises(BrainrdlError, match="hen"):
        plot.rdm_pair(random_rdm(), other)
    with pytest.raises(BrainrdlError, match="hen"):
        plot.pairs(random_rdm(), other)


def test_a_stack_in_place_of_one_rdm_is_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"the teacher must be one RDM, got 2 RDMs; choose one, for example teacher\[0\]"
    ):
        plot.rdm_pair(random_rdm(), one(np.arange(20).reshape(2, 10)))


def test_an_unknown_option_of_a_pair_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="scale 'ranks' is not known; nearest: 'rank'"):
        plot.rdm_pair(random_rdm(), random_rdm(), scale="ranks")
    with pytest.raises(BrainrdlError, match="cells 'group' is not known; nearest: 'groups'"):
        plot.rdm_pair(random_rdm(), random_rdm(), cells="group")


def test_rdms_that_share_no_pair_are_refused(ax: Axes) -> None:
    half = np.where(np.arange(10) < 5, np.nan, 1.0 + np.arange(10))
    other = np.where(np.arange(10) < 5, 1.0 + np.arange(10), np.nan)
    with pytest.raises(BrainrdlError, match="no pair that is known in both"):
        plot.rdm_pair(one(half), one(other))
    with pytest.raises(BrainrdlError, match="no pair that is known in both"):
        plot.pairs(one(half), one(other), ax)


# scores


def summary_row(student: str, score: float, role: str = "student", **more: Any) -> dict[str, Any]:
    row = {"student": student, "role": role, "layer": "conv", "target": "IT", "comparator": "spearman"}
    row |= {"against": "subjects", "score": score, "low": score - 0.1, "high": score + 0.1}
    return row | {"ceiling_lower": 0.4, "ceiling_upper": 0.6} | more


MEAN = {"against": "mean", "ceiling_lower": 0.8, "ceiling_upper": 0.8}
SUMMARY = pd.DataFrame(
    [
        summary_row("HMAX", 0.05, "model", layer=""),
        summary_row("permuted", 0.02, "permuted"),
        summary_row("unfitted", 0.1, "unfitted"),
        summary_row("fitted", 0.3),
        summary_row("category", 0.2, "category", layer=""),
        summary_row("fitted", 0.5, **MEAN),
        summary_row("fitted", 0.25, comparator="corr"),
    ]
)


def points(ax: Axes) -> list[tuple[float, float]]:
    found = [line for line in ax.lines if line.get_linestyle() == "None"]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in found]


def bands(ax: Axes) -> list[list[float]]:
    """Extent (left, right, top, bottom) of each shaded band."""
    paths = [c.get_paths()[0].vertices for c in ax.collections if isinstance(c, PolyCollection)]
    return [[v[:, 0].min(), v[:, 0].max(), v[:, 1].min(), v[:, 1].max()] for v in paths]


def segments(ax: Axes) -> list[list[list[float]]]:
    return [s.tolist() for c in ax.collections if hasattr(c, "get_segments") for s in c.get_segments()]


def test_students_come_first_then_controls_then_models(ax: Axes) -> None:
    plot.scores(SUMMARY, "spearman", "subjects", ax)
    assert labels(ax.get_yticklabels()) == ["fitted", "unfitted", "permuted", "category", "HMAX"]
    assert points(ax) == [(0.3, 0), (0.1, 1), (0.02, 2), (0.2, 3), (0.05, 4)]


def test_intervals_are_drawn_from_low_to_high(ax: Axes) -> None:
    plot.scores(SUMMARY, "spearman", "subjects", ax)
    assert [[pytest.approx(0.2), 0.0], [pytest.approx(0.4), 0.0]] in segments(ax)


def test_a_score_without_interval_is_a_point_only(ax: Axes) -> None:
    plot.scores(pd.DataFrame([summary_row("fitted", 0.3, low=np.nan, high=np.nan)]), ax=ax)
    assert points(ax) == [(0.3, 0)]
    assert not [segment for segment in segments(ax) if segment[0][1] == segment[1][1]]


def test_scores_against_subjects_stand_in_the_band_of_the_noise_ceiling(ax: Axes) -> None:
    plot.scores(SUMMARY, "spearman", "subjects", ax)
    assert bands(ax) == [pytest.approx([0.4, 0.6, -0.5, 4.5])]
    assert "noise ceiling (leave one subject out)" in labels(ax.get_legend().get_texts())
    assert ax.get_xlabel() == "Spearman correlation with single subjects' RDMs"


def test_scores_against_the_mean_are_drawn_with_the_ceiling_for_the_mean_alone(ax: Axes) -> None:
    plot.scores(SUMMARY, "spearman", "mean", ax)
    assert points(ax) == [(0.5, 0)]
    assert not bands(ax)
    assert [[0.8, -0.5], [0.8, 0.5]] in segments(ax)
    legend = labels(ax.get_legend().get_texts())
    assert "ceiling for the mean RDM" in legend
    assert "noise ceiling (leave one subject out)" not in legend


def test_without_a_ceiling_there_is_no_band(ax: Axes) -> None:
    plot.scores(pd.DataFrame([summary_row("fitted", 0.3, ceiling_lower=np.nan, ceiling_upper=np.nan)]), ax=ax)
    assert not bands(ax)
    assert labels(ax.get_legend().get_texts()) == ["student"]


def test_the_kinds_of_rows_differ_in_colour_and_marker(ax: Axes) -> None:
    plot.scores(SUMMARY, "spearman", "subjects", ax)
    looks = [(line.get_color(), line.get_marker()) for line in ax.lines if line.get_linestyle() == "None"]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 5
    kinds = ["student", "unfitted control", "permuted control", "category model", "model"]
    assert labels(ax.get_legend().get_texts())[1:] == kinds


def test_every_role_has_a_mark_and_roles_of_one_label_share_it() -> None:
    assert list(MARKS) == list(Role)
    assert len({str(mark) for mark in MARKS.values()}) == len({role.label for role in Role})


def test_an_unknown_role_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="role 'studnet' is not known; nearest: 'student'"):
        plot.scores(SUMMARY.replace({"role": {"student": "studnet"}}))


class Result:
    """What the figures use of an Evaluation or FitResult: a table under a name."""

    def __init__(self, **tables: pd.DataFrame) -> None:
        vars(self).update(tables)


def test_a_result_is_drawn_as_its_table_is(ax: Axes) -> None:
    plot.scores(Result(summary=SUMMARY), "spearman", "subjects", ax)
    assert points(ax) == [(0.3, 0), (0.1, 1), (0.02, 2), (0.2, 3), (0.05, 4)]
    for result in (Result(history=HISTORY), Result(histories=HISTORY)):
        assert line(plot.history(result, Figure().subplots()), "training stimuli")[0] == (0, 0.1)


def test_what_is_not_rdms_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"expected rsatoolbox RDMs, got dict; see brainrdl\.read"):
        plot.rdm({})


def test_what_has_no_table_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="expected a table, or a result with the attribute summary, got str"):
        plot.scores("summary.csv")
    with pytest.raises(BrainrdlError, match="a result with the attribute histories or history, got dict"):
        plot.history({})


def test_each_target_has_its_own_band_under_its_own_heading(ax: Axes) -> None:
    other = SUMMARY.assign(target="V1", ceiling_lower=0.1, ceiling_upper=0.2)
    plot.scores(pd.concat([SUMMARY, other]), "spearman", "subjects", ax)
    assert bands(ax) == [pytest.approx([0.4, 0.6, 0.5, 5.5]), pytest.approx([0.1, 0.2, 6.5, 11.5])]
    assert [label for label in labels(ax.get_yticklabels()) if label in ("IT", "V1")] == ["IT", "V1"]


def test_one_target_can_be_chosen(ax: Axes) -> None:
    both = pd.concat([SUMMARY, SUMMARY.assign(target="V1", score=0.7)])
    plot.scores(both, "spearman", "subjects", ax, target="V1", legend=False)
    assert {score for score, _ in points(ax)} == {0.7}
    assert ax.get_legend() is None


def test_layers_are_named_where_there_are_several(ax: Axes) -> None:
    plot.scores(pd.concat([SUMMARY, SUMMARY.assign(layer="fc")]), "corr", ax=ax)
    assert labels(ax.get_yticklabels()) == ["fitted, conv", "fitted, fc"]


def test_the_first_comparator_and_comparison_of_the_table_are_the_default(ax: Axes) -> None:
    plot.scores(SUMMARY, ax=ax)
    assert ax.get_xlabel() == "Spearman correlation with single subjects' RDMs"


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="the summary is empty"):
        plot.scores(SUMMARY[:0])
    with pytest.raises(BrainrdlError, match="the history is empty"):
        plot.history(HISTORY[:0])
    with pytest.raises(BrainrdlError, match="the comparison table is empty"):
        plot.comparison(TABLE[:0])


def test_an_unknown_comparator_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="comparator 'spearmen' is not known; nearest: 'spearman'"):
        plot.scores(SUMMARY, "spearmen")
    with pytest.raises(BrainrdlError, match="comparator 'spearmen' is not known; nearest: 'spearman'"):
        plot.comparison(TABLE, "spearmen")


def test_an_unknown_comparison_or_target_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="against 'subject' is not known; nearest: 'subjects'"):
        plot.scores(SUMMARY, against="subject")
    with pytest.raises(BrainrdlError, match="target 'it' is not known"):
        plot.scores(SUMMARY, target="it")


def test_a_combination_that_was_not_scored_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="no score with comparator 'corr' against 'mean'"):
        plot.scores(SUMMARY, "corr", "mean")


def test_a_table_that_lacks_columns_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"the summary lacks the columns \['role', 'low'\]"):
        plot.scores(SUMMARY.drop(columns=["role", "low"]))


# history

HISTORY = pd.DataFrame(
    {
        "step": [0, 10, 20, 30],
        "train_similarity": [0.1, 0.4, 0.6, 0.7],
        "validation_similarity": [0.1, 0.3, np.nan, 0.2],
        "loss": [np.nan, 0.6, 0.4, 0.3],
    }
)


def line(ax: Axes, label: str) -> list[tuple[float, float]]:
    found = [line for line in ax.lines if line.get_label() == label]
    assert len(found) == 1, f"{len(found)} lines are labelled {label!r}"
    return [(float(x), float(y)) for x, y in zip(found[0].get_xdata(), found[0].get_ydata(), strict=True)]


def strip_of(ax: Axes) -> Axes:
    return next(other for other in ax.figure.axes if other is not ax)


def test_training_curves_leave_out_steps_without_a_look(ax: Axes) -> None:
    plot.history(HISTORY, ax)
    assert line(ax, "training stimuli") == [(0, 0.1), (10, 0.4), (20, 0.6), (30, 0.7)]
    assert line(ax, "validation stimuli") == [(0, 0.1), (10, 0.3), (30, 0.2)]


def test_the_best_step_is_the_best_look_at_validation(ax: Axes) -> None:
    plot.history(HISTORY, ax)
    assert line(ax, "best step") == [(10, 0.3)]


def test_a_best_step_that_is_given_is_marked(ax: Axes) -> None:
    plot.history(HISTORY, ax, best_step=30)
    assert line(ax, "best step") == [(30, 0.2)]


def test_without_validation_no_step_is_called_best(ax: Axes) -> None:
    plot.history(HISTORY.assign(validation_similarity=np.nan), ax)
    assert [line.get_label() for line in ax.lines] == ["training stimuli"]


def test_the_loss_is_drawn_below(ax: Axes) -> None:
    plot.history(HISTORY, ax)
    # Level over the steps whose mean it is, also over the first ones.
    assert line(strip_of(ax), "loss") == [(0, 0.6), (10, 0.6), (20, 0.4), (30, 0.3)]
    assert {one.get_drawstyle() for one in strip_of(ax).lines} == {"steps-pre"}
    assert strip_of(ax).get_ylabel() == "loss"
    assert strip_of(ax).get_position().y1 < ax.get_position().y0


def test_the_loss_is_drawn_below_axes_that_belong_to_no_grid() -> None:
    ax = Figure().add_axes((0.1, 0.4, 0.8, 0.5))
    plot.history(HISTORY, ax)
    assert line(ax.child_axes[0], "loss")


def test_a_single_look_is_a_dot(ax: Axes) -> None:
    plot.history(HISTORY[:1], ax)
    assert [one.get_marker() for one in ax.lines if one.get_label() == "training stimuli"] == ["."]
    plot.history(HISTORY, other := Figure().subplots())
    assert [one.get_marker() for one in other.lines if one.get_label() == "training stimuli"] == ["None"]


def test_the_loss_can_be_left_out(ax: Axes) -> None:
    plot.history(HISTORY, ax, loss=False)
    assert ax.figure.axes == [ax]


def folds() -> pd.DataFrame:
    second = HISTORY[:2].assign(fold=1, train_similarity=[0.3, 0.6], validation_similarity=[0.2, 0.5])
    return pd.concat([HISTORY.assign(fold=0), second]).assign(student="fitted", seed=0)


def test_folds_are_faint_and_their_mean_is_bold_as_far_as_all_of_them_go(ax: Axes) -> None:
    plot.history(folds(), ax)
    mean = "training stimuli (mean, 2 runs)"
    assert line(ax, mean) == [(0, pytest.approx(0.2)), (10, pytest.approx(0.5))]
    singles = [one for one in ax.lines if one.get_label() == "_one training stimuli"]
    bold = next(one for one in ax.lines if one.get_label() == mean)
    assert len(singles) == 2
    assert all(one.get_alpha() < 1 and one.get_linewidth() < bold.get_linewidth() for one in singles)


def test_each_fold_has_its_best_step(ax: Axes) -> None:
    plot.history(folds(), ax)
    marks = [one.get_xydata()[0].tolist() for one in ax.lines if str(one.get_label()).endswith("best step")]
    assert marks == [[10, 0.3], [10, 0.5]]


def test_inner_folds_are_averaged_to_the_curve_that_steps_were_chosen_by(ax: Axes) -> None:
    inner = [
        HISTORY.assign(inner=k, validation_similarity=curve) for k, curve in enumerate(([0, 1, 0, 0], [0, 0, 2, 1]))
    ]
    plot.history(pd.concat(inner), ax)
    assert line(ax, "validation stimuli") == [(0, 0), (10, 0.5), (20, 1), (30, 0.5)]
    assert line(ax, "best step") == [(20, 1)]


def test_the_mark_is_at_the_number_of_steps_of_the_final_fit(ax: Axes) -> None:
    inner = [HISTORY.assign(inner=k, validation_similarity=[0, 1, 2, 3]) for k in range(2)]
    outer = HISTORY[:2].assign(inner=-1, train_similarity=9.0, validation_similarity=np.nan)
    plot.history(pd.concat([*inner, outer]), ax)
    assert line(ax, "best step") == [(10, 1)]


def test_a_result_says_which_step_was_kept_and_by_which_measure(ax: Axes) -> None:
    plot.history(SimpleNamespace(history=HISTORY, best_step=30), ax)
    assert line(ax, "best step") == [(30, 0.2)]
    table = HISTORY.assign(validation_accuracy=[0.1, 0.2, np.nan, 0.5], validation_task_loss=[0.3, 0.8, np.nan, 0.9])
    for monitor, step in (("accuracy", 30), ("task loss", 0), ("both", 30), ("similarity", 10)):
        result = SimpleNamespace(histories=table, settings={"fit": {"monitor": monitor}})
        assert line(plot.history(result, Figure().subplots()), "best step")[0][0] == step


TASK = HISTORY.assign(
    rdm_loss=[np.nan, 0.5, 0.3, 0.2], task_loss=[np.nan, 0.1, 0.1, 0.1], train_accuracy=[0.1, 0.2, 0.3, 0.4],
    validation_accuracy=[0.1, 0.2, np.nan, 0.3],
)  # fmt: skip


def test_a_task_has_its_accuracy_and_its_own_loss_below(ax: Axes) -> None:
    plot.history(TASK, ax)
    _, accuracy, loss = ax.figure.axes
    assert line(accuracy, "validation images") == [(0, 0.1), (10, 0.2), (30, 0.3)]
    assert line(loss, "RDM loss") == [(0, 0.5), (10, 0.5), (20, 0.3), (30, 0.2)]
    assert line(loss, "task loss")[-1] == (30, 0.1)
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["RDM loss", "task loss"]
    accuracies_without_a_task = HISTORY.assign(train_accuracy=0.1)
    assert len(plot.history(accuracies_without_a_task, Figure().subplots()).figure.axes) == 2
    assert len(plot.history(TASK, Figure().subplots(), task=False, loss=False).figure.axes) == 1


def test_the_fitted_student_is_drawn_unless_another_is_asked_for(ax: Axes) -> None:
    other = folds().assign(student="permuted", role="permuted", train_similarity=0.9)
    both = pd.concat([other, folds().assign(role="student")])
    plot.history(both, ax)
    assert line(ax, "training stimuli (mean, 2 runs)")[0][1] == pytest.approx(0.2)
    permuted = Figure().subplots()
    plot.history(both, permuted, student="permuted")
    assert line(permuted, "training stimuli (mean, 2 runs)")[0][1] == pytest.approx(0.9)


def test_an_unknown_student_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="student 'fited' is not known; nearest: 'fitted'"):
        plot.history(folds(), student="fited")


def test_a_history_without_curves_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="the history has no similarity"):
        plot.history(HISTORY[["step", "loss"]])


# pairs


def test_pairs_are_drawn_teacher_across_and_student_up(ax: Axes) -> None:
    student, teacher = one([np.nan, *range(9)], measure="euclidean"), random_rdm(measure="correlation")
    plot.pairs(student, select(teacher, NAMES[::-1]), ax)
    expected = np.stack([teacher.get_vectors()[0][1:], np.arange(9.0)], axis=1)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), expected)
    assert ax.get_xlabel() == "teacher: correlation distance (1 - r)"
    assert ax.get_ylabel() == "student: squared Euclidean distance / channel"
    assert ax.get_title(loc="left") == "9 pairs, 1 left out"


def test_pairs_within_and_between_categories_are_told_apart(ax: Axes) -> None:
    rdm = random_rdm()
    plot.pairs(rdm, rdm, ax, GROUPS)
    same = np.array([GROUPS[a] == GROUPS[b] for i, a in enumerate(NAMES) for b in NAMES[i + 1 :]])
    between, within = ax.collections
    np.testing.assert_allclose(between.get_offsets()[:, 0], rdm.get_vectors()[0][~same])
    np.testing.assert_allclose(within.get_offsets()[:, 0], rdm.get_vectors()[0][same])
    assert labels(ax.get_legend().get_texts()) == ["between categories", "within a category"]


def test_many_pairs_become_a_density_that_counts_them_all(ax: Axes) -> None:
    plot.pairs(random_rdm(n=70), random_rdm(1, n=70), ax)
    assert ax.collections[0].get_array().sum() == 70 * 69 / 2


def test_a_density_shows_the_share_of_pairs_within_categories(ax: Axes) -> None:
    rdm = random_rdm(n=70)
    plot.pairs(rdm, random_rdm(1, n=70), ax, dict.fromkeys(rdm.pattern_descriptors["stimulus"], "a"))
    shown = next(c for c in ax.collections if c.get_visible())
    assert set(shown.get_array()) == {1.0}
    assert shown.get_alpha().max() == 1
    assert shown.get_alpha().min() < 0.5


# comparison

TABLE = pd.DataFrame(
    [
        {"a": a, "b": b, "comparator": comparator, "similarity": value, "n_pairs": 10}
        for a, b, comparator, value in [
            ("student", "IT", "spearman", 0.4),
            ("student", "V1", "spearman", -0.2),
            ("pixels", "IT", "spearman", 0.1),
            ("pixels", "V1", "spearman", 0.6),
            ("student", "IT", "corr", 0.5),
            ("pixels", "IT", "corr", 0.2),
        ]
    ]
)


def test_a_comparison_of_several_with_several_is_a_heat_map_with_its_numbers(ax: Axes) -> None:
    plot.comparison(TABLE, "spearman", ax)
    np.testing.assert_allclose(drawn(ax), [[0.4, -0.2], [0.1, 0.6]])
    assert labels(list(ax.texts)) == ["0.40", "-0.20", "0.10", "0.60"]
    assert (labels(ax.get_yticklabels()), labels(ax.get_xticklabels())) == (["student", "pixels"], ["IT", "V1"])


def test_a_heat_map_with_negative_similarities_is_centred_at_0(ax: Axes) -> None:
    plot.comparison(TABLE, "spearman", ax)
    assert ax.images[0].get_clim() == (-0.6, 0.6)


def test_a_comparison_with_one_rdm_is_bars(ax: Axes) -> None:
    plot.comparison(TABLE, "corr", ax)
    assert [bar.get_width() for bar in ax.patches] == [0.5, 0.2]
    assert labels(ax.get_yticklabels()) == ["student", "pixels"]
    assert ax.get_xlabel() == "Pearson correlation: IT"


def test_comparators_stand_side_by_side_when_none_is_chosen(ax: Axes) -> None:
    plot.comparison(TABLE[TABLE["b"] == "IT"], ax=ax)
    np.testing.assert_allclose(drawn(ax), [[0.4, 0.5], [0.1, 0.2]])
    assert labels(ax.get_xticklabels()) == ["Spearman correlation", "Pearson correlation"]


def test_a_comparison_that_was_not_made_is_grey(ax: Axes) -> None:
    plot.comparison(TABLE, ax=ax)
    assert labels(ax.get_yticklabels()) == ["student / IT", "student / V1", "pixels / IT", "pixels / V1"]
    assert np.isnan(drawn(ax)[1, 1])


# pareto

SWEPT = pd.DataFrame(
    {
        "fit.rdm_weight": [0.0, 0.1, 1.0, 10.0],
        "accuracy": [0.4, 0.42, 0.3, 0.2],
        "accuracy_sd": [0.01, 0.02, 0.03, 0.04],
        "score": [0.1, 0.15, 0.3, 0.25],
        "low": [0.0, 0.05, 0.2, 0.15],
        "high": [0.2, 0.25, 0.4, 0.35],
        "ceiling_lower": 0.4,
        "ceiling_upper": 0.6,
        "comparator": "spearman",
        "against": "subjects",
    }
)


def lines_of(ax: Axes) -> list[list[list[float]]]:
    return [line.get_xydata().tolist() for line in ax.lines]


def intervals_of(ax: Axes) -> list[list[list[float]]]:
    found = [collection for collection in ax.collections if isinstance(collection, LineCollection)]
    return [np.round(segment, 6).tolist() for collection in found for segment in collection.get_segments()]


def test_points_on_the_front_are_connected_and_the_others_hollow(ax: Axes) -> None:
    plot.pareto(SWEPT, ax=ax)
    front, others = ax.lines
    assert lines_of(ax) == [[[0.3, 0.3], [0.42, 0.15]], [[0.4, 0.1], [0.2, 0.25]]]
    assert (front.get_linestyle(), others.get_linestyle()) == ("-", "None")
    assert (front.get_markerfacecolor(), others.get_markerfacecolor()) == (style.BLUE, "white")
    plot.pareto(SWEPT, ax=ax)  # another table on the same axes
    assert [text.get_text() for text in ax.get_legend().get_texts()][1:] == [
        "another point is at least as good in both"
    ]
    plot.pareto(SWEPT.assign(teacher="IT"), by="teacher", ax=ax)
    assert ax.get_legend().get_texts()[-1].get_text() == "another point of its group is at least as good in both"


def test_each_point_has_its_values_beside_it_and_its_intervals(ax: Axes) -> None:
    plot.pareto(SWEPT.assign(layer=["a", "a", "b", "b"]), ["fit.rdm_weight", "layer"], ax)
    assert {text.get_text(): text.xy for text in ax.texts} == {
        "0, a": (0.4, 0.1), "0.1, a": (0.42, 0.15), "1, b": (0.3, 0.3), "10, b": (0.2, 0.25),
    }  # fmt: skip
    assert intervals_of(ax)[2] == [[0.3, 0.2], [0.3, 0.4]]
    assert intervals_of(ax)[4 + 2] == [[0.27, 0.3], [0.33, 0.3]]


def test_the_trade_off_has_the_ceiling_of_its_score(ax: Axes) -> None:
    plot.pareto(SWEPT, ax=ax)
    (band,) = ax.patches
    assert (band.get_y(), round(band.get_y() + band.get_height(), 6)) == (0.4, 0.6)
    assert band.get_label() == "noise ceiling (leave one subject out)"
    assert ax.get_ylabel() == "Spearman correlation with single subjects' RDMs,\nheld-out stimuli"
    line = plot.pareto(SWEPT.assign(ceiling_lower=0.6, against="mean"), ax=Figure().subplots()).lines[0]
    assert (list(line.get_ydata()), line.get_label()) == ([0.6, 0.6], "ceiling for the mean RDM")
    differ = plot.pareto(SWEPT.assign(ceiling_lower=[0.4, 0.4, 0.4, 0.5]), ax=Figure().subplots())
    assert not differ.patches


def test_each_group_has_its_own_front_and_colour(ax: Axes) -> None:
    plot.pareto(SWEPT.assign(teacher=["IT", "IT", "permuted", "permuted"]), ax=ax, by="teacher")
    assert lines_of(ax)[::2] == [[[0.42, 0.15]], [[0.3, 0.3]]]
    assert [line.get_label() for line in ax.lines[::2]] == ["IT", "permuted"]
    assert len({line.get_color() for line in ax.lines}) == 2


def test_equal_points_are_both_on_the_front(ax: Axes) -> None:
    plot.pareto(pd.DataFrame({"w": [1, 2], "accuracy": [0.5, 0.5], "score": [0.2, 0.2]}), ax=ax)
    assert lines_of(ax) == [[[0.5, 0.2], [0.5, 0.2]], []]


def test_a_point_that_is_worse_in_one_measure_and_equal_in_the_other_is_not_on_the_front(ax: Axes) -> None:
    plot.pareto(pd.DataFrame({"w": [1, 2], "accuracy": [0.5, 0.4], "score": [0.2, 0.2]}), ax=ax)
    assert lines_of(ax) == [[[0.5, 0.2]], [[0.4, 0.2]]]


def test_labels_of_points_cover_neither_each_other_nor_a_point() -> None:
    close = pd.DataFrame(
        {"w": [1, 1, 1, 10], "accuracy": [0.500, 0.502, 0.504, 0.3], "score": [0.2, 0.203, 0.198, 0.1]}
    )
    figure = Figure(figsize=(3.35, 3.0), layout="compressed")
    ax = plot.pareto(close.assign(control=list("abcd")), ax=figure.subplots(), by="control")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])
    spots = ax.transData.transform(close[["accuracy", "score"]])
    assert not any(box.contains(*spot) for box in boxes for spot in spots)


def test_the_label_of_a_point_covers_no_line_of_another_front() -> None:
    table = pd.DataFrame({"w": ["one", "two", "ten"], "accuracy": [0.3, 0.2, 0.5], "score": [0.2, 0.2022, 0.197]})
    figure = Figure(figsize=(5.0, 4.0), layout="compressed")
    ax = plot.pareto(table.assign(group=["a", "b", "b"]), "w", figure.subplots(), by="group")
    figure.draw_without_rendering()
    of_b = next(line.get_xydata() for line in ax.lines if line.get_label() == "b")
    spots = ax.transData.transform(np.linspace(*of_b, 500))
    (box,) = (text.get_window_extent() for text in ax.texts if text.get_text() == "one")
    assert not any(box.contains(*spot) for spot in spots)
    assert ax.get_xlabel() == "task accuracy\nlabels: w"


def test_a_trade_off_without_accuracy_is_refused(ax: Axes) -> None:
    with pytest.raises(BrainrdlError, match="a task needs validation images to have an accuracy"):
        plot.pareto(SWEPT.assign(accuracy=np.nan), ax=ax)
    with pytest.raises(BrainrdlError, match=r"table lacks the columns \['accuracy'\]"):
        plot.pareto(SWEPT.drop(columns="accuracy"), ax=ax)


# Print


@pytest.mark.slow
def test_all_text_is_8_points_or_more_on_new_and_on_given_axes() -> None:
    rdm = random_rdm(measure="correlation")
    given = [Figure(layout="constrained").subplots() for _ in range(2)]
    figures = [
        plot.rdm(rdm, groups=GROUPS, title="a").figure,
        plot.rdm_pair(rdm, rdm, GROUPS),
        plot.scores(SUMMARY, "spearman", "subjects").figure,
        plot.scores(SUMMARY, "spearman", "subjects", given[0]).figure,
        plot.history(HISTORY).figure,
        plot.history(HISTORY, given[1]).figure,
        plot.pairs(rdm, rdm, groups=GROUPS).figure,
        plot.comparison(TABLE).figure,
        plot.pareto(SWEPT).figure,
    ]
    assert min(size for figure in figures for size in sizes_of_text(figure)) >= 8
