"""MATLAB files: every shape of RDM, both kinds of file, and real ones."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform

from brainrdl import BrainrdlError, read
from brainrdl.rdms import names
from brainrdl.testing import check_reader
from data_adapters.matlab import READER


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def struct_array(elements, shape=None):
    """Give SciPy's form of a MATLAB struct array."""
    made = np.empty(len(elements), dtype=[(field, object) for field in elements[0]])
    for index, element in enumerate(elements):
        made[index] = tuple(element.values())
    return made.reshape(shape or (1, len(elements)), order="F")


@pytest.fixture(params=["v5", "v7.3"])
def save(request, tmp_path, matlab73):
    """Write the same variables as either kind of file."""

    def write(**variables):
        path = tmp_path / "rdms.mat"
        if request.param == "v7.3":
            return matlab73(path, **variables)
        savemat(path, {key: struct_array(v) if isinstance(v, list) else v for key, v in variables.items()})
        return path

    return write


# -- shapes


@pytest.mark.parametrize("layout", ["first", "last", "condensed first", "condensed last", "float32"])
def test_every_layout_of_a_stack_gives_the_same_rdms(save, stack, layout):
    condensed = np.stack([squareform(square) for square in stack])
    arrays = {
        "first": stack,
        "last": np.moveaxis(stack, 0, -1),
        "condensed first": condensed,
        "condensed last": condensed.T,
        "float32": stack.astype(np.float32),
    }
    rdms = read(save(data=arrays[layout]))
    np.testing.assert_allclose(rdms.dissimilarities, condensed, rtol=1e-6 if layout == "float32" else 0)
    assert rdms.rdm_descriptors["subject"] == ["1", "2"]


@pytest.mark.parametrize("layout", ["square", "row", "column", "stack of one"])
def test_every_layout_of_one_rdm_gives_the_same(save, stack, layout):
    pairs = squareform(stack[0])
    arrays = {"square": stack[0], "row": pairs[None], "column": pairs[:, None], "stack of one": stack[:1]}
    rdms = read(save(data=arrays[layout]))
    np.testing.assert_array_equal(rdms.dissimilarities, pairs[None])
    assert list(rdms.rdm_descriptors) == ["index"]


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 6)])
def test_a_shape_that_leaves_the_axis_open_is_refused_listing_the_choices(save, shape):
    with refused(rf"variable 'data' has shape {re.escape(str(shape))}.*axes='first' or axes='last'"):
        read(save(data=np.ones(shape)))


@pytest.mark.parametrize("axes", ["first", "last"])
def test_axes_decides_which_axis_counts_the_rdms(save, axes):
    pairs = np.random.default_rng(0).uniform(0.1, 1, (4, 6))
    squares = np.stack([squareform(row) for row in pairs])
    path = save(data=squares if axes == "first" else np.moveaxis(squares, 0, -1))
    np.testing.assert_array_equal(read(path, axes=axes).dissimilarities, pairs)


def test_axes_decides_for_condensed_pairs(save):
    pairs = np.random.default_rng(0).uniform(0.1, 1, (3, 6))
    assert read(save(data=pairs), axes="first").n_cond == 4
    assert read(save(data=pairs), axes="last").n_cond == 3


def test_axes_that_the_shape_rules_out_is_refused(save, stack):
    with refused(r"axes of variable 'data' with shape \(2, 4, 4\) 'last' is not known.*known: first"):
        read(save(data=stack), axes="last")


def test_logical_and_integer_rdms_are_read(save):
    square = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=np.uint8)
    assert read(save(animate=square)).dissimilarities.tolist() == [[1, 1, 0]]


def test_asymmetry_is_refused_naming_the_variable(save, stack):
    stack[1, 0, 2] += 0.5
    with refused(r"rdms.mat' \(reader 'matlab'\): RDM 1 \(of 2\) in variable 'data' is not symmetric: \[0, 2\]"):
        read(save(data=stack))


# -- which variable


def test_stacks_of_one_shape_are_read_as_regions(save, stack):
    rdms = read(save(EVC_RDMs=stack, IT_RDMs=2 * stack))
    assert rdms.rdm_descriptors["roi"] == ["EVC", "EVC", "IT", "IT"]
    assert rdms.rdm_descriptors["subject"] == ["1", "2", "1", "2"]
    np.testing.assert_array_equal(rdms.dissimilarities[2:], 2 * rdms.dissimilarities[:2])


