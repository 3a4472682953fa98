"""NIfTI maps: nibabel's own reading as oracle, names that travel with values, and every refusal."""

from __future__ import annotations

import gzip
import tarfile
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainrdl import BrainrdlError, calc_rdm, read
from brainrdl.testing.file_readers import _same_data, check_reader
from data_adapters.fmri_maps import volumes as _volumes
from data_adapters.fmri_maps.nifti import READER

SHAPE, N = (5, 4, 3), 6
AFFINE = np.array([[-3.0, 0, 0, 60], [0, 3, 0.2, -40], [0, -0.2, 3, 10], [0, 0, 0, 1]])
CONDITIONS = ["cat", "dog", "car", "cat", "dog", "car"]
RUNS = ["1", "1", "1", "2", "2", "2"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


def save(path, array, affine=AFFINE, kind=nib.Nifti1Image):
    nib.save(kind(array, affine), path)
    return path


def table(path, conditions=CONDITIONS, runs=RUNS):
    rows = [f"{condition}\t{run}" for condition, run in zip(conditions, runs, strict=True)]
    path.write_text("\n".join(["condition\trun", *rows]) + "\n")
    return path


def take(path, **options):
    return read(path, reader=READER, **options)


def named(dataset):
    """Give conditions and runs, without the other columns of a table."""
    return {key: values for key, values in dataset.obs_descriptors.items() if key in {"stimulus", "run", "session"}}


def voxels_of(dataset):
    return tuple(dataset.channel_descriptors[axis] for axis in "ijk")


@pytest.fixture
def array():
    return np.random.default_rng(0).normal(100, 10, (*SHAPE, N)).astype(np.float32)


@pytest.fixture
def betas(tmp_path, array):
    return save(tmp_path / "betas.nii", array)


@pytest.fixture
def mask(tmp_path):
    return save(tmp_path / "mask.nii.gz", (np.indices(SHAPE).sum(axis=0) % 3 == 1).astype(np.uint8))


@pytest.fixture
def atlas(tmp_path):
    """Regions 7 (i = 1) and 2 (i = 3); the other voxels are in none."""
    numbers = np.zeros(SHAPE, np.int16)
    numbers[1], numbers[3] = 7, 2
    return save(tmp_path / "atlas.nii.gz", numbers)


# Values


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2", ">i2", "<i4", "u1"])
def test_values_are_those_that_nibabel_reads(tmp_path, array, mask, kind, suffix, dtype):
    stored = (array * 2).astype(dtype)
    path = save(tmp_path / f"betas{suffix}", stored, kind=kind)
    dataset = take(path, mask=mask)
    expected = np.asanyarray(nib.load(path).dataobj)[voxels_of(dataset)].T
    np.testing.assert_array_equal(dataset.measurements, expected)
    assert dataset.measurements.dtype == (np.float32 if np.can_cast(stored.dtype, np.float32) else np.float64)
    inside = np.asanyarray(nib.load(mask).dataobj) != 0
    assert sorted(zip(*voxels_of(dataset), strict=True)) == sorted(zip(*np.nonzero(inside), strict=True))


def test_scaled_integers_are_unscaled_as_nibabel_does(tmp_path, array, mask):
    image = nib.Nifti1Image(array, AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scaled.nii.gz")
    loaded = nib.load(tmp_path / "scaled.nii.gz")
    assert loaded.dataobj.slope != 1
    dataset = take(tmp_path / "scaled.nii.gz", mask=mask)
    np.testing.assert_array_equal(dataset.measurements, loaded.get_fdata()[voxels_of(dataset)].T)


@pytest.mark.parametrize("block", [1, 200, 500, 2**20])
def test_blocks_of_any_size_give_the_same(betas, mask, monkeypatch, block):
    expected = take(betas, mask=mask)
    monkeypatch.setattr(_volumes, "_BLOCK", block)
    assert _same_data(take(betas, mask=mask), expected)


@pytest.mark.parametrize(("shape", "n"), [(SHAPE, 1), ((*SHAPE, 1), 1), ((*SHAPE, 1, N), N)])
def test_a_single_map_and_maps_on_the_fifth_axis_are_read(tmp_path, shape, n):
    array = np.random.default_rng(1).normal(size=shape)
    dataset = take(save(tmp_path / "map.nii", array))
    assert dataset.measurements.shape == (n, 60)
    np.testing.assert_array_equal(dataset.measurements, array.reshape(*SHAPE, n)[voxels_of(dataset)].T)


def test_one_region_of_a_large_file_needs_little_memory(tmp_path, monkeypatch):
    array = np.random.default_rng(0).integers(1, 999, (60, 60, 40, 8)).astype(np.int16)
    path = save(tmp_path / "large.nii", array)
    inside = np.zeros(array.shape[:3], np.uint8)
    inside[20:24, 20:24, 9:11] = 1
    lengths = []
    opened = _volumes._opened

    def counting(file):
        handle = opened(file)
        kept = handle.read

        class Counted:
            __enter__, __exit__ = (lambda self: self), (lambda self, *_: handle.close())
            seek = staticmethod(handle.seek)

            def read(self, size):
                lengths.append((file.name, size))
                return kept(size)

        return Counted()

    save(tmp_path / "roi.nii", inside)
    monkeypatch.setattr(_volumes, "_opened", counting)
    assert take(path, mask=tmp_path / "roi.nii").n_channel == 32
    read_there = [size for name, size in lengths if name == "large.nii"]
    assert max(read_there) <= 2 * 60 * 60 * 2
    assert sum(read_there) < 0.06 * path.stat().st_size


def test_voxels_outside_the_brain_are_left_out_and_counted(tmp_path, array):
    array[0, 0, 0], array[1, 1, 1, 2], array[2, 2, 2, 3] = 5.0, np.nan, np.inf
    dataset = take(save(tmp_path / "betas.nii", array))
    assert (dataset.n_channel, dataset.descriptors["n_dropped_channels"]) == (57, 3)
    kept = set(zip(*(places.tolist() for places in voxels_of(dataset)), strict=True))
    assert not kept & {(0, 0, 0), (1, 1, 1), (2, 2, 2)}


def test_of_a_single_map_only_zeros_and_nan_are_left_out(tmp_path, array):
    array[0, 0, 0, 0], array[1, 1, 1, 0] = 0, np.nan
    dataset = take(save(tmp_path / "map.nii", array[..., 0]))
    assert (dataset.n_channel, dataset.descriptors["n_dropped_channels"]) == (58, 2)


def test_a_region_without_a_voxel_left_is_refused(tmp_path, array, atlas):
    array[1] = 0
    path = save(tmp_path / "betas.nii", array)
    with refused(r"region '7': none of 12 channels is left.*\(0 maps hold only NaN"):
        take(path, atlas=atlas)
    assert take(path, atlas=atlas, roi="2").n_channel == 12
    array[..., 4] = np.nan
    with refused(r"the maps: none of 60 channels is left.*\(1 maps hold only NaN"):
        take(save(path, array))


def test_haxbys_volumes_are_read_with_mask_and_labels(data_folder, tmp_path):
    with tarfile.open(data_folder / "haxby2001.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "haxby2001"
    labels = [line.split() for line in (folder / "attributes_literal.txt").read_text().splitlines() if line]
    table(tmp_path / "bold.tsv", *zip(*labels, strict=True))
    dataset = take(folder / "bold.nii.gz", mask=folder / "mask.nii.gz", table=tmp_path / "bold.tsv")
    assert dataset.measurements.shape == (1452, 530)
    expected = np.asanyarray(nib.load(folder / "bold.nii.gz").dataobj)[voxels_of(dataset)].T
    np.testing.assert_array_equal(dataset.measurements, expected)
    assert dataset.obs_descriptors["stimulus"] == [name for name, _ in labels]
    assert len(set(dataset.obs_descriptors["run"])) == 12


@pytest.mark.parametrize("name", ["functional.nii", "example4d.nii.gz", "example_nifti2.nii.gz"])
def test_files_of_scanners_are_read_as_nibabel_reads_them(name):
    path = Path(nib.__file__).parent / "tests" / "data" / name
    if not path.is_file():
        pytest.skip(f"nibabel was installed without its {name}")
    dataset = take(path)
    np.testing.assert_array_equal(dataset.measurements, np.asanyarray(nib.load(path).dataobj)[voxels_of(dataset)].T)


# Names


def test_a_csv_next_to_the_maps_is_found_if_there_is_no_tsv(betas, tmp_path):
    (tmp_path / "betas.csv").write_text("condition\n" + "\n".join("abcdef"))
    assert take(betas).obs_descriptors == {"stimulus": list("abcdef")}
    table(tmp_path / "betas.tsv")
    assert take(betas).obs_descriptors["stimulus"] == CONDITIONS


def test_the_neighbour_table_names_conditions_and_runs(betas, tmp_path, mask):
    assert not take(betas, mask=mask).obs_descriptors
    table(tmp_path / "betas.tsv")
    assert take(betas, mask=mask).obs_descriptors == {"stimulus": CONDITIONS, "run": RUNS}


@pytest.mark.parametrize("column", ["condition", "stimulus", "trial_type"])
def test_a_table_may_name_its_conditions_in_any_usual_column(betas, tmp_path, column):
    rows = "\n".join(f"{run},x,{name}" for run, name in zip(RUNS, CONDITIONS, strict=True))
    path = tmp_path / "table.csv"
    path.write_text(f"run,note,{column}\r\n{rows}\r\n\r\n", encoding="utf-8-sig")
    assert named(take(betas, table=path)) == {"stimulus": CONDITIONS, "run": RUNS}
    path.write_text(f"chunk,note,{column}\n{rows}\n")
    assert named(take(betas, table=path)) == {"stimulus": CONDITIONS}
    taken = take(betas, table=path, condition_column="note", run_column="chunk")
    assert named(taken) == {"stimulus": ["x"] * N, "run": RUNS}


def test_names_of_files_contain_subject_session_and_run(tmp_path, array):
    dataset = take(save(tmp_path / "sub-07_ses-b_task-x_run-3_stat-t_statmap.nii.gz", array))
    assert dataset.descriptors == {"n_dropped_channels": 0, "subject": "07", "session": "b"}
    assert dataset.obs_descriptors["run"] == ["3"] * N


def test_a_pattern_gives_a_dataset_for_each_subject(tmp_path, array):
    for subject in ("01", "02"):
        (tmp_path / f"sub-{subject}").mkdir()
        save(tmp_path / f"sub-{subject}" / "betas.nii.gz", array + int(subject))
    found = take(tmp_path / "sub-*" / "betas.nii.gz", names=list("abcdef"))
    assert [dataset.descriptors["subject"] for dataset in found] == ["01", "02"]
    np.testing.assert_allclose(found[1].measurements - found[0].measurements, 1, atol=1e-4)
    assert found[1].obs_descriptors["stimulus"] == list("abcdef")


# Regions

TABLES = {
    "bids.tsv": "index\tname\tcolor\n2\tV1\t#f00\n7\tIT\t#0f0\n9\tMT\t#00f\n",
    "other.tsv": "name\tabbreviation\tindex\nIT\tx\t7\nV1\ty\t2\n",
    "label.csv": "index,label\n0,Background\n7,IT\n2,V1\n",
    "numbers.tsv": "label\tname\n7\tIT\n2\tV1\n",
    "numbered.txt": "7 IT\n2   V1\n",
    "colours.txt": "#No. Label Name: R G B A\n\n  0  Unknown  0 0 0 0\n  2  V1  10 20 30 0\n  7  IT  1 2 3 0\n",
    "lines.txt": "\n".join(["a", "V1", "b", "c", "d", "e", "IT"]),
    "from0.txt": "\n".join(["Background", "a", "V1", "b", "c", "d", "e", "IT"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_regions_get_their_names_from_any_table_of_labels(betas, atlas, tmp_path, array, name):
    (tmp_path / name).write_text(TABLES[name])
    found = take(betas, atlas=atlas, labels=tmp_path / name)
    assert [dataset.descriptors["roi"] for dataset in found] == ["V1", "IT"]
    np.testing.assert_array_equal(found[0].measurements, array[(3, *voxels_of(found[0])[1:])].T)
    np.testing.assert_array_equal(found[1].measurements, array[(1, *voxels_of(found[1])[1:])].T)
    assert set(found[0].channel_descriptors["i"]) == {3}


def test_regions_come_in_the_order_asked(betas, atlas, tmp_path):
    (tmp_path / "atlas.tsv").write_text(TABLES["bids.tsv"])
    everything = take(betas, atlas=atlas)
    assert [dataset.descriptors["roi"] for dataset in everything] == ["V1", "IT"]
    swapped = take(betas, atlas=atlas, roi=["IT", "V1"])
    assert all(_same_data(one, other) for one, other in zip(swapped, everything[::-1], strict=True))
    assert _same_data(take(betas, atlas=atlas, roi="IT"), everything[1])
    assert isinstance(take(betas, atlas=atlas, roi=["IT"]), list)


def test_regions_without_names_are_named_by_number(betas, atlas):
    assert [dataset.descriptors["roi"] for dataset in take(betas, atlas=atlas)] == ["2", "7"]


def test_mask_and_atlas_together_give_their_common_voxels(betas, atlas, mask):
    dataset = take(betas, atlas=atlas, mask=mask, roi="7")
    i, j, k = voxels_of(dataset)
    assert dataset.n_channel == 4
    assert set(i) == {1}
    assert set((i + j + k) % 3) == {1}


# Folders


@pytest.fixture
def folder(tmp_path, array):
    made = tmp_path / "first_level"
    made.mkdir()
    for number, name in enumerate(["house", "face", "cat"]):
        save(made / f"{name}.nii.gz", array[..., number])
    (made / "._cat.nii").write_bytes(b"left by another system")
    return made


def test_a_folder_of_maps_is_named_by_its_files(folder, array):
    assert READER.sniff(folder)
    dataset = take(folder)
    assert dataset.obs_descriptors == {"stimulus": ["cat", "face", "house"]}
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[2, 1, 0]])


def test_a_table_of_a_folder_is_paired_by_file(folder, tmp_path, array):
    path = tmp_path / "t.csv"
    path.write_text("condition,run,file\nHOUSE,3,sub/house.nii.gz\nx,2,other.nii\nDOG,1,cat.nii.gz\nFACE,2,face\n")
    with refused(r"table= '.*t.csv': the column 'file' names \['other'\], which are not among the maps"):
        take(folder, table=path)
    path.write_text(path.read_text().replace("x,2,other.nii\n", ""))
    dataset = take(folder, table=path)
    assert dataset.obs_descriptors == {"stimulus": ["DOG", "FACE", "HOUSE"], "run": ["1", "2", "3"]}
    np.testing.assert_array_equal(dataset.measurements[0], array[..., 2][voxels_of(dataset)])
    path.write_text(path.read_text().replace("cat.nii.gz", "cats.nii.gz"))
    with refused(r"the column 'file' names \['cats'\], which are not among the maps; nearest: 'cat'"):
        take(folder, table=path)
    path.write_text(path.read_text().replace("cats.nii.gz", "face.nii.gz"))
    with refused(r"\['face'\] occur more than once in the column 'file'"):
        take(folder, table=path)


def test_a_table_without_files_needs_numbered_maps_in_a_clear_order(folder, tmp_path, array):
    path = table(tmp_path / "t.tsv", ["Katze", "Gesicht", "Haus"], "123")
    with refused(r"which row belongs to which of the maps \['cat', 'face', 'house'\] is unclear"):
        take(folder, table=path)
    for number in (1, 2, 10):
        save(folder / f"beta_{number}.nii", array[..., number % 6])
    with refused(r"maps \['beta_1', 'beta_10', 'beta_2'\] is unclear; add a column 'file'"):
        take(folder, table=path, files="beta_*.nii")
    (folder / "beta_10.nii").rename(folder / "beta_3.nii")
    dataset = take(folder, table=path, files="beta_*.nii")
    assert dataset.obs_descriptors == {"stimulus": ["Katze", "Gesicht", "Haus"], "run": ["1", "2", "3"]}
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[1, 2, 4]])


def test_files_that_spm_writes_next_to_the_betas_are_not_observations(folder, array):
    save(folder / "mask.nii", (array[..., 0] > 0).astype(np.uint8))
    with refused(r"also holds \['mask.nii'\], which are not observations; choose which to read with a pattern, files="):
        take(folder)
    assert take(folder, files="*e.nii.gz", mask=folder / "mask.nii").obs_descriptors["stimulus"] == ["face", "house"]


def test_maps_of_a_folder_must_be_single_and_on_one_grid(folder, array):
    for words, changed in {
        r"'cat.nii.gz' holds 2 maps, but in a folder each file is one observation": array[..., :2],
        r"'face.nii.gz' has shape \(5, 4, 3\), but 'cat.nii.gz' has \(4, 4, 3\)": array[1:, ..., 0],
    }.items():
        save(folder / "cat.nii.gz", changed)
        with refused(words):
            take(folder)
    save(folder / "cat.nii", array[..., 0])
    with refused(r"\['cat'\] occur more than once in the folder"):
        take(folder)
    with refused(r"no map in the folder matches files='\*.img'"):
        take(folder, files="*.img")


def test_files_are_picked_in_folders_only(betas):
    with refused(r"files='b\*' selects maps of a folder, but this is a single file"):
        take(betas, files="b*")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("betas.nii", True),
        ("betas.NII.GZ", True),
        ("sub-01.data.nii", True),
        ("betas.dscalar.nii", False),
        ("x.ptseries.nii", False),
        ("x.pdconn.nii", False),
        ("sub-01_bold.nii.gz", False),
        ("bold.nii", False),
        ("._betas.nii", False),
        ("betas.nii.bz2", False),
        ("betas.gii", False),
    ],
)
def test_files_are_recognised_by_their_names(tmp_path, name, ours):
    assert READER.sniff(tmp_path / name) is ours


