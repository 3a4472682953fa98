"""Maps of conditions: coordinates against closed forms and other packages, and what is drawn of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver
from matplotlib.text import Text
from scipy.optimize import minimize
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist
from sklearn.manifold import smacof

from brainrdl import BrainrdlError, plot
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

PLANE = np.random.default_rng(0).normal(size=(12, 2)) * [3, 1]
NAMES = [f"c{i:02d}" for i in range(12)]


def rdm(values: Any, n: int = 12) -> RDMs:
    return from_array(np.asarray(values, dtype=float), NAMES[:n])


def noisy(seed: int = 1) -> RDMs:
    return rdm(pdist(np.random.default_rng(seed).normal(size=(12, 6))))


def points(table: pd.DataFrame) -> np.ndarray:
    return table[["x", "y"]].to_numpy()


# Coordinates


@pytest.mark.parametrize(("method", "power"), [("mds", 1), ("classical", 2)])
def test_points_of_a_plane_are_found_from_their_distances(method: str, power: int) -> None:
    table = plot.map_table(rdm(pdist(PLANE) ** power), method)
    np.testing.assert_allclose(pdist(points(table)), pdist(PLANE), rtol=2e-3)
    assert table["stress"].max() < 1e-3
    assert table["variance"].min() > 0.999
    assert table["misfit"].isna().all()


def test_stress_is_as_low_as_that_of_sklearn_from_many_starts() -> None:
    square = noisy().get_matrices()[0]
    _, raw = smacof(square, n_components=2, n_init=8, init=None, random_state=0, normalized_stress=False, eps=1e-9)
    ours = plot.map_table(noisy())["stress"].iloc[0]
    theirs = np.sqrt(raw / (np.square(square).sum() / 2))
    assert ours == pytest.approx(theirs, rel=0.03)


def test_mds_is_stationary_where_sklearn_started_from_it_stays() -> None:
    square = noisy().get_matrices()[0]
    start = points(plot.map_table(noisy()))
    after, _ = smacof(square, n_components=2, n_init=1, init=start, normalized_stress=False, max_iter=50, eps=1e-12)
    assert np.abs(pdist(after) - pdist(start)).max() < 0.02 * pdist(start).max()


def test_missing_pairs_have_no_weight() -> None:
    values = pdist(PLANE)
    values[[0, 7, 30, 50]] = np.nan
    table = plot.map_table(rdm(values))
    np.testing.assert_allclose(pdist(points(table)), pdist(PLANE), rtol=0.01)


def test_negative_dissimilarities_are_fitted_and_not_clamped() -> None:
    def loss(found: np.ndarray) -> float:
        return float(np.square(values - pdist(found.reshape(-1, 2))).sum())

    values = pdist(PLANE)
    values[[0, 20, 41]] = [-2.0, -1.0, -2.0]
    ours, clamped = (points(plot.map_table(rdm(each))) for each in (values, values.clip(0)))
    best = minimize(loss, ours.ravel()).fun
    assert loss(ours) < 1.005 * best
    assert loss(clamped) > 1.02 * best


def test_negative_squared_distances_leave_principal_coordinates_linear_in_the_data() -> None:
    noise = np.random.default_rng(3).normal(size=66) * 0.01
    values = pdist(PLANE) ** 2 + noise
    values[0] = -0.01
    square = rdm(values).get_matrices()[0]
    centring = np.eye(12) - 1 / 12
    expected = np.linalg.eigvalsh(-centring @ square @ centring / 2)[::-1][:2]
    assert np.square(points(plot.map_table(rdm(values), "classical"))).sum(0) == pytest.approx(expected)


def test_pairs_that_do_not_determine_a_map_are_refused() -> None:
    rows, columns = np.triu_indices(12, 1)
    folds = np.where((rows < 6) == (columns < 6), pdist(PLANE), np.nan)
    with pytest.raises(BrainrdlError, match="known pairs do not determine a map: 36 of 66 are NaN"):
        plot.map_table(rdm(folds))
    hinge = np.where((rows != 0) | (columns == 5), pdist(PLANE), np.nan)  # c00 can turn around c05
    with pytest.raises(BrainrdlError, match=r"fewest are known of \['c00'"):
        plot.map_table(rdm(hinge))


@pytest.mark.parametrize("method", ["classical", "t-sne", "umap"])
def test_methods_that_need_all_pairs_say_so(method: str) -> None:
    values = pdist(PLANE)
    values[3] = np.nan
    with pytest.raises(BrainrdlError, match=f'method="{method}" needs all pairs, but 1 are NaN'):
        plot.map_table(rdm(values), method)


def test_neighbour_methods_refuse_negative_values_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrainrdlError, match=r'method="t-sne" needs dissimilarities of at least 0, got -1; use'):
        plot.map_table(rdm([-1.0, *range(1, 66)]), "t-sne")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(BrainrdlError, match="needs the package umap-learn: pip install umap-learn"):
        plot.map_table(noisy(), "umap")


def test_t_sne_keeps_clusters_together_and_repeats_itself() -> None:
    clusters = np.repeat(np.eye(3) * 20, 4, axis=0) + np.random.default_rng(0).normal(size=(12, 3))
    table = plot.map_table(rdm(pdist(clusters)), "t-sne", seed=1)
    square = np.linalg.norm(points(table)[:, None] - points(table)[None], axis=-1) + 1e9 * np.eye(12)
    assert (square.argmin(0) // 4).tolist() == (np.arange(12) // 4).tolist()
    pd.testing.assert_frame_equal(table, plot.map_table(rdm(pdist(clusters)), "t-sne", seed=1))


def test_too_few_conditions_unknown_methods_and_zeros_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="a map needs at least 4 conditions, got 3"):
        plot.map_table(rdm([1, 2, 3], n=3))
    with pytest.raises(BrainrdlError, match="method 'tsne' is not known; nearest: 't-sne'"):
        plot.map_table(noisy(), "tsne")
    zeros = noisy()
    zeros.dissimilarities[:] = 0
    with pytest.raises(BrainrdlError, match="all known dissimilarities are 0"):
        plot.map_table(zeros)


# Alignment


def test_a_map_that_is_only_turned_and_scaled_has_no_misfit() -> None:
    larger = select(rdm(7 * pdist(PLANE)), NAMES[::-1])
    table = plot.map_table(larger, align_to=rdm(pdist(PLANE)))
    goal = plot.map_table(rdm(pdist(PLANE))).set_index("condition")
    assert table["misfit"].max() < 1e-5
    np.testing.assert_allclose(points(table), goal.loc[table["condition"], ["x", "y"]], atol=0.02)


def test_alignment_and_misfit_are_those_of_scipy() -> None:
    goal, table = plot.map_table(noisy(1)), plot.map_table(noisy(2), align_to=noisy(1))
    _, moved, expected = procrustes(points(goal), points(plot.map_table(noisy(2))))
    assert table["misfit"].iloc[0] == pytest.approx(expected)
    centred = points(table) - points(table).mean(0)
    np.testing.assert_allclose(centred / np.linalg.norm(centred), moved / np.linalg.norm(moved), atol=1e-9)
    sizes = [np.linalg.norm(points(each) - points(each).mean(0)) for each in (goal, table)]
    assert sizes[0] == pytest.approx(sizes[1])


def test_the_rdms_of_a_stack_are_aligned_to_the_first() -> None:
    stack = from_array(np.stack([pdist(PLANE), 2 * pdist(PLANE)]), NAMES)
    first, second = (part for _, part in plot.map_table(stack).groupby("rdm"))
    np.testing.assert_allclose(points(first), points(second), atol=0.02)
    with pytest.raises(BrainrdlError, match="align_to must be one RDM, got 2 RDMs"):
        plot.map_table(noisy(), align_to=stack)


# What is drawn


def test_conditions_are_drawn_at_their_coordinates_by_category() -> None:
    groups = {name: "a" if i < 5 else "b" for i, name in enumerate(NAMES)}
    ax = plot.rdm_map(noisy(), Figure().subplots(), groups)
    drawn = np.concatenate([collection.get_offsets() for collection in ax.collections])
    np.testing.assert_allclose(drawn, points(plot.map_table(noisy())))
    assert [len(collection.get_offsets()) for collection in ax.collections] == [5, 7]
    assert len({len(collection.get_paths()[0].vertices) for collection in ax.collections}) == 2  # two markers
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_aspect() == 1
    table = plot.map_table(noisy()).iloc[0]
    assert ax.get_xlabel().startswith(f"MDS: stress {table['stress']:.2f}, {100 * table['variance']:.0f}% of variance")


def test_pictures_are_drawn_at_their_coordinates() -> None:
    images = {name: np.full((8, 4), i, np.uint8) for i, name in enumerate(NAMES)}
    ax = plot.rdm_map(noisy(), Figure().subplots(), images=images, title="map")
    centres = [(np.mean(image.get_extent()[:2]), np.mean(image.get_extent()[2:])) for image in ax.images]
    np.testing.assert_allclose(centres, points(plot.map_table(noisy())))
    assert [int(np.asarray(image.get_array())[0, 0, 0]) for image in ax.images] == list(range(12))
    left, right, bottom, top = ax.images[0].get_extent()
    assert (right - left) / (top - bottom) == pytest.approx(0.5)
    assert not [text for text in ax.texts if text.get_text()]


def test_names_do_not_cover_each_other_and_those_left_out_are_counted() -> None:
    crowd = np.random.default_rng(0).normal(size=(40, 2))
    names = [f"condition_{i}" for i in range(40)]
    page = Figure(figsize=(3.35, 3.35), layout="compressed")
    ax = plot.rdm_map(from_array(pdist(crowd), names), page.subplots())
    page.draw_without_rendering()
    boxes = [text.get_window_extent().shrunk(0.9, 0.7) for text in ax.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert 5 < len(boxes) < 40
    assert ax.get_xlabel().endswith(f"\n{40 - len(boxes)} names do not fit")
    assert min(text.get_fontsize() for text in page.findobj(Text) if text.get_text()) >= 8


def test_arrows_go_from_the_teacher_to_the_aligned_student() -> None:
    student, teacher = select(noisy(2), NAMES[::-1]), noisy(1)
    ax = plot.displacement_map(student, teacher, Figure().subplots())
    arrows = ax.collections[-1]
    goal = plot.map_table(teacher)
    after = plot.map_table(select(student, NAMES), align_to=teacher)
    np.testing.assert_allclose(np.c_[arrows.X, arrows.Y], points(goal))
    np.testing.assert_allclose(np.c_[arrows.U, arrows.V], points(after) - points(goal))


def test_arrows_of_fitting_go_from_before_to_after_with_the_teacher_as_crosses() -> None:
    before, after, teacher = noisy(3), noisy(2), noisy(1)
    ax = plot.displacement_map(after, teacher, Figure().subplots(), before=before)
    arrows, crosses = ax.collections[-2:]
    tables = [plot.map_table(each, align_to=teacher) for each in (before, after)]
    np.testing.assert_allclose(np.c_[arrows.X, arrows.Y], points(tables[0]))
    np.testing.assert_allclose(np.c_[arrows.X + arrows.U, arrows.Y + arrows.V], points(tables[1]))
    np.testing.assert_allclose(crosses.get_offsets(), points(plot.map_table(teacher)))
    misfits = " before, ".join(f"{table['misfit'].iloc[0]:.2f}" for table in tables)
    assert ax.get_xlabel().splitlines()[0] == f"MDS: misfit to the teacher {misfits} after"


def test_of_many_conditions_only_the_longest_arrows_are_in_full_colour() -> None:
    names = [f"c{k:02}" for k in range(30)]
    first, last = np.random.default_rng(0).normal(size=(2, 30, 2))
    student, teacher = from_array(pdist(first), names), from_array(pdist(first + 0.3 * last), names)
    pictures = {name: np.zeros((4, 4, 3), dtype=np.uint8) for name in names}
    ax = plot.displacement_map(student, teacher, Figure().subplots(), images=pictures)
    faint, strong = (one for one in ax.collections if isinstance(one, Quiver))
    assert (len(faint.X), len(strong.X), len(ax.images)) == (18, 12, 12)
    assert np.hypot(strong.U, strong.V).min() > np.hypot(faint.U, faint.V).max()
    assert faint.get_facecolor()[:, 3].max() < 0.5 < strong.get_facecolor()[:, 3].min()
    assert ax.get_xlabel().splitlines()[-1] == "in full colour: the 12 longest of 30 arrows"
    few = plot.displacement_map(student, teacher, Figure().subplots(), labels="names", highlight=3)
    assert len(few.texts) == 3
    with pytest.raises(BrainrdlError, match="highlight"):
        plot.displacement_map(student, teacher, highlight=0)


def test_a_map_of_a_stack_or_of_an_rdm_that_is_not_there_is_refused() -> None:
    stack = from_array(np.stack([pdist(PLANE), 2 * pdist(PLANE)]), NAMES)
    with pytest.raises(BrainrdlError, match="the student before fitting must be one RDM, got 2 RDMs"):
        plot.displacement_map(noisy(), noisy(), before=stack)
    with pytest.raises(BrainrdlError, match="RDM 2 does not exist: there are 2 RDMs"):
        plot.rdm_map(stack, index=2)
    with pytest.raises(BrainrdlError, match="labels 'all' is not known"):
        plot.rdm_map(noisy(), labels="all")
    with pytest.raises(BrainrdlError, match="are not in groups"):
        plot.rdm_map(noisy(), groups={"c00": "a"})


def test_mds_of_unrelated_dissimilarities_is_as_good_as_that_of_sklearn() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=60 * 59 // 2))
    rdms = from_array(values, [f"c{i}" for i in range(60)])
    square = rdms.get_matrices()[0]
    _, raw = smacof(square, n_components=2, n_init=2, init=None, random_state=0, normalized_stress=False)
    assert plot.map_table(rdms)["stress"].iloc[0] < 1.03 * np.sqrt(raw / np.square(values).sum())
