"""A task beside the RDM: its own images, one pass for both streams, its loss, terms of your own, and their balance."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainrdl import RDMLoss, RDMTeacher, Stimuli, Student, Task, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.runs.run_folder import CHECKPOINT
from brainrdl.training.callbacks import Callback
from brainrdl.training.sampling import Batches
from brainrdl.training.terms import Balance, Term, check_terms

QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
NAMES = tuple(f"s{i:02d}" for i in range(12))
LABELS = [f"{i % 3}" for i in range(30)]


def images(n: int, seed: int, side: int = 6) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


def shown() -> Stimuli:
    return Stimuli.from_arrays(images(12, 0), NAMES)


def labelled(side: int = 6, labels: list[str] | None = LABELS) -> Stimuli:
    """Images whose label can be learned: brighter for higher numbers."""
    pictures = images(30, 1, side) / 4 + torch.tensor([float(label) for label in LABELS])[:, None, None, None] / 4
    return Stimuli.from_arrays(pictures, [f"t{i:02d}" for i in range(30)], labels=labels)


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


def student(seed: int = 0, norm: bool = False, **options: Any) -> Student:
    torch.manual_seed(seed)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), middle, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    return Student(network, ["4"], **options)


def equal(a: Student, b: Student) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# Two streams


def test_help_of_a_task_lists_its_options() -> None:
    assert {"weight", "class_weights"} <= set(inspect.signature(Task).parameters)
    assert "label_smoothing : float" in (inspect.getdoc(Task) or "")
    assert "**options" not in (inspect.getdoc(Task) or "")


def test_a_student_learns_a_task_on_other_images_together_with_an_rdm() -> None:
    made = student()
    history = fit(made, teacher(), shown(), task=Task(labelled(), batch_size=30), steps=150, lr=1e-2, **QUIET).history
    assert history.train_accuracy.iloc[-1] > 0.9 > 0.5 > history.train_accuracy.iloc[0]
    assert history.train_similarity.iloc[-1] > history.train_similarity.iloc[0] + 0.3
    assert history.task_loss.iloc[-1] < history.task_loss.iloc[1]


def test_a_step_with_two_streams_is_the_step_that_anyone_would_write() -> None:
    ours, theirs, rdm, task = student(), student(), shown(), labelled()
    fit(ours, teacher(), rdm, task=Task(task, weight=0.5, batch_size=8), steps=3, lr=0.1, optimizer="sgd", **QUIET)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    drawn = Batches(task.names, 8, 0, minimum=1)
    for step in range(3):
        batch = task.batch(drawn.at(step))
        total = RDMLoss()(theirs(rdm.images()).patterns, {"RDM": torch.tensor(_pairs())[None]})
        total = total + 0.5 * nn.functional.cross_entropy(theirs(batch.images).logits, batch.labels)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def _pairs() -> np.ndarray:
    return np.random.default_rng(0).random((1, 66))[0]


@pytest.mark.parametrize(("side", "passes"), [(6, [20]), (8, [12, 8])])
def test_both_streams_pass_together_if_their_images_have_one_shape(side: int, passes: list[int]) -> None:
    made, seen = student(), []
    made.model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])) if module.training else None)
    fit(made, teacher(), shown(), task=Task(labelled(side), batch_size=8), steps=1, **QUIET)
    assert seen[-len(passes) :] == passes


@pytest.mark.parametrize("task", [Task(), Task(weight=0.5)])
def test_a_task_on_the_images_of_the_rdm_passes_them_once(task: Task) -> None:
    made, seen = student(), []
    made.model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])) if module.training else None)
    stimuli = shown().with_labels([f"{i % 3}" for i in range(12)])
    fit(made, teacher(), stimuli, task=task, steps=2, **QUIET)
    assert seen[-2:] == [12, 12]


def test_a_task_on_the_same_stimuli_is_a_task_on_the_images_of_the_rdm() -> None:
    stimuli = shown().with_labels([f"{i % 3}" for i in range(12)])
    one, two = student(), student()
    fit(one, teacher(), stimuli, task=Task(), steps=3, **QUIET)
    fit(two, teacher(), stimuli, task=Task(stimuli), steps=3, **QUIET)
    assert equal(one, two)


def test_rdm_images_are_not_loaded_for_steps_that_do_not_use_them() -> None:
    seen: list[int] = []
    made = student()
    made.model.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])) if module.training else None)
    fit(made, None, shown(), task=Task(labelled(), batch_size=7), rdm_weight=0, steps=1, **QUIET)
    assert seen[-1:] == [7]


# Batch normalisation


def _statistics(statistics_of: str | None) -> tuple[Tensor, dict[str, Tensor]]:
    made = student(norm=True, batchnorm=statistics_of)
    weight = made.model[0].weight.detach().clone(), made.model[0].bias.detach().clone()
    fit(made, teacher(), shown(), task=Task(labelled(), batch_size=30), steps=1, **QUIET)
    means = {
        name: nn.functional.conv2d(pictures, *weight).mean((0, 2, 3))
        for name, pictures in (
            ("task", labelled().images()),
            ("train", torch.cat([shown().images(), labelled().images()])),
        )
    }
    return made.model[1].running_mean, means


@pytest.mark.parametrize("statistics_of", ["task", "train", "eval", None])
def test_batch_statistics_are_those_of_the_images_asked_for(statistics_of: str | None) -> None:
    running, means = _statistics(statistics_of)
    expected = torch.zeros(4) if statistics_of == "eval" else 0.1 * means[statistics_of or "train"]
    torch.testing.assert_close(running, expected, rtol=1e-4, atol=1e-6)


def test_a_network_whose_statistics_were_ever_updated_keeps_them() -> None:
    network = student(norm=True).model
    assert Student(network, ["4"]).batchnorm == "train"
    network.train()(images(4, 2))
    assert Student(network, ["4"]).batchnorm == "eval"


def test_statistics_of_a_task_need_a_task_with_images() -> None:
    with pytest.raises(BrainrdlError, match="batchnorm='task' uses the statistics of the images of a task"):
        fit(student(norm=True, batchnorm="task"), teacher(), shown(), steps=1, **QUIET)


# What the task is


def test_the_loss_is_torchs_with_weights_and_smoothing() -> None:
    stimuli = labelled()
    batch, logits = stimuli.batch(stimuli.names), torch.randn(30, 3, generator=torch.Generator().manual_seed(3))
    task = Task(stimuli, class_weights={"1": 3.0}, label_smoothing=0.2)
    expected = nn.functional.cross_entropy(logits, batch.labels, torch.tensor([1.0, 3, 1]), label_smoothing=0.2)
    torch.testing.assert_close(task.loss(logits, batch, stimuli.categories), expected)


def test_numbers_are_predicted_with_the_squared_error() -> None:
    stimuli = labelled(labels=None)
    values = {name: [float(label), 0.0, 1.0] for name, label in zip(stimuli.names, LABELS, strict=True)}
    task = Task(stimuli, values=values, loss="mse", batch_size=30)
    history = fit(student(), teacher(), shown(), task=task, steps=200, lr=1e-2, monitor="similarity", **QUIET).history
    assert history.train_task_loss.iloc[-1] < 0.1 < 0.5 < history.train_task_loss.iloc[0]
    assert history.train_accuracy.isna().all()


def test_a_loss_of_your_own_is_given_logits_and_labels() -> None:
    def hinge(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.multi_margin_loss(logits, labels)

    stimuli = labelled()
    batch, logits = stimuli.batch(stimuli.names), torch.randn(30, 3)
    expected = nn.functional.multi_margin_loss(logits, batch.labels)
    torch.testing.assert_close(Task(stimuli, loss=hinge).loss(logits, batch, stimuli.categories), expected)


def test_logits_may_be_those_of_another_layer() -> None:
    made = student()
    made.model.append(nn.Linear(3, 7))
    before = made.model[-1].weight.clone()
    fit(made, teacher(), shown(), task=Task(labelled(), layer="5"), steps=2, lr=0.1, **QUIET)
    assert torch.equal(before, made.model[-1].weight)
    assert made(images(2, 0)).logits.shape == (2, 3)


def test_a_weight_may_change_with_the_steps() -> None:
    stimuli = shown().with_labels([f"{i % 3}" for i in range(12)])
    ours, alone = student(), student()
    fit(ours, teacher(), stimuli, task=Task(weight=lambda step: 0.0), steps=3, **QUIET)
    fit(alone, teacher(), stimuli, steps=3, **QUIET)
    assert equal(ours, alone)


def test_the_task_has_validation_images_of_its_own() -> None:
    task = Task(labelled(), validation=0.3, batch_size=10)
    fitted = fit(student(), teacher(), shown(), task=task, monitor="accuracy", steps=80, lr=1e-2, **QUIET)
    best = fitted.history.validation_accuracy.max()
    assert fitted.history.set_index("step").validation_accuracy[fitted.best_step] == best > 0.8
    assert fitted.history.validation_similarity.isna().all()  # no validation stimuli of the RDM were asked for


@pytest.mark.parametrize(("monitor", "column"), [("both", None), ("task loss", "validation_task_loss")])
def test_a_combination_of_both_may_choose_the_best_step(monitor: str, column: str | None) -> None:
    task = Task(labelled(), validation=0.3, batch_size=10)
    fitted = fit(
        student(), teacher(), shown(), task=task, validation=NAMES[:4], monitor=monitor, steps=60, lr=1e-2, **QUIET
    )
    history = fitted.history.set_index("step")
    score = -history[column] if column else history.validation_similarity + history.validation_accuracy
    assert fitted.best_step == score.idxmax()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task(labelled(), wait=1.0), "option of Task 'wait' is not known; nearest: 'weight'"),
        (lambda: Task(labelled(), weight=-1), "weight must be a finite number of at least 0, got -1"),
        (lambda: Task(labelled(), loss="hinge"), "loss 'hinge' is not known"),
        (lambda: Task(labelled(), loss="mse"), "compares outputs with numbers: give values"),
        (lambda: Task(labelled(), values={"t00": 1.0}), "set loss='mse', or give a function"),
        (lambda: Task(labelled(), values={"a": 1.0, "b": [1.0, 2.0]}, loss="mse"), "values of the task differ in len"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        make()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("digits", "task must be a Task, got 'digits'; make one"),
        (Task(), "the task needs labels of the stimuli"),
        (Task(labelled(labels=None)), "the task needs labels of the stimuli"),
        (Task(labelled(), class_weights={"7": 1.0}), "'7'.* are not in the categories of the task"),
        (Task(labelled(), values={"t00": 1.0}, loss="mse"), "are not in the values of the task"),
        (Task(labelled(), batch_size=99), "batch_size must lie between 1 and the 30 training conditions, got 99"),
        (Task(labelled(), layer="fc"), "'fc'"),
        (Task(labelled(), loss=lambda logits, labels: 3.0), "loss of the task must be a scalar tensor, got 3.0"),
    ],
)
def test_a_task_that_does_not_fit_is_refused(task: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), teacher(), shown(), task=task, steps=1, **QUIET)


def test_task_images_that_are_held_out_or_for_validation_are_refused() -> None:
    pictures = torch.cat([labelled().images(), shown().images(["s03"])])
    task = Stimuli.from_arrays(pictures, [f"t{i}" for i in range(31)], labels=[*LABELS, "0"])
    for kept in ({"held_out": NAMES[:4]}, {"validation": NAMES[:4]}):
        with pytest.raises(BrainrdlError, match=r"stimuli: 't30' to 's03'; leave them out .*stimuli.drop\(\['t30'\]"):
            fit(student(), teacher(), shown(), task=Task(task), steps=1, **kept, **QUIET)
    fit(student(), teacher(), shown(), task=Task(task), steps=1, held_out=NAMES[4:], train=NAMES[:4], **QUIET)


# Terms of your own


class Shrink(nn.Module):
    """A term with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, output: Any, batch: Any, step: int) -> Tensor:
        return self.scale * output.patterns["4"].square().mean()


