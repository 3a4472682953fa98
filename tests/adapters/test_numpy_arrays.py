"""NumPy files: every layout, names and labels, and no pickles."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from brainrdl import BrainrdlError, read
from brainrdl.rdms import names
from brainrdl.testing import check_reader
from data_adapters.numpy_arrays import READER

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
    with refused(r"\(reader 'numpy'\): it holds Python objects, that is a pickle, and loading one could run any code"):
        read(tmp_path / "rdms.npy")


def test_objects_in_npz_are_refused(npz, stack):
    with refused("loading one could run any code"):
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