def test_folders_of_other_layouts_are_not_recognised(folder, tmp_path):
    assert not READER.sniff(tmp_path)
    (folder / "dataset_description.json").touch()
    assert not READER.sniff(folder)


# Which maps are observations


def rows_of(path, header, rows):
    path.write_text("\n".join("\t".join(cells) for cells in (header, *rows)) + "\n")
    return path


@pytest.fixture
def numbered(tmp_path, array):
    """Maps beta_0001 to beta_0006."""
    made = tmp_path / "betas"
    made.mkdir()
    for number in range(N):
        save(made / f"beta_{number + 1:04d}.nii", array[..., number])
    return made


@pytest.mark.parametrize("column", ["file", "filename", "Image"])
@pytest.mark.parametrize(
    "cell", ["beta_{:04d}.nii", "/data/stats/beta_{:04d}.nii.gz", r"C:\spm\beta_{:04d}.nii,1", "beta_{:04d}"]
)
def test_a_table_pairs_by_any_column_that_names_the_maps(numbered, tmp_path, array, column, cell):
    rows = [(cell.format(number), f"c{number}", str(number % 2)) for number in (6, 5, 4, 3, 2, 1)]
    path = rows_of(tmp_path / "t.tsv", (column, "condition", "run"), rows)
    dataset = take(numbered, table=path)
    assert named(dataset) == {"stimulus": [f"c{number}" for number in range(1, 7)], "run": list("101010")}
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T)