def test_terms_are_added_with_their_weights_and_their_parameters_are_trained() -> None:
    made, term = student(), Shrink()
    fitted = fit(made, teacher(), shown(), terms={"shrink": Term(term, weight=0.5)}, steps=5, lr=1e-2, **QUIET)
    row = fitted.history.iloc[1:]
    assert "shrink_loss" in row
    assert float(term.scale.detach()) != 2.0
    np.testing.assert_allclose(row.loss, row.rdm_loss + 0.5 * row.shrink_loss, rtol=1e-5)


def test_a_term_on_the_task_is_given_the_batch_of_the_task() -> None:
    seen = []

    def term(output: Any, batch: Any, step: int) -> Tensor:
        seen.append((len(batch.names), len(output.logits), batch.names[0][0], step))
        return output.logits.mean()

    terms = {"mean": Term(term, on="task")}
    fit(student(), teacher(), shown(), task=Task(labelled(), batch_size=5), terms=terms, steps=2, **QUIET)
    assert seen == [(5, 5, "t", 0), (5, 5, "t", 1)]


def test_terms_alone_may_train_a_student() -> None:
    history = fit(
        student(), None, shown(), rdm_weight=0, terms={"shrink": Shrink()}, steps=20, lr=0.01, **QUIET
    ).history
    assert history.shrink_loss.iloc[-1] < history.shrink_loss.iloc[1]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"rdm": abs}, "'rdm' is the name of a term of fit itself"),
        ({"a": Term(abs, on="task")}, "term 'a' uses the batch of the task, and there is no task"),
        ({"a": "kd"}, r"a term needs a function \(output, batch, step\) -> loss, got 'kd'"),
        ({"a": lambda output, batch, step: 1.0}, "a term must give a scalar tensor, got 1.0"),
        ({"a": lambda output, batch, step: torch.ones(2)}, r"got a tensor of shape \(2,\)"),
    ],
)
def test_a_term_that_cannot_be_is_refused(terms: Any, message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), teacher(), shown(), terms=terms, steps=1, **QUIET)


