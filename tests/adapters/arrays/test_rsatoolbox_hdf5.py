"""rsatoolbox's HDF5 files: everything saved comes back."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.inference import Result, load_results
from rsatoolbox.model import Model, ModelFixed, ModelInterpolate, ModelSelect, ModelWeighted

from brainrdl import BrainrdlError, RDMTeacher, read
from brainrdl._core.files import write_rdms
from brainrdl.rdms.by_name import names, select
from brainrdl.rdms.conversion import from_array, from_tensor
from brainrdl.readers.reading import find_readers
from brainrdl.testing.file_readers import check_reader
from data_adapters.arrays.rsatoolbox_hdf5 import READER

CONDITIONS = ["cat", "dog", "car", "tree"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def rdms(stack):
    return from_array(stack, CONDITIONS, measure="correlation", descriptors={"roi": ["V1", "IT"]})


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".H5"])
def test_saved_rdms_come_back(tmp_path, rdms, suffix):
    path = tmp_path / f"rdms{suffix}"
    rdms.descriptors["study"] = "one"
    rdms.save(str(path), file_type="hdf5")
    again = read(path)
    assert again == rdms
    assert (names(again), again.dissimilarity_measure) == (tuple(CONDITIONS), "correlation")


def test_names_in_any_script_come_back_from_our_own_files(tmp_path, stack):
    given = from_array(stack, ["Käse", "日本", "cat", "é"], descriptors={"roi": ["aire é", "IT"]})
    write_rdms(tmp_path / "rdms.h5", given)
    again = read(tmp_path / "rdms.h5")
    assert again == given
    assert (names(again), again.rdm_descriptors["roi"]) == (("Käse", "日本", "cat", "é"), ["aire é", "IT"])


@pytest.mark.parametrize("group", ["pattern_descriptors", "obs_descriptors"])
def test_names_of_variable_length_are_text_and_not_bytes(tmp_path, rdms, group):
    kept = (
        rdms if group == "pattern_descriptors" else Dataset(np.ones((4, 3)), obs_descriptors={"stimulus": CONDITIONS})
    )
    kept.save(str(tmp_path / "a.h5"), file_type="hdf5")
    with h5py.File(tmp_path / "a.h5", "a") as file:  # as h5py and MATLAB write lists of words
        del file[group]["stimulus"]
        file[group]["stimulus"] = ["Käse", "dog", "car", "日本"]
    assert list(getattr(read(tmp_path / "a.h5"), group)["stimulus"]) == ["Käse", "dog", "car", "日本"]


def test_rdms_without_measure_come_back(tmp_path):
    from_array([1.0, 2, 3], None).save(str(tmp_path / "rdms.h5"))
    assert read(tmp_path / "rdms.h5").dissimilarity_measure is None


@pytest.mark.parametrize("kind", [Dataset, TemporalDataset])
def test_saved_measurements_come_back(tmp_path, kind):
    values = np.random.default_rng(0).normal(size=(4, 3) if kind is Dataset else (4, 3, 2))
    kind(values, obs_descriptors={"stimulus": CONDITIONS}).save(str(tmp_path / "data.h5"))
    again = read(tmp_path / "data.h5")
    assert type(again) is kind
    np.testing.assert_array_equal(again.measurements, values)
    assert list(again.obs_descriptors["stimulus"]) == CONDITIONS


def test_a_repeated_observation_of_one_condition_is_no_duplicate(tmp_path):
    Dataset(np.ones((4, 3)), obs_descriptors={"stimulus": ["cat", "cat", "dog", "dog"]}).save(str(tmp_path / "data.h5"))
    assert read(tmp_path / "data.h5").n_obs == 4


def test_measurements_without_names_take_them(tmp_path):
    Dataset(np.ones((2, 3))).save(str(tmp_path / "data.h5"))
    assert read(tmp_path / "data.h5", names=["cat", "dog"]).obs_descriptors["stimulus"] == ["cat", "dog"]


def test_saved_rdms_are_checked(tmp_path):
    from_tensor(torch.ones(1, 3), None).save(str(tmp_path / "flat.h5"))
    with refused(r"flat.h5' \(reader 'rsatoolbox'\): RDM 0 \(of 1\) in the file is constant"):
        read(tmp_path / "flat.h5")


def test_saved_rdms_with_a_name_twice_are_refused(tmp_path, rdms):
    rdms.pattern_descriptors["stimulus"][1] = "cat"
    rdms.save(str(tmp_path / "twice.h5"))
    with refused(r"twice.h5' \(reader 'rsatoolbox'\): names \['cat'\] occur more than once"):
        read(tmp_path / "twice.h5")


def test_hdf5_of_another_layout_is_left_to_other_readers(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["voxels"] = [1.0]
    assert not READER.sniff(tmp_path / "other.h5")
    with refused(r"the file must contain 'dissimilarities' or 'measurements', got \['voxels'\]"):
        read(tmp_path / "other.h5", reader=READER)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.h5").touch()
    with refused(r"empty.h5' \(reader 'rsatoolbox'\): the file is empty"):
        read(tmp_path / "empty.h5")


def test_a_pickle_by_another_name_is_refused(tmp_path, rdms):
    with (tmp_path / "rdms.h5").open("wb") as opened:
        rdms.save(opened, file_type="pkl")
    with refused("is a pickle, and loading one could run any code"):
        read(tmp_path / "rdms.h5")


def test_the_reader_keeps_the_contract(tmp_path, rdms):
    rdms.dissimilarities[0, 0] = np.nan
    rdms.save(str(tmp_path / "rdms.h5"))
    check_reader(READER, tmp_path / "rdms.h5")


def test_the_reader_keeps_the_contract_with_measurements(tmp_path):
    Dataset(np.ones((2, 3))).save(str(tmp_path / "data.h5"))
    check_reader(READER, tmp_path / "data.h5")


@pytest.mark.parametrize("kind", ["rdms", "data"])
def test_whole_floats_are_names_without_a_point(tmp_path, stack, kind):
    numbers = np.array([1.0, 2.0, 10.0, 3.0])
    if kind == "rdms":
        from_array(stack, None).save(str(tmp_path / "a.h5"))
    else:
        Dataset(np.ones((4, 3))).save(str(tmp_path / "a.h5"))
    group = "pattern_descriptors" if kind == "rdms" else "obs_descriptors"
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file[group]["stimulus"] = numbers
    assert list(getattr(read(tmp_path / "a.h5"), group)["stimulus"]) == ["1", "2", "10", "3"]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file[group]["stimulus"][1] = np.nan
    with refused("1 of 4 values of descriptor 'stimulus' are missing"):
        read(tmp_path / "a.h5")


# -- Results


@pytest.fixture
def result(tmp_path):
    def write(*models, name="result.h5"):
        evaluations = np.random.default_rng(0).random((1, len(models), 3))
        Result(list(models), evaluations, "corr", "fixed", np.ones((2, 3)), n_rdm=3).save(str(tmp_path / name))
        return tmp_path / name

    return write


def model_rdms(n_rdms, by="stimulus", conditions=CONDITIONS, **described):
    pairs = np.random.default_rng(n_rdms).uniform(0.1, 1, (n_rdms, 6))
    return from_array(pairs, conditions, by=by, descriptors=described)


@pytest.mark.parametrize("kind", [ModelFixed, ModelSelect, ModelWeighted, ModelInterpolate])
def test_a_result_gives_the_rdms_of_its_models_as_rsatoolbox_does(result, kind):
    path = result(ModelFixed("shape", model_rdms(1)), kind("deep net", model_rdms(3, layer=["a", "b", "c"])))
    rdms = read(path)
    oracle = load_results(str(path)).models
    np.testing.assert_array_equal(
        rdms.dissimilarities, np.concatenate([model.rdm_obj.dissimilarities for model in oracle])
    )
    assert names(rdms) == tuple(oracle[0].rdm_obj.pattern_descriptors["stimulus"]) == tuple(CONDITIONS)
    assert rdms.rdm_descriptors["model"] == ["shape", "deep net 1", "deep net 2", "deep net 3"]
    assert rdms.rdm_descriptors["layer"] == ["", "a", "b", "c"]


def test_models_of_one_name_are_counted_so_that_each_rdm_is_a_target(result):
    path = result(ModelFixed("m", model_rdms(1)), ModelWeighted("m", model_rdms(2)), ModelFixed("n", model_rdms(1)))
    assert read(path).rdm_descriptors["model"] == ["m 1", "m 2", "m 3", "n"]
    assert RDMTeacher(path, target_by="model").targets == ("m 1", "m 2", "m 3", "n")
    with refused(r"\['m 1'\] occur more than once in the models of the Result, with equal names numbered"):
        read(result(*[ModelFixed(name, model_rdms(1)) for name in ("m", "m", "m 1")], name="twice.h5"))


def test_models_of_one_rdm_need_no_number(result):
    rdms = read(result(*[ModelFixed(f"m{index}", model_rdms(1)) for index in range(11)]))
    assert rdms.rdm_descriptors["model"] == [f"m{index}" for index in range(11)]
    assert set(rdms.rdm_descriptors) == {"model", "index"}


def test_conditions_of_models_are_matched_by_stimulus(result):
    first, order = model_rdms(2), ["tree", "cat", "car", "dog"]
    moved = from_array(select(first, order).dissimilarities, order)
    rdms = read(result(ModelSelect("one", first), ModelSelect("other", moved)))
    np.testing.assert_array_equal(rdms.dissimilarities[:2], rdms.dissimilarities[2:])


def test_conditions_keep_the_descriptor_that_they_have(result):
    models = [ModelFixed(name, model_rdms(n_rdms, "conds")) for name, n_rdms in (("a", 1), ("b", 2))]
    rdms = read(result(*models), by="conds")
    assert names(rdms, "conds") == tuple(CONDITIONS)
    assert "stimulus" not in rdms.pattern_descriptors


def test_a_vector_gives_conditions_without_names(result):
    path = result(ModelFixed("a", np.arange(6.0)), ModelFixed("b", np.arange(6.0)[::-1].copy()))
    rdms = read(path, names=CONDITIONS)
    assert (rdms.dissimilarities.tolist(), names(rdms)) == ([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], tuple(CONDITIONS))


def test_models_without_rdms_or_of_other_conditions_are_refused(result):
    fixed = ModelFixed("a", model_rdms(1))
    with refused("model 'empty' of the Result has no RDM; read it with rsatoolbox's load_results"):
        read(result(fixed, Model("empty"), name="1.h5"))
    strangers = [
        model_rdms(1, conditions=["cat", "dog", "car", "bush"]),
        model_rdms(1, "conds"),
        from_array(np.arange(1.0, 11), None),
        np.arange(6.0),
    ]
    for place, other in enumerate(strangers):
        with refused(
            r"models \['b', 'a'\] of the Result have different conditions, conditions \[(4|5)\].*load_results"
        ):
            read(result(fixed, ModelFixed("b", other), name=f"other{place}.h5"))
    moved = ModelFixed("b", model_rdms(1, "conds", conditions=CONDITIONS[::-1]))
    with refused("have different conditions"):  # only by "stimulus" could they be put in order
        read(result(ModelFixed("a", model_rdms(1, "conds")), moved, name="moved.h5"), by="conds")


def test_a_result_is_taken_by_this_reader_alone(result):
    path = result(ModelFixed("a", model_rdms(1)))
    assert [name for name, reader in find_readers().items() if reader.sniff(path)] == ["rsatoolbox"]
    check_reader(READER, path)


def test_a_link_into_another_file_is_not_followed(tmp_path):
    from_array([1.0, 2.0, 3.0], ["cat", "dog", "car"]).save(str(tmp_path / "other.h5"), file_type="hdf5")
    from_array([1.0, 2.0, 3.0], ["cat", "dog", "car"]).save(str(tmp_path / "rdm.h5"), file_type="hdf5")
    with h5py.File(tmp_path / "rdm.h5", "a") as file:
        file["descriptors/deep"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/dissimilarities")
    with pytest.raises(BrainrdlError, match=r"'deep' in '/descriptors' is a link into another file, '.*other.h5'"):
        read(tmp_path / "rdm.h5", reader=READER)


def test_rsatoolbox_takes_a_dataset_with_numbers_among_its_descriptors(tmp_path):
    from rsatoolbox.rdm import calc_rdm

    data = Dataset(np.eye(3), descriptors={"n_dropped_channels": 2}, obs_descriptors={"stimulus": ["a", "b", "c"]})
    data.save(str(tmp_path / "data.h5"), file_type="hdf5")
    found = read(tmp_path / "data.h5")
    assert found.descriptors == {"n_dropped_channels": 2}
    assert calc_rdm(found, descriptor="stimulus").n_cond == 3
