"""GIFTI and CIFTI maps: nibabel's own reading as oracle, atlases matched by vertex, and every refusal."""

from __future__ import annotations

import base64
import math
import re
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from nibabel.cifti2 import BrainModelAxis, LabelAxis, ParcelsAxis, ScalarAxis, SeriesAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable, GiftiMetaData

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import _same_data, check_reader
from data_adapters.fmri_maps import surfaces
from data_adapters.fmri_maps.surfaces import READER

N_VERTICES = 20
CONDITIONS = ["cat", "dog", "car", "tree"]
LEFT, RIGHT = np.arange(0, 20, 2), np.arange(1, 12)  # vertices in the CIFTI files
VOXELS = np.array([[1, 0, 2], [1, 2, 1], [0, 0, 0]])
KEYS = {0: "???", 3: "V1", 8: "IT"}


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def take(path, **options):
    return read(path, reader=READER, **options)


def gifti(path, maps, names=None, said=None, keys=None, **options):
    """Write a GIFTI file with one array per map."""
    named = names or [None] * len(maps)
    arrays = [
        GiftiDataArray(array, meta=GiftiMetaData({"Name": name} if name else {}), **options)
        for array, name in zip(maps, named, strict=True)
    ]
    image = GiftiImage(darrays=arrays, meta=GiftiMetaData({"AnatomicalStructurePrimary": said} if said else {}))
    if keys:
        image.labeltable = GiftiLabelTable()
        for key, name in keys.items():
            image.labeltable.labels.append(GiftiLabel(key))
            image.labeltable.labels[-1].label = name
    nib.save(image, path)
    return path


def models(left=LEFT, right=RIGHT, voxels=VOXELS, n_vertices=N_VERTICES, affine=None):
    """Grayordinates: vertices of both hemispheres, and voxels of the left amygdala."""
    parts = [
        BrainModelAxis.from_surface(left, n_vertices, "CortexLeft"),
        BrainModelAxis.from_surface(right, n_vertices, "CortexRight"),
    ]
    if voxels is not None:
        space = np.diag([2.0, 2, 2, 1]) if affine is None else affine
        parts.append(BrainModelAxis("AMYGDALA_LEFT", voxel=voxels, affine=space, volume_shape=(4, 3, 3)))
    return parts[0] + parts[1] + parts[2] if voxels is not None else parts[0] + parts[1]


def cifti(path, array, rows=None, columns=None):
    rows = ScalarAxis(CONDITIONS[: len(array)]) if rows is None else rows
    nib.save(nib.Cifti2Image(array, (rows, models() if columns is None else columns)), path)
    return path


def dlabel(path, numbers, columns, keys=KEYS):
    return cifti(
        path, numbers[None], LabelAxis(["areas"], {key: (name, (0, 0, 0, 0)) for key, name in keys.items()}), columns
    )


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(10, 1, (4, N_VERTICES)).astype(np.float32)


@pytest.fixture
def gray():
    return np.random.default_rng(1).normal(10, 1, (4, 24)).astype(np.float32)


@pytest.fixture
def func(tmp_path, maps):
    return gifti(tmp_path / "lh.betas.func.gii", maps, CONDITIONS)


@pytest.fixture
def dscalar(tmp_path, gray):
    return cifti(tmp_path / "sub-3_betas.dscalar.nii", gray)


@pytest.fixture
def areas():
    return np.array([3, 0, 8, 8, 3] * 4, np.int32)


# GIFTI


