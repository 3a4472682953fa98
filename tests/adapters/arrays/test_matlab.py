"""MATLAB files: every shape of RDM, both kinds of file, and real ones."""

from __future__ import annotations

import re
import struct

import h5py
import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
from scipy.io import savemat
from scipy.sparse import csc_array
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import names, select
from brainrdl.rdms.subjects import groups
from brainrdl.testing.file_readers import check_reader
from data_adapters.arrays.matlab import READER


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
    assert "subject" not in rdms.rdm_descriptors


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


# -- what the RDMs of a stack are


def test_only_axes_make_subjects_of_a_stack(save, stack):
    path = save(data=stack)
    assert groups(read(path, axes="subject,conditions,conditions")).rows() == {"rdm": {"1": [0], "2": [1]}}
    assert groups(read(path, axes="time,conditions,conditions")).targets == ("1", "2")
    with refused("2 RDMs in the RDMs are of target 'rdm', and no rdm descriptor 'subject' says whose they are"):
        groups(read(path))


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_the_rdms_of_a_cell_array_have_the_axis_that_is_named(mat, stack, kind):
    path = mat(output=(stack[0], stack[1]))[kind]
    rdms = read(path, variable="output", axes="roi,conditions,conditions")
    assert rdms.rdm_descriptors["roi"] == ["1", "2"]
    np.testing.assert_array_equal(rdms.get_matrices(), stack)


def test_regions_of_the_decoding_toolbox_are_regions_with_their_names(tmp_path):
    squares = np.stack([squareform(pairs) for pairs in np.random.default_rng(0).random((3, 15))])
    cell = np.empty((3, 1), object)
    for place, square in enumerate(squares):
        cell[place, 0] = square
    regions = np.array([["V1"], ["V2"], ["IT"]], object)
    savemat(tmp_path / "res.mat", {"results": {"roi_names": regions, "other_average": {"output": cell}}})
    rdms = read(
        tmp_path / "res.mat",
        variable="results.other_average.output",
        axes="roi,conditions,conditions",
        axis_variables={"roi": "results.roi_names"},
    )
    assert groups(rdms).rows() == {"V1": {"0": [0]}, "V2": {"0": [1]}, "IT": {"0": [2]}}
    np.testing.assert_array_equal(rdms.get_matrices(), squares)
    with refused("2 values were given for the 3 positions along axis 'roi'"):
        savemat(tmp_path / "short.mat", {"out": cell, "names": regions[:2]})
        read(
            tmp_path / "short.mat",
            variable="out",
            axes="roi,conditions,conditions",
            axis_variables={"roi": "names"},
        )


def test_both_axes_of_a_cell_array_are_read_in_the_order_of_matlab(tmp_path):
    pairs = np.random.default_rng(0).random((3, 2, 6))  # regions, subjects
    cell = np.empty((3, 2), object)
    for place in np.ndindex(3, 2):
        cell[place] = squareform(pairs[place])
    savemat(tmp_path / "cell.mat", {"rdm": cell})
    rdms = read(tmp_path / "cell.mat", axes="roi,subject,conditions,conditions")
    for values, roi, subject in zip(
        rdms.dissimilarities, rdms.rdm_descriptors["roi"], rdms.rdm_descriptors["subject"], strict=True
    ):
        np.testing.assert_array_equal(values, pairs[int(roi) - 1, int(subject) - 1])


@pytest.mark.parametrize("n_times", [40, 15, 1])
def test_pairs_by_time_of_cosmomvpa_are_points_in_time(tmp_path, n_times):
    samples = np.random.default_rng(0).random((15, n_times))
    times = np.arange(n_times) / 10
    savemat(tmp_path / "dsm.mat", {"ds": {"samples": samples, "fa": {"time": times[None]}}})
    rdms = read(tmp_path / "dsm.mat", variable="ds.samples", axes="pairs,time", axis_variables={"time": "ds.fa.time"})
    np.testing.assert_array_equal(rdms.dissimilarities, samples.T)
    assert [float(time) for time in rdms.rdm_descriptors["time"]] == list(times)
    assert len(set(groups(rdms).subjects)) == 1


def test_all_labels_of_a_struct_array_are_descriptors(save, stack):
    labels = [{"RDM": square, "color": np.ones(3), "note": "", "n": k} for k, square in enumerate(stack)]
    rdms = read(
        save(
            RDMs=[each | {"reprName": layer, "Subject": "a"} for each, layer in zip(labels, ("c1", "c2"), strict=True)]
        )
    )
    kept = {key: values for key, values in rdms.rdm_descriptors.items() if key != "index"}
    assert kept == {"reprName": ["c1", "c2"], "subject": ["a", "a"], "n": ["0", "1"]}
    assert groups(rdms).targets == ("c1", "c2")


def test_63_models_labelled_by_two_fields_are_63_targets(rsatoolbox_files):
    found = groups(read(rsatoolbox_files / "modelRDMs_A2020.mat"))
    assert (len(set(found.targets)), set(found.subjects)) == (63, {"0"})
    assert found.targets[0] == "conv1 / complete"


