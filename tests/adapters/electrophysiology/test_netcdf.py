"""NetCDF assemblies, written by xarray as BrainIO writes them, and what is refused."""

from __future__ import annotations

import shutil
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from rsatoolbox.data import Dataset, TemporalDataset

from brainrdl import BrainrdlError, read
from brainrdl.testing.file_readers import check_reader
from data_adapters.electrophysiology.netcdf import READER

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

VALUES = np.random.default_rng(0).normal(size=(6, 5, 3))
STIMULI = ["n0", "n1", "n2", "n1", "n0", "n2"]
REGIONS = ["V4", "IT", "V4", "IT", "IT"]
ANIMALS = ["Chabo", "Chabo", "Tito", "Tito", "Tito"]
DIMS = ("presentation", "neuroid", "time_bin")
NO_BINS = {"time_bin_start": None, "time_bin_end": None}


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def assembly(values=VALUES, dims=DIMS, **changes):
    """Make an assembly with BrainIO's coordinates; None takes one away."""
    coords = {
        "stimulus_id": ("presentation", STIMULI),
        "object_name": ("presentation", ["cat", "dog", "car"] * 2),
        "repetition": ("presentation", [0, 0, 0, 1, 1, 1]),
        "neuroid_id": ("neuroid", [f"site{k}" for k in range(5)]),
        "region": ("neuroid", REGIONS),
        "animal": ("neuroid", ANIMALS),
        "time_bin_start": ("time_bin", [70, 90, 110]),
        "time_bin_end": ("time_bin", [90, 110, 130]),
    } | changes
    known = {name: each for name, each in coords.items() if each is not None and each[0] in dims}
    return xarray.DataArray(values, dims=dims, coords=known)


def write(made, path, compress=True, **options):
    """Write as BrainIO's write_netcdf does: multi-indices made by DataAssembly are flattened, then saved by xarray."""
    levels = {dim: [str(name) for name, each in made.coords.items() if each.dims == (dim,)] for dim in made.dims}
    made = made.set_index({dim: names for dim, names in levels.items() if names})
    made = made.reset_index(list(made.indexes))
    options = {"engine": "h5netcdf"} | options
    if compress:
        made = made.to_dataset(name="data", promote_attrs=True)
        options["encoding"] = {name: {"zlib": True, "complevel": 9} for name in made.data_vars}
    made.to_netcdf(path, **options)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(assembly(), tmp_path_factory.mktemp("netcdf") / "assy_test.nc")


@pytest.fixture
def file(written, tmp_path):
    """A file that a test may change."""
    return Path(shutil.copy(written, tmp_path))


def one_region(path):
    return write(assembly(region=("neuroid", ["IT"] * 5), animal=None), path)


# -- layouts


def test_each_region_of_an_assembly_is_a_dataset(file):
    v4, it = read(file, reader=READER)
    assert type(it) is TemporalDataset
    np.testing.assert_array_equal(v4.measurements, VALUES[:, [0, 2]])
    np.testing.assert_array_equal(it.measurements, VALUES[:, [1, 3, 4]])
    assert it.descriptors == {"roi": "IT"}
    assert it.obs_descriptors == {"stimulus": STIMULI}
    assert it.channel_descriptors == {"unit": ["site1", "site3", "site4"]}
    np.testing.assert_allclose(it.time_descriptors["time"], [0.08, 0.1, 0.12])


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_the_order_of_the_axes_does_not_matter(tmp_path, file, order):
    moved = assembly(VALUES.transpose(order), tuple(DIMS[k] for k in order))
    for found, expected in zip(
        read(write(moved, tmp_path / "b.nc"), reader=READER), read(file, reader=READER), strict=True
    ):
        np.testing.assert_array_equal(found.measurements, expected.measurements)


@pytest.mark.parametrize("single_bin", [False, True])
def test_an_assembly_without_time_or_with_one_time_bin_has_no_time(tmp_path, single_bin):
    values, dims = (VALUES[..., :1], DIMS) if single_bin else (VALUES[..., 0], DIMS[:2])
    changes = {"time_bin_start": ("time_bin", [70]), "time_bin_end": ("time_bin", [170])}
    _, it = read(write(assembly(values, dims, **changes), tmp_path / "a.nc"), reader=READER)
    assert type(it) is Dataset
    np.testing.assert_array_equal(it.measurements, VALUES[:, [1, 3, 4], 0])