@pytest.mark.parametrize("encoding", ["GIFTI_ENCODING_ASCII", "GIFTI_ENCODING_B64BIN", "GIFTI_ENCODING_B64GZ"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8"])
def test_gifti_maps_are_those_that_nibabel_reads(tmp_path, maps, encoding, dtype):
    path = gifti(tmp_path / "x.func.gii", (maps * 9).astype(dtype), CONDITIONS, encoding=encoding)
    dataset = take(path)
    np.testing.assert_array_equal(dataset.measurements, [array.data for array in nib.load(path).darrays])
    assert dataset.measurements.dtype == (np.float64 if dtype == "int32" else np.float32)
    assert dataset.obs_descriptors == {"stimulus": CONDITIONS}
    assert dataset.channel_descriptors["vertex"].tolist() == list(range(N_VERTICES))


def test_maps_may_be_the_columns_of_one_array(tmp_path, maps):
    dataset = take(gifti(tmp_path / "x.func.gii", [maps.T]), names=CONDITIONS)
    np.testing.assert_array_equal(dataset.measurements, maps)
    with refused(r"an array of float32 has shape \(4, 20\), expected \(n_vertices,\) or \(n_vertices, n_maps\)"):
        take(gifti(tmp_path / "x.func.gii", [maps]))


@pytest.mark.parametrize(
    ("file", "shape", "names"),
    [
        ("task.func.gii", (10, 602), None),
        ("rh.shape.curv.gii", (1, 128439), ["rh.curv"]),
        ("base64bin.gii", None, None),
        ("gzipbase64.gii", (1, 143478), ["Folding (Mean Curvature)"]),
    ],
)
def test_files_of_other_programs_are_read_as_nibabel_reads_them(file, shape, names):
    path = Path(nib.__file__).parent / "gifti" / "tests" / "data" / file
    if not path.is_file():
        pytest.skip(f"nibabel was installed without its {file}")
    if shape is None:
        with refused("the file holds a mesh, expected maps"):
            take(path)
        return
    dataset = take(path)
    assert dataset.measurements.shape == shape
    assert dataset.obs_descriptors.get("stimulus") == names
    arrays = np.stack([array.data.ravel() for array in nib.load(path).darrays])
    np.testing.assert_array_equal(dataset.measurements, arrays[:, dataset.channel_descriptors["vertex"]])


def test_an_array_in_another_file_is_not_opened(tmp_path, func):
    (tmp_path / "secret.dat").write_bytes(bytes(4 * N_VERTICES))
    text = func.read_text().replace('"GZipBase64Binary"', '"ExternalFileBinary"', 1)
    func.write_text(re.sub(r'ExternalFileName=""', 'ExternalFileName="secret.dat"', text, count=1))
    with refused("an array is in another file, 'secret.dat'; save it within this one"):
        take(func)


def test_xml_entities_are_refused(func, dscalar):
    laughs = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 50}">' for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    func.write_text(re.sub(r"<!DOCTYPE[^>]*>", f"<!DOCTYPE GIFTI [{laughs}]>", func.read_text()))
    with refused("the file declares XML entities"):
        take(func)
    content = dscalar.read_bytes()
    start = content.index(b"<Volume ")
    for entity in (b"<!ENTITY", "<!ENTITY".encode("utf-16-le")):
        dscalar.write_bytes(content[:start] + entity + content[start + len(entity) :])
        with refused("the file declares XML entities"):
            take(dscalar)


def test_an_array_that_unpacks_to_more_than_it_declares_is_refused(func):
    bomb = base64.b64encode(zlib.compress(bytes(10**7))).decode()
    func.write_text(re.sub(r"<Data>[^<]*</Data>", f"<Data>{bomb}</Data>", func.read_text(), count=1))
    with refused("array 1 declares 80 bytes, but decompresses to another number"):
        take(func)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('Dim0="20"', 'Dim0="999999999999"', "it declares 3999999999996 bytes, but the file of"),
        ('Dim0="20"', 'Dim0="-20"', r"an array has the shape \[-20\]"),
        ('Dim0="20"', 'Dim0="19"', "array 1 declares 76 bytes, but decompresses to another number"),
        ('DataArrays="4"', 'DataArrays="5"', "Actual # of data arrays"),
        ('Encoding="GZipBase64Binary"', 'Encoding="new"', "KeyError: 'new'"),
    ],
)
def test_gifti_files_that_contradict_themselves_are_refused(func, old, new, words):
    text = func.read_text()
    assert old in text
    func.write_text(text.replace(old, new, 1))
    with refused(words):
        take(func)


def test_gifti_files_without_maps_or_with_different_ones_are_refused(tmp_path, maps):
    with refused("the file holds no map"):
        take(gifti(tmp_path / "x.func.gii", []))
    with refused(r"the maps have different numbers of vertices: \[20, 19\]"):
        take(gifti(tmp_path / "x.func.gii", [maps[0], maps[1, 1:]]))
    (tmp_path / "x.func.gii").write_bytes(b"")
    with refused("the file is empty"):
        take(tmp_path / "x.func.gii")


@pytest.mark.parametrize(
    ("name", "said", "structure"),
    [
        ("lh.x.func.gii", None, "CORTEX_LEFT"),
        ("sub-1_hemi-R_betas.func.gii", None, "CORTEX_RIGHT"),
        ("100307.L.x.32k_fs_LR.func.gii", None, "CORTEX_LEFT"),
        ("x.func.gii", "CortexRight", "CORTEX_RIGHT"),
        ("rh.x.func.gii", "CortexRight", "CORTEX_RIGHT"),
        ("x.func.gii", None, ""),
    ],
)
def test_the_structure_is_what_file_or_name_says(tmp_path, maps, name, said, structure):
    dataset = take(gifti(tmp_path / name, maps, said=said))
    assert set(dataset.channel_descriptors["structure"]) == {structure}


def test_a_name_and_a_file_that_say_different_structures_are_refused(tmp_path, maps):
    with refused(r"says that it is on \['CORTEX_LEFT'\], but its name says \['CORTEX_RIGHT'\]"):
        take(gifti(tmp_path / "rh.x.func.gii", maps, said="CortexLeft"))