PERMUTED = [
    ("name", "beta_{}"),
    ("File", "BETA_{:02d}.img"),
    ("any", "Beta_{:04d}"),
    ("any", "beta_{:04d}.nii, 1"),
    ("any", "beta_{:04d}.nii,2"),
    ("beta", "{}"),
    ("Index", "{:04d}"),
]


@pytest.mark.parametrize(("column", "cell"), PERMUTED)
def test_a_table_pairs_however_it_spells_the_maps(numbered, tmp_path, array, column, cell):
    rows = [(cell.format(number), f"c{number}") for number in (6, 5, 4, 3, 2, 1)]
    dataset = take(numbered, table=rows_of(tmp_path / "t.tsv", (column, "condition"), rows))
    assert dataset.obs_descriptors["stimulus"] == [f"c{number}" for number in range(1, 7)]
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T)
    rows = [(cell.format(number), f"c{number}") for number in (5, 2)]
    if column != "Index":
        dataset = take(numbered, table=rows_of(tmp_path / "t.tsv", (column, "condition"), rows))
        np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[1, 4]])


def test_names_with_one_misspelling_are_refused_not_paired_in_order(numbered, tmp_path):
    rows = [(name, name[-1]) for name in ("beta_6", "beta_5", "beta_4", "beta_3", "beta_2", "beat_1")]
    with refused(r"the column 'any' names \['beat_1'\], which are not among the maps; nearest: 'beta_0001'"):
        take(numbered, table=rows_of(tmp_path / "t.tsv", ("any", "condition"), rows))
    rows = [(name, name) for name in ("5", "4", "3", "2", "1", "0")]
    path = rows_of(tmp_path / "t.tsv", ("volume", "condition"), rows)
    with refused(r"the column 'volume' numbers the maps as \[5, 4, 3, 2, 1, .*\], but their names are \['beta_0001',"):
        take(numbered, table=path)
    rows_of(path, ("file", "condition"), [(name, name) for name in ("9", "4", "3", "2", "1", "5")])
    with refused(r"the column 'file' numbers the maps as \[9, 4, 3, 2, 1, .*\]; give|but their names are"):
        take(numbered, table=path)


def test_columns_that_count_do_not_name_maps(numbered, tmp_path, array):
    rows = [(c, str(r), o, str(i)) for i, (c, r, o) in enumerate(zip("121212", "112233", "653421", strict=True))]
    path = rows_of(tmp_path / "t.tsv", ("condition", "run", "order", "index"), rows)
    dataset = take(numbered, table=path)
    assert named(dataset) == {"stimulus": list("121212"), "run": list("112233")}
    for file in numbered.iterdir():
        file.rename(numbered / f"{int(file.stem[-1])}.nii")
    assert take(numbered, table=path).obs_descriptors == dataset.obs_descriptors
    rows_of(path, ("condition", "trial"), [(c, t) for c, t in zip("214365", "123456", strict=True)])
    with refused(r"which row belongs to which of the maps \['1', '2', '3', '4', '5', .*\] is unclear"):
        take(numbered, table=path)


def test_names_that_differ_only_in_case_or_zeros_are_distinguished(tmp_path, array):
    for number, name in enumerate(["a_1", "a_01", "A_1"]):
        save(tmp_path / f"{name}.nii", array[..., number])
    rows = [("a_01", "y"), ("A_1", "z"), ("a_1", "x")]
    dataset = take(tmp_path, table=rows_of(tmp_path / "t.tsv", ("file", "condition"), rows))
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[2, 1, 0]])
    assert dataset.obs_descriptors["stimulus"] == ["z", "y", "x"]


@pytest.mark.parametrize("column", ["volume", "Index", "map"])
@pytest.mark.parametrize("cells", [list("654321"), list("543210"), [f"betas.nii,{n}" for n in (2, 1, 3, 4, 5, 6)]])
def test_a_table_of_a_stack_that_counts_maps_in_another_order_is_refused(betas, tmp_path, array, column, cells):
    path = rows_of(tmp_path / "t.tsv", (column, "condition"), list(zip(cells, "abcdef", strict=True)))
    with refused(rf"the column '{column}' numbers the maps as \[.*\]; write the rows in the order of the maps"):
        take(betas, table=path)
    rows_of(path, (column, "condition", "order"), list(zip(sorted(cells), "abcdef", "654321", strict=True)))
    assert take(betas, table=path).obs_descriptors["stimulus"] == list("abcdef")


def test_columns_that_name_the_maps_in_different_orders_are_refused(folder, tmp_path):
    rows = [("cat.nii.gz", "house"), ("face.nii.gz", "face"), ("house.nii.gz", "cat")]
    path = rows_of(tmp_path / "t.tsv", ("file", "condition"), rows)
    with refused(r"the columns \['file', 'condition'\] name the maps in different orders"):
        take(folder, table=path)
    rows_of(path, ("file", "condition"), [("cats.nii.gz", "cat"), ("face.nii.gz", "face"), ("house.nii.gz", "house")])
    with refused(r"the column 'file' names \['cats'\], which are not among the maps"):
        take(folder, table=path)
    path = rows_of(path, ("condition", "run"), [("house", "1"), ("cat", "2"), ("face", "3")])
    assert named(take(folder, table=path)) == {"stimulus": ["cat", "face", "house"], "run": ["2", "3", "1"]}


def test_names_of_files_that_are_not_maps_are_refused_not_numbered(numbered, tmp_path):
    rows = [(f"run1_beta_{number:04d}.nii", f"c{number}") for number in range(6, 0, -1)]
    with refused(r"the column 'name' names \['run1_beta_0006', .* which are not among the maps"):
        take(numbered, table=rows_of(tmp_path / "t.tsv", ("name", "condition"), rows))


def test_only_maps_that_the_table_names_and_calls_conditions_are_read(numbered, tmp_path, array):
    rows = [
        ("beta_0005.nii", "b", "2"),
        ("beta_0003.nii", "n/a", "n/a"),
        ("beta_0001.nii", "a", "1"),
        ("beta_0002", "", ""),
    ]
    dataset = take(numbered, table=rows_of(tmp_path / "t.tsv", ("file", "condition", "run"), rows))
    assert dataset.obs_descriptors == {"stimulus": ["a", "b"], "run": ["1", "2"]}
    assert dataset.descriptors["n_dropped_observations"] == 4
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[0, 4]])