@pytest.mark.parametrize("kind", ["uncompressed", "netcdf 3", "netcdf 3, 64 bit"])
def test_uncompressed_and_old_files_are_read_alike(tmp_path, file, kind):
    options = {} if kind == "uncompressed" else {"engine": "scipy"}
    options |= {"format": "NETCDF3_CLASSIC"} if kind == "netcdf 3" else {}
    path = write(assembly(), tmp_path / "b.nc", compress=False, **options)
    assert (path.read_bytes()[:3] == b"CDF") == ("netcdf 3" in kind)
    for found, expected in zip(read(path, reader=READER), read(file, reader=READER), strict=True):
        np.testing.assert_array_equal(found.measurements, expected.measurements)
        assert found.obs_descriptors == expected.obs_descriptors
        assert found.channel_descriptors == expected.channel_descriptors


def test_a_file_of_xarray_with_other_dimensions_is_read_by_naming_them(tmp_path):
    made = xarray.DataArray(
        VALUES,
        dims=("trial", "cell", "t"),
        coords={"image": ("trial", STIMULI), "t": ("t", [0.0, 10.0, 20.0], {"units": "ms"})},
        name="rates",
    )
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = read(tmp_path / "a.nc", reader=READER, axes="trial, cell, t", condition_column="image")
    np.testing.assert_array_equal(found.measurements, VALUES)
    assert found.obs_descriptors == {"stimulus": STIMULI}
    assert found.channel_descriptors == {"unit": ["0", "1", "2", "3", "4"]}
    np.testing.assert_allclose(found.time_descriptors["time"], [0, 0.01, 0.02])


def test_packed_integers_are_unpacked(tmp_path):
    made = assembly(np.round(VALUES[..., 0], 1), DIMS[:2]).to_dataset(name="data")
    packed = {"data": {"dtype": "i2", "scale_factor": 0.1, "_FillValue": -999}}
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf", encoding=packed)
    _, it = read(tmp_path / "a.nc", reader=READER)
    np.testing.assert_allclose(it.measurements, np.round(VALUES[:, [1, 3, 4], 0], 1), atol=1e-12)


# -- names


def test_names_travel_with_their_presentations_when_those_are_permuted(tmp_path, file):
    order = [3, 1, 5, 0, 2, 4]
    moved = write(assembly().isel(presentation=order, neuroid=[4, 2, 0, 3, 1]), tmp_path / "b.nc")
    expected = {part.descriptors["roi"]: part for part in read(file, reader=READER)}
    for part in read(moved, reader=READER):
        same = expected[part.descriptors["roi"]]
        units = [same.channel_descriptors["unit"].index(name) for name in part.channel_descriptors["unit"]]
        assert part.obs_descriptors["stimulus"] == [STIMULI[k] for k in order]
        np.testing.assert_array_equal(part.measurements, same.measurements[order][:, units])


def test_old_files_name_their_images(tmp_path):
    path = write(assembly(stimulus_id=None, image_id=("presentation", STIMULI)), tmp_path / "a.nc")
    assert read(path, reader=READER, roi="IT").obs_descriptors["stimulus"] == STIMULI


def test_an_only_coordinate_has_the_name_of_its_axis(tmp_path):
    path = write(assembly(object_name=None, repetition=None), tmp_path / "a.nc")
    with h5py.File(path) as opened:
        assert "stimulus_id" not in opened
    assert read(path, reader=READER, roi="IT").obs_descriptors["stimulus"] == STIMULI


def test_another_coordinate_can_name_conditions_and_runs(file):
    found = read(file, reader=READER, roi="IT", condition_column="object_name", run_column="repetition")
    assert found.obs_descriptors == {"stimulus": ["cat", "dog", "car"] * 2, "run": list("000111")}


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
def test_a_presentation_without_a_name_is_refused(tmp_path, option):
    numbers = ("presentation", [0.0, 1.0, np.nan, 1.0, 0.0, 2.0])
    path = write(assembly(object_name=numbers), tmp_path / "a.nc")
    with refused("1 of 6 values of coordinate 'object_name' are missing .*, the first at position 2"):
        read(path, reader=READER, **{option: "object_name"})


