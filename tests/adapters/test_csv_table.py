"""Tables: square and long, and every way they can contradict themselves."""

from __future__ import annotations

import numpy as np
import pytest

from brainrdl import BrainrdlError, read
from brainrdl.rdms import names, select
from brainrdl.testing import check_reader
from data_adapters.csv_table import READER

SQUARE = ",cat,dog,car\ncat,0,0.2,0.9\ndog,0.2,0,0.8\ncar,0.9,0.8,0\n"
LONG = "a,b,dissimilarity\ncat,dog,0.2\ncat,car,0.9\ndog,car,0.8\n"
PAIRS = [[0.2, 0.9, 0.8]]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def table(tmp_path):
    def write(text, suffix=".csv", encoding="utf-8"):
        path = tmp_path / f"table{suffix}"
        path.write_text(text, encoding=encoding, newline="")
        return path

    return write


@pytest.mark.parametrize("text", [SQUARE, LONG], ids=["square", "long"])
def test_both_tables_give_the_same_rdm(table, text):
    rdms = read(table(text))
    assert rdms.dissimilarities.tolist() == PAIRS
    assert names(rdms) == ("cat", "dog", "car")


@pytest.mark.parametrize("text", [SQUARE, LONG], ids=["square", "long"])
def test_tabs_spaces_byte_order_marks_and_windows_lines_do_not_matter(table, text):
    changed = text.replace("\n", "\r\n\r\n").replace(",", "\t ")
    assert read(table(changed, ".tsv", "utf-8-sig")).dissimilarities.tolist() == PAIRS


def test_a_delimiter_can_be_given(table):
    path = table(SQUARE.replace(",", ";"))
    with refused(r"the first line has one cell, ';cat;dog;car'; say what separates the cells with delimiter="):
        read(path)
    assert read(path, delimiter=";").n_cond == 3
    with refused("delimiter must be one character, got ';;'"):
        read(path, delimiter=";;")


def test_columns_in_another_order_than_rows_are_paired_by_name(table):
    rdms = read(table(",car,cat,dog\ncat,0.9,0,0.2\ndog,0.8,0.2,0\ncar,0,0.9,0.8\n"))
    assert rdms.dissimilarities.tolist() == PAIRS
    assert names(rdms) == ("cat", "dog", "car")


def test_names_may_hold_the_delimiter_in_quotes(table):
    assert names(read(table(SQUARE.replace("cat", '"cat, black"')))) == ("cat, black", "dog", "car")


@pytest.mark.parametrize("cell", ["", "NA", "nan", "NaN"])
def test_cells_not_measured_become_nan(table, cell):
    np.testing.assert_array_equal(read(table(SQUARE.replace("0.9", cell))).dissimilarities, [[0.2, np.nan, 0.8]])
    np.testing.assert_array_equal(read(table(LONG.replace("0.9", cell))).dissimilarities, [[0.2, np.nan, 0.8]])


def test_an_empty_file_is_refused(table):
    for text in ("", "\n\n"):
        with refused(r"table.csv' \(reader 'csv'\): the file is empty"):
            read(table(text))


def test_ragged_rows_are_refused(table):
    with refused("row 3 has 3 cells and the first row 4"):
        read(table(SQUARE.replace("0.2,0,0.8", "0.2,0")))


def test_a_missing_row_is_refused(table):
    with refused(r"only in the first row \['car'\], only in the first column \[\]"):
        read(table(SQUARE.replace("car,0.9,0.8,0\n", "")))


def test_different_row_and_column_names_are_refused(table):
    with refused(r"only in the first row \['dog'\], only in the first column \['doge'\]"):
        read(table(SQUARE.replace("\ndog", "\ndoge")))


@pytest.mark.parametrize(("old", "place"), [(",dog", "row"), ("\ndog", "column")])
def test_a_name_twice_is_refused(table, old, place):
    with refused(rf"\['cat'\] stand more than once in the first {place}"):
        read(table(SQUARE.replace(old, old[0] + "cat")))


@pytest.mark.parametrize("text", [SQUARE, LONG], ids=["square", "long"])
def test_a_cell_that_is_no_number_is_refused_with_its_place(table, text):
    with refused("'O.9' at row 'cat', column 'car' is not a number"):
        read(table(text.replace("0.9", "O.9", 1)))


