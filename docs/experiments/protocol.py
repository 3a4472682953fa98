"""The protocol that the distillation experiments share: methods, controls, tuning, runs.

Every method trains the same student on the same images with `brainrdl.fit`. It adds a few arguments to the call: a
teacher and an `RDMLoss`, or a term of `brainrdl.distillation`. Every method has the same number of tuning trials, with
the same learning rates and weight decays, on images that are neither training nor test images.

    Problem      what there is to learn: labelled images, the teacher's patterns and logits, the student
    METHODS      methods and controls by name
    Experiment   an experiment: settings, methods, problems of each seed
    main         command line of an experiment: tunes, runs and stores what is missing
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn

from brainrdl import BrainrdlError, FeatureTeacher, RDMLoss, Readout, Stimuli, Student, Task, fit
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
from docs.experiments.measures import MEASURES, Exam, error_rate, measure
from docs.experiments.results import Results

RESULTS = Path(__file__).parent / "results"
KEY = ("experiment", "setting", "method", "seed")
TRIAL_KEY = ("experiment", "setting", "method", "trial")
DESIGN = "design"  # column with the digest of all that a setting shares


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


WEIGHT = {"weight": (5.0, 2.0, 20.0)}
KD = {"kd_weight": (1.0, 0.3, 5.0), "temperature": (4.0, 2.0, 8.0)}
SEVERAL, WEIGHTED = "RDL, several stages", "RDL, weighted stages"
METHODS = {
    method.name: method
    for method in (
        Method("cross-entropy", _cross_entropy),
        Method("label smoothing", _smoothing, {"smoothing": (0.1, 0.05, 0.3)}),
        Method("KD", _kd, KD),
        Method("hints", _term(lambda p: Hints(p.standardised(), p.stages)), {"weight": (1.0, 0.1, 10.0)}),
        Method("RKD", _term(lambda p: RelationalDistillation(p.features(), p.stages)), {"weight": (25.0, 1.0, 100.0)}),
        Method(
            "SP", _term(lambda p: SimilarityPreserving(p.features(), p.stages)), {"weight": (3000.0, 100.0, 10000.0)}
        ),
        Method("PKT", _term(lambda p: ProbabilisticTransfer(p.features(), p.stages)), {"weight": (3e4, 1e3, 3e5)}),
        Method("CKA", _term(lambda p: KernelAlignment(p.features(), p.stages)), {"weight": (1.0, 0.3, 10.0)}),
        Method("RDL as in 2016", _rdl_2016, {"weight": (1e-4, 1e-6, 1e-2)}),
        Method("RDL", _rdl, WEIGHT, last_only=True),
        Method(SEVERAL, _rdl, WEIGHT),
        Method("RDL, whitened", _rdl_whitened, WEIGHT),
        Method(WEIGHTED, _rdl_weighted, {"early": (5.0, 2.0, 20.0), "late": (2.0, 1.0, 20.0)}),
        Method("RDL + KD", _rdl_kd, WEIGHT | KD),
        Method("label RDM", _with(_labels), WEIGHT, labelled_only=True),
        Method("permuted teacher", _with(_permuted), settings_of=SEVERAL),
        Method("permuted within class", _with(_permuted_within), settings_of=SEVERAL, labelled_only=True),
        Method("random network", _with(_random_network), settings_of=SEVERAL),
        Method("teacher's spectrum", _with(_spectrum), settings_of=SEVERAL),
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


# Tuning

TRAINING = ("lr", "weight_decay")


def trial(method: Method, training: Mapping[str, tuple[float, float, float]], number: int) -> dict[str, float]:
    """Settings of a trial: the first values in trial 0, otherwise random ones.

    Learning rate and weight decay of a trial are the same for all methods.
    """
    space = {**training, **method.space}
    if number == 0:
        return {name: first for name, (first, _, _) in space.items()}
    return {name: _drawn(f"{name} {number}", low, high) for name, (_, low, high) in space.items()}


def _drawn(seed: str, low: float, high: float) -> float:
    value = math.exp(random.Random(seed).uniform(math.log(low), math.log(high)))
    return float(f"{value:.3g}")


@dataclass(frozen=True)
class Setting:
    """One table of an experiment.

    Parameters
    ----------
    name : str
        For example "1,000 labels".
    problem : callable
        ``problem(seed)`` returns the `Problem` of a final seed.
    tuning : callable
        ``tuning()`` returns the `Problem` of the trials and the validation images.
    exam : callable
        Returns the `Exam`.
    seeds, trials : int
        Number of final seeds, and of trials per method.
    training : mapping of "lr" and "weight_decay" to (first, lowest, highest)
        Values of the search that all methods share.
    methods : sequence of str
        Names in `METHODS`, the most important ones first.
    tuned_as : str, optional
        Use the settings that were chosen in the setting with this name.
    design : mapping
        What its rows share, such as networks, numbers of images and steps. Rows of another design are refused.
    """

    name: str
    problem: Callable[[int], Problem]
    tuning: Callable[[], tuple[Problem, Stimuli]]
    exam: Callable[[], Exam]
    seeds: int
    trials: int
    training: Mapping[str, tuple[float, float, float]]
    methods: Sequence[str] = tuple(METHODS)
    tuned_as: str | None = None
    design: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Eight characters that differ between designs; the first is a letter, so that no table reads a number."""
        return "d" + hashlib.sha256(json.dumps(self.design, sort_keys=True).encode()).hexdigest()[:7]


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name and its settings."""

    name: str
    settings: Sequence[Setting]


def results_of(experiment: str, folder: Path = RESULTS) -> Results:
    """Final rows of an experiment."""
    columns = (*KEY, DESIGN, *MEASURES[:-1], "cpu_seconds", "options", "correct")
    return Results(folder / f"{experiment}.csv", columns, KEY)


def trials_of(experiment: str, folder: Path = RESULTS) -> Results:
    """Tuning trials of an experiment."""
    return Results(
        folder / f"{experiment}_tuning.csv", (*TRIAL_KEY, DESIGN, "error", "nll", "cpu_seconds", "options"), TRIAL_KEY
    )


def costs_of(experiment: str, folder: Path = RESULTS) -> Results:
    """Processor times of short runs; those of a setting were measured in turn on one machine."""
    columns = ("experiment", "setting", "method", DESIGN, "steps", "cpu_seconds")
    return Results(folder / f"{experiment}_costs.csv", columns, columns[:3])


def teachers(folder: Path = RESULTS) -> Results:
    """Test errors of the teachers and probes."""
    return Results(folder / "teachers.csv", ("teacher", "error"), ("teacher",))


def chosen(experiment: str, setting: Setting, method: str, folder: Path) -> dict[str, float] | None:
    """Settings of the trial with the fewest errors (then the lowest NLL); None if trials are missing."""
    name = METHODS[method].settings_of or method
    rows = trials_of(experiment, folder).rows()
    rows = rows[(rows["setting"] == (setting.tuned_as or setting.name)) & (rows["method"] == name)]
    rows = rows[rows["trial"] < setting.trials]
    if len(rows) < setting.trials:
        return None
    best = rows.sort_values(["error", "nll"]).iloc[0]
    if best["error"] == 1:
        raise ValueError(f"all trials of {name!r} failed in {setting.name!r}; give it other settings")
    return json.loads(best["options"])


def run_trial(experiment: str, setting: Setting, method: str, number: int, folder: Path) -> None:
    """Do one tuning trial and store it."""
    problem, validation = setting.tuning()
    options = trial(METHODS[method], setting.training, number)
    try:
        student, seconds = learn(problem, method, options, seed=1000)
        error, nll = error_rate(student, validation)
    except BrainrdlError as refused:  # a loss that became infinite is a result of the trial
        if "finite" not in str(refused) and "NaN" not in str(refused):
            raise
        error, nll, seconds = 1.0, math.inf, math.nan
    trials_of(experiment, folder).add({
        "experiment": experiment, "setting": setting.name, "method": method, "trial": number,
        DESIGN: setting.digest, "error": error, "nll": nll, "cpu_seconds": seconds, "options": json.dumps(options),
    })  # fmt: skip


def run_final(experiment: str, setting: Setting, method: str, seed: int, folder: Path) -> None:
    """Train one student with the chosen settings, measure it on the test images, and store the row."""
    options = chosen(experiment, setting, method, folder)
    if options is None:
        raise ValueError(f"the trials of {METHODS[method].settings_of or method!r} are missing")
    student, seconds = learn(setting.problem(seed), method, options, seed)
    results_of(experiment, folder).add({
        "experiment": experiment, "setting": setting.name, "method": method, "seed": seed,
        DESIGN: setting.digest, **measure(student, setting.exam()), "cpu_seconds": seconds,
        "options": json.dumps(options),
    })  # fmt: skip


def run_costs(experiment: str, setting: Setting, folder: Path, rounds: int = 3) -> None:
    """Measure short runs of all methods in turn, and store the shortest of each; all again if one is missing.

    Processor times of the final rows cannot be compared: they are of different hours and machines.
    """
    table = costs_of(experiment, folder)
    if {(experiment, setting.name, method) for method in setting.methods} <= table.done():
        return
    problem = setting.problem(0)
    steps = max(problem.fit["steps"] // 10, 1)
    short, shortest = replace(problem, fit={**problem.fit, "steps": steps}), dict.fromkeys(setting.methods, math.inf)
    for _ in range(rounds):
        for method in setting.methods:
            options = trial(METHODS[METHODS[method].settings_of or method], setting.training, 0)
            shortest[method] = min(shortest[method], learn(short, method, options, seed=0)[1])
    table.remove({"experiment": experiment, "setting": setting.name})
    for method, seconds in shortest.items():
        table.add({
            "experiment": experiment, "setting": setting.name, "method": method, DESIGN: setting.digest,
            "steps": steps, "cpu_seconds": seconds,
        })  # fmt: skip


# Command line


def missing(experiment: Experiment, setting: Setting, methods: Sequence[str], seeds: int, folder: Path) -> list[tuple]:
    """List what is to be done in a setting, in order: trials, then seeds of all methods in turn."""
    tried, done = trials_of(experiment.name, folder).done(), results_of(experiment.name, folder).done()
    tuned = dict.fromkeys(METHODS[method].settings_of or method for method in methods)
    trials = [
        (run_trial, setting, method, number)
        for method in (() if setting.tuned_as else tuned)
        for number in range(setting.trials)
        if (experiment.name, setting.name, method, str(number)) not in tried
    ]
    finals = [
        (run_final, setting, method, seed)
        for seed in range(seeds)
        for method in methods
        if (experiment.name, setting.name, method, str(seed)) not in done
    ]
    return trials + finals


def check_rows(experiment: str, setting: Setting, folder: Path) -> None:
    """Refuse rows of another design, trials that are not the planned ones, and final rows not of the chosen settings.

    Raises
    ------
    ValueError
        If there are such rows.
    """
    tables = trials_of(experiment, folder), results_of(experiment, folder), costs_of(experiment, folder)
    trials, finals, _ = (_of_design(table, setting) for table in tables)
    for row in trials.to_dict("records"):
        planned = trial(METHODS[row["method"]], setting.training, row["trial"])
        if json.loads(row["options"]) != planned:
            raise ValueError(
                f"trial {row['trial']} of {row['method']!r} in {setting.name!r} has the settings {row['options']}, but "
                f"the code now plans {planned}; delete the trials of this method to make them again"
            )
    for method, stored in finals.groupby("method")["options"]:
        expected = chosen(experiment, setting, str(method), folder)
        if expected is not None and set(stored) != {json.dumps(expected)}:
            raise ValueError(
                f"rows of {method!r} in {setting.name!r} have the settings {sorted(set(stored))}, but the trials "
                f"choose {expected}; delete these rows to make them again"
            )


def _of_design(table: Results, setting: Setting) -> pd.DataFrame:
    """Rows of a setting; rows of another design are refused."""
    rows = table.rows()
    rows = rows[rows["setting"] == setting.name]
    others = set(rows[DESIGN].astype(str)) - {setting.digest}
    if others:
        raise ValueError(
            f"rows of {setting.name!r} in {table.path} have the design {sorted(others)}, but the code now has "
            f"{setting.digest!r}, {dict(setting.design)}; delete these rows to make them again"
        )
    return rows


def main(experiment: Experiment, words: Sequence[str] | None = None) -> None:
    """Do what is missing of an experiment; rows that exist are not computed again."""
    parser = argparse.ArgumentParser(description=f"Experiment {experiment.name}: does what is missing and stores it.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--setting", action="append", help="only this setting; may be repeated")
    parser.add_argument("--only", action="append", metavar="METHOD", help="only this method; may be repeated")
    parser.add_argument("--seeds", type=int, help="number of final seeds (default: as in the protocol)")
    parser.add_argument("--jobs", type=int, default=1, help="number of processes")
    parser.add_argument("--costs", action="store_true", help="measure the costs of all methods instead")
    asked = parser.parse_args(words)
    results_of(experiment.name, asked.out).create()
    trials_of(experiment.name, asked.out).create()
    for setting in experiment.settings:
        if asked.setting and setting.name not in asked.setting:
            continue
        if asked.costs:
            torch.set_num_threads(1)
            run_costs(experiment.name, setting, asked.out)
            continue
        methods = [name for name in setting.methods if not asked.only or name in asked.only]
        todo = missing(experiment, setting, methods, asked.seeds or setting.seeds, asked.out)
        for kind in (run_trial, run_final):
            for one in experiment.settings:  # trials of one may have chosen the settings of another
                check_rows(experiment.name, one, asked.out)
            _do(experiment.name, [one for one in todo if one[0] is kind], asked.jobs, asked.out)


def _do(experiment: str, todo: Sequence[tuple], jobs: int, folder: Path) -> None:
    started = time.monotonic()
    calls = (delayed(_quietly)(do, experiment, *rest, folder) for do, *rest in todo)
    for done, said in enumerate(Parallel(n_jobs=jobs, return_as="generator_unordered")(calls), start=1):
        left = (time.monotonic() - started) / done * (len(todo) - done)
        print(f"{done}/{len(todo)}, {left / 60:.0f} min left: {said}", file=sys.stderr, flush=True)


def _quietly(do: Callable[..., None], experiment: str, setting: Setting, method: str, number: int, folder: Path) -> str:
    torch.set_num_threads(1)
    do(experiment, setting, method, number, folder)
    return f"{setting.name}, {method}, {'trial' if do is run_trial else 'seed'} {number}"
