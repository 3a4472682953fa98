"""Activations of networks that other tools extracted, one Dataset per layer.

Layout on disk, any of

- the folder that thingsvision writes: ``features.npy``, ``.pt``, ``.hdf5``, ``.txt`` or ``.mat``, or its parts
  ``features_0-800.npy``, ``features_800-1600.npy``, ... or ``features_01.npy``, ``features_02.npy``, ... and, if known,
  the names of the images in ``file_names.txt``, one per line; one of these files alone (of ``features_0-800.npy`` with
  the names of its images); or a folder of such folders, one per module, with ``file_names.txt`` in it or in each of
  them;
- the folder that Net2Brain writes: one ``.npz`` per image, with an array for each layer; or (consolidated) one ``.npz``
  per layer (``consolidated_LAYER.npz``, formerly ``LAYER.npz``), with an array for each image. Other text files in the
  folder (``.txt``, ``.json``, ``.csv``, ``.md``, ``.yaml``, ``.log``) are ignored;
- a ``.safetensors`` file with an array (n_images, ...) for each layer and, if known, a JSON list of names under
  ``names`` in its metadata; or an HDF5 or PyTorch file (``.pt``) of such arrays and, if known, ``names``.

Images are named without folders and suffix. All axes except the first are flattened to channels. Of ``.pt`` files only
tensors, texts and numbers are loaded, which runs no code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from brainrdl._core.errors import check_option, check_unique, quote, read_arg, refuse
from data_adapters._shared import hdf5 as _hdf5
from data_adapters._shared.arrays import is_thingsvision, npy_array, npy_keys, patterns, stem, texts
from data_adapters._shared.hdf5 import opened
from data_adapters._shared.mat5_tags import check_tags
from data_adapters._shared.measurements import condition_names
from data_adapters._shared.text import read_names, read_text
from data_adapters._shared.torch_files import SUFFIXES as _TORCH, torch_arrays
from data_adapters.arrays.numpy_arrays import has_torch_rdms

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_HDF5 = frozenset({".h5", ".hdf5"})

_TABLES = ("features.npy", "features.pt", "features.hdf5", "features.h5", "features.txt", "features.mat")

_PART = re.compile(r"features(?P<suffix>.*)_(?P<begin>[0-9]+)-(?P<end>[0-9]+)\.(npy|pt)")

_SPLIT = re.compile(r"features_(?P<number>[0-9]+)(\.(npy|pt|txt|mat))?")  # without the suffix: arrays of HDF5

_NOTES = frozenset({".txt", ".json", ".csv", ".md", ".yaml", ".yml", ".log"})

_CONSOLIDATED = "consolidated_"

# For each layer, a function that loads its activations (n_images, ...); and the names of the images.
Layers = tuple[dict[str, Any], list[str] | None]


class FeaturesFile:
    """Reads activations, one Dataset per layer.

    Examples
    --------
    >>> READER.sniff(Path("resnet50.safetensors"))
    True
    """

    name = "features"
    layout = (
        "activations of a network: a folder of thingsvision (features.npy, .pt, .hdf5, .txt or .mat, and "
        "file_names.txt), one of these files or a folder of such folders, a folder of Net2Brain's .npz files, or "
        ".safetensors or .pt with an array (n_images, ...) for each layer"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise ``.safetensors`` and ``.pt`` files, files called ``features``, and folders of these layouts.

        Parameters
        ----------
        path : Path
            The file or folder.

        Returns
        -------
        bool
            Whether it looks like activations.
        """
        if path.is_dir():
            return bool(_tables(path) or _archives(path) or _modules(path))
        if path.suffix.lower() in _TORCH:
            return is_thingsvision(path) or not has_torch_rdms(path)
        if path.suffix.lower() not in _HDF5:
            return path.suffix.lower() == ".safetensors" or is_thingsvision(path)
        try:
            with h5py.File(path, "r") as file:
                keys = set(file) - {"names"}
                return keys == {"features"} or (bool(keys) and all(map(_SPLIT.fullmatch, keys)))
        except Exception:  # HDF5 fails in many ways on damaged files
            return False

    def read(
        self, path: Path, *, layer: str | Sequence[str] | None = None, files: str | None = None
    ) -> Dataset | list[Dataset]:
        """Read one layer as a Dataset, or several layers as a list.

        Parameters
        ----------
        path : Path
            The file or folder.
        layer : str or sequence of str, optional
            The layer or layers to read (default: all).
        files : {"layers", "images"}, optional
            Whether each ``.npz`` of a folder is a layer or an image, if their names do not show it.

        Returns
        -------
        rsatoolbox.data.Dataset, or list of Dataset
            Activations (n_images, n_channels), with observation descriptor ``stimulus`` and the name of the layer as
            descriptor ``roi``, if known. A single Dataset if `layer` is one name, or for a file of thingsvision.

        Raises
        ------
        BrainrdlError
            If the file is empty or damaged, a layer is unknown, images have different layers or sizes, or names do not
            fit or occur twice.
        """
        if path.is_file() and not path.stat().st_size:
            refuse("the file is empty")
        if files is not None:
            check_option(files, ("layers", "images"), "files")
        layers, names = _layers(path, files)
        if names is not None:
            names = condition_names(names, "the names of the images")
            check_unique(names, "the names of the images")
        asked = list(layers) if layer is None else [layer] if isinstance(layer, str) else list(layer)
        found = [_dataset(check_option(name, layers, "layer"), layers, names) for name in asked]
        return found[0] if isinstance(layer, str) or list(layers) == [""] else found