# -- how pairs are stored


def test_pairs_row_by_row_of_the_lower_triangle_need_order_lower(save):
    square = squareform(np.random.default_rng(0).random(66))
    path = save(rdm=square[np.tril_indices(12, -1)][None])
    np.testing.assert_array_equal(read(path, order="lower").get_matrices()[0], square)
    assert not np.allclose(read(path).get_matrices()[0], square)


@pytest.mark.parametrize("order", ["upper", "lower"])
def test_pairs_with_the_diagonal_are_refused_until_it_is_stated(save, order):
    square = squareform(np.random.default_rng(0).random(66))
    held = {"upper": np.triu_indices(12), "lower": np.tril_indices(12)}[order]
    path = save(rdm=square[held][None])
    with refused("seems to hold 12 conditions with the diagonal, .* use diagonal=True, or for 13 .* diagonal=False"):
        read(path)
    np.testing.assert_array_equal(read(path, order=order, diagonal=True).get_matrices()[0], square)
    assert read(path, diagonal=False).n_cond == 13


@pytest.mark.parametrize("empty", [0.0, np.nan])
@pytest.mark.parametrize("half", ["upper", "lower"])
def test_a_half_that_is_empty_is_filled_from_the_other(save, stack, empty, half):
    square = stack[0].copy()
    square[np.tril_indices(4, -1) if half == "upper" else np.triu_indices(4, 1)] = empty
    np.testing.assert_array_equal(read(save(RDM=square)).get_matrices()[0], stack[0])


def test_chance_on_the_diagonal_is_left_out_if_asked(save, stack):
    accuracies = 50 + 40 * stack[0]
    path = save(RDM=accuracies)
    with refused("non-zero diagonal: .* is 50; if these are similarities, use similarity=True .* diagonal=True leaves"):
        read(path)
    np.testing.assert_array_equal(read(path, diagonal=True).dissimilarities[0], squareform(accuracies, checks=False))


def test_similarities_are_converted_if_asked(save, stack):
    path = save(RDM=1 - stack[0])
    for similarity in (True, 1):
        found = read(path, similarity=similarity).get_matrices()[0]
        np.testing.assert_allclose(found, stack[0], atol=1e-15)
    with refused("similarity says that the scale ends at 0.5, but there is a value of 1.0"):
        read(path, similarity=0.5)


def test_volumes_of_glmsingle_are_patterns_of_the_voxels_that_vary(save):
    betas = np.random.default_rng(0).normal(size=(4, 5, 6, 20))
    betas[0, 0, 0, 3], betas[3, 4, 5] = np.nan, 0
    path = save(modelmd=betas)
    with refused(r"got float64 of shape \(4, 5, 6, 20\); if there are more axes, name them: .* or axes='x,y,z,cond"):
        read(path, patterns=True)
    data = read(path, patterns=True, axes="x,y,z,conditions")
    assert (data.n_obs, data.n_channel, data.descriptors["n_dropped_channels"]) == (20, 118, 2)
    places = zip(*(data.channel_descriptors[axis] for axis in "xyz"), strict=True)
    for values, place in zip(data.measurements.T, places, strict=True):
        np.testing.assert_array_equal(values, betas[place])


# -- which variable


def test_stacks_of_one_shape_are_read_as_regions(save, stack):
    rdms = read(save(EVC_RDMs=stack, IT_RDMs=2 * stack))
    assert rdms.rdm_descriptors["roi"] == ["EVC", "EVC", "IT", "IT"]
    assert "subject" not in rdms.rdm_descriptors
    assert groups(rdms, subject_by="index").rows() == {"EVC": {"0": [0], "1": [1]}, "IT": {"0": [2], "1": [3]}}
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


def test_variables_called_rdm_come_first(save, stack):
    others = {"X": np.eye(4), "D": np.zeros((4, 4)), "ages": np.arange(15.0)}
    for key in ("rdm", "RDM", "hIT_RDMs"):
        np.testing.assert_array_equal(read(save(**others, **{key: stack[0]})).get_matrices(), stack[:1])
    assert read(save(EVC_RDMs=stack, IT_RDMs=stack, X=np.ones((2, 4, 4)))).n_rdm == 4
    assert read(save(ages=np.arange(6.0), rdm=squareform(stack[0]))).n_rdm == 1
    with refused(r"choose one with variable=: rdm_ages \(1, 6\), D \(2, 4, 4\)"):
        read(save(rdm_ages=np.arange(6.0)[None], D=stack))


@pytest.mark.parametrize("key", ["betas", "patterns", "V1_features", "activations"])
def test_variables_called_patterns_are_no_rdms_unless_said(save, key):
    array = np.random.default_rng(0).uniform(size=(20, 45))
    for turned in (array, array.T):
        for variable in (None, key):
            with refused(rf"variable '{key}' of shape .* could hold patterns .* patterns=True or patterns=False"):
                read(save(**{key: turned}), variable=variable)
        assert read(save(**{key: turned}), patterns=False).n_rdm == 20
        assert read(save(rdms=turned)).n_rdm == 20


