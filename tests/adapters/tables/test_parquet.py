"""Parquet tables: the same as in .csv, written by pandas and by pyarrow itself."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from brainrdl import BrainrdlError, read
from brainrdl.rdms.by_name import names, select
from brainrdl.testing.file_readers import check_reader
from data_adapters.tables import parquet
from data_adapters.tables.parquet import READER

CONDITIONS = ["cat", "dog", "car", "tree"]


def refused(words):
    return pytest.raises(BrainrdlError, match=words)


@pytest.fixture
def write(tmp_path):
    def write(table, **options):
        path = tmp_path / "table.parquet"
        table.to_parquet(path, **options) if isinstance(table, pd.DataFrame) else pq.write_table(table, path)
        return path

    return write


@pytest.fixture
def square(stack):
    return pd.DataFrame(stack[0], index=CONDITIONS, columns=CONDITIONS)


def long_of(stack):
    i, j = np.triu_indices(4, 1)
    rows = [(f"s{s}", CONDITIONS[a], CONDITIONS[b], stack[s, a, b]) for s in (0, 1) for a, b in zip(i, j, strict=True)]
    return pd.DataFrame(rows, columns=["subject", "a", "b", "dissimilarity"])


def test_a_square_table_of_pandas_is_read_with_its_index(write, square):
    rdms = read(write(square), reader=READER)
    np.testing.assert_array_equal(rdms.get_matrices()[0], square.to_numpy())
    assert names(rdms) == tuple(CONDITIONS)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_the_column_of_names_may_stand_anywhere(write, square, place):
    named = square.copy()
    named.insert(place, "condition", CONDITIONS)
    rdms = read(write(named, index=False), reader=READER)
    np.testing.assert_array_equal(rdms.get_matrices()[0], square.to_numpy())


def test_columns_in_another_order_than_rows_are_paired_by_name(write, square):
    rdms = read(write(square[["tree", "cat", "car", "dog"]]), reader=READER)
    np.testing.assert_array_equal(rdms.get_matrices()[0], square.to_numpy())


@pytest.mark.parametrize("categorical", [False, True])
def test_a_long_table_gives_an_rdm_each_subject(write, stack, categorical):
    table = long_of(stack)
    table = table.astype({"a": "category", "b": "category", "subject": "category"}) if categorical else table
    rdms = read(write(table), reader=READER)
    np.testing.assert_array_equal(rdms.get_matrices(), stack)
    assert rdms.rdm_descriptors["subject"] == ["s0", "s1"]


def test_ratings_nulls_and_whole_numbers_are_as_in_csv(write, stack):
    table = pd.DataFrame({"a": [1, 1, 2], "b": [2, 3, 3], "rating": pd.array([5, None, 1], dtype="Int64")})
    rdms = read(write(table), reader=READER, similarity=7)
    np.testing.assert_array_equal(rdms.dissimilarities, [[2, np.nan, 6]])
    assert names(rdms) == ("1", "2", "3")
    missing = long_of(stack).iloc[1:]
    assert np.isnan(read(write(missing), reader=READER, missing="nan").dissimilarities).sum() == 1
    twice = pd.concat([long_of(stack), long_of(stack).iloc[:1].assign(dissimilarity=9.0)])
    mean = read(write(twice), reader=READER, repeats="mean").dissimilarities[0, 0]
    assert mean == pytest.approx((stack[0, 0, 1] + 9) / 2)


def test_tables_that_are_no_rdm_are_refused(write, square, stack):
    with refused("row and column names differ"):
        read(write(square.iloc[:3], index=False), reader=READER)
    with refused(r"only in the first row \['tree'\], only in the first column \['bush'\]"):
        read(write(square.rename(index={"tree": "bush"})), reader=READER)
    with refused(r"column 'when' holds timestamp\[.*\], expected text or numbers"):
        read(write(long_of(stack).assign(when=pd.Timestamp(0))), reader=READER, rdm_columns="when")
    with refused(r"which of the columns of text, \['one', 'two'\], names the rows. write it as the table's index"):
        read(write(square.assign(one="x", two="y"), index=False), reader=READER)
    with refused("column 'sujet' is not known"):
        read(write(long_of(stack).rename(columns={"subject": "sujet"})), reader=READER)
    # pyarrow itself refuses to write or read some of these
    doubled = pa.Table.from_arrays([pa.array(["x"]), pa.array([1.0]), pa.array([2.0])], names=["n", "x", "x"])
    with refused("two columns of .* have the same name"):
        read(write(doubled), reader=READER)


@pytest.mark.parametrize("index", [[1, 2, 10, 3], [1.0, 2.0, 10.0, 3.0], ["1", "2", "10", "3"]])
@pytest.mark.parametrize("called", [None, "image"])
def test_an_index_of_numbers_names_the_rows(write, stack, index, called):
    table = pd.DataFrame(stack[0], index=pd.Index(index, name=called), columns=["1", "2", "10", "3"])
    rdms = read(write(table[["10", "1", "3", "2"]]), reader=READER)
    assert names(rdms) == ("1", "2", "10", "3")
    np.testing.assert_array_equal(rdms.get_matrices()[0], stack[0])


def test_rows_without_names_stand_in_the_order_of_the_columns(write, square):
    rdms = read(write(square, index=False), reader=READER)
    assert names(rdms) == tuple(CONDITIONS)
    np.testing.assert_array_equal(rdms.get_matrices()[0], square.to_numpy())
    with refused("not symmetric"):
        read(write(square.iloc[[1, 0, 2, 3]], index=False), reader=READER)


def test_a_second_column_of_text_is_kept_with_the_conditions(write, square):
    table = square.assign(kind=["animal", "animal", "thing", "plant"])
    for each in (table, table.reset_index(names="stimulus"), table.iloc[::-1]):
        rdms = select(read(write(each), reader=READER), CONDITIONS)
        np.testing.assert_array_equal(rdms.get_matrices()[0], square.to_numpy())
        assert rdms.pattern_descriptors["kind"] == ["animal", "animal", "thing", "plant"]


def test_conditions_called_a_b_c_d_are_no_long_table(write, stack):
    rdms = read(write(pd.DataFrame(stack[0], list("abcd"), list("abcd"))), reader=READER)
    assert names(rdms) == tuple("abcd")
    np.testing.assert_array_equal(rdms.get_matrices()[0], stack[0])


def test_whole_numbers_that_pandas_made_floats_are_names_without_a_point(write):
    table = pd.DataFrame({"a": [1.0, 1, 2], "b": [2.0, 3, 3], "dissimilarity": [0.5, 0.25, 1], "subject": [7.0] * 3})
    rdms = read(write(table), reader=READER)
    assert (names(rdms), rdms.rdm_descriptors["subject"]) == (("1", "2", "3"), ["7"])
    with refused("1 of 3 values of column 'b' are missing"):
        read(write(table.assign(b=[2, None, 3])), reader=READER)


def test_names_that_are_floats_are_the_same_on_both_sides(write, stack):
    angles = [22.5, 45.0, 0.0, 67.5]
    table = pd.DataFrame(stack[0], index=angles, columns=list(map(str, angles)))
    rdms = read(write(table[["45.0", "0.0", "67.5", "22.5"]].assign(kind="angle")), reader=READER)
    np.testing.assert_array_equal(rdms.get_matrices()[0], stack[0])
    assert names(rdms) == ("22.5", "45", "0", "67.5")
    texts = write(pd.DataFrame({"a": ["1.0", "1.0", "2.5"], "b": ["2.5", "3.0", "3.0"], "dissimilarity": [1, 2, 3]}))
    assert names(read(texts, reader=READER)) == ("1", "2.5", "3")


def test_the_numbers_of_pandas_are_no_names(write, stack):
    numbered = pd.DataFrame(stack[0], columns=list("0123"))
    for table in (numbered, numbered.set_index(pd.Index([0, 1, 2, 3]))):
        rdms = read(write(table), reader=READER)
        np.testing.assert_array_equal(rdms.get_matrices()[0], stack[0])
        assert list(rdms.pattern_descriptors) == ["index"]
    named = pd.DataFrame(stack[0], index=pd.Index([0, 1, 2, 3]), columns=CONDITIONS)
    assert names(read(write(named, index=True), reader=READER)) == tuple(CONDITIONS)


def test_columns_of_other_names_are_chosen_and_others_left_out(write, stack):
    table = long_of(stack).rename(columns={"a": "x", "b": "y", "dissimilarity": "value"}).assign(when=pd.Timestamp(0))
    rdms = read(write(table), reader=READER, pair=["x", "y"], value="value", similarity=False, rdm_columns=["subject"])
    np.testing.assert_array_equal(rdms.get_matrices(), stack)
    assert rdms.rdm_descriptors["subject"] == ["s0", "s1"]


def test_a_table_with_too_many_cells_is_refused_before_it_is_loaded(write, monkeypatch):
    nothing = pa.table({"a": pa.nulls(3_000_000, pa.string()), "b": pa.nulls(3_000_000, pa.string())})
    path = write(nothing)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(parquet, "_MOST_CELLS", 5_000_000)
    with refused("the table has 6000000 cells, but at most 5000000 are read"):
        read(path, reader=READER)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.parquet").touch()
    with refused(r"empty.parquet' \(reader 'parquet'\): the file is empty"):
        read(tmp_path / "empty.parquet", reader=READER)


def test_without_pyarrow_the_extra_is_named(write, square, monkeypatch):
    path = write(square)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with refused(r"Parquet and Feather need pyarrow: pip install 'brainrdl\[arrays\]'"):
        read(path, reader=READER)


def test_only_parquet_files_are_taken(tmp_path):
    assert READER.sniff(tmp_path / "a.PARQUET")
    assert not READER.sniff(tmp_path / "a.csv")


def test_the_reader_keeps_the_contract(write, square):
    check_reader(READER, write(square))


# Feather


@pytest.mark.parametrize("compression", ["uncompressed", "lz4", "zstd"])
def test_a_feather_table_is_read_like_parquet(tmp_path, stack, compression):
    path = tmp_path / "pairs.feather"
    long_of(stack).to_feather(path, compression=compression)
    rdms = read(path)
    assert rdms.rdm_descriptors["subject"] == ["s0", "s1"]
    np.testing.assert_allclose(select(rdms, CONDITIONS).get_matrices(), stack)


def test_feather_that_is_large_or_old_or_damaged_is_refused(tmp_path, stack, monkeypatch):
    path = tmp_path / "pairs.feather"
    long_of(stack).to_feather(path)
    content = path.read_bytes()
    monkeypatch.setattr(parquet, "_MOST_CELLS", 40)
    with refused("the table has 48 cells, but at most 40 are read"):
        read(path)
    path.write_bytes(b"FEA1" + content[4:])
    with refused("it is not a Feather file of version 2"):
        read(path)
    path.write_bytes(content[: len(content) // 2])
    with refused("could not be read"):
        read(path)