def test_an_asymmetric_table_is_refused(table):
    with refused(r"RDM 0 \(of 1\) in the table is not symmetric"):
        read(table(SQUARE.replace("0.9", "0.7", 1)))


# -- long tables


def test_labels_make_one_rdm_each(table):
    rows = [
        f"{a},{b},{value * scale},{subject},{roi}"
        for scale, (subject, roi) in enumerate([("s1", "V1"), ("s1", "IT"), ("s2", "IT")], start=1)
        for a, b, value in [("cat", "dog", 2), ("car", "cat", 9), ("dog", "car", 8)]
    ]
    rdms = read(table("a,b,dissimilarity,subject,roi\n" + "\n".join(rows)))
    assert rdms.dissimilarities.tolist() == [[2, 9, 8], [4, 18, 16], [6, 27, 24]]
    assert rdms.rdm_descriptors["subject"] == ["s1", "s1", "s2"]
    assert rdms.rdm_descriptors["roi"] == ["V1", "IT", "IT"]


def test_columns_of_a_long_table_may_stand_in_any_order(table):
    text = "dissimilarity,b,session,a\n0.2,dog,1,cat\n0.9,car,1,cat\n0.8,car,1,dog\n"
    rdms = read(table(text))
    assert (rdms.dissimilarities.tolist(), rdms.rdm_descriptors["session"]) == (PAIRS, ["1"])


def test_a_pair_given_both_ways_with_one_value_is_taken(table):
    assert read(table(LONG + "dog,cat,0.2\ncat,cat,0\ndog,dog,\n")).dissimilarities.tolist() == PAIRS


def test_a_pair_with_two_values_is_refused(table):
    with refused("the pair 'cat', 'dog' stands twice, with 0.2 and 0.3; repeats='mean'"):
        read(table(LONG + "dog,cat,0.3\n"))


def test_a_missing_pair_is_refused_with_its_rdm(table):
    text = "a,b,dissimilarity,subject\n" + "".join(
        f"{a},{b},0.{a_b},{s}\n"
        for s in ("s1", "s2")
        for a_b, (a, b) in enumerate([("cat", "dog"), ("cat", "car"), ("dog", "car")], start=1)
        if (s, a_b) != ("s2", 2)
    )
    with refused("the pair 'cat', 'car' is missing for 's2'; give it an empty value.*missing='nan'"):
        read(table(text))


def test_a_dissimilarity_of_a_condition_to_itself_is_refused(table):
    with refused("the dissimilarity of 'cat' to itself is 1.0, expected 0"):
        read(table(LONG + "cat,cat,1\n"))


def test_an_unknown_column_is_refused_with_the_nearest(table):
    with refused("column 'subjects' is not known; nearest: 'subject'"):
        read(
            table(
                LONG.replace("dissimilarity", "dissimilarity,subjects")
                .replace("\nc", "\nc")
                .replace("2\n", "2,s\n")
                .replace("9\n", "9,s\n")
                .replace("8\n", "8,s\n")
            )
        )


def test_a_column_twice_is_refused(table):
    with refused(r"\['a'\] stand more than once in the first row"):
        read(table("a,a,b,dissimilarity\ncat,cat,dog,1\n"))


def test_a_long_table_without_rows_is_refused(table):
    with refused("the table has a first row only"):
        read(table("a,b,dissimilarity\n"))


def test_a_table_in_another_encoding_is_refused(table):
    with refused(r"\(reader 'csv'\) could not be read.*UnicodeDecodeError"):
        read(table(SQUARE.replace("cat", "k\u00e4tzchen"), encoding="latin-1"))


@pytest.mark.parametrize("text", [SQUARE, LONG], ids=["square", "long"])
def test_the_reader_keeps_the_contract(table, text):
    check_reader(READER, table(text))


# -- ratings


