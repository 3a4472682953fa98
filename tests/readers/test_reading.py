"""Finding a reader, naming conditions, and the boundary where every failure gets a file and a reader."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset

from brainrdl import BrainrdlError, read
from brainrdl._core import progress
from brainrdl.rdms import names as names_of
from brainrdl.rdms.by_name import names
from brainrdl.rdms.conversion import from_array, to_table
from brainrdl.readers import reading
from brainrdl.readers.reading import Reader, find_readers
from brainrdl.testing.file_readers import check_reader

SQUARE = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]])


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


class Third:
    """A sound reader of someone else's; broken ones below change one thing each."""

    name = "third"
    layout = "anyone's layout, .third"

    def sniff(self, path):
        return path.suffix == ".third"

    def read(self, path, *, scale=1.0):
        if path.read_text() != "sound":
            raise ValueError("not sound")
        return from_array(scale * SQUARE, None)


@pytest.fixture
def rdm_file(tmp_path):
    np.save(tmp_path / "rdm.npy", SQUARE)
    return tmp_path / "rdm.npy"


@pytest.fixture
def third_file(tmp_path):
    (tmp_path / "rdm.third").write_text("sound")
    return tmp_path / "rdm.third"


@pytest.fixture
def install(monkeypatch):
    """Let entry points beside ours be found: a name and what loading it gives, or raises."""

    def add(**readers):
        def load(value):
            if isinstance(value, Exception):
                raise value
            return value

        points = [SimpleNamespace(value=key, load=lambda value=value: load(value)) for key, value in readers.items()]
        ours = [SimpleNamespace(value=key, load=lambda reader=reader: reader) for key, reader in find_readers().items()]
        monkeypatch.setattr(reading, "_declared", lambda: ours + points)

    return add


# -- which reader


def test_our_readers_are_found_like_those_of_others(rdm_file):
    assert {"csv", "matlab", "numpy", "rsatoolbox"} <= set(find_readers())
    assert all(isinstance(reader, Reader) for reader in find_readers().values())
    assert read(rdm_file).dissimilarities.tolist() == [[1, 2, 3]]


def test_a_reader_that_is_installed_while_python_runs_is_found_and_nothing_is_searched_twice(tmp_path, monkeypatch):
    searched, search = [], reading.entry_points
    monkeypatch.setattr(reading, "entry_points", lambda group: searched.append(group) or search(group=group))
    monkeypatch.syspath_prepend(tmp_path)
    assert "late" not in find_readers()
    before = len(searched)
    assert find_readers() == find_readers()
    assert len(searched) == before == 1
    (tmp_path / "late_reader.py").write_text(
        "class Late:\n    name, layout = 'late', ''\n    def sniff(self, path): return False\n"
        "    def read(self, path): raise NotImplementedError\nREADER = Late()\n"
    )
    (tmp_path / "late-1.dist-info").mkdir()
    (tmp_path / "late-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1\n")
    declared = "[brainrdl.readers]\nlate = late_reader:READER\n"
    (tmp_path / "late-1.dist-info" / "entry_points.txt").write_text(declared)
    assert "late" in find_readers()
    assert len(searched) == 2


def test_a_third_party_reader_reads(install, third_file):
    install(third=Third())
    assert read(third_file).dissimilarities.tolist() == [[1, 2, 3]]
    assert read(str(third_file), scale=2).dissimilarities.tolist() == [[2, 4, 6]]


def test_a_reader_can_be_given_as_an_object_or_by_name(rdm_file, third_file):
    assert read(third_file, reader=Third()).n_cond == 3
    assert read(rdm_file, reader="numpy").n_cond == 3
    with refused("reader 'nunpy' is not known; nearest: 'numpy'"):
        read(rdm_file, reader="nunpy")


def test_a_file_that_no_reader_recognises_is_refused_with_a_list_of_readers(third_file):
    with refused(
        "no reader recognises file .*rdm.third'; there are readers .*bids, .*csv, .*; choose one with reader= "
        ".*find_readers"
    ):
        read(third_file)


def test_a_file_that_two_readers_recognise_is_refused(install, rdm_file):
    class Rival(Third):
        def sniff(self, path):
            return True

    install(rival=Rival())
    with refused(r"readers \['numpy', 'third'\] all recognise file .*choose one with reader="):
        read(rdm_file)
    assert read(rdm_file, reader="numpy").n_cond == 3


