"""Tables: square and long, and every way they can contradict themselves."""

from __future__ import annotations

import numpy as np
import pytest

from brainrdl import BrainrdlError, read
from brainrdl.rdms import names
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
    with refused("the pair 'dog', 'cat' stands twice, with 0.2 and 0.3"):
        read(table(LONG + "dog,cat,0.3\n"))


def test_a_missing_pair_is_refused_with_its_rdm(table):
    text = "a,b,dissimilarity,subject\n" + "".join(
        f"{a},{b},0.{a_b},{s}\n"
        for s in ("s1", "s2")
        for a_b, (a, b) in enumerate([("cat", "dog"), ("cat", "car"), ("dog", "car")], start=1)
        if (s, a_b) != ("s2", 2)
    )
    with refused("the pair 'cat', 'car' is missing for 's2'; give it an empty dissimilarity"):
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
