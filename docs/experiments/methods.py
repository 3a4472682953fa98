"""The methods that the distillation experiments compare, and their controls.

Every method trains the same student on the same images with `brainrdl.fit`. It adds a few arguments to the call: a
teacher and an `RDMLoss`, or a term of `brainrdl.distillation`.

    Problem      what there is to learn: labelled images, the teacher's patterns and logits, the student
    METHODS      methods and controls by name
    learn        trains a student with a method
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from brainrdl import FeatureTeacher, RDMLoss, Readout, Stimuli, Student, Task, fit
from brainrdl.distillation import (
    Hints,
    KernelAlignment,
    KnowledgeDistillation,
    ProbabilisticTransfer,
    RelationalDistillation,
    SimilarityPreserving,
)
from brainrdl.stimuli import join_stimuli
from brainrdl.teachers import PermutedTeacher, Teacher
from brainrdl.training import Term

TRAINING = ("lr", "weight_decay")  # settings that all methods share


@dataclass(frozen=True)
class Problem:
    """What a student learns from.

    Parameters
    ----------
    labelled : Stimuli
        Images with labels.
    network : callable
        Makes a student network; its weights are drawn from torch's generator.
    stages : mapping of layer to target
        Layers of the student and the teacher's targets for them, from the first to the last.
    patterns : mapping of target to array (n, n_channels)
        The teacher's patterns of all images.
    names : sequence of str
        Names of the rows of `patterns` and `logits`.
    logits : array (n, n_classes)
        The teacher's logits.
    readout : mapping of layer to Readout
    dissimilarity : str
        Of the RDMs.
    fit : mapping
        Options of `brainrdl.fit` that all methods share.
    unlabelled : Stimuli, optional
        Further images, without labels, for all terms that need none.
    random_patterns : callable, optional
        Returns patterns of the teacher's network with random weights, by target.
    """

    labelled: Stimuli
    network: Callable[[], nn.Module]
    stages: Mapping[str, str]
    patterns: Mapping[str, np.ndarray]
    names: Sequence[str]
    logits: np.ndarray
    readout: Mapping[str, Readout] = field(default_factory=dict)
    dissimilarity: str = "correlation"
    fit: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: Stimuli | None = None
    random_patterns: Callable[[], Mapping[str, np.ndarray]] | None = None

    def last(self) -> Problem:
        """Return the problem with the last stage alone."""
        layer, target = list(self.stages.items())[-1]
        return replace(self, stages={layer: target}, readout={k: v for k, v in self.readout.items() if k == layer})

    def student(self, network: nn.Module) -> Student:
        """Return a student that reads the stages of a network."""
        return Student(network, dict(self.stages), readout=dict(self.readout), trainable="all", batchnorm="train")

    def features(self) -> FeatureTeacher:
        """Teacher of the RDMs."""
        return FeatureTeacher(dict(self.patterns), names=self.names, dissimilarity=self.dissimilarity)

    def standardised(self) -> FeatureTeacher:
        """Teacher of patterns with mean 0 and standard deviation 1 in each channel, so that hints have one scale."""
        scaled = {
            target: (rows - rows.mean(0)) / (rows.std(0) + 1e-5)
            for target, rows in ((target, np.asarray(rows, np.float32)) for target, rows in self.patterns.items())
        }
        return FeatureTeacher(scaled, names=self.names)


# Methods: the arguments that each adds to a fit


@dataclass(frozen=True)
class Method:
    """A method: what it adds to a fit, and the settings that are searched.

    Parameters
    ----------
    name : str
        As in the tables.
    make : callable
        ``make(problem, seed, **own)`` returns arguments of `brainrdl.fit`.
    space : mapping of str to (first value, lowest, highest)
        Own settings. The first trial has the first values; others are drawn uniformly on a logarithmic scale.
    settings_of : str, optional
        Use the chosen settings of this method, instead of a search.
    last_only : bool
        Read only the last stage of the student.
    labelled_only : bool
        Leave out images without labels, because the method needs labels.
    """

    name: str
    make: Callable[..., dict[str, Any]]
    space: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    settings_of: str | None = None
    last_only: bool = False
    labelled_only: bool = False

    def seen(self, problem: Problem) -> Problem:
        """Return the part of the problem that the method uses."""
        part = problem.last() if self.last_only else problem
        return replace(part, unlabelled=None) if self.labelled_only else part


def _cross_entropy(problem: Problem, seed: int) -> dict[str, Any]:
    return {"teacher": None, "rdm_weight": 0.0}


def _smoothing(problem: Problem, seed: int, smoothing: float) -> dict[str, Any]:
    return {"teacher": None, "rdm_weight": 0.0, "task": {"label_smoothing": smoothing}}


def _term(make: Callable[[Problem], nn.Module]) -> Callable[..., dict[str, Any]]:
    def added(problem: Problem, seed: int, weight: float) -> dict[str, Any]:
        return {"teacher": None, "rdm_weight": 0.0, "terms": {"transfer": Term(make(problem), weight)}}

    return added


def _kd(problem: Problem, seed: int, kd_weight: float, temperature: float) -> dict[str, Any]:
    logits = FeatureTeacher(problem.logits, names=problem.names, name="logits")
    return {
        "teacher": None,
        "rdm_weight": 0.0,
        "terms": {"kd": Term(KnowledgeDistillation(logits, temperature), kd_weight)},
    }


def _rdl(problem: Problem, seed: int, weight: float) -> dict[str, Any]:
    loss = RDMLoss(dissimilarity=problem.dissimilarity, match=problem.stages)
    return {"teacher": problem.features(), "rdm_weight": weight, "loss": loss}


def _rdl_whitened(problem: Problem, seed: int, weight: float) -> dict[str, Any]:
    made = _rdl(problem, seed, weight)
    return made | {"loss": replace(made["loss"], similarity="corr_cov")}


def _rdl_weighted(problem: Problem, seed: int, early: float, late: float) -> dict[str, Any]:
    made, last = _rdl(problem, seed, 1.0), list(problem.stages)[-1]
    weights = {layer: late if layer == last else early for layer in problem.stages}
    return made | {"loss": replace(made["loss"], layer_weights=weights)}


def _rdl_2016(problem: Problem, seed: int, weight: float) -> dict[str, Any]:
    loss = RDMLoss.rdl2016(half_life=problem.fit["steps"] / 4, match=problem.stages)
    squared = replace(problem, dissimilarity="euclidean")
    return {"teacher": squared.features(), "rdm_weight": weight, "loss": loss}


def _rdl_kd(problem: Problem, seed: int, weight: float, kd_weight: float, temperature: float) -> dict[str, Any]:
    return _kd(problem, seed, kd_weight, temperature) | _rdl(problem, seed, weight)


# Controls: RDL at the same stages with another teacher


def _with(teacher_of: Callable[[Problem, int], Teacher]) -> Callable[..., dict[str, Any]]:
    def changed(problem: Problem, seed: int, weight: float) -> dict[str, Any]:
        return _rdl(problem, seed, weight) | {"teacher": teacher_of(problem, seed)}

    return changed


def _shown(problem: Problem) -> tuple[str, ...]:
    return problem.labelled.names + (() if problem.unlabelled is None else problem.unlabelled.names)


def _permuted(problem: Problem, seed: int) -> Teacher:
    return PermutedTeacher(problem.features(), _shown(problem), seed=seed)


def _permuted_within(problem: Problem, seed: int) -> Teacher:
    labels = problem.labelled.labels
    return PermutedTeacher(problem.features(), problem.labelled.names, seed=seed, within=labels)


def _labels(problem: Problem, seed: int) -> Teacher:
    """Label RDM as squared distances of one-hot patterns, so that it is not stored for all pairs of images."""
    labels, names = problem.labelled.labels or {}, problem.labelled.names
    numbers = [problem.labelled.categories.index(labels[name]) for name in names]
    one_hot = np.eye(len(problem.labelled.categories), dtype=np.float32)[numbers]
    targets = dict.fromkeys(problem.stages.values(), one_hot)
    return FeatureTeacher(targets, names=names, dissimilarity="euclidean", name="labels")


def _random_network(problem: Problem, seed: int) -> Teacher:
    if problem.random_patterns is None:
        raise ValueError("the problem has no patterns of a random network")
    return replace(problem, patterns=problem.random_patterns()).features()


def _spectrum(problem: Problem, seed: int) -> Teacher:
    """Gaussian patterns whose covariance has the eigenvalues of the teacher's (Federer et al. 2020)."""
    drawn = {}
    for target, rows in problem.patterns.items():
        values = np.linalg.svd(np.asarray(rows, np.float64) - rows.mean(0, dtype=np.float64), compute_uv=False)
        axes = np.random.default_rng([seed, len(drawn)]).normal(size=(len(rows), len(values)))
        drawn[target] = (axes * values / math.sqrt(len(rows))).astype(np.float32)
    return replace(problem, patterns=drawn).features()


