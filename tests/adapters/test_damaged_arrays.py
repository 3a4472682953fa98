"""Damaged tables, arrays and behavioural data: the right data or a refusal that names the file and the reader."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from rsatoolbox.inference import Result
from rsatoolbox.model import ModelFixed
from safetensors.torch import save_file
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array
from brainrdl.testing.file_readers import _same_data
from data_adapters.arrays import features_file, matlab, numpy_arrays, rsatoolbox_hdf5
from data_adapters.behaviour import meadows, triplets
from data_adapters.tables import csv_table, parquet

CONDITIONS = ["cat", "dog", "car", "tree"]
TRIALS = np.array([[0, 1, 2], [1, 0, 3], [2, 0, 1], [2, 3, 0], [3, 2, 1]])
NAMED = {"variable": "data", "names_variable": "labels"}
FILES = {
    "names5.mat": (matlab.READER, NAMED),
    "plain5.mat": (matlab.READER, NAMED),
    "names73.mat": (matlab.READER, NAMED),
    "patterns.npz": (numpy_arrays.READER, {"patterns": True}),
    "patterns.npy": (numpy_arrays.READER, {"patterns": True}),
    "rdm.pt": (numpy_arrays.READER, {}),
    "named.h5": (numpy_arrays.READER, {}),
    "ratings.csv": (csv_table.READER, {"similarity": 7}),
    "european.csv": (csv_table.READER, {}),
    "packed.csv.gz": (csv_table.READER, {}),
    "r.txt": (csv_table.READER, {}),
    "square.parquet": (parquet.READER, {}),
    "long.parquet": (parquet.READER, {}),
    "long.feather": (parquet.READER, {}),
    "trials.txt": (triplets.READER, {}),
    "trials.npy": (triplets.READER, {}),
    "named.csv": (triplets.READER, {}),
    "result.h5": (rsatoolbox_hdf5.READER, {}),
    "Meadows_myExp_v_v1_cuddly-bunny_3_1D.mat": (meadows.READER, {}),
    "Meadows_twoMaTasks_v_v1_informed-mole_tree.json": (meadows.READER, {}),
    "layers.pt": (features_file.READER, {"layer": "fc"}),
    "layers.safetensors": (features_file.READER, {"layer": "fc"}),
    "features.hdf5": (features_file.READER, {}),
    "consolidated_fc.npz": (features_file.READER, {"layer": "fc"}),
}
# Rows of text, of which nothing says how many there should be.
LINES = {"ratings.csv", "trials.txt", "named.csv"}

FUZZ = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """One sound file of every layout."""
    folder = tmp_path_factory.mktemp("sound")
    pairs = np.random.default_rng(0).uniform(0.1, 1, 6)
    square = np.zeros((4, 4))
    square[np.triu_indices(4, 1)] = pairs
    square += square.T
    patterns = np.random.default_rng(1).normal(size=(4, 5)).astype("f4")
    _write_matlab(folder, square)
    np.savez(folder / "patterns.npz", patterns=patterns, names=CONDITIONS)
    np.save(folder / "patterns.npy", patterns)
    torch.save({"rdm": torch.from_numpy(square), "names": CONDITIONS}, folder / "rdm.pt")
    torch.save({"fc": torch.from_numpy(patterns), "names": CONDITIONS}, folder / "layers.pt")
    i, j = np.triu_indices(4, 1)
    long = pd.DataFrame({"a": np.array(CONDITIONS)[i], "b": np.array(CONDITIONS)[j]})
    long.assign(rating=np.arange(1, 7)).to_csv(folder / "ratings.csv", index=False)
    long.assign(dissimilarity=pairs).to_parquet(folder / "long.parquet")
    pd.DataFrame(square, CONDITIONS, CONDITIONS).to_parquet(folder / "square.parquet")
    long.assign(dissimilarity=pairs).to_feather(folder / "long.feather")
    np.savetxt(folder / "trials.txt", TRIALS, fmt="%d")
    np.save(folder / "trials.npy", TRIALS)
    pd.DataFrame(np.array(CONDITIONS)[TRIALS], columns=["a", "b", "odd"]).to_csv(folder / "named.csv", index=False)
    _write_tables(folder, square)
    _write_meadows(folder, pairs)
    models = [ModelFixed(name, from_array(pairs, CONDITIONS)) for name in ("one", "two")]
    Result(models, np.ones((1, 2, 3)), "corr", "fixed", np.ones((2, 3)), n_rdm=3).save(str(folder / "result.h5"))
    with h5py.File(folder / "named.h5", "w") as file:
        file["rdm"], file["names"] = square, CONDITIONS
    save_file({"fc": torch.from_numpy(patterns)}, folder / "layers.safetensors", {"names": json.dumps(CONDITIONS)})
    with h5py.File(folder / "features.hdf5", "w") as file:
        file["features"], file["names"] = patterns, CONDITIONS
    np.savez(folder / "consolidated_fc.npz", **dict(zip(CONDITIONS, patterns, strict=True)))
    return folder


def _write_matlab(folder, square):
    labels = np.empty((1, 4), dtype=object)
    labels[0] = CONDITIONS
    savemat(folder / "names5.mat", {"data": square, "labels": labels}, do_compression=True)
    savemat(folder / "plain5.mat", {"data": square, "labels": labels})
    with h5py.File(folder / "names73.mat", "w", userblock_size=512) as file:
        file["data"] = square
        held = [file.create_dataset(f"#refs#/{name}", data=np.array([[ord(c)] for c in name])) for name in CONDITIONS]
        for item in held:
            item.attrs["MATLAB_class"] = np.bytes_("char")
        made = file.create_dataset("labels", data=np.array([[item.ref] for item in held], dtype=h5py.ref_dtype))
        made.attrs["MATLAB_class"] = np.bytes_("cell")


def _write_tables(folder, square):
    table = pd.DataFrame(square, CONDITIONS, CONDITIONS)
    table.to_csv(folder / "european.csv", sep=";", decimal=",")
    table.to_csv(folder / "packed.csv.gz")
    rows = [" ".join([f'"{name}"', *map(str, row)]) for name, row in zip(CONDITIONS, square, strict=True)]
    (folder / "r.txt").write_text("\n".join([" ".join(f'"{name}"' for name in CONDITIONS), *rows]))


def _write_meadows(folder, pairs):
    single, tree = (next(name for name in FILES if name.startswith("Meadows") and name.endswith(s)) for s in ("t", "n"))
    savemat(folder / single, {"rdmutv": pairs[None], "stimuli": np.array([f"{name}.png" for name in CONDITIONS])})
    stimuli = [{"name": name, "type": "png"} for name in CONDITIONS]
    task = {"task": {"name": "ma1", "task_type": "multiarrange"}, "stimuli": stimuli, "rdm": pairs.tolist()}
    (folder / tree).write_text(json.dumps({"token": None, "tasks": [task]}))


def result_of(path, name):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    reader, options = FILES[name]
    try:
        reader.sniff(path)
        return read(path, reader=reader, **options)
    except BrainrdlError as error:
        message = str(error)
    assert str(path) in message
    assert f"reader '{reader.name}'" in message or "is a pickle" in message
    return None


def is_data_or_refusal(found):
    parts = found if isinstance(found, list) else [found]
    return all(part is None or hasattr(part, "dissimilarities") or hasattr(part, "measurements") for part in parts)


def damaged(sound_files, name, content):
    """Write a damaged copy under the same name, which some readers go by."""
    folder = sound_files / "damaged"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("name", FILES)
def test_sound_files_are_read_by_name(sound_files, name):
    data = result_of(sound_files / name, name)
    assert data is not None
    descriptors = data.obs_descriptors if hasattr(data, "obs_descriptors") else data.pattern_descriptors
    held = [str(text) for text in descriptors.get("stimulus", [])]
    assert held == ([] if name in {"patterns.npy", "trials.txt", "trials.npy"} else CONDITIONS)


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_gives_the_whole_data_or_a_refusal(sound_files, name, part):
    content = (sound_files / name).read_bytes()
    found = result_of(damaged(sound_files, name, content[: int(part * len(content))]), name)
    assert found is None or name in LINES or _same_data(found, result_of(sound_files / name, name))


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8))
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(sound_files, name, flips):
    content = bytearray((sound_files / name).read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    found = result_of(damaged(sound_files, name, bytes(content)), name)
    assert is_data_or_refusal(found)


@pytest.mark.parametrize("name", FILES)
@FUZZ
@given(content=st.binary(max_size=200))
def test_a_file_of_anything_gives_data_or_a_refusal(sound_files, name, content):
    found = result_of(damaged(sound_files, name, content), name)
    assert is_data_or_refusal(found)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_refused(sound_files, name):
    reader, options = FILES[name]
    path = damaged(sound_files, name, b"")
    with pytest.raises(BrainrdlError, match=f"reader '{reader.name}'.*the file is empty"):
        read(path, reader=reader, **options)


# -- conditions in another order


def _write_csv(path, square, names):
    pd.DataFrame(square, names, names).to_csv(path)


def _write_parquet(path, square, names):
    pd.DataFrame(square, names, names).sample(frac=1, axis=1, random_state=0).to_parquet(path)


def _write_long(path, square, names):
    i, j = np.triu_indices(len(names), 1)
    table = pd.DataFrame({"a": np.array(names)[i], "b": np.array(names)[j], "dissimilarity": square[i, j]})
    table.sample(frac=1, random_state=0).to_parquet(path)


def _write_mat(path, square, names):
    labels = np.empty((1, len(names)), dtype=object)
    labels[0] = names
    savemat(path, {"data": square, "labels": labels})


def _write_single(path, square, names):
    pairs = square[np.triu_indices(len(names), 1)]
    savemat(path, {"rdmutv": pairs[None], "stimuli": np.array(names)})


WRITERS = {
    "square.csv": (_write_csv, csv_table.READER, {}),
    "square.parquet": (_write_parquet, parquet.READER, {}),
    "long.parquet": (_write_long, parquet.READER, {}),
    "named.mat": (_write_mat, matlab.READER, NAMED),
    "named.npz": (lambda path, square, names: np.savez(path, rdm=square, names=names), numpy_arrays.READER, {}),
    "Meadows_myExp_v_v1_cuddly-bunny_3_1D.mat": (_write_single, meadows.READER, {}),
}


@pytest.mark.parametrize("name", WRITERS)
@FUZZ
@given(order=st.permutations(range(5)))
def test_names_travel_with_their_values_whatever_the_order(tmp_path, name, order):
    names = np.array(["cat", "dog", "car", "tree", "bus"])
    square = np.abs(np.subtract.outer(*[np.array([1.0, 2, 4, 8, 16])] * 2))
    write, reader, options = WRITERS[name]
    write(tmp_path / name, square[np.ix_(order, order)], names[order].tolist())
    rdms = select(read(tmp_path / name, reader=reader, **options), names.tolist())
    np.testing.assert_allclose(rdms.get_matrices()[0], square)
