"""Patterns of earlier steps in the RDM loss: which pairs count, what it approximates, and how a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from brainrdl import NetworkTeacher, RDMLoss, RDMTeacher, Readout, Stimuli, Student, Task, fit, rdms
from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.measures import resolve
from brainrdl.loss.rdm_loss import differentiable_names
from brainrdl.runs.finished_fits import FitResult
from brainrdl.similarity import comparators
from brainrdl.stimuli import Augmentation
from brainrdl.stimuli.named_images import Batch
from brainrdl.training.pattern_memory import PatternMemory, check_memory
from brainrdl.training.sampling import Batches

N = 24
NAMES = tuple(f"s{i}" for i in range(N))
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
PAIR_LOSSES = {
    **{name: RDMLoss(similarity=name) for name in differentiable_names() if comparators.resolve(name).single_pairs},  # type: ignore[attr-defined]
    **{f"mse {scale}": RDMLoss(form="mse", scale=scale) for scale in ("mean", "none")},  # type: ignore[arg-type]
    "euclidean": RDMLoss(dissimilarity="euclidean"),
    "2016": RDMLoss.rdl2016(half_life=5.0),
}


def images() -> Tensor:
    return torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(images(), NAMES, labels=[f"{i % 3}" for i in range(N)])


def square() -> Tensor:
    values = torch.rand(N, N, generator=torch.Generator().manual_seed(1))
    return (values + values.T).fill_diagonal_(0)


def rdm_of(names: tuple[str, ...]) -> Tensor:
    places = [NAMES.index(name) for name in names]
    i, j = torch.triu_indices(len(places), len(places), 1)
    return square()[places][:, places][i, j][None]


class Recorded:
    """A teacher that remembers what it was asked, and may interrupt a run."""

    name, targets, conditions, uses_images = "recorded", ("rdm",), NAMES, False

    def __init__(self, stops_at: int | None = None) -> None:
        self.asked: dict[int, tuple[str, ...]] = {}
        self.stops_at = stops_at

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        if self.stops_at is not None and batch.step == self.stops_at:
            raise KeyboardInterrupt
        self.asked.setdefault(batch.step, batch.names)  # the first of a step: evaluations come before it
        self.asked[batch.step] = max(self.asked[batch.step], batch.names, key=len)
        return {"rdm": rdm_of(batch.names)}


def student(**options: Any) -> Student:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(27, 5))
    return Student(network, {"0": "rdm", "4": "rdm"}, **options)


def patterns_of(names: tuple[str, ...], n_channels: int = 6, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = {name: torch.randn(n_channels + 2, generator=generator) for name in NAMES}
    stacked = torch.stack([rows[name] for name in names])
    return {"a": stacked[:, :n_channels], "b": stacked[:, :2].double()}


def test_the_latest_patterns_of_each_condition_are_kept() -> None:
    memory = PatternMemory()
    for seed, names in enumerate([("s0", "s1", "s2"), ("s3", "s1"), ("s4", "s5")]):
        memory = memory.after(names, patterns_of(names, seed=seed), size=4)
    assert memory.names == ("s3", "s1", "s4", "s5")
    for layer in ("a", "b"):
        expected = torch.cat([patterns_of(("s3", "s1"), seed=1)[layer], patterns_of(("s4", "s5"), seed=2)[layer]])
        assert torch.equal(memory.patterns[layer], expected)


def test_a_memory_that_is_smaller_than_a_batch_keeps_its_last_conditions() -> None:
    memory = PatternMemory().after(NAMES[:6], patterns_of(NAMES[:6]), size=2)
    assert memory.names == NAMES[4:6]
    assert torch.equal(memory.patterns["a"], patterns_of(NAMES[4:6])["a"])


def test_a_memory_does_not_change_with_the_patterns_it_was_given() -> None:
    given = {"a": torch.ones(2, 3, requires_grad=True)}
    memory = PatternMemory().after(("s0", "s1"), given, size=8)
    with torch.no_grad():
        given["a"].zero_()
    assert torch.equal(memory.patterns["a"], torch.ones(2, 3))
    assert not memory.patterns["a"].requires_grad


@pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=PAIR_LOSSES)
def test_only_pairs_with_a_condition_of_the_batch_count(loss: RDMLoss) -> None:
    now, then = NAMES[:6], NAMES[6:15]
    memory = PatternMemory().after(then, {"a": patterns_of(then)["a"]}, size=20)
    patterns = patterns_of(now)["a"].requires_grad_()
    teacher = rdm_of((*now, *then))
    found = loss(memory.added_to({"a": patterns}), memory.compared({"rdm": teacher}), 2)

    counted = torch.triu_indices(15, 15, 1)[0] < len(now)
    pairs = resolve(loss.dissimilarity)(torch.cat([patterns, patterns_of(then)["a"]]))
    similarity = comparators.resolve(loss.similarity)
    if loss.similarity in (
        "cka",
        "cka_unbiased",
        "cka_rbf",
        "rv",
        "corr_cov",
        "cosine_cov",
    ):  # which need complete RDMs, with a weight for each pair
        expected = 1 - similarity(pairs, teacher, counted.float()).mean()
    elif loss.form == "similarity":
        expected = 1 - similarity(pairs[counted], teacher[..., counted]).mean()
    else:
        a, b = pairs[counted], teacher[0, counted]
        if loss.scale == "mean":
            a, b = a / a.abs().mean(), b / b.abs().mean()
        expected = (a - b).square().mean() * (1 if loss.schedule is None else loss.schedule(2))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    (one,), (other,) = (torch.autograd.grad(value, [patterns], retain_graph=True) for value in (found, expected))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def history_of(memory: int, **options: Any) -> tuple[Recorded, FitResult]:
    asked = Recorded()
    given = {"steps": 9, "batch_size": 6, "lr": 1e-2, "evaluate_every": 3, **QUIET, **options}
    return asked, fit(student(), asked, stimuli(), memory=memory, **given)


@pytest.mark.parametrize("memory", [1, 5, 10, 100])
def test_a_step_asks_the_teacher_for_the_batch_and_the_conditions_of_earlier_steps(memory: int) -> None:
    asked, _ = history_of(memory)
    batches = Batches(NAMES, 6, seed=0)
    remembered: list[str] = []
    for step in range(9):
        batch = batches.at(step)
        assert asked.asked[step] == (*batch, *(name for name in remembered if name not in batch)), step
        remembered = [*(name for name in remembered if name not in batch), *batch][-memory:]


def by_hand(memory: int, steps: int, lr: float) -> Student:
    """The same training, written out with lists."""
    made, remembered = student().eval(), {}
    optimizer = torch.optim.SGD(made.parameters(), lr)
    for step in range(steps):
        batch = Batches(NAMES, 6, seed=0).at(step)
        others = {name: rows for name, rows in remembered.items() if name not in batch}
        new = made(stimuli().images(batch)).patterns
        i, j = torch.triu_indices(6 + len(others), 6 + len(others), 1)
        counted = i < 6
        total: Any = 0
        for layer in made.layers:
            rows = torch.cat([new[layer], *(one[layer][None] for one in others.values())])
            pairs = 1 - torch.corrcoef(rows)[i, j][counted]
            target = rdm_of((*batch, *others))[0, counted]
            total = total + 1 - torch.corrcoef(torch.stack([pairs, target]))[0, 1]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        kept = others | {name: {layer: new[layer][k].detach() for layer in new} for k, name in enumerate(batch)}
        remembered = dict(list(kept.items())[-memory:])
    return made


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_fit_with_memory_is_that_written_out_by_hand(micro_batch: int | None) -> None:
    made = student()
    made.model[3] = nn.Identity()
    torch.manual_seed(0)
    options = {"optimizer": "sgd", "lr": 0.1, "steps": 8, "batch_size": 6, "micro_batch": micro_batch}
    fit(made, Recorded(), stimuli(), memory=10, **options, **QUIET)
    expected = by_hand(10, 8, 0.1)
    without = by_hand(1, 8, 0.1)
    for name, value in expected.model.named_parameters():
        torch.testing.assert_close(made.model.get_parameter(name), value, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(without.model[4].weight, expected.model[4].weight, atol=1e-4)


def long_run(teacher: Recorded, out: Path | None, **options: Any) -> FitResult:
    given = {
        "steps": 20, "batch_size": 6, "memory": 11, "lr": 1e-2, "evaluate_every": 4, "checkpoint_every": 7, "ema": 0.9,
        "validation": NAMES[:5], "task": Task(weight=0.5), "resume": True, **options,
    }  # fmt: skip
    made = student(readout=Readout(standardise=True, projection=4))
    return fit(made, teacher, stimuli(), out=out, **given, **QUIET)


def test_an_interrupted_run_remembers_the_same_patterns(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        long_run(Recorded(stops_at=17), tmp_path / "run")
    resumed, straight = long_run(Recorded(), tmp_path / "run"), long_run(Recorded(), None)
    for key, value in straight.student.state_dict().items():
        assert torch.equal(resumed.student.state_dict()[key], value), key
    a, b = (run.history.drop(columns="seconds") for run in (resumed, straight))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_a_run_is_not_resumed_with_another_memory(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        long_run(Recorded(stops_at=17), tmp_path / "run")
    with pytest.raises(BrainrdlError, match="was written with memory=11, now memory=12"):
        long_run(Recorded(), tmp_path / "run", memory=12)


def test_a_network_teacher_is_shown_the_remembered_images() -> None:
    torch.manual_seed(5)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 7))
    teacher, made = NetworkTeacher(network, ["1"]), student()
    seen = Student(network, ["1"]).eval()(images()).patterns["1"].detach()
    stored = RDMTeacher(rdms.from_array((1 - torch.corrcoef(seen)).numpy()[None], NAMES))
    other = student()
    loss = RDMLoss(match={"0": "1", "4": "1"})
    fit(made, teacher, stimuli(), loss=loss, memory=9, batch_size=6, steps=6, lr=1e-2, **QUIET)
    loss = RDMLoss(match=dict.fromkeys(("0", "4"), stored.targets[0]))
    fit(other, stored, stimuli(), loss=loss, memory=9, batch_size=6, steps=6, lr=1e-2, **QUIET)
    torch.testing.assert_close(made.model[4].weight, other.model[4].weight, rtol=1e-3, atol=1e-4)


def gradient(made: Student, loss: RDMLoss, names: tuple[str, ...], memory: PatternMemory) -> Tensor:
    others = memory.without(names)
    rows = others.added_to(made(stimuli().images(names)).patterns)
    targets = others.compared({"rdm": rdm_of((*names, *others.names))})
    found = torch.autograd.grad(loss(rows, targets), list(made.parameters()))
    return torch.cat([value.flatten() for value in found])


def test_over_an_epoch_with_weights_that_do_not_change_gradients_add_up_to_the_exact_one() -> None:
    """Each pair of two batches counts once for either condition: a law for losses that are means over pairs."""
    made, loss = student().eval(), RDMLoss(form="mse", scale="none", match={"0": "rdm", "4": "rdm"})
    exact = gradient(made, loss, NAMES, PatternMemory())
    memory = PatternMemory().after(NAMES, made(images()).patterns, size=N)
    batches = [Batches(NAMES, 6, seed=0).at(step) for step in range(4)]
    n_counted, n_all = 6 * 5 // 2 + 6 * (N - 6), N * (N - 1) // 2
    with_memory = sum(n_counted / n_all * gradient(made, loss, batch, memory) for batch in batches)
    without = sum(15 / n_all * gradient(made, loss, batch, PatternMemory()) for batch in batches)
    torch.testing.assert_close(with_memory, exact, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(torch.as_tensor(without), exact, rtol=0.1, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "memory=8 has no effect: each step has all 24 training conditions; set batch_size="),
        ({"batch_size": 24}, "memory=8 has no effect: each step has all 24 training conditions"),
        ({"loss": RDMLoss(similarity="bures")}, "similarity='bures' compares whole RDMs; use similarity='corr'"),
        ({"loss": RDMLoss(n_pairs=9)}, "n_pairs=9 draws among all pairs"),
        ({"rdm_weight": 0.0, "task": Task()}, "memory=8 is for the loss of the RDM, but rdm_weight=0"),
        ({"memory": -1}, "memory"),
    ],
)
def test_a_memory_without_the_expected_effect_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), Recorded(), stimuli(), **{"steps": 1, "batch_size": 6, "memory": 8, **options}, **QUIET)


def test_a_teacher_that_needs_augmented_images_of_earlier_steps_is_refused() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 7))
    shown = stimuli().with_augmentation(Augmentation(flip=True))
    options: dict[str, Any] = {"steps": 6, "batch_size": 6, "memory": 8, "loss": RDMLoss(match={"0": "1", "4": "1"})}
    with pytest.raises(BrainrdlError, match="is given the augmented images of the present step only"):
        fit(student(), NetworkTeacher(network, ["1"], view="same"), shown, **options, **QUIET)
    fit(student(), NetworkTeacher(network, ["1"], view="clean"), shown, **options, **QUIET)
    check_memory({"memory": 8, "rdm_weight": 1.0, "batch_size": 6}, RDMLoss(), None, shown, N)