# The first weights are those of the publications or of earlier work. The ranges are as wide for our losses as for those
# of others; SP and RDL as in 2016 have wider ones, because their scale depends on the patterns.
WEIGHT = {"weight": (5.0, 0.5, 50.0)}
KD = {"kd_weight": (1.0, 0.1, 10.0), "temperature": (4.0, 2.0, 8.0)}
RDL, WEIGHTED = "RDL, several stages", "RDL, weighted stages"
METHODS = {
    method.name: method
    for method in (
        Method("cross-entropy", _cross_entropy),
        Method("label smoothing", _smoothing, {"smoothing": (0.1, 0.05, 0.3)}),
        Method("KD", _kd, KD),
        Method("hints", _term(lambda p: Hints(p.standardised(), p.stages)), {"weight": (1.0, 0.1, 10.0)}),
        Method("RKD", _term(lambda p: RelationalDistillation(p.features(), p.stages)), {"weight": (25.0, 2.5, 250.0)}),
        Method(
            "SP", _term(lambda p: SimilarityPreserving(p.features(), p.stages)), {"weight": (3000.0, 30.0, 30000.0)}
        ),
        Method("PKT", _term(lambda p: ProbabilisticTransfer(p.features(), p.stages)), {"weight": (3e4, 3e3, 3e5)}),
        Method("CKA", _term(lambda p: KernelAlignment(p.features(), p.stages)), {"weight": (1.0, 0.1, 10.0)}),
        Method("RDL as in 2016", _rdl_2016, {"weight": (1e-4, 1e-6, 1e-2)}),
        Method("RDL", _rdl, WEIGHT, last_only=True),
        Method(RDL, _rdl, WEIGHT),
        Method("RDL, whitened", _rdl_whitened, WEIGHT),
        Method(WEIGHTED, _rdl_weighted, {"early": (5.0, 0.5, 50.0), "late": (2.0, 0.2, 20.0)}),
        Method("RDL + KD", _rdl_kd, WEIGHT | KD),
        Method("label RDM", _with(_labels), WEIGHT, labelled_only=True),
        Method("permuted teacher", _with(_permuted), settings_of=RDL),
        Method("permuted within class", _with(_permuted_within), settings_of=RDL, labelled_only=True),
        Method("random network", _with(_random_network), settings_of=RDL),
        Method("teacher's spectrum", _with(_spectrum), settings_of=RDL),
    )
}