def test_a_gifti_atlas_gives_the_vertices_of_each_region(tmp_path, func, maps, areas):
    atlas = gifti(tmp_path / "lh.areas.label.gii", [areas], keys=KEYS, intent="NIFTI_INTENT_LABEL")
    found = take(func, atlas=atlas)
    assert [dataset.descriptors["roi"] for dataset in found] == ["V1", "IT"]
    np.testing.assert_array_equal(found[0].measurements, maps[:, areas == 3])
    np.testing.assert_array_equal(found[1].measurements, maps[:, areas == 8])
    assert _same_data(take(func, atlas=atlas, roi="IT"), found[1])
    labels = tmp_path / "names.txt"
    labels.write_text("3 EVC\n8 LOC\n")
    assert [dataset.descriptors["roi"] for dataset in take(func, atlas=atlas, labels=labels)] == ["EVC", "LOC"]


def test_regions_of_an_atlas_without_names_are_named_by_table_or_number(tmp_path, func, areas):
    atlas = gifti(tmp_path / "lh.areas.shape.gii", [areas.astype(np.float32)])
    assert [dataset.descriptors["roi"] for dataset in take(func, atlas=atlas)] == ["3", "8"]
    (tmp_path / "lh.areas.tsv").write_text("index\tname\n8\tIT\n3\tV1\n")
    assert [dataset.descriptors["roi"] for dataset in take(func, atlas=atlas)] == ["V1", "IT"]


def test_a_mask_of_the_other_hemisphere_or_another_surface_is_refused(tmp_path, func, maps):
    with refused(r"the mask is on \['CORTEX_RIGHT'\], but the maps on \['CORTEX_LEFT'\]"):
        take(func, mask=gifti(tmp_path / "rh.mask.gii", [np.ones(N_VERTICES, np.int32)]))
    with refused("the mask has 19 vertices on CORTEX_LEFT, but the maps have 20; resample it to the same surface"):
        take(func, mask=gifti(tmp_path / "lh.mask.gii", [np.ones(19, np.int32)]))
    with refused("the mask has 21 vertices on its surface, but the maps have 20"):
        take(func, mask=gifti(tmp_path / "mask.gii", [np.ones(21, np.int32)]))
    inside = (np.arange(N_VERTICES) % 3 == 0).astype(np.int32)
    dataset = take(func, mask=gifti(tmp_path / "mask.gii", [inside]))
    np.testing.assert_array_equal(dataset.measurements, maps[:, ::3])
    assert set(dataset.channel_descriptors["structure"]) == {"CORTEX_LEFT"}


def test_vertices_without_data_are_left_out_and_counted(tmp_path, maps):
    maps[:, 3], maps[1, 5] = 0, np.nan
    dataset = take(gifti(tmp_path / "x.func.gii", maps))
    assert dataset.descriptors == {"n_dropped_channels": 2}
    assert not {3, 5} & set(dataset.channel_descriptors["vertex"].tolist())


@pytest.fixture
def annot(tmp_path, areas):
    """Regions of `areas` as FreeSurfer writes them."""
    path = tmp_path / "lh.areas.annot"
    index = np.searchsorted([0, 3, 8], areas)
    colours = np.array([[25, 5, 25, 0], [10, 20, 30, 0], [1, 2, 3, 0]])
    nib.freesurfer.write_annot(path, index, colours, ["unknown", "V1", "IT"])
    return path


def test_freesurfers_annotation_is_an_atlas(func, annot, maps, areas, tmp_path):
    found = take(func, atlas=annot)
    assert [dataset.descriptors["roi"] for dataset in found] == ["V1", "IT"]
    np.testing.assert_array_equal(found[0].measurements, maps[:, areas == 3])
    np.testing.assert_array_equal(found[1].measurements, maps[:, areas == 8])
    with refused(r"the atlas is on \['CORTEX_RIGHT'\], but the maps on \['CORTEX_LEFT'\]"):
        take(func, atlas=annot.rename(tmp_path / "rh.areas.annot"))


def test_the_wall_and_vertices_without_a_label_are_outside(func, tmp_path, maps):
    index = np.array([0, 1, 2, -1] * 5)
    colours = np.array([[1, 1, 1, 0], [10, 20, 30, 0], [1, 2, 3, 0]])
    nib.freesurfer.write_annot(tmp_path / "lh.a.annot", index, colours, ["V1", "Medial_wall", "FFA"])
    found = take(func, atlas=tmp_path / "lh.a.annot")
    assert [dataset.descriptors["roi"] for dataset in found] == ["V1", "FFA"]
    np.testing.assert_array_equal(found[1].measurements, maps[:, index == 2])