def test_rows_of_a_stack_without_condition_are_left_out_with_their_maps(betas, tmp_path, array):
    table(tmp_path / "betas.tsv", ["cat", "n/a", "dog", "", "car", "cat"])
    dataset = take(betas)
    assert dataset.obs_descriptors == {"stimulus": ["cat", "dog", "car", "cat"], "run": ["1", "1", "2", "2"]}
    assert dataset.descriptors["n_dropped_observations"] == 2
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[0, 2, 4, 5]])


SPM = [
    "Sn(1) face*bf(1)",
    "Sn(1) facexsize^1*bf(1)",
    "Sn(1) big house*bf(1)",
    "Sn(1) face*bf(2)",
    "Sn(1) R1",
    "Sn(2) face*bf(1)",
    "Sn(2) big house*bf(1)",
    "Sn(2) face*bf(1)xbig house*bf(1)",
    "Sn(2) constant",
]


def spm_folder(made, names):
    made.mkdir(exist_ok=True)
    for number, name in enumerate(names, start=1):
        image = nib.Nifti1Image(np.random.default_rng(number).normal(size=SHAPE).astype(np.float32), AFFINE)
        image.header["descrip"] = f"spm_spm:beta ({number:04d}) - {name}".encode()[:80]
        nib.save(image, made / f"beta_{number:04d}.nii")
    return made


def test_spms_betas_are_named_by_their_headers(tmp_path):
    made = spm_folder(tmp_path / "first_level", SPM)
    dataset = take(made)
    names = ["face", "big house", "face", "big house"]
    assert dataset.obs_descriptors == {"stimulus": names, "run": ["1", "1", "2", "2"]}
    assert dataset.descriptors["n_dropped_observations"] == 5
    for row, number in zip(dataset.measurements, (1, 3, 6, 7), strict=True):
        np.testing.assert_array_equal(row, nib.load(made / f"beta_{number:04d}.nii").get_fdata()[voxels_of(dataset)])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Sn(1) face*bf(4)", "SPM's model has 4 basis functions per condition"),
        ("Sn(1) " + "a" * 50 + "*bf(1)", "SPM's header may have cut off the name 'Sn.1. aaa"),
    ],
)
def test_spm_betas_that_headers_do_not_name_need_a_table(tmp_path, name, words):
    made = spm_folder(tmp_path / "first_level", [*SPM, name])
    with refused(words):
        take(made)
    path = rows_of(tmp_path / "t.tsv", ("file", "condition"), [("beta_0010.nii", "x"), ("beta_0003.nii", "big house")])
    assert take(made, table=path).obs_descriptors["stimulus"] == ["big house", "x"]


def test_a_table_must_not_rename_what_spms_headers_call_a_condition(tmp_path):
    made, header = spm_folder(tmp_path / "first_level", SPM), ("file", "condition")
    path = rows_of(tmp_path / "t.tsv", header, [("beta_0001.nii", "big house"), ("beta_0003.nii", "face")])
    with refused("the table names 'beta_0001' 'big house', but SPM's header names it 'face': is this the table of"):
        take(made, table=path)
    rows = [("beta_0001", "Sn(1) Face*bf(1)"), ("beta_0002", "size"), ("beta_0003", "n/a"), ("beta_0005", "x")]
    found = take(made, table=rows_of(path, header, rows)).obs_descriptors["stimulus"]
    assert found == ["Sn(1) Face*bf(1)", "size", "x"]
    made = spm_folder(tmp_path / "fir", [f"Sn(1) face*bf({number})" for number in range(1, 5)])
    rows = [(f"beta_{number:04d}", f"face_{number}") for number in (2, 1)]
    assert take(made, table=rows_of(path, header, rows)).obs_descriptors["stimulus"] == ["face_1", "face_2"]


def test_spm_betas_without_a_condition_are_refused(tmp_path):
    with refused("none of the 1 maps has a condition"):
        take(spm_folder(tmp_path / "first_level", ["Sn(1) constant"]))


@pytest.mark.parametrize(
    "name",
    [
        "sub-1_boldref",
        "sub-1_desc-brain_mask",
        "mask",
        "T1w",
        "sub-1_dseg",
        "sub-1_label-GM_probseg",
        "ResMS",
        "RPV",
        "ResI_0001",
        "res4d",
        "sigmasquareds",
        "threshac1",
        "thresh_zstat1",
        "cluster_mask_zstat1",
        "mean_func",
    ],
)
def test_files_that_are_not_observations_are_refused_in_a_folder(folder, array, name):
    save(folder / f"{name}.nii.gz", array[..., 0])
    with refused(
        rf"also holds \['{name}.nii.gz'\], which are not observations; choose which to read with a pattern, files="
    ):
        take(folder)
    assert take(folder, files="*[te].nii.gz", mask=None).n_obs >= 3


@pytest.mark.parametrize(
    "names",
    [
        ("beta_0001", "con_0001"),
        ("con_0001", "spmT_0001"),
        ("ess_0001", "spmF_0002"),
        ("cope1", "varcope1"),
        ("tstat1", "zstat1"),
        ("pe1", "zfstat1"),
        ("beta_0001", "face"),
        ("sub-1_contrast-a_statmap", "sub-1_r2_statmap"),
        ("sub-1_contrast-a_stat-effect_statmap", "sub-1_contrast-b_stat-z_statmap"),
        ("face_beta", "face_tmap"),
        ("face_effect_size", "house_z_score"),
        ("zmap_face", "face"),
        ("BETA_0001", "ResMS"),
        ("mask", "ResMS"),
    ],
)
def test_maps_of_different_kinds_in_a_folder_are_refused(tmp_path, array, names):
    for number, name in enumerate(names):
        save(tmp_path / f"{name}.nii", array[..., number])
    with refused(
        r"(holds maps of different kinds, like|also holds) \[.*\].*; choose which to read with a pattern, files="
    ):
        take(tmp_path)
    with refused(
        r"files='\*.nii' selects maps of different kinds, like \[.*\]; choose which to read with a pattern, files="
    ):
        take(tmp_path, files="*.nii")
    assert (
        take(tmp_path, files=f"{names[0]}.nii").n_obs == 1
    )  # even if it is not an observation, when nothing else is selected


@pytest.mark.parametrize(("entity", "what"), [("sub", "subjects"), ("task", "tasks")])
def test_maps_of_two_subjects_or_tasks_in_a_folder_are_refused(tmp_path, array, entity, what):
    for number, (value, name) in enumerate([("01", "face"), ("01", "cat"), ("02", "face"), ("02", "cat")]):
        save(tmp_path / f"{entity}-{value}_run-{value}_contrast-{name}_statmap.nii", array[..., number])
    with refused(rf"maps of several {what}, \['01', '02'\] \({entity}-\); .* with files='\*{entity}-01_\*'"):
        take(tmp_path)
    assert take(tmp_path, files=f"*{entity}-01_*").obs_descriptors["stimulus"] == ["cat", "face"]


def gfeat(made, array, folder="cope{}.feat"):
    """FSL's second level: a folder for each contrast, in which the map is always called cope1."""
    for number in (1, 2, 3):
        stats = made / folder.format(number) / "stats"
        stats.mkdir(parents=True)
        save(stats / "cope1.nii.gz", array[..., number])
    return made


def test_maps_whose_files_have_the_same_name_are_named_by_their_folders(tmp_path, array):
    made, files = gfeat(tmp_path / "fe.gfeat", array), "cope*.feat/stats/cope1.nii.gz"
    dataset = take(made, files=files)
    assert dataset.obs_descriptors == {"stimulus": ["cope1.feat", "cope2.feat", "cope3.feat"]}
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[1:4])
    for cell in ("cope{}.feat/stats/cope1.nii.gz", r"C:\fe.gfeat\COPE{}.feat\stats\cope1", "cope{}.feat"):
        rows = [(cell.format(number), f"c{number}") for number in (3, 1)]
        dataset = take(made, files=files, table=rows_of(tmp_path / "t.tsv", ("file", "condition"), rows))
        assert dataset.obs_descriptors == {"stimulus": ["c1", "c3"]}
        np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[[1, 3]])
    with refused(r"the column 'file' names \['cope1', 'cope1'\], which are not among the maps"):
        take(made, files=files, table=rows_of(tmp_path / "t.tsv", ("file", "condition"), [("cope1", "a")] * 2))
    save(made / "cope1.nii.gz", array[..., 0])
    with refused(
        r"maps are at different depths, and some have the same name, \['cope1.feat/stats/cope1', .*; choose one"
    ):
        take(made, files="**/cope1.nii.gz")


