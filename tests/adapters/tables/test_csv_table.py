"""Tables: square and long, and every way they can contradict themselves."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import names, select
from brainrdl.rdms.conversion import from_array, to_table
from brainrdl.testing.file_readers import check_reader
from data_adapters._shared import text as _text
from data_adapters.tables.csv_table import READER

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
    path = table(SQUARE.replace(",", "|"))
    with refused(r"the first line has only one cell, '\|cat.*; give the character between cells with delimiter="):
        read(path)
    assert read(path, delimiter="|").n_cond == 3
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
    with refused("row 3 has 3 cells, but the first row has 4"):
        read(table(SQUARE.replace("0.2,0,0.8", "0.2,0")))


def test_a_missing_row_is_refused(table):
    with refused(r"only in the first row \['car'\], only in the first column \[\]"):
        read(table(SQUARE.replace("car,0.9,0.8,0\n", "")))
    with refused(r"only in the first row \['car'\]"):  # a column with one text is none of text
        read(table(SQUARE.replace("car,0.9,0.8,0\n", "").replace("0.9", "O.9")))


def test_different_row_and_column_names_are_refused(table):
    with refused(r"only in the first row \['dog'\], only in the first column \['doge'\]"):
        read(table(SQUARE.replace("\ndog", "\ndoge")))


@pytest.mark.parametrize(("old", "place"), [(",dog", "row"), ("\ndog", "column")])
def test_a_name_twice_is_refused(table, old, place):
    with refused(rf"\['cat'\] occur more than once in the first {place}"):
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
    with refused("the pair 'cat', 'dog' occurs twice, with 0.2 and 0.3; repeats='mean'"):
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


def with_column(name, cells, text=LONG):
    """Add a column to a table."""
    return "".join(f"{line},{cell}\n" for line, cell in zip(text.splitlines(), [name, *cells], strict=True))


def test_an_unknown_column_is_refused_with_the_nearest(table):
    text = with_column("subjects", "sss").replace("dissimilarity", "Dissimilarity")
    with refused(r"column 'subjects' is not known; nearest: 'subject'; .* distinguish RDMs with rdm_"):
        read(table(text))


def test_every_rdm_descriptor_that_is_written_to_a_table_is_read_back(tmp_path):
    described = {
        "task": ["a", "a"],
        "run": [1, 2],
        "time": [0.0, 0.1],
        "session": ["", "x"],
        "model rdm": ["m 1", "m 2"],
    }
    rdms = from_array(np.arange(6.0).reshape(2, 3), ["cat", "dog", "car"], descriptors=described)
    for suffix, options in ((".csv", {"index": False}), (".csv", {}), (".parquet", {})):
        path = tmp_path / f"table{suffix}"
        getattr(to_table(rdms), f"to_{suffix[1:]}")(path, **options)
        again = read(path)
        np.testing.assert_array_equal(again.dissimilarities, rdms.dissimilarities)
        expected = described | {"run": ["1", "2"], "time": ["0", "0.1"]}
        assert {key: again.rdm_descriptors[key] for key in described} == expected


def test_a_column_that_does_not_distinguish_rdms_is_reported(table):
    text = with_column("seconds", ["1.2", "1.2", "3"])
    with refused(
        "the pair 'dog', 'car' is missing for '1.2'; .* or name the columns that distinguish RDMs with rdm_columns="
    ):
        read(table(text))
    for allowed in ({"missing": "nan"}, {"repeats": "mean"}):
        with refused("column 'seconds' is not known"):
            read(table(text), **allowed)


def test_a_blank_subject_is_refused(table):
    with refused("1 of 3 values of column 'subject' are missing"):
        read(table(with_column("Subject", ["s1", "s1", ""])))


def test_names_that_are_all_floats_lose_the_point_of_whole_numbers(table):
    floats = LONG.replace("cat", "1.0").replace("dog", "2.0").replace("car", "2.5")
    for text, told in ((floats, ("1", "2", "2.5")), (floats.replace("2.0", "02"), ("1.0", "02", "2.5"))):
        assert names(read(table(text))) == told
    assert read(table(with_column("subject", ["1.0"] * 3))).rdm_descriptors["subject"] == ["1"]
    assert read(table(with_column("subject", ["01"] * 3))).rdm_descriptors["subject"] == ["01"]


def test_a_column_twice_is_refused(table):
    with refused(r"\['a'\] occur more than once in the first row"):
        read(table("a,a,b,dissimilarity\ncat,cat,dog,1\n"))


def test_a_long_table_without_rows_is_refused(table):
    with refused("the table has a first row only"):
        read(table("a,b,dissimilarity\n"))


def test_a_table_in_another_encoding_is_refused(table):
    for encoding, called in (("latin-1", "Latin-1"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16")):
        with refused(rf"\(reader 'csv'\): the file is not UTF-8 text \({called}, .*\); save it as UTF-8"):
            read(table(SQUARE.replace("cat", "k\u00e4tzchen"), encoding=encoding))


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
    with refused("does a high rating mean similar or different[?] use similarity=True"):
        read(table(RATINGS))
    with refused("similarity=True, but the column is called 'dissimilarity'; rename it to 'rating'"):
        read(table(LONG), similarity=True)
    with refused("similarity says that the scale ends at 6.0, but there is a value of 7"):
        read(table(RATINGS), similarity=6)
    with refused("similarity, unless True or False, must be a finite number .* got nan"):
        read(table(RATINGS), similarity=float("nan"))


def test_a_long_table_needs_one_column_of_values(table):
    with refused(r"must have one of the columns \['dissimilarity', 'rating'\], got \['a', 'b'\]"):
        read(table("a,b\ncat,dog\n"))
    with refused(r"must have one of the columns .* got \['rating', 'dissimilarity'\]; choose one with value="):
        read(table("a,b,rating,dissimilarity\ncat,dog,1,2\n"))


def test_repeated_ratings_are_averaged_where_that_is_asked_for(table):
    text = RATINGS + "s1,dog,cat,3\ns2,cat,dog,\n"
    with refused("the pair 'cat', 'dog' occurs twice for 's1', with 6.0 and 3.0; repeats='mean' averages them"):
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


# -- tables of numbers alone, and names on one side


BARE = np.array([[0, 0.2, 0.9, 0.5], [0.2, 0, 0.8, 0.4], [0.9, 0.8, 0, 0.3], [0.5, 0.4, 0.3, 0]])
BARE_PAIRS = [[0.2, 0.9, 0.5, 0.8, 0.4, 0.3]]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("layout", ["%.18e", "%.15g", "  %g"])
def test_a_square_of_numbers_is_an_rdm_without_names(tmp_path, suffix, layout):
    separator = {".csv": ",", ".tsv": "\t", ".txt": " "}[suffix]
    np.savetxt(tmp_path / f"bare{suffix}", BARE, delimiter=separator, fmt=layout)
    rdms = read(tmp_path / f"bare{suffix}")
    assert rdms.dissimilarities.tolist() == BARE_PAIRS
    assert list(rdms.pattern_descriptors) == ["index"]
    assert names(read(tmp_path / f"bare{suffix}", names=["a", "b", "c", "d"])) == ("a", "b", "c", "d")


def test_a_square_of_whole_numbers_is_an_rdm_without_names(table):
    assert read(table("0,1,2,5\n1,0,3,6\n2,3,0,7\n5,6,7,0\n")).dissimilarities.tolist() == [[1, 2, 5, 3, 6, 7]]


def test_a_bare_square_may_be_of_similarities_or_have_nan_on_its_diagonal(tmp_path):
    np.savetxt(tmp_path / "alike.csv", 1 - BARE, delimiter=",")
    np.testing.assert_allclose(read(tmp_path / "alike.csv", similarity=True).dissimilarities, BARE_PAIRS)
    with refused(r"non-zero diagonal: \[0, 0\] is 1"):
        read(tmp_path / "alike.csv")
    np.savetxt(tmp_path / "nan.csv", BARE + np.diag([np.nan] * 4), delimiter=",")
    assert read(tmp_path / "nan.csv").dissimilarities.tolist() == BARE_PAIRS


def test_a_bare_square_that_is_no_rdm_is_refused(table):
    with refused(r"not symmetric: \[0, 3\] is 0.5 and \[3, 0\] is 0.6"):
        read(table("0,.2,.9,.5\n.2,0,.8,.4\n.9,.8,0,.3\n.6,.4,.3,0\n"))


def test_three_rows_of_three_whole_numbers_are_refused_with_the_choices(table):
    path = table("0,1,2\n1,0,3\n2,3,0\n")
    with refused(r"could be values or names: use header=False .* or header=True .*, or reader='triplets'"):
        read(path)
    assert read(path, header=False).dissimilarities.tolist() == [[1, 2, 3]]
    assert read(path, reader="triplets", odd="last", n_items=4).n_cond == 4
    with refused(r"three rows of three whole numbers .* use header=False, or reader='triplets'"):
        read(table("0,4,2\n4,0,3\n2,3,0\n"))
    assert read(table("0,4,2\n4,0,2\n2,2,0\n")).dissimilarities.tolist() == [[4, 2, 2]]  # no trial shows an item twice


def test_numbers_that_could_be_names_of_others_are_refused_with_the_choices(table):
    path = table("0,11,12,13\n11,0,.2,.9\n12,.2,0,.8\n13,.9,.8,0\n")
    with refused(
        r"\['11', '12', '13'\], could be values or names: use header=False \(values\) or header=True \(names\)$"
    ):
        read(path)
    assert names(read(path, header=True)) == ("11", "12", "13")
    assert read(path, header=False).n_cond == 4
    with refused("header=False needs a square table of numbers; this one has 4 rows of 4 cells"):
        read(table(SQUARE), header=False)


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([1, 2, 3, 4], "1 2 3 4"),
        ([0, 22.5, 45, 67.5], "0 22.5 45 67.5"),
        ([0.0, 1.0, 2.0, 3.0], "0 1 2 3"),
        ([-1, 0, 1, 2], "-1 0 1 2"),
        ([0.1, 0.2, 0.4, 0.8], "0.1 0.2 0.4 0.8"),
        ([3, 1, 0, 2], "3 1 0 2"),
    ],
)
def test_a_blank_corner_stands_above_names_of_any_numbers(tmp_path, numbers, told):
    table = pd.DataFrame(BARE, index=numbers, columns=numbers)
    table.to_csv(tmp_path / "square.csv")
    table.columns = table.columns.astype(str)
    table.to_parquet(tmp_path / "square.parquet")
    for suffix in (".csv", ".parquet"):
        rdms = read(tmp_path / f"square{suffix}")
        assert (rdms.dissimilarities.tolist(), names(rdms)) == (BARE_PAIRS, tuple(told.split()))


def test_under_a_blank_corner_and_diagonal_numbers_are_asked_about(table):
    for text in (",36,35,48\n36,,43,57\n35,43,,50\n48,57,50,\n", ",1,2,3\n1,,.2,.9\n2,.2,,.8\n3,.9,.8,\n"):
        with refused(r"could be values or names: use header=False \(values\) or header=True \(names\)$"):
            read(table(text))
        assert read(table(text), header=False).n_cond == 4
        assert names(read(table(text), header=True)) == tuple(text.splitlines()[0].split(",")[1:])
    assert read(table(",.2,.2,.3\n.2,,.5,.6\n.2,.5,,.7\n.3,.6,.7,\n")).n_cond == 4  # names occur once
    with refused(r"only in the first row \['3'\], only in the first column \['4'\]"):
        read(table(",1,2,3\n1,0,.2,.9\n2,.2,0,.8\n4,.9,.8,0\n"))


@pytest.mark.parametrize("named", ["nothing", "columns", "rows by another column"])
def test_the_numbers_of_pandas_are_no_names(tmp_path, named):
    table = pd.DataFrame(BARE, columns=None if named == "nothing" else list("wxyz"))
    if named == "rows by another column":
        table = table.iloc[::-1].reset_index(drop=True)
        table.insert(0, "name", list("zyxw"))
    table.to_csv(tmp_path / "square.csv")
    rdms = read(tmp_path / "square.csv", names=list("wxyz") if named == "nothing" else None)
    assert select(rdms, list("wxyz")).dissimilarities.tolist() == BARE_PAIRS
    if named == "nothing":
        assert list(read(tmp_path / "square.csv").pattern_descriptors) == ["index"]
        assert list(read(tmp_path / "square.csv", header=True).pattern_descriptors) == ["index"]


def test_the_numbers_of_rs_rows_are_no_names(table):
    text = '"","cat","dog","car"\n"1",0,0.2,0.9\n"2",0.2,0,0.8\n"3",0.9,0.8,0\n'
    assert names(read(table(text))) == ("cat", "dog", "car")
    with refused("row and column names differ"):
        read(table(text.replace('"3"', '"4"')))
    with refused("not symmetric"):
        read(table(text.replace('"1",0,0.2,0.9', '"1",0.2,0,0.8').replace('"2",0.2,0,0.8', '"2",0,0.2,0.9')))


def test_names_in_the_first_row_alone_stand_for_the_rows_too(table):
    rdms = read(table("a,b,c\n0,.2,.9\n.2,0,.8\n.9,.8,0\n"))
    assert (rdms.dissimilarities.tolist(), names(rdms)) == (PAIRS, ("a", "b", "c"))
    with refused("not symmetric"):
        read(table("a,b,c\n0,.2,.9\n.9,.8,0\n.2,0,.8\n"))


def test_conditions_called_a_b_c_d_are_no_long_table(tmp_path):
    pd.DataFrame(BARE, list("abcd"), list("abcd")).to_csv(tmp_path / "square.csv")
    rdms = read(tmp_path / "square.csv")
    assert (rdms.dissimilarities.tolist(), names(rdms)) == (BARE_PAIRS, tuple("abcd"))


def test_one_triangle_is_enough(table):
    for text in (
        ",cat,dog,car\ncat,,,\ndog,0.2,,\ncar,0.9,0.8,\n",
        ",cat,dog,car\ncat,0,0.2,0.9\ndog,NA,0,0.8\ncar,NA,NA,0\n",
    ):
        assert read(table(text)).dissimilarities.tolist() == PAIRS


def test_columns_of_text_beside_a_square_are_kept_with_their_conditions(table):
    rdms = read(table("name,kind,cat,dog,car\ncar,thing,.9,.8,0\ncat,animal,0,.2,.9\ndog,animal,.2,0,.8\n"))
    assert names(rdms) == ("car", "cat", "dog")
    assert rdms.pattern_descriptors["kind"] == ["thing", "animal", "animal"]
    assert select(rdms, ["cat", "dog", "car"]).dissimilarities.tolist() == PAIRS


def test_columns_left_empty_by_a_spreadsheet_do_not_matter(table):
    assert read(table(SQUARE.replace("\n", ",,\n"))).dissimilarities.tolist() == PAIRS


# -- as other programs write them


@pytest.mark.parametrize("text", [SQUARE, LONG], ids=["square", "long"])
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_semicolons_and_decimal_commas_of_a_european_excel_are_read(table, text, suffix):
    changed = text.replace(",", ";").replace("0.", "0,")
    assert read(table(changed, suffix)).dissimilarities.tolist() == PAIRS


def test_a_decimal_comma_is_asked_for_where_it_could_be_another(table):
    text = ',cat,dog,car\ncat,0,"1,250",3\ndog,"1,250",0,2\ncar,3,2,0\n'
    with refused("'1,250' at row 'cat', column 'dog' is not a number; if the comma is a decimal one, use decimal=','"):
        read(table(text))
    assert read(table(text), decimal=",").dissimilarities.tolist() == [[1.25, 3, 2]]
    with refused("'1,250' at row .* is not a number"):  # a comma and a point in one table
        read(table(";cat;dog;car\ncat;0;1,250;3.5\ndog;1,250;0;2\ncar;3.5;2;0\n"))
    with refused("'3.5' at row 'cat', column 'car' is not a number$"):
        read(table(";cat;dog;car\ncat;0;1,250;3.5\ndog;1,250;0;2\ncar;3.5;2;0\n"), decimal=",")
    with refused("decimal ';' is not known"):
        read(table(text), decimal=";")


@pytest.mark.parametrize("cell", ["1_000", "0x1", "1e", "--1"])
def test_what_only_python_or_nobody_takes_for_a_number_is_refused(table, cell):
    with refused(f"'{cell}' at row 'cat', column 'car' is not a number"):
        read(table(SQUARE.replace("0.9", cell)))


@pytest.mark.parametrize(("suffix", "separator"), [(".tsv", "\t"), (".txt", " "), (".csv", ",")])
def test_the_first_row_of_r_is_one_cell_short(table, suffix, separator):
    """R's ``write.table`` of a matrix, and of a data frame with row names."""
    square = '"cat","dog","the car"\n"cat",0,0.2,0.9\n"dog",0.2,0,0.8\n"the car",0.9,0.8,0\n'
    rdms = read(table(square.replace(",", separator), suffix))
    assert (rdms.dissimilarities.tolist(), names(rdms)) == (PAIRS, ("cat", "dog", "the car"))
    long = '"a","b","dissimilarity"\n"1","cat","dog",0.2\n"2","cat","car",0.9\n"3","dog","car",0.8\n'
    assert read(table(long.replace(",", separator), suffix)).dissimilarities.tolist() == PAIRS


