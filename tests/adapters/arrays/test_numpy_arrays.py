"""NumPy files: every layout, names and labels, and no pickles."""

from __future__ import annotations

import zipfile

import h5py
import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from scipy.spatial.distance import squareform

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import names
from brainrdl.rdms.subjects import groups
from brainrdl.readers.reading import find_readers
from brainrdl.testing.file_readers import check_reader
from data_adapters._shared.arrays import npy_array
from data_adapters.arrays import numpy_arrays
from data_adapters.arrays.numpy_arrays import READER

CONDITIONS = ["cat", "dog", "car", "tree"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def npz(tmp_path):
    def write(*arrays, **named):
        np.savez(tmp_path / "rdms.npz", *arrays, **named)
        return tmp_path / "rdms.npz"

    return write


@pytest.mark.parametrize("layout", ["square", "stack", "condensed", "condensed stack"])
def test_every_layout_of_npy_is_read(tmp_path, stack, layout):
    condensed = np.stack([squareform(square) for square in stack])
    arrays = {"square": stack[0], "stack": stack, "condensed": condensed[0], "condensed stack": condensed}
    np.save(tmp_path / "rdms.npy", arrays[layout])
    rdms = read(tmp_path / "rdms.npy")
    np.testing.assert_array_equal(rdms.dissimilarities, condensed[: rdms.n_rdm])
    assert rdms.n_rdm == (2 if "stack" in layout else 1)
    assert list(rdms.pattern_descriptors) == ["index"]


@pytest.mark.parametrize("key", ["rdms", "rdm", "anything"])
def test_npz_with_names_and_labels_is_read(npz, stack, key):
    rdms = read(npz(**{key: stack}, names=CONDITIONS, subjects=["s1", "s2"], roi="IT"))
    np.testing.assert_array_equal(rdms.get_matrices(), stack)
    assert names(rdms) == tuple(CONDITIONS)
    assert rdms.rdm_descriptors["subject"] == ["s1", "s2"]
    assert rdms.rdm_descriptors["roi"] == ["IT", "IT"]


def test_npz_names_may_be_bytes_or_numbers(npz, stack):
    rdms = read(npz(rdms=stack, names=np.array(CONDITIONS, dtype="S"), subjects=[1, 2]))
    assert names(rdms) == tuple(CONDITIONS)
    assert rdms.rdm_descriptors["subject"] == ["1", "2"]


def test_a_single_array_without_key_is_read(npz, stack):
    assert read(npz(stack)).n_rdm == 2


def test_variable_chooses_among_arrays(npz, stack):
    path = npz(v1=stack, it=2 * stack)
    with refused(r"choose the array of the RDMs with variable=: \['v1', 'it'\]"):
        read(path)
    np.testing.assert_array_equal(read(path, variable="it").get_matrices(), 2 * stack)
    with refused("variable 'itt' is not known; nearest: 'it'"):
        read(path, variable="itt")


def test_two_usual_keys_at_once_are_refused(npz, stack):
    with refused(r"variable=: \['rdms', 'rdm'\]"):
        read(npz(rdms=stack, rdm=stack))


def test_npz_with_labels_only_is_refused(npz):
    with refused(r"variable=: \['names'\]"):
        read(npz(names=CONDITIONS))


def test_a_label_may_be_the_array_chosen(npz, stack):
    assert read(npz(roi=stack, names=CONDITIONS), variable="roi").n_rdm == 2


def test_a_wrong_number_of_labels_is_refused(npz, stack):
    with refused("array 'subjects' has 3 values for 2 RDMs"):
        read(npz(rdms=stack, subjects=["a", "b", "c"]))


def test_a_wrong_number_of_names_is_refused(npz, stack):
    with refused("3 names were given for the 4 conditions of array 'rdms'"):
        read(npz(rdms=stack, names=CONDITIONS[:3]))


def test_an_unsound_rdm_is_refused_by_its_array(npz, stack):
    stack[1, 2, 1] = 9
    with refused(r"rdms.npz' \(reader 'numpy'\): RDM 1 \(of 2\) in array 'rdms' is not symmetric"):
        read(npz(rdms=stack))


def test_objects_in_npy_are_refused(tmp_path):
    np.save(tmp_path / "rdms.npy", np.array([{}, 1, 2], dtype=object), allow_pickle=True)
    with refused(r"\(reader 'numpy'\): array 'rdms.npy' holds Python objects, that is a pickle, and loading"):
        read(tmp_path / "rdms.npy")


def test_objects_in_npz_are_refused(npz, stack):
    with refused("array 'names' holds Python objects, .* loading one could run any code .* texts with dtype=str"):
        read(npz(rdms=stack, names=np.array(CONDITIONS, dtype=object)))


def test_a_pickle_by_another_name_is_refused(tmp_path, stack):
    stack.dump(tmp_path / "rdms.npy")
    with refused("is a pickle"):
        read(tmp_path / "rdms.npy")


def test_a_file_that_is_no_npy_at_all_is_refused_as_the_pickle_it_may_be(tmp_path):
    (tmp_path / "rdms.npy").write_bytes(b"just text")
    with refused("pickle"):
        read(tmp_path / "rdms.npy")


def test_other_files_in_the_zip_are_passed_over(npz, stack):
    path = npz(rdms=stack)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("README.txt", "hello")
    assert read(path).n_rdm == 2


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.npy").touch()
    with refused(r"empty.npy' \(reader 'numpy'\): the file is empty"):
        read(tmp_path / "empty.npy")


def test_the_reader_keeps_the_contract(npz, stack):
    check_reader(READER, npz(rdms=stack, names=CONDITIONS))


# -- patterns


def test_patterns_are_read_where_they_are_asked_for(npz):
    patterns = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float16)
    path = npz(patterns=patterns, names=["cat", "dog", "cat", "dog"], runs=[1, 1, 2, 2], subjects=["s1"], roi="IT")
    data = read(path, patterns=True)
    assert type(data) is Dataset
    np.testing.assert_array_equal(data.measurements, patterns)
    assert data.measurements.dtype == np.float32
    assert data.obs_descriptors["stimulus"] == ["cat", "dog", "cat", "dog"]
    assert data.obs_descriptors["run"] == ["1", "1", "2", "2"]
    assert (data.descriptors["subject"], data.descriptors["roi"]) == ("s1", "IT")


