"""Pairs that fit worst, influence of conditions, and RDMs of RDMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.stats import rankdata

from brainrdl import BrainrdlError, compare, plot
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rsatoolbox.rdm import RDMs

NAMES = ["cat", "car", "dog", "van", "cow"]


def rdm(seed: int = 0, **options: Any) -> RDMs:
    return from_array(np.random.default_rng(seed).random(10), NAMES, **options)


def words(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


# Pairs


def test_the_table_of_pairs_starts_with_the_largest_difference_of_ranks() -> None:
    student, teacher = rdm(0), rdm(1)
    student.dissimilarities[0, 4] = np.nan
    table = plot.pair_table(student, select(teacher, NAMES[::-1]), dict.fromkeys(NAMES, "x"))
    assert len(table) == 9
    kept = np.delete(np.stack([student.get_vectors()[0], teacher.get_vectors()[0]]), 4, axis=1)
    ranks = (rankdata(kept, axis=1) - 1) / 8
    assert sorted(table["difference"]) == pytest.approx(sorted(ranks[0] - ranks[1]))
    assert table["difference"].abs().is_monotonic_decreasing
    worst = table.iloc[0]
    i, j = NAMES.index(worst["a"]), NAMES.index(worst["b"])
    assert worst["student"] == student.get_matrices()[0][i, j]
    assert worst["teacher"] == teacher.get_matrices()[0][i, j]
    assert set(table["group_a"]) == {"x"}
    with pytest.raises(BrainrdlError, match="are not in groups"):
        plot.pair_table(student, teacher, {"cat": "x"})


def test_the_worst_pairs_have_both_ranks_and_a_line_between_them() -> None:
    student, teacher = rdm(0), rdm(1)
    table = plot.pair_table(student, teacher).head(3)
    ax = plot.worst_pairs(student, teacher, Figure().subplots(), n=3, title="worst", titles=("net", "IT"))
    marks = {line.get_label(): line.get_xdata().tolist() for line in ax.lines}
    assert marks == {"IT": table["teacher_rank"].tolist(), "net": table["student_rank"].tolist()}
    (lines,) = (found for found in ax.collections if isinstance(found, LineCollection))
    ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
    assert ends == [[a, b] for a, b in zip(table["teacher_rank"], table["student_rank"], strict=True)]
    assert words(ax) == [f"{a} \u2013 {b}" for a, b in zip(table["a"], table["b"], strict=True)]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the worst pair is at the top
    with pytest.raises(BrainrdlError, match="n must be a whole number"):
        plot.worst_pairs(student, teacher, n=0)


def test_both_pictures_of_a_pair_are_beside_its_row() -> None:
    images = {name: np.full((4, 4), 10 * i, np.uint8) for i, name in enumerate(NAMES)}
    ax = plot.worst_pairs(rdm(0), rdm(1), Figure().subplots(), n=2, images=images)
    table = plot.pair_table(rdm(0), rdm(1)).head(2)
    (beside,) = ax.child_axes
    found = [int(np.asarray(image.get_array())[0, 0, 0]) // 10 for image in beside.images]
    assert found == [NAMES.index(name) for row in table[["a", "b"]].to_numpy() for name in row]
    assert [np.mean(image.get_extent()[2:]) for image in beside.images] == pytest.approx([0, 0, 1, 1])
    assert beside.get_ylim() == ax.get_ylim()


def test_ranks_of_pairs_have_a_line_of_equal_ranks() -> None:
    student, teacher = rdm(0), rdm(1)
    ax = plot.pairs(student, teacher, Figure().subplots(), scale="rank", titles=("net", "IT"))
    table = plot.pair_table(student, teacher)
    drawn = ax.collections[0].get_offsets()
    for k, column in enumerate(("teacher_rank", "student_rank")):
        assert sorted(drawn[:, k]) == pytest.approx(sorted(table[column]))
    differences = sorted(drawn[:, 1] - drawn[:, 0])
    assert differences == pytest.approx(sorted(table["difference"]))
    assert ax.lines[0].get_slope() == 1
    assert ax.get_xlabel() == "IT: rank of dissimilarity (0-1)"
    with pytest.raises(BrainrdlError, match="scale 'ranks' is not known"):
        plot.pairs(student, teacher, scale="ranks")


# Influence


def influence_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "condition": NAMES,
            "change": [0.02, -0.05, 0.001, np.nan, 0.03],
            "agreement_change": [0.01, 0.0, 0.02, 0.5, -0.01],
        }
    )


def test_the_conditions_that_change_the_score_most_are_sorted_by_their_change() -> None:
    ax = plot.condition_influence(influence_table(), Figure().subplots(), n=3, title="influence")
    assert words(ax) == ["car", "cat", "cow"]
    marks = {line.get_label(): list(line.get_xdata()) for line in ax.lines}
    assert marks["score"] == [-0.05, 0.02, 0.03]
    assert marks["agreement of subjects"] == [0.0, 0.01, -0.01]


def test_one_subject_has_no_agreement_to_draw() -> None:
    images = {name: np.zeros((2, 2)) for name in NAMES}
    table = influence_table().assign(agreement_change=np.nan)
    ax = plot.condition_influence(table, Figure().subplots(), images=images)
    assert "agreement of subjects" not in [line.get_label() for line in ax.lines]
    assert len(ax.child_axes[0].images) == 4


def test_a_table_without_changes_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"table of conditions lacks the columns \['change'\]"):
        plot.condition_influence(influence_table().drop(columns="change"))
    with pytest.raises(BrainrdlError, match="change of the score is NaN for all conditions"):
        plot.condition_influence(influence_table().assign(change=np.nan))


# RDMs of RDMs


def stack() -> RDMs:
    rng = np.random.default_rng(0)
    two = rng.random((2, 10))
    rows = np.stack([two[k % 2] + 0.1 * rng.random(10) for k in range(4)])
    return from_array(rows, NAMES, descriptors={"name": ["V1 a", "IT a", "V1 b", "IT b"]})


def test_the_matrix_of_rdms_holds_every_similarity_twice() -> None:
    table = compare(stack(), stack(), ["corr", "spearman"])
    matrix = plot.similarity_matrix(table, "spearman")
    for row in table[table["comparator"] == "spearman"].itertuples():
        assert matrix.loc[row.a, row.b] == pytest.approx(row.similarity)
    assert matrix.index.tolist() == ["V1 a", "IT a", "V1 b", "IT b"]
    half = table[table["a"] < table["b"]]
    pd.testing.assert_frame_equal(plot.similarity_matrix(half, "spearman").loc[matrix.index, matrix.index], matrix)


def test_similar_rdms_are_neighbours_with_their_groups_as_colours() -> None:
    table = compare(stack(), stack(), ["corr"])
    groups = {name: name.split()[0] for name in stack().rdm_descriptors["name"]}
    ax = plot.rdm_of_rdms(table, Figure(figsize=(5, 5), layout="compressed").subplots(), groups=groups, order="cluster")
    assert [name[:2] for name in words(ax)] in (["V1", "V1", "IT", "IT"], ["IT", "IT", "V1", "V1"])
    matrix = plot.similarity_matrix(table, groups=groups, order="cluster")
    drawn = np.ma.filled(ax.images[0].get_array(), np.nan)
    expected = matrix.to_numpy().copy()
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(drawn, expected)
    assert len(ax.texts) == 12
    assert ax.texts[0].get_text() == f"{expected[0, 1]:.2f}"
    assert ax.child_axes[0].get_ylabel() == "Pearson correlation"


def test_negative_similarities_are_centred_at_0_and_small_cells_are_empty() -> None:
    table = pd.DataFrame(
        {"a": ["x", "x", "y"], "b": ["y", "z", "z"], "comparator": "corr", "similarity": [-0.2, 0.1, 0.5]}
    )
    ax = plot.rdm_of_rdms(table, Figure(figsize=(1.6, 1.3), layout="compressed").subplots(), title="small")
    assert ax.images[0].get_clim() == (-0.5, 0.5)
    assert not ax.texts


def test_pairs_that_were_not_compared_are_grey_and_cannot_be_clustered() -> None:
    table = pd.DataFrame({"a": ["x", "y"], "b": ["y", "z"], "comparator": "corr", "similarity": [0.2, 0.5]})
    assert np.isnan(plot.similarity_matrix(table).loc["x", "z"])
    with pytest.raises(BrainrdlError, match="1 of 3 are NaN"):
        plot.similarity_matrix(table, order="cluster")


def test_models_by_targets_and_contradictions_are_refused() -> None:
    table = pd.DataFrame({"a": ["x", "y"], "b": ["IT", "V1"], "comparator": "corr", "similarity": [0.2, 0.5]})
    with pytest.raises(BrainrdlError, match=r"have no RDM in common; compare RDMs with themselves"):
        plot.rdm_of_rdms(table)
    twice = pd.DataFrame({"a": ["x", "y"], "b": ["y", "x"], "comparator": "corr", "similarity": [0.2, 0.5]})
    with pytest.raises(BrainrdlError, match=r"two similarities of 'y' and 'x': 0\.2 and 0\.5"):
        plot.rdm_of_rdms(twice)
