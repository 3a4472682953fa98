"""Order of conditions, and what is on the margins of an RDM: names, categories, folds and pictures."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from brainrdl import BrainrdlError, Stimuli, plot
from brainrdl.plot.style import GROUP_COLOURS
from brainrdl.plot.thumbnails import thumbnails
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rsatoolbox.rdm import RDMs

NAMES = ["cat", "car", "dog", "van", "cow"]
GROUPS = {"cat": "animal", "car": "vehicle", "dog": "animal", "van": "vehicle", "cow": "animal"}


def figure(width: float = 3.35, height: float = 3.35) -> Figure:
    """A figure at the width of a column, 85 mm."""
    return Figure(figsize=(width, height), layout="compressed")


def rdm(n: int = 5, seed: int = 0, **options: Any) -> RDMs:
    values = np.random.default_rng(seed).uniform(0.2, 1, n * (n - 1) // 2)
    return from_array(values, NAMES if n == 5 else [f"image_{i:03d}" for i in range(n)], **options)


def pictures_of(rdms: RDMs) -> dict[str, np.ndarray]:
    """A picture per condition, whose grey level is its number."""
    return {name: np.full((6, 4), i % 256, np.uint8) for i, name in enumerate(rdms.pattern_descriptors["stimulus"])}


def drawn(ax: Axes) -> np.ndarray:
    return np.ma.filled(ax.images[0].get_array(), np.nan)


def words(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def margin(ax: Axes, side: str) -> Axes:
    (found,) = (child for child in ax.child_axes if child.get_label() == f"images of {side}")
    return found


def shown(ax: Axes, side: str) -> list[int]:
    """Numbers of the conditions whose pictures are on a margin."""
    return [int(np.asarray(image.get_array())[0, 0, 0]) for image in margin(ax, side).images]


# Order


def test_a_list_gives_the_order() -> None:
    ax = plot.rdm(rdm(), figure().subplots(), order=NAMES[::-1])
    np.testing.assert_allclose(drawn(ax), select(rdm(), NAMES[::-1]).get_matrices()[0])
    assert words(ax) == NAMES[::-1]


def test_a_list_that_lacks_or_repeats_a_condition_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"order lacks the conditions \['cow'\]"):
        plot.rdm(rdm(), order=NAMES[:4])
    with pytest.raises(BrainrdlError, match=r"\['cat'\] occur more than once in order"):
        plot.rdm(rdm(), order=[*NAMES, "cat"])
    with pytest.raises(BrainrdlError, match="nearest: 'cow'"):
        plot.rdm(rdm(), order=[*NAMES[:4], "kow"])


def test_clusters_are_neighbours_whatever_is_added_to_all_dissimilarities() -> None:
    names = ["a1", "b1", "a2", "b2", "a3", "b3"]
    same = np.array([[a[0] == b[0] for b in names] for a in names])
    noise = np.random.default_rng(0).uniform(0, 0.1, same.shape)
    square = np.where(same, 0.1, 1.0) + noise + noise.T
    np.fill_diagonal(square, 0)
    order = plot.condition_order(from_array(square, names), order="cluster")["condition"].tolist()
    assert {"".join(name[0] for name in order)} <= {"aaabbb", "bbbaaa"}
    shifted = square - 2.0 * ~np.eye(6, dtype=bool)  # cross-validated dissimilarities can be negative
    assert plot.condition_order(from_array(shifted, names), order="cluster")["condition"].tolist() == order


def test_an_incomplete_rdm_is_not_clustered() -> None:
    values = np.arange(10.0)
    values[3] = np.nan
    with pytest.raises(BrainrdlError, match="needs all pairs of the 5 conditions, but 1 of 10 are NaN"):
        plot.rdm(from_array(values, NAMES), order="cluster")


def test_the_teacher_is_clustered_for_a_student_with_missing_pairs() -> None:
    teacher, student = rdm(), rdm(seed=1)
    student.dissimilarities[0, 0] = np.nan
    panels = plot.rdm_pair(student, teacher, order="cluster", figure=Figure()).axes
    expected = plot.condition_order(teacher, order="cluster")["condition"].tolist()
    assert words(panels[0]) == expected


def test_all_rdms_of_a_stack_have_the_order_of_their_mean() -> None:
    stack = from_array(np.random.default_rng(0).random((2, 10)), NAMES)
    panels = plot.rdms(stack, order="cluster", scale="rank", figure=Figure()).axes
    assert words(panels[0]) == plot.condition_order(stack, order="cluster")["condition"].tolist()
    mean = from_array(stack.get_vectors().mean(0), NAMES)
    assert words(panels[0]) == plot.condition_order(mean, order="cluster")["condition"].tolist()


@pytest.mark.parametrize("order", ["groups", "folds"])
def test_an_order_by_category_or_fold_needs_them(order: str) -> None:
    with pytest.raises(BrainrdlError, match=f"order='{order}' needs {order}="):
        plot.rdm(rdm(), order=order)
    with pytest.raises(BrainrdlError, match="order 'cluste' is not known; nearest: 'cluster'"):
        plot.rdm(rdm(), order="cluste")


def test_ranks_are_midranks_from_0_to_1() -> None:
    ax = plot.rdm(from_array([3.0, 1.0, 1.0, np.nan, 2.0, 5.0], list("abcd")), figure().subplots(), scale="rank")
    assert drawn(ax)[np.triu_indices(4, 1)].tolist() == pytest.approx([0.75, 0.125, 0.125, np.nan, 0.5, 1], nan_ok=True)
    assert ax.child_axes[0].get_ylabel() == "rank of dissimilarity (0-1)"
    with pytest.raises(BrainrdlError, match="scale 'percentile' is not known"):
        plot.rdm(rdm(), scale="percentile")


# Folds


FOLDS = {"cat": 10, "car": 2, "dog": 10, "van": 2, "cow": 2}


def held_out() -> RDMs:
    within = rdm()
    rows, columns = np.triu_indices(5, 1)
    for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
        if FOLDS[NAMES[i]] != FOLDS[NAMES[j]]:
            within.dissimilarities[0, k] = np.nan
    return within


def test_pairs_that_were_held_out_together_are_blocks() -> None:
    ax = plot.rdm(held_out(), figure().subplots(), folds=FOLDS)
    known = np.isfinite(drawn(ax))
    assert known[:3, :3].all()
    assert known[3:, 3:].all()
    assert not known[:3, 3:].any()
    assert words(ax) == ["fold 2", "fold 10"]
    table = plot.condition_order(held_out(), GROUPS, folds=FOLDS)
    assert table.to_dict("list") == {
        "condition": ["cow", "car", "van", "cat", "dog"],
        "group": ["animal", "vehicle", "vehicle", "animal", "animal"],
        "fold": [2, 2, 2, 10, 10],
    }


def test_folds_are_found_from_the_known_pairs() -> None:
    assert plot.folds_of(held_out()) == {"cat": 0, "car": 1, "dog": 0, "van": 1, "cow": 1}


def test_folds_have_the_numbers_that_an_evaluation_stored_for_their_seed() -> None:
    student = held_out()
    student.rdm_descriptors["seed"] = [3]
    student.pattern_descriptors |= {"fold of seed 3": [1, 0, 1, 0, 0], "fold of seed 4": [0, 1, 0, 1, 1]}
    assert plot.folds_of(student) == {"cat": 1, "car": 0, "dog": 1, "van": 0, "cow": 0}


def test_overlapping_folds_are_not_guessed() -> None:
    student = held_out()
    student.dissimilarities[0, 0] = 0.5  # cat and car, of two folds
    with pytest.raises(BrainrdlError, match="not those of separate folds"):
        plot.folds_of(student)
    with pytest.raises(BrainrdlError, match="expected one RDM, got 2 RDMs"):
        plot.folds_of(from_array(np.arange(20.0).reshape(2, 10), NAMES))


def test_conditions_that_were_never_held_out_have_no_fold() -> None:
    known = np.full((5, 5), np.nan)
    known[:3, :3] = np.arange(9).reshape(3, 3)
    with pytest.raises(BrainrdlError, match="a condition was never held out with another"):
        plot.folds_of(from_array(known[np.triu_indices(5, 1)], list("abcde")))


def test_each_fold_has_a_matrix_with_ranks_among_held_out_pairs() -> None:
    student, teacher = held_out(), rdm(seed=1)
    panels = plot.rdm_folds(student, teacher, FOLDS, GROUPS, images=pictures_of(student), figure=Figure()).axes
    matrices = [[np.asarray(image.get_array()) for image in ax.images] for ax in panels]
    assert [[one.shape for one in of_rdm] for of_rdm in matrices] == [[(3, 3), (2, 2)]] * 3
    assert [text.get_text() for text in panels[0].texts] == ["fold 2", "fold 10"]
    ranks = np.concatenate([one[np.triu_indices(len(one), 1)] for one in matrices[1]])
    assert np.sort(ranks).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])  # 4 pairs are within folds
    for difference, of_student, of_teacher in zip(matrices[2], *matrices[:2], strict=True):
        np.testing.assert_allclose(difference, of_student - of_teacher)


@pytest.mark.parametrize("rows", ["rdms", "folds"])
def test_matrices_of_folds_do_not_overlap_and_have_cells_of_one_size(rows: str) -> None:
    student = held_out()
    drawn = plot.rdm_folds(student, rdm(seed=1), FOLDS, GROUPS, images=pictures_of(student), figure=figure(), rows=rows)
    for ax in drawn.axes:
        first, second = (image.get_extent() for image in ax.images)  # left, right, bottom, top
        assert [abs(one[1] - one[0]) for one in (first, second)] == [3, 2]
        assert (second[0] > first[1]) if rows == "rdms" else (second[3] > first[2])
        bars = [bar for bar in ax.collections if bar.get_label() == "bars of rows"]
        for bar, (left, _, bottom, top) in zip(bars, (first, second), strict=True):
            ends = ax.transData.inverted().transform(bar.get_transform().transform(bar.get_segments()[0]))
            assert (ends[:, 0] < left).all()
            assert ((ends[:, 1] > top) & (ends[:, 1] < bottom)).all()


def test_folds_of_one_condition_and_too_many_folds_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"expected 2 to 12 folds of at least 2 conditions, got folds of \[1, 4\]"):
        plot.rdm_folds(rdm(), rdm(), dict.fromkeys(NAMES, 1) | {"cat": 0})


# Categories


def test_a_category_has_one_colour_in_every_order() -> None:
    def colours(**options: Any) -> dict[str, set[str]]:
        ax = plot.rdm(rdm(), figure().subplots(), GROUPS, **options)
        bars = [found for found in ax.collections if str(found.get_label()).startswith("bars")]
        table = plot.condition_order(rdm(), GROUPS, **options)["group"]
        found: dict[str, set[str]] = {}
        for bar in bars:
            for segment, colour in zip(bar.get_segments(), bar.get_colors(), strict=True):
                along = segment[:, int(bar.get_label() == "bars of rows")].mean()
                found.setdefault(table[round(float(along) - 0.01)], set()).add(to_hex(colour).upper())
        return found

    expected = {"animal": {GROUP_COLOURS[0]}, "vehicle": {GROUP_COLOURS[1]}}
    assert colours() == colours(order="stored") == colours(order=NAMES[::-1]) == expected


def test_a_legend_explains_categories_that_are_not_together() -> None:
    ax = plot.rdm(rdm(), figure().subplots(), GROUPS, order="stored")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["animal", "vehicle"]
    assert ax.get_xlabel() == "5 conditions"
    assert plot.rdm(rdm(), figure().subplots(), GROUPS).get_legend() is None


def test_folds_of_more_categories_than_colours_have_no_legend_of_repeated_colours() -> None:
    many = rdm(27)
    conditions = list(many.pattern_descriptors["stimulus"])
    groups, folds = ({name: i % k for i, name in enumerate(conditions)} for k in (9, 3))
    drawn = plot.rdm_folds(many, many, folds, {name: f"kind {k}" for name, k in groups.items()}, figure=figure())
    assert not drawn.legends


def test_more_categories_than_colours_are_only_counted() -> None:
    many = rdm(27)
    groups = {name: f"kind {i % 9}" for i, name in enumerate(many.pattern_descriptors["stimulus"])}
    ax = plot.rdm(many, figure().subplots(), groups, order="stored")
    assert ax.get_xlabel() == "27 conditions in 9 categories"
    assert not ax.collections


def test_labels_by_category_need_categories() -> None:
    with pytest.raises(BrainrdlError, match='labels="groups" needs groups='):
        plot.rdm(rdm(), labels="groups")
    with pytest.raises(BrainrdlError, match="labels 'name' is not known; nearest: 'names'"):
        plot.rdm(rdm(), labels="name")
    assert plot.rdm(rdm(), figure().subplots(), labels="count").get_xlabel() == "5 conditions"


# Pictures


def test_each_condition_has_its_picture_in_the_order_drawn() -> None:
    one = rdm()
    ax = plot.rdm(one, figure().subplots(), GROUPS, images=pictures_of(one))
    assert shown(ax, "rows") == shown(ax, "columns") == [0, 2, 4, 1, 3]
    rows = [np.mean(image.get_extent()[2:]) for image in margin(ax, "rows").images]
    columns = [np.mean(image.get_extent()[:2]) for image in margin(ax, "columns").images]
    assert rows == pytest.approx([0.9, 0.7, 0.5, 0.3, 0.1])  # from the top, as fractions of the image
    assert columns == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    left, right, bottom, top = margin(ax, "rows").images[0].get_extent()
    assert (right - left) / (top - bottom) == pytest.approx(4 / 6)


@pytest.mark.parametrize("n", [92, *(pytest.param(n, marks=pytest.mark.slow) for n in (118, 500))])
def test_many_pictures_keep_their_size_and_do_not_overlap(n: int) -> None:
    big = rdm(n)
    ax = plot.rdm(big, figure().subplots(), images=pictures_of(big))
    ax.figure.draw_without_rendering()
    boxes = np.array([image.get_extent() for image in margin(ax, "rows").images])
    step = n // len(boxes)
    assert len(boxes) == -(-n // step)
    assert shown(ax, "rows") == [i % 256 for i in range(0, n, step)]
    assert ("every" in ax.get_xlabel()) == (step > 1)
    side = 72 / ax.figure.dpi * min(ax.get_window_extent().width, ax.get_window_extent().height)
    assert side * (boxes[:, 3] - boxes[:, 2]).min() > 6  # points
    left, right, bottom, top = (boxes[:, k] for k in range(4))
    apart = (right[:, None] <= left) | (left[:, None] >= right) | (top[:, None] <= bottom) | (bottom[:, None] >= top)
    assert (apart | np.eye(len(boxes), dtype=bool)).all()


def test_only_outer_panels_of_a_figure_have_pictures() -> None:
    one = rdm()
    panels = plot.rdm_pair(one, one, images=pictures_of(one), figure=figure(7.1, 3)).axes[:3]
    sides = [
        sorted(child.get_label() for child in ax.child_axes if child.get_label().startswith("images")) for ax in panels
    ]
    assert sides == [["images of columns", "images of rows"], ["images of columns"], ["images of columns"]]
    assert plot.rdms(one, images=pictures_of(one), figure=figure()).axes[0].child_axes


@pytest.mark.parametrize(
    ("n", "width"),
    [(92, 3.35), (118, 3.35), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(118, 7.1), (500, 3.35)])],
)
def test_names_are_thinned_until_none_overlap(n: int, width: float) -> None:
    ax = plot.rdm(rdm(n), figure(width, width).subplots(), labels="names")
    ax.figure.draw_without_rendering()
    boxes = [tick.get_window_extent() for tick in ax.get_yticklabels()]
    assert len(boxes) >= 5
    slack = 0.25 * boxes[0].height  # of the box above and below the letters
    assert all(upper.y0 >= lower.y1 - slack for upper, lower in pairwise(boxes))
    assert min(tick.get_fontsize() for tick in ax.get_yticklabels()) >= 8
    assert words(ax)[1] == f"image_{round(ax.get_yticks()[1]):03d}"
    assert ax.get_xlabel().endswith(f"of {n} conditions is named")


def test_nothing_of_a_figure_at_column_width_is_cut_off() -> None:
    many = rdm(92)
    groups = {name: f"category {i // 20}" for i, name in enumerate(many.pattern_descriptors["stimulus"])}
    page = figure()
    ax = plot.rdm(many, page.subplots(), groups, images=pictures_of(many), title="title")
    page.draw_without_rendering()
    edges = [text.get_window_extent() for text in (*ax.get_yticklabels(), ax.child_axes[-1].yaxis.label)]
    assert min(box.x0 for box in edges) >= -1
    assert max(box.x1 for box in edges) <= page.bbox.width + 1


# Thumbnails


def test_pictures_come_from_a_folder_and_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    Image.new("RGB", (200, 100), (255, 0, 0)).save(tmp_path / "cat.1.png")
    Image.new("L", (10, 10), 7).save(tmp_path / "pets" / "dog.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    red, grey = thumbnails(tmp_path, ["cat.1", "pets/dog"])
    assert (red.shape, red[0, 0].tolist()) == ((32, 64, 3), [255, 0, 0])
    assert (grey.shape, grey[0, 0].tolist()) == ((10, 10, 3), [7, 7, 7])


def test_pixels_of_every_kind_are_read_as_they_are() -> None:
    half = np.full((2, 3, 3), 0.5)
    alpha = np.zeros((2, 3, 4), np.uint8)
    deep = Image.fromarray(np.full((2, 3), 65535, np.uint16))
    given = {"float": half, "tensor": torch.full((3, 2, 3), 0.5), "clear": alpha, "deep": deep, "flat": half[:, :, :1]}
    found = dict(zip(given, thumbnails(given, list(given)), strict=True))
    assert {name: (picture.shape, int(picture[0, 0, 0])) for name, picture in found.items()} == {
        "float": ((2, 3, 3), 128), "tensor": ((2, 3, 3), 128), "clear": ((2, 3, 3), 255), "deep": ((2, 3, 3), 255),
        "flat": ((2, 3, 3), 128),
    }  # fmt: skip


def test_stimuli_are_shown_as_they_are_and_not_as_a_network_sees_them() -> None:
    stimuli = Stimuli.from_arrays(torch.full((1, 3, 4, 4), 0.25), ["cat"]).with_transform(lambda image: image * 9 - 4)
    assert thumbnails(stimuli, ["cat"])[0][0, 0].tolist() == [64, 64, 64]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("no/such/folder", "folder 'no/such/folder' does not exist"),
        ({"dog": np.zeros((2, 2))}, r"\['cat'\] are not in images"),
        ({"cat": np.zeros((2, 2, 7))}, r"expected an array .* got shape \(2, 2, 7\)"),
        ({"cat": np.full((2, 2), 3.0)}, "pixels must be uint8, or float from 0 to 1"),
        ({"cat": Image.new("F", (2, 2))}, "32-bit floats"),
        ({"cat": "pyproject.toml"}, "image of condition 'cat': file 'pyproject.toml' cannot be read as an image"),
        (3, "images must be a folder, a mapping"),
    ],
)
def test_what_is_not_a_picture_is_refused(images: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        thumbnails(images, ["cat"])


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        Image.new("L", (2, 2)).save(tmp_path / f"cat.{suffix}")
    with pytest.raises(BrainrdlError, match=r"\['cat'\] occur more than once"):
        thumbnails(tmp_path, ["cat"])


def test_cells_of_categories_have_no_margins_of_conditions() -> None:
    with pytest.raises(BrainrdlError, match=r'cells="groups" draws categories'):
        plot.rdm_pair(rdm(), rdm(), GROUPS, cells="groups", images=pictures_of(rdm()))