def _dataset(layer: str, layers: Mapping[str, Any], names: list[str] | None) -> Dataset:
    where = f"layer {layer!r}" if layer else "the array of features"
    array = layers[layer]()
    if not array.ndim or array.dtype.kind not in "biuf":
        refuse(f"{where} must hold numbers (n_images, ...), got {array.dtype} of shape {array.shape}")
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        refuse(f"{bad} of {array.size} values are NaN or Inf in {where}; extract it again")
    flat = array.reshape(len(array), prod(array.shape[1:]))
    return patterns(flat, where, names=names, axes="first", **({"roi": layer} if layer else {}))


def _layers(path: Path, files: str | None) -> Layers:
    """Recognise the layout, without loading activations."""
    if path.is_dir():
        if _tables(path):
            return _thingsvision(path)
        return _of_modules(path) if _modules(path) else _net2brain(path, files)
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path)
    if path.suffix.lower() in _HDF5:
        layers, names = _of_hdf5(path)
        return layers, names or _listed(path.with_name("file_names.txt"))
    if is_thingsvision(path):
        return _alone(path)
    if path.suffix.lower() in _TORCH:
        return _of_torch(path)
    if path.suffix.lower() == ".npz":  # one of Net2Brain's consolidated files
        return _by_layer([path])
    refuse(f"the suffix must be .safetensors, .pt, .hdf5, .h5 or .npz, got {path.suffix!r}")


# thingsvision


def _tables(folder: Path) -> list[Path]:
    """List the files of features; a file saved in parts is listed as its first part."""
    parts = [parts[0] for parts in (_parts(folder), _splits(folder)) if parts]
    return [folder / name for name in _TABLES if (folder / name).is_file()] + parts


def _parts(folder: Path) -> list[Path]:
    """List the parts in the order of their images."""
    found = [file for file in folder.glob("features*_*-*.*") if _PART.fullmatch(file.name)]
    return sorted(found, key=_span)


def _span(part: Path) -> tuple[int, int]:
    """Return the positions of the first image of a part and of the image after its last."""
    match = _PART.fullmatch(part.name)
    return (int(match["begin"]), int(match["end"])) if match else (0, 0)


def _splits(folder: Path) -> list[Path]:
    """List the parts that are numbered from 1, in their order."""
    found = {file: _SPLIT.fullmatch(file.name) for file in folder.glob("features_*.*")}
    numbers = {file: int(match["number"]) for file, match in found.items() if match}
    return sorted(numbers, key=lambda file: numbers[file])


def _thingsvision(folder: Path) -> Layers:
    tables, names = _tables(folder), _listed(folder / "file_names.txt")
    if len(tables) > 1:
        refuse(f"the folder has several files of features: {quote(table.name for table in tables)}; keep one")
    if tables[0].name in _TABLES:
        return _mat([tables[0]], names) if tables[0].suffix == ".mat" else ({"": lambda: _table(tables[0])}, names)
    if _PART.fullmatch(tables[0].name):
        return {"": lambda: _joined(_parts(folder))}, names
    splits = _splits(folder)
    _check_numbers([split.name for split in splits])
    return _mat(splits, names) if splits[0].suffix == ".mat" else ({"": lambda: _concatenated(splits)}, names)


def _check_numbers(names: Sequence[str]) -> None:
    """Refuse numbered parts of which one is missing, or of which there are two."""
    numbers = [int(match["number"]) for match in map(_SPLIT.fullmatch, names) if match]
    if numbers != list(range(1, len(numbers) + 1)):
        refuse(f"the parts {quote(names)} are not numbered 1, 2, ... without a gap; is one missing?")


def _concatenated(splits: Sequence[Path]) -> np.ndarray:
    return np.concatenate([_table(split) for split in splits])