def test_patterns_of_npy_have_a_condition_a_row(tmp_path):
    np.save(tmp_path / "patterns.npy", np.arange(28.0).reshape(4, 7))
    data = read(tmp_path / "patterns.npy", patterns=True, names=CONDITIONS)
    assert data.obs_descriptors["stimulus"] == CONDITIONS
    assert data.measurements[1].tolist() == list(range(7, 14))
    assert read(tmp_path / "patterns.npy", patterns=True, axes="last").measurements.shape == (7, 4)
    with refused(r"4 names were given .* for 7 conditions"):
        read(tmp_path / "patterns.npy", patterns=True, axes="last", names=CONDITIONS)


def test_names_in_the_file_say_which_axis_of_patterns_counts_them(npz):
    patterns = np.random.default_rng(0).normal(size=(7, 4))
    np.testing.assert_array_equal(read(npz(betas=patterns, names=CONDITIONS), patterns=True).measurements, patterns.T)
    with refused(r"array 'betas' has shape \(4, 4\), and either axis could be the conditions; give axes='first'"):
        read(npz(betas=patterns[:4], names=CONDITIONS), patterns=True)


def test_patterns_that_are_none_are_refused(npz, stack):
    with refused(r"array 'arr_0' must hold real patterns .* got float64 of shape \(2, 4, 4\)"):
        read(npz(stack), patterns=True)
    with refused("5 values were given as 'run' for the 4 observations of array 'arr_0'"):
        read(npz(stack[0], runs=[1, 2, 3, 4, 5]), patterns=True)
    with refused(r"choose the array of the patterns with variable=: \['v1', 'it'\]"):
        read(npz(v1=stack[0], it=stack[1]), patterns=True)
    with refused("array 'roi' has 2 values for 1 RDMs"):
        read(npz(patterns=stack[0], roi=["V1", "IT"]), patterns=True)


def test_patterns_without_saying_so_are_refused_with_the_remedy(tmp_path):
    np.save(tmp_path / "betas.npy", np.ones((4, 7)))
    with refused(r"of shape \(4, 7\) is not square, and its length fits no number of pairs.* use patterns=True"):
        read(tmp_path / "betas.npy")
    with refused("axes='first' is only for patterns; use patterns=True"):
        read(tmp_path / "betas.npy", axes="first")


