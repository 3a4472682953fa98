"""What fit leaves behind however it ends, what identifies a term, and which streams may meet which terms."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainrdl import NetworkTeacher, RDMTeacher, Stimuli, Student, Task, cross_validate, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.distillation import KnowledgeDistillation
from brainrdl.models.student import StudentOutput
from brainrdl.stimuli import Augmentation, Batch
from brainrdl.training.batch_statistics import passed_in_turn
from brainrdl.training.terms import Term

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
NAMES = tuple(f"s{i:02d}" for i in range(12))
LABELS = [f"{i % 3}" for i in range(12)]


def pictures(seed: int = 0, side: int = 6) -> Tensor:
    return torch.rand(12, 1, side, side, generator=torch.Generator().manual_seed(seed))


def shown() -> Stimuli:
    return Stimuli.from_arrays(pictures(), NAMES)


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


def student(**options: Any) -> Student:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    return Student(network, ["3"], **options)


class At:
    """A callback that does something after a step."""

    def __init__(self, step: int, what: Callable[[], object]) -> None:
        self.step, self.what = step, what

    def on_step(self, step: int, losses: Mapping[str, Tensor]) -> None:
        if step == self.step:
            self.what()


class Ends:
    """A callback that counts results."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_end(self, fitted: Any) -> None:
        self.seen.append(fitted.best_step)


def fail() -> None:
    raise ValueError("something else")


# What is left behind


@pytest.mark.parametrize("how", ["signal", "error"])
def test_a_fit_that_is_interrupted_leaves_frozen_parameters_and_the_mode_as_they_were(how: str, tmp_path: Path) -> None:
    made = student().eval()
    what = fail if how == "error" else lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(ValueError if how == "error" else KeyboardInterrupt):
        fit(made, teacher(), shown(), lr_of={"0.*": 0}, steps=4, callbacks=[At(2, what)], out=tmp_path / "run", **QUIET)
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert not made.training


def test_what_was_frozen_before_a_fit_stays_frozen() -> None:
    made = student()
    made.model[0].requires_grad_(False)
    fit(made, teacher(), shown(), lr_of={"1.bias": 0}, steps=1, **QUIET)
    assert [parameter.requires_grad for parameter in made.model.parameters()] == [False, False, True, True, True, True]


def test_callbacks_get_the_result_of_a_run_that_was_finished_before(tmp_path: Path) -> None:
    ends = Ends()
    for resume in (False, True):
        fit(student(), teacher(), shown(), steps=3, out=tmp_path / "run", resume=resume, callbacks=[ends], **QUIET)
    assert ends.seen == [3, 3]


# Batch normalisation


def test_images_of_two_shapes_update_batch_statistics_once_per_step() -> None:
    made = student(batchnorm="train")
    task = Task(Stimuli.from_arrays(pictures(1, 8), NAMES, labels=LABELS), batch_size=4)
    counted = int(made.model[1].num_batches_tracked)
    fit(made, teacher(), shown(), task=task, steps=3, evaluate_every=5, **QUIET)
    assert int(made.model[1].num_batches_tracked) == counted + 3


def test_the_update_is_the_mean_of_both_passes_and_their_gradients_are_those_of_each_pass() -> None:
    ours, theirs = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    rows = {"rdm": torch.randn(4, 3).requires_grad_(), "task": (2 + torch.randn(12, 3)).requires_grad_()}
    before = ours.running_mean
    outputs = passed_in_turn(ours, {name: lambda x=x: ours(x) for name, x in rows.items()}, {"rdm": 4, "task": 12})
    torch.testing.assert_close(ours.running_mean, 0.1 * torch.cat(list(rows.values())).mean(0))
    assert ours.running_mean is before
    weights = {name: torch.randn_like(x) for name, x in rows.items()}
    for name, x in rows.items():
        (outputs[name] * weights[name]).sum().backward(retain_graph=True)
        found, x.grad = x.grad, None
        (theirs(x) * weights[name]).sum().backward()
        torch.testing.assert_close(found, x.grad)


def test_a_pass_that_fails_leaves_the_statistics_as_they_were() -> None:
    norm = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="something else"):
        passed_in_turn(norm, {"rdm": lambda: norm(torch.rand(4, 3)), "task": fail}, {"rdm": 4, "task": 4})
    assert int(norm.num_batches_tracked) == 0
    assert torch.equal(norm.running_mean, torch.zeros(3))


# What identifies a term


def times(factor: Any) -> Callable[[StudentOutput, Batch, int], Tensor]:
    def term(output: StudentOutput, batch: Batch, step: int) -> Tensor:
        return output.patterns["3"].square().mean() * (factor if isinstance(factor, float) else 1.0)

    return term


def again(out: Path, term: Any, **options: Any) -> None:
    fit(student(), teacher(), shown(), steps=2, terms={"size": term}, out=out, **options, **QUIET)


@pytest.mark.parametrize("values", [(1.0, 2.0), (torch.ones(2), torch.zeros(2)), (nn.Linear(2, 2), nn.Linear(2, 2))])
def test_a_run_is_not_resumed_with_a_function_that_holds_another_value(values: tuple[Any, Any], tmp_path: Path) -> None:
    again(tmp_path / "run", times(values[0]))
    again(tmp_path / "run", times(values[0]), resume=True)
    with pytest.raises(BrainrdlError, match=r"terms\.size\.function\.holds\.factor"):
        again(tmp_path / "run", times(values[1]), resume=True)


