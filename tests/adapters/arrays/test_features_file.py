"""Activations as other tools write them: folders of thingsvision and Net2Brain, safetensors, HDF5."""

from __future__ import annotations

import itertools
import json

import h5py
import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from safetensors.torch import save_file
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.readers.reading import find_readers
from brainrdl.testing.file_readers import check_reader
from data_adapters.arrays.features_file import READER

IMAGES = ["cat", "dog", "car", "tree"]
LAYERS = ["conv1", "fc"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def activations():
    """Each layer's activations of four images: {layer: (4, ...)}."""
    rng = np.random.default_rng(0)
    return {"conv1": rng.normal(size=(4, 2, 3, 3)).astype("f4"), "fc": rng.normal(size=(4, 5)).astype("f4")}


@pytest.fixture
def thingsvision(tmp_path, activations):
    """Write what thingsvision's ``save_features`` and ``extract_features`` write."""

    def write(kind, listed=True, array=activations["fc"]):
        folder = tmp_path / f"thingsvision_{kind}"
        folder.mkdir(exist_ok=True)
        if listed:
            (folder / "file_names.txt").write_text("".join(f"images/{name}.jpg\n" for name in IMAGES))
        if kind == "npy":
            np.save(folder / "features.npy", array)
        elif kind == "hdf5":
            with h5py.File(folder / "features.hdf5", "w") as file:
                file.create_dataset("features", data=array)
        elif kind == "txt":
            np.savetxt(folder / "features.txt", array)
        elif kind == "pt":
            torch.save(torch.from_numpy(array), folder / "features.pt")
        else:
            savemat(folder / "features.mat", dict(zip(IMAGES, array, strict=True)) if listed else {"features": array})
        return folder

    return write


@pytest.fixture
def net2brain(tmp_path, activations):
    """Write what Net2Brain's ``extract`` and ``consolidate_per_layer`` write; each array has an axis of one image."""

    def write(kind, suffix=".jpg", prefix="consolidated_"):
        folder = tmp_path / f"net2brain_{kind}"
        folder.mkdir(exist_ok=True)
        names = [name + suffix for name in IMAGES]
        if kind == "images":
            for index, name in enumerate(names):
                np.savez(folder / f"{name}.npz", **{key: value[index, None] for key, value in activations.items()})
        else:
            for layer, values in activations.items():
                np.savez_compressed(folder / f"{prefix}{layer}.npz", **dict(zip(names, values[:, None], strict=True)))
        return folder

    return write


def by_name(data):
    return dict(zip(data.obs_descriptors["stimulus"], data.measurements.tolist(), strict=True))


def expected(values):
    return dict(zip(IMAGES, values.reshape(4, -1).tolist(), strict=True))


# -- thingsvision


@pytest.mark.parametrize("kind", ["npy", "hdf5", "txt", "mat"])
def test_thingsvisions_folder_is_read_with_names(thingsvision, activations, kind):
    data = read(thingsvision(kind), reader=READER)
    assert type(data) is Dataset
    assert data.obs_descriptors["stimulus"] == IMAGES
    np.testing.assert_allclose(data.measurements, activations["fc"], rtol=1e-6)
    assert "roi" not in data.descriptors


@pytest.mark.parametrize("kind", ["npy", "hdf5", "txt", "mat"])
def test_thingsvisions_folder_is_read_without_names(thingsvision, activations, kind):
    data = read(thingsvision(kind, listed=False), reader=READER, names=IMAGES)
    assert data.obs_descriptors["stimulus"] == IMAGES
    np.testing.assert_allclose(data.measurements, activations["fc"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["npy", "hdf5", "mat"])
def test_feature_maps_are_flattened(thingsvision, activations, kind):
    data = read(thingsvision(kind, array=activations["conv1"]), reader=READER)
    assert by_name(data) == expected(activations["conv1"])


def test_names_listed_in_another_order_than_mats_variables_lead(thingsvision, activations):
    folder = thingsvision("mat")
    order = ["tree", "cat", "dog", "car"]
    (folder / "file_names.txt").write_text("".join(f"{name}.jpg\n" for name in order))
    data = read(folder, reader=READER)
    assert data.obs_descriptors["stimulus"] == order
    assert by_name(data) == expected(activations["fc"])


def test_names_that_do_not_fit_are_refused(thingsvision):
    folder = thingsvision("npy")
    (folder / "file_names.txt").write_text("a.jpg\nb.jpg\n")
    with refused("2 values were given as 'stimulus' for the 4 observations of the array of features"):
        read(folder, reader=READER)
    (folder / "file_names.txt").write_text("x/a.jpg\ny/a.png\nb.jpg\nc.jpg\n")
    with refused(r"\['a'\] occur more than once in the names of the images"):
        read(folder, reader=READER)
    folder = thingsvision("mat")
    (folder / "file_names.txt").write_text("cat.jpg\ndog.jpg\ncar.jpg\n1tree.jpg\n")
    with refused("file_names.txt has 4 names and 'features.mat' 4 variables, and they differ"):
        read(folder, reader=READER)


def test_two_files_of_features_are_refused(thingsvision):
    folder = thingsvision("npy")
    np.savetxt(folder / "features.txt", np.ones((4, 2)))
    with refused(r"several files of features: \['features.npy', 'features.txt'\]; keep one"):
        read(folder, reader=READER)


def test_an_hdf5_of_another_layout_in_the_folder_is_refused(thingsvision):
    folder = thingsvision("hdf5")
    with h5py.File(folder / "features.hdf5", "w") as file:
        file["other"] = np.ones((4, 2))
    with refused(r"'features.hdf5' must hold one array, 'features', got \['other'\]"):
        read(folder, reader=READER)


@pytest.mark.parametrize("cuts", [(0, 4), (0, 2, 4), (0, 1, 3, 4)])
def test_the_parts_that_thingsvision_saves_are_joined(tmp_path, activations, cuts):
    """``extract_features(..., output_dir=, step_size=)`` names each part by the images it holds."""
    for begin, end in itertools.pairwise(cuts):
        np.save(tmp_path / f"features_{begin}-{end}.npy", activations["conv1"][begin:end])
    (tmp_path / "file_names.txt").write_text("".join(f"images/{name}.jpg\n" for name in IMAGES))
    assert READER.sniff(tmp_path)
    assert by_name(read(tmp_path)) == expected(activations["conv1"])


def test_parts_are_joined_in_the_order_of_images_and_not_of_letters(tmp_path):
    features = np.arange(24.0).reshape(12, 2)
    for begin, end in ((0, 2), (2, 10), (10, 12)):
        np.save(tmp_path / f"features_train_{begin}-{end}.npy", features[begin:end])
    np.testing.assert_array_equal(read(tmp_path, reader=READER).measurements, features)


def test_parts_that_do_not_follow_each_other_are_refused(tmp_path):
    np.save(tmp_path / "features_0-2.npy", np.ones((2, 3)))
    np.save(tmp_path / "features_3-5.npy", np.ones((2, 3)))
    with refused("the parts have a gap or overlap: 'features_3-5.npy' does not begin at image 2"):
        read(tmp_path, reader=READER)
    (tmp_path / "features_3-5.npy").rename(tmp_path / "features_2-5.npy")
    with refused(r"'features_2-5.npy' must have 3 images like the other parts, got shape \(2, 3\)"):
        read(tmp_path, reader=READER)
    np.save(tmp_path / "features_2-5.npy", np.ones((3, 4)))
    with refused(r"'features_2-5.npy' must have 3 images like the other parts, got shape \(3, 4\)"):
        read(tmp_path, reader=READER)
    np.save(tmp_path / "features.npy", np.ones((5, 3)))
    with refused(r"several files of features: \['features.npy', 'features_0-2.npy'\]; keep one"):
        read(tmp_path, reader=READER)


@pytest.fixture
def modules(tmp_path, activations):
    """Write a folder for each module, with the names in each or beside."""

    def write(named):
        for module, values in activations.items():
            (tmp_path / "net" / module).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "net" / module / "features.npy", values)
            place = tmp_path / "net" / module if named == "in each" else tmp_path / "net"
            (place / "file_names.txt").write_text("".join(f"{name}.jpg\n" for name in IMAGES))
        return tmp_path / "net"

    return write


@pytest.mark.parametrize("named", ["in each", "beside"])
def test_a_folder_of_modules_gives_a_dataset_each(modules, activations, named):
    found = read(modules(named))
    assert [data.descriptors["roi"] for data in found] == LAYERS
    for data in found:
        assert by_name(data) == expected(activations[data.descriptors["roi"]])
    assert read(modules(named), layer="fc").descriptors["roi"] == "fc"


def test_modules_of_other_images_are_refused(modules):
    folder = modules("in each")
    (folder / "fc" / "file_names.txt").write_text("dog.jpg\ncat.jpg\ncar.jpg\ntree.jpg\n")
    with refused("modules 'conv1' and 'fc' have different images or orders; read them separately"):
        read(folder)


def test_a_list_of_names_in_another_coding_is_refused_in_words(thingsvision):
    folder = thingsvision("npy")
    (folder / "file_names.txt").write_bytes("Käse.jpg\n".encode("latin-1"))
    with refused("the file is not UTF-8 text"):
        read(folder, reader=READER)


# -- Net2Brain


@pytest.mark.parametrize(("kind", "suffix"), [("images", ".jpg"), ("layers", ".jpg"), ("layers", "")])
def test_net2brains_folder_gives_a_dataset_each_layer(net2brain, activations, kind, suffix):
    found = read(net2brain(kind, suffix), reader=READER)
    assert [data.descriptors["roi"] for data in found] == LAYERS
    for data in found:
        assert by_name(data) == expected(activations[data.descriptors["roi"]])


def test_a_layer_asked_for_is_read_alone(net2brain, activations, monkeypatch):
    loaded = []
    from data_adapters.arrays import features_file

    original = features_file.npy_array
    monkeypatch.setattr(features_file, "npy_array", lambda path, key: loaded.append(key) or original(path, key))
    data = read(net2brain("images"), reader=READER, layer="fc")
    assert data.descriptors["roi"] == "fc"
    assert by_name(data) == expected(activations["fc"])
    assert set(loaded) == {"fc"}
    both = read(net2brain("images"), reader=READER, layer=["fc", "conv1"])
    assert [each.descriptors["roi"] for each in both] == ["fc", "conv1"]
    with refused("layer 'fc2' is not known; nearest: 'fc'"):
        read(net2brain("images"), reader=READER, layer="fc2")


def test_files_whose_names_leave_their_meaning_open_are_refused_or_told(net2brain, activations):
    with refused(r"is each file a layer or an image[?] the files \['conv1', 'fc'\] have arrays \['cat', 'dog'"):
        read(net2brain("layers", "", ""), reader=READER)
    found = read(net2brain("layers", "", ""), reader=READER, files="layers")
    assert by_name(found[1]) == expected(activations["fc"])
    with refused("is each file a layer or an image"):
        read(net2brain("images", ""), reader=READER)
    found = read(net2brain("images", ""), reader=READER, files="images")
    assert by_name(found[0]) == expected(activations["conv1"])
    with refused("files 'both' is not known"):
        read(net2brain("images"), reader=READER, files="both")


def test_notes_beside_net2brains_files_are_passed_over(net2brain, activations):
    folder = net2brain("layers")
    for name in ("argfile.txt", "settings.json", "run.log"):
        (folder / name).write_text("x")
    assert by_name(read(folder)[1]) == expected(activations["fc"])
    (folder / "photo.jpg").touch()
    assert not READER.sniff(folder)


def test_one_consolidated_file_is_read_where_the_reader_is_named(net2brain, activations):
    path = net2brain("layers") / "consolidated_fc.npz"
    assert by_name(read(path, reader=READER, layer="fc")) == expected(activations["fc"])


def test_images_with_other_layers_or_sizes_are_refused(net2brain, activations):
    folder = net2brain("images")
    np.savez(folder / "tree.jpg.npz", fc=activations["fc"][3])
    with refused(r"'tree.jpg.npz' has other arrays than 'car.jpg.npz': \['fc'\]"):
        read(folder, reader=READER)
    np.savez(folder / "tree.jpg.npz", conv1=activations["conv1"][3], fc=np.ones((1, 6)))
    with refused(r"layer 'fc' has shape \(1, 5\) for image 'car' and \(1, 6\) for 'tree'"):
        read(folder, reader=READER, layer="fc")


def test_a_folder_of_something_else_is_no_features(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert not READER.sniff(tmp_path)
    with refused("the folder must contain one of .*, or only .npz files"):
        read(tmp_path, reader=READER)


# -- files


@pytest.fixture
def safetensors(tmp_path, activations):
    def write(tensors=None, names=None):
        tensors = tensors or {key: torch.from_numpy(value) for key, value in activations.items()}
        save_file(tensors, tmp_path / "model.safetensors", metadata=None if names is None else {"names": names})
        return tmp_path / "model.safetensors"

    return write


def test_safetensors_gives_a_dataset_each_layer(safetensors, activations):
    for data in read(safetensors(names=json.dumps(IMAGES)), reader=READER):
        assert by_name(data) == expected(activations[data.descriptors["roi"]])
    data = read(safetensors(), reader=READER, layer="conv1", names=IMAGES)
    assert by_name(data) == expected(activations["conv1"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(safetensors, dtype):
    tensor = torch.tensor([[1.5, -2], [0.25, 3], [1, 2]], dtype=dtype)
    data = read(safetensors({"fc": tensor}), reader=READER, layer="fc")
    assert data.measurements.dtype == np.float32
    assert data.measurements.tolist() == tensor.tolist()


@pytest.mark.parametrize("names", ["cat, dog", '{"cat": 1}', "[1, 2, 3, 4]", "[" * 100_000])
def test_metadata_that_is_no_list_of_names_is_refused(safetensors, names):
    with refused("'names' in the metadata must be a JSON list of texts"):
        read(safetensors(names=names), reader=READER)


def test_activations_that_are_none_are_refused(safetensors):
    with refused("2 of 6 values are NaN or Inf in layer 'fc'; extract it again"):
        bad = torch.tensor([[1, 2], [float("nan"), 4], [5, float("inf")]])
        read(safetensors({"fc": bad}), reader=READER)
    with refused(r"layer 'fc' must hold numbers \(n_images, ...\), got float32 of shape \(\)"):
        read(safetensors({"fc": torch.tensor(1.0)}), reader=READER)


def test_an_hdf5_of_layers_is_read_with_names(tmp_path, activations):
    path = tmp_path / "layers.h5"
    with h5py.File(path, "w") as file:
        for layer, values in activations.items():
            file[layer] = values
        file["names"] = [f"{name}.png" for name in IMAGES]
    for data in read(path, reader=READER):
        assert by_name(data) == expected(activations[data.descriptors["roi"]])


def test_numbers_as_names_in_an_hdf5_have_no_point_and_none_is_missing(tmp_path):
    for names in ([1.0, 2.0, 10.0], [[1.0], [2.0], [10.0]]):
        with h5py.File(tmp_path / "features.h5", "w") as file:
            file["features"], file["names"] = np.ones((3, 2)), names
        assert read(tmp_path / "features.h5").obs_descriptors["stimulus"] == ["1", "2", "10"]
    with h5py.File(tmp_path / "features.h5", "a") as file:
        file["names"][0] = np.nan
    with refused("1 of 3 values of the names of the images are missing"):
        read(tmp_path / "features.h5")


def test_an_hdf5_without_arrays_or_too_large_is_refused(tmp_path):
    path = tmp_path / "features.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("group")
    with refused("the root of the file contains no arrays"):
        read(path, reader=READER)
    with h5py.File(path, "w") as file:
        file.create_dataset("features", shape=(10**6, 10**6), dtype="f8", chunks=(1000, 1000))
    with refused("array 'features' has shape .*, 8000000000000 bytes, but the file stores 0"):
        read(path, reader=READER)
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")
    with refused("the root of the file contains no arrays"):
        read(path, reader=READER)


def test_other_suffixes_are_refused(tmp_path):
    (tmp_path / "features.csv").write_text("1,2\n")
    with refused("the suffix must be .safetensors, .pt, .hdf5, .h5 or .npz, got '.csv'"):
        read(tmp_path / "features.csv", reader=READER)


# -- who takes which


def test_only_activations_are_taken(thingsvision, net2brain, safetensors, tmp_path):
    others = [reader for name, reader in find_readers().items() if name != "features"]
    places = [thingsvision("npy"), thingsvision("hdf5") / "features.hdf5", net2brain("layers"), safetensors()]
    for place in places:
        assert READER.sniff(place)
        assert not [other.name for other in others if other.sniff(place)]
    (tmp_path / "damaged.hdf5").write_bytes(b"no HDF5")
    assert not READER.sniff(tmp_path / "damaged.hdf5")
    assert not READER.sniff(tmp_path / "rdm.npz")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with refused(r"model.safetensors' \(reader 'features'\): the file is empty"):
        read(tmp_path / "model.safetensors", reader=READER)


# -- PyTorch's files


def test_tensors_of_torch_are_a_layer_each(tmp_path, activations):
    names = [f"images/{name}.jpg" for name in IMAGES]
    torch.save(
        {key: torch.from_numpy(value) for key, value in activations.items()} | {"names": names}, tmp_path / "m.pt"
    )
    data = read(tmp_path / "m.pt")
    assert [part.descriptors["roi"] for part in data] == LAYERS
    for part in data:
        assert by_name(part) == expected(activations[part.descriptors["roi"]])
    assert by_name(read(tmp_path / "m.pt", layer="fc")) == expected(activations["fc"])


def test_weights_of_a_network_are_no_activations(tmp_path):
    torch.save(torch.nn.Linear(5, 3).state_dict() | {"other": torch.ones(2, 2)}, tmp_path / "weights.pt")
    with refused("its tensors have different numbers of rows, .* not activations of the same images"):
        read(tmp_path / "weights.pt", reader=READER)


def test_pickled_activations_are_refused(tmp_path):
    torch.save(torch.ones(4, 2), tmp_path / "features.pt", _use_new_zipfile_serialization=False)
    with refused("is a pickle"):
        read(tmp_path / "features.pt", reader=READER)


# -- single files and parts of thingsvision


@pytest.mark.parametrize("kind", ["npy", "hdf5", "txt", "mat", "pt"])
def test_a_file_of_thingsvision_alone_has_the_names_beside_it(thingsvision, activations, kind):
    folder = thingsvision(kind)
    data = read(folder / f"features.{kind}")
    assert data.obs_descriptors["stimulus"] == IMAGES
    np.testing.assert_allclose(data.measurements, activations["fc"], rtol=1e-6)
    assert by_name(read(folder)) == by_name(data)


def test_a_part_alone_has_the_names_of_its_images(tmp_path, activations):
    np.save(tmp_path / "features_1-3.npy", activations["fc"][1:3])
    (tmp_path / "file_names.txt").write_text("".join(f"{name}.jpg\n" for name in IMAGES))
    assert read(tmp_path / "features_1-3.npy").obs_descriptors["stimulus"] == IMAGES[1:3]


@pytest.mark.parametrize("kind", ["npy", "txt", "pt", "mat", "hdf5"])
def test_numbered_parts_are_joined_in_their_order(tmp_path, kind):
    features = np.arange(44.0).reshape(11, 4)
    names = [f"image{place}" for place in range(11)]
    (tmp_path / "file_names.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    splits = [features[place : place + 1] for place in range(11)]  # "features_10" sorts before "features_2"
    for number, split in enumerate(splits, start=1):
        path = tmp_path / f"features_{number}.{kind}"
        if kind == "npy":
            np.save(path, split)
        elif kind == "txt":
            np.savetxt(path, split)
        elif kind == "pt":
            torch.save(torch.from_numpy(split), path)
        elif kind == "mat":
            savemat(path, {names[number - 1]: split[0]})
        else:
            with h5py.File(tmp_path / "features.hdf5", "a") as file:
                file[f"features_{number}"] = split
    data = read(tmp_path)
    assert data.obs_descriptors["stimulus"] == names
    np.testing.assert_array_equal(data.measurements, features)
    if kind != "hdf5":
        with refused("is one of several parts, and which images it holds is not known; read its folder"):
            read(tmp_path / f"features_2.{kind}")
        (tmp_path / f"features_3.{kind}").unlink()
        with refused("are not numbered 1, 2, ... without a gap; is one missing?"):
            read(tmp_path)


def test_folders_are_read_alike_twice_and_stay_unchanged(net2brain):
    folder = net2brain("images")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first, second = (read(folder, reader=READER, layer="fc") for _ in range(2))
    np.testing.assert_array_equal(first.measurements, second.measurements)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_reader_keeps_the_contract(safetensors):
    check_reader(READER, safetensors(names=json.dumps(IMAGES)), layer="fc")