def test_matrices_with_a_row_for_each_name_or_condition_are_no_rdms_unless_said(save):
    array = np.random.default_rng(0).uniform(size=(4, 6))
    for turned, axes in ((array, "first"), (array.T, "last")):
        with refused("could hold patterns"):
            read(save(data=turned))
        assert read(save(data=turned), patterns=False).n_rdm == read(save(data=turned), axes=axes).n_rdm == 4
    with refused("could hold patterns"):
        read(save(data=np.random.default_rng(0).uniform(size=(20, 45)), n=np.arange(20.0)), names_variable="n")


def test_an_axis_in_the_name_of_a_variable_is_no_region(save, stack):
    times = np.stack([stack, 2 * stack, 3 * stack], -1)  # subject, conditions, conditions, time
    described = read(save(RDM_time=times), axes="subject,conditions,conditions,time").rdm_descriptors
    assert (described["time"], "roi" in described) == (["1", "2", "3"] * 2, False)


def test_an_unknown_variable_is_refused_with_the_nearest(save, stack):
    with refused("variable 'IT_RDM' is not known; nearest: 'IT_RDMs'"):
        read(save(IT_RDMs=stack, EVC_RDMs=stack), variable="IT_RDM")


def test_a_vector_of_suitable_length_does_not_compete_with_a_stack(save, stack):
    assert read(save(rdms=stack, ages=np.arange(15.0), name="a text of 28 letters, at least")).n_rdm == 2


def test_a_file_without_rdms_is_refused_listing_what_there_is(save):
    with refused(r"no variable is an RDM.*the variables are: labels \(4, 5\)"):
        read(save(labels=np.ones((4, 5))))
    with refused(r"the variables are: title \(char\)"):
        read(save(title="only a text"))


def test_a_variable_that_is_no_rdm_is_refused_with_its_shape(save, stack):
    with refused(r"variable 'labels' must be an RDM.*got shape \(4, 5\)"):
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
    assert set(rdms.rdm_descriptors) == {"index"}


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
    with refused(r"the variables are: rdms \(empty\)"):
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


# -- cells, names, categories


@pytest.fixture
def mat(tmp_path, matlab73):
    """Write both kinds of file with texts and cells, as MATLAB does: {path of v5, path of v7.3}."""

    def write(**variables):
        cells = {key: value for key, value in variables.items() if isinstance(value, tuple)}
        matlab73(tmp_path / "v73.mat", **{key: value for key, value in variables.items() if key not in cells})
        with h5py.File(tmp_path / "v73.mat", "r+") as file:
            for key, value in cells.items():
                cell73(file, file, key, value)
        plain = {key: struct_array(v) if isinstance(v, list) else cell5(v) for key, v in variables.items()}
        savemat(tmp_path / "v5.mat", plain)
        return tmp_path / "v5.mat", tmp_path / "v73.mat"

    return write


def cell5(value):
    if not isinstance(value, tuple):
        return value
    made = np.empty((1, len(value)), dtype=object)
    made[0] = value
    return made


def cell73(file, group, key, elements):
    """Write a cell array: references to its elements."""
    store = file.require_group("#refs#")
    held = []
    for index, element in enumerate(elements):
        is_text = isinstance(element, str)
        data = [[ord(letter)] for letter in element] if is_text else np.asarray(element).T
        held.append(store.create_dataset(f"{key}_{index}", data=np.array(data, dtype=np.uint16 if is_text else None)))
        held[-1].attrs["MATLAB_class"] = np.bytes_("char" if is_text else "double")
    made = group.create_dataset(key, data=np.array([[item.ref] for item in held], dtype=h5py.ref_dtype))
    made.attrs["MATLAB_class"] = np.bytes_("cell")


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_a_cell_array_of_texts_names_the_conditions(mat, stack, kind):
    path = mat(data=stack, labels=("cat", "dog", "car", "tree"), kinds=np.array([[1.0, 1, 2, 2.5]]))[kind]
    rdms = read(path, variable="data", names_variable="labels", category_variable="kinds")
    assert names(rdms) == ("cat", "dog", "car", "tree")
    assert rdms.pattern_descriptors["category"] == ["1", "1", "2", "2.5"]
    np.testing.assert_array_equal(rdms.get_matrices(), stack)


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_variables_with_a_text_for_each_condition_are_descriptors_to_choose_from(mat, stack, kind):
    texts = {"stimNames": ("cat.jpg", "dog.jpg", "car.jpg", "tree.jpg"), "kinds": ("a", "a", "b", "c")}
    path = mat(data=stack, people=("s1", "s2"), **texts)[kind]
    rdms = read(path)
    assert {"stimNames", "kinds", "index"} == set(rdms.pattern_descriptors)
    assert rdms.pattern_descriptors["kinds"] == ["a", "a", "b", "c"]
    with refused("no pattern descriptor 'stimulus'.*they have: (stimNames, kinds|kinds, stimNames), index"):
        names(rdms)
    assert names(read(path, by="stimNames"), by="stimNames") == ("cat.jpg", "dog.jpg", "car.jpg", "tree.jpg")
    assert names(read(path, names_variable="stimNames")) == ("cat.jpg", "dog.jpg", "car.jpg", "tree.jpg")


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_a_variable_called_stimulus_names_conditions_only_if_asked_for(mat, stack, kind):
    path = mat(data=stack, stimulus=("a", "a", "b", "b"))[kind]
    assert set(read(path).pattern_descriptors) == {"index"}
    assert names(read(path, names=["cat", "dog", "car", "tree"])) == ("cat", "dog", "car", "tree")


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_cells_of_numbers_and_a_variable_called_stimulus_do_not_replace_the_names_asked_for(mat, stack, kind):
    path = mat(
        data=stack, stimulus=("d", "c", "b", "a"), labels=("cat", "dog", "car", "tree"), cell=(1.0, 2.0, 3.0, 4.0)
    )
    rdms = read(path[kind], variable="data", names_variable="labels")
    assert names(rdms) == ("cat", "dog", "car", "tree")
    assert "cell" not in rdms.pattern_descriptors