def test_the_old_version_of_an_annotation_is_read(func, tmp_path, maps):
    numbers = np.array([[vertex, 1 + vertex % 2] for vertex in range(N_VERTICES)])
    entries = b"".join(
        np.array([3], ">i4").tobytes() + name + np.array([red, 0, 0, 0], ">i4").tobytes()
        for name, red in ((b"V1\0", 1), (b"V2\0", 2))
    )
    head = np.array([N_VERTICES, *numbers.ravel(), 1, 2, 4], ">i4").tobytes()
    (tmp_path / "lh.old.annot").write_bytes(head + b"tab\0" + entries)
    found = take(func, atlas=tmp_path / "lh.old.annot")
    assert [dataset.descriptors["roi"] for dataset in found] == ["V1", "V2"]
    np.testing.assert_array_equal(found[1].measurements, maps[:, 1::2])


@pytest.mark.parametrize(
    ("place", "number", "words"),
    [
        (0, 2**31 - 1, "it declares 17179869176 bytes at byte 4, but has only 277: is it cut off"),
        (0, -5, "its 0 vertices are not numbered from 0"),
        (1, 7, "its 20 vertices are not numbered from 0"),
        (2, 12345, r"its table lacks the colours \[12345\] that vertices have"),
        (41, 0, "it holds no table of colours"),
        (42, -3, "its table of colours is of version 3, expected 1 or 2"),
        (44, 2**31 - 1, "it declares 2147483647 bytes at byte 180"),
    ],
)
def test_annotations_that_are_not_sound_are_refused(func, annot, place, number, words):
    content = bytearray(annot.read_bytes())
    content[4 * place : 4 * place + 4] = number.to_bytes(4, "big", signed=True)
    annot.write_bytes(content)
    with refused(f"atlas= '.*lh.areas.annot': {words}"):
        take(func, atlas=annot)


def test_an_annotation_has_its_own_labels_and_different_colours(func, annot, tmp_path):
    with refused(r"labels= is 'x.tsv', but an .annot holds the names of its regions"):
        take(func, atlas=annot, labels="x.tsv")
    content = annot.read_bytes()
    three = np.array([1, 2, 3], ">i4").tobytes()
    annot.write_bytes(content.replace(three, np.array([10, 20, 30], ">i4").tobytes()))
    with refused(r"its table lacks the colours|occur more than once in the colours of its regions"):
        take(func, atlas=annot)


@pytest.mark.parametrize("name", ["lh.task_bold.func.gii", "sub-1_hemi-L_bold.gii", "sub-1_bold.dtseries.nii"])
def test_a_series_is_refused_as_maps(tmp_path, maps, gray, name):
    path = gifti(tmp_path / name, maps) if name.endswith("gii") else cifti(tmp_path / name, gray, SeriesAxis(0, 1, 4))
    with refused("it is a series of volumes, not maps of conditions: fit a first-level model"):
        take(path)


# CIFTI


def test_cifti_maps_are_those_that_nibabel_reads(dscalar, gray):
    dataset = take(dscalar)
    np.testing.assert_array_equal(dataset.measurements, gray)
    np.testing.assert_array_equal(dataset.measurements, nib.load(dscalar).get_fdata())
    assert dataset.descriptors == {"n_dropped_channels": 0, "subject": "3"}
    assert dataset.obs_descriptors == {"stimulus": CONDITIONS}
    channels = dataset.channel_descriptors
    assert channels["vertex"].tolist() == [*LEFT, *RIGHT, -1, -1, -1]
    assert np.stack([channels[axis] for axis in "ijk"], axis=1)[-3:].tolist() == VOXELS.tolist()
    assert channels["structure"][[0, 10, 21]].tolist() == ["CORTEX_LEFT", "CORTEX_RIGHT", "AMYGDALA_LEFT"]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i2", "<f8"])
@pytest.mark.parametrize("block", [1, 100, 2**22])
def test_blocks_of_any_size_and_stored_numbers_of_any_kind_give_the_same(tmp_path, gray, monkeypatch, dtype, block):
    image = nib.Cifti2Image((gray * 9).astype(dtype), (ScalarAxis(CONDITIONS), models()))
    nib.save(image, tmp_path / "x.dscalar.nii")
    monkeypatch.setattr(surfaces, "_BLOCK", block)
    mask = cifti(tmp_path / "mask.dscalar.nii", (np.arange(24) % 5 == 1).astype(np.float32)[None])
    dataset = take(tmp_path / "x.dscalar.nii", mask=mask)
    np.testing.assert_array_equal(dataset.measurements, nib.load(tmp_path / "x.dscalar.nii").get_fdata()[:, 1::5])
    assert dataset.measurements.dtype == (np.float64 if dtype == "<f8" else np.float32)