@pytest.mark.parametrize("key", ["patterns", "features", "IT_betas", "Activations", "beta"])
def test_arrays_called_patterns_are_no_rdms_unless_said(npz, tmp_path, key):
    array = np.random.default_rng(0).uniform(size=(2, 6))
    np.save(tmp_path / f"sub-01_{key}.npy", array)
    for path in (npz(**{key: array}), tmp_path / f"sub-01_{key}.npy"):
        with refused(r"of shape \(2, 6\) could hold patterns .* or condensed RDMs .* patterns=True or patterns=False"):
            read(path)
        assert read(path, patterns=True).n_obs == 2
        assert read(path, patterns=False).n_cond == 4
    assert read(npz(**{f"{key}_rdm": array})).n_rdm == 2
    assert read(npz(**{f"{key}x": array})).n_rdm == 2


def test_matrices_with_a_row_for_each_name_or_condition_are_no_rdms_unless_said(npz, tmp_path):
    several, many = np.random.default_rng(0).uniform(size=(4, 6)), np.random.default_rng(0).uniform(size=(20, 45))
    np.save(tmp_path / "data.npy", several)
    for path in (tmp_path / "data.npy", npz(data=several, names=CONDITIONS)):
        with refused("could hold patterns"):
            read(path)
        assert read(path, patterns=False).n_rdm == 4
    with refused(r"array 'data' of shape \(20, 45\) could hold patterns"):
        read(npz(data=many, names=[f"s{index}" for index in range(20)]))
    assert read(npz(data=many, names=[f"s{index}" for index in range(10)])).n_rdm == 20
    assert read(npz(data=several, subjects=CONDITIONS)).n_rdm == 4  # one of them each
    assert read(npz(data=many)).n_rdm == 20


# -- files that promise too much