def test_the_numbers_of_pandas_rows_are_left_out(tmp_path):
    long = pd.DataFrame(
        [("cat", "dog", 0.2), ("cat", "car", 0.9), ("dog", "car", 0.8)], columns=["a", "b", "dissimilarity"]
    )
    long.to_csv(tmp_path / "long.csv")
    rdms = read(tmp_path / "long.csv")
    assert (rdms.dissimilarities.tolist(), list(rdms.rdm_descriptors)) == (PAIRS, ["index"])


@pytest.mark.parametrize("pair", [("A", "B"), ("stim1", "stim2"), ("Stimulus_1", "Stimulus_2"), ("item 1", "item 2")])
def test_usual_names_of_columns_are_known_in_any_case(table, pair):
    text = LONG.replace("a,b,dissimilarity", f"{pair[0]},{pair[1]},Dissimilarity,Subject").replace("\n", ",s1\n")
    rdms = read(table(text.replace("Subject,s1", "Subject", 1)))
    assert (rdms.dissimilarities.tolist(), rdms.rdm_descriptors["subject"]) == (PAIRS, ["s1"])


def test_columns_of_other_names_are_chosen_or_refused(table):
    header = "first,second,distance,rt,group\n"
    path = table(header + "cat,dog,0.2,510,x\ncat,car,0.9,730,x\ndog,car,0.8,420,x\n")
    with refused("row and column names differ: .* in a long table, choose .* with pair= and value="):
        read(path)
    with refused("must have one of the columns .* choose the column of values with value="):
        read(path, pair=["first", "second"])
    with refused(r"column 'rt' is not known; the other columns are \['rt', 'group'\]: name those that .* rdm_columns="):
        read(path, pair=["first", "second"], value="distance", similarity=False)
    chosen = {"pair": ["first", "second"], "value": "distance", "rdm_columns": "group"}
    with refused("does a high distance mean similar or different"):
        read(path, **chosen)
    rdms = read(path, similarity=False, **chosen)
    assert (rdms.dissimilarities.tolist(), rdms.rdm_descriptors["group"]) == (PAIRS, ["x"])
    assert "rt" not in rdms.rdm_descriptors
    assert list(read(path, similarity=False, **chosen | {"rdm_columns": []}).rdm_descriptors) == ["index"]
    for option, words in [
        ({"pair": ["first", "secnd"]}, "pair 'secnd' is not known; nearest: 'second'"),
        ({"pair": ["first"]}, r"pair must be the names of two columns, got \['first'\]"),
        ({"value": "distnce"}, "value 'distnce' is not known; nearest: 'distance'"),
        ({"rdm_columns": ["first"]}, "rdm_columns 'first' is not known"),
    ]:
        with refused(words):
            read(path, similarity=False, **chosen | option)