def test_a_weight_of_a_term_is_a_number() -> None:
    with pytest.raises(BrainrdlError, match="the weight of a term must be a finite number of at least 0, got -1"):
        Term(abs, weight=-1)
    assert check_terms({"a": abs}, has_task=False)["a"].weight == 1.0


# Balance


def test_trained_uncertainties_follow_kendalls_formula() -> None:
    balance = Balance("uncertainty", ["rdm", "task"])
    with torch.no_grad():
        balance.log_variances.copy_(torch.tensor([0.5, -1.0]))
    losses = {"rdm": torch.tensor(2.0), "task": torch.tensor(3.0)}
    total = balance(losses, {"rdm": 1.0, "task": 2.0}, [], 0)
    assert float(total.detach()) == pytest.approx(2 * np.exp(-0.5) + 0.5 + 6 * np.exp(1.0) - 1.0, rel=1e-6)
    total.backward()  # the minimum is where exp(-s) * loss = 1
    expected = 1 - np.array([2 * np.exp(-0.5), 6 * np.exp(1.0)])
    np.testing.assert_allclose(balance.log_variances.grad, expected, rtol=1e-5)


def test_weights_may_be_ratios_of_gradient_norms() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    losses = {"rdm": (3 * x).sum(), "task": (100 * x).sum()}
    balance = Balance("gradient norms", ["rdm", "task"])
    total = balance(losses, {"rdm": 1.0, "task": 0.5}, [x], 0)
    total.backward()
    expected = 3 + 0.5 * 3
    np.testing.assert_allclose(x.grad, [expected, expected], rtol=1e-6)