def npy_of(shape, dtype="<f8", version=(1, 0)):
    """Give the beginning of a ``.npy`` file and a few numbers."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    size = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + header + bytes(64)


def test_an_array_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "rdm.npy").write_bytes(npy_of((10**6, 10**6)))
    with refused(r"array 'rdm.npy' of shape \(1000000, 1000000\) and dtype float64 needs more than the \d+ bytes"):
        read(tmp_path / "rdm.npy")
    with zipfile.ZipFile(tmp_path / "rdm.npz", "w") as archive:
        archive.writestr("rdms.npy", npy_of((10**6, 10**6)))
    with refused(r"array 'rdms' of shape \(1000000, 1000000\)"):
        read(tmp_path / "rdm.npz")


def test_a_zip_that_declares_more_than_it_can_hold_is_refused(npz, stack):
    path = npz(rdms=stack)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo("rdms.npy").file_size.to_bytes(4, "little")
    directory = content.rindex(b"PK\x01\x02")
    path.write_bytes(content[:directory] + content[directory:].replace(size, (2**31).to_bytes(4, "little")))
    with refused("the archive has [0-9]+ bytes on disk and unpacks to 2,147,483,648, more than 200 times"):
        read(path)


def test_another_version_of_the_format_is_refused(tmp_path):
    (tmp_path / "rdm.npy").write_bytes(npy_of((2, 2), version=(3, 0)))
    with refused(r"is in version \(3, 0\) of NumPy's format, expected one of \[\(1, 0\), \(2, 0\)\]"):
        read(tmp_path / "rdm.npy")
    (tmp_path / "rdm.npy").write_bytes(npy_of((2, 2), version=(2, 0))[:-32])
    with refused("needs at least 3|has 2 conditions"):
        read(tmp_path / "rdm.npy")


def test_only_the_array_asked_for_is_loaded(npz, stack, monkeypatch):
    loaded = []
    monkeypatch.setattr(numpy_arrays, "npy_array", lambda path, key: loaded.append(key) or npy_array(path, key))
    read(npz(v1=stack, it=stack, names=CONDITIONS), variable="it")
    assert sorted(loaded) == ["it", "names"]


def test_whole_numbers_in_three_columns_are_left_to_the_reader_of_triplets(tmp_path):
    np.save(tmp_path / "trials.npy", np.array([[0, 1, 2], [1, 2, 3], [0, 2, 3], [3, 1, 0]]))
    assert not READER.sniff(tmp_path / "trials.npy")
    np.save(tmp_path / "pairs.npy", np.array([[0.0, 1, 2], [1, 2, 3], [0, 2, 3], [3, 1, 0]]))
    assert READER.sniff(tmp_path / "pairs.npy")


def test_names_are_texts_without_a_point_and_none_is_missing(npz, stack):
    assert names(read(npz(rdms=stack, names=np.array([1.0, 2, 10, 2.5])))) == ("1", "2", "10", "2.5")
    assert read(npz(rdms=stack, subjects=np.array([1.0, 2]))).rdm_descriptors["subject"] == ["1", "2"]
    with refused("1 of 4 values of array 'names' are missing"):
        read(npz(rdms=stack, names=np.array([1.0, np.nan, 10, 2.5])))


def test_names_may_stand_under_another_key(npz, stack):
    assert names(read(npz(it=stack, stimuli=CONDITIONS), names_variable="stimuli")) == tuple(CONDITIONS)
    with refused("names_variable 'stimulus' is not known; nearest: 'stimuli'"):
        read(npz(it=stack, stimuli=CONDITIONS), names_variable="stimulus")


# -- more axes


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (2, 1, 3, 0)])
def test_axes_by_name_tell_rois_and_subjects_apart(tmp_path, order):
    rng = np.random.default_rng(0)
    squares = np.array([[squareform(rng.uniform(0.1, 1, 6)) for _ in range(3)] for _ in range(2)])  # roi, subject, n, n
    axes = np.array(["roi", "subject", "conditions", "conditions"])
    np.save(tmp_path / "rdms.npy", squares.transpose(order))
    rdms = read(tmp_path / "rdms.npy", axes=",".join(axes[list(order)]))
    assert (rdms.n_rdm, rdms.n_cond) == (6, 4)
    for square, roi, subject in zip(
        rdms.get_matrices(), rdms.rdm_descriptors["roi"], rdms.rdm_descriptors["subject"], strict=True
    ):
        np.testing.assert_array_equal(square, squares[int(roi) - 1, int(subject) - 1])


def test_axes_that_do_not_fit_are_refused(tmp_path, stack):
    np.save(tmp_path / "rdms.npy", np.moveaxis(stack, 0, -1))
    with refused(r"of shape \(4, 4, 2\) is not a stack of RDMs .* axes='conditions,conditions,roi,subject'"):
        read(tmp_path / "rdms.npy")
    assert read(tmp_path / "rdms.npy", axes="conditions, conditions, subject").rdm_descriptors["subject"] == ["1", "2"]
    with refused(r"axes='conditions,conditions,roi,subject' names 4 axes, but array .* has shape \(4, 4, 2\)"):
        read(tmp_path / "rdms.npy", axes="conditions,conditions,roi,subject")
    with refused("must name 'conditions' and 'conditions', and each other axis by another name"):
        read(tmp_path / "rdms.npy", axes="condition,condition,subject")
    np.save(tmp_path / "rdms.npy", np.zeros((3, 3, 2, 2)))
    with refused(r"\['roi'\] occur more than once in axes="):
        read(tmp_path / "rdms.npy", axes="conditions,conditions,roi,roi")


def test_patterns_with_an_axis_of_runs_are_observations_of_each(npz):
    patterns = np.random.default_rng(0).normal(size=(4, 7, 3))  # conditions, channels, runs
    data = read(npz(patterns=patterns, names=CONDITIONS), patterns=True, axes="conditions,channels,run")
    assert data.measurements.shape == (12, 7)
    for values, name, run in zip(
        data.measurements, data.obs_descriptors["stimulus"], data.obs_descriptors["run"], strict=True
    ):
        np.testing.assert_array_equal(values, patterns[CONDITIONS.index(name), :, int(run) - 1])
    turned = read(npz(patterns=patterns.T, names=CONDITIONS), patterns=True, axes="run,channels,conditions")
    np.testing.assert_array_equal(turned.measurements, data.measurements)
    with refused(
        r"got float64 of shape \(4, 7, 3\); if there are more axes, name them: axes='conditions,channels,run'"
    ):
        read(npz(patterns=patterns), patterns=True)
    with refused(
        r"axes= may name conditions, channels \(or x, y and z\) and run, got \['conditions', 'channels', 'subject'\]"
    ):
        read(npz(patterns=patterns), patterns=True, axes="conditions,channels,subject")
    with refused("axes= already names the runs"):
        read(npz(patterns=patterns, runs=[1, 2, 3]), patterns=True, axes="conditions,channels,run")
    flat = read(npz(patterns=patterns[..., 0].T, names=CONDITIONS), patterns=True, axes="channels,conditions")
    np.testing.assert_array_equal(flat.measurements, patterns[..., 0])


# -- HDF5 that h5py wrote


@pytest.fixture
def h5(tmp_path):
    def write(**arrays):
        with h5py.File(tmp_path / "rdms.h5", "w") as file:
            for key, array in arrays.items():
                file[key] = array
        return tmp_path / "rdms.h5"

    return write


def takers(path):
    return [name for name, reader in find_readers().items() if reader.sniff(path)]


@pytest.mark.parametrize("key", ["rdm", "rdms", "RDM", "IT_RDMs", "rdm_it"])
@pytest.mark.parametrize(
    "labels", [CONDITIONS, np.array(CONDITIONS, dtype="S"), np.array(CONDITIONS, dtype="S")[:, None]]
)
def test_hdf5_laid_out_like_npz_is_read(h5, stack, key, labels):
    path = h5(**{key: stack, "names": labels, "subjects": [[1.0], [2.0]], "roi": "IT"})
    assert takers(path) == ["numpy"]
    rdms = read(path)
    np.testing.assert_array_equal(rdms.get_matrices(), stack)
    assert names(rdms) == tuple(CONDITIONS)
    assert (rdms.rdm_descriptors["subject"], rdms.rdm_descriptors["roi"]) == (["1", "2"], ["IT", "IT"])


def test_condensed_pairs_and_numbers_as_names_in_hdf5_are_read(h5, stack):
    rdms = read(h5(rdm=squareform(stack[0]), names=np.array([1.0, 2, 10, 3])))
    np.testing.assert_array_equal(rdms.get_matrices(), stack[:1])
    assert names(rdms) == ("1", "2", "10", "3")
    assert names(read(h5(rdm=stack[0], labels=CONDITIONS), variable="rdm", names_variable="labels")) == tuple(
        CONDITIONS
    )


def test_one_square_array_and_its_names_are_read_whatever_it_is_called(h5, stack):
    path = h5(distances=stack[0], names=CONDITIONS)
    assert takers(path) == ["numpy"]
    np.testing.assert_array_equal(read(path).get_matrices(), stack[:1])


def test_hdf5_of_other_layouts_is_left_to_other_readers(h5, stack):
    assert takers(h5(features=stack[0], names=CONDITIONS)) == ["features"]
    assert takers(h5(spikes=stack, stimulus=["x", "y"])) == ["ephys"]
    assert "numpy" not in takers(h5(layer1=np.ones((4, 7)), names=CONDITIONS))
    assert "numpy" not in takers(h5(layer1=stack[0], layer2=stack[0], names=CONDITIONS))
    assert "numpy" not in takers(h5(n_rdm=4, square=stack[0]))
    assert "numpy" not in takers(h5(distances=stack[0], names=CONDITIONS[:3]))


def test_hdf5_of_matlab_under_another_suffix_is_refused_with_the_remedy(tmp_path, matlab73, stack):
    path = matlab73(tmp_path / "v73.h5", RDMs=stack)
    with refused("the file is a MATLAB file .v7.3., whose axes are reversed; give it the suffix .mat"):
        read(path)


def test_arrays_that_are_no_names_are_refused(h5, stack):
    with refused("array 'names' must be a list of texts or numbers, it is float64 of shape"):
        read(h5(rdm=stack[0], names=np.ones((4, 2))))
    with refused("5 names were given for the 4 conditions of array 'rdm'"):
        read(h5(rdm=stack[0], names=["a", "b", "c", "d", "e"]))


def test_links_and_undeclared_sizes_in_hdf5_are_refused(h5, tmp_path, stack):
    path = h5(names=CONDITIONS)
    with h5py.File(path, "r+") as file:
        file["rdm"] = h5py.ExternalLink("other.h5", "rdm")
    with refused("no reader recognises"):
        read(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("rdm", shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000))
    with refused("array 'rdm' has shape .*, 8000000000000 bytes, but the file stores 0"):
        read(path)


def test_the_reader_keeps_the_contract_with_hdf5(h5, stack):
    check_reader(READER, h5(rdm=stack, names=CONDITIONS))


# -- what the RDMs of a stack are, and Net2Brain's files


def test_axes_name_what_a_stack_is_along_the_arrays_of_the_same_name(npz, stack):
    path = npz(rdms=stack, times=np.array([0.1, 0.2]), names=CONDITIONS)
    found = groups(read(path, axes="time,conditions,conditions"))
    assert (found.targets, found.subjects) == (("0.1", "0.2"), ("0", "0"))
    assert groups(read(path)).targets == ("0.1", "0.2")
    with refused("axis_variables= names positions along axes; name the axes with axes="):
        read(path, axis_variables={"time": "times"})
    with refused("and no rdm descriptor 'subject' says whose they are"):
        groups(read(npz(rdms=stack, names=CONDITIONS)))


def test_as_many_points_in_time_as_pairs_are_no_square(npz):
    pairs = np.random.default_rng(0).random((6, 6))
    rdms = read(npz(rdms=pairs, t=np.arange(6) * 10), axes="time,pairs", axis_variables={"time": "t"})
    np.testing.assert_array_equal(rdms.dissimilarities, pairs)
    assert rdms.rdm_descriptors["time"] == ["0", "10", "20", "30", "40", "50"]


def test_all_labels_of_rdms_are_descriptors(npz, stack):
    labels = {"layers": ["c1", "c2"], "sessions": [1, 2], "species": ["rat", "rat"], "comment": "a", "times": [1, 2, 3]}
    described = read(npz(rdms=stack, **labels)).rdm_descriptors
    kept = {key: values for key, values in described.items() if key != "index"}
    assert kept == {"layer": ["c1", "c2"], "session": ["1", "2"], "species": ["rat", "rat"], "comment": ["a", "a"]}


@pytest.mark.parametrize("suffix", ["pt", "npz"])
@pytest.mark.parametrize("known", [True, False])
def test_rdms_of_net2brain_have_their_layer_and_stimuli(tmp_path, stack, suffix, known):
    names_of = [f"{name}.jpg" for name in CONDITIONS] if known else None
    rdm = torch.from_numpy(squareform(stack[0])).float()
    held = {"rdm": rdm, "stimuli_name": names_of, "layer_name": "fc" if known else None, "meta": {"model": "resnet50"}}
    path = tmp_path / f"RDM_fc.{suffix}"
    if suffix == "pt":
        torch.save(held, path)
    else:
        np.savez(path, **held, allow_pickle=True)
    rdms = read(path)
    np.testing.assert_allclose(rdms.get_matrices()[0], stack[0], rtol=1e-6)
    assert rdms.rdm_descriptors.get("layer") == (["fc"] if known else None)
    assert list(rdms.pattern_descriptors.get("stimulus", [])) == (list(CONDITIONS) if known else [])


def test_a_single_tensor_is_an_rdm_if_it_is_square(tmp_path, stack):
    torch.save(torch.from_numpy(stack), tmp_path / "stack.pt")
    np.testing.assert_array_equal(read(tmp_path / "stack.pt", names=CONDITIONS).get_matrices(), stack)


class Callable:
    """An object whose unpickling would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_objects_in_torch_files_are_refused_and_never_built(tmp_path, stack):
    torch.save({"rdm": torch.from_numpy(stack), "x": Callable(tmp_path / "made")}, tmp_path / "bad.pt")
    with refused("other Python objects than tensors, .* could run any code"):
        read(tmp_path / "bad.pt", reader="numpy")
    assert not (tmp_path / "made").exists()


