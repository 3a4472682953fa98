"""Odd-one-out triplets: counted by hand, in every layout, and refused where their meaning is open."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import names, select
from brainrdl.readers.reading import find_readers
from brainrdl.testing.file_readers import check_reader
from data_adapters.behaviour.triplets import READER
from data_adapters.tables.csv_table import READER as CSV

# Items 0 cat, 1 dog, 2 car, 3 bus. Last: the odd one out.
TRIALS = [[0, 1, 2], [1, 0, 3], [2, 0, 1], [2, 3, 0], [3, 2, 1]]
# cat dog: kept in 2 of 3; cat car: 1 of 3; cat bus: 0 of 2; dog car: 0 of 3; dog bus: 0 of 2; car bus: 2 of 2
EXPECTED = [1 / 3, 2 / 3, 1, 1, 1, 0]
ITEMS = ["cat", "dog", "car", "bus"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def file(tmp_path):
    def write(trials=TRIALS, name="trials.txt"):
        path = tmp_path / name
        if isinstance(trials, str):
            path.write_text(trials)
        elif path.suffix == ".npy":
            np.save(path, np.array(trials))
        else:
            separator = {".txt": " ", ".csv": ",", ".tsv": "\t"}[path.suffix]
            path.write_text("".join(separator.join(map(str, trial)) + "\n" for trial in trials))
        return path

    return write


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".npy"])
def test_indices_are_counted_as_by_hand(file, suffix):
    rdms = read(file(name=f"trials{suffix}"), reader=READER, names=ITEMS, odd="last")
    np.testing.assert_allclose(rdms.dissimilarities, [EXPECTED])
    assert names(rdms) == tuple(ITEMS)


def test_what_numpy_saves_as_text_is_read(tmp_path):
    """SPoSE's and VICE's triplets in .txt may be written by ``np.savetxt``, as floats."""
    np.savetxt(tmp_path / "train_90.txt", np.array(TRIALS))
    assert READER.sniff(tmp_path / "train_90.txt")
    np.testing.assert_allclose(read(tmp_path / "train_90.txt", reader=READER).dissimilarities, [EXPECTED])


def test_the_odd_one_may_stand_first(file):
    turned = [trial[::-1] for trial in TRIALS]
    np.testing.assert_allclose(read(file(turned), reader=READER, odd="first").dissimilarities, [EXPECTED])
    assert not np.allclose(read(file(turned), reader=READER).dissimilarities, [EXPECTED])


@pytest.mark.parametrize("base", [0, 1])
def test_indices_may_begin_with_0_or_1(file, base):
    path = file([[index + base for index in trial] for trial in TRIALS])
    np.testing.assert_allclose(read(path, reader=READER, base=base).dissimilarities, [EXPECTED])


@pytest.mark.parametrize("columns", list(itertools.permutations(["a", "b", "odd"])))
def test_a_named_table_is_read_in_any_order_of_columns(file, columns):
    place = {"a": 0, "b": 1, "odd": 2}
    rows = [[ITEMS[trial[place[column]]] for column in columns] for trial in TRIALS]
    rdms = read(file([list(columns), *rows], "trials.csv"), reader=READER)
    np.testing.assert_allclose(select(rdms, ITEMS).dissimilarities, [EXPECTED])


@pytest.mark.parametrize("header", ["A,B,Odd", "a;b;odd", "A\tB\tODD"])
def test_columns_in_another_case_or_apart_by_other_marks_are_read(file, header):
    mark = next(mark for mark in "\t;," if mark in header)
    rows = [mark.join(ITEMS[index] for index in trial) for trial in TRIALS]
    path = file("\n".join([header, *rows]), "trials.csv")
    assert not CSV.sniff(path)
    np.testing.assert_allclose(select(read(path), ITEMS).dissimilarities, [EXPECTED])


def test_indices_apart_by_semicolons_are_read(file):
    path = file("".join(f"{a};{b};{odd}\n" for a, b, odd in TRIALS), "trials.csv")
    np.testing.assert_allclose(read(path, odd="last").dissimilarities, [EXPECTED])


def test_a_named_table_gives_an_rdm_each_subject(file):
    rows = [[ITEMS[index] for index in trial] for trial in TRIALS]
    other = [[c, b, a] for a, b, c in rows]
    table = [["a", "b", "odd", "subject"], *([*row, "s1"] for row in rows), *([*row, "s2"] for row in other)]
    rdms = select(read(file(table, "trials.tsv"), reader=READER), ITEMS)
    np.testing.assert_allclose(rdms.dissimilarities[0], EXPECTED)
    assert rdms.rdm_descriptors["subject"] == ["s1", "s2"]
    alone = read(file([table[0][:3], *other], "trials.csv"), reader=READER)
    np.testing.assert_allclose(rdms.dissimilarities[1:], select(alone, ITEMS).dissimilarities)


def test_a_pair_that_no_trial_shows_is_nan(file):
    rdms = read(file([[0, 1, 2], [0, 1, 3]]), reader=READER)
    np.testing.assert_array_equal(rdms.dissimilarities, [[0, 1, 1, 1, 1, np.nan]])


def test_order_within_kept_pairs_and_of_trials_does_not_matter(file):
    changed = [[b, a, odd] for a, b, odd in TRIALS[::-1]]
    np.testing.assert_allclose(read(file(changed), reader=READER).dissimilarities, [EXPECTED])


def test_a_simulated_observer_recovers_the_groups(file):
    """Five groups of four; whoever is in another group is sent away, else the choice is random."""
    rng = np.random.default_rng(0)
    group = np.arange(20) % 5
    shown = np.array([rng.choice(20, 3, replace=False) for _ in range(6000)])
    alike = np.stack([group[shown[:, i]] == group[shown[:, j]] for i, j in ((1, 2), (0, 2), (0, 1))], axis=1)
    odd = np.where(alike.any(axis=1), alike.argmax(axis=1), rng.integers(0, 3, len(shown)))
    trials = np.array([[*np.delete(trial, index), trial[index]] for trial, index in zip(shown, odd, strict=True)])
    matrix = read(file(trials, "trials.npy"), reader=READER).get_matrices()[0]
    same = (group[:, None] == group) & ~np.eye(20, dtype=bool)
    assert matrix[same].max() < 0.2 < 0.5 < matrix[group[:, None] != group].min()


# -- what is refused


def test_an_unclear_first_index_is_refused(file):
    path = file([[index + 1 for index in trial] for trial in TRIALS])
    with refused("the smallest index is 1, so the first item could have index 0 or 1: use base=0 or base=1"):
        read(path, reader=READER)
    with refused("base must be a whole number, at least 0 and below 2, got 2"):
        read(path, reader=READER, base=2)
    with refused("base is 1, but there is an item with index 0"):
        read(file(), reader=READER, base=1)


def test_items_never_shown_must_be_announced(file):
    path = file([[0, 1, 2], [0, 1, 4]])
    with refused("makes 5 items, but some were never shown, the first is item 3"):
        read(path, reader=READER)
    rdms = read(path, reader=READER, n_items=6)
    assert (rdms.n_cond, int(np.isnan(rdms.dissimilarities).sum())) == (6, 10)
    with refused("n_items, where the largest index makes 5 items, must be a whole number, at least 5, got 4"):
        read(path, reader=READER, n_items=4)


def test_an_index_far_too_great_is_refused_before_memory_is_taken(file):
    path = file([[0, 1, 2], [0, 1, 2_000_000_000]])
    with refused("makes 2000000001 items, but some were never shown, the first is item 3"):
        read(path, reader=READER)
    with refused("there are 2000000001 items, but an RDM can have at most 20000 here"):
        read(path, reader=READER, n_items=2_000_000_001)


@pytest.mark.parametrize("trial", [[0, 1.5, 2], [0, -1, 2], [0, float("nan"), 2], [0, 1, 2**40]])
@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_what_is_no_index_is_refused(file, trial, suffix):
    with refused(r"trial 1 \(counted from 0\) is \[.*\], expected indices: whole, not negative"):
        read(file([[0, 1, 2], trial], f"trials{suffix}"), reader=READER)


def test_a_trial_that_shows_an_item_twice_is_refused(file):
    for trial in ([1, 1, 0], [1, 0, 1], [0, 1, 1]):
        with refused("trial 5 .* shows one item twice"):
            read(file([*TRIALS, trial]), reader=READER)


def test_other_shapes_are_refused(file, tmp_path):
    with refused(r"triplets must be numbers \(n_trials, 3\), got float64 of shape \(1, 4\)"):
        read(file([[0, 1, 2, 3]]), reader=READER)
    np.save(tmp_path / "text.npy", np.array([["a", "b", "c"]]))
    with refused(r"triplets must be numbers \(n_trials, 3\), got <U1 of shape"):
        read(tmp_path / "text.npy", reader=READER)
    np.save(tmp_path / "none.npy", np.empty((0, 3), dtype=int))
    with refused(r"of shape \(0, 3\)"):
        read(tmp_path / "none.npy", reader=READER)


def test_a_named_table_that_is_unsound_is_refused(file):
    with refused("the table has a first row only"):
        read(file("a,b,odd\n", "trials.csv"), reader=READER)
    with refused(r"row 2 has the cells \['cat', 'dog'\]; expected one for each of"):
        read(file("a,b,odd\ncat,dog\n", "trials.csv"), reader=READER)
    with refused(r"row 3 has the cells \['cat', '', 'car'\]"):
        read(file("a,b,odd\ncat,dog,car\ncat,,car\n", "trials.csv"), reader=READER)
    with refused("column 'subjects' is not known; nearest: 'subject'"):
        read(file("a,b,odd,subjects\ncat,dog,car,1\n", "trials.csv"), reader=READER)
    with refused(r"\['a'\] occur more than once in the first row"):
        read(file("a,a,b,odd\ncat,cat,dog,car\n", "trials.csv"), reader=READER)
    for option in ({"odd": "first"}, {"base": 1}, {"n_items": 3}):
        with refused("odd=, base= and n_items= are for indices; the columns of this table have names"):
            read(file("a,b,odd\ncat,dog,car\n", "trials.csv"), reader=READER, **option)


def test_trials_that_keep_every_pair_alike_are_refused(file):
    with refused("is constant"):
        read(file([[0, 1, 2], [1, 2, 0], [0, 2, 1]]), reader=READER, odd="last")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_three_columns_of_a_table_could_be_pairs_with_ratings(file, suffix):
    for rows in ([[0, 1, 3], [0, 2, 5]], TRIALS):
        with refused("could be trials or pairs with ratings: for trials, use odd='last' .* a,b,rating"):
            read(file(rows, f"rows{suffix}"), base=0)


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_every_pair_once_with_a_number_could_be_ratings(file, suffix):
    ratings = [[0, 1, 3], [0, 2, 5], [3, 0, 1], [1, 2, 4], [1, 3, 5], [2, 3, 4]]
    with refused("could be trials or pairs with ratings"):
        read(file(ratings, f"rows{suffix}"), reader=READER, n_items=6)
    assert read(file([*ratings, [3, 1, 2]], f"rows{suffix}"), reader=READER).n_cond == 6  # a pair twice


def test_an_rdm_of_three_conditions_is_left_to_the_reader_of_tables(file):
    for path in (file("0,1,2\n1,0,3\n2,3,0\n", "rdm.csv"), file("0 1 2\n1 0 3\n2 3 0\n", "rdm.txt")):
        assert not READER.sniff(path)
        assert CSV.sniff(path)
    for text in ("0,1,2\n1,0,3\n2,4,0\n", "0,1,2\n1,3,3\n2,3,0\n", "0,1,2\n1,0,3\n2,3,0\n1,2,3\n"):
        assert READER.sniff(file(text, "trials.csv"))


def test_trials_apart_by_commas_in_a_text_file_are_read(file):
    path = file("".join(f"{a}, {b},{odd}\n" for a, b, odd in TRIALS))
    assert READER.sniff(path)
    np.testing.assert_allclose(read(path).dissimilarities, [EXPECTED])


def test_the_numbers_of_rows_that_pandas_writes_are_left_out(file):
    rows = [[str(number), *(ITEMS[index] for index in trial)] for number, trial in enumerate(TRIALS)]
    rdms = read(file([["", "a", "b", "odd"], *rows], "trials.csv"))
    np.testing.assert_allclose(select(rdms, ITEMS).dissimilarities, [EXPECTED])


def test_trials_in_another_coding_are_refused_in_words(file, tmp_path):
    (tmp_path / "trials.csv").write_bytes("a,b,odd\nKäse,dog,car\n".encode("latin-1"))
    with refused("the file is not UTF-8 text .* save it as UTF-8"):
        read(tmp_path / "trials.csv")


def test_an_empty_file_and_an_unknown_place_are_refused(file):
    with refused(r"trials.txt' \(reader 'triplets'\): the file is empty"):
        read(file(""), reader=READER)
    with refused("odd 'middle' is not known"):
        read(file(), reader=READER, odd="middle")


# -- who takes which file


def test_no_other_reader_takes_triplets(file):
    others = [reader for name, reader in find_readers().items() if name != "triplets"]
    for path in (file(name="t.txt"), file(name="t.csv"), file(name="t.npy"), file("a,b,odd\nx,y,z\n", "named.csv")):
        assert READER.sniff(path)
        assert not [other.name for other in others if other.sniff(path)]


def test_tables_and_other_texts_are_no_triplets(file, tmp_path):
    for text in (",a,b,c\na,0,1,2\n", "a,b,dissimilarity\nx,y,1\n", "1,2\n", "cat,dog,car\n", ""):
        path = file(text, "table.csv")
        assert not READER.sniff(path)
        assert CSV.sniff(path)
    assert not READER.sniff(file("one two three\n"))
    assert not READER.sniff(tmp_path / "missing.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert not READER.sniff(tmp_path / "binary.txt")


def test_random_trials_are_counted_as_by_a_plain_loop(file):
    rng = np.random.default_rng(0)
    trials = rng.random((300, 9)).argpartition(3)[:, :3]
    shown, kept = np.zeros((2, 9, 9))
    for a, b, odd in trials:
        for i, j in itertools.permutations((a, b, odd), 2):
            shown[i, j] += 1
            kept[i, j] += odd not in (i, j)
    parted = (1 - kept / np.where(shown, shown, 1))[np.triu_indices(9, 1)]
    np.testing.assert_allclose(read(file(trials), reader=READER, n_items=9).dissimilarities, [parted])


def test_the_reader_keeps_the_contract(file):
    check_reader(READER, file())