def test_regions_that_differ_only_in_the_affix_keep_their_whole_names(save, stack):
    rdms = read(save(IT_RDM=stack[0], IT_RDMs=2 * stack[0]))
    assert rdms.rdm_descriptors["roi"] == ["IT_RDM", "IT_RDMs"]


def test_a_chosen_variable_keeps_its_region(save, stack):
    path = save(EVC_RDMs=stack, IT_RDMs=2 * stack)
    rdms = read(path, variable="IT_RDMs")
    np.testing.assert_array_equal(rdms.get_matrices(), 2 * stack)
    assert rdms.rdm_descriptors["roi"] == ["IT", "IT"]


def test_variables_of_different_shape_are_refused_listing_them(save, stack):
    with refused(r"choose one with variable=: EVC \(2, 4, 4\), IT \(4, 4\)"):
        read(save(EVC=stack, IT=stack[0], subjects=np.arange(5.0)))


def test_an_unknown_variable_is_refused_with_the_nearest(save, stack):
    with refused("variable 'IT_RDM' is not known; nearest: 'IT_RDMs'"):
        read(save(IT_RDMs=stack, EVC_RDMs=stack), variable="IT_RDM")


def test_a_vector_of_suitable_length_does_not_compete_with_a_stack(save, stack):
    assert read(save(rdms=stack, ages=np.arange(15.0), name="a text of 28 letters, at least")).n_rdm == 2


def test_a_file_without_rdms_is_refused_listing_what_there_is(save):
    with refused(r"no variable is an RDM.*there are: labels \(4, 5\)"):
        read(save(labels=np.ones((4, 5))))
    with refused("there are: none"):
        read(save(title="only a text"))


def test_a_variable_that_is_no_rdm_is_refused_with_its_shape(save, stack):
    with refused(r"variable 'labels' is no RDM.*shape is \(4, 5\)"):
        read(save(rdms=stack, labels=np.ones((4, 5))), variable="labels")


# -- structs


def test_a_struct_array_gives_names_and_their_parts(save, stack):
    labels = ["hIT | BE | Session: 1", "hIT | KO | Session: 2"]
    rdms = read(save(RDMs=[{"RDM": square, "name": label} for square, label in zip(stack, labels, strict=True)]))
    np.testing.assert_array_equal(rdms.get_matrices(), stack)
    assert {key: rdms.rdm_descriptors[key] for key in ("name", "roi", "subject", "session")} == {
        "name": labels,
        "roi": ["hIT", "hIT"],
        "subject": ["BE", "KO"],
        "session": ["1", "2"],
    }


def test_a_single_struct_is_read(save, stack):
    rdms = read(save(model=[{"RDM": stack[0], "name": "animacy"}]))
    assert rdms.rdm_descriptors["name"] == ["animacy"]


def test_names_of_different_patterns_are_not_split(save, stack):
    elements = [{"RDM": stack[0], "name": "hIT | BE"}, {"RDM": stack[1], "name": "model"}]
    assert set(read(save(RDMs=elements)).rdm_descriptors) == {"name", "index"}
    elements[1]["name"] = "hIT | BE | Session: 2"
    assert set(read(save(RDMs=elements)).rdm_descriptors) == {"name", "index"}


def test_structs_without_names_are_read(save, stack):
    rdms = read(save(RDMs=[{"RDM": square} for square in stack]))
    assert rdms.rdm_descriptors["name"] == ["", ""]


def test_structs_of_different_sizes_are_refused(save, stack):
    with refused(r"variable 'RDMs' have different numbers of pairs: \[6, 3\]"):
        read(save(RDMs=[{"RDM": stack[0], "name": "a"}, {"RDM": stack[1][:3, :3], "name": "b"}]))


def test_an_unsound_struct_is_refused_by_its_name(save, stack):
    with refused(r"variable 'RDMs', 'flat' is constant"):
        read(save(RDMs=[{"RDM": stack[0], "name": "fine"}, {"RDM": 1 - np.eye(4), "name": "flat"}]))


def test_struct_arrays_come_in_matlab_order(tmp_path, stack):
    elements = [{"RDM": (index + 1) * stack[0], "name": str(index)} for index in range(4)]
    savemat(tmp_path / "rdms.mat", {"RDMs": struct_array(elements, (2, 2))})
    assert read(tmp_path / "rdms.mat").rdm_descriptors["name"] == ["0", "1", "2", "3"]