@pytest.mark.parametrize("kind", [pytest.param("uncertainty", marks=pytest.mark.slow), "gradient norms"])
def test_a_run_with_all_parts_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    def run(out: Path, steps: tuple[int, ...]) -> Student:
        for step in steps:
            made, term = student(norm=True), Shrink()
            callbacks = [] if step == 21 else [_Break(step)]
            try:
                fit(
                    made, teacher(), shown(), task=Task(labelled(), batch_size=7), terms={"own": term}, balance=kind,
                    steps=21, batch_size=5, checkpoint_every=1, out=out, resume=True, callbacks=callbacks, **QUIET,
                )  # fmt: skip
            except RuntimeError:
                assert (out / CHECKPOINT).exists()
        return made

    assert equal(run(tmp_path / "whole", (21,)), run(tmp_path / "parts", (4, 13, 21)))


class _Break(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int, losses: Any) -> None:
        if step == self.step:
            raise RuntimeError("the power went off")


# Callbacks


def test_callbacks_are_called_and_may_stop_a_run() -> None:
    class Watch(Callback):
        def __init__(self) -> None:
            self.steps: list[int] = []
            self.rows: list[int] = []
            self.ended: Any = None

        def on_step(self, step: int, losses: Any) -> bool:
            self.steps.append(step)
            assert set(losses) == {"loss", "rdm_loss", "task_loss"}
            return step == 7

        def on_look(self, row: Any) -> None:
            self.rows.append(row["step"])

        def on_end(self, fitted: Any) -> None:
            self.ended = fitted

    watch = Watch()
    fitted = fit(student(), teacher(), shown(), steps=50, evaluate_every=5, callbacks=[watch], **QUIET)
    assert watch.steps == list(range(1, 8))
    assert watch.rows == [0, 5, 7]
    assert watch.ended is fitted
    assert list(fitted.history.step) == [0, 5, 7]


def test_an_object_that_is_no_callback_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="a callback has a method on_step, on_look or on_end, got 3"):
        fit(student(), teacher(), shown(), steps=1, callbacks=[3], **QUIET)
