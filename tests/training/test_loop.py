"""The training loop: what it recovers, never uses and refuses, and how an interrupted run is resumed."""

from __future__ import annotations

import copy
import inspect
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr
from torch import Tensor, nn

from brainrdl import rdms
from brainrdl._core import files as _files
from brainrdl._core.errors import BrainrdlError, DivergedError
from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.readout import Readout
from brainrdl.models.student import Student
from brainrdl.runs import fingerprint as _identity, finished_fits, run_folder
from brainrdl.runs.finished_fits import FitResult
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.stimuli.transforms import ImageTransform
from brainrdl.teachers.controls import PermutedTeacher
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training import looks
from brainrdl.training.loop import fit
from brainrdl.training.stimulus_lists import check_no_leak, training_names
from brainrdl.training.task import Task

NAMES = tuple(f"s{i:02d}" for i in range(20))
QUIET: dict[str, Any] = {"device": "cpu", "progress": False}
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")


def pictures(n: int = 20, side: int = 6) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))


def stimuli(labels: bool = True) -> Stimuli:
    return Stimuli.from_arrays(pictures(), NAMES, labels=[f"{i % 3}" for i in range(20)] if labels else None)


def teacher(names: tuple[str, ...] = NAMES, seed: int = 0) -> RDMTeacher:
    n_pairs = len(names) * (len(names) - 1) // 2
    return RDMTeacher(rdms.from_array(np.random.default_rng(seed).random((1, n_pairs)), names))


def student(seed: int = 0, dropout: float = 0.0, **options: Any) -> Student:
    torch.manual_seed(seed)
    return Student(
        nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.Dropout(dropout), nn.ReLU(), nn.Linear(16, 3)),
        ["2"],
        **options,
    )


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# Recovery


def test_a_student_finds_the_hidden_representation_behind_an_rdm_and_generalises() -> None:
    names = [f"s{i}" for i in range(120)]
    shown = Stimuli.from_arrays(pictures(120), names)
    hidden = pictures(120).flatten(1) @ torch.randn(36, 4, generator=torch.Generator().manual_seed(1))
    brains = simulate_subjects(hidden, names, n_subjects=6, n_voxels=400, noise=0.1, seed=2)
    made, held_out = Student(nn.Sequential(nn.Flatten(), nn.Linear(36, 20)), ["1"]), names[90:]
    truth = RDMTeacher(brains).select(held_out).rdms(shown.batch(held_out))["IT"][0].numpy()

    def generalises() -> float:
        patterns = made.patterns(shown, held_out)["1"]
        return float(pearsonr(pdist(patterns.numpy(), "correlation"), truth).statistic)

    unfitted = generalises()
    known = RDMTeacher(brains).select(names[:90])
    history = fit(made, known, shown, held_out=held_out, steps=150, lr=1e-2, **QUIET).history
    assert history.train_similarity.iloc[-1] > 0.97
    assert generalises() > max(0.9, unfitted + 0.2)


def test_a_task_beside_the_rdm_loss_learns_the_labels() -> None:
    fitted = fit(student(), teacher(), stimuli(), task=Task(), rdm_weight=0.5, steps=150, lr=1e-2, **QUIET)
    last = fitted.history.iloc[-1]
    assert last.train_accuracy == 1
    assert last.train_similarity > fitted.history.train_similarity.iloc[0] + 0.2
    assert last.loss == pytest.approx(last.task_loss + 0.5 * last.rdm_loss, rel=1e-5)


def test_a_task_alone_needs_no_teacher() -> None:
    history = fit(student(), None, stimuli(), rdm_weight=0, task=Task(), steps=150, lr=1e-2, **QUIET).history
    assert history.train_accuracy.iloc[-1] == 1
    assert history[["rdm_loss", "train_similarity"]].isna().all(axis=None)


def test_a_teacher_that_is_not_followed_is_still_watched() -> None:
    history = fit(student(), teacher(), stimuli(), rdm_weight=0, task=Task(), steps=2, **QUIET).history
    assert history.train_similarity.notna().all()
    assert history.rdm_loss.isna().all()


def test_a_projection_is_trained_and_the_network_left() -> None:
    made = student(readout=Readout(standardise=True, projection="square"), trainable="projection")
    before = weights(made.model)
    fit(made, teacher(), stimuli(), steps=5, **QUIET)
    assert equal(before, weights(made.model))
    assert not torch.equal(made.heads["layer:2"].weight, torch.eye(16))  # type: ignore[arg-type]


def test_a_fit_is_the_plain_loop_anyone_would_write() -> None:
    made, mine = student(), student()
    fit(made, teacher(), stimuli(), steps=10, lr=1e-2, weight_decay=0.1, **QUIET)
    optimizer, rdm = (
        torch.optim.Adam(mine.parameters(), lr=1e-2, weight_decay=0.1),
        teacher().rdms(stimuli().batch(NAMES)),
    )
    for _step in range(10):
        optimizer.zero_grad()
        RDMLoss()(mine(stimuli().images()).patterns, rdm).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert equal(weights(made), weights(mine))


def test_clipping_bounds_the_gradient() -> None:
    made = student()
    before = weights(made)
    fit(made, teacher(), stimuli(), steps=1, optimizer="sgd", lr=1.0, clip=1e-3, **QUIET)
    moved = math.sqrt(sum(float((made.state_dict()[key] - value).square().sum()) for key, value in before.items()))
    assert moved == pytest.approx(1e-3, rel=1e-2)


def test_the_students_match_serves_a_loss_without_one() -> None:
    made = student()
    made.match = {"2": "IT"}
    both = rdms.from_array(np.random.default_rng(0).random((2, 190)), NAMES, descriptors={"roi": ["V1", "IT"]})
    fitted = fit(made, RDMTeacher(both), stimuli(), loss=RDMLoss.rdl2016(), steps=1, **QUIET)
    assert fitted.settings["loss"]["match"] == {"2": "IT"}


# What a student is afterwards


