"""The protocol that the distillation experiments share: tuning, runs, and tables of results.

Every method (see `docs.experiments.methods`) has the same number of tuning trials, with the same learning rates and
weight decays, on images on which the students of the trials are not trained, and which are not test images.

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

import pandas as pd
import torch
from joblib import Parallel, delayed

from brainrdl import DivergedError, Stimuli
from docs.experiments.measures import MEASURES, Exam, error_rate, guesses, measure
from docs.experiments.methods import METHODS, Method, Problem, learn
from docs.experiments.results import Results

RESULTS = Path(__file__).parent / "results"
KEY = ("experiment", "setting", "method", "seed")
TRIAL_KEY = ("experiment", "setting", "method", "trial")
DESIGN = "design"  # column with the digest of all that a setting shares


# Tuning


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

    def __post_init__(self) -> None:
        trials = {setting.name: setting.trials for setting in self.settings}
        for setting in self.settings:
            source = setting.tuned_as or setting.name
            if setting.trials != trials[source]:
                raise ValueError(f"{setting.name!r} uses {setting.trials} of the {trials[source]} trials of {source!r}")


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
    except DivergedError:
        error, nll, seconds = 1.0, math.inf, math.nan
    trials_of(experiment, folder).add({
        "experiment": experiment, "setting": setting.name, "method": method, "trial": number,
        DESIGN: setting.digest, "error": error, "nll": nll, "cpu_seconds": seconds, "options": json.dumps(options),
    })  # fmt: skip


def run_final(experiment: str, setting: Setting, method: str, seed: int, folder: Path) -> None:
    """Train one student with the chosen settings, measure it on the test images, and store the row.

    A student whose training diverges counts as one that always answers the first class; its other measures are empty.
    """
    options = chosen(experiment, setting, method, folder)
    if options is None:
        raise ValueError(f"the trials of {METHODS[method].settings_of or method!r} are missing")
    try:
        student, seconds = learn(setting.problem(seed), method, options, seed)
        found = measure(student, setting.exam())
    except DivergedError:
        found, seconds = guesses(setting.exam()), math.nan
    results_of(experiment, folder).add({
        "experiment": experiment, "setting": setting.name, "method": method, "seed": seed,
        DESIGN: setting.digest, **found, "cpu_seconds": seconds,
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
    named = {"experiment": experiment, "setting": setting.name}
    shared = named | {DESIGN: setting.digest, "steps": steps}
    table.replace(named, [{**shared, "method": name, "cpu_seconds": seconds} for name, seconds in shortest.items()])


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
            check_rows(experiment.name, setting, asked.out)
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
