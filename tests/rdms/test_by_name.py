"""RDMs by name: what is kept, in which order, and what is refused."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations
from pathlib import PurePath

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs, compare
from scipy.spatial.distance import squareform

import brainrdl
from brainrdl import BrainrdlError, RDMTeacher, Stimuli, calc_rdm, read
from brainrdl._core.files import write_rdms
from brainrdl.rdms.by_name import align, alignment, concat, names, select
from brainrdl.rdms.conversion import check, from_array, from_tensor, to_table, to_tensor

FOUR = ("cat", "dog", "car", "tree")


def random_rdms(condition_names, n_rdms=2, seed=0, **options):
    n = len(condition_names)
    pairs = torch.rand(n_rdms, n * (n - 1) // 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return from_tensor(pairs, condition_names, **options)


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


few = settings(max_examples=25, deadline=None)


@st.composite
def selections(draw):
    """Up to 8 conditions, a seed for their RDMs, a selection of the conditions, and a selection of the selection."""
    all_names = [f"c{i}" for i in range(draw(st.integers(3, 8)))]
    first = draw(st.permutations(all_names))[: draw(st.integers(1, len(all_names)))]
    second = draw(st.permutations(first))[: draw(st.integers(1, len(first)))]
    return all_names, draw(st.integers(0, 99)), first, second


def unpacked(case):
    all_names, seed, first, second = case
    return random_rdms(all_names, seed=seed), first, second


# -- laws


@few
@given(selections())
def test_select_keeps_each_pair_of_names_its_dissimilarity(case):
    rdms, chosen, _ = unpacked(case)
    place = {name: index for index, name in enumerate(names(rdms))}
    before, after = rdms.get_matrices(), select(rdms, chosen).get_matrices()
    for (i, a), (j, b) in combinations(enumerate(chosen), 2):
        np.testing.assert_array_equal(after[:, i, j], before[:, place[a], place[b]])


@few
@given(selections())
def test_select_keeps_the_requested_order(case):
    rdms, chosen, _ = unpacked(case)
    assert names(select(rdms, chosen)) == tuple(chosen)


@few
@given(selections())
def test_selecting_twice_is_selecting_once(case):
    rdms, first, second = unpacked(case)
    assert select(select(rdms, first), second) == select(rdms, second)


@few
@given(selections())
def test_selecting_does_not_depend_on_the_stored_order(case):
    rdms, shuffled, chosen = unpacked(case)
    stored_otherwise = select(rdms, [*shuffled, *(set(names(rdms)) - set(shuffled))])
    np.testing.assert_array_equal(
        select(stored_otherwise, chosen).dissimilarities, select(rdms, chosen).dissimilarities
    )


@few
@given(selections())
def test_tensor_order_is_that_of_rsatoolbox_reordered(case):
    rdms, chosen, _ = unpacked(case)
    chosen = [*chosen, *(name for name in names(rdms) if name not in chosen)]
    theirs = rdms.copy()
    theirs.reorder(np.array([names(rdms).index(name) for name in chosen]))
    np.testing.assert_array_equal(to_tensor(rdms, chosen, dtype=torch.float64).numpy(), theirs.get_vectors())


@few
@given(st.integers(3, 9))
def test_tensor_order_is_the_row_major_upper_triangle(n):
    square = np.arange(n * n, dtype=float).reshape(n, n)
    square = np.triu(square, 1) + np.triu(square, 1).T
    i, j = torch.triu_indices(n, n, 1)
    pairs = to_tensor(from_array(square, None), dtype=torch.float64)
    assert torch.equal(pairs[0], torch.from_numpy(square)[i, j])
    np.testing.assert_array_equal(pairs[0], squareform(square))


@few
@given(selections())
def test_a_reordered_rdm_compared_through_align_scores_one(case):
    rdms, _, _ = unpacked(case)
    other = select(rdms, names(rdms)[::-1])
    scores = np.diagonal(compare(*align(rdms, other), method="cosine"))
    np.testing.assert_allclose(scores, 1, atol=1e-12)


def test_without_align_the_same_rdm_reordered_does_not_score_one():
    rdms = random_rdms([f"c{i:02d}" for i in range(12)], n_rdms=1)
    shuffled = select(rdms, sorted(names(rdms), key=lambda name: name[::-1]))
    assert compare(rdms, shuffled, method="corr")[0, 0] < 0.5
    assert compare(*align(rdms, shuffled), method="corr")[0, 0] == pytest.approx(1)


@few
@given(selections())
def test_tensors_go_in_and_come_out_unchanged(case):
    rdms, _, _ = unpacked(case)
    again = from_tensor(to_tensor(rdms, dtype=torch.float64), names(rdms))
    assert again == rdms


# -- names and selection


def test_names_are_text_whatever_the_descriptor_holds():
    rdms = RDMs(np.arange(1.0, 4)[None], pattern_descriptors={"stimulus": np.array(["a", "b", "c"])})
    assert [type(name) for name in names(rdms)] == [str, str, str]
    assert names(rdms, by="index") == ("0", "1", "2")


def test_a_missing_descriptor_is_refused_with_the_known_ones():
    rdms = random_rdms(FOUR, by="stimuli")
    with refused(r"no pattern descriptor 'stimulus' .*they have: stimuli, index.*nearest: 'stimuli'.*names="):
        names(rdms)


def test_names_that_stand_twice_are_refused():
    rdms = RDMs(np.arange(1.0, 4)[None], pattern_descriptors={"stimulus": ["a", "b", "a"]})
    with refused(r"\['a'\] occur more than once in pattern descriptor 'stimulus'"):
        names(rdms)


def test_an_unknown_name_is_refused_with_the_nearest():
    with refused(r"\['dogg'\] are not in the RDMs \(4 conditions\); nearest: 'dog'"):
        select(random_rdms(FOUR), ["cat", "dogg"])


def test_a_name_requested_twice_is_refused():
    with refused(r"\['cat'\] occur more than once in the requested conditions"):
        select(random_rdms(FOUR), ["cat", "dog", "cat"])


def test_selecting_nothing_is_refused():
    with refused("no conditions were requested"):
        select(random_rdms(FOUR), [])


def test_select_carries_every_descriptor_along():
    rdms = random_rdms(FOUR, descriptors={"roi": ["V1", "IT"]}, measure="correlation")
    rdms.pattern_descriptors["colour"] = ["red", "green", "blue", "brown"]
    rdms.descriptors["study"] = "one"
    chosen = select(rdms, ["tree", "cat"])
    assert chosen.pattern_descriptors["colour"] == ["brown", "red"]
    assert chosen.rdm_descriptors["roi"] == ["V1", "IT"]
    assert (chosen.descriptors, chosen.dissimilarity_measure) == ({"study": "one"}, "correlation")


def test_select_leaves_what_it_selects_from_alone():
    rdms = random_rdms(FOUR)
    before = rdms.copy()
    chosen = select(rdms, ["tree", "cat"])
    chosen.rdm_descriptors["roi"] = ["V1", "IT"]
    chosen.dissimilarities[:] = 0
    assert rdms == before


def test_select_keeps_nan_pairs():
    rdms = from_array([0.1, np.nan, 0.3], FOUR[:3])
    assert np.isnan(select(rdms, ["car", "cat"]).dissimilarities).all()


def test_to_tensor_is_a_float32_copy_by_default():
    rdms = random_rdms(FOUR)
    pairs = to_tensor(rdms)
    pairs.zero_()
    assert (pairs.dtype, pairs.shape) == (torch.float32, (2, 6))
    assert rdms.dissimilarities.min() > 0


# -- alignment


def test_alignment_reports_what_is_dropped_missing_and_reordered():
    met = alignment(["tree", "cat", "dog"], ["dog", "cat", "car"])
    assert (met.common, met.only_stimuli, met.only_rdms, met.reordered) == (("cat", "dog"), ("tree",), ("car",), True)
    assert str(met) == (
        "2 conditions in common (in a different order); 1 only among the stimuli: ['tree']; 1 only in the RDMs: ['car']"
    )


def test_alignment_of_equal_lists_reports_only_their_length():
    assert str(alignment(FOUR, FOUR)) == "4 conditions in common"


def test_dropping_conditions_is_not_reordering():
    assert not alignment(["cat", "car"], FOUR).reordered


@pytest.mark.parametrize(("lists", "place"), [((["a", "a"], ["a"]), "stimuli"), ((["a"], ["a", "a"]), "RDMs")])
def test_alignment_refuses_a_name_that_stands_twice(lists, place):
    with refused(f"more than once in the {place}"):
        alignment(*lists)


def test_align_gives_both_in_the_order_of_the_first():
    a, b = random_rdms(FOUR), random_rdms(FOUR[::-1], seed=1)
    first, second = align(a, b)
    assert names(first) == names(second) == FOUR
    assert second == select(b, FOUR)


def test_align_refuses_different_conditions_and_says_which():
    a, b = random_rdms(FOUR), random_rdms(("cat", "dog", "car", "trees"))
    with refused(r"only in the first \['tree'\], only in the second \['trees'\]; nearest: 'trees'; .*the 3 in common"):
        align(a, b)


def test_align_suggests_no_name_that_both_have():
    a, b = random_rdms(("cat", "dog", "car", "cart")), random_rdms(("cat", "dog", "car", "bird"))
    with refused(r"only in the first \['cart'\], only in the second \['bird'\]; rename them"):
        align(a, b)


@pytest.mark.parametrize(("form", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_that_differ_only_in_unicode_form_are_reported_with_a_remedy_that_works(form, other):
    first = tuple(unicodedata.normalize(form, name) for name in ("café", "über", "dog"))
    second = tuple(unicodedata.normalize(other, name) for name in first)
    message = (
        rf"; \['{first[0]}', '{first[1]}'\] occur on both sides in different Unicode forms, which look the same .*"
        rf"unicodedata.normalize\('{form}', name\)"
    )
    with refused(message + r"; rename them"):
        align(random_rdms(first), random_rdms(second))
    assert re.search(message, str(alignment(first, second)))
    assert not alignment(first, [unicodedata.normalize(form, name) for name in second]).only_rdms


def test_conditions_named_by_paths_are_reported_with_a_remedy_that_works():
    stimuli, paths = ("face1", "house1", "tool1"), ("stimuli/face1.png", "stimuli/house1.png", "stimuli/tool1.jpg")
    assert "are those of image files" in str(alignment(stimuli, paths))
    assert not alignment(stimuli, [PurePath(name).stem for name in paths]).only_rdms
    assert "image files" not in str(alignment(stimuli, ("a/x.png", "b/y.png", "c/z.png")))


def test_names_that_differ_in_letters_are_not_said_to_differ_in_unicode_form():
    assert "Unicode" not in str(alignment(["café", "dog"], ["cafe", "dog"]))


def test_align_refuses_conditions_that_only_the_second_has():
    with refused(r"only in the first \[\], only in the second \['tree'\]"):
        align(random_rdms(FOUR[:3]), random_rdms(FOUR))


def test_align_keeps_the_common_conditions_when_asked():
    a, b = random_rdms(FOUR), random_rdms(("bird", "car", "dog", "cat"))
    assert names(align(a, b, common=True)[1]) == ("cat", "dog", "car")


def test_align_refuses_fewer_than_three_common_conditions():
    with refused(r"share 2 conditions \['cat', 'dog'\], at least 3"):
        align(random_rdms(FOUR), random_rdms(("cat", "dog", "bird")), common=True)


# -- concat


def test_concat_pairs_by_name():
    a = random_rdms(FOUR)
    both = concat([a, select(a, FOUR[::-1])])
    np.testing.assert_array_equal(both.dissimilarities[:2], both.dissimilarities[2:])
    assert both.rdm_descriptors["index"] == [0, 1, 2, 3]


def test_concat_joins_descriptors():
    a = random_rdms(FOUR, descriptors={"roi": ["V1", "IT"]}, measure="correlation")
    b = random_rdms(FOUR, descriptors={"roi": ["V1", "IT"]}, measure="euclidean")
    a.descriptors.update(study="one", room="3T")
    b.descriptors.update(study="two", room="3T")
    both = concat([a, b])
    assert both.rdm_descriptors["roi"] == ["V1", "IT", "V1", "IT"]
    assert both.rdm_descriptors["study"] == ["one", "one", "two", "two"]
    assert both.descriptors == {"room": "3T"}
    assert both.dissimilarity_measure is None


def test_concat_refuses_a_descriptor_that_only_some_have():
    ours, theirs = (random_rdms(FOUR, descriptors={key: ["s1", "s2"]}) for key in ("subject", "participant"))
    with refused(r"only some .* descriptor 'subject': number 0 has it and number 1 .* lacks it; give it to all"):
        concat([ours, theirs])
    theirs.rdm_descriptors["subject"] = theirs.rdm_descriptors.pop("participant")
    assert concat([ours, theirs]).rdm_descriptors["subject"] == ["s1", "s2", "s1", "s2"]
    theirs.descriptors["site"] = "Berlin"
    with refused("descriptor 'site'"):
        concat([ours, theirs])


def test_concat_keeps_pattern_descriptors_that_agree():
    a, b = random_rdms(FOUR), random_rdms(FOUR[::-1])
    for each in (a, b):
        each.pattern_descriptors["length"] = [len(name) for name in names(each)]
    a.pattern_descriptors["order"], b.pattern_descriptors["order"] = list("1234"), list("1234")
    both = concat([a, b])
    assert both.pattern_descriptors["length"] == [len(name) for name in FOUR]
    assert "order" not in both.pattern_descriptors


def test_concat_keeps_a_measure_that_all_share():
    rdms = random_rdms(FOUR, measure="correlation")
    assert concat([rdms, rdms]).dissimilarity_measure == "correlation"


def test_concat_survives_rsatoolbox_files(tmp_path):
    from rsatoolbox.rdm import load_rdm

    both = concat([random_rdms(FOUR, descriptors={"roi": [roi] * 2}) for roi in ("V1", "IT")])
    both.save(str(tmp_path / "both.h5"))
    assert load_rdm(str(tmp_path / "both.h5")) == both


def test_concat_takes_different_conditions_and_leaves_unknown_pairs_nan():
    a, b = random_rdms(FOUR[:3]), random_rdms((FOUR[3], "bird", FOUR[0]))
    both = concat([a, b])
    everything = (*FOUR, "bird")
    assert names(both) == everything
    np.testing.assert_array_equal(select(both, names(a)).dissimilarities[:2], a.dissimilarities)
    np.testing.assert_array_equal(select(both, names(b)).dissimilarities[2:], b.dissimilarities)
    assert np.isnan(both.dissimilarities).sum(1).tolist() == [7, 7, 7, 7]


def test_concat_refuses_an_object_that_shares_no_condition():
    with refused(r"number 2 .* shares no condition with the others: it has \['Cat', 'Dog', 'Cow'\].*nearest: 'cat'"):
        concat([random_rdms(FOUR), random_rdms(FOUR[:3]), random_rdms(("Cat", "Dog", "Cow"))])


def test_concat_refuses_an_empty_list():
    with refused("no RDMs were given"):
        concat([])


# -- missing names

MISSING = [None, float("nan"), np.nan, "", "  ", "nan", "\u200b", "n/a"]


@pytest.mark.parametrize("missing", MISSING)
def test_a_condition_without_a_name_is_refused_by_every_door(missing):
    listed = ["cat", missing, "dog", "car"]
    unnamed = random_rdms(FOUR)
    unnamed.pattern_descriptors["stimulus"] = listed
    data = Dataset(np.random.default_rng(0).normal(size=(4, 9)), obs_descriptors={"stimulus": listed})
    doors = [
        lambda: from_array(np.arange(6.0), listed),
        lambda: from_tensor(torch.arange(6.0), listed),
        lambda: names(unnamed),
        lambda: concat([unnamed, unnamed]),
        lambda: RDMTeacher(unnamed),
        lambda: calc_rdm(data),
        lambda: brainrdl.compare(unnamed, unnamed),
    ]
    for door in doors:
        with refused(r"1 of 4 names of .* is missing: \[.*\], the first at position 1"):
            door()


@pytest.mark.parametrize("missing", MISSING)
def test_a_subject_without_a_name_is_refused_by_every_door(missing):
    unnamed = random_rdms(FOUR)
    unnamed.rdm_descriptors["subject"] = ["s1", missing]
    data = Dataset(
        np.random.default_rng(0).normal(size=(4, 9)),
        descriptors={"subject": missing},
        obs_descriptors={"stimulus": list(FOUR)},
    )
    doors = [
        lambda: from_array(np.random.rand(2, 6), FOUR, descriptors={"subject": ["s1", missing]}),
        lambda: RDMTeacher(unnamed),
        lambda: concat([unnamed, unnamed]),
        lambda: calc_rdm(data),
    ]
    for door in doors:
        with refused(r"names of .*'subject'.* missing"):
            door()


TWINS = [("dog", "dog "), ("dog", " dog"), ("my dog", "my  dog"), ("\u00fcber", "u\u0308ber"), ("dog", "dog\t")]


@pytest.mark.parametrize("twins", TWINS)
def test_conditions_whose_names_look_the_same_are_refused_by_every_door(twins):
    listed = ["cat", *twins, "car"]
    similar = random_rdms(FOUR)
    similar.pattern_descriptors["stimulus"] = listed
    data = Dataset(np.random.default_rng(0).normal(size=(4, 9)), obs_descriptors={"stimulus": listed})
    first, second = random_rdms(("cat", twins[0], "car")), random_rdms(("cat", twins[1], "car"))
    for door in (
        lambda: from_array(np.arange(6.0), listed),
        lambda: from_tensor(torch.arange(6.0), listed),
        lambda: names(similar),
        lambda: concat([similar, similar]),
        lambda: concat([first, second]),
        lambda: RDMTeacher(similar),
        lambda: calc_rdm(data),
        lambda: brainrdl.compare(similar, similar),
        lambda: Stimuli.from_arrays(torch.rand(4, 1, 2, 2), listed),
    ):
        with refused("differ only in white space or in how their letters are encoded|in different Unicode forms"):
            door()


@pytest.mark.parametrize("twins", TWINS)
def test_subjects_whose_names_look_the_same_are_refused_by_every_door(twins, tmp_path):
    similar = random_rdms(FOUR)
    similar.rdm_descriptors["subject"] = list(twins)
    write_rdms(tmp_path / "a.h5", similar)
    one, other = (random_rdms(FOUR, 1, descriptors={"subject": [twin]}) for twin in twins)
    for door in (
        lambda: from_array(np.random.rand(2, 6), FOUR, descriptors={"subject": list(twins)}),
        lambda: RDMTeacher(similar),
        lambda: concat([one, other]),
        lambda: read(tmp_path / "a.h5"),
    ):
        with refused("differ only in white space or in how their letters are encoded"):
            door()


def test_a_file_with_a_missing_name_is_refused(tmp_path):
    unnamed = random_rdms(FOUR)
    for place, (descriptors, key) in enumerate(
        ((unnamed.pattern_descriptors, "stimulus"), (unnamed.rdm_descriptors, "subject"))
    ):
        before = descriptors.get(key)
        descriptors[key] = ["nan", *"bcd"[: 3 if key == "stimulus" else 1]]
        unnamed.save(str(tmp_path / f"{place}.h5"), file_type="hdf5")
        with refused("missing"):
            read(tmp_path / f"{place}.h5")
        if before is not None:
            descriptors[key] = before


# -- from_tensor


def test_from_tensor_detaches_and_takes_half_precision():
    pairs = torch.tensor([0.5, 0.25, 1.0], dtype=torch.bfloat16, requires_grad=True)
    assert from_tensor(pairs, FOUR[:3]).dissimilarities.tolist() == [[0.5, 0.25, 1.0]]


def test_from_tensor_shares_no_memory():
    pairs = torch.ones(1, 3, dtype=torch.float64)
    rdms = from_tensor(pairs, FOUR[:3])
    pairs.zero_()
    assert rdms.dissimilarities.sum() == 3


def test_from_tensor_keeps_as_many_rdms_as_pairs_apart():
    """Three RDMs of three pairs must not be taken for one square RDM."""
    assert from_tensor(torch.arange(9.0).reshape(3, 3), None).n_rdm == 3


def test_from_tensor_refuses_three_dimensions():
    with refused(r"shape \(n_rdms, n_pairs\).*got \(1, 2, 3\)"):
        from_tensor(torch.ones(1, 2, 3), None)


def test_a_length_that_is_no_number_of_pairs_is_refused():
    with refused(r"pairs has 5 pairs.*\(3 conditions make 3 pairs, 4 make 6\)"):
        from_tensor(torch.ones(2, 5), None)


@pytest.mark.parametrize("n_pairs", [0, 1])
def test_fewer_than_three_conditions_are_refused(n_pairs):
    with refused(f"has {n_pairs + 1} conditions; an RDM needs at least 3"):
        from_tensor(torch.ones(1, n_pairs), None)


def test_a_wrong_number_of_names_is_refused():
    with refused("4 names were given for the 3 conditions of pairs"):
        from_tensor(torch.ones(1, 3), FOUR)


def test_given_names_that_stand_twice_are_refused():
    with refused(r"\['cat'\] occur more than once in the names given for pairs"):
        from_tensor(torch.ones(1, 3), ["cat", "dog", "cat"])


def test_a_descriptor_of_wrong_length_is_refused():
    with refused("rdm descriptor 'roi' has 1 values for the 2 RDMs"):
        random_rdms(FOUR, descriptors={"roi": ["V1"]})


# -- from_array


@pytest.mark.parametrize("layout", ["square", "stack", "condensed", "condensed stack"])
def test_every_layout_of_an_array_gives_the_same_rdms(layout):
    pairs = np.arange(1.0, 7)
    arrays = {
        "square": squareform(pairs),
        "stack": squareform(pairs)[None],
        "condensed": pairs,
        "condensed stack": pairs[None],
    }
    rdms = from_array(arrays[layout], FOUR)
    np.testing.assert_array_equal(rdms.dissimilarities, pairs[None])
    assert names(rdms) == FOUR


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32])
def test_every_real_type_of_array_becomes_float64(dtype):
    rdms = from_array(np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=dtype), None)
    assert rdms.dissimilarities.dtype == np.float64
    assert rdms.dissimilarities.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("array", [np.array([1j, 0, 0]), np.array(["1", "2", "3"]), np.array([None, 1, 2])])
def test_an_array_without_real_numbers_is_refused(array):
    with refused(f"must hold real numbers, got dtype {re.escape(str(array.dtype))}"):
        from_array(array, None)


def test_an_array_that_is_not_square_is_refused():
    with refused(r"not square.*\(n_rdms, n, n\), got \(2, 4, 3\)"):
        from_array(np.zeros((2, 4, 3)), None)
    with refused(r"shape \(4, 5\) has 5 pairs.*not square"):
        from_array(np.zeros((4, 5)), None)


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 3)])
def test_an_array_of_other_dimensions_is_refused(shape):
    with refused("must have 1 to 3 dimensions"):
        from_array(np.zeros(shape), None)


def test_a_square_of_two_conditions_is_refused():
    with refused("array has 2 conditions; an RDM needs at least 3"):
        from_array([[0, 1], [1, 0]], None)


def test_an_asymmetric_rdm_is_refused_with_place_and_amount():
    stack = np.stack([squareform([1.0, 2, 3])] * 2)
    stack[1, 2, 0] = 2.5
    with refused(r"RDM 1 \(of 2\) in array is not symmetric: \[0, 2\] is 2 and \[2, 0\] is 2.5 \(difference 0.5"):
        from_array(stack, None)


@pytest.mark.parametrize("other", [np.nan, np.inf])
def test_a_value_on_one_side_only_is_not_symmetric(other):
    square = squareform([1.0, 2, 3])
    square[0, 1] = other
    with refused(rf"not symmetric: \[0, 1\] is {other} and \[1, 0\] is 1 \(difference inf"):
        from_array(square, None)


def test_asymmetry_at_rounding_level_is_averaged():
    square = squareform([1.0, 2, 3])
    square[0, 1] += 1e-7
    assert from_array(square, None).dissimilarities[0, 0] == pytest.approx(1 + 0.5e-7, rel=1e-12)


def test_rounding_is_judged_relative_to_the_largest_dissimilarity():
    square = squareform([1.0, 2, 3]) * 1e-9
    square[0, 1] *= 1.1
    with refused("not symmetric"):
        from_array(square, None)


def test_an_exactly_symmetric_rdm_keeps_every_bit():
    pairs = np.array([0.1, 5e-324, 1e15])
    np.testing.assert_array_equal(from_array(squareform(pairs), None).dissimilarities[0], pairs)


def test_a_non_zero_diagonal_is_refused_with_its_place():
    square = squareform([1.0, 2, 3])
    square[1, 1] = 1
    with refused(
        r"RDM 0 \(of 1\) in array has a non-zero diagonal: \[1, 1\] is 1; if these are similarities, use similarity="
    ):
        from_array(square, None)


def test_an_infinite_diagonal_is_refused():
    square = squareform([1.0, 2, 3])
    square[1, 1] = np.inf
    with refused(r"non-zero diagonal: \[1, 1\] is inf"):
        from_array(square, None)


def test_nan_pairs_and_a_nan_diagonal_are_taken():
    square = squareform([1.0, np.nan, 3])
    np.fill_diagonal(square, np.nan)
    np.testing.assert_array_equal(from_array(square, None).dissimilarities, [[1, np.nan, 3]])


# -- check


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([np.nan] * 3, "contains only NaN"),
        ([0.5] * 3, "is constant: every pair is 0.5"),
        ([0.5, np.nan, 0.5], "is constant: every pair is 0.5"),
        ([1, 2, np.inf], "is infinite at conditions 1 and 2"),
        ([1, -np.inf, 2], "is infinite at conditions 0 and 2"),
    ],
)
def test_an_rdm_that_cannot_be_compared_is_refused(values, words):
    rdms = from_tensor(torch.tensor([[1.0, 2, 3], values]), None)
    with refused(rf"RDM 1 \(of 2\) in my file {words}"):
        check(rdms, "my file")
    with refused(words):
        from_array(rdms.dissimilarities, None)


def test_no_rdm_at_all_is_refused():
    with refused("array holds no RDM"):
        from_array(np.zeros((0, 3, 3)), None)


def test_rsatoolbox_objects_with_an_impossible_length_are_refused():
    with refused("mine has 5 pairs"):
        check(RDMs(np.arange(5.0)[None]), "mine")


def test_sound_rdms_pass():
    check(random_rdms(FOUR), "mine")


def test_a_table_of_rdms_is_read_back_as_it_was(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rdms = from_array(rng.random((2, 10)), list("abcde"), descriptors={"subject": ["s1", "s2"], "roi": ["V1", "V1"]})
    to_table(rdms).to_csv(tmp_path / "rdms.csv", index=False, float_format="%.17g")
    found = read(tmp_path / "rdms.csv")
    assert found.pattern_descriptors["stimulus"] == list("abcde")
    assert found.rdm_descriptors["subject"] == ["s1", "s2"]
    np.testing.assert_array_equal(found.dissimilarities, rdms.dissimilarities)


def test_what_is_not_in_common_cannot_be_kept() -> None:
    a, b = (from_array([0.1, 0.2, 0.3], list(listed)) for listed in ("abc", "xyz"))
    with pytest.raises(BrainrdlError, match=r"only in the second \['x', 'y', 'z'\]; rename them$"):
        align(a, b)


@pytest.mark.parametrize(
    ("given", "said"), [("it.h5", "'it.h5' \\(str\\)"), ({"a": 1}, "\\(dict\\)"), (np.eye(3), "\\(ndarray\\)")]
)
def test_what_is_not_rdms_is_refused(given: object, said: str) -> None:
    with pytest.raises(BrainrdlError, match=f"expected rsatoolbox RDMs, got .*{said}; read a file with brainrdl.read"):
        names(given)