@pytest.mark.parametrize(("name", "region"), [("rdm_all", None), ("RDMs_group", None), ("hIT_RDMs", "hIT")])
def test_a_variable_whose_name_says_no_region_gives_none(save, stack, name, region):
    assert read(save(**{name: stack})).rdm_descriptors.get("roi") == (region and [region] * len(stack))


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_names_in_another_order_move_with_their_values(mat, stack, kind):
    order = [2, 0, 3, 1]
    path = mat(data=stack[:, order][:, :, order], labels=("car", "cat", "tree", "dog"))[kind]
    moved = select(read(path, variable="data", names_variable="labels"), ["cat", "dog", "car", "tree"])
    np.testing.assert_array_equal(moved.get_matrices(), stack)


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_the_field_of_a_struct_array_names_the_conditions(mat, stack, kind):
    stimuli = [{"name": name, "height": 3.0} for name in ("cat", "dog", "car", "tree")]
    path = mat(data=stack, stimuli=stimuli)[kind]
    assert names(read(path, names_variable="stimuli.name")) == ("cat", "dog", "car", "tree")
    assert read(path, category_variable="stimuli.height").pattern_descriptors["category"] == ["3"] * 4


def test_a_struct_of_columns_names_the_conditions(tmp_path, stack):
    labels = cell5(("cat", "dog", "car", "tree"))
    savemat(tmp_path / "v5.mat", {"data": stack, "stimuli": {"names": labels, "kind": np.arange(4.0)}})
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file.create_dataset("data", data=stack.T)
        group = file.create_group("stimuli")
        cell73(file, group, "names", ("cat", "dog", "car", "tree"))
        group.create_dataset("kind", data=np.arange(4.0)[:, None])
    for path in (tmp_path / "v5.mat", tmp_path / "v73.mat"):
        rdms = read(path, names_variable="stimuli.names", category_variable="stimuli.kind")
        assert names(rdms) == ("cat", "dog", "car", "tree")
        assert rdms.pattern_descriptors["category"] == ["0", "1", "2", "3"]


def test_a_char_matrix_names_the_conditions(tmp_path, stack):
    lines = ["cat ", "dog ", "car ", "tree"]
    savemat(tmp_path / "v5.mat", {"data": stack, "labels": np.array(lines)})
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file.create_dataset("data", data=stack.T)
        codes = np.array([list(map(ord, line)) for line in lines], dtype=np.uint16)
        file.create_dataset("labels", data=codes.T).attrs["MATLAB_class"] = np.bytes_("char")
    for path in (tmp_path / "v5.mat", tmp_path / "v73.mat"):
        assert names(read(path, names_variable="labels")) == ("cat", "dog", "car", "tree")


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
@pytest.mark.parametrize("place", ["title", "text", "stimuli", "stimuli.image", "stimuli.nothing", "mixed", "data"])
def test_what_holds_no_name_for_each_condition_is_refused(mat, stack, kind, place):
    image = [{"image": np.ones((2, 2)), "name": "a"}, {"image": np.zeros((2, 2)), "name": "b"}]
    path = mat(data=stack, title="x", text=np.ones((2, 2)), stimuli=image, mixed=("a", np.ones((2, 2))))[kind]
    with refused(f"'{place}' must hold one text or number for each condition: a cell array of texts"):
        read(path, variable="data", names_variable=place)


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_names_that_do_not_fit_are_refused(mat, stack, kind):
    path = mat(data=stack, three=("a", "b", "c"), twice=("a", "b", "c", "a"))[kind]
    with refused("3 names were given for the 4 conditions"):
        read(path, variable="data", names_variable="three")
    with refused(r"\['a'\] occur more than once"):
        read(path, variable="data", names_variable="twice")
    with refused("3 categories were given for 4 conditions"):
        read(path, variable="data", category_variable="three")
    with refused("variable 'thre' is not known; nearest: 'three'"):
        read(path, variable="data", names_variable="thre")


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_a_cell_array_of_rdms_is_read(mat, stack, kind):
    rdms = read(mat(IT_RDMs=(stack[0], stack[1]))[kind])
    np.testing.assert_array_equal(rdms.get_matrices(), stack)
    assert rdms.rdm_descriptors["roi"] == ["IT", "IT"]
    assert "subject" not in rdms.rdm_descriptors


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_a_variable_of_texts_asked_for_as_rdms_is_refused(mat, stack, kind):
    with refused(r"variable 'labels' must hold an RDM: it is a MATLAB cell"):
        read(mat(data=stack, labels=("a", "b"))[kind], variable="labels")