def test_torch_files_that_are_larger_inside_are_refused(tmp_path, stack):
    torch.save({"rdm": torch.zeros(1).expand(100_000, 100_000)}, tmp_path / "large.pt")
    with refused("tensor 'rdm' declares 40000000000 bytes, more than its"):
        read(tmp_path / "large.pt", reader="numpy")
    torch.save({"rdm": torch.from_numpy(stack)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with refused("is a pickle"):
        read(tmp_path / "old.pt")
    torch.save({"rdm": torch.from_numpy(stack)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    with refused("its archive is compressed, which torch.save does not do"):
        read(tmp_path / "packed.pt", reader="numpy")


def test_betas_of_glmsingle_in_hdf5_are_recognised_and_asked_about(tmp_path):
    betas = np.random.default_rng(0).normal(size=(4, 5, 6, 20))
    with h5py.File(tmp_path / "TYPED.hdf5", "w") as file:
        file["betasmd"] = betas
    with refused("is not a stack of RDMs .* if it holds patterns, use patterns=True, for a volume with axes='x,y,z,co"):
        read(tmp_path / "TYPED.hdf5")
    data = read(tmp_path / "TYPED.hdf5", patterns=True, axes="x,y,z,conditions")
    np.testing.assert_array_equal(data.measurements, betas.reshape(-1, 20).T)
    np.save(tmp_path / "betas.npy", betas)
    again = read(tmp_path / "betas.npy", patterns=True, axes="x,y,z,conditions")
    np.testing.assert_array_equal(again.measurements, data.measurements)