def test_a_reader_that_cannot_be_loaded_is_left_out_with_a_warning(install, rdm_file):
    install(broken=ImportError("no module named x"))
    with pytest.warns(UserWarning, match="reader 'broken' could not be loaded: ImportError: no module named x"):
        assert read(rdm_file).n_cond == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "hiding"), [("data_adapters/__init__.py", "folder '.*data_adapters'"), ("data_adapters.py", "file '.*py'")]
)
def test_a_script_learns_what_hides_the_readers(rdm_file, file, hiding):
    (rdm_file.parent / file).parent.mkdir(exist_ok=True)
    (rdm_file.parent / file).write_text("OF_THE_USER = True")
    done = read_in_a_script(rdm_file)
    assert re.search(f"BrainrdlError: the {hiding} hides the installed package 'data_adapters'.*rename it", done.stderr)
    assert "Warning" not in done.stderr


@pytest.mark.slow
def test_a_folder_of_data_beside_a_script_hides_no_readers(rdm_file):
    (rdm_file.parent / "data_adapters").mkdir()
    assert read_in_a_script(rdm_file).stdout.strip() == "[[1.0, 2.0, 3.0]]"


def read_in_a_script(file):
    script = file.with_name("analysis.py")
    script.write_text(f"import brainrdl\nprint(brainrdl.read({str(file)!r}).dissimilarities.tolist())\n")
    return subprocess.run([sys.executable, str(script)], cwd=file.parent, capture_output=True, text=True, check=False)


def test_an_entry_point_that_is_not_a_reader_is_left_out_with_a_warning(install, rdm_file):
    install(broken=object())
    with pytest.warns(UserWarning, match="reader 'broken' lacks one of name, layout, sniff, read"):
        assert read(rdm_file).n_cond == 3


def test_a_reader_that_fails_to_look_does_not_recognise_the_file(install, rdm_file):
    class Failing(Third):
        def sniff(self, path):
            raise OSError("cannot look")

    install(failing=Failing())
    with pytest.warns(UserWarning, match=r"reader 'third' failed to look at .*rdm.npy': OSError: cannot look"):
        assert read(rdm_file).n_cond == 3


def test_two_readers_with_the_same_name_are_refused(install, rdm_file):
    install(one=Third(), two=Third())
    with refused(r"names \['third'\] occur more than once in the entry points 'brainrdl.readers' \(.*one, two\)"):
        read(rdm_file)


# -- what is refused before and around a reader


def test_a_missing_file_is_refused(tmp_path):
    with refused("there is no file '.*nothing.npy'; check the path$"):
        read(tmp_path / "nothing.npy")


def test_a_missing_file_is_refused_with_the_nearest_name_in_its_folder(tmp_path):
    (tmp_path / "subjects_it.npy").touch()
    with refused("there is no file '.*subject_it.npy'; nearest: 'subjects_it.npy'; check the path$"):
        read(tmp_path / "subject_it.npy")


def test_a_folder_that_no_reader_recognises_is_refused(tmp_path):
    with refused("no reader recognises folder '.*'; there are readers .*bids, "):
        read(tmp_path)


