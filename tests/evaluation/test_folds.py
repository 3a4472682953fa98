"""Folds over stimuli: stratified as in scikit-learn, by name, and never too small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from brainrdl._core.errors import BrainrdlError
from brainrdl.evaluation.folds import Splitter, stimulus_folds

NAMES = [f"image{i:02d}" for i in range(24)]
LABELS = {name: "abc"[i % 3] for i, name in enumerate(NAMES)}


def held_out(table: pd.DataFrame) -> list[set[str]]:
    return [set(part["stimulus"]) for _, part in table.groupby("fold")]


class Fixed:
    """A splitter that yields what it is given."""

    def __init__(self, *splits: tuple[list[int], list[int]]) -> None:
        self.splits = splits

    def split(self, X: Any, y: Any = None) -> Iterator[tuple[list[int], list[int]]]:
        yield from self.splits


def test_folds_are_stratified_as_in_scikit_learn() -> None:
    expected = StratifiedKFold(3, shuffle=True, random_state=7).split(NAMES, [LABELS[name] for name in NAMES])
    found = held_out(stimulus_folds(NAMES, 3, labels=LABELS, seed=7))
    assert found == [{NAMES[i] for i in test} for _, test in expected]


def test_folds_without_labels_are_those_of_scikit_learn() -> None:
    expected = KFold(4, shuffle=True, random_state=3).split(NAMES)
    assert held_out(stimulus_folds(NAMES, 4, seed=3)) == [{NAMES[i] for i in test} for _, test in expected]


@pytest.mark.parametrize("groups", [None, {name: name for name in NAMES}])
def test_a_small_category_leaves_the_others_stratified(groups: dict[str, str] | None) -> None:
    labels = {f"n{k}": f"c{k % 3}" for k in range(36)} | {f"n{k}": "rare" for k in range(4)}
    table = stimulus_folds(list(labels), 5, labels=labels, groups=groups and {name: name for name in labels})
    counts = pd.crosstab(table["fold"], table["stimulus"].map(labels))
    assert set(counts.drop(columns="rare").to_numpy().ravel()) <= {2, 3}


def test_folds_of_many_small_categories_are_not_stratified() -> None:
    each = {name: name for name in NAMES}
    pd.testing.assert_frame_equal(stimulus_folds(NAMES, 3, labels=each), stimulus_folds(NAMES, 3))


def test_a_number_of_folds_may_be_numpys() -> None:
    pd.testing.assert_frame_equal(stimulus_folds(NAMES, np.int64(3)), stimulus_folds(NAMES, 3))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(8, 40), seed=st.integers(0, 99), data=st.data())
def test_every_condition_is_held_out_exactly_once(n: int, seed: int, data: st.DataObject) -> None:
    names = [f"n{i}" for i in range(n)]
    folds = data.draw(st.integers(2, n // 4))
    table = stimulus_folds(names, folds, seed=seed)
    assert sorted(table["stimulus"]) == sorted(names)
    sizes = table.groupby("fold").size()
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1


def test_another_seed_makes_other_folds_and_the_same_seed_the_same() -> None:
    assert held_out(stimulus_folds(NAMES, 3, seed=0)) != held_out(stimulus_folds(NAMES, 3, seed=1))
    pd.testing.assert_frame_equal(stimulus_folds(NAMES, 3, seed=1), stimulus_folds(NAMES, 3, seed=1))


def test_a_splitter_object_decides_by_itself() -> None:
    test_fold = [0] * 6 + [1] * 6 + [-1] * 12  # -1: never held out
    table = stimulus_folds(NAMES, PredefinedSplit(test_fold), seed=5)
    assert held_out(table) == [set(NAMES[:6]), set(NAMES[6:12])]


def test_a_splitter_gets_the_categories() -> None:
    splitter = StratifiedKFold(3, shuffle=True, random_state=1)
    pd.testing.assert_frame_equal(
        stimulus_folds(NAMES, splitter, labels=LABELS), stimulus_folds(NAMES, 3, labels=LABELS, seed=1)
    )


def test_a_splitter_is_known_by_its_method() -> None:
    assert isinstance(GroupKFold(2), Splitter)
    assert not isinstance(5, Splitter)


def test_the_table_names_conditions_and_holds_no_positions() -> None:
    order = [*NAMES[12:], *NAMES[:12]]
    table = stimulus_folds(order, Fixed((list(range(6, 24)), list(range(6)))))
    assert table["stimulus"].tolist() == NAMES[12:18]
    assert list(table.columns) == ["stimulus", "fold"]


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (LeaveOneOut(), r"fold 0 holds out 1 conditions \['image00'\].*needs at least 4: hold out more conditions"),
        (7, r"fold 3 holds out 3 conditions .* use fewer folds"),
        (
            Fixed(([0, 1, 2], list(range(3, 24)))),
            "fold 0 leaves 3 conditions for training, but needs at least 4: hold out fewer",
        ),
        (ShuffleSplit(4, test_size=0.5, random_state=0), r"occur more than once in the splitter's test sets"),
        (
            Fixed((list(range(10)), list(range(12, 24)))),
            "trains on 10 and holds out 12 of 24 conditions; each condition",
        ),
        (Fixed((list(range(24)), list(range(5)))), "fold 0 of the splitter trains on 24 and holds out 5 of 24"),
        (Fixed(), "made no fold of the 24 conditions"),
        (1, "whole number from 2 to the 24 conditions, got 1"),
        (25, "whole number from 2 to the 24 conditions, got 25"),
        (2.5, r"folds must be a scikit-learn splitter or a whole number .* got 2.5"),
        ("5", r"folds must be a scikit-learn splitter or a whole number .* got '5'"),
    ],
)
def test_folds_that_cannot_be_scored_are_refused(splitter: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        stimulus_folds(NAMES, splitter)


def test_advice_calls_the_folds_as_they_were_asked_for() -> None:
    with pytest.raises(BrainrdlError, match=r"each fold needs at least 4: use fewer inner_folds"):
        stimulus_folds(NAMES, 7, what="inner_folds")
    with pytest.raises(BrainrdlError, match=r"^inner_folds must be a scikit-learn splitter or a whole number"):
        stimulus_folds(NAMES, 1, what="inner_folds")


def test_doubled_names_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"'image00'.*more than once in the conditions to split"):
        stimulus_folds([*NAMES, NAMES[0]], 3)


def test_a_condition_without_a_label_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"conditions \['image00'\] are not in the labels \(23 conditions\)"):
        stimulus_folds(NAMES, 3, labels={name: LABELS[name] for name in NAMES[1:]})


# Groups

OBJECTS = {name: f"object{i % 9}" for i, name in enumerate(NAMES)}


def kept_together(table: pd.DataFrame, groups: dict[str, str]) -> bool:
    return bool(table.groupby(table["stimulus"].map(groups))["fold"].nunique().max() == 1)


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("seed", range(4))
def test_the_stimuli_of_a_group_are_held_out_together_in_folds_of_similar_size(labels, seed) -> None:
    table = stimulus_folds(NAMES, 3, labels=labels, groups=OBJECTS, seed=seed)
    assert kept_together(table, OBJECTS)
    sizes = table.groupby("fold").size()
    assert sizes.sum() == len(NAMES)
    assert sizes.max() - sizes.min() <= 3
    assert not kept_together(stimulus_folds(NAMES, 3, labels=labels, seed=seed), OBJECTS)


def test_groups_are_stratified_where_possible() -> None:
    names = [f"{kind}{k}{view}" for kind in "ab" for k in range(6) for view in "xyz"]
    table = stimulus_folds(names, 3, labels={n: n[0] for n in names}, groups={n: n[:2] for n in names}, seed=1)
    counts = pd.crosstab(table["fold"], table["stimulus"].str[0])
    assert (counts == 6).all(axis=None)
    assert kept_together(table, {n: n[:2] for n in names})


def test_stimuli_that_are_not_listed_are_groups_of_one() -> None:
    few = {NAMES[0]: "x", NAMES[-1]: "x", NAMES[1]: NAMES[5]}
    table = stimulus_folds(NAMES, 4, groups=few).set_index("stimulus")["fold"]
    assert len(table) == len(NAMES)
    assert table[NAMES[0]] == table[NAMES[-1]]
    tables = [stimulus_folds(NAMES, 4, groups=few, seed=seed).set_index("stimulus")["fold"] for seed in range(5)]
    assert any(table[NAMES[1]] != table[NAMES[5]] for table in tables)  # a group may have the name of another stimulus


def test_groups_can_be_a_table(tmp_path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("stimulus,group\n" + "\n".join(f"{name},{group}" for name, group in OBJECTS.items()))
    expected = stimulus_folds(NAMES, 3, groups=OBJECTS)
    pd.testing.assert_frame_equal(stimulus_folds(NAMES, 3, groups=path), expected)
    pd.testing.assert_frame_equal(stimulus_folds(NAMES, 3, groups=str(path)), expected)
    path.write_text("stimulus,identity\na,b\n")
    with pytest.raises(BrainrdlError, match=r"group table .* needs a column 'group' \(or 'object'\)"):
        stimulus_folds(NAMES, 3, groups=path)


def test_splitters_for_groups_are_given_them_and_others_are_refused_if_they_separate_one() -> None:
    assert kept_together(stimulus_folds(NAMES, GroupKFold(3), groups=OBJECTS), OBJECTS)
    with pytest.raises(
        BrainrdlError, match=r"fold 0 of the splitter holds out .* of the same group; use a splitter for"
    ):
        stimulus_folds(NAMES, KFold(3), groups=OBJECTS)
    with pytest.raises(BrainrdlError, match="of the same group"):
        stimulus_folds(NAMES, Fixed((list(range(6, 24)), list(range(6)))), groups=OBJECTS)


def test_groups_as_a_series_are_those_of_its_index() -> None:
    shuffled = pd.Series(OBJECTS).sample(frac=1, random_state=0)
    assert held_out(stimulus_folds(NAMES, 3, groups=shuffled)) == held_out(stimulus_folds(NAMES, 3, groups=OBJECTS))
    with pytest.raises(BrainrdlError, match=r"which are not stimuli"):
        stimulus_folds(NAMES, 3, groups=pd.Series(list(OBJECTS.values())))
    with pytest.raises(BrainrdlError, match="the index of groups"):
        stimulus_folds(NAMES, 3, groups=pd.Series(["a", "b"], index=[NAMES[0]] * 2))
    with pytest.raises(BrainrdlError, match=r"groups must be a mapping or a path, got \['a'\]"):
        stimulus_folds(NAMES, 3, groups=["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("splitter", [GroupKFold(3), LeaveOneGroupOut(), StratifiedGroupKFold(3), StratifiedKFold(3)])
def test_splitters_that_need_groups_or_labels_are_refused_in_words_without_them(splitter: Any) -> None:
    with pytest.raises(
        BrainrdlError, match=r"splitter .* cannot split 24 conditions: .*; if it needs labels of the st"
    ):
        stimulus_folds(NAMES, splitter)
    if isinstance(splitter, StratifiedKFold):
        return
    with pytest.raises(BrainrdlError, match=r"cannot split 24 conditions: .*if it needs groups=\{name: group\}, give"):
        stimulus_folds(NAMES, splitter, labels=LABELS)


def test_more_folds_than_groups_and_groups_of_unknown_names_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="folds must be at most the number of groups, 2, got 3"):
        stimulus_folds(NAMES, 3, groups={name: str(i % 2) for i, name in enumerate(NAMES)})
    with pytest.raises(BrainrdlError, match=r"has groups of \['image99'\], which are not stimuli, and none of"):
        stimulus_folds(NAMES, 3, groups={"image99": "a"})
    with pytest.raises(BrainrdlError, match="have no group in groups=; name it"):
        stimulus_folds(NAMES, 3, groups={**OBJECTS, NAMES[0]: " "})
    assert len(stimulus_folds(NAMES, 3, groups={**OBJECTS, "another": "a"})) == len(NAMES)