# -- patterns


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_patterns_are_read_where_they_are_asked_for(mat, kind):
    betas = np.random.default_rng(0).normal(size=(4, 7))
    runs = np.array([[1.0], [1], [2], [2]])
    path = mat(betas=betas, labels=("cat", "dog", "cat", "dog"), runs=runs)[kind]
    data = read(path, patterns=True, names_variable="labels", run_variable="runs", category_variable="labels")
    assert type(data) is Dataset
    np.testing.assert_array_equal(data.measurements, betas)
    assert data.obs_descriptors["stimulus"] == data.obs_descriptors["category"] == ["cat", "dog", "cat", "dog"]
    assert data.obs_descriptors["run"] == ["1", "1", "2", "2"]
    assert read(path, patterns=True, variable="betas", axes="last").measurements.shape == (7, 4)


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_patterns_whose_columns_are_as_many_as_the_names_are_turned(mat, kind):
    betas = np.random.default_rng(0).normal(size=(7, 3))
    data = read(mat(betas=betas, labels=("a", "b", "c"))[kind], patterns=True, names_variable="labels")
    np.testing.assert_array_equal(data.measurements, betas.T)


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_patterns_that_leave_something_open_are_refused(mat, stack, kind):
    path = mat(one=np.ones((3, 3)), two=np.ones((3, 5)), three=stack, labels=("a", "b", "c"))[kind]
    with refused(r"choose the variable of the patterns with variable=: one \(3, 3\), two \(3, 5\)$"):
        read(path, patterns=True)
    with refused(r"variable 'one' has shape \(3, 3\), and either axis could be the conditions"):
        read(path, patterns=True, variable="one", names_variable="labels")
    with refused("3 values were given as 'stimulus' for the 5 observations of variable 'two'"):
        read(path, patterns=True, variable="two", names_variable="labels", axes="last")
    with refused(r"variable 'three' must hold real patterns .* of shape \(2, 4, 4\)"):
        read(path, patterns=True, variable="three")
    with refused("variable 'labels' must hold real patterns .* got a MATLAB cell"):
        read(path, patterns=True, variable="labels")
    with refused("axes of variable 'two' with shape .* 'rows' is not known"):
        read(path, patterns=True, variable="two", axes="rows")
    with refused("variable 'tow' is not known; nearest: 'two'"):
        read(path, patterns=True, variable="tow")
    with refused("run_variable='labels' is only for patterns; use patterns=True"):
        read(path, variable="one", run_variable="labels")
    with refused("3 categories were given for 5 conditions"):
        read(path, patterns=True, variable="two", axes="last", category_variable="labels")


@pytest.fixture
def deep(tmp_path, stack):
    """Write structs in structs as either kind of file: {path of v5, path of v7.3}."""
    betas = np.random.default_rng(0).normal(size=(4, 7))
    array = struct_array([{"RDM": stack[0]}, {"RDM": stack[1]}])
    labels = cell5(("cat", "dog", "car", "tree"))
    subject = {"it": {"RDM": stack, "name": "IT"}, "rdm": stack[0], "betas": betas, "labels": labels, "many": array}
    savemat(tmp_path / "v5.mat", {"results": {"s1": subject, "title": "x"}})
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        group = file.create_group("results/s1")
        group["it/RDM"], group["rdm"], group["betas"] = stack.T, stack[0].T, betas.T
        name = group["it"].create_dataset("name", data=np.array([[ord(letter)] for letter in "IT"], dtype=np.uint16))
        name.attrs["MATLAB_class"] = np.bytes_("char")
        cell73(file, group, "labels", ("cat", "dog", "car", "tree"))
        held = [file.create_dataset(f"#refs#/many_{index}", data=square.T) for index, square in enumerate(stack)]
        group["many/RDM"] = np.array([item.ref for item in held], dtype=h5py.ref_dtype)
    return tmp_path / "v5.mat", tmp_path / "v73.mat"


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_fields_of_structs_in_structs_are_read(deep, stack, kind):
    rdms = read(deep[kind], variable="results.s1.rdm", names_variable="results.s1.labels")
    np.testing.assert_array_equal(rdms.get_matrices(), stack[:1])
    assert (names(rdms), list(rdms.rdm_descriptors)) == (("cat", "dog", "car", "tree"), ["index"])
    struct = read(deep[kind], variable="results.s1.it")
    np.testing.assert_array_equal(struct.get_matrices(), stack)
    assert struct.rdm_descriptors["name"] == ["IT", "IT"]
    plain = read(deep[kind], variable="results.s1.it.RDM")
    np.testing.assert_array_equal(plain.get_matrices(), stack)
    array = read(deep[kind], variable="results.s1.many")
    np.testing.assert_array_equal(array.get_matrices(), stack)
    patterns = read(deep[kind], patterns=True, variable="results.s1.betas", names_variable="results.s1.labels")
    np.testing.assert_array_equal(patterns.measurements, np.random.default_rng(0).normal(size=(4, 7)))
    assert patterns.obs_descriptors["stimulus"] == ["cat", "dog", "car", "tree"]


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_fields_that_are_not_there_are_refused_with_those_that_are(deep, kind):
    with refused(r"the variables are: results .struct.; a field of a struct is given as variable='results.field'"):
        read(deep[kind])
    with refused(r"choose the variable of the patterns .* is given as variable='results.field'"):
        read(deep[kind], patterns=True)
    with refused("field 's2' is not known; nearest: 's1'"):
        read(deep[kind], variable="results.s2.rdm")
    with refused("field 'x' is not known"):
        read(deep[kind], variable="results.s1.rdm.x")
    with refused("'RDM' is a field of a struct array of 2 elements, of which none is chosen; give the array"):
        read(deep[kind], variable="results.s1.many.RDM")
    with refused("variable 'result' is not known; nearest: 'results'"):
        read(deep[kind], variable="result.s1")