def test_whole_numbers_name_conditions_without_a_point(tmp_path):
    changes = {
        "object_name": ("presentation", [0.0, 1.0, 2.5] * 2),
        "repetition": ("presentation", [0.0] * 3 + [1.0] * 3),
    }
    path = write(assembly(**changes), tmp_path / "a.nc")
    found = read(path, reader=READER, roi="IT", condition_column="object_name", run_column="repetition")
    assert found.obs_descriptors == {"stimulus": ["0", "1", "2.5"] * 2, "run": list("000111")}


def test_coordinates_of_unusual_names_must_be_chosen(tmp_path):
    path = write(assembly(stimulus_id=None), tmp_path / "a.nc")
    with refused("which column of dimension 'presentation' names the conditions.*object_name, repetition"):
        read(path, reader=READER)


def test_an_assembly_without_coordinates_leaves_the_naming_to_names(tmp_path):
    xarray.Dataset({"data": (DIMS[:2], VALUES[..., 0])}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert read(tmp_path / "a.nc", reader=READER).obs_descriptors == {}
    assert read(tmp_path / "a.nc", reader=READER, names=STIMULI).obs_descriptors["stimulus"] == STIMULI


@pytest.mark.parametrize("option", ["condition_column", "run_column"])
def test_an_unknown_coordinate_is_refused_with_the_nearest(file, option):
    with refused(f"{option}.* 'object' is not known; nearest: 'object_name'"):
        read(file, reader=READER, **{option: "object"})


# -- regions and subjects


def test_roi_chooses_regions_in_the_order_asked(file):
    assert read(file, reader=READER, roi="V4").descriptors == {"roi": "V4"}
    assert [part.descriptors["roi"] for part in read(file, reader=READER, roi=["IT", "V4"])] == ["IT", "V4"]


def test_each_subject_can_be_a_dataset(file):
    parts = read(file, reader=READER, by_subject=True)
    assert [tuple(part.descriptors.values()) for part in parts] == [
        ("V4", "Chabo"), ("V4", "Tito"), ("IT", "Chabo"), ("IT", "Tito"),
    ]  # fmt: skip
    np.testing.assert_array_equal(parts[3].measurements, VALUES[:, [3, 4]])


def test_the_units_of_one_animal_say_whose_they_are(tmp_path):
    path = write(assembly(region=("neuroid", ["V4", "V4", "IT", "IT", "IT"])), tmp_path / "a.nc")
    assert [part.descriptors for part in read(path, reader=READER)] == [
        {"roi": "V4", "subject": "Chabo"}, {"roi": "IT", "subject": "Tito"},
    ]  # fmt: skip


def test_fmri_assemblies_name_roi_and_subject(tmp_path):
    changes = {"region": None, "roi": ("neuroid", REGIONS), "animal": None, "subject": ("neuroid", [1, 1, 2, 2, 2])}
    parts = read(write(assembly(**changes), tmp_path / "a.nc"), reader=READER, by_subject=True)
    assert [part.descriptors for part in parts][-1] == {"roi": "IT", "subject": "2"}


@pytest.mark.parametrize("options", [{"roi": "IT"}, {"by_subject": True}])
def test_units_that_belong_nowhere_cannot_be_chosen(tmp_path, options):
    path = write(assembly(region=None, animal=None), tmp_path / "a.nc")
    found = read(path, reader=READER)
    assert found.descriptors == {}
    assert found.channel_descriptors["unit"][:2] == ["site0", "site1"]  # an only coordinate bears the dimension's name
    with refused(r"(roi='IT' needs|by_subject needs).*among the coordinates of the units; they are neuroid"):
        read(path, reader=READER, **options)


def test_an_unknown_region_is_refused(file):
    with refused(r"roi 'V1' is not known.*known: V4, IT"):
        read(file, reader=READER, roi="V1")


# -- time


@pytest.mark.parametrize(
    ("units", "option", "scale"), [("s", None, 1), ("ms", "s", 1e-3), (None, "s", 1), (None, None, 1e-3)]
)
def test_the_unit_of_time_is_the_files_own_or_that_given_or_ms(tmp_path, units, option, scale):
    attributes = {"units": units} if units else {}
    changes = {
        "time_bin_start": ("time_bin", [70, 90, 110], attributes),
        "time_bin_end": ("time_bin", [90, 110, 130], attributes),
    }
    made = assembly(region=None, **changes).to_dataset(name="data")
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = read(tmp_path / "a.nc", reader=READER, time_unit=option)
    np.testing.assert_allclose(found.time_descriptors["time"], np.array([80, 100, 120]) * scale)


def test_times_with_a_type_of_their_own_are_read_in_seconds(tmp_path):
    made = assembly(region=None, **NO_BINS, time_bin=("time_bin", np.array([0, 10, 25], "timedelta64[ms]")))
    made.to_dataset(name="data").to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    np.testing.assert_allclose(read(tmp_path / "a.nc", reader=READER).time_descriptors["time"], [0, 0.01, 0.025])


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        (NO_BINS, {}, "no coordinate gives the times along 'time_bin'; its coordinates are none"),
        ({"time_bin_end": None}, {}, "no coordinate gives the times along 'time_bin'; .* are time_bin_start"),
        (NO_BINS | {"time_bin": ("time_bin", [1, 2, 3])}, {}, "unit of coordinate 'time_bin' is ''"),
        ({"time_bin_start": ("time_bin", [1, 2, 3], {"units": "frames"})}, {}, "of coordinate .* is 'frames'"),
        ({"time_bin_start": ("time_bin", [1, np.nan, 3])}, {}, "'time_bin_start' holds times that are not finite"),
        ({}, {"time_unit": "min"}, "time_unit 'min' is not known"),
    ],
)  # fmt: skip
def test_times_that_are_not_known_are_refused(tmp_path, changes, options, words):
    made = assembly(**changes).to_dataset(name="data")
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with refused(words):
        read(tmp_path / "a.nc", reader=READER, **options)