def test_runs_that_only_folders_distinguish_are_read_by_a_pattern(tmp_path, array):
    made = gfeat(tmp_path / "sub-01", array, "run-{}.feat")
    with refused("maps of several runs are in separate folders, like 'run-1.feat'; read them by a pattern of the"):
        take(made, files="run-*.feat/stats/cope1.nii.gz")
    (dataset,) = take(made / "run-*.feat" / "stats", files="cope*.nii.gz")
    assert dataset.obs_descriptors == {"stimulus": ["cope1"] * 3, "run": ["1", "2", "3"]}


def test_a_folder_of_folders_says_which_to_read(tmp_path, array):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "dataset_description.json").touch()
    save(tmp_path / "sub-01" / "sub-01_contrast-x_stat-effect_statmap.nii.gz", array[..., 0])
    assert READER.sniff(tmp_path)  # what nilearn writes
    with refused(
        r"no map in the folder matches files='\*'; there are maps in its folders \['sub-01'\], read one of them"
    ):
        read(tmp_path)
    (tmp_path / "sub-01" / "sub-01_contrast-x_stat-effect_statmap.nii.gz").rename(tmp_path / "x_statmap.nii.gz")
    assert read(tmp_path).obs_descriptors["stimulus"] == ["x_statmap"]


def test_links_to_files_that_were_not_downloaded_are_refused(folder, betas, mask):
    (folder / "dog.nii.gz").symlink_to("../.git/annex/objects/x")
    with refused(r"\['dog.nii.gz'\] are links to files that were not downloaded; fetch their content first"):
        take(folder)
    for file in folder.glob("[!d]*.nii.gz"):
        file.unlink()
    assert READER.sniff(folder)
    mask.unlink()
    mask.symlink_to("../.git/annex/objects/x")
    with refused("mask= is '.*mask.nii.gz', a link to a file that was not downloaded; fetch it first"):
        take(betas, mask=mask)


def test_maps_of_contrasts_are_named_by_them(tmp_path, array):
    for number, (run, contrast) in enumerate([(1, "face"), (1, "house"), (2, "face"), (2, "house")]):
        save(tmp_path / f"sub-01_run-{run}_contrast-{contrast}_stat-effect_statmap.nii.gz", array[..., number])
    dataset = take(tmp_path)
    assert dataset.obs_descriptors == {"stimulus": ["face", "house"] * 2, "run": ["1", "1", "2", "2"]}
    np.testing.assert_array_equal(dataset.measurements, array[voxels_of(dataset)].T[:4])
    save(tmp_path / "sub-01_run-1_contrast-face_desc-2_stat-effect_statmap.nii.gz", array[..., 4])
    with refused(
        "'sub-01_run-1_contrast-face_desc-2_.*' and '.*face_stat-effect_.*' both hold contrast 'face' of the same"
    ):
        take(tmp_path)
    (tmp_path / "sub-01_run-1_contrast-face_desc-2_stat-effect_statmap.nii.gz").unlink()
    save(tmp_path / "sub-01_run-1_contrast-face_stat-t_statmap.nii.gz", array[..., 4])
    assert take(tmp_path, files="*stat-effect*").n_obs == 4


# Runs of several sessions


def test_runs_of_several_sessions_have_different_names(betas, tmp_path):
    rows = [(c, s, r) for s in ("a", "b") for r, c in (("1", "cat"), ("1", "dog"), ("2", "cat"))]
    rows_of(tmp_path / "betas.tsv", ("condition", "Session", "run"), rows)
    observed = take(betas).obs_descriptors
    assert observed["run"] == ["a/1", "a/1", "a/2", "b/1", "b/1", "b/2"]
    assert observed["session"] == ["a"] * 3 + ["b"] * 3
    rows_of(tmp_path / "betas.tsv", ("condition", "session"), [row[:2] for row in rows])
    assert take(betas).obs_descriptors["run"] == ["a"] * 3 + ["b"] * 3
    rows_of(tmp_path / "betas.tsv", ("condition", "session", "run"), [(c, "a", r) for c, _, r in rows])
    assert take(betas).obs_descriptors.keys() == {"stimulus", "run"}
    assert take(betas).obs_descriptors["run"] == ["1", "1", "2"] * 2


def test_sessions_in_the_names_of_files_distinguish_runs(tmp_path, array):
    for number, (session, run) in enumerate([(1, 1), (1, 2), (2, 1)]):
        save(tmp_path / f"ses-{session}_run-{run}_contrast-x_statmap.nii", array[..., number])
    assert take(tmp_path).obs_descriptors["run"] == ["1/1", "1/2", "2/1"]
    rows = [
        (f"ses-{session}_run-{run}_contrast-x_statmap.nii", "x", str(run)) for session, run in [(2, 1), (1, 1), (1, 2)]
    ]
    path = rows_of(tmp_path / "t.tsv", ("file", "condition", "run"), rows)
    assert take(tmp_path, table=path).obs_descriptors["run"] == ["1/1", "1/2", "2/1"]


def test_columns_in_capitals_are_found_and_the_exact_spelling_is_preferred(betas, tmp_path):
    rows = list(zip(CONDITIONS, RUNS, "xxxxxx", strict=True))
    rows_of(tmp_path / "betas.tsv", ("Condition", "Run", "z"), rows)
    assert named(take(betas)) == {"stimulus": CONDITIONS, "run": RUNS}
    rows_of(tmp_path / "betas.tsv", ("condition", "run", "Run"), rows)
    assert named(take(betas)) == {"stimulus": CONDITIONS, "run": RUNS}
    rows_of(tmp_path / "betas.tsv", ("condition", "RUN", "Run"), rows)
    with refused(r"of which \['RUN', 'Run'\] could be meant; choose one with run_column="):
        take(betas)


def test_voxels_that_do_not_vary_within_a_run_are_left_out(betas, tmp_path, array):
    array[0, 0, 0, 3:], array[1, 1, 1, :3], array[2, 2, 2, 5] = 0, 7, 0
    save(betas, array)
    assert take(betas).descriptors["n_dropped_channels"] == 0
    table(tmp_path / "betas.tsv")
    assert take(betas).descriptors["n_dropped_channels"] == 2
    table(tmp_path / "betas.tsv", runs="111112")  # the last map is run 2: only where it is 0 it is dead
    dataset = take(betas)
    assert dataset.descriptors["n_dropped_channels"] == 2
    assert not {(0, 0, 0), (2, 2, 2)} & set(zip(*(place.tolist() for place in voxels_of(dataset)), strict=True))


# Refusals


def test_a_mask_or_atlas_on_another_grid_is_refused(betas, mask, atlas, tmp_path):
    save(mask, np.ones((4, 5, 3), np.uint8))
    with refused(r"the mask '.*mask.nii.gz' has shape \(4, 5, 3\), but the map has \(5, 4, 3\); resample it"):
        take(betas, mask=mask)
    moved = AFFINE.copy()
    moved[0, 3] += 0.31
    save(atlas, np.ones(SHAPE, np.int16), moved)
    with refused(
        r"the atlas '.*' has the affine \[\[-3.0, 0.0, 0.0, 60.31\].*, but the map has \[\[-3.0, 0.0, 0.0, 60.0\]"
    ):
        take(betas, atlas=atlas)
    moved[0, 3] = AFFINE[0, 3] + 0.29  # a tenth of a voxel is 0.3 mm
    save(atlas, np.ones(SHAPE, np.int16), moved)
    assert len(take(betas, atlas=atlas)) == 1


def test_maps_with_permuted_axes_do_not_fit_their_mask(tmp_path, array, mask):
    with refused(r"has shape \(5, 4, 3\), but the map has \(6, 5, 4\)"):
        take(save(tmp_path / "betas.nii", np.moveaxis(array, -1, 0)), mask=mask)


@pytest.mark.parametrize("kind", ["mask", "atlas"])
def test_a_mask_or_atlas_is_one_volume_in_a_file_that_is_there(betas, tmp_path, kind):
    path = save(tmp_path / "two.nii", np.ones((*SHAPE, 2), np.uint8))
    with refused(rf"the {kind} '.*two.nii' holds 2 volumes, expected one"):
        take(betas, **{kind: path})
    with refused(rf"{kind}= is 'none.nii', but there is no such file"):
        take(betas, **{kind: "none.nii"})


