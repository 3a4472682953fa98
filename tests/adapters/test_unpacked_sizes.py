"""Small files that unpack to gigabytes, and files that go on after their data, are refused before memory is taken."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib

import h5py
import nibabel as nib
import numpy as np
import pytest
import rsatoolbox.rdm  # noqa: F401
from numpy.lib import format as npy_format
from scipy.io import savemat

from brainrdl import BrainrdlError, rdms, read
from brainrdl.readers import find_readers
from brainrdl.recipe.building import make_stimuli
from brainrdl.recipe.files import check

N = 21_216  # conditions of an RDM of 3.6 GB in float64
BYTES = 8 * N**2


def zeros_by_zip(path, name):
    """Write the header of an array, and a stream of zeros that was packed once."""
    header = io.BytesIO()
    npy_format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (N, N)})
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(BYTES // 2**24):
            member.write(bytes(2**24))
        member.write(bytes(BYTES % 2**24))
    return path


def zeros_by_hdf5(path):
    """Write chunks of zeros, packed once, so that each is stored."""
    with h5py.File(path, "w") as file:
        made = file.create_dataset("dissimilarities", (1, BYTES // 8), "<f8", chunks=(1, 2**21), compression="gzip")
        chunk = zlib.compress(bytes(2**24))
        for start in range(0, BYTES // 8, 2**21):
            made.id.write_direct_chunk((0, start), chunk)
        for name in ("descriptors", "rdm_descriptors", "pattern_descriptors"):
            file.create_group(name)
        file.attrs["rsatoolbox_version"] = "0.3.2"
    return path


def zeros_by_mat(path):
    savemat(path, {"rdm": np.zeros((3, 3))})
    head = path.read_bytes()[:128]
    packer = zlib.compressobj(6)
    start = struct.pack("<II", 14, 48 + 8 + BYTES) + struct.pack("<IIII", 6, 8, 6, 0)
    start += struct.pack("<IIII", 5, 8, N, N) + struct.pack("<HH4s", 1, 3, b"rdm") + struct.pack("<II", 9, BYTES)
    parts = [packer.compress(start), *(packer.compress(bytes(2**24)) for _ in range(BYTES // 2**24)), packer.flush()]
    packed = b"".join(parts)
    path.write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    return path


def zeros_by_gzip(path):
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)).header
    header.set_data_shape((128, 128, 64, BYTES // 2**20))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(BYTES // 2**24 + 1):
            file.write(bytes(2**24))
    return path


BOMBS = {
    "rdm.npz": lambda path: zeros_by_zip(path, "rdm.npy"),
    "rdms.h5": zeros_by_hdf5,
    "rdm.mat": zeros_by_mat,
    "betas.nii.gz": zeros_by_gzip,
}


def refuses_without_memory(path, words, **options):
    find_readers()  # loads libraries
    tracemalloc.start()
    with pytest.raises(BrainrdlError, match=words):
        read(path, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_file_of_megabytes_that_unpacks_to_gigabytes_is_refused(tmp_path, name):
    path = BOMBS[name](tmp_path / name)
    assert path.stat().st_size < 4e6
    refuses_without_memory(path, r"bytes on disk and unpacks to [0-9]+,[0-9]{3},[0-9]{3},[0-9]{3}, more than 200 times")


@pytest.mark.parametrize(("name", "make"), [("rdm.npz", BOMBS["rdm.npz"]), ("rdms.h5", zeros_by_hdf5)])
def test_a_smaller_file_is_refused_by_the_same_rule(tmp_path, monkeypatch, name, make):
    monkeypatch.setitem(globals(), "BYTES", 8 * 3000**2)
    monkeypatch.setitem(globals(), "N", 3000)
    monkeypatch.setattr("brainrdl._core.packed._ROOM", 2**22)
    refuses_without_memory(make(tmp_path / name), "bytes on disk and unpacks to 72,000,[0-9]+, more than 200 times")


def test_compressed_data_of_any_usual_ratio_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("brainrdl._core.packed._ROOM", 0)
    square = np.round(np.random.default_rng(0).random((60, 60)), 1)  # packs well
    square = np.triu(square, 1) + np.triu(square, 1).T
    np.savez_compressed(tmp_path / "rdm.npz", rdm=square)
    savemat(tmp_path / "rdm.mat", {"rdm": square}, do_compression=True)
    with h5py.File(tmp_path / "rdm.h5", "w") as file:
        file.create_dataset("rdm", data=square, compression="gzip")
    for name, options in {"rdm.npz": {}, "rdm.mat": {}}.items():
        np.testing.assert_array_equal(read(tmp_path / name, **options).get_matrices()[0], square)


def test_stimuli_of_a_recipe_are_under_the_same_rule(tmp_path, monkeypatch):
    monkeypatch.setattr("brainrdl._core.packed._ROOM", 2**16)
    np.savez_compressed(tmp_path / "images.npz", images=np.zeros((200, 3, 32, 32), np.uint8), names=np.arange(200))
    content = {"stimuli": {"arrays": str(tmp_path / "images.npz")}, "teacher": {"rdms": "it.h5"}}
    recipe = check({**content, "student": {"model": "small_cnn", "layers": ["pool"]}})
    with pytest.raises(BrainrdlError, match="more than 200 times"):
        make_stimuli(recipe)


# Surplus


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bytes_after_the_last_map_are_refused(tmp_path, suffix):
    values = np.random.default_rng(0).random((4, 3, 2, 5)).astype(np.float32)
    nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "maps.nii")
    content = (tmp_path / "maps.nii").read_bytes()
    pack = gzip.compress if suffix.endswith("gz") else bytes
    (tmp_path / f"maps{suffix}").write_bytes(pack(content))
    assert read(tmp_path / f"maps{suffix}", names=list("abcde")).n_obs == 5
    (tmp_path / f"maps{suffix}").write_bytes(pack(content + b"\0"))
    with pytest.raises(BrainrdlError, match="declares 832 bytes, but the file goes on after them"):
        read(tmp_path / f"maps{suffix}", names=list("abcde"))


def test_two_arrays_in_one_npy_file_are_refused(tmp_path):
    with (tmp_path / "rdm.npy").open("wb") as file:
        for _ in range(2):
            np.save(file, np.array([1.0, 2, 3]))
    with pytest.raises(BrainrdlError, match="needs 152 bytes, but 304 are stored"):
        read(tmp_path / "rdm.npy")


# Values


@pytest.mark.parametrize("value", [1e300, -1e300, 1.1e15])
def test_a_dissimilarity_that_cannot_be_is_refused_with_its_conditions(value):
    with pytest.raises(BrainrdlError, match=r"at conditions 0 and 2 \(counted from 0\).* above 1e\+15"):
        rdms.from_array([1.0, value, 3.0], list("abc"))


def test_the_largest_dissimilarity_is_kept():
    assert rdms.from_array([1.0, 1e15, 3.0], list("abc")).dissimilarities[0, 1] == 1e15