class Trap:
    """Unpickling it writes a file: it must never be written."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["a.pkl", "a.pickle", "a.npy", "a.npz", "a.csv", "a.mat", "a.h5", "a.joblib"])
def test_a_pickle_is_refused_and_not_run_whatever_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    with refused(rf"file '.*{name}' is a pickle, and loading one could run any code it holds"):
        read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt"])
def test_a_torch_file_that_is_a_plain_pickle_is_refused(tmp_path, name):
    torch.save(torch.ones(3), tmp_path / name, _use_new_zipfile_serialization=name == "a.ckpt")
    with refused("is a pickle"):
        read(tmp_path / name)


def test_a_pickle_is_refused_even_for_a_reader_that_was_asked_for(tmp_path):
    (tmp_path / "a.pkl").write_text("sound")
    with refused("is a pickle"):
        read(tmp_path / "a.pkl", reader=Third())


def test_an_unknown_option_is_refused_with_the_nearest(rdm_file, third_file):
    with refused(r"\(reader 'numpy'\): option variable_ of reader 'numpy' is not known; nearest: 'variable'"):
        read(rdm_file, variable_="rdms")
    with refused(r"option axes of reader 'third' is not known.*known: scale"):
        read(third_file, reader=Third(), axes="first")


def test_a_reader_with_free_options_checks_them_itself(third_file):
    class Free(Third):
        def read(self, path, **options):
            return from_array(options["scale"] * SQUARE, None)

    assert read(third_file, reader=Free(), scale=2).n_cond == 3


def test_any_failure_of_a_reader_names_the_file_and_the_reader(third_file):
    third_file.write_text("unsound")
    with refused(r"file '.*rdm.third' \(reader 'third'\): it could not be read.*ValueError: not sound") as caught:
        read(third_file, reader=Third())
    assert type(caught.value.__cause__) is ValueError


def test_a_reader_that_gives_something_else_is_refused(third_file):
    class Strange(Third):
        def read(self, path):
            return SQUARE

    with refused(r"reader 'third'\): the reader gave ndarray, it must give"):
        read(third_file, reader=Strange())


# -- names


def test_a_list_names_the_conditions(rdm_file):
    assert names(read(rdm_file, names=("cat", "dog", "car"))) == ("cat", "dog", "car")
    assert names(read(rdm_file, names=["cat", "dog", "car"], by="object"), by="object") == ("cat", "dog", "car")


def test_a_text_file_names_the_conditions(rdm_file, tmp_path):
    (tmp_path / "names.txt").write_text("cat \ndog, brown\n\nk\u00e4fer\n", encoding="utf-8-sig")
    assert names(read(rdm_file, names=tmp_path / "names.txt")) == ("cat", "dog, brown", "k\u00e4fer")


def test_a_folder_of_stimuli_names_the_conditions(rdm_file, tmp_path):
    folder = tmp_path / "images"
    (folder / "masks").mkdir(parents=True)
    for name in ("image_2.png", "image_1.jpg", "image_3.png", ".DS_Store"):
        (folder / name).touch()
    assert names(read(rdm_file, names=str(folder))) == ("image_1", "image_2", "image_3")


def test_a_folder_sorted_otherwise_without_capitals_is_refused(rdm_file, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("B", "a", "c"):
        (folder / f"{name}.png").touch()
    with refused("unclear: 'B' sorts before 'a' by the codes of its characters"):
        read(rdm_file, names=folder)


def test_only_images_name_conditions(rdm_file, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("car.png", "cat.jpg", "README.md", "labels.csv"):
        (folder / name).touch()
    with refused(r"2 names were given \(\['car', 'cat'\]\) for 3 conditions"):
        read(rdm_file, names=folder)
    (folder / "dog.bmp").touch()
    assert names_of(read(rdm_file, names=folder)) == ("car", "cat", "dog")


def test_names_stay_as_the_file_and_the_user_write_them(rdm_file, tmp_path):
    given = ["1 cat.jpg", "2 dog v1.5.PNG", "10 car.jpg"]
    assert names(read(rdm_file, names=given)) == tuple(given)
    from_array(SQUARE, ["cat.png", "dog.png", "car.png"]).save(str(tmp_path / "rdm.h5"), file_type="hdf5")
    assert names(read(tmp_path / "rdm.h5")) == ("cat.png", "dog.png", "car.png")


def test_runs_of_which_only_some_name_all_conditions_by_files_have_the_same_conditions(tmp_path):
    for run, listed in ((1, ["face.jpg", "house.jpg", "car.jpg"]), (2, ["face.jpg", "house.jpg", "car.jpg", "blank"])):
        np.save(tmp_path / f"sub-01_run-{run}.npy", np.eye(4)[: len(listed)])
        (tmp_path / f"names_run-{run}.txt").write_text("\n".join(listed))
    (found,) = read(tmp_path / "sub-01_run-*.npy", names=str(tmp_path / "names_run-{run}.txt"), patterns=True)
    assert sorted(set(found.obs_descriptors["stimulus"])) == ["blank", "car.jpg", "face.jpg", "house.jpg"]


def test_a_file_that_is_not_text_is_refused_as_a_list_of_names(rdm_file, tmp_path):
    (tmp_path / "names.mat").write_bytes(b"MATLAB 5.0 MAT-file\0\0cat\n\0dog\n\0car\n")
    with refused(r"names.mat' is not a text file; write one name per line \(in MATLAB: writelines"):
        read(rdm_file, names=tmp_path / "names.mat")


def test_a_table_is_refused_as_a_list_of_names(rdm_file, tmp_path):
    (tmp_path / "names.csv").write_text("index,name\n0,cat\n1,dog\n")
    with refused(r"names file '.*names.csv' is a table \('index,name'\); names= needs one name per line"):
        read(rdm_file, names=tmp_path / "names.csv")


def test_numbers_can_name_conditions_but_missing_ones_cannot(rdm_file):
    assert names_of(read(rdm_file, names=np.array([1.0, 2.0, 2.5]))) == ("1", "2", "2.5")
    for missing in (float("nan"), None):
        with refused("names= holds (nan|None), which is not a name"):
            read(rdm_file, names=["a", missing, "c"])


def test_an_unknown_descriptor_of_conditions_is_refused(tmp_path):
    from_array(SQUARE, ["cat", "dog", "car"], by="image").save(str(tmp_path / "rdm.h5"), file_type="hdf5")
    with refused(r"conditions have no descriptor 'imag'; nearest: 'image'; they have \['image'\]: choose by="):
        read(tmp_path / "rdm.h5", by="imag")


def test_text_in_another_encoding_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "rdm.csv").write_bytes(",Bär,b,c\nBär,0,1,2\nb,1,0,3\nc,2,3,0\n".encode("latin-1"))
    with refused("is not UTF-8 text .*; save it as UTF-8"):
        read(tmp_path / "rdm.csv")


def test_a_folder_whose_order_is_unclear_is_refused(rdm_file, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2, 10):
        (folder / f"image_{number}.png").touch()
    with refused(
        "order of the files in .* is unclear: 'image_10' sorts before 'image_2' by the .*give names= as a list"
    ):
        read(rdm_file, names=folder)


def test_a_wrong_number_of_names_is_refused(rdm_file):
    with refused(r"rdm.npy' \(reader 'numpy'\): 2 names were given \(\['cat', 'dog'\]\) for 3 conditions"):
        read(rdm_file, names=["cat", "dog"])


def test_given_names_that_occur_twice_are_refused(rdm_file):
    with refused(r"\['cat'\] occur more than once"):
        read(rdm_file, names=["cat", "dog", "cat"])


def test_a_missing_file_of_names_is_refused(rdm_file):
    with refused("names= is 'nowhere.txt', which is neither a text file, nor a folder"):
        read(rdm_file, names="nowhere.txt")


def test_a_file_without_names_is_refused_with_how_to_give_them(rdm_file):
    with refused(r"give the file.s names when reading it: names="):
        names(read(rdm_file))


def test_given_names_cannot_replace_those_of_the_file(tmp_path):
    path = tmp_path / "rdm.npz"
    np.savez(path, rdms=SQUARE, names=["cat", "dog", "car"])
    with refused(r"the file names its conditions itself \('stimulus': \['cat', 'dog', 'car'\]\)"):
        read(path, names=["dog", "cat", "car"])
    assert names(read(path, names=["cat", "dog", "car"])) == ("cat", "dog", "car")
    assert names(read(path, names=["Katze", "Hund", "Auto"], by="german"), by="german") == ("Katze", "Hund", "Auto")


# -- check_reader


def test_check_reader_passes_a_sound_reader(third_file):
    check_reader(Third(), third_file)
    check_reader(Third(), third_file, scale=2)


class TakesAll(Third):
    def sniff(self, path):
        return True


class TakesNothing(Third):
    def sniff(self, path):
        return False


class SniffsBadly(Third):
    def sniff(self, path):
        if path.suffix == ".third" and not path.read_bytes():
            raise IndexError("empty")
        return super().sniff(path)


class Fickle(Third):
    scale = 1

    def read(self, path, *, scale=1.0):
        self.scale += 1
        return super().read(path, scale=self.scale)


class Writes(Third):
    def read(self, path, *, scale=1.0):
        if path.read_bytes():
            path.write_text("changed")
        return from_array(SQUARE, None)


class TakesAnyOption(Third):
    def read(self, path, **options):
        return super().read(path)


class ReadsEmpty(Third):
    def read(self, path, *, scale=1.0):
        return from_array(SQUARE, None)


class Nameless(Third):
    name = " "


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        (TakesAll, "recognises a file of another layout"),
        (TakesNothing, "does not recognise 'rdm.third'"),
        (SniffsBadly, r"sniff of reader 'third' fails on a file truncated to 0%: IndexError"),
        (Fickle, "gives a different result when it reads the same file again"),
        (Writes, "changed the file it read"),
        (TakesAnyOption, "accepts an unknown option without an error"),
        (ReadsEmpty, "accepts an empty file without an error"),
        (Nameless, "name of reader Nameless must be a non-empty text"),
        (object, "object is not a reader: it has no 'name'"),
    ],
)
def test_check_reader_finds_what_is_broken(reader, words, third_file):
    with refused(words):
        check_reader(reader(), third_file)


def test_a_list_of_names_that_is_not_utf8_text_is_named(rdm_file, tmp_path):
    (tmp_path / "names.txt").write_bytes("Käse\nBrot\nBär\n".encode("latin-1"))
    with refused(r"names file '.*names.txt' is not UTF-8 text; save it as UTF-8"):
        read(rdm_file, names=tmp_path / "names.txt")


# -- several files at once


def rdm_files(folder, *names):
    for value, name in enumerate(names, start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, value * SQUARE)


@pytest.mark.parametrize(
    ("files", "pattern", "key", "values"),
    [
        (["sub-02/it.npy", "sub-10/it.npy"], "sub-*/it.npy", "subject", ["02", "10"]),
        (["anna_it.npy", "bert_it.npy"], "*_it.npy", "file", ["anna_it", "bert_it"]),
        (["anna/it.npy", "bert/it.npy"], "*/it.npy", "file", ["anna", "bert"]),
        (["sub-01/ses-1.npy", "sub-01/ses-2.npy"], "sub-01/*.npy", "subject", ["01", "01"]),
        (["S01_run-1.npy", "S02_run-1.npy"], "S*.npy", "subject", ["S01", "S02"]),
    ],
)
def test_the_files_of_a_pattern_are_read_in_order_with_what_their_paths_say(tmp_path, files, pattern, key, values):
    rdm_files(tmp_path, *reversed(files))
    found = read(tmp_path / pattern, names=["cat", "dog", "car"])
    assert list(found.rdm_descriptors[key]) == values
    np.testing.assert_array_equal(found.dissimilarities, [[2, 4, 6], [1, 2, 3]])  # the last file was written first


def test_reading_many_files_shows_progress_if_it_takes_long(tmp_path, monkeypatch, capsys):
    rdm_files(tmp_path, "sub-1.npy", "sub-2.npy")
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    read(tmp_path / "sub-*.npy", names=["cat", "dog", "car"])
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()[0][:13]) == ("", "files: 1 of 2")


def test_a_pattern_that_matches_one_file_gives_that_file_with_its_subject(tmp_path):
    rdm_files(tmp_path, "sub-07.npy")
    assert list(read(tmp_path / "sub-*.npy").rdm_descriptors["subject"]) == ["07"]


def test_files_of_a_pattern_are_paired_by_name_and_keep_the_subjects_that_they_name(tmp_path):
    for file, order in (("a.csv", ["cat", "dog", "car"]), ("b.csv", ["car", "dog", "cat"])):
        rdms = from_array(SQUARE, order, descriptors={"subject": [f"told by {file}"]})
        to_table(rdms).to_csv(tmp_path / file, index=False)
    found = read(tmp_path / "?.csv")
    assert list(found.rdm_descriptors["subject"]) == ["told by a.csv", "told by b.csv"]
    np.testing.assert_array_equal(found.dissimilarities, [[1, 2, 3], [3, 2, 1]])


def test_measurements_of_a_pattern_are_a_list(tmp_path):
    for subject in ("sub-1", "sub-2"):
        Dataset(np.eye(3), obs_descriptors={"stimulus": ["cat", "dog", "car"]}).save(
            str(tmp_path / f"{subject}.h5"), file_type="hdf5"
        )
    assert [data.descriptors["subject"] for data in read(tmp_path / "sub-*.h5")] == ["1", "2"]


def test_patterns_that_match_nothing_mixed_data_or_rdms_without_names_are_refused(tmp_path):
    with refused(r"no file matches the pattern '.*sub-\*.npy'"):
        read(tmp_path / "sub-*.npy")
    rdm_files(tmp_path, "sub-1.npy", "sub-2.npy")
    with refused(r"the files of '.*sub-\*.npy' hold no names of conditions, so they cannot be joined; give names="):
        read(tmp_path / "sub-*.npy")
    Dataset(np.eye(3)).save(str(tmp_path / "sub-3.h5"), file_type="hdf5")
    with refused(r"of the files of '.*sub-\*', some hold RDMs and some measurements; read them separately"):
        read(tmp_path / "sub-*", names=["cat", "dog", "car"])


def test_a_pickle_among_the_files_of_a_pattern_is_refused(tmp_path):
    rdm_files(tmp_path, "a.npy")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(SQUARE))
    with refused("is a pickle"):
        read(tmp_path / "*")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("rdm.xlsx", r"save its sheet as 'CSV UTF-8' \(.csv\)"),
        ("stats+orig.HEAD", "convert it with AFNI's 3dAFNItoNIFTI"),
        ("lh.V1.label", "it holds regions, not maps: read the maps, and give it as atlas="),
        ("rdm.rds", "write.csv"),
    ],
)
def test_files_that_no_reader_reads_come_with_one_line_of_advice(tmp_path, name, advice):
    (tmp_path / name).write_text("x")
    with refused(f"no reader recognises file .*{re.escape(name)}'; .*{advice}"):
        read(tmp_path / name)
