"""Parts of a fit that meet: tasks, terms, teachers of several brains, several inputs, and fits one after another."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from brainrdl import RDMTeacher, Readout, Stimuli, Student, Task, cross_validate, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.distillation.transfer_terms import Hints, KnowledgeDistillation
from brainrdl.stimuli import default_transform
from brainrdl.teachers import JointTeacher, NetworkTeacher, PermutedTeacher
from brainrdl.training.terms import Balance, Term, check_terms

NAMES = tuple(f"s{i:02d}" for i in range(16))
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
SHORT: dict[str, Any] = {"steps": 4, "evaluate_every": 2, **QUIET}


def images(n: int, seed: int, side: int = 6) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


def shown(**options: Any) -> Stimuli:
    return Stimuli.from_arrays(images(16, 0), NAMES, **options)


def labelled() -> Stimuli:
    return Stimuli.from_arrays(images(12, 1), [f"t{i:02d}" for i in range(12)], labels=list("abc") * 4)


def teacher(names: tuple[str, ...] = NAMES, seed: int = 0) -> RDMTeacher:
    n = len(names)
    return RDMTeacher(rdms.from_array(np.random.default_rng(seed).random((1, n * (n - 1) // 2)), names))


def network(seed: int = 0, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(seed)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(1, 4, 3), middle, nn.Flatten(), nn.Linear(64, 3))


def student(**options: Any) -> Student:
    return Student(network(), ["0"], **options)


class Sum(nn.Module):
    """A network of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(5, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.fc(left + right)


def pairs_of_inputs() -> Stimuli:
    rows = torch.rand(2, 16, 5, generator=torch.Generator().manual_seed(2))
    return Stimuli.from_inputs({"left": rows[0], "right": rows[1]}, NAMES)


# A task beside labelled stimuli of the RDM


def test_logits_for_the_categories_of_a_task_are_not_scored_on_the_labels_of_the_rdm_images() -> None:
    stimuli = shown(labels=["face", "place"] * 8)
    options = {"task": Task(labelled()), "validation": 0.4, **SHORT}
    row = fit(student(), teacher(), stimuli, **options).history.iloc[-1]
    assert np.isnan(row["validation_accuracy"])
    assert 0 <= row["train_accuracy"] <= 1
    with pytest.raises(BrainrdlError, match="validation images of the task"):
        fit(student(), teacher(), stimuli, monitor="accuracy", **options)


def test_a_random_transform_of_task_images_is_refused() -> None:
    noisy = labelled().with_transform(lambda image: torch.rand(1, 6, 6))
    with pytest.raises(BrainrdlError, match=r"stimuli\.with_augmentation"):
        fit(student(), teacher(), shown(), task=Task(noisy), **SHORT)


def test_statistics_of_a_task_need_a_task_with_images_other_than_those_of_the_rdm() -> None:
    stimuli = shown(labels=["a", "b"] * 8)
    made = Student(network(norm=True), ["0"], batchnorm="task")
    with pytest.raises(BrainrdlError, match="give a task with its own stimuli"):
        fit(made, teacher(), stimuli, task=Task(stimuli), **SHORT)


def test_the_same_photograph_as_a_file_and_as_an_array_is_reported(tmp_path: Path) -> None:
    smooth = nn.functional.interpolate(images(20, 3, 6).expand(-1, 3, -1, -1) * 255, (40, 40), mode="bilinear").byte()
    for place in range(6):
        Image.fromarray(smooth[place].permute(1, 2, 0).numpy()).save(tmp_path / f"p{place}.png")
    transform = default_transform(6, "none", channels=1)
    task = Task(Stimuli.from_folder(tmp_path, transform, {f"p{place}": "ab"[place % 2] for place in range(6)}))
    stimuli = Stimuli.from_arrays(smooth[4:], NAMES, transform=transform)  # s00 and s01 are p4 and p5
    kept = {"held_out": NAMES[:1], "train": NAMES[2:]}
    with pytest.warns(UserWarning, match=r"1 images of the task are nearly the same .*'p4' and 's00' \(1.00\)"):
        fit(student(), teacher(), stimuli, task=task, **kept, **SHORT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(student(), teacher(), stimuli, task=task, **kept, **SHORT)  # reported once


# Fits one after another


def test_the_layer_of_a_task_holds_for_one_fit() -> None:
    made = Student(nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Linear(5, 3)), ["1"])
    fit(made, teacher(), shown(), task=Task(labelled(), layer="1"), **SHORT)
    assert made(images(2, 5)).logits.shape == (2, 5)
    fit(made, teacher(), shown(), task=Task(labelled()), **SHORT)
    assert made(images(2, 5)).logits.shape == (2, 3)


def test_a_learning_rate_of_0_freezes_parameters_for_one_fit() -> None:
    made = Student(network(), ["3"])
    first = made.model[0].weight.detach().clone()
    fit(made, teacher(), shown(), lr_of={"0.*": 0}, **SHORT)
    assert torch.equal(made.model[0].weight, first)
    fit(made, teacher(), shown(), **SHORT)
    assert not torch.equal(made.model[0].weight, first)


def test_each_fold_trains_its_own_copy_of_a_term() -> None:
    term = Hints(nn.Flatten())
    options = {"folds": 2, "seeds": [0], "controls": [], **SHORT}
    found = cross_validate(student, teacher(), shown(), terms={"hints": Term(term)}, **options)
    second = found.histories.query("fold == 1").set_index("step")["hints_loss"]
    alone = cross_validate(student, teacher(), shown(), terms={"hints": Term(Hints(nn.Flatten()))}, **options)
    assert not term.layers  # nothing was built in the term that was given
    again = alone.histories.query("fold == 1").set_index("step")["hints_loss"]
    assert second.iloc[1:].tolist() == again.iloc[1:].tolist()
    copied = copy.deepcopy({"kd": KnowledgeDistillation(network(1))})
    assert copy.deepcopy(copied)["kd"].network is copied["kd"].network  # large, and does not change


@pytest.mark.parametrize(
    ("monitor", "sign"), [pytest.param("similarity", 1, marks=pytest.mark.slow), ("task loss", -1)]
)
def test_inner_folds_with_task_images_for_validation_choose_by_the_monitor_and_finish(monitor: str, sign: int) -> None:
    options = {"folds": 2, "seeds": [0], "controls": [], "inner_folds": 2, "lr": 0.01, **SHORT}
    task = Task(labelled(), validation=0.4)
    found = cross_validate(student, teacher(), shown(), task=task, monitor=monitor, **options).histories
    for _, fold in found.groupby("fold"):
        curves = fold.query("inner >= 0").groupby("step")[f"validation_{monitor.replace(' ', '_')}"].mean()
        assert fold.query("inner == -1")["step"].max() == (sign * curves).idxmax()


# Resuming


@pytest.mark.parametrize("kind", ["frozen network", "parameters that are not trained", "transform of the task"])
def test_a_run_is_not_resumed_with_another_frozen_network_or_other_images(kind: str, tmp_path: Path) -> None:
    def options(seed: int) -> dict[str, Any]:
        if kind == "frozen network":
            return {"terms": {"kd": KnowledgeDistillation(network(seed))}}
        if kind == "transform of the task":
            change = None if seed == 1 else default_transform(6, "none", channels=1)
            return {"task": Task(labelled().with_transform(change))}
        return {"terms": {"own": _Own(seed)}}

    fit(student(), teacher(), shown(), out=tmp_path, **options(1), **SHORT)
    fit(student(), teacher(), shown(), out=tmp_path, resume=True, **options(1), **SHORT)
    with pytest.raises(BrainrdlError, match="was written with"):
        fit(student(), teacher(), shown(), out=tmp_path, resume=True, **options(2), **SHORT)


class _Own(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self.frozen = network(seed).requires_grad_(False)

    def forward(self, output: Any, batch: Any, step: int) -> Tensor:
        return (output.logits - self.frozen(batch.images)).square().mean()


def test_the_loss_of_a_term_has_a_column_of_its_own() -> None:
    with pytest.raises(BrainrdlError, match="'validation_task_loss' is another column of the history"):
        check_terms({"validation_task": lambda output, batch, step: output.logits.mean()}, has_task=True)


# Gradients


def test_ratios_of_gradients_concern_the_student_and_not_the_parameters_of_a_term() -> None:
    seen: list[int] = []

    class Watch(Balance):
        def _measure(self, losses: Any, parameters: Any) -> None:
            seen.append(len(parameters))
            super()._measure(losses, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("brainrdl.training.preparation.Balance", Watch)
        made = student()
        fit(made, teacher(), shown(), terms={"h": Hints(nn.Flatten())}, balance="gradient norms", **SHORT)
    assert seen == [len(list(made.parameters()))]


# Several brains


def test_a_brain_without_a_pair_among_the_conditions_is_left_out_of_the_similarity() -> None:
    human, monkey = NAMES[:8], NAMES[8:]
    both = JointTeacher({"human": teacher(human, 1), "monkey": teacher(monkey, 2)})
    match = {"0": ["human/rdm", "monkey/rdm"]}
    alone = fit(student(), teacher(human, 1), shown(), train=human, **{**SHORT, "steps": 0}).history
    joint = fit(Student(network(), match), both, shown(), train=human, **{**SHORT, "steps": 0}).history
    assert joint["train_similarity"].iloc[0] == pytest.approx(alone["train_similarity"].iloc[0])


def test_strata_of_a_permuted_teacher_hold_all_conditions_that_it_is_cut_down_to() -> None:
    both = JointTeacher({"human": teacher(NAMES[:8], 1), "monkey": teacher(NAMES[8:], 2)})
    cut = PermutedTeacher(both, seed=0).select([*NAMES[:5], *NAMES[8:13]])
    assert cut.strata == {"human": NAMES[:5], "monkey": NAMES[8:13]}


# Several inputs


def test_several_inputs_pass_through_frozen_networks_and_the_weights_are_loaded_again(tmp_path: Path) -> None:
    stimuli = pairs_of_inputs()
    terms = {"kd": KnowledgeDistillation(Sum()), "student": KnowledgeDistillation(Student(Sum(), ["fc"]))}
    frozen = NetworkTeacher(Sum(), ["fc"], cache=True)
    first = fit(Student(Sum(), ["fc"]), frozen, stimuli, terms=terms, out=tmp_path, **SHORT)
    assert first.history["kd_loss"].iloc[-1] == first.history["student_loss"].iloc[-1]
    loaded = fit(Student(Sum(), ["fc"]), frozen, stimuli, terms=terms, out=tmp_path, resume=True, **SHORT).student
    assert torch.equal(loaded.patterns(stimuli)["fc"], first.student.patterns(stimuli)["fc"])


def test_a_network_teacher_sees_token_ids_as_they_are(tmp_path: Path) -> None:
    def made() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(24, 3))

    tokens = torch.randint(9, (16, 4), generator=torch.Generator().manual_seed(0))
    stimuli = Stimuli.from_inputs(tokens, NAMES)
    fit(Student(made(), ["2"]), NetworkTeacher(made(), ["1"]), stimuli, out=tmp_path, **SHORT)
    again = Student(made(), ["2"])
    fit(again, NetworkTeacher(made(), ["1"]), stimuli, out=tmp_path, resume=True, **SHORT)
    assert again.patterns(stimuli)["2"].shape == (16, 3)


# Batch normalisation


@pytest.mark.parametrize("n", [16, 17])
def test_z_scores_of_a_network_from_scratch_are_those_of_its_batch_statistics(n: int) -> None:
    made = Student(network(norm=True), ["1"], readout=Readout(standardise=True))
    assert made.batchnorm == "train"
    made.calibrate(images(n, 4), batch_size=16)  # the last part may have a single image
    patterns = made.train()(images(n, 4)[:16]).patterns["1"]
    torch.testing.assert_close(patterns.std(0), torch.ones(64), atol=0.2, rtol=0)
    before = made.model[1].running_mean.clone()
    made.calibrate(images(8, 5))
    assert torch.equal(made.model[1].running_mean, before)  # only statistics that nothing has updated are set