def test_a_series_without_names_gets_them_from_a_table(tmp_path, gray):
    path = cifti(tmp_path / "x.dtseries.nii", gray, SeriesAxis(0, 0.7, 4))
    assert not take(path).obs_descriptors
    (tmp_path / "x.tsv").write_text("condition\trun\n" + "".join(f"{name}\t1\n" for name in CONDITIONS))
    assert take(path).obs_descriptors == {"stimulus": CONDITIONS, "run": ["1"] * 4}


def test_a_table_that_names_the_maps_in_another_order_is_refused(dscalar, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("condition\n" + "\n".join(CONDITIONS[::-1]))
    with refused(
        r"column 'condition' lists names in another order than the maps: 'tree' in row 1, but the file .* 'cat'"
    ):
        take(dscalar, table=path)
    path.write_text("condition\n" + "\n".join(name.upper() for name in CONDITIONS))
    assert take(dscalar, table=path).obs_descriptors["stimulus"] == ["CAT", "DOG", "CAR", "TREE"]


def test_names_in_the_file_that_contradict_the_table_are_refused(dscalar, tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("condition\ndog\nx\ny\nz\n")  # the file: cat, dog, car, tree
    with refused(r"'condition' lists names in another order than the maps: 'dog' in row 1, but the file .* 'cat'"):
        take(dscalar, table=path)
    path.write_text("condition\nx\ndog\ny\nn/a\n")
    dataset = take(dscalar, table=path)
    assert dataset.obs_descriptors["stimulus"] == ["x", "dog", "y"]
    assert dataset.descriptors["n_dropped_observations"] == 1
    path.write_text("condition\tmap\nw\ttree\nx\tcar\ny\tdog\nz\tcat\n")
    with refused("the column 'map' lists names in another order than the maps: 'tree' in row 1"):
        take(dscalar, table=path)


def test_a_column_of_maps_that_agrees_in_part_and_in_another_order_is_refused(dscalar, tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("Map\tcondition\nTree\tw\ncar\tx\ndog\ty\ncatt\tz\n")
    with refused("the column 'Map' lists names in another order than the maps: 'Tree' in row 1"):
        take(dscalar, table=path)
    path.write_text("previous\tcondition\nn/a\tw\ncat\tx\ndog\ty\ncar\tz\n")
    assert take(dscalar, table=path).obs_descriptors["stimulus"] == list("wxyz")


def test_numbers_name_maps_only_in_columns_that_refer_to_maps(tmp_path, gray):
    path, numbered = tmp_path / "x.tsv", cifti(tmp_path / "x.dscalar.nii", gray, ScalarAxis(list("1234")))
    path.write_text("condition\trun\torder\tindex\n1\t1\t4\t0\n2\t1\t2\t1\n1\t2\t3\t2\n2\t2\t1\t3\n")
    assert take(numbered).obs_descriptors["stimulus"] == list("1212")
    path.write_text("condition\n2\n1\n3\n4\n")
    with refused("the column 'condition' lists names in another order than the maps: '2' in row 1"):
        take(numbered)
    path.write_text("name\tcondition\n2\ta\n3\tb\n4\tc\n9\td\n")
    with refused("the column 'name' lists names in another order than the maps: '2' in row 1"):
        take(numbered)


def test_a_cifti_atlas_is_matched_by_vertex_and_voxel_not_by_position(tmp_path, dscalar, gray):
    left, right, voxels = LEFT[::-1][:7], RIGHT[3:], VOXELS[::-1]
    columns = models(left, right, voxels)
    numbers = np.where(columns.vertex % 3 == 0, 8, 3).astype(np.float32)  # voxels: vertex -1, region 3
    found = take(dscalar, atlas=dlabel(tmp_path / "a.dlabel.nii", numbers, columns))
    assert [dataset.descriptors["roi"] for dataset in found] == ["V1", "IT"]
    ours = models()
    covered = np.isin(ours.vertex, left) & (ours.name == "CIFTI_STRUCTURE_CORTEX_LEFT")
    covered |= np.isin(ours.vertex, right) & (ours.name == "CIFTI_STRUCTURE_CORTEX_RIGHT")
    it = covered & (ours.vertex % 3 == 0)
    np.testing.assert_array_equal(found[1].measurements, gray[:, it])
    np.testing.assert_array_equal(found[0].measurements, gray[:, (covered & ~it) | (ours.vertex < 0)])


def test_a_label_file_of_one_hemisphere_fits_grayordinates(tmp_path, dscalar, gray, areas):
    atlas = gifti(tmp_path / "rh.areas.label.gii", [areas], keys=KEYS, intent="NIFTI_INTENT_LABEL")
    dataset = take(dscalar, atlas=atlas, roi="IT")
    np.testing.assert_array_equal(dataset.measurements, gray[:, 10:21][:, areas[RIGHT] == 8])
    assert set(dataset.channel_descriptors["structure"]) == {"CORTEX_RIGHT"}


@pytest.mark.parametrize("structure", ["CORTEX_RIGHT", "CIFTI_STRUCTURE_CORTEX_RIGHT", ["CORTEX_RIGHT"]])
def test_structures_are_picked_by_name(tmp_path, dscalar, gray, structure):
    np.testing.assert_array_equal(take(dscalar, structure=structure).measurements, gray[:, 10:21])
    numbers = np.r_[np.full(10, 3.0), np.full(14, 8.0)].astype(np.float32)
    found = take(dscalar, structure=structure, atlas=dlabel(tmp_path / "a.dlabel.nii", numbers, models()))
    assert [(dataset.descriptors["roi"], dataset.n_channel) for dataset in found] == [("IT", 11)]


def test_structure_and_mask_together_give_their_common_channels(tmp_path, dscalar, gray):
    mask = cifti(tmp_path / "mask.dscalar.nii", (np.arange(24) % 2 == 0).astype(np.float32)[None])
    np.testing.assert_array_equal(take(dscalar, structure="CORTEX_RIGHT", mask=mask).measurements, gray[:, 10:21:2])


def test_an_unknown_structure_is_refused(dscalar):
    with refused(r"structure 'CORTEX_LEFTT' is not known; nearest: 'CORTEX_LEFT'.* \(known: AMYGDALA_LEFT, "):
        take(dscalar, structure="CORTEX_LEFTT")


def test_an_atlas_on_other_surfaces_or_voxels_is_refused(tmp_path, dscalar):
    ones = np.ones(24, np.float32)
    with refused("the atlas has 32 vertices on CORTEX_LEFT, but the maps have 20; resample it"):
        take(dscalar, atlas=dlabel(tmp_path / "a.dlabel.nii", ones, models(n_vertices=32)))
    with refused("the atlas has voxels on another grid than the maps"):
        take(dscalar, atlas=dlabel(tmp_path / "b.dlabel.nii", ones, models(affine=np.diag([2.0, 2, 3, 1]))))
    with refused("the atlas holds no region"):
        take(dscalar, atlas=dlabel(tmp_path / "c.dlabel.nii", 0 * ones, models()))
    with refused(r"the labels do not name the numbers \[1\] of the atlas"):
        take(dscalar, atlas=dlabel(tmp_path / "d.dlabel.nii", ones, models()))


def test_masks_and_atlases_are_single_maps_in_files_that_are_there(dscalar, func, areas, tmp_path):
    with refused(r"the mask holds 4 maps \(\['cat', 'dog', 'car', 'tree'\]\), expected one"):
        take(dscalar, mask=dscalar)
    with refused("the atlas holds 4 maps"):
        take(dscalar, atlas=dscalar)
    with refused("atlas= is 'none.gii', but there is no such file"):
        take(func, atlas="none.gii")
    with refused("labels= is 'x.tsv', which names the regions of an atlas; give atlas="):
        take(func, labels="x.tsv")
    with refused("roi='V1' asks for regions, but there is no atlas"):
        take(func, roi="V1")
    with refused(r"the mask holds the values \[3.0, 8.0\] besides 0"):
        take(func, mask=gifti(tmp_path / "lh.areas.gii", [areas]))


def test_cifti_files_that_are_not_dense_maps_are_refused(tmp_path, gray):
    parcels = ParcelsAxis.from_brain_models([("a", models()[:4]), ("b", models()[4:])])
    with refused("the file holds SCALARS x PARCELS, expected SCALARS, SERIES or LABELS x BRAIN_MODELS"):
        take(cifti(tmp_path / "x.dscalar.nii", gray[:, :2], None, parcels))
    path = cifti(tmp_path / "x.dscalar.nii", gray.astype(np.float64))
    content = path.read_bytes()
    header = nib.Nifti2Header(content[:540])
    header.set_data_dtype(np.complex64)
    path.write_bytes(header.binaryblock + content[540:])
    with refused("the file holds complex64 numbers, expected real ones"):
        take(path)
    nib.save(nib.Nifti2Image(gray.reshape(4, 2, 3, 4), np.eye(4)), tmp_path / "x.dscalar.nii")
    with refused(r"the file is not a CIFTI-2 matrix: its shape is \(4, 2, 3, 4\), and it holds no XML"):
        take(tmp_path / "x.dscalar.nii")
    (tmp_path / "x.dscalar.nii").write_bytes(b"")
    with refused("the file is empty"):
        take(tmp_path / "x.dscalar.nii")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            b'IndexCount="11"',
            b'IndexCount="99"',
            "CORTEX_RIGHT declares 99 channels from 10, but lists 11 from 10",
        ),
        (
            b'IndexOffset="10"',
            b'IndexOffset="11"',
            "CORTEX_RIGHT declares 11 channels from 11, but lists 11 from 10",
        ),
        (b'SurfaceNumberOfVertices="20"', b'SurfaceNumberOfVertices="12"', "CORTEX_LEFT lists vertices beyond its 12"),
        (b"10 11", b"-1 11", "CORTEX_RIGHT lists vertices beyond its 20"),
        (b"1 2 1", b"     ", "AMYGDALA_LEFT declares 3 channels"),
        (b"<MapName>tree</MapName>", b"<MapName>tree</MapNamE>", "could not be read"),
    ],
)
def test_cifti_files_that_contradict_themselves_are_refused(dscalar, old, new, words):
    content = dscalar.read_bytes()
    assert old in content
    dscalar.write_bytes(content.replace(old, new, 1))
    with refused(words):
        take(dscalar)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((4, 23), "the brain models have 24 channels, but the maps 23"),
        ((3, 24), "the XML declares 4 maps, but the header 3"),
        ((10**6, 10**9), "cannot hold them: is it cut off"),
    ],
)
def test_cifti_sizes_that_differ_between_header_and_xml_are_refused(dscalar, sizes, words):
    content = dscalar.read_bytes()
    header = nib.Nifti2Header(content[:540])
    header["dim"][5:7] = sizes
    declared = int(header["vox_offset"]) + 4 * math.prod(sizes)
    dscalar.write_bytes((header.binaryblock + content[540:])[:declared])
    with refused(words):
        take(dscalar)