def test_the_network_itself_is_the_users_own_and_still_plain() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 16))
    made = Student(network, ["1"])
    forward, kinds = network.forward.__func__, [type(module) for module in network.modules()]  # type: ignore[attr-defined]
    fit(made, teacher(), stimuli(), steps=3, mixed_precision="bf16", **QUIET)
    assert made.model is network
    assert network.forward.__func__ is forward  # type: ignore[attr-defined]
    assert [type(module) for module in network.modules()] == kinds
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_fitted_student_can_be_copied_and_computes_in_full_precision(precision: str) -> None:
    made = fit(student(), teacher(), stimuli(), steps=3, mixed_precision=precision, **QUIET).student
    assert "forward" not in vars(made)
    patterns = made(pictures()).patterns["2"]
    assert patterns.dtype == torch.float32
    assert torch.equal(copy.deepcopy(made)(pictures()).patterns["2"], patterns)
    assert pickle.dumps(made.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_a_student_gets_its_mode_back(training: bool) -> None:
    made = student(dropout=0.5).train(training)
    assert fit(made, teacher(), stimuli(), steps=2, **QUIET).student.training is training


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
def test_batch_statistics_stay_unless_they_are_to_train(batchnorm: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.BatchNorm1d(16))
    made = Student(model, ["2"], batchnorm=batchnorm)
    before = weights(model)
    fit(made, teacher(), stimuli(), steps=5, **QUIET)
    kept = [torch.equal(before[f"2.{name}"], weights(model)[f"2.{name}"]) for name in ("running_mean", "running_var")]
    assert kept == [batchnorm == "eval"] * 2
    assert not torch.equal(before["2.weight"], weights(model)["2.weight"])


# Precision and device


class Seen(RDMLoss):
    """The usual loss, which remembers in which precision patterns came and RDMs were computed."""

    kinds: list[torch.dtype]

    def __call__(self, patterns: Any, teacher_rdms: Any, step: int = 0) -> Tensor:
        loss = super().__call__(patterns, teacher_rdms, step)
        kinds.extend([next(iter(patterns.values())).dtype, loss.dtype])
        return loss


kinds: list[torch.dtype] = []


def test_bf16_is_for_the_network_and_rdms_are_computed_in_float32() -> None:
    kinds.clear()
    made = student()
    history = fit(made, teacher(), stimuli(), loss=Seen(), steps=20, lr=1e-2, mixed_precision="bf16", **QUIET).history
    assert set(kinds[::2]) == {torch.bfloat16}
    assert set(kinds[1::2]) == {torch.float32}
    assert history.train_similarity.iloc[-1] > history.train_similarity.iloc[0] + 0.1
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}


def test_precisions_may_come_one_after_another_in_one_process() -> None:
    found = [weights(fit(student(), teacher(), stimuli(), steps=3, mixed_precision=kind, **QUIET).student)
             for kind in ("no", "bf16", "no")]  # fmt: skip
    assert equal(found[0], found[2])
    assert not equal(found[0], found[1])


def test_a_failure_in_bf16_leaves_the_student_plain() -> None:
    made = student()
    with pytest.raises(BrainrdlError, match="loss is nan"):
        fit(made, Broken(), stimuli(), steps=3, mixed_precision="bf16", **QUIET)
    assert made(pictures()).patterns["2"].dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_devices_may_come_one_after_another_in_one_process(precision: str, tmp_path: Path) -> None:
    for device, kind in (("cuda", precision), ("cpu", "no"), ("auto", precision)):
        fitted = fit(
            student(dropout=0.1), teacher(), stimuli(), steps=12, lr=1e-2, mixed_precision=kind, device=device,
            progress=False, out=tmp_path / device, checkpoint_every=5, task=Task(),
        )  # fmt: skip
        assert fitted.history.train_similarity.iloc[-1] > fitted.history.train_similarity.iloc[0]
        assert fitted.student.device.type == ("cpu" if device == "cpu" else "cuda")


@no_cuda
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"device 'cuda' is not available to torch .* on this machine"):
        fit(student(), teacher(), stimuli(), device="cuda", progress=False)


# What must not be seen


class Watched(Stimuli):
    """Stimuli that write down which images were loaded, and refuse those that are held out."""

    loaded: set[str] = set()  # noqa: RUF012
    forbidden: frozenset[str] = frozenset()

    def _load(self, names: Iterable[str], *given: Any) -> Tensor:
        asked = tuple(names)
        if self.forbidden & set(asked):
            raise AssertionError(f"loaded {sorted(self.forbidden & set(asked))}")
        self.loaded.update(asked)
        return super()._load(asked, *given)


