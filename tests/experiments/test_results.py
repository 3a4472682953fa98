"""Raw results: rows by key, and which test images were classified correctly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from docs.experiments.results import Results, pack, unpack


@pytest.fixture
def results(tmp_path: Path) -> Results:
    found = Results(tmp_path / "some" / "results.csv", ("method", "seed", "error"), ("method", "seed"))
    found.add({"method": "a, with a comma", "seed": 0, "error": 0.25})
    return found


def test_a_row_is_read_as_it_was_written(results: Results) -> None:
    results.add({"method": "b", "seed": 1})
    assert results.done() == {("a, with a comma", "0"), ("b", "1")}
    assert results.rows()["error"].tolist() == pytest.approx([0.25, np.nan], nan_ok=True)


def test_the_last_line_of_a_run_that_was_killed_is_left_out(results: Results) -> None:
    with results.path.open("a") as file:
        file.write("b,1,0.1")  # of 0.125
    assert results.done() == {("a, with a comma", "0")}
    results.add({"method": "c", "seed": 2, "error": 0.5})
    assert results.done() == {("a, with a comma", "0"), ("c", "2")}
    assert results.rows()["error"].tolist()[-1] == 0.5


def test_the_first_of_two_rows_with_one_key_counts_and_the_second_is_not_written(results: Results) -> None:
    before = results.path.read_bytes()
    results.add({"method": "a, with a comma", "seed": 0, "error": 0.75})
    assert results.path.read_bytes() == before
    with results.path.open("a") as file:  # from another process
        file.write('"a, with a comma",0,0.75\n')
    assert results.rows()["error"].tolist() == [0.25]


def test_rows_are_replaced_together(results: Results) -> None:
    results.add({"method": "b", "seed": 1, "error": 0.125})
    results.replace({"method": "b"}, [{"method": "b", "seed": 2, "error": 0.75}, {"method": "b", "seed": 3}])
    assert results.done() == {("a, with a comma", "0"), ("b", "2"), ("b", "3")}
    assert results.rows()["error"].tolist() == pytest.approx([0.25, 0.75, np.nan], nan_ok=True)


def test_a_file_with_other_columns_is_refused(results: Results) -> None:
    with pytest.raises(ValueError, match="columns"):
        Results(results.path, ("method", "error"), ("method",))


@pytest.mark.parametrize("n", [1, 8, 2001])
def test_correct_images_survive_packing(n: int) -> None:
    correct = np.random.default_rng(0).random(n) < 0.9
    assert np.array_equal(unpack(pack(correct)), correct)
