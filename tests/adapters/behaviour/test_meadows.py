"""Meadows' exports: rsatoolbox's own reading is the oracle, except where it would misname conditions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rsatoolbox.io.meadows import load_rdms
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import names, select
from brainrdl.testing.file_readers import check_reader
from data_adapters.arrays.matlab import READER as MATLAB
from data_adapters.behaviour import meadows
from data_adapters.behaviour.meadows import READER

STIMULI = ["beach.png", "fireplace.png", "river.png"]
PAIRS = [0.6856751985051518, 0.2181217316152998, 0.6944583733760173]
SINGLE = "Meadows_myExp_v_v1_cuddly-bunny_3_1D.mat"
MANY = "Meadows_myExp_v_v1_arrangement_1D.mat"
TREE = "Meadows_twoMaTasks_v_v1_informed-mole_tree.json"


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def mat(tmp_path):
    def write(name, **variables):
        savemat(tmp_path / name, variables)
        return tmp_path / name

    return write


@pytest.fixture
def single(mat):
    return mat(SINGLE, rdmutv=np.array([PAIRS]), stimuli=np.array(STIMULI))


def many_of(mat, first, second):
    """Two participants; the second's pairs are those of the first, moved to the second's order."""
    square = np.zeros((3, 3))
    square[np.triu_indices(3, 1)] = PAIRS
    square += square.T
    order = [first.index(name) for name in second]
    moved = square[np.ix_(order, order)][np.triu_indices(3, 1)]
    rdms = {"rdmutv_cuddly_bunny": np.array([PAIRS]), "rdmutv_informed_mole": moved[None]}
    return mat(MANY, **rdms, stimuli_cuddly_bunny=np.array(first), stimuli_informed_mole=np.array(second))


def task(name, pairs, stimuli=("beach", "fireplace", "river"), kind="multiarrange"):
    listed = [{"id": f"{index:032x}", "name": stimulus, "type": "png"} for index, stimulus in enumerate(stimuli)]
    return {"status": "finished", "task": {"name": name, "task_type": kind}, "stimuli": listed, "rdm": list(pairs)}


@pytest.fixture
def tree(tmp_path):
    def write(*tasks, name=TREE):
        info = {"status": "finished", "task": {"name": "gi1", "task_type": "info"}, "stimuli": [], "trials": []}
        (tmp_path / name).write_text(json.dumps({"token": None, "tasks": [info, *tasks]}))
        return tmp_path / name

    return write


def test_one_participants_matrix_is_read_as_rsatoolbox_does(single):
    rdms, oracle = read(single, reader=READER), load_rdms(str(single), sort=False)
    np.testing.assert_array_equal(rdms.dissimilarities, oracle.dissimilarities)
    assert names(rdms) == tuple(oracle.pattern_descriptors["conds"]) == ("beach", "fireplace", "river")
    assert rdms.rdm_descriptors["subject"] == oracle.rdm_descriptors["participant"] == ["cuddly-bunny"]
    assert rdms.rdm_descriptors["task_index"] == ["3"]
    assert rdms.dissimilarity_measure == "euclidean"


def test_all_participants_of_a_task_are_read_as_rsatoolbox_does(mat):
    path = many_of(mat, STIMULI, STIMULI)
    rdms, oracle = read(path, reader=READER), load_rdms(str(path), sort=False)
    np.testing.assert_array_equal(rdms.dissimilarities, oracle.dissimilarities)
    assert names(rdms) == tuple(oracle.pattern_descriptors["conds"])
    assert rdms.rdm_descriptors["subject"] == oracle.rdm_descriptors["participant"]
    assert rdms.rdm_descriptors["task"] == ["arrangement", "arrangement"]


def test_participants_with_stimuli_in_another_order_keep_their_own(mat):
    rdms = read(many_of(mat, STIMULI, STIMULI[::-1]), reader=READER)
    np.testing.assert_array_equal(rdms.dissimilarities, [PAIRS, PAIRS])


def test_participants_with_other_stimuli_are_joined_by_name(mat):
    path = mat(
        MANY,
        rdmutv_a_b=np.array([PAIRS]),
        rdmutv_c_d=np.array([PAIRS]),
        stimuli_a_b=np.array(STIMULI),
        stimuli_c_d=np.array(["beach.png", "fireplace.png", "sea.png"]),
    )
    rdms = read(path, reader=READER)
    assert names(rdms) == ("beach", "fireplace", "river", "sea")
    assert np.isnan(rdms.dissimilarities).sum(1).tolist() == [3, 3]


def test_all_tasks_of_a_tree_are_read_as_rsatoolbox_does(tree):
    path = tree(task("ma1", PAIRS), task("ma2", PAIRS[::-1]))
    rdms, oracle = read(path, reader=READER), load_rdms(str(path), sort=False)
    np.testing.assert_array_equal(rdms.dissimilarities, oracle.dissimilarities)
    assert names(rdms) == tuple(oracle.pattern_descriptors["conds"])
    assert rdms.rdm_descriptors["subject"] == ["informed-mole"] * 2
    assert rdms.rdm_descriptors["task"] == oracle.rdm_descriptors["task"] == ["ma1", "ma2"]


def test_the_order_asked_for_moves_values_with_names(single):
    moved = select(read(single, reader=READER), ["river", "beach", "fireplace"])
    assert moved.dissimilarities.tolist() == [[PAIRS[1], PAIRS[2], PAIRS[0]]]


def test_tasks_with_other_stimuli_or_another_order_are_refused(tree):
    for stimuli in (("beach", "fireplace", "sea"), ("river", "fireplace", "beach")):
        with refused("the tasks have different stimuli, or the same in another order"):
            read(tree(task("ma1", PAIRS), task("ma2", PAIRS, stimuli)), reader=READER)


def test_a_tree_without_such_a_task_is_refused(tree):
    with refused("none of the tasks is a multiple arrangement"):
        read(tree(task("dr", [], kind="dragrate")), reader=READER)


@pytest.mark.parametrize("content", ['{"tasks": 1}', '{"tasks": [1]}', "[1, 2]", '{"tasks": [', "[" * 100_000])
def test_json_of_another_layout_is_refused(tmp_path, content):
    (tmp_path / TREE).write_text(content)
    with refused("the file is not a tree of tasks as Meadows writes it|Unexpected structure"):
        read(tmp_path / TREE, reader=READER)


def test_json_of_all_participants_or_too_large_is_refused(tree, monkeypatch):
    with refused("JSON of Meadows is read only if it is the tree of one participant; download the 1D .mat"):
        read(tree(task("ma1", PAIRS), name="Meadows_myExp_v_v1_arrangement_tree.json"), reader=READER)
    monkeypatch.setattr(meadows, "_MOST_BYTES", 100)
    with refused(r"the file has \d+ bytes, but at most 100 are read"):
        read(tree(task("ma1", PAIRS)), reader=READER)


def test_a_tree_in_another_coding_is_refused_in_words(tree):
    path = tree(task("ma1", PAIRS))
    path.write_bytes(path.read_bytes().replace(b"ma1", "mä1".encode("latin-1")))
    with refused("the file is not UTF-8 text; download it again, or save it as UTF-8"):
        read(path, reader=READER)


def test_matrices_without_the_variables_are_refused(mat):
    for name in (SINGLE, MANY):
        with refused(r"there are no variables 'rdmutv' and 'stimuli', .* but \['confidence'\]"):
            read(mat(name, confidence=np.ones(3)), reader=READER)
    with refused(r"there are no variables .* but \['rdmutv_a_b', 'stimuli'\]"):
        read(mat(MANY, rdmutv_a_b=np.array([PAIRS]), stimuli=np.array(STIMULI)), reader=READER)


def test_names_that_do_not_fit_are_refused(mat):
    with refused("2 names were given for the 3 conditions of participant 'cuddly-bunny'"):
        read(mat(SINGLE, rdmutv=np.array([PAIRS]), stimuli=np.array(STIMULI[:2])), reader=READER)
    with refused("the stimuli of participant 'cuddly-bunny' must be texts"):
        read(mat(SINGLE, rdmutv=np.array([PAIRS]), stimuli=np.arange(3.0)), reader=READER)
    with refused(r"\['beach'\] occur more than once"):
        read(mat(SINGLE, rdmutv=np.array([PAIRS]), stimuli=np.array(["beach.png", "beach.jpg", "x"])), reader=READER)
    with refused("the stimuli of the file must be texts"):
        read(mat("renamed.mat", rdmutv=np.array([PAIRS]), stimuli=np.arange(3.0)), reader=READER)


@pytest.mark.parametrize(
    ("stimuli", "told"),
    [
        (["1.cat.jpg", "1.dog.jpg", "2.car.PNG"], ("1.cat", "1.dog", "2.car")),
        (["face.01", "face.02.jpg", "a/b.png"], ("face.01", "face.02", "b")),
    ],
)
def test_stimuli_keep_the_points_in_their_names(mat, tree, stimuli, told):
    assert names(read(mat(SINGLE, rdmutv=np.array([PAIRS]), stimuli=np.array(stimuli)), reader=READER)) == told
    assert names(read(tree(task("ma1", PAIRS, stimuli)), reader=READER)) == told


@pytest.mark.parametrize("name", ["m_1D.mat", "Meadows_a_v_1.2_b_1D.mat", "Meadows_myExp_v_v1_1D.mat"])
def test_a_renamed_file_of_matrices_is_read_without_what_its_name_said(mat, name):
    original = read(many_of(mat, STIMULI, STIMULI[::-1]), reader=READER)
    rdms = read((many_of(mat, STIMULI, STIMULI[::-1])).rename(mat(name).with_name(name)), reader="meadows")
    np.testing.assert_array_equal(rdms.dissimilarities, original.dissimilarities)
    assert rdms.rdm_descriptors["subject"] == ["cuddly-bunny", "informed-mole"]
    assert "task" not in rdms.rdm_descriptors
    single = read(mat(name, rdmutv=np.array([PAIRS]), stimuli=np.array(STIMULI)), reader=READER)
    assert (single.dissimilarities.tolist(), list(single.rdm_descriptors)) == ([PAIRS], ["index"])


def test_a_renamed_file_is_not_taken_for_plain_variables(mat):
    path = many_of(mat, STIMULI, STIMULI[::-1]).rename(mat("m_1D.mat"))
    for options in ({}, {"names_variable": "stimuli_cuddly_bunny"}):
        with refused(r"\['rdmutv_cuddly_bunny', 'rdmutv_informed_mole'\].* export of Meadows.* use reader='meadows'"):
            read(path, **options)
    mine = {"variable": "rdmutv_informed_mole", "names_variable": "stimuli_informed_mole"}
    assert select(read(path, **mine), STIMULI).dissimilarities.tolist() == [PAIRS]


def test_a_renamed_tree_is_refused(tree):
    with refused("'tree.json' is not a file name from Meadows; restore that name"):
        read(tree(task("ma1", PAIRS), name="tree.json"), reader=READER)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / SINGLE).touch()
    with refused(r"1D.mat' \(reader 'meadows'\): the file is empty"):
        read(tmp_path / SINGLE, reader=READER)


def test_meadows_files_are_taken_by_this_reader_alone(tmp_path):
    for name in (SINGLE, MANY, TREE):
        assert READER.sniff(tmp_path / name)
        assert not MATLAB.sniff(tmp_path / name)
    assert not READER.sniff(tmp_path / "92_brainRDMs.mat")


@pytest.mark.parametrize("kind", ["mat", "json"])
def test_the_reader_keeps_the_contract(single, tree, kind):
    check_reader(READER, single if kind == "mat" else tree(task("ma1", PAIRS)))


# -- the tree of one task, and the experiment


def test_the_tree_of_one_task_equals_its_matrix(rsatoolbox_files):
    tree = read(rsatoolbox_files / "Meadows_myExp_v_v1_cuddly-bunny_3_tree.json")
    matrix = read(rsatoolbox_files / "Meadows_myExp_v_v1_cuddly-bunny_3_1D.mat")
    np.testing.assert_allclose(select(tree, names(matrix)).dissimilarities, matrix.dissimilarities)
    assert tree.rdm_descriptors["subject"] == ["cuddly-bunny"]
    assert (tree.rdm_descriptors["task"], tree.rdm_descriptors["task_index"]) == (["arrangement"], ["3"])


def test_the_tree_of_another_task_is_refused(tmp_path):
    path = tmp_path / "Meadows_myExp_v_v1_cuddly-bunny_3_tree.json"
    path.write_text(json.dumps(task("info", [], kind="info")))
    with refused("the task is a 'info', not a multiple arrangement"):
        read(path)
    path.write_text("[1, 2]")
    with refused("the file is not a tree of tasks as Meadows writes it: TypeError"):
        read(path)


def test_the_name_of_the_experiment_is_kept(single, tree, mat):
    assert read(single).descriptors["experiment_name"] == "myExp"
    assert read(tree(task("ma1", PAIRS))).descriptors["experiment_name"] == "twoMaTasks"
    renamed = mat("renamed.mat", rdmutv=np.array([PAIRS]), stimuli=np.array(STIMULI))
    assert "experiment_name" not in read(renamed, reader="meadows").descriptors
