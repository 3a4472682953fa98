"""Which RDMs are of other targets and which of other subjects, by one rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rsatoolbox.data import TemporalDataset
from rsatoolbox.rdm import RDMs

import brainrdl
from brainrdl import rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.models import Student
from brainrdl.rdms import groups
from brainrdl.teachers import RDMTeacher

NAMES = [f"c{i}" for i in range(10)]


def stack(**descriptors: list[Any]) -> RDMs:
    n_rdms = len(next(iter(descriptors.values())))
    return rdms.from_array(np.random.default_rng(0).random((n_rdms, 45)), NAMES, descriptors=descriptors)


@pytest.mark.parametrize("key", ["time", "layer", "model", "measure", "roi", "session", "task", "name", "anything"])
def test_rdms_of_one_subject_that_differ_in_any_descriptor_are_targets(key: str) -> None:
    for descriptors in ({key: ["a", "b", "c"]}, {"subject": ["s"] * 3, key: ["a", "b", "c"]}):
        found = groups(stack(**descriptors))
        assert found.targets == ("a", "b", "c")
        assert len(set(found.subjects)) == 1


@pytest.mark.parametrize("key", ["time", "layer", "model", "measure", "roi", "session", "task", "anything"])
def test_subjects_who_share_no_value_of_a_descriptor_are_not_averaged(key: str) -> None:
    found = groups(stack(subject=["s1", "s2", "s3", "s4"], **{key: ["a", "b", "a", "b"]}))
    assert found.targets == ("a", "b", "a", "b")


@pytest.mark.parametrize("key", ["hemi", "state", "space", "session", "run", "task", "anything"])
def test_subjects_who_each_have_another_value_of_a_descriptor_are_not_averaged(key: str) -> None:
    found = groups(stack(subject=["s1", "s2", "s3"], **{key: ["x", "y", "z"]}))
    assert (found.targets, found.target_by) == (("x", "y", "z"), (key,))
    assert groups(stack(subject=["s1", "s2", "s3"], session=[1, 2, 3])).target_by == ("session",)


@pytest.mark.parametrize(
    "described", [{"age": [31, 27, 40]}, {"snr": [0.1, 0.2, 0.3]}, {"label": ["s1 | V1", "V1, S2", "sub s3"]}]
)
def test_properties_of_subjects_are_not_targets(described: dict[str, list[Any]]) -> None:
    found = groups(stack(subject=["s1", "s2", "s3"], **described))
    assert (found.targets, found.subjects) == (("rdm",) * 3, ("s1", "s2", "s3"))


@pytest.mark.parametrize("key", ["name", "file", "participant"])
def test_another_name_of_a_subject_is_not_a_target(key: str) -> None:
    found = groups(stack(subject=["s1", "s2", "s3"], **{key: ["x", "y", "z"]}))
    assert (found.targets, found.subjects) == (("rdm",) * 3, ("s1", "s2", "s3"))


@pytest.mark.parametrize(("one", "other"), [("01", "1"), ("sub-01", "sub-1"), ("s007", "s07")])
def test_subjects_whose_names_differ_in_zeros_are_two_with_a_warning(one: str, other: str) -> None:
    with pytest.warns(UserWarning, match="count as different subjects, though their names differ only in zeros"):
        found = groups(stack(subject=[one, other, "s10", "s100"]))
    assert found.subjects == (one, other, "s10", "s100")


def test_names_of_single_rdms_distinguish_nothing_besides_what_they_are_made_of() -> None:
    rows = [(roi, subject, session) for roi in ("V1", "IT") for subject in "ab" for session in "12"]
    described = {"name": [" | ".join(row) for row in rows]}
    described |= {key: [row[k] for row in rows] for k, key in enumerate(("roi", "subject", "session"))}
    assert groups(stack(**described)).target_by == ("roi", "session")
    assert groups(stack(**described), average_over="session").target_by == ("roi",)


def test_descriptors_that_repeat_another_are_left_out_of_the_targets() -> None:
    found = groups(stack(layer=["conv1", "fc8"], layer_index=[1, 8]))
    assert found.targets == ("conv1", "fc8")


@pytest.mark.parametrize("missing", ["", " ", "nan", None, float("nan")])
def test_a_subject_or_target_without_a_name_is_refused(missing: object) -> None:
    for key in ("subject", "roi"):
        given = stack(**{key: ["a", "b"]})
        given.rdm_descriptors[key] = ["a", missing]
        with pytest.raises(BrainrdlError, match=f"1 of 2 names of rdm descriptor {key!r} of the RDMs is missing"):
            groups(given)


def recording(about: dict[str, str], seed: int) -> TemporalDataset:
    return TemporalDataset(
        np.random.default_rng(seed).normal(size=(10, 20, 6)),
        descriptors=about,
        obs_descriptors={"stimulus": NAMES},
        time_descriptors={"time": np.linspace(0, 0.5, 6)},
    )


def test_the_times_of_a_movie_are_neither_subjects_nor_averaged() -> None:
    movie = brainrdl.calc_rdm(recording({}, 0))
    teacher = RDMTeacher(movie)
    assert teacher.targets == ("0", "0.1", "0.2", "0.3", "0.4", "0.5")
    assert teacher.subjects == ("0",)
    stimuli = brainrdl.Stimuli.from_arrays(torch.rand(10, 1, 4, 4), NAMES)
    student = Student(torch.nn.Sequential(torch.nn.Flatten()), {"0": "0.3"})
    summary = brainrdl.evaluate(student, teacher, stimuli, comparators=["corr"]).summary
    assert set(summary.n_subjects) == {1}
    assert summary[["ceiling_lower", "ceiling_upper"]].isna().all(axis=None)


def test_a_movie_of_two_subjects_is_averaged_over_subjects_at_each_time() -> None:
    both = brainrdl.calc_rdm([recording({"subject": name}, seed) for seed, name in enumerate(("s1", "s2"))])
    teacher = RDMTeacher(both)
    assert (len(teacher.targets), teacher.subjects) == (6, ("s1", "s2"))
    own = both.dissimilarities.reshape(2, 6, -1).mean(0)
    np.testing.assert_allclose(teacher.combined("0.3").dissimilarities[0], own[3])


def test_layers_in_file_names_are_targets(tmp_path: Path) -> None:
    for subject in ("sub-01", "sub-02"):
        (tmp_path / subject).mkdir()
        for layer in ("conv1", "fc8"):
            square = rdms.from_array(np.random.default_rng(0).random(45), NAMES).get_matrices()[0]
            np.savez(tmp_path / subject / f"RDM_{layer}.npz", rdms=square, names=np.array(NAMES))
    teacher = RDMTeacher(tmp_path / "{subject}" / "RDM_{layer}.npz")
    assert (teacher.targets, teacher.subjects) == (("conv1", "fc8"), ("sub-01", "sub-02"))


def test_model_rdms_are_not_subjects() -> None:
    teacher = RDMTeacher(stack(name=["animacy", "size", "colour"]))
    assert (teacher.targets, teacher.subjects) == (("animacy", "size", "colour"), ("0",))


def test_several_descriptors_can_be_chosen_and_the_others_must_be_averaged_over() -> None:
    given = stack(subject=["a"] * 4, roi=["V1", "V1", "IT", "IT"], time=[1, 2, 1, 2])
    assert groups(given, target_by=["time", "roi"]).targets == ("1 / V1", "2 / V1", "1 / IT", "2 / IT")
    with pytest.raises(BrainrdlError, match=r"differ in \['time'\] too.*target_by=\['roi', 'time'\].*\['time'\]"):
        groups(given, target_by="roi")
    assert groups(given, average_over=["time"]).targets == ("V1", "V1", "IT", "IT")