def test_a_mask_is_0_and_one_other_value(betas, atlas, mask):
    with refused(r"the mask holds the values \[2.0, 7.0\] besides 0, expected 0 and one other.*atlas="):
        take(betas, mask=atlas)
    with refused("the mask holds only 0"):
        take(betas, mask=save(mask, np.zeros(SHAPE, np.uint8)))
    values = np.full(SHAPE, np.nan, np.float32)
    values[2] = 0.5
    assert set(take(betas, mask=save(mask, values)).channel_descriptors["i"]) == {2}


def test_an_atlas_holds_whole_numbers(betas, atlas):
    values = np.zeros(SHAPE, np.float32)
    values[0, 0, 0] = 0.25
    with refused(r"the atlas holds \[0.25\], expected whole numbers; apply a threshold"):
        take(betas, atlas=save(atlas, values))
    values[0, 0, 0] = np.inf
    with refused(r"the atlas holds \[inf\]"):
        take(betas, atlas=save(atlas, values))
    values[0, 0, 0] = -1
    with refused("the atlas holds no region: no number is above 0"):
        take(betas, atlas=save(atlas, values))
    values[0], values[1] = np.nan, 3
    assert [dataset.descriptors["roi"] for dataset in take(betas, atlas=save(atlas, values))] == ["3"]


def test_unknown_empty_and_repeated_regions_are_refused(betas, atlas, mask, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("2 V1\n7 V4\n")
    with refused(r"regions \['V2'\] are not in the atlas \(2 regions\); nearest: 'V1', 'V4'|nearest: 'V4', 'V1'"):
        take(betas, atlas=atlas, labels=labels, roi="V2")
    with refused(r"\['V1'\] occur more than once in roi="):
        take(betas, atlas=atlas, labels=labels, roi=["V1", "V1"])
    with refused("roi= is an empty list"):
        take(betas, atlas=atlas, roi=[])
    outside = np.zeros(SHAPE, np.uint8)
    outside[3] = 1
    with refused(r"regions \['7'\] are outside the mask"):
        take(betas, atlas=atlas, mask=save(mask, outside))
    labels.write_text("2 V1\n7 V1\n")
    with refused(r"\['V1'\] occur more than once in the labels of the atlas"):
        take(betas, atlas=atlas, labels=labels)
    labels.write_text("2 V1\n")
    with refused(r"the labels do not name the numbers \[7\] of the atlas; name them, or choose others with roi="):
        take(betas, atlas=atlas, labels=labels)
    assert take(betas, atlas=atlas, labels=labels, roi="V1").n_channel == 12


def test_options_of_an_atlas_need_one(betas):
    with refused(r"roi='V1' asks for regions, but there is no atlas; give atlas="):
        take(betas, roi="V1")
    with refused(r"labels= is 'x.tsv', which names the regions of an atlas; give atlas="):
        take(betas, labels="x.tsv")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.tsv",
            "number\tname\n2\tV1\n",
            r"have no column index or label with the number of a region; they have \['number'",
        ),
        (
            "a.tsv",
            "index\tregion\n2\tV1\n",
            "the labels '.*a.tsv' have no column name or label with the name of a region",
        ),
        ("a.tsv", "label\tregion\n2\tV1\n", "have no column name with the name of a region"),
        ("a.tsv", "index\tname\ntwo\tV1\n", r"have \['two'\] as numbers of regions, expected whole numbers"),
        ("a.tsv", "index\tname\n2\tV1\n02\tV2\n", r"\['2'\] occur more than once in the labels"),
        ("a.txt", "2 V1\nIT\n", "have a number in 1 of 2 lines, but the form .1 V1. in 1: number all lines, or none"),
        ("a.txt", "\n# nothing\n", "have a number in 0 of 0 lines"),
        ("a.txt", "V1\nV2\n", "name the numbers 1 to 2, but the largest in the atlas is 7; write the number before"),
        ("a.txt", "???\nV1\n", "name the numbers 0 to 1, but the largest"),
    ],
)
def test_labels_that_leave_doubts_are_refused(betas, atlas, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with refused(words):
        take(betas, atlas=atlas, labels=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "itk.txt",
            '# ITK\n 0 0 0 0 0 0 0 "Clear Label"\n 2 255 0 0 1 1 1 "Left Hipp"\n 7 0 255 0 0.5 1 1 "Area 17"\n',
        ),
        ("fsl.lut", "2 0.47 0.07 0.53 Left Hipp\n7 0.1 1 0 Area 17\n"),
        ("floats.txt", "2.0 Left Hipp\n7.0 Area 17\n"),
        ("floats.tsv", "Index\tName\n2.0\tLeft Hipp\n7.00\tArea 17\n"),
        ("quoted.txt", '2 "Left Hipp"\n7 "Area 17"\n'),
    ],
)
def test_labels_of_other_programs_are_understood(betas, atlas, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = take(betas, atlas=atlas, labels=tmp_path / name)
    assert [dataset.descriptors["roi"] for dataset in found] == ["Left Hipp", "Area 17"]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("2 V1v 0 255 0 0\n7 V2v 0 0 255 0\n", range(len("7 V"), len("7 V2v 0 0 255"))),
        ('2 255 0 0 1 1 1 "V1v"\n7 0 255 0 1 1 1 "V2v"\n', range(len("7 0"), len('7 0 255 0 1 1 1 "V2v"'))),
    ],
)
def test_a_table_of_colours_that_is_cut_off_within_a_region_is_refused(betas, atlas, tmp_path, text, last):
    first = text.index("\n") + 1
    for end in last:
        (tmp_path / "labels.txt").write_text(text[: first + end])
        with refused(r"end in '7 .*', unlike the lines before it: is the file cut off"):
            take(betas, atlas=atlas, labels=tmp_path / "labels.txt")
    (tmp_path / "labels.txt").write_text(text.rstrip())
    assert take(betas, atlas=atlas, labels=tmp_path / "labels.txt")[1].descriptors["roi"] == "V2v"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2 Precentral_L 2001\n7 Precentral_R 2002\n", "have a number after each name .'Precentral_L 2001'., which"),
        ("a 1\nPrecentral_L 2\nb 3\nc 4\nd 5\ne 6\nPrecentral_R 7\n", "have a number after each name .'a 1'."),
        (
            "7: V1\n2: IT\na\nb\nc\nd\ne\n",
            "have a number in 2 of 7 lines, but the form .1 V1. in 0: number all lines, or none",
        ),
    ],
)
def test_labels_with_another_number_are_refused(betas, atlas, tmp_path, text, words):
    (tmp_path / "labels.txt").write_text(text)
    with refused(words):
        take(betas, atlas=atlas, labels=tmp_path / "labels.txt")


@pytest.mark.parametrize("name", ["n/a", "", "NaN"])
def test_a_region_without_a_name_is_refused_unless_others_are_picked(betas, atlas, tmp_path, name):
    (tmp_path / "atlas.tsv").write_text(f"index\tname\n2\tV1\n7\t{name}\n")
    with refused(r"the labels do not name the numbers \[7\] of the atlas"):
        take(betas, atlas=atlas)
    assert take(betas, atlas=atlas, roi="V1").n_channel == 12


def test_names_that_begin_or_end_with_a_digit_stay_whole(betas, atlas, tmp_path):
    (tmp_path / "labels.txt").write_text("2 Area 17\n7 Area 18\n")
    assert take(betas, atlas=atlas, labels=tmp_path / "labels.txt")[1].descriptors["roi"] == "Area 18"
    (tmp_path / "labels.txt").write_text("\n".join(f"7Networks_{letter}" for letter in "abcdefg"))
    assert take(betas, atlas=atlas, labels=tmp_path / "labels.txt")[0].descriptors["roi"] == "7Networks_b"


def test_an_atlas_whose_numbers_were_scaled_is_rounded(betas, tmp_path):
    image = nib.Nifti1Image(np.zeros(SHAPE), AFFINE)
    stored = np.zeros(SHAPE, np.int16)
    stored[1], stored[3] = 255, 510
    image = nib.Nifti1Image(stored, AFFINE)
    image.header.set_slope_inter(1 / 255, 0)
    nib.save(image, tmp_path / "atlas.nii")
    assert nib.load(tmp_path / "atlas.nii").get_fdata().max() != 2
    assert [dataset.descriptors["roi"] for dataset in take(betas, atlas=tmp_path / "atlas.nii")] == ["1", "2"]