def test_the_default_values_of_a_function_identify_a_term() -> None:
    def term(factor: float) -> Term:
        def scaled(output: StudentOutput, batch: Batch, step: int, factor: float = factor) -> Tensor:
            return factor * output.patterns["3"].mean()

        return Term(scaled)

    assert term(1.0).settings() == term(1.0).settings() != term(2.0).settings()


def test_a_run_is_not_resumed_with_another_function_of_the_same_name(tmp_path: Path) -> None:
    again(tmp_path / "run", lambda output, batch, step: output.patterns["3"].mean())
    with pytest.raises(BrainrdlError, match=r"terms\.size\.function\.code"):
        again(tmp_path / "run", lambda output, batch, step: output.patterns["3"].sum(), resume=True)


def test_a_function_that_calls_itself_can_be_a_term() -> None:
    def term(output: StudentOutput, batch: Batch, step: int) -> Tensor:
        return term(output, batch, step - 1) if step else output.patterns["3"].mean()

    assert "term" in str(Term(term).settings()["function"])


# Views


def test_a_cached_teacher_of_a_term_is_not_given_augmented_images() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    augmented = shown().with_augmentation(Augmentation(crop=1))
    cached = {"distil": KnowledgeDistillation(NetworkTeacher(network, ["1"], cache=True))}
    with pytest.raises(BrainrdlError, match=r"of term 'distil' sees images without augmentation"):
        fit(student(), teacher(), augmented, terms=cached, steps=1, **QUIET)
    fit(student(), teacher(), shown(), terms=cached, steps=1, **QUIET)
    own = {"distil": KnowledgeDistillation(NetworkTeacher(network, ["1"], cache=True, stimuli=shown()))}
    fit(student(), teacher(), augmented, terms=own, steps=1, **QUIET)


# Optimisers


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum"])
def test_a_fused_optimiser_gives_the_same_weights(optimizer: Any) -> None:
    made = [student(batchnorm="eval"), student(batchnorm="eval")]
    for one, fused in zip(made, (False, True), strict=True):
        fit(one, teacher(), shown(), steps=5, lr=0.01, optimizer=optimizer, fused=fused, weight_decay=0.01, **QUIET)
    for a, b in zip(*(one.parameters() for one in made), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["rmsprop", torch.optim.Adam])
def test_an_optimiser_without_a_fused_implementation_is_refused(optimizer: Any) -> None:
    with pytest.raises(BrainrdlError, match="fused=True is for the optimisers adam"):
        fit(student(), teacher(), shown(), steps=1, optimizer=optimizer, fused=True, **QUIET)


def test_tf32_changes_nothing_on_the_cpu_and_leaves_no_trace() -> None:
    made = [student(), student()]
    for one, asked in zip(made, (False, True), strict=True):
        fit(one, teacher(), shown(), steps=3, tf32=asked, **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(*(one.parameters() for one in made), strict=True))
    assert torch.get_float32_matmul_precision() == "highest"


# A task on images that the RDM holds out


def stimuli_and_part(n: int = 12) -> tuple[Stimuli, Stimuli]:
    """The stimuli of the RDM, and the same images under other names, with labels."""
    whole = Stimuli.from_arrays(pictures(), NAMES)
    return whole, Stimuli.from_arrays(pictures()[:n], [f"t{i:02d}" for i in range(n)], labels=LABELS[:n])


def images_of_steps(made: Student) -> list[Tensor]:
    seen: list[Tensor] = []
    made.model.register_forward_pre_hook(lambda module, given: seen.append(given[0]) if module.training else None)
    return seen


def test_images_that_the_rdm_holds_out_are_dropped_from_the_task() -> None:
    whole, part = stimuli_and_part()
    made = student(batchnorm="train")
    seen = images_of_steps(made)
    fitted = fit(
        made, teacher(), whole, validation=NAMES[:4], held_out=NAMES[4:6],
        task=Task(part, overlap="drop", validation=["t00", "t04", "t11"]), steps=2, **QUIET,
    )  # fmt: skip
    assert fitted.settings["task_images"] == {"train": 5, "validation": 2}  # t06 to t10; t00 and t11
    kept = pictures()[:6].flatten(1)
    assert not any((images.flatten(1)[:, None] == kept).all(-1).any() for images in seen)


def test_a_fit_refuses_them_unless_it_is_asked_to_drop_them() -> None:
    whole, part = stimuli_and_part()
    with pytest.raises(BrainrdlError, match=r"4 images of the task are byte-identical .* overlap='drop'"):
        fit(student(), teacher(), whole, held_out=NAMES[:4], task=Task(part), steps=1, **QUIET)
    few = Task(stimuli_and_part(4)[1], overlap="drop")
    with pytest.raises(BrainrdlError, match="all 4 images of the task are validation or held-out"):
        fit(student(), teacher(), whole, held_out=NAMES[:4], task=few, steps=1, **QUIET)


def test_each_fold_of_a_cross_validation_drops_what_it_holds_out(tmp_path: Path) -> None:
    whole, part = stimuli_and_part()
    cross_validate(
        student, teacher(), whole, task=Task(part, overlap="drop"), folds=3, steps=1, controls=(),
        intervals="none", out=tmp_path / "run", device="cpu", progress=False,
    )  # fmt: skip
    sizes = [json.loads(path.read_text())["task_images"] for path in (tmp_path / "run/fits").glob("*/settings.json")]
    assert sizes == 3 * [{"train": 8, "validation": 0}]