RATINGS = "subject,a,b,rating\n" + "".join(
    f"{subject},{a},{b},{rating}\n"
    for subject, ratings in {"s1": (6, 1, 2), "s2": (5, 2, 7)}.items()
    for (a, b), rating in zip([("cat", "dog"), ("cat", "car"), ("dog", "car")], ratings, strict=True)
)


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [
        (True, [[1, 6, 5], [2, 5, 0]]),
        (7, [[1, 6, 5], [2, 5, 0]]),
        (9.5, [[3.5, 8.5, 7.5], [4.5, 7.5, 2.5]]),
        (False, [[6, 1, 2], [5, 2, 7]]),
    ],
)
def test_ratings_of_similarity_are_turned_round(table, similarity, expected):
    rdms = read(table(RATINGS), similarity=similarity)
    assert rdms.dissimilarities.tolist() == expected
    assert rdms.rdm_descriptors["subject"] == ["s1", "s2"]
    assert names(rdms) == ("cat", "dog", "car")


def test_a_square_table_of_similarities_is_turned_round(table):
    rdms = read(table(",cat,dog,car\ncat,1,0.8,0.1\ndog,0.8,1,0.2\ncar,0.1,0.2,1\n"), similarity=True)
    np.testing.assert_allclose(rdms.dissimilarities, [[0.2, 0.9, 0.8]])


def test_ratings_whose_meaning_is_open_are_refused(table):
    with refused("is a high rating like or unlike[?] say similarity=True"):
        read(table(RATINGS))
    with refused("similarity=True, but the column is called 'dissimilarity'; rename it to 'rating'"):
        read(table(LONG), similarity=True)
    with refused("similarity says that the scale ends at 6.0, but there is a value of 7"):
        read(table(RATINGS), similarity=6)
    with refused("similarity, unless True or False, must be a finite number .* got 'yes'"):
        read(table(RATINGS), similarity="yes")


def test_a_long_table_needs_one_column_of_values(table):
    with refused(r"must have one of the columns \['dissimilarity', 'rating'\], got \['a', 'b'\]"):
        read(table("a,b\ncat,dog\n"))
    with refused(r"must have one of the columns .* got \['dissimilarity', 'rating'\]"):
        read(table("a,b,rating,dissimilarity\ncat,dog,1,2\n"))


def test_repeated_ratings_are_averaged_where_that_is_asked_for(table):
    text = RATINGS + "s1,dog,cat,3\ns2,cat,dog,\n"
    with refused("the pair 'cat', 'dog' stands twice for 's1', with 6.0 and 3.0; repeats='mean' would average them"):
        read(table(text), similarity=False)
    rdms = read(table(text), similarity=False, repeats="mean")
    assert rdms.dissimilarities.tolist() == [[4.5, 1, 2], [5, 2, 7]]
    with refused("repeats 'median' is not known"):
        read(table(text), similarity=False, repeats="median")


def test_pairs_that_a_subject_did_not_rate_are_nan_where_that_is_asked_for(table):
    text = RATINGS.replace("s2,cat,car,2\n", "")
    with refused("the pair 'cat', 'car' is missing for 's2'"):
        read(table(text), similarity=True)
    rdms = read(table(text), similarity=True, missing="nan")
    np.testing.assert_array_equal(rdms.dissimilarities, [[1, 6, 5], [2, np.nan, 0]])
    with refused("missing 'zero' is not known"):
        read(table(text), similarity=True, missing="zero")


def test_a_condition_rated_as_unlike_itself_is_refused(table):
    with refused("the dissimilarity of 'cat' to itself is 1.0, expected 0"):
        read(table(RATINGS + "s1,cat,cat,6\n"), similarity=True)
    assert read(table(RATINGS + "s1,cat,cat,7\n"), similarity=True).n_rdm == 2


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_long_table_in_any_order_give_the_same_pairs(table, seed):
    header, *rows = RATINGS.splitlines()
    shuffled = np.random.default_rng(seed).permutation(rows).tolist()
    rdms = read(table("\n".join([header, *shuffled])), similarity=True)
    of = {subject: rdms.subset("subject", subject) for subject in ("s1", "s2")}
    found = {subject: select(one, ["cat", "dog", "car"]).dissimilarities[0].tolist() for subject, one in of.items()}
    assert found == {"s1": [1, 6, 5], "s2": [2, 5, 0]}