def test_grids_are_the_same_to_a_tenth_of_a_voxel_at_every_corner(tmp_path, betas):
    rounded = np.round(AFFINE + 0.0004, 3)
    assert take(betas, mask=save(tmp_path / "mask.nii", np.ones(SHAPE, np.uint8), rounded)).n_channel == 60
    large = save(tmp_path / "large.nii", np.random.default_rng(0).normal(size=(100, 4, 3)).astype(np.float32))
    turned = AFFINE.copy()
    turned[1, 0] += 0.009  # a hundredth of a millimetre a voxel, nearly a millimetre at the end
    with refused("mask.nii' has the affine"):
        take(large, mask=save(tmp_path / "mask.nii", np.ones((100, 4, 3), np.uint8), turned))


def test_a_damaged_mask_or_table_is_named_with_its_option(betas, mask, atlas, tmp_path):
    for option, path in (("mask", mask), ("atlas", atlas)):
        content = path.read_bytes()
        path.write_bytes(content[:-12])
        with refused(rf"{option}= '.*{path.name}'.* cut off"):
            take(betas, **{option: path})
        path.write_bytes(content[:5])
        with refused(rf"{option}= '.*{path.name}' could not be read; is it cut off or damaged\? EOFError"):
            take(betas, **{option: path})
        path.write_bytes(content)
    numbers = np.random.default_rng(0).integers(1, 200, (64, 64, 64)).astype(np.uint8)
    large, noise = save(tmp_path / "large.nii", numbers), save(tmp_path / "noise.nii.gz", numbers)
    noise.write_bytes(noise.read_bytes()[:-12])
    with refused(r"atlas= '.*noise.nii.gz' could not be read.* EOFError"):
        take(large, atlas=noise)
    (tmp_path / "labels.txt").write_bytes(b"2 V\xe9\n7 IT\n")
    with refused(r"the labels '.*labels.txt': the file is not UTF-8 text"):
        take(betas, atlas=atlas, labels=tmp_path / "labels.txt")
    (tmp_path / "t.csv").write_bytes(b'condition\n"cat\n')
    with refused(r"the table '.*t.csv' is damaged: unexpected end of data"):
        take(betas, table=tmp_path / "t.csv")
    with refused(r"table= '.*betas.nii'|the table '.*betas.nii'"):
        take(betas, table=betas)
    with refused(r"atlas= '.*atlas.mnc': 'atlas.mnc' is not a NIfTI file .*; convert it"):
        take(betas, atlas=save(tmp_path / "x.nii", np.ones(SHAPE, np.int16)).rename(tmp_path / "atlas.mnc"))


def test_a_damaged_map_of_a_folder_is_named(folder):
    content = (folder / "face.nii.gz").read_bytes()
    (folder / "face.nii.gz").write_bytes(content[:-20])
    with refused("the map 'face.nii.gz'.* cut off"):
        take(folder)
    (folder / "face.nii.gz").write_bytes(b"")
    with refused("the map 'face.nii.gz': the file is empty"):
        take(folder)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "the table '.*t.tsv': the file is empty"),
        ("\n\n\t\n", {}, "the table '.*t.tsv'.* empty"),
        ("condition\trun\n", {}, r"has no row below the names of its columns, \['condition', 'run'\]"),
        ("condition\tcondition\na\tb\n", {}, r"\['condition'\] occur more than once in the first row of"),
        ("condition\trun\na\n", {}, "row 2 of '.*' has 1 cells, but the first row has 2"),
        (
            "name\trun\na\t1\n",
            {},
            r"has the columns \['name', 'run'\], of which none could be meant; choose one with condition_column=",
        ),
        (
            "condition\tstimulus\na\tb\n",
            {},
            r"of which \['condition', 'stimulus'\] could be meant; choose one with condition_",
        ),
        ("condition\na\n", {}, r"table= '.*t.tsv': it has 1 rows, but there are 6 maps"),
        ("condition\trun\n" + "n/a\t1\n" * 6, {}, "none of the 6 maps has a condition"),
        ("condition\trun\n" + "a\t1\n" * 5 + "b\t\n", {}, "column 'run' is empty in row 6, whose condition is 'b'"),
        ("condition\tsession\n" + "a\t1\n" * 5 + "b\tn/a\n", {}, "column 'session' is empty in row 6"),
        ("condition\na\n", {"condition_column": "conditions"}, "condition_column 'conditions' is not known; nearest"),
        ("condition\n" + "a\n" * 6, {"run_column": "run"}, r"run_column 'run' is not known \(known: condition\)"),
    ],
)
def test_tables_that_do_not_fit_are_refused(betas, tmp_path, text, options, words):
    (tmp_path / "t.tsv").write_text(text)
    with refused(words):
        take(betas, table=tmp_path / "t.tsv", **options)


def test_columns_without_a_table_are_refused(betas):
    with refused("condition_column= and run_column= are columns of a table of the maps; give table="):
        take(betas, run_column="run")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((5, 4), np.float32), r"the image has shape \(5, 4\), expected maps"),
        (np.ones((2, 2, 2, 2, 2), np.float32), r"the image has shape \(2, 2, 2, 2, 2\), expected maps"),
        (np.ones((2, 2, 2, 2), np.complex64), "the image holds complex64 numbers, expected real ones"),
    ],
)
def test_images_that_are_not_maps_are_refused(tmp_path, array, words):
    with refused(words):
        take(save(tmp_path / "x.nii", array))


def test_cifti_under_another_name_is_refused(tmp_path, array):
    image = nib.Nifti2Image(array, AFFINE)
    image.header.set_intent(3006)
    nib.save(image, tmp_path / "x.nii")
    with refused("it holds grayordinates"):
        take(tmp_path / "x.nii")


# Damaged files


def patched(path, **fields):
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]))
    for field, value in fields.items():
        header[field] = value
    content[:348] = header.binaryblock
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_huge_shape_in_a_small_file_is_refused_before_memory_is_allocated(tmp_path, array, suffix):
    path = patched(save(tmp_path / "x.nii", array), dim=[4, 32767, 32767, 32767, 32767, 1, 1, 1])
    if suffix == ".nii.gz":
        (tmp_path / "x.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with refused("it declares [0-9]{19} bytes, but the file of [0-9]+ bytes cannot hold them"):
        take(tmp_path / f"x{suffix}")


@pytest.mark.slow
def test_zeros_compressed_a_thousand_times_are_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), AFFINE)
    header = image.header
    header.set_data_shape((1024, 1024, 640))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(tmp_path / "x.nii.gz", "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0\0\0\0")
        for _ in range(640):
            file.write(bytes(2**20))
    assert 1032 * (tmp_path / "x.nii.gz").stat().st_size > 671088992  # deflate could do it
    with refused("it declares 671088992 bytes.* cannot hold them"):
        take(tmp_path / "x.nii.gz")


def packed_zeros(path, shape, n):
    """Write maps that are 0 but for a few voxels, as a mask leaves them."""
    header = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), AFFINE).header
    header.set_data_shape((*shape, n))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    volume = np.zeros(shape, np.uint8)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock + b"\0\0\0\0")
        for number in range(n):
            volume[3:5, 2, 1] = number % 200, 7 * number % 100
            file.write(volume.tobytes(order="F"))
    return path


@pytest.mark.slow
def test_one_region_of_a_masked_file_that_packs_well_needs_little_memory(tmp_path):
    path = packed_zeros(tmp_path / "x.nii.gz", (128, 128, 64), 560)
    assert 100 * path.stat().st_size < 2**29 < 560 * 2**20
    inside = np.zeros((128, 128, 64), np.uint8)
    inside[3:5, 2, 1] = 1
    save(tmp_path / "mask.nii", inside)
    tracemalloc.start()
    dataset = take(path, mask=tmp_path / "mask.nii", names=[str(number) for number in range(560)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(dataset.measurements[:, 0], np.arange(560) % 200)
    assert peak < 40e6


def test_more_than_streaming_may_declare_is_refused(tmp_path):
    path = packed_zeros(tmp_path / "x.nii.gz", (128, 128, 64), 1)
    image = nib.Nifti1Header(gzip.decompress(path.read_bytes())[:348])
    image.set_data_shape((128, 128, 64, 5000))
    path.write_bytes(gzip.compress(image.binaryblock + b"\0\0\0\0" + np.random.default_rng(0).bytes(2**23)))
    with refused("it declares 5242880352 bytes.* cannot hold them"):  # deflate could do it
        take(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"dim": [4, 5, 4, 0, 6, 1, 1, 1]},
            r"the header declares shape \(5, 4, 0, 6\) from byte 352; it is damaged",
        ),
        ({"dim": [4, 5, 4, -3, -6, 1, 1, 1]}, r"the header declares shape \(5, 4, -3, -6\)"),
        ({"vox_offset": 0}, "from byte 0; it is damaged, or the numbers are in another file"),
        ({"vox_offset": 4096}, "but the file of 1792 bytes cannot hold them"),
        ({"magic": b"xxx"}, "HeaderDataError"),
        ({"datatype": 99}, "HeaderDataError"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, array, fields, words):
    with refused(words):
        take(patched(save(tmp_path / "x.nii", array), **fields))


def test_a_file_of_a_few_bytes_is_refused(tmp_path):
    for content, words in {
        b"": "the file is empty",
        b"\0" * 300: "the file holds 300 bytes, but a NIfTI header has 348",
    }.items():
        (tmp_path / "x.nii").write_bytes(content)
        with refused(words):
            take(tmp_path / "x.nii")


def test_compressed_data_that_end_too_soon_are_refused(tmp_path, array):
    content = save(tmp_path / "x.nii", array).read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content[:-10]))
    with refused("the file ends within volume 6 of 6: it is cut off"):
        take(tmp_path / "x.nii.gz")