def test_early_stopping_and_all_else_never_load_a_held_out_image(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = NAMES[12:]
    monkeypatch.setattr(Watched, "forbidden", frozenset(held_out))
    monkeypatch.setattr(Watched, "loaded", set())
    watched = Watched.from_arrays(pictures(), NAMES)
    with pytest.raises(AssertionError, match="loaded"):
        watched.images(held_out[:1])
    made = student(readout=Readout(standardise=True))
    known = teacher().select(NAMES[:12])  # nor does the teacher know them
    fit(made, known, watched, validation=NAMES[8:12], held_out=held_out, steps=20, patience=2, batch_size=4, **QUIET)
    assert Watched.loaded == set(NAMES[:12])


def test_validation_stimuli_are_watched_and_not_trained_on() -> None:
    made, watched = student(), teacher(seed=1)
    asked: list[tuple[str, ...]] = []

    class Heard:
        name, targets = "heard", ("rdm",)

        def rdms(self, batch: Batch) -> dict[str, Tensor]:
            asked.append(batch.names)
            return watched.rdms(batch)

    fit(made, Heard(), stimuli(), validation=0.2, steps=6, evaluate_every=3, batch_size=4, **QUIET)
    train, validation = training_names(stimuli(), validation=0.2)
    assert sum(names == validation for names in asked) == 3
    assert {name for names in asked if names != validation for name in names} == set(train)


def test_the_best_look_is_what_comes_back() -> None:
    options = {"validation": NAMES[:6], "evaluate_every": 1, "lr": 3e-2, **QUIET}
    fitted = fit(student(), teacher(), stimuli(), steps=30, **options)
    best = fitted.history.set_index("step").validation_similarity.idxmax()
    assert 0 < best < 30
    assert fitted.best_step == best
    seen = looks.look(fitted.student, teacher(), stimuli().batch(NAMES[:6]), RDMLoss())
    # the number of threads differs, so the last digits may
    assert seen["similarity"] == pytest.approx(fitted.history.validation_similarity.max(), rel=1e-5)
    shorter = fit(student(), teacher(), stimuli(), steps=int(best), **options)
    assert equal(weights(shorter.student), weights(fitted.student))


def test_without_validation_the_last_student_comes_back() -> None:
    assert fit(student(), teacher(), stimuli(), steps=7, **QUIET).best_step == 7


def test_patience_stops_so_many_looks_after_the_best() -> None:
    options = {"validation": NAMES[:6], "evaluate_every": 2, "lr": 3e-2, **QUIET}
    fitted = fit(student(), teacher(), stimuli(), steps=200, patience=3, **options)
    assert fitted.history.step.iloc[-1] == fitted.best_step + 6 < 200


def test_the_task_may_choose_the_best_look() -> None:
    fitted = fit(
        student(), teacher(), stimuli(), validation=NAMES[:6], monitor="accuracy", task=Task(), steps=20,
        evaluate_every=1, **QUIET,
    )  # fmt: skip
    assert fitted.best_step == fitted.history.set_index("step").validation_accuracy.idxmax()


def test_no_steps_give_the_student_back_as_it_was() -> None:
    made = student()
    before = weights(made)
    fitted = fit(made, teacher(), stimuli(), steps=0, **QUIET)
    assert equal(before, weights(fitted.student))
    assert (fitted.history.step.tolist(), fitted.best_step) == ([0], 0)


def test_looks_come_every_so_often_and_at_the_end() -> None:
    history = fit(
        student(), teacher(), stimuli(), steps=10, evaluate_every=4, schedule="linear", lr=0.1, **QUIET
    ).history
    assert history.step.tolist() == [0, 4, 8, 10]
    assert history.lr.tolist() == pytest.approx([0.1, 0.06, 0.02, 0])
    assert history.seconds.is_monotonic_increasing


# Leaks


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_name_in_two_parts_is_refused(part: str) -> None:
    lists = {"train": NAMES[:8], "validation": NAMES[8:12]}
    with pytest.raises(
        BrainrdlError, match=f"'{lists[part][0]}' is in {part} and in held_out; the parts must not share"
    ):
        training_names(stimuli(), **lists, held_out=[lists[part][0]])


def test_a_byte_identical_image_in_two_parts_is_refused() -> None:
    images = pictures()
    images[17] = images[3]
    twins = Stimuli.from_arrays(images, NAMES)
    words = (
        r"'s17' of held_out is byte-identical to 's03' of train; drop one of them with stimuli.drop\(\['s17'\]\), or"
    )
    with pytest.raises(BrainrdlError, match=words):
        fit(student(), teacher(), twins, held_out=NAMES[15:], **QUIET)
    training_names(twins)  # within a part they do no harm
    check_no_leak(twins, {"train": NAMES[:10], "held_out": NAMES[10:15]})


def test_a_group_in_two_parts_is_refused() -> None:
    groups = {"s00": "cat", "s19": "cat", "s01": "dog"}
    words = r"1 of the groups= are in two parts, \['cat'\]: 's00' of group 'cat' is in train, 's19' in held_out"
    with pytest.raises(BrainrdlError, match=words):
        fit(student(), teacher(), stimuli(), held_out=NAMES[15:], groups=groups, **QUIET)


def test_a_fraction_for_validation_keeps_groups_together() -> None:
    groups = {name: str(k // 4) for k, name in enumerate(NAMES)}
    result = fit(student(), teacher(), stimuli(), validation=0.3, groups=groups, steps=1, **QUIET)
    validation = result.settings["validation"]
    assert len(validation) == 8  # two groups of four, because six are wanted
    assert {groups[name] for name in validation}.isdisjoint(groups[name] for name in result.settings["train"])
    assert result.settings["groups"] == groups


def test_nearly_identical_images_in_training_and_validation_are_warned_about() -> None:
    images = torch.rand(20, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    images[12] = images[2].roll(1, -1)
    with pytest.warns(UserWarning, match=r"1 pairs .* nearly the same \(similarity\): 's02' and 's12' .*groups={'s02'"):
        training_names(Stimuli.from_arrays(images, NAMES), validation=NAMES[10:])


def test_what_is_left_over_trains() -> None:
    train, validation = training_names(stimuli(), validation=NAMES[:5], held_out=iter(NAMES[5:10]))
    assert (train, validation) == (NAMES[10:], NAMES[:5])


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ["s00", "s1", "s02", "s03"]}, r"conditions \['s1'\] are not in the stimuli .*nearest: 's1"),
        ({"held_out": ["nobody"]}, r"conditions \['nobody'\] are not in the stimuli"),
        ({"train": NAMES[:4] + NAMES[:1]}, r"names \['s00'\] occur more than once in the train list"),
        ({"train": NAMES[:3]}, "training needs at least 4 conditions, got 3"),
        ({"held_out": NAMES[3:]}, "training needs at least 4 conditions, got 3"),
        ({"validation": NAMES[:3]}, r"validation needs at least 4 conditions, got 3: \['s00', 's01', 's02'\]"),
        ({"validation": 0.1}, "a fraction of 0.1 of 20 conditions leaves 18 and 2"),
        ({"validation": 0}, "a fraction of 0 of 20 conditions leaves 20 and 0"),
        ({"batch_size": 3}, "batch_size must lie between 4 and the 20 training conditions, got 3"),
        ({"optimizer": "adamm"}, "optimizer 'adamm' is not known; nearest: 'adam'"),
        ({"schedule": "cosin"}, "schedule 'cosin' is not known; nearest: 'cosine'"),
        ({"monitor": "accurac"}, "monitor 'accurac' is not known; nearest: 'accuracy'"),
        ({"mixed_precision": "fp8"}, "mixed_precision 'fp8' is not known"),
        ({"steps": -1}, "steps must be a whole number, at least 0, got -1"),
        ({"steps": 2.5}, "steps must be a whole number, at least 0, got 2.5"),
        ({"steps": "2"}, "steps must be a whole number, at least 0, got '2'"),
        ({"steps": None}, "steps must be a whole number, at least 0, got None"),
        ({"batch_size": 4.0}, "batch_size must be a whole number, at least 1, got 4.0"),
        ({"evaluate_every": 0}, "evaluate_every must be a whole number, at least 1, got 0"),
        ({"checkpoint_every": 0.5}, "checkpoint_every must be a whole number, at least 1, got 0.5"),
        ({"patience": True}, "patience must be a whole number, at least 1, got True"),
        ({"seed": -1}, "seed must be a whole number, at least 0 and below 4294967296, got -1"),
        ({"seed": 2**32}, "seed must be a whole number, at least 0 and below 4294967296, got 4294967296"),
        ({"rdm_weight": -1.0}, "rdm_weight must be a finite number of at least 0, got -1.0"),
        ({"weight_decay": "0"}, "weight_decay must be a finite number of at least 0, got '0'"),
        ({"lr": 0.0}, "lr must be a finite number above 0, got 0.0"),
        ({"lr": "1e-3"}, "lr must be a finite number above 0, got '1e-3'"),
        ({"lr": math.inf}, "lr must be a finite number above 0, got inf"),
        ({"lr": None}, "lr must be a finite number above 0, got None"),
        ({"clip": -1.0}, "clip must be a finite number above 0, got -1.0"),
        ({"rdm_weight": 0.0}, "there is nothing to learn: rdm_weight=0, and there is no task"),
        ({"loss": RDMLoss(match={"2": "IT"})}, r"layer '2' is matched with target 'IT', .* only target is 'rdm'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), teacher(), stimuli(), **{**QUIET, "steps": 2} | options)


def test_no_teacher_for_a_weight_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"there is no teacher for rdm_weight=1.0; give one, or set rdm_weight=0"):
        fit(student(), None, stimuli(), task=Task(), **QUIET)


def test_names_the_teacher_does_not_know_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"conditions \['s19'\] are not in teacher 'RDMs' \(19 conditions\)$"):
        fit(student(), teacher(NAMES[:19]), stimuli(), batch_size=4, out=tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_numbers_may_be_numpys() -> None:
    options = {"steps": np.int64(3), "batch_size": np.int32(5), "evaluate_every": np.int64(1), "patience": np.int8(3)}
    options |= {"seed": np.int64(2**32 - 1), "lr": np.float64(0.01), "checkpoint_every": np.int64(2)}
    fitted = fit(student(), teacher(), stimuli(), **options, **QUIET)
    plain = {name: value.item() for name, value in options.items()}
    assert equal(weights(fitted.student), weights(fit(student(), teacher(), stimuli(), **plain, **QUIET).student))


def test_images_that_the_network_cannot_take_are_refused_with_their_shape(tmp_path: Path) -> None:
    colour = Stimuli.from_arrays(torch.rand(20, 3, 6, 6), NAMES)
    for options in (
        {},
        {"readout": Readout(projection=4)},
        {"readout": Readout(projection=4), "trainable": "projection"},
    ):
        made = Student(nn.Sequential(nn.Conv2d(1, 2, 3)), ["0"], **options)
        with pytest.raises(
            BrainrdlError, match=r"cannot process images of shape \(\d+, 3, 6, 6\), .*to have 1 channels"
        ):
            fit(made, teacher(), colour, out=tmp_path / "runs" / "a", **QUIET)
    assert not list(tmp_path.iterdir())


def test_a_task_has_nothing_to_train_in_a_network_that_stays_as_it_is() -> None:
    made = student(readout=Readout(projection=4), trainable="projection")
    with pytest.raises(BrainrdlError, match="change the network, so a task has no effect; leave task out"):
        fit(made, teacher(), stimuli(), task=Task(), **QUIET)


def test_the_accuracy_of_a_network_that_stays_as_it_is_chooses_no_step() -> None:
    made = student(readout=Readout(projection=4), trainable="projection")
    with pytest.raises(BrainrdlError, match="monitor='accuracy' does not change if the network is frozen; use"):
        fit(made, teacher(), stimuli(), validation=NAMES[:5], monitor="accuracy", **QUIET)


def test_a_student_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="the student has no trainable parameters"):
        fit(student(trainable="none"), teacher(), stimuli(), **QUIET)


def test_a_task_without_labels_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="the task needs labels of the stimuli; give labels="):
        fit(student(), teacher(), stimuli(labels=False), task=Task(), steps=1, **QUIET)