def _alone(path: Path) -> Layers:
    """Read one file of thingsvision, with the names of its images in the list beside it."""
    names = _listed(path.with_name("file_names.txt"))
    if _PART.fullmatch(path.name):
        return {"": lambda: _part(path)}, None if names is None else names[slice(*_span(path))]
    if _SPLIT.fullmatch(path.name):
        refuse(f"{path.name!r} is one of several parts, and which images it holds is not known; read its folder")
    return _mat([path], names) if path.suffix == ".mat" else ({"": lambda: _table(path)}, names)


def _joined(parts: Sequence[Path]) -> np.ndarray:
    """Join the parts; refuse parts that are missing or repeated, or that do not fit their name."""
    arrays: list[np.ndarray] = []
    reached = 0
    for part in parts:
        begin, end = _span(part)
        if begin != reached:
            refuse(f"the parts have a gap or overlap: {part.name!r} does not begin at image {reached}")
        arrays.append(_part(part, arrays[0].shape[1:] if arrays else None))
        reached = end
    return np.concatenate(arrays)


def _part(part: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Load a part, which must have as many images as its name says, of the same shape as in the other parts."""
    (begin, end), array = _span(part), _table(part)
    if not array.ndim or len(array) != end - begin or shape not in (None, array.shape[1:]):
        refuse(f"{part.name!r} must have {end - begin} images like the other parts, got shape {array.shape}")
    return array


def _modules(folder: Path) -> dict[str, Path]:
    """List the subfolders that thingsvision wrote, one per module."""
    return {each.name: each for each in sorted(folder.iterdir()) if each.is_dir() and _tables(each)}


def _of_modules(folder: Path) -> Layers:
    layers: dict[str, Any] = {}
    found: dict[str, list[str] | None] = {}
    for module, each in _modules(folder).items():
        held, own = _thingsvision(each)
        layers[module], found[module] = held[""], _listed(folder / "file_names.txt") if own is None else own
    first, names = next(iter(found.items()))
    for module, own in found.items():
        if own != names:
            refuse(f"modules {first!r} and {module!r} have different images or orders; read them separately")
    return layers, names


def _listed(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    return [stem(name) for name in read_names(path)]


def _table(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return npy_array(path, path.name)
    if path.suffix in _TORCH:
        tensors = torch_arrays(path)
        if list(tensors) != [path.name]:
            refuse(f"{path.name!r} must hold one tensor, got {quote(tensors)}")
        return tensors[path.name]
    if path.suffix in _HDF5:
        layers, _ = _of_hdf5(path)
        if list(layers) != [""]:
            refuse(f"{path.name!r} must hold one array, 'features', got {quote(layers)}")
        values: np.ndarray = layers[""]()
        return values
    return np.loadtxt(read_text(path).splitlines(), ndmin=2)


def _mat(paths: Sequence[Path], names: list[str] | None) -> Layers:
    """Read one variable ``features``, or one variable per image with the name of the image."""
    from scipy.io import loadmat

    variables: dict[str, Any] = {}
    for path in paths:
        check_tags(path)
        held = {key: value for key, value in loadmat(str(path)).items() if not key.startswith("__")}
        check_unique([*variables, *held], "the images of the parts")  # with one "features" each: all images, each time
        variables |= held
    if list(variables) == ["features"]:
        return {"": lambda: variables["features"]}, names
    images = {stem(key): np.ravel(value) for key, value in variables.items()}
    if names is not None and (set(names) != set(images) or len(names) != len(variables)):
        # names of MATLAB variables cannot start with a digit or exceed 63 letters, so some images may be missing
        refuse(f"file_names.txt has {len(names)} names and {paths[0].name!r} {len(images)} variables, and they differ")
    order = names or list(images)
    return {"": lambda: _stacked([images[name] for name in order], order, "")}, order


def _stacked(arrays: Sequence[np.ndarray], images: Sequence[str], layer: str) -> np.ndarray:
    for array, image in zip(arrays, images, strict=True):
        if array.shape != arrays[0].shape:
            refuse(
                f"layer {layer!r} has shape {arrays[0].shape} for image {images[0]!r} and {array.shape} for {image!r}"
            )
    return np.stack([array.ravel() for array in arrays])


# Net2Brain


def _archives(folder: Path) -> list[Path]:
    """List the ``.npz`` files of a folder without other files, except text files."""
    found = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    found = [file for file in found if file.suffix.lower() not in _NOTES]
    return found if all(file.suffix.lower() == ".npz" for file in found) else []


def _net2brain(folder: Path, files: str | None) -> Layers:
    archives = _archives(folder)
    if not archives:
        refuse(f"the folder must contain one of {quote(_TABLES)}, or only .npz files")
    held = {archive: npy_keys(archive) for archive in archives}
    for archive, keys in held.items():
        if sorted(keys) != sorted(held[archives[0]]):
            refuse(f"{archive.name!r} has other arrays than {archives[0].name!r}: {quote(sorted(keys))}")
    return _by_layer(archives) if (files or _meaning(archives, held[archives[0]])) == "layers" else _by_image(archives)


def _meaning(archives: Sequence[Path], keys: Sequence[str]) -> str:
    """Decide from the names of files and arrays whether each file is a layer or an image."""
    if all(archive.name.startswith(_CONSOLIDATED) for archive in archives) or _are_images(keys):
        return "layers"
    if _are_images([archive.stem for archive in archives]):
        return "images"
    refuse(
        f"is each file a layer or an image? the files {quote(archive.stem for archive in archives)} have arrays "
        f"{quote(keys)}: use {read_arg('files', 'layers')} or {read_arg('files', 'images')}"
    )


def _are_images(names: Sequence[str]) -> bool:
    return all(stem(name) != name for name in names)


def _by_layer(archives: Sequence[Path]) -> Layers:
    images = npy_keys(archives[0])

    def load(archive: Path, layer: str) -> np.ndarray:
        return _stacked([npy_array(archive, image) for image in images], images, layer)

    names = {archive: archive.stem.removeprefix(_CONSOLIDATED) for archive in archives}
    layers = {layer: lambda archive=archive, layer=layer: load(archive, layer) for archive, layer in names.items()}
    return layers, [stem(image) for image in images]


def _by_image(archives: Sequence[Path]) -> Layers:
    images = [stem(archive.stem) for archive in archives]

    def load(layer: str) -> np.ndarray:
        return _stacked([npy_array(archive, layer) for archive in archives], images, layer)

    return {layer: lambda layer=layer: load(layer) for layer in npy_keys(archives[0])}, images


# One file of several layers


def _safetensors(path: Path) -> Layers:
    from safetensors import safe_open

    def load(layer: str) -> np.ndarray:
        # through torch, because NumPy does not support bfloat16
        with safe_open(str(path), "pt") as file:
            tensor = file.get_tensor(layer)
        return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()

    with safe_open(str(path), "pt") as file:
        keys, about = list(file.keys()), (file.metadata() or {}).get("names")
    return {key: lambda key=key: load(key) for key in keys}, None if about is None else _names_of(about)


def _names_of(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        refuse(f"'names' in the metadata must be a JSON list of texts, got {text[:80]!r}")
    return [stem(name) for name in names]


def _of_hdf5(path: Path) -> Layers:
    def load(layer: str) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return _hdf5.load(_hdf5.items(file)[layer], f"array {layer!r}")

    with opened(path) as file:
        arrays = {key: item for key, item in _hdf5.items(file).items() if isinstance(item, h5py.Dataset)}
        names = texts(_hdf5.load(arrays["names"], "array 'names'")) if "names" in arrays else None
    keys = [key for key in arrays if key != "names"]
    if not keys:
        refuse("the root of the file contains no arrays")
    if all(map(_SPLIT.fullmatch, keys)):  # thingsvision's features in parts
        keys = sorted(keys, key=lambda key: int(key.rpartition("_")[2]))
        _check_numbers(keys)
        return {"": lambda: np.concatenate([load(key) for key in keys])}, None if names is None else list(
            map(stem, names)
        )
    layers = {"" if keys == ["features"] else key: lambda key=key: load(key) for key in keys}
    return layers, None if names is None else [stem(name) for name in names]


def _of_torch(path: Path) -> Layers:
    """Read a tensor for each layer; those of weights, for example, do not have as many rows each."""
    held = torch_arrays(path)
    layers = {key: array for key, array in held.items() if array.dtype.kind not in "US"}
    found = next((held[key] for key in ("names", "stimuli_name") if key in held and key not in layers), None)
    if not layers:
        refuse(f"it holds no tensor of activations, but {quote(held)}")
    rows = {key: len(array) if array.ndim else 0 for key, array in layers.items()}
    if len(set(rows.values())) > 1:
        few = dict(list(rows.items())[:3])
        refuse(f"its tensors have different numbers of rows, {few}, so they are not activations of the same images")
    single = list(layers) == [path.name]
    names = _listed(path.with_name("file_names.txt")) if found is None else [stem(name) for name in texts(found)]
    return {"" if single else key: lambda array=array: array for key, array in layers.items()}, names


READER = FeaturesFile()