def test_the_reader_keeps_the_contract(betas, tmp_path, array, atlas):
    table(tmp_path / "betas.tsv")
    check_reader(READER, betas)
    check_reader(READER, save(tmp_path / "packed.nii.gz", array), table=tmp_path / "betas.tsv", atlas=atlas, roi="7")


FUZZ = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8)


def result_of(path, **options):
    try:
        return take(path, **options)
    except BrainrdlError as error:
        message = str(error)
    assert f"file '{path}' (reader 'nifti')" in message
    return None


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_is_refused(tmp_path, array, mask, suffix, part):
    content = save(tmp_path / f"x{suffix}", array).read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(content[: int(part * len(content))])
    assert result_of(tmp_path / f"cut{suffix}", mask=mask) is None


@FUZZ
@given(flips=FLIPS)
def test_compressed_files_with_flipped_bits_give_the_right_data_or_a_refusal(tmp_path, array, mask, flips):
    content = bytearray(save(tmp_path / "x.nii.gz", array).read_bytes())
    whole = take(tmp_path / "x.nii.gz", mask=mask)
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    (tmp_path / "flipped.nii.gz").write_bytes(content)
    found = result_of(tmp_path / "flipped.nii.gz", mask=mask)
    assert found is None or _same_data(found, whole)  # gzip's checksum


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@FUZZ
@given(flips=FLIPS)
def test_headers_with_flipped_bits_give_data_or_a_refusal(tmp_path, array, mask, kind, flips):
    content = bytearray(save(tmp_path / "x.nii", array, kind=kind).read_bytes())
    for place, bit in flips:
        content[int(place * 352)] ^= 1 << bit
    (tmp_path / "flipped.nii").write_bytes(content)
    for options in ({}, {"mask": mask}):
        found = result_of(tmp_path / "flipped.nii", **options)
        assert found is None or found.measurements.ndim == 2


@FUZZ
@given(flips=FLIPS, cut=st.floats(0.2, 1))
def test_damaged_masks_atlases_and_tables_give_data_or_a_refusal(tmp_path, betas, mask, atlas, flips, cut):
    labels = tmp_path / "labels.tsv"
    labels.write_text(TABLES["bids.tsv"])
    rows = table(tmp_path / "rows.tsv")
    for option, sound in {"mask": mask, "atlas": atlas, "labels": labels, "table": rows}.items():
        content = bytearray(sound.read_bytes())
        for place, bit in flips:
            content[int(place * len(content))] ^= 1 << bit
        damaged = tmp_path / f"damaged_{sound.name}"
        damaged.write_bytes(content[: int(cut * len(content))])
        options = {"mask": mask, "atlas": atlas, "labels": labels, "table": rows, option: damaged}
        found = result_of(betas, **options)
        assert found is None or all(dataset.n_obs == N for dataset in found)


# AFNI and FEAT


def with_afni(path, array, **attributes):
    """Write a map as AFNI does: its attributes are an extension of the header."""
    listed = "".join(
        f'<AFNI_atr ni_type="String" atr_name="{key}" >\n "{text}"\n</AFNI_atr>' for key, text in attributes.items()
    )
    image = nib.Nifti1Image(array, AFFINE)
    image.header.extensions.append(
        nib.nifti1.Nifti1Extension("afni", f"<AFNI_attributes>{listed}</AFNI_attributes>".encode())
    )
    nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["stats.nii", "stats.nii.gz"])
def test_the_labels_of_an_afni_bucket_name_its_maps(tmp_path, array, name):
    labels = "Full_Fstat~face#0_Coef~face#0_Tstat~h&amp;m#0_Coef~h&amp;m#0_Tstat~f-h_GLT#0_Coef"
    data = read(with_afni(tmp_path / name, array, BRICK_LABS=labels))
    assert data.obs_descriptors["stimulus"] == ["face", "h&m"]
    np.testing.assert_array_equal(data.measurements[1], array[..., 3].ravel(order="F"))
    assert data.descriptors["n_dropped_observations"] == 4


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("a~b~c~d~e~f", list("abcdef")),
        ("a#0_Tstat~b#0_Tstat~c#0_Tstat~d#0_Tstat~e#0_Tstat~f#0_Tstat", list("abcdef")),
        ("#0~#1~#2~#3~#4~#5", None),
        ("a~b", None),
    ],
)
def test_other_labels_of_afni_are_names_if_they_are_words_for_all(tmp_path, array, labels, expected):
    data = read(with_afni(tmp_path / "stats.nii", array, BRICK_LABS=labels))
    assert data.obs_descriptors.get("stimulus") == expected
    table(tmp_path / "stats.tsv")
    assert read(tmp_path / "stats.nii").obs_descriptors["stimulus"] == CONDITIONS


def test_labels_of_several_maps_per_condition_are_refused(tmp_path, array):
    path = with_afni(tmp_path / "a.nii", array, BRICK_LABS="~".join(f"face#{k}_Coef" for k in range(6)))
    with refused("several maps of 'face', for basis functions or single trials; name the maps to read in a table="):
        read(path)
    path = with_afni(tmp_path / "b.nii", array, BRICK_LABS="Full_Fstat~a#0_Tstat~a_Fstat~b#0_Tstat~b_Fstat~x")
    with refused("are of several kinds of statistics"):
        read(path)


def test_series_of_afni_and_feat_are_no_maps(tmp_path, array):
    with refused("a series of volumes of AFNI, not maps of conditions: read it with reader='bold' and events="):
        read(with_afni(tmp_path / "pb04.scale.nii", array, TAXIS_NUMS="6 0 77002"))
    save(tmp_path / "filtered_func_data.nii.gz", array)
    with refused(r"reader 'bold'\): there are no events in the folder .* give events="):
        read(tmp_path / "filtered_func_data.nii.gz")


# FreeSurfer's volumes


def test_volumes_of_freesurfer_are_maps_masks_and_atlases(tmp_path, array, betas, atlas):
    path = save(tmp_path / "betas.mgz", array, kind=nib.MGHImage)
    table(tmp_path / "betas.tsv")
    numbers = nib.load(atlas).get_fdata().astype(np.int32)
    regions = save(tmp_path / "aparc.mgz", numbers, kind=nib.MGHImage)
    for maps in (path, betas):
        for part, expected in zip(read(maps, atlas=regions), take(betas, atlas=atlas), strict=True):
            assert part.obs_descriptors["stimulus"] == CONDITIONS
            np.testing.assert_array_equal(part.measurements, expected.measurements)


@pytest.mark.parametrize(
    ("name", "program"), [("a.HEAD", "3dAFNItoNIFTI"), ("lh.V1.label", "mri_label2vol"), ("a.mnc", "mnc2nii")]
)
def test_masks_of_other_formats_are_refused_with_the_program_that_converts_them(tmp_path, betas, name, program):
    (tmp_path / name).write_text("x")
    with refused(rf"is not a NIfTI file \(.nii, .nii.gz\); convert it with .*{program}"):
        take(betas, mask=tmp_path / name)


def test_all_columns_of_a_table_describe_the_observations(tmp_path, betas):
    categories = ["animal", "animal", "thing"] * 2
    rows = [f"{name}\t{category}\t{k}" for k, (name, category) in enumerate(zip(CONDITIONS, categories, strict=True))]
    (tmp_path / "t.tsv").write_text("\n".join(["condition\tcategory\tindex", *rows]))
    data = take(betas, table=tmp_path / "t.tsv")
    assert data.obs_descriptors == {"stimulus": CONDITIONS, "category": categories}
    described = calc_rdm(data, "euclidean").pattern_descriptors
    found = dict(zip(described["stimulus"], described["category"], strict=True))
    assert found == {"cat": "animal", "dog": "animal", "car": "thing"}