def test_a_field_that_is_a_text_is_refused(deep):
    with refused("variable 'results.title' must hold an RDM: it is a MATLAB char without numbers"):
        read(deep[0], variable="results.title")


def test_a_field_says_its_region_as_a_variable_does(tmp_path, stack):
    savemat(tmp_path / "rdms.mat", {"results": {"IT_RDMs": stack}})
    assert read(tmp_path / "rdms.mat", variable="results.IT_RDMs").rdm_descriptors["roi"] == ["IT", "IT"]


@pytest.mark.parametrize("elements", [1, 2])
def test_the_field_may_be_called_rdm_in_small_letters(save, stack, elements):
    rdms = read(save(RDMs=[{"rdm": square, "name": "V1"} for square in stack[:elements]]))
    np.testing.assert_array_equal(rdms.get_matrices(), stack[:elements])
    assert rdms.rdm_descriptors["name"] == ["V1"] * elements


def test_more_axes_are_read_by_their_names(save):
    rng = np.random.default_rng(0)
    squares = np.array([[squareform(rng.uniform(0.1, 1, 6)) for _ in range(3)] for _ in range(2)])
    path = save(IT_RDMs=squares.transpose(2, 3, 0, 1), ages=np.ones((2, 2)))
    with refused("if one has more axes, name them: axes='conditions,conditions,roi,subject'"):
        read(path)
    with refused(r"got shape \(4, 4, 2, 3\); name its axes: axes='conditions,conditions,roi,subject'"):
        read(path, variable="IT_RDMs")
    for variable in (None, "IT_RDMs"):
        rdms = read(path, axes="conditions,conditions,session,subject", variable=variable)
        assert rdms.rdm_descriptors["roi"] == ["IT"] * 6
        for square, session, subject in zip(
            rdms.get_matrices(), rdms.rdm_descriptors["session"], rdms.rdm_descriptors["subject"], strict=True
        ):
            np.testing.assert_array_equal(square, squares[int(session) - 1, int(subject) - 1])
    named = read(path, axes="conditions,conditions,roi,x", variable="IT_RDMs").rdm_descriptors
    assert named["roi"] == ["1", "1", "1", "2", "2", "2"]
    assert "subject" not in named


def test_patterns_with_an_axis_of_runs_are_read(save):
    patterns = np.random.default_rng(0).normal(size=(4, 7, 3))
    path = save(betas=patterns, other=np.ones((2, 2)))
    data = read(path, patterns=True, axes="conditions,channels,run", names=["cat", "dog", "car", "tree"] * 3)
    assert data.obs_descriptors["run"] == ["1"] * 4 + ["2"] * 4 + ["3"] * 4
    np.testing.assert_array_equal(data.measurements[5], patterns[1, :, 1])


@pytest.mark.parametrize("kind", ["v5", "v7.3"])
def test_complex_numbers_are_refused_in_words(tmp_path, stack, kind):
    path = tmp_path / "complex.mat"
    if kind == "v5":
        savemat(path, {"RDM": stack[0] + 0j})
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            parts = np.zeros((4, 4), dtype=[("real", "f8"), ("imag", "f8")])
            parts["real"] = stack[0]
            file.create_dataset("RDM", data=parts).attrs["MATLAB_class"] = np.bytes_("double")
    with refused("variable 'RDM' holds complex numbers, but dissimilarities are real; save its real"):
        read(path)
    with refused("variable 'RDM' must hold real patterns .* got complex128"):
        read(path, patterns=True)


@pytest.mark.parametrize("kind", [0, 1], ids=["v5", "v7.3"])
def test_names_that_are_missing_are_refused(mat, stack, kind):
    path = mat(data=stack, numbers=np.array([[1.0, np.nan, 3, 4]]))[kind]
    with refused("1 of 4 values of variable 'numbers' are missing"):
        read(path, variable="data", names_variable="numbers")