# -- which array


def test_of_several_arrays_one_must_be_chosen(tmp_path):
    made = xarray.Dataset({"evoked": (DIMS[:2], VALUES[..., 0]), "spontaneous": (DIMS[:2], VALUES[..., 1])})
    made["other"] = ("x", [1.0])
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with refused(r"2 arrays have the dimensions axes=.*known: evoked \('presentation', 'neuroid'\), spontaneous"):
        read(tmp_path / "a.nc", reader=READER)
    found = read(tmp_path / "a.nc", reader=READER, variable="spontaneous")
    np.testing.assert_array_equal(found.measurements, VALUES[..., 1])
    with refused("variable 'spontan' is not known; nearest: 'spontaneous'"):
        read(tmp_path / "a.nc", reader=READER, variable="spontan")
    with refused("does not fit array 'other' with dimensions {'x': 1}"):
        read(tmp_path / "a.nc", reader=READER, variable="other")


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ("trial,unit", "0 arrays have the dimensions axes='trial,unit'.*known: data"),
        ("presentation,neuroid", "does not fit array 'data' with dimensions"),
        ("presentation", "axes='presentation' does not fit array 'data'"),
        ("presentation,neuroid,neuroid", r"\['neuroid'\] occur more than once"),
        ("presentation,neuroid,time_bin,x", "does not fit array 'data'"),
    ],
)
def test_axes_that_do_not_fit_are_refused(file, axes, words):
    with refused(words):
        read(file, reader=READER, axes=axes)