def test_a_task_without_logits_is_refused() -> None:
    made = Student(nn.Sequential(nn.Conv2d(1, 2, 3)), ["0"])
    with pytest.raises(BrainrdlError, match="compares logits with labels, but there are no logits from the student"):
        fit(made, teacher(), stimuli(), task=Task(), steps=1, **QUIET)


def test_more_categories_than_logits_are_refused() -> None:
    many = stimuli().with_labels([f"{i % 5}" for i in range(20)])
    with pytest.raises(BrainrdlError, match="student has 3 logits for 5 categories; give its last layer more outputs"):
        fit(student(), teacher(), many, task=Task(), steps=1, **QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "accuracy"}, "monitor='accuracy' is NaN on the validation stimuli at step 0; it needs labels"),
        ({"rdm_weight": 0, "task": Task()}, "monitor='similarity' is NaN .* it needs a teacher"),
    ],
)
def test_a_monitor_that_measures_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    known = None if "rdm_weight" in options else teacher()
    with pytest.raises(BrainrdlError, match=message):
        fit(student(), known, stimuli(labels=known is None), validation=NAMES[:5], **options, **QUIET)


# A loss that breaks


class Broken:
    """A teacher that answers with Inf."""

    name, targets = "broken", ("rdm",)

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        n = len(batch.names)
        return {"rdm": torch.full((1, n * (n - 1) // 2), torch.inf)}


class Breaks(nn.Module):
    """A layer whose third row is NaN from its third training step on; the first pass tests the gradients."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        broken = torch.zeros_like(x)
        broken[2] = torch.nan
        return x + broken if self.calls > 3 else x


def test_a_student_that_emits_nan_is_stopped_with_step_layer_and_condition() -> None:
    made = Student(nn.Sequential(nn.Flatten(), nn.Linear(36, 8), Breaks()), ["1", "2"])
    with pytest.raises(
        DivergedError, match=r"loss is nan at step 2: patterns of layer '2' are NaN or Inf .* \['s02'\]; lower"
    ):
        fit(made, teacher(), stimuli(), steps=9, evaluate_every=99, **QUIET)


def test_a_learning_rate_that_blows_up_is_stopped() -> None:
    loss = RDMLoss.rdl2016()
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) at step \d+[: ].*; lower lr, or set clip"):
        fit(student(), teacher(), stimuli(), loss=loss, optimizer="sgd", lr=1e12, steps=50, **QUIET)


@pytest.mark.parametrize(("lr", "optimizer"), [(1e38, "adam"), (1e300, "sgd")])
def test_a_learning_rate_that_does_not_fit_float32_is_refused(lr: float, optimizer: str) -> None:
    message = rf"lr={re.escape(str(lr))} is too large for the optimiser at step 0: .*; lower lr"
    with pytest.raises(DivergedError, match=message):
        fit(student(), teacher(), stimuli(), lr=lr, optimizer=optimizer, steps=3, **QUIET)


def test_another_failure_of_an_optimiser_is_not_taken_for_an_overflow() -> None:
    class Fails(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise RuntimeError("of another kind")

    with pytest.raises(RuntimeError, match="of another kind"):
        fit(student(), teacher(), stimuli(), optimizer=Fails, steps=3, **QUIET)


def test_a_student_that_broke_in_its_last_step_is_not_given_back() -> None:
    with pytest.raises(BrainrdlError, match=r"^at step 1 patterns of layer '2' are NaN or Inf for conditions \['s00'"):
        fit(student(), teacher(), stimuli(), optimizer="sgd", lr=1e38, weight_decay=1e5, steps=1, **QUIET)


def test_a_teacher_with_inf_is_named() -> None:
    with pytest.raises(BrainrdlError, match=r"loss is nan at step 0: the teacher's RDMs of targets \['rdm'\] hold Inf"):
        fit(student(), Broken(), stimuli(), steps=3, **QUIET)


# The run folder


def test_a_run_folder_holds_settings_history_weights_provenance_and_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    fitted = fit(student(), teacher(), stimuli(), steps=4, lr=0.01, out=tmp_path / "run", **QUIET)
    files = sorted(path.name.split(".")[0] for path in (tmp_path / "run").iterdir())
    assert files == ["events", "history", "provenance", "settings", "weights"]
    settings = _files.read_json(tmp_path / "run" / run_folder.SETTINGS)
    assert settings == fitted.settings
    assert (settings["lr"], settings["steps"], settings["train"]) == (0.01, 4, list(NAMES))
    assert "device" not in settings
    facts = _files.read_json(tmp_path / "run" / run_folder.PROVENANCE)
    assert facts == fitted.provenance
    assert {"torch", "rsatoolbox", "brainrdl"} <= facts["versions"].keys()
    assert facts["git"]
    assert facts["device"] == "cpu"
    assert facts["hashes"].keys() == {"stimuli", "teacher"}
    fresh = student(seed=9)
    finished_fits.load_weights(tmp_path / "run" / run_folder.WEIGHTS, fresh)
    assert equal(weights(fresh), weights(fitted.student))


def test_a_result_is_printed_in_a_line_without_the_names_of_its_stimuli(tmp_path: Path) -> None:
    fitted = fit(student(), teacher(), stimuli(), steps=2, out=tmp_path / "run", **QUIET)
    similarity = fitted.history["train_similarity"].iloc[-1]
    layers, folder = list(fitted.student.layers), str(tmp_path / "run")
    assert repr(fitted) == (
        f"FitResult(layers={layers}, best_step=2, n_train={len(NAMES)}, train_similarity={similarity:.3f}, "
        f"path={folder!r})"
    )
    assert repr(finished_fits.FitResult(student(), pd.DataFrame(), 0)) == f"FitResult(layers={layers}, best_step=0)"


def test_hashes_tell_data_apart() -> None:
    def hashes(shown: Stimuli, known: RDMTeacher) -> dict[str, str]:
        return fit(student(), known, shown, steps=0, **QUIET).provenance["hashes"]

    first, again = (hashes(stimuli(), teacher()) for _ in range(2))
    other = hashes(Stimuli.from_arrays(1 - pictures(), NAMES), teacher(seed=1))
    assert first == again
    assert all(first[key] != other[key] for key in first)


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fit(student(), teacher(), stimuli(), steps=2, checkpoint_every=1, **QUIET).path is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(BrainrdlError, match="exists and is not empty; resume or overwrite it"):
        fit(student(), teacher(), stimuli(), steps=1, out=tmp_path, **QUIET)
    with pytest.raises(BrainrdlError, match="so it is not a run folder and cannot be resumed"):
        fit(student(), teacher(), stimuli(), steps=1, out=tmp_path, resume=True, **QUIET)
    with pytest.raises(BrainrdlError, match="so it is not a run folder and cannot be overwritten"):
        fit(student(), teacher(), stimuli(), steps=1, out=tmp_path, overwrite=True, **QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "options", [{"optimizer": "adamm"}, {"loss": RDMLoss(match={"2": "IT"})}, {"task": Task(layer="no")}]
)
def test_a_run_that_is_refused_leaves_no_folder(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BrainrdlError):
        fit(student(), teacher(), stimuli(labels=False), steps=1, out=tmp_path / "runs" / "a", **options, **QUIET)
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_lost_to_one_that_is_refused(tmp_path: Path) -> None:
    fit(student(), teacher(), stimuli(), steps=1, out=tmp_path / "run", **QUIET)
    with pytest.raises(BrainrdlError, match="'adamm' is not known"):
        fit(student(), teacher(), stimuli(), optimizer="adamm", out=tmp_path / "run", overwrite=True, **QUIET)
    assert (tmp_path / "run" / run_folder.WEIGHTS).exists()


def test_a_run_may_be_overwritten(tmp_path: Path) -> None:
    for steps in (2, 3):
        fit(student(), teacher(), stimuli(), steps=steps, out=tmp_path / "run", overwrite=True, **QUIET)
    assert _files.read_json(tmp_path / "run" / run_folder.SETTINGS)["steps"] == 3


# Resuming


class Stops:
    """A teacher that lets a run die at a step: by an exception, or by killing the process."""

    name, targets, conditions = "stops", ("rdm",), NAMES

    def __init__(self, step: int | None = None, kill: bool = False) -> None:
        self.step, self.kill, self.teacher = step, kill, teacher()

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step == self.step and self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if batch.step == self.step:
            raise KeyboardInterrupt
        return self.teacher.rdms(batch)


def long_run(known: Stops, out: Path | None, *, start: int = 0, **options: Any) -> FitResult:
    """40 steps of a student with dropout, in random batches, under everything that has a state to lose."""
    made = student(start, dropout=0.3, readout=Readout(standardise=True, projection=8))
    defaults = {
        "validation": 0.3, "batch_size": 6, "task": Task(weight=0.5), "steps": 40, "schedule": "cosine", "patience": 8,
        "evaluate_every": 4, "checkpoint_every": 10, "lr": 1e-2, "clip": 5.0, "seed": 3,
        "loss": RDMLoss.rdl2016(n_pairs=9, half_life=30), "resume": True,
    }  # fmt: skip
    return fit(made, known, stimuli(), out=out, **{**defaults, **QUIET, **options})


def killed_run(out: str) -> None:
    """What the process does that is killed at step 27, seven steps after its last checkpoint."""
    torch.set_num_threads(1)
    long_run(Stops(27, kill=True), Path(out))


def assert_same_run(found: FitResult, expected: FitResult) -> None:
    assert equal(weights(found.student), weights(expected.student))
    assert found.best_step == expected.best_step
    a, b = (run.history.drop(columns="seconds") for run in (found, expected))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_a_run_whose_process_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    code = f"import runpy; runpy.run_path({__file__!r})['killed_run']({str(tmp_path / 'run')!r})"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "run" / run_folder.CHECKPOINT).exists()
    assert not (tmp_path / "run" / run_folder.WEIGHTS).exists()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    resumed, straight = long_run(Stops(), tmp_path / "run"), long_run(Stops(), None)
    torch.set_num_threads(threads)
    assert_same_run(resumed, straight)
    assert not (tmp_path / "run" / run_folder.CHECKPOINT).exists()


@pytest.fixture(scope="module", params=[None, pytest.param(2, marks=pytest.mark.slow)])
def whole_run(request: pytest.FixtureRequest) -> tuple[int | None, FitResult]:
    """A patience, and a run that nothing interrupts."""
    return request.param, long_run(Stops(), None, patience=request.param)


@pytest.mark.parametrize("steps", [(3,), (12,), (25, 37)])
def test_a_run_that_failed_goes_on_bit_for_bit(
    tmp_path: Path, steps: tuple[int, ...], whole_run: tuple[int | None, FitResult]
) -> None:
    patience, straight = whole_run
    assert patience is None or straight.history.step.iloc[-1] < 40, "patience has nothing to do"
    for step in steps:
        if step <= straight.history.step.iloc[-1]:
            with pytest.raises(KeyboardInterrupt):
                long_run(Stops(step), tmp_path / "run", patience=patience)
    torch.rand(17)  # what the process did meanwhile does not matter
    assert_same_run(long_run(Stops(), tmp_path / "run", patience=patience), straight)


class Asks(Stops):
    """A teacher that asks the process to stop at a step."""

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        if batch.step == self.step:
            self.step = None  # once
            signal.raise_signal(signal.SIGTERM if self.kill else signal.SIGINT)
        return self.teacher.rdms(batch)


@pytest.mark.parametrize("kill", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_that_is_asked_to_stop_ends_its_step_and_loses_none(tmp_path: Path, kill: bool) -> None:
    name = "SIGTERM" if kill else "SIGINT"
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=rf"^stopped by {name}: 26 of 40 steps are in '.*run'; continue with"):
        long_run(Asks(25, kill), tmp_path / "run", checkpoint_every=1000)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = long_run(Stops(25), tmp_path / "run", checkpoint_every=1000)  # a step that is repeated would stop it
    assert_same_run(resumed, long_run(Stops(), None, checkpoint_every=1000))


def test_a_run_without_a_folder_is_interrupted_at_once() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        long_run(Asks(25), None, resume=False)
    assert type(caught.value) is KeyboardInterrupt


def test_a_run_that_ends_while_another_process_prepares_the_same_is_loaded(tmp_path: Path) -> None:
    class Overtaken(Stops):
        """While the teacher is asked for its identity, another process ends the run."""

        def identity(self, names: Sequence[str]) -> dict[str, Any]:
            if not (tmp_path / "run").exists():
                long_run(Overtaking(), tmp_path / "run")
            return {}

    class Overtaking(Stops):
        def identity(self, names: Sequence[str]) -> dict[str, Any]:
            return {}

    found = long_run(Overtaken(0), tmp_path / "run")  # a single step would stop it
    assert_same_run(found, long_run(Overtaking(), None))


@pytest.mark.parametrize("name", ["nul\0", "b\udce4r"])
def test_names_that_cannot_be_stored_are_refused_before_a_fit(name: str) -> None:
    class Named(Stops):
        targets = (name,)

    for make in (
        lambda: long_run(Named(), None),
        lambda: Student(nn.Sequential(nn.Flatten()), {"0": name}),
        lambda: Stimuli.from_arrays(pictures(1), [name]),
        lambda: Stimuli.from_arrays(pictures(1), ["a"], labels=[name]).categories,
        lambda: RDMTeacher(rdms.from_array(np.arange(3.0), ["a", "b", name])),
        lambda: rdms.from_array(np.arange(3.0), ["a", "b", "c"], descriptors={"roi": [name]}),
    ):
        with pytest.raises(BrainrdlError, match=r"are not valid Unicode; rename|contain the character NUL; rename"):
            make()


def test_a_run_that_has_ended_is_loaded(tmp_path: Path) -> None:
    first = long_run(Stops(), tmp_path / "run")
    again = long_run(Stops(0), tmp_path / "run")  # a single step would stop it
    assert equal(weights(again.student), weights(first.student))
    assert again.best_step == first.best_step
    pd.testing.assert_frame_equal(again.history, first.history)


def interrupted(folder: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        long_run(Stops(25), folder)
    return folder / run_folder.CHECKPOINT


def test_a_checkpoint_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path / "run")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(BrainrdlError, match=r"checkpoint.safetensors' is truncated, damaged or not safetensors"):
        long_run(Stops(), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"lr": 0.5}, r"lr=0.01, now lr=0.5"),
        ({"steps": 50}, r"steps=40, now steps=50"),
        ({"seed": 4}, r"seed=3, now seed=4"),
        ({"loss": RDMLoss()}, r"loss.dissimilarity='euclidean', now loss.dissimilarity='correlation'"),
        ({"validation": NAMES[:6]}, r"train="),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path, options: dict[str, Any], key: str) -> None:
    interrupted(tmp_path / "run")
    with pytest.raises(BrainrdlError, match=f"was written with {key}"):
        long_run(Stops(), tmp_path / "run", **options)


def test_a_checkpoint_of_another_student_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "run")
    with pytest.raises(BrainrdlError, match=r"was written with initial_weights='[0-9a-f]{64}', now initial_weights="):
        long_run(Stops(), tmp_path / "run", start=1)


def test_a_run_on_other_data_of_the_same_name_is_refused(tmp_path: Path) -> None:
    fit(student(), teacher(), stimuli(), steps=1, out=tmp_path / "run", **QUIET)
    with pytest.raises(
        BrainrdlError, match=r"^the teacher's RDMs have changed since the run began: .* with hashes.teacher="
    ):
        fit(student(), teacher(seed=1), stimuli(), steps=1, out=tmp_path / "run", resume=True, **QUIET)
    other = Stimuli.from_arrays(1 - pictures(), NAMES, labels=[f"{i % 3}" for i in range(20)])
    with pytest.raises(BrainrdlError, match=r"^the images have changed since the run began: .* with hashes.stimuli="):
        fit(student(), teacher(), other, steps=1, out=tmp_path / "run", resume=True, **QUIET)


@pytest.mark.parametrize("options", [{"task": Task()}, {"monitor": "accuracy", "validation": NAMES[:5]}])
def test_a_run_that_used_labels_is_not_resumed_with_others(tmp_path: Path, options: dict[str, Any]) -> None:
    def run(labels: str) -> FitResult:
        shown = Stimuli.from_arrays(pictures(), NAMES, labels=[labels[i % 3] for i in range(20)])
        return fit(student(), teacher(), shown, steps=1, out=tmp_path / "run", resume=True, **options, **QUIET)

    run("abc")
    run("abc")
    for labels in ("bac", "abd"):
        with pytest.raises(BrainrdlError, match=r"^the stimuli's labels have changed since the run began"):
            run(labels)


def test_a_run_that_used_no_labels_goes_on_with_others(tmp_path: Path) -> None:
    for labels in (True, False):
        fit(student(), teacher(), stimuli(labels=labels), steps=1, out=tmp_path / "run", resume=True, **QUIET)


def test_pickled_weights_in_a_run_folder_are_refused(tmp_path: Path) -> None:
    fit(student(), teacher(), stimuli(), steps=1, out=tmp_path / "run", **QUIET)
    torch.save(student().state_dict(), tmp_path / "run" / run_folder.WEIGHTS)
    with pytest.raises(BrainrdlError, match="pickled files are refused"):
        fit(student(), teacher(), stimuli(), steps=1, out=tmp_path / "run", resume=True, **QUIET)


def test_a_finished_run_is_not_taken_for_one_with_another_readout(tmp_path: Path) -> None:
    def run(standardise: bool) -> FitResult:
        made = student(readout=Readout(standardise=standardise))
        return fit(made, teacher(), stimuli(), steps=1, out=tmp_path / "run", resume=True, **QUIET)

    run(standardise=False)
    with pytest.raises(BrainrdlError, match=r"readouts.2.standardise=False, now readouts.2.standardise=True"):
        run(standardise=True)


def test_a_run_is_not_resumed_with_another_transform(tmp_path: Path) -> None:
    for size in (6, 6):  # the same one continues
        shown = Stimuli.from_arrays(pictures(), NAMES, transform=ImageTransform(size, channels=1))
        fit(student(), teacher(), shown, steps=1, out=tmp_path / "run", resume=True, **QUIET)
    other = shown.with_transform(ImageTransform(6, mean=(0.5,), std=(0.5,), channels=1))
    with pytest.raises(BrainrdlError, match=r"was written with transform='ImageTransform\(size=6, mean=\(\)"):
        fit(student(), teacher(), other, steps=1, out=tmp_path / "run", resume=True, **QUIET)


def test_a_run_is_not_resumed_with_a_teacher_of_other_targets(tmp_path: Path) -> None:
    for target in ("IT", "V1"):
        known = RDMTeacher(rdms.from_array(np.random.default_rng(0).random(190), NAMES, descriptors={"roi": [target]}))
        context = pytest.raises(BrainrdlError, match=r"targets=\['IT'\], now targets=\['V1'\]")
        with context if target == "V1" else nullcontext():
            fit(student(), known, stimuli(), steps=1, out=tmp_path / "run", resume=True, **QUIET)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"weights": 1}, "network="),
        ({"layers": ["0", "1"]}, r"targets=\['1'\]"),
        (
            {"pool": "avgpool"},
            "teacher_identity.readouts.1.pool='flatten', now teacher_identity.readouts.1.pool='avgpool'",
        ),
        ({"dissimilarity": "euclidean"}, r"teacher_identity.dissimilarity='brainrdl\.dissimilarity\.\w+\.correlation'"),
        ({"stimuli": 1}, "teacher_identity.stimuli="),
        ({"transform": ImageTransform(6, channels=1)}, "teacher_identity.transform=None, now .*'ImageTransform"),
    ],
)
def test_a_run_is_not_resumed_with_another_teacher_network(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    def taught(weights: int = 0, stimuli: int = 0, transform: Any = None, **options: Any) -> NetworkTeacher:
        torch.manual_seed(weights)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
        own = Stimuli.from_arrays((pictures() + stimuli / 2) / 2, NAMES, transform=transform)
        return NetworkTeacher(model, **{"layers": ["1"], "stimuli": own, "name": "network"} | options)

    def run(known: NetworkTeacher) -> FitResult:
        made, loss = student(), RDMLoss(match={"2": "1"})
        return fit(made, known, stimuli(), loss=loss, steps=1, out=tmp_path / "run", resume=True, **QUIET)

    run(taught())
    run(taught())
    with pytest.raises(BrainrdlError, match=key):
        run(taught(**change))


def test_a_run_is_not_resumed_with_subjects_drawn_by_another_seed(tmp_path: Path) -> None:
    pairs = np.random.default_rng(0).random((3, 190))
    for seed in (0, 1):
        known = RDMTeacher(rdms.from_array(pairs, NAMES), subject_by="index", combine="sample", seed=seed)
        with pytest.raises(BrainrdlError, match=r"teacher_identity\.seed=0, now") if seed else nullcontext():
            fit(student(), known, stimuli(), steps=1, out=tmp_path / "run", resume=True, **QUIET)


def test_a_permuted_teacher_is_known_by_the_one_that_it_asks(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3))

    def run(pool: str) -> FitResult:
        known = PermutedTeacher(NetworkTeacher(network, ["0"], stimuli=stimuli(), pool=pool, name="n"), NAMES)
        return fit(student(), known, stimuli(), steps=1, out=tmp_path / "run", resume=True, **QUIET)

    run("flatten")
    with pytest.raises(BrainrdlError, match=r"teacher_identity\.teacher\.readouts\.0\.pool='flatten', now"):
        run("avgpool")


def test_a_run_on_other_validation_data_is_refused(tmp_path: Path) -> None:
    options = {"train": NAMES[:12], "validation": NAMES[12:], "steps": 1, "out": tmp_path / "run", **QUIET}
    fit(student(), teacher(), stimuli(), **options)
    images, pairs = pictures(), np.random.default_rng(0).random((1, 190))
    images[15], pairs[0, -1] = 1 - images[15], 0.5
    with pytest.raises(BrainrdlError, match=r"^the images have changed since the run began: .* with hashes.stimuli="):
        fit(student(), teacher(), Stimuli.from_arrays(images, NAMES), resume=True, **options)
    with pytest.raises(
        BrainrdlError, match=r"^the teacher's RDMs have changed since the run began: .* with hashes.teacher="
    ):
        fit(student(), RDMTeacher(rdms.from_array(pairs, NAMES)), stimuli(), resume=True, **options)


def test_subjects_are_weighed_by_training_conditions_alone() -> None:
    first, second = torch.triu_indices(20, 20, 1).numpy()
    watched = (first >= 12) | (second >= 12)
    one = np.random.default_rng(0).random(190) + 0.5 * np.random.default_rng(1).random((3, 190))
    two = one.copy()
    two[2, watched] = 1 - two[2, watched]
    options = {"train": NAMES[:12], "validation": NAMES[12:], "steps": 2, "evaluate_every": 1, **QUIET}
    subjects = {"subject": ["s1", "s2", "s3"]}
    brains = [rdms.from_array(pairs, NAMES, descriptors=subjects) for pairs in (one, two)]
    seen = [fit(student(), RDMTeacher(brain, combine="reliability"), stimuli(), **options).history for brain in brains]
    assert seen[0].loss.dropna().tolist() == seen[1].loss.dropna().tolist()
    assert seen[0].train_similarity.tolist() == seen[1].train_similarity.tolist()
    assert seen[0].validation_similarity.tolist() != seen[1].validation_similarity.tolist()


class Own(nn.Module):
    """A network of the user's, whose function changes while its weights keep their shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x).relu()


def test_the_code_of_a_network_is_among_the_settings_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(model: nn.Module) -> str:
        return _identity.student_settings(Student(model, ["linear" if isinstance(model, Own) else "0"]))["network_code"]

    relu, tanh = (nn.Sequential(nn.Linear(4, 3), kind()) for kind in (nn.ReLU, nn.Tanh))
    assert digest(relu) == digest(nn.Sequential(nn.Linear(4, 3), nn.ReLU())) != digest(tanh)
    before = digest(Own())
    assert digest(Own()) == before
    source = inspect.getsource(Own).replace("relu", "tanh")
    monkeypatch.setattr(inspect, "getsource", lambda kind: source)
    assert digest(Own()) != before


def test_a_network_defined_at_a_prompt_is_known_by_its_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(kind: type) -> str:
        raise OSError

    monkeypatch.setattr(inspect, "getsource", no_source)
    before = _identity.code_of(Own)
    monkeypatch.setattr(Own, "forward", lambda self, x: self.linear(x).tanh())
    assert _identity.code_of(Own) != before


def test_a_small_network_is_fitted_with_one_thread_and_the_threads_are_restored() -> None:
    before, used = torch.get_num_threads(), set[int]()
    torch.set_num_threads(3)
    fitted = student()
    fitted.register_forward_hook(lambda *_: used.add(torch.get_num_threads()) if fitted.training else None)
    try:
        fit(fitted, teacher(), stimuli(), steps=2, device="cpu", progress=False)
        assert (used, torch.get_num_threads()) == ({1}, 3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("place", "given", "message"),
    [
        (0, nn.Linear(2, 2), r"student must be a Student, got Linear; wrap a network: Student\(network, \[layer\]\)"),
        (1, "it.h5", r"teacher must have name, targets and rdms, got 'it.h5'; make one of a file: RDMTeacher"),
        (2, "images", r"stimuli must be Stimuli, got str; for a folder of images: Stimuli.from_folder"),
    ],
)
def test_an_argument_of_another_kind_is_refused_with_what_to_write(place: int, given: Any, message: str) -> None:
    arguments: list[Any] = [student(), teacher(), stimuli()]
    arguments[place] = given
    with pytest.raises(BrainrdlError, match=message):
        fit(*arguments)