# Fits


def learn(problem: Problem, method: str, options: Mapping[str, float], seed: int) -> tuple[Student, float]:
    """Train a student; return it and the processor time in seconds.

    Parameters
    ----------
    problem : Problem
    method : str
        A name in `METHODS`.
    options : mapping
        Learning rate, weight decay, and the method's own settings.
    seed : int
        Of the initial weights, batches and the control teachers.

    Raises
    ------
    brainrdl.DivergedError
        If training diverges, which is a result of the method.
    """
    own = {name: value for name, value in options.items() if name not in TRAINING}
    whole, problem = problem, METHODS[method].seen(problem)
    added = METHODS[method].make(problem, seed, **own)
    task = added.pop("task", {})
    training = {name: value for name, value in options.items() if name in TRAINING}
    images, labelled = _streams(problem, uses_rdm_images=bool(added.get("rdm_weight") or added.get("terms")))
    torch.manual_seed(seed)
    student = problem.student(problem.network())
    started = time.process_time()
    fit(
        student,
        added.pop("teacher"),
        images,
        task=Task(labelled, batch_size=problem.fit["batch_size"], **task) if labelled else Task(**task),
        seed=seed,
        progress=False,
        evaluate_every=problem.fit["steps"],
        **{"device": "cpu", **problem.fit, **training, **added},
    )
    seconds = time.process_time() - started
    return whole.student(student.model.cpu()), seconds  # measured on the CPU


def _streams(problem: Problem, uses_rdm_images: bool) -> tuple[Stimuli, Stimuli | None]:
    """Images of the RDM, and those of the task if they differ."""
    if problem.unlabelled is None or not uses_rdm_images:
        return problem.labelled, None
    return join_stimuli(problem.labelled, problem.unlabelled), problem.labelled