def test_pairs_occur_twice_if_a_column_that_distinguishes_rdms_is_left_out(table):
    text = "a,b,dissimilarity,hemisphere\n" + "".join(
        f"{a},{b},{v + (h == 'R')},{h}\n"
        for h in "LR"
        for a, b, v in [("cat", "dog", 2), ("cat", "car", 9), ("dog", "car", 8)]
    )
    with refused("the pair 'cat', 'dog' occurs twice, with 2.0 and 3.0"):
        read(table(text), rdm_columns=[])
    rdms = read(table(text), rdm_columns="hemisphere")
    assert (rdms.dissimilarities.tolist(), rdms.rdm_descriptors["hemisphere"]) == ([[2, 9, 8], [3, 10, 9]], ["L", "R"])


@pytest.mark.parametrize("text", [SQUARE, LONG], ids=["square", "long"])
def test_not_available_is_not_measured_but_no_name(table, text):
    assert np.isnan(read(table(text.replace("0.9", "n/a"))).dissimilarities[0, 1])
    with refused("[12] of 3 values of .* are missing"):
        read(table(text.replace("cat", "n/a")))


def test_a_packed_table_is_read(tmp_path, monkeypatch):
    path = tmp_path / "table.tsv.gz"
    path.write_bytes(gzip.compress(SQUARE.replace(",", "\t").encode()))
    assert READER.sniff(path)
    assert read(path).dissimilarities.tolist() == PAIRS
    monkeypatch.setattr(_text, "_MOST_UNPACKED", 20)
    with refused("the decompressed file has more than 20 bytes; decompress it before reading"):
        read(path)