# -- files that promise too much, or point elsewhere


def test_a_variable_of_v73_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path):
    with h5py.File(tmp_path / "huge.mat", "w") as file:
        file.create_dataset("rdms", shape=(1000, 10**5, 10**5), dtype="f8", chunks=(1, 1000, 1000))
    with refused("variable '/rdms' has shape .*, 80000000000000 bytes, but the file stores 0 of them"):
        read(tmp_path / "huge.mat", axes="last")


def test_a_variable_of_v5_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path, stack):
    savemat(tmp_path / "huge.mat", {"rdm": stack[0]})
    content = (tmp_path / "huge.mat").read_bytes()
    sizes = np.array([4, 4], dtype="<i4").tobytes()
    assert content.count(sizes) == 1
    (tmp_path / "huge.mat").write_bytes(content.replace(sizes, np.array([10**9, 10**9], dtype="<i4").tobytes()))
    with refused("variable 'rdm' declares 1000000000000000000 bytes, more than its"):
        read(tmp_path / "huge.mat")


def element(kind, data=b""):
    """Give an element of a v5 file: its tag, and its data filled up to 8 bytes."""
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(of_class, *data, flags=0, axes=(1, 1)):
    head = [
        element(6, struct.pack("<II", of_class | flags, 0)),
        element(5, struct.pack(f"<{len(axes)}i", *axes)),
        element(1, b"x"),
    ]
    return element(14, b"".join([*head, *data]))


NUMBER = matrix(6, element(9, bytes(8)))


def nested(depth):
    made = NUMBER
    for _ in range(depth):
        made = matrix(1, made)
    return made


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (element(9, bytes(8)), "there is a variable of type 9 at byte 136, which does not belong there"),
        (NUMBER + bytes(4), "half a tag at byte"),
        (struct.pack("<II", 14, 1000), "an element of 1000 bytes at byte 128"),
        (matrix(6, struct.pack("<HHI", 9, 5, 0)), "an element of 5 bytes"),
        (element(14, element(9, bytes(8))), "a matrix without its class"),
        (nested(102), "a matrix in more than 100 others"),
        (matrix(6, element(77, bytes(8))), r"a matrix of class 6 with elements of types \[6, 5, 1, 77\]"),
        (matrix(6, element(9, bytes(8)), flags=0x800), r"class 6 with elements of types \[6, 5, 1, 9\]"),
        (matrix(4, element(9, bytes(8))), r"class 4 with elements of types \[6, 5, 1, 9\]"),
        (matrix(5, element(5, bytes(8))), r"class 5 with elements of types \[6, 5, 1, 5\]"),
        (matrix(1, element(9, bytes(8))), r"class 1 with elements of types \[6, 5, 1, 9\]"),
        (matrix(1, NUMBER, axes=(2**30, 2**30)), r"class 1 with elements of types \[6, 5, 1, 14\]"),
        (matrix(2, element(5, b"\x08\0\0\0"), element(1, b"RDM".ljust(8, b"\0")), axes=(9, 9)), "class 2"),
        (matrix(2, element(5, bytes(4)), element(1, b"RDM")), "class 2"),
        (matrix(17, element(99)), "class 17"),
        (matrix(6, element(9, bytes(8)), axes=(-1, 1)), "class 6"),
        (matrix(4, element(16, b"x"), axes=(1,)), "class 4"),
    ],
)
def test_tags_that_would_crash_scipy_are_refused(tmp_path, content, words):
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "bad.mat").write_bytes(header + content)
    with refused(words):
        read(tmp_path / "bad.mat")


def test_tags_of_every_kind_that_scipy_writes_pass(tmp_path, stack):
    cells = cell5(("cat", np.array([[1 + 2j]]), cell5(("dog",)), np.empty((0, 0))))
    others = {"sparse": csc_array(np.eye(3)), "flag": np.array([[True]]), "text": "abc", "none": np.empty((0, 3))}
    nested_struct = {"a": {"b": np.eye(2), "c": "text"}, "d": cells}
    variables = {"rdm": stack[0], "cells": cells, "deep": nested_struct, "array": struct_array([{"x": 1}, {"x": 2}])}
    for compressed in (False, True):
        savemat(tmp_path / "all.mat", variables | others, do_compression=compressed)
        assert read(tmp_path / "all.mat", variable="rdm").n_rdm == 1


def test_links_into_other_files_are_not_followed(tmp_path, stack):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["rdm"] = stack[0]
    np.save(tmp_path / "raw.npy", stack[0])
    with h5py.File(tmp_path / "links.mat", "w") as file:
        file["outside"] = h5py.ExternalLink("other.h5", "rdm")
        file["around"] = h5py.SoftLink("/outside")
    with refused("the variables are: none"):
        read(tmp_path / "links.mat")
    with h5py.File(tmp_path / "links.mat", "r+") as file:
        file.create_dataset("rdm", (4, 4), "f8", external=[(str(tmp_path / "raw.npy"), 128, 128)])
    with refused("variable '/rdm' keeps its values in other files"):
        read(tmp_path / "links.mat")