def test_an_empty_struct_array_is_no_candidate(tmp_path, stack):
    savemat(tmp_path / "rdms.mat", {"RDMs": np.empty((0, 0), dtype=[("RDM", object)]), "rdm": stack[0]})
    assert read(tmp_path / "rdms.mat").n_rdm == 1


def test_a_struct_may_hold_a_stack(save, stack):
    rdms = read(save(RDMs=[{"RDM": stack, "name": "V1"}, {"RDM": 2 * stack, "name": "IT"}]))
    np.testing.assert_array_equal(rdms.get_matrices(), np.concatenate([stack, 2 * stack]))
    assert rdms.rdm_descriptors["name"] == ["V1", "V1", "IT", "IT"]


def test_the_sizes_that_stand_for_an_empty_array_are_no_data(tmp_path):
    """MATLAB's v7.3 files keep ``zeros(0, 4, 4)`` as the numbers 0, 4, 4 with a mark."""
    with h5py.File(tmp_path / "rdms.mat", "w") as file:
        file.create_dataset("rdms", data=np.array([0, 4, 4], dtype=np.uint64)).attrs["MATLAB_empty"] = np.uint8(1)
    with refused("there are: none"):
        read(tmp_path / "rdms.mat")


# -- the reader


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.mat").touch()
    with refused(r"empty.mat' \(reader 'matlab'\): the file is empty"):
        read(tmp_path / "empty.mat")


def test_only_mat_files_are_taken(tmp_path):
    assert READER.sniff(tmp_path / "a.MAT")
    assert not READER.sniff(tmp_path / "a.h5")


def test_the_reader_keeps_the_contract(save, stack):
    check_reader(READER, save(EVC_RDMs=stack, IT_RDMs=stack))


# -- real files


def test_the_92_images_human_it_rdms_are_read(kriegeskorte92):
    rdms = read(kriegeskorte92 / "92_brainRDMs.mat")
    assert (rdms.n_rdm, rdms.n_cond) == (8, 92)
    assert rdms.rdm_descriptors["subject"] == ["BE", "KO", "SN", "TI"] * 2
    assert rdms.rdm_descriptors["session"] == ["1"] * 4 + ["2"] * 4
    assert set(rdms.rdm_descriptors["roi"]) == {"hIT"}
    assert rdms.get_matrices()[0, 0, 1] == pytest.approx(0.82878304)


def test_the_92_images_judgements_are_split_into_subjects(kriegeskorte92):
    rdms = read(kriegeskorte92 / "92_behavRDMs.mat")
    assert rdms.rdm_descriptors["subject"] == [f"subject{number}" for number in range(1, 17)]


def test_condensed_monkey_pairs_stand_in_the_order_of_the_square_rdm(kriegeskorte92):
    """The same monkey IT RDM is in one file as MATLAB's squareform vector and in another as a matrix."""
    models = read(kriegeskorte92 / "92_modelRDMs.mat")
    condensed = read(kriegeskorte92 / "Kriegeskorte_Neuron2008_supplementalData.mat")
    assert condensed.rdm_descriptors["name"] == ["mIT_674neurons", "hITvisStim_316vx"]
    square = models.dissimilarities[models.rdm_descriptors["name"].index("monkeyIT")]
    np.testing.assert_allclose(condensed.dissimilarities[0], square, rtol=1e-12)


def test_condensed_human_pairs_stand_in_the_order_of_the_brain_rdms(kriegeskorte92):
    condensed = read(kriegeskorte92 / "Kriegeskorte_Neuron2008_supplementalData.mat")
    mean = read(kriegeskorte92 / "92_brainRDMs.mat").dissimilarities.mean(axis=0)
    assert np.corrcoef(condensed.dissimilarities[1], mean)[0, 1] > 0.999


def test_the_algonauts_rdms_are_read_with_their_axes_put_right(algonauts92):
    rdms = read(algonauts92 / "target_fmri.mat", names=algonauts92 / "images")
    assert (rdms.n_rdm, rdms.n_cond) == (30, 92)
    assert rdms.rdm_descriptors["roi"] == ["EVC"] * 15 + ["IT"] * 15
    assert names(rdms)[:2] == ("image_01", "image_02")