def test_a_series_of_another_length_than_it_declares_is_refused(tmp_path, gray):
    path = cifti(tmp_path / "x.dtseries.nii", gray, SeriesAxis(0, 0.7, 4))
    path.write_bytes(path.read_bytes().replace(b'NumberOfSeriesPoints="4"', b'NumberOfSeriesPoints="9"'))
    with refused("the XML declares 9 maps, but the header 4"):
        take(path)


# The contract


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("lh.betas.func.gii", True),
        ("lh.thickness.shape.gii", True),
        ("lh.betas.GII", True),
        ("x.dscalar.nii", True),
        ("x.dtseries.nii", True),
        ("lh.aparc.label.gii", False),
        ("lh.white.surf.gii", False),
        ("x.dlabel.nii", False),
        ("x.pscalar.nii", False),
        ("x.nii", False),
        ("._lh.betas.func.gii", False),
    ],
)
def test_files_are_recognised_by_their_names(tmp_path, name, ours):
    assert READER.sniff(tmp_path / name) is ours


def test_the_reader_keeps_the_contract(func, dscalar, tmp_path, areas):
    check_reader(READER, func)
    check_reader(READER, dscalar, structure="CORTEX_LEFT")
    check_reader(READER, func, atlas=gifti(tmp_path / "lh.areas.label.gii", [areas], keys=KEYS), roi="IT")


FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8)


def result_of(path, **options):
    try:
        return take(path, **options)
    except BrainrdlError as error:
        message = str(error)
    assert f"file '{path}' (reader 'surfaces')" in message
    return None


@pytest.mark.parametrize("kind", ["func", "dscalar"])
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(request, tmp_path, kind, part):
    sound = request.getfixturevalue(kind)
    content = sound.read_bytes().rstrip()
    cut = tmp_path / f"cut_{sound.name}"
    cut.write_bytes(content[: int(part * len(content))])
    assert result_of(cut) is None


@pytest.mark.parametrize("kind", ["func", "dscalar"])
@FUZZ
@given(flips=FLIPS)
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(request, tmp_path, kind, flips):
    sound = request.getfixturevalue(kind)
    content = bytearray(sound.read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    flipped = tmp_path / f"flipped_{sound.name}"
    flipped.write_bytes(content)
    found = result_of(flipped)
    assert found is None or found.measurements.ndim == 2


@FUZZ
@given(flips=FLIPS, cut=st.floats(0.2, 1))
def test_damaged_annotations_give_data_or_a_refusal(func, annot, flips, cut):
    sound = annot.read_bytes()
    content = bytearray(sound)
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    annot.write_bytes(content[: int(cut * len(content))])
    found = result_of(func, atlas=annot)
    annot.write_bytes(sound)
    assert found is None or all(dataset.n_obs == 4 for dataset in found)


@FUZZ
@given(order=st.permutations(range(24)), seed=st.integers(0, 99))
def test_regions_are_right_whatever_the_order_of_the_atlas(tmp_path, dscalar, gray, order, seed):
    columns = models()
    numbers = np.random.default_rng(seed).choice([0, 3, 8], 24).astype(np.float32)
    numbers[:2] = 3, 8
    # nibabel writes channels sorted by structure; the vertices of each may be in any order
    structures = list(dict.fromkeys(columns.name))
    order = sorted(order, key=lambda place: structures.index(columns.name[place]))
    found = take(dscalar, atlas=dlabel(tmp_path / "a.dlabel.nii", numbers[order], columns[np.array(order)]))
    for dataset, number in zip(found, (3, 8), strict=True):
        np.testing.assert_array_equal(dataset.measurements, gray[:, numbers == number])


# FreeSurfer's .mgz and .label


def mgh(path, array):
    nib.MGHImage(array, np.eye(4)).to_filename(path)
    return path


@pytest.mark.parametrize("suffix", ["mgz", "mgh", "nii", "nii.gz"])
def test_an_atlas_of_freesurfer_is_matched_by_vertex(func, maps, areas, tmp_path, suffix):
    path = tmp_path / f"lh.wang15.{suffix}"
    volume = areas.reshape(-1, 1, 1)
    if suffix.startswith("mg"):
        mgh(path, volume)
    else:
        nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    regions = take(func, atlas=path)
    assert [part.descriptors["roi"] for part in regions] == ["3", "8"]
    for part, number in zip(regions, (3, 8), strict=True):
        np.testing.assert_array_equal(part.measurements, maps[:, areas == number])
    with refused(r"the atlas has 19 vertices on CORTEX_LEFT, but the maps have 20; resample it"):
        take(func, atlas=mgh(tmp_path / "lh.short.mgz", volume[:-1]))


def label(path, vertices, count=None):
    rows = "".join(f"{vertex} -1.0 2.0 3.0 0.0\n" for vertex in vertices)
    path.write_text(f"#!ascii label , from subject fsaverage\n{len(vertices) if count is None else count}\n{rows}")
    return path


def test_a_label_of_freesurfer_is_a_mask_or_a_region(func, maps, tmp_path):
    path = label(tmp_path / "lh.V1.label", [7, 2])
    region = take(func, atlas=path, roi="V1")
    np.testing.assert_array_equal(region.measurements, maps[:, [2, 7]])
    masked = take(func, mask=path)
    np.testing.assert_array_equal(masked.measurements, maps[:, [2, 7]])
    assert masked.channel_descriptors["vertex"].tolist() == [2, 7]


def test_a_label_of_one_hemisphere_fits_cifti(dscalar, gray, tmp_path):
    region = take(dscalar, atlas=label(tmp_path / "rh.V1.label", [1, 3]), roi="V1")
    assert set(region.channel_descriptors["structure"]) == {"CORTEX_RIGHT"}
    np.testing.assert_array_equal(region.measurements, gray[:, len(LEFT) + np.flatnonzero(np.isin(RIGHT, [1, 3]))])


def test_labels_that_do_not_fit_are_refused(func, tmp_path):
    with refused("the mask is on .*CORTEX_RIGHT.*, but the maps on"):
        take(func, mask=label(tmp_path / "rh.V1.label", [1]))
    with refused("lists vertex 20, but the maps have 20 vertices on CORTEX_LEFT; resample it .*mri_label2label"):
        take(func, mask=label(tmp_path / "lh.V1.label", [1, 20]))
    with refused("it declares 3 vertices, but lists 2: is it cut off or damaged"):
        take(func, mask=label(tmp_path / "lh.V2.label", [1, 2], count=3))
    (tmp_path / "lh.V3.label").write_text("just words")
    with refused("it is not a list of vertices as FreeSurfer writes it"):
        take(func, mask=tmp_path / "lh.V3.label")


@pytest.mark.parametrize("suffix", ["mgz", "mgh"])
def test_maps_of_freesurfer_on_a_surface_are_read(tmp_path, maps, suffix):
    path = mgh(tmp_path / f"lh.betas.{suffix}", np.ascontiguousarray(maps.T).reshape(N_VERTICES, 1, 1, 4))
    (tmp_path / "lh.betas.tsv").write_text("condition\n" + "\n".join(CONDITIONS))
    data = read(path)
    assert data.obs_descriptors["stimulus"] == CONDITIONS
    np.testing.assert_array_equal(data.measurements, maps)
    assert set(data.channel_descriptors["structure"]) == {"CORTEX_LEFT"}


def test_a_damaged_file_of_freesurfer_is_refused(tmp_path, maps):
    path = mgh(tmp_path / "lh.betas.mgh", np.ascontiguousarray(maps.T).reshape(N_VERTICES, 1, 1, 4))
    content = path.read_bytes()
    path.write_bytes(content[:400])
    with refused("declares 604 bytes, but the file of 400 bytes cannot hold them: is it cut off"):
        take(path)
    path.write_bytes(content[:100])
    with refused("holds 100 bytes, but FreeSurfer's header has 284: it is cut off"):
        take(path)