@pytest.mark.parametrize("values", [np.full((6, 5), "a"), VALUES[:0, :, 0]])
def test_an_array_of_texts_or_of_nothing_is_refused(tmp_path, values):
    xarray.Dataset({"data": (DIMS[:2], values)}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with refused("array 'data' holds .*, not numbers|does not fit array 'data' with dimensions"):
        read(tmp_path / "a.nc", reader=READER)


# -- what is unsound


def test_a_link_into_another_file_is_refused(tmp_path, file):
    path = write(assembly(), tmp_path / "b.nc")
    with h5py.File(path, "r+") as opened:
        del opened["data"]
        opened["data"] = h5py.ExternalLink(str(file), "data")
    with refused("'data' in 'data' is a link into another file"):
        read(path, reader=READER)


def test_a_huge_array_of_which_nothing_is_stored_is_refused_before_memory_is_taken(tmp_path):
    import h5netcdf

    with h5netcdf.File(tmp_path / "a.nc", "w") as opened:
        opened.dimensions = {"presentation": 10**6, "neuroid": 10**6}
        opened.create_variable("data", DIMS[:2], "f8", chunks=(100, 100))
    tracemalloc.start()
    with refused(r"array 'data' has shape \(1000000, 1000000\), 8000000000000 bytes, but the file stores 0"):
        read(tmp_path / "a.nc", reader=READER)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_a_huge_array_in_an_old_file_is_refused_before_memory_is_taken(tmp_path):
    path = write(assembly(region=None), tmp_path / "a.nc", compress=False, engine="scipy")
    content = path.read_bytes()
    size = b"neuroid\x00" + (5).to_bytes(4, "big")
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, b"neuroid\x00" + (2**30).to_bytes(4, "big")))
    with refused("could not be read; is it cut off, damaged"):
        read(path, reader=READER)


@pytest.mark.parametrize("together", [True, False])
def test_one_region_is_read_without_the_others(tmp_path, together):
    values = np.random.default_rng(0).normal(size=(1500, 1000))
    places = np.arange(990, 1000) if together else np.arange(5, 1000, 100)
    region = np.where(np.isin(np.arange(1000), places), "IT", "V4")
    made = xarray.Dataset(
        {"data": (DIMS[:2], values)},
        {"stimulus_id": (DIMS[0], np.arange(1500)), "region": (DIMS[1], region)},
    )
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    read(tmp_path / "a.nc", reader=READER, roi="IT")
    tracemalloc.start()
    found = read(tmp_path / "a.nc", reader=READER, roi="IT")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found.measurements, values[:, places])
    assert values.nbytes == 12e6
    assert peak < 4e6


@pytest.mark.parametrize("library", ["xarray", "h5netcdf"])
def test_without_the_libraries_the_extra_is_named(file, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with refused(r"reading NetCDF needs xarray and h5netcdf .*; pip install 'brainrdl\[arrays\]'"):
        read(file, reader=READER)


def test_a_file_that_is_no_netcdf_is_refused(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"nothing of the kind" * 100)
    with refused("it is not an HDF5 file, or its beginning is damaged"):
        read(tmp_path / "a.nc", reader=READER)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.nc").touch()
    with refused(r"\(reader 'netcdf'\): the file is empty"):
        read(tmp_path / "a.nc", reader=READER)


def test_the_reader_keeps_the_contract(tmp_path):
    check_reader(READER, one_region(tmp_path / "a.nc"))
    check_reader(READER, write(assembly(region=None), tmp_path / "b.nc", compress=False, engine="scipy"))


# -- damaged files

FUZZ = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["4", "3"])
def sound(request, tmp_path):
    if request.param == "4":
        return one_region(tmp_path / "a.nc")
    return write(assembly(region=None, animal=None), tmp_path / "a.nc", compress=False, engine="scipy")


def result_of(path):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    try:
        return read(path, reader=READER)
    except BrainrdlError as error:
        message = str(error)
    assert f"file {str(path)!r} (reader 'netcdf')" in message
    return None


@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(sound, part):
    content = sound.read_bytes()
    cut = sound.with_name("cut.nc")
    cut.write_bytes(content[: int(part * len(content))])
    assert result_of(cut) is None


@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8))
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(sound, flips):
    content = bytearray(sound.read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    flipped = sound.with_name("flipped.nc")
    flipped.write_bytes(content)
    found = result_of(flipped)
    for part in found if isinstance(found, list) else [] if found is None else [found]:
        assert part.measurements.shape[0] == part.n_obs