def test_a_virtual_dataset_is_not_followed(tmp_path, stack):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["rdm"] = stack[0]
    layout = h5py.VirtualLayout((4, 4), "f8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "rdm", (4, 4))
    with h5py.File(tmp_path / "virtual.mat", "w") as file:
        file.create_virtual_dataset("rdm", layout)
    with refused("keeps its values in other files"):
        read(tmp_path / "virtual.mat")


def test_a_cell_that_holds_itself_is_refused(tmp_path):
    with h5py.File(tmp_path / "loop.mat", "w") as file:
        made = file.create_dataset("labels", (1,), h5py.ref_dtype)
        made[0] = made.ref
        made.attrs["MATLAB_class"] = np.bytes_("cell")
        file["rdm"] = 1 - np.eye(4)
    with refused("'labels' must hold one text"):
        read(tmp_path / "loop.mat", names_variable="labels")


def test_fields_of_a_struct_array_with_different_numbers_of_elements_are_refused(tmp_path, stack):
    with h5py.File(tmp_path / "ragged.mat", "w") as file:
        group = file.create_group("RDMs")
        held = [file.create_dataset(f"#refs#/{index}", data=square) for index, square in enumerate(stack)]
        group["RDM"] = np.array([item.ref for item in held], dtype=h5py.ref_dtype)
        group["name"] = np.array([held[0].ref] * 3, dtype=h5py.ref_dtype)
    with refused(r"the fields of struct '/RDMs' have different numbers of elements: \[2, 3\]"):
        read(tmp_path / "ragged.mat")


# -- what the 92 images show


ANIMATE = ("human bodypart", "human face", "nonhuman bodypart", "nonhuman face")


@pytest.fixture
def monkey_and_human(kriegeskorte92):
    path = kriegeskorte92 / "Kriegeskorte_Neuron2008_supplementalData.mat"
    return read(path, category_variable="stimuli_92objs.category")


def within_and_between(pairs, labels):
    i, j = np.triu_indices(len(labels), 1)
    same = np.array(labels)[i] == np.array(labels)[j]
    return pairs[same].mean(), pairs[~same].mean()


def test_the_92_images_come_with_their_categories(monkey_and_human):
    category = monkey_and_human.pattern_descriptors["category"]
    assert {name: category.count(name) for name in dict.fromkeys(category)} == {
        **dict.fromkeys(ANIMATE, 12),
        "natural inanimate": 23,
        "artificial inanimate": 21,
    }


def test_categories_and_animacy_structure_human_and_monkey_it(monkey_and_human):
    category = monkey_and_human.pattern_descriptors["category"]
    animacy = [name in ANIMATE for name in category]
    monkey, human = monkey_and_human.dissimilarities
    assert within_and_between(human, category) == pytest.approx((0.7854, 0.8611), abs=1e-4)
    assert within_and_between(human, animacy) == pytest.approx((0.7945, 0.9004), abs=1e-4)
    assert within_and_between(monkey, category) == pytest.approx((0.9226, 1.0110), abs=1e-4)
    assert within_and_between(monkey, animacy) == pytest.approx((0.9569, 1.0337), abs=1e-4)


def test_the_category_labels_stand_in_the_order_of_the_model_rdms(kriegeskorte92, monkey_and_human):
    """Labels from one file make the animacy RDM of another exactly: neither is shifted against the conditions."""
    animacy = np.array([name in ANIMATE for name in monkey_and_human.pattern_descriptors["category"]])
    models = read(kriegeskorte92 / "92_modelRDMs.mat")
    model = models.get_matrices()[models.rdm_descriptors["name"].index("animacy")]
    np.testing.assert_array_equal(model, animacy[:, None] != animacy)


def test_monkey_and_human_it_agree(monkey_and_human):
    monkey, human = monkey_and_human.dissimilarities
    assert np.corrcoef(monkey, human)[0, 1] == pytest.approx(0.49, abs=0.005)
    assert spearmanr(monkey, human).statistic == pytest.approx(0.4389, abs=1e-4)


@pytest.mark.parametrize(
    ("source", "file", "roi", "ceiling"),
    [
        ("kriegeskorte92", "92_brainRDMs.mat", "hIT", (0.3245, 0.5398)),
        ("kriegeskorte92", "92_behavRDMs.mat", "simJudge", (0.5718, 0.6346)),
        ("algonauts92", "target_fmri.mat", "EVC", (0.2488, 0.3998)),
        ("algonauts92", "target_fmri.mat", "IT", (0.4593, 0.5492)),
    ],
)
def test_noise_ceilings_over_subjects_as_read(request, source, file, roi, ceiling):
    stacks = {"axes": "subject,conditions,conditions"} if source == "algonauts92" else {}
    rdms = read(request.getfixturevalue(source) / file, **stacks).subset("roi", roi)
    assert boot_noise_ceiling(rdms, method="corr", rdm_descriptor="subject") == pytest.approx(ceiling, abs=1e-4)