def test_three_columns_of_numbers_need_names(table):
    with refused("all cells are numbers, in 4 rows of 3: .* add a first row a,b,dissimilarity"):
        read(table("0,1,.5\n0,2,.25\n1,2,.75\n0,3,1\n"))
    numbered = table("0,1,2\n0,.2,.9\n.2,0,.8\n.9,.8,0\n")  # pandas without its index
    with refused("if the first row names conditions, use header=True"):
        read(numbered)
    assert names(read(numbered, header=True, names=["cat", "dog", "car"])) == ("cat", "dog", "car")
    assert names(read(table("1,2,3\n0,.2,.9\n.2,0,.8\n.9,.8,0\n"), header=True)) == ("1", "2", "3")


def test_a_comma_in_names_does_not_hide_the_semicolons(table):
    rdms = read(table(";cat, black;dog;car\ncat, black;0;0,2;0,9\ndog;0,2;0;0,8\ncar;0,9;0,8;0\n"))
    assert (rdms.dissimilarities.tolist(), names(rdms)[0]) == (PAIRS, "cat, black")
    assert names(read(table(SQUARE.replace("cat", "cat; black")))) == ("cat; black", "dog", "car")


def test_a_long_table_of_networks_says_model_and_weights(table):
    text = LONG.replace("\n", ",net,none\n").replace("dissimilarity,net,none", "dissimilarity,model,weights")
    described = read(table(text)).rdm_descriptors
    assert (described["model"], described["weights"]) == (["net"], ["none"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_chance_on_the_diagonal_of_a_square_table_is_left_out_if_asked(tmp_path, kind):
    square = pd.DataFrame([[50, 60, 70], [60, 50, 80], [70, 80, 50]], index=list("abc"), columns=list("abc")) * 1.0
    path = tmp_path / f"rdm.{kind}"
    square.to_csv(path) if kind == "csv" else square.to_parquet(path)
    with refused("non-zero diagonal: .* similarity=True .* diagonal=True leaves it out"):
        read(path)
    np.testing.assert_array_equal(read(path, diagonal=True).dissimilarities, [[60, 70, 80]])


@pytest.mark.parametrize("empty", ["0", "", "NaN"])
def test_a_square_table_may_have_an_empty_half(tmp_path, empty):
    (tmp_path / "rdm.csv").write_text(f",a,b,c\na,0,1,2\nb,{empty},0,3\nc,{empty},{empty},0\n")
    np.testing.assert_array_equal(read(tmp_path / "rdm.csv").dissimilarities, [[1, 2, 3]])
