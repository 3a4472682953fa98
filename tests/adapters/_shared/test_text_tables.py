"""Tables beside the data: every usual separator is understood, and what is not sound is refused with its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from brainrdl import BrainrdlError
from data_adapters._shared.text_tables import column_of, read_numbers, read_table
from data_adapters.fmri_bold.events import events_of_labels, read_events, read_volume_labels


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "name\tx, y\na b\t1;2\n"),
        ("t.csv", 'name,"x, y"\na b,1;2\n'),
        ("t.csv", '\ufeffcode;name;"x, y"\r\n1;a b;"1;2"\r\n;;\r\n'),  # as spreadsheets write it
        ("t.txt", "name\tx, y\n\na b\t1;2\n"),
    ],
)
def test_columns_are_separated_by_what_separates_the_first_row(tmp_path, name, text):
    assert read_table(write(tmp_path / name, text)).items() >= {"name": ["a b"], "x, y": ["1;2"]}.items()


def test_a_table_may_have_one_column_and_not_none(tmp_path):
    assert read_table(write(tmp_path / "t.csv", "condition\na face\n")) == {"condition": ["a face"]}
    with pytest.raises(BrainrdlError, match=r"has no row below the names of its columns, \['condition'\]"):
        read_table(write(tmp_path / "t.csv", "condition\n\n"))


def test_events_are_read_unchanged(tmp_path):
    text = "trial_type\tonset\tduration\tresponse\nface \t2.5\t0\tn/a\nrest\t10\t5\t1\n01\t1e1\t5\t1\n"
    events = read_events(write(tmp_path / "events.tsv", text))
    assert events.to_dict("list") == {"onset": [2.5, 10.0], "duration": [0.0, 5.0], "stimulus": ["face", "01"]}
    everything = read_events(tmp_path / "events.tsv", baseline=None)
    assert list(everything["stimulus"]) == ["face", "rest", "01"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the table '.*events.tsv': the file is empty"),
        ("onset\tduration\ttrial_type\n1\t2\n", {}, "row 2 of .* has 2 cells, but the first row has 3"),
        ("onset\tonset\tduration\n1\t2\t3\n", {}, r"names \['onset'\] occur more than once in the first row"),
        ("onsets\tduration\ttrial_type\n1\t2\ta\n", {}, "have no column 'onset'; nearest: 'onsets'; the columns are"),
        ("onset\ttrial_type\n1\ta\n", {}, "have no column 'duration'"),
        ("onset\tduration\tname\n1\t2\ta\n", {}, r"of which none could be meant; choose one with condition_column="),
        (
            "onset\tduration\ttrial_type\tstimulus\n1\t2\ta\tb\n",
            {},
            r"of which \['trial_type', 'stimulus'\] could be meant",
        ),
        ("onset\tduration\tname\n1\t2\ta\n", {"condition_column": "nam"}, "'nam' is not known; nearest: 'name'"),
        (
            "onset\tduration\ttrial_type\nn/a\t2\ta\n",
            {},
            "the onset 'n/a' in row 2, which is not a number",
        ),
        ("onset\tduration\ttrial_type\n1\tinf\ta\n", {}, "have the duration 'inf' in row 2"),
        ("onset\tduration\ttrial_type\n1\t-2\ta\n", {}, "have a duration below 0: -2"),
        ("onset\tduration\ttrial_type\n1\t2\ta\n1\t2\ta\n", {}, "hold 'a' at 1 s for 2 s twice"),
        (
            "onset\tduration\ttrial_type\tmodulation\n1\t2\ta\t1\n5\t2\ta\t0.5\n",
            {},
            r"have a column 'modulation' with \['0.5'\]; all events have the same weight here: remove it",
        ),
        ("onset\tduration\ttrial_type\n1\t2\tn/a\n", {}, r"hold 'n/a' as a name; .*baseline=\['rest', 'n/a'\]"),
        ("onset\tduration\ttrial_type\n1\t2\trest\n", {}, r"hold no event of a condition \(baseline: \['rest'\]\)"),
        ("onset\tduration\ttrial_type\n1\t2\tRest\n", {}, r"hold 'Rest', but baseline is \['rest'\]; use the same"),
    ],
)
def test_a_table_of_events_that_is_not_sound_is_refused(tmp_path, text, options, message):
    with pytest.raises(BrainrdlError, match=message):
        read_events(write(tmp_path / "events.tsv", text), **options)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BrainrdlError, match=r"there is no file '.*events\.tsv'"):
        read_table(tmp_path / "events.tsv")


def test_rows_without_a_name_can_be_left_out(tmp_path):
    text = "onset\tduration\ttrial_type\n1\t2\tn/a\n5\tn/a\trest\n9\t2\ta\n"
    events = read_events(write(tmp_path / "events.tsv", text), baseline=["rest", "n/a"])
    assert list(events["stimulus"]) == ["a"]


def test_column_of_prefers_the_column_asked_for_to_a_usual_one():
    table = {"trial_type": ["a"], "item": ["b"]}
    assert column_of(table, None, ("trial_type",), "condition_column") == "trial_type"
    assert column_of(table, "item", ("trial_type",), "condition_column") == "item"


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("labels.txt", "rest 0\nface 0\nrun 1\n", {}),
        ("labels.txt", "run condition more\n0 rest x\n0 face x\n1 run x\n", {}),
        ("labels.txt", "Condition Run\nrest 0\nface 0\nrun 1\n", {}),
        ("labels.csv", "run,trial_type\n0,rest\n0,face\n1,run\n", {}),
        (
            "labels.tsv",
            "chunk\tlabel\n0\trest\n0\tface\n1\trun\n",
            {"condition_column": "label", "run_column": "chunk"},
        ),
    ],
)
def test_labels_of_volumes_are_read_with_and_without_names_of_columns(tmp_path, name, text, options):
    found = read_volume_labels(write(tmp_path / name, text), **options)
    assert found == (["rest", "face", "run"], ["0", "0", "1"])


def test_labels_without_runs_are_one_run(tmp_path):
    assert read_volume_labels(write(tmp_path / "labels.csv", "stimulus\nface\nrest\n")) == (
        ["face", "rest"],
        ["1", "1"],
    )


def test_consecutive_equal_labels_are_one_event():
    events = events_of_labels(["rest", "a", "a", "b", "rest", "a"], 2.0)
    assert events.values.tolist() == [[2.0, 4.0, "a"], [6.0, 2.0, "b"], [10.0, 2.0, "a"]]
    assert len(events_of_labels(["rest", "a"], 2.0, baseline=None)) == 2
    with pytest.raises(BrainrdlError, match="the labels of run 2 hold no event of a condition"):
        events_of_labels(["rest", "rest"], 2.0, where="the labels of run 2")


@pytest.mark.parametrize(
    ("text", "columns"), [("1 2\n3 4\n", ["1", "2"]), ("x y\n1 2\n3 4\n", ["x", "y"]), ("1 2\n\n3 4", ["1", "2"])]
)
def test_numbers_are_read_with_and_without_names(tmp_path, text, columns):
    found = read_numbers(write(tmp_path / "motion.txt", text))
    assert list(found) == columns
    assert found.to_numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_a_cell_that_is_not_a_number_is_refused_with_its_place(tmp_path):
    with pytest.raises(BrainrdlError, match=r"'n/a' in row 3, column 'y' of '.*motion.txt' is not a finite number"):
        read_numbers(write(tmp_path / "motion.txt", "x y\n1 2\n3 n/a\n"))
    with pytest.raises(BrainrdlError, match=r"occur more than once in the first row"):
        read_numbers(write(tmp_path / "motion.txt", "x x\n1 2\n"))


@pytest.mark.slow
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.one_of(st.text(max_size=80), st.text(alphabet="0123456789.\t\n-naonset,e", max_size=80)).map(str.encode)
    | st.binary(max_size=80),
    headed=st.booleans(),
)
def test_any_table_gives_events_or_a_refusal(tmp_path, content, headed):
    file = tmp_path / "events.tsv"
    file.write_bytes((b"onset\tduration\ttrial_type\n" if headed else b"") + content)
    try:
        events = read_events(file)
    except (BrainrdlError, UnicodeDecodeError):  # brainrdl.read refuses a file that is not text
        return
    assert np.isfinite(events[["onset", "duration"]].to_numpy()).all()
    assert (events["duration"] >= 0).all()


def test_comments_of_afnis_tables_are_left_out(tmp_path):
    found = read_numbers(write(tmp_path / "motion.1D", "# 3dvolreg\n  # roll pitch\n0.1 0.2\n0.3 0.4\n"))
    assert found.to_numpy().tolist() == [[0.1, 0.2], [0.3, 0.4]]


def test_usual_columns_are_found_in_any_case():
    assert column_of({"Trial_Type": [], "x": []}, None, ("trial_type",), "condition_column") == "Trial_Type"
    assert column_of({"Run": [], "run": []}, None, ("run",), "run_column") == "run"
    with pytest.raises(BrainrdlError, match=r"of which \['stimulus', 'Condition'\] could be meant"):
        column_of({"Condition": [], "stimulus": []}, None, ("stimulus", "condition"), "condition_column")
