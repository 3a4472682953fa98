"""Entities in names: one spelling for BIDS, several for other layouts, and words that only look like entities."""

from __future__ import annotations

import pytest

from brainrdl.readers.entities import entities_of, runs_in_words, value_of, values_in, without_entities


def test_the_name_of_a_bids_file_is_split_into_its_entities():
    assert entities_of("bold.json") == {"suffix": "bold"}
    assert entities_of("sub-01_acq-a-b_bold.nii.gz") == {"sub": "01", "acq": "a-b", "suffix": "bold"}


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("sub-01_ses-a_run-2_betas.nii", "ses", "a"),
        ("sub-01/sub-02_betas.nii", "sub", "01"),
        ("subsub-01_betas.nii", "sub", ""),
        ("run_2_betas.nii", "run", ""),
    ],
)
def test_bids_has_one_spelling_of_an_entity(name, key, expected):
    assert value_of(name, key) == expected


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("sub-01/ses-pre/sub-01_x.nii", "sub", ["01", "01"]),
        ("ses-pre/sess2/session_03/x.nii", "ses", ["pre", "2", "03"]),
        ("run-a/Run_02/run3/x.nii", "run", ["a", "02", "3"]),
        ("lh.x_hemi-R.Left.gii", "hemi", ["lh", "R", "Left"]),
        ("subject-1/sessions/runner2/left2right.nii", "sub", []),
        ("subject-1/sessions/runner2/left2right.nii", "ses", []),
        ("subject-1/sessions/runner2/left2right.nii", "run", []),
        ("subject-1/sessions/runner2/left2right.nii", "hemi", []),
    ],
)
def test_paths_have_several_spellings_of_an_entity(path, key, expected):
    assert values_in(path, key) == expected


def test_runs_may_be_part_of_a_word():
    assert runs_in_words("task001run002/RUN 3/run-four/run_5.nii") == ["002", "3", "four", "5"]
    assert runs_in_words("trunk/run_bold.nii") == []


def test_what_remains_of_a_name_has_no_session_run_or_hemisphere():
    assert without_entities("anna_ses-1_run-2_lh.betas.gii") == "anna.betas.gii"
    assert without_entities("Left") == ""
