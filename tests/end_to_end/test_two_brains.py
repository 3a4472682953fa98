"""One student and two brains: human IT of 92 images, and EVC and IT of 15 others for 40 photos of the same objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from brainrdl import JointTeacher, RDMLoss, RDMTeacher, Readout, Stimuli, Student, cross_validate, datasets, rdms
from brainrdl.stimuli.joining import join_stimuli
from brainrdl.stimuli.transforms import default_transform
from brainrdl.teachers.protocol import strata_of
from brainrdl.testing.rdm_teachers import check_teacher
from brainrdl.training.stratified import StratifiedBatches

FILES = ("kriegeskorte92.tar.gz", "algonauts92.tar.gz")


@pytest.fixture(scope="module")
def brains(
    data_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JointTeacher, Stimuli, dict[str, RDMTeacher]]:
    """Both data sets from the offline copies; 40 photos of the second, under other names than in the first."""
    if not all((data_folder / file).exists() for file in FILES):
        pytest.skip("the archives of the 92 images are not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        grey, white = (datasets.load(file.partition(".")[0], progress=False) for file in FILES)
    human = RDMTeacher(grey.rdms.subset("roi", "hIT"), name="human IT", average_over="session")
    seen = rdms.select(white.rdms, white.stimuli.names[:40])
    names = [f"photo {name}" for name in white.stimuli.names[:40]]
    seen.pattern_descriptors["stimulus"] = names
    photos = RDMTeacher(seen, name="Cichy et al. 2014")
    pixels = white.stimuli.with_transform(default_transform(32, "none")).select(white.stimuli.names[:40]).images()
    shown = grey.stimuli.with_transform(default_transform(32, "none")).align(human.conditions)
    both = join_stimuli(Stimuli.from_arrays(shown.images(), shown.names), Stimuli.from_arrays(pixels, names))
    return JointTeacher({"human": human, "photos": photos}), both, {"human": human, "photos": photos}


def student() -> Student:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 32, 3)
    )
    return Student(network, ["1", "4"], readout=Readout("grid:4"))


def test_each_brain_answers_with_its_own_rdms(
    brains: tuple[JointTeacher, Stimuli, dict[str, RDMTeacher]],
) -> None:
    teacher, stimuli, alone = brains
    assert len(teacher.conditions) == len(stimuli) == 132
    assert teacher.targets == ("human/hIT", "photos/EVC", "photos/IT")
    check_teacher(teacher, stimuli.batch(teacher.conditions[86:98]))
    for label, own in alone.items():
        batch = stimuli.batch(own.conditions)
        found, expected = teacher.rdms(batch), own.rdms(batch)
        for target in own.targets:
            torch.testing.assert_close(found[f"{label}/{target}"], expected[target], equal_nan=True)


def test_batches_of_both_brains_hold_enough_of_each(
    brains: tuple[JointTeacher, Stimuli, dict[str, RDMTeacher]],
) -> None:
    teacher, stimuli, _ = brains
    batches = StratifiedBatches(strata_of(teacher, teacher.conditions), 24)
    for step in range(20):
        answer = teacher.rdms(stimuli.batch(batches.at(step)))
        known = {target: int((~pairs.isnan()).sum()) for target, pairs in answer.items()}
        assert known == {"human/hIT": 17 * 16 // 2, "photos/EVC": 7 * 6 // 2, "photos/IT": 7 * 6 // 2}


@pytest.mark.slow
def test_a_student_of_two_brains_is_scored_on_the_held_out_stimuli_of_each(
    brains: tuple[JointTeacher, Stimuli, dict[str, RDMTeacher]],
) -> None:
    teacher, stimuli, _ = brains
    groups = {name: name[-2:] for name in stimuli.names}  # both brains saw the same objects
    match = {"1": "photos/EVC", "4": {"human/hIT": 2.0, "photos/IT": 1.0}}
    result = cross_validate(
        student, teacher, stimuli, loss=RDMLoss(match=match), groups=groups, folds=2, steps=30, lr=0.01,
        controls=["unfitted"], comparators=["corr"], device="cpu", progress=False,
    )  # fmt: skip
    summary = result.summary[result.summary["against"] == "mean"].set_index(["student", "layer", "target"])
    fitted = summary.loc["fitted"]
    assert set(fitted.index) == {("1", "photos/EVC"), ("4", "human/hIT"), ("4", "photos/IT")}
    assert dict(fitted["n_stimuli"].groupby("target").first()) == {"human/hIT": 92, "photos/EVC": 40, "photos/IT": 40}
    assert dict(fitted["n_subjects"].groupby("target").first()) == {"human/hIT": 4, "photos/EVC": 15, "photos/IT": 15}
    assert np.isfinite(fitted[["score", "low", "high", "ceiling"]].to_numpy()).all()
    assert (fitted["score"] > summary.loc["unfitted"]["score"]).any()
