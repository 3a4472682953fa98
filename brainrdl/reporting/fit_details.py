"""How networks were fitted, in sentences: network and readout, optimisation, steps, device and time, and data.

Each sentence states only what the run recorded. A cross-validation records the options that were given; its fits record
all of them, so they are read from the folders of the fits if there are any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl._core.rows import Role
from brainrdl.reporting.run import Run
from brainrdl.reporting.wording import and_joined, counted, number
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.registry import SIMILARITIES

_SHORT = 12  # characters of a checksum in a sentence; the provenance has all

_LISTED = 30  # numbers of steps that are written out

_POOLED = {
    "flatten": "all units",
    "avgpool": "averages over positions",
    "maxpool": "maxima over positions",
}

_PROJECTED = {"square": "a linear projection with as many outputs as channels", "diagonal": "a weight for each channel"}

_TRAINED = {
    "all": "All weights were trained.",
    "as is": "The weights that the network does not freeze were trained.",
    "projection": "The network was not changed; only the projections were trained.",
    "none": "Nothing was trained.",
}

_BATCHNORM = {
    "eval": "Statistics of batch normalisation stayed those of the network.",
    "train": "Statistics of batch normalisation were those of each batch.",
}


def details_of(run: Run) -> Iterator[str]:
    """Give the paragraphs on network, optimisation, steps, device and data."""
    yield " ".join(_networks(run))
    if run.was_fitted or run.evaluation is None:
        yield " ".join([*_optimisation(run), *_steps(run)])
        yield " ".join(_computing(run))
    yield " ".join(_data(run))


# The network


def _networks(run: Run) -> Iterator[str]:
    networks = run.settings.get("networks")
    known = networks if isinstance(networks, Mapping) else {"": run.settings} if "network" in run.settings else {}
    described: dict[str, list[str]] = {}
    for label, network in known.items():
        described.setdefault(_network(network, run.settings.get("recipe_student")), []).append(label)
    for text, labels in described.items():
        yield f"{and_joined(f'“{label}”' for label in labels)}: {text}" if len(described) > 1 else text


def _network(network: Mapping[str, Any], asked: Any) -> str:
    asked = asked if isinstance(asked, Mapping) else {}
    name = str(asked.get("model") or str(network["network"]).rpartition(".")[2])
    weights = f"weights “{asked['weights']}”, " if asked.get("weights") else ""
    text = [
        f"The network was {name} ({network['n_parameters']:,} parameters; {weights}SHA-256 of its weights before "
        f"fitting {str(network['initial_weights'])[:_SHORT]})."
    ]
    text += [f"Patterns of layer {layer} were {_readout(how)}." for layer, how in network.get("readouts", {}).items()]
    trained, norm = str(network.get("trainable")), str(network.get("batchnorm"))
    start = trained.removeprefix("from:")
    if start != trained:
        text += [f"The weights from layer {start} on, and of any projections, were trained."]
    text += [words for words in (_TRAINED.get(trained), _BATCHNORM.get(norm)) if words]
    return " ".join(text)


def _readout(how: Mapping[str, Any]) -> str:
    pool = str(how.get("pool"))
    parts = [_POOLED.get(pool, f"its outputs pooled by “{pool}”")]
    parts += ["standardised per channel"] if how.get("standardise") else []
    projection = how.get("projection")
    if projection is not None:
        parts += [f"followed by {_PROJECTED.get(str(projection), f'a linear projection ({projection})')}"]
    return ", ".join(parts)


# The optimisation


def _optimisation(run: Run) -> Iterator[str]:
    options = {**run.recorded, **run.fit_options}
    loss = options.get("loss")
    if isinstance(loss, Mapping) and loss.get("similarity"):
        name = str(loss["similarity"])
        similarity = label_of(name) if name in SIMILARITIES else name
        yield f"The loss was computed from the {similarity} of student and target RDM (form: {loss.get('form')})."
    if parts := [words for words in _options(options) if words]:
        yield f"Optimisation: {and_joined(parts, most=20)}."


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    if "lr" in options:
        yield f"learning rate {options['lr']:g}"
    if "weight_decay" in options:
        yield f"weight decay {options['weight_decay']:g}"
    if "schedule" in options:
        yield f"{options['schedule']} schedule"
    if options.get("warmup"):
        yield f"warm-up of {options['warmup']} steps"
    if "batch_size" in options:
        size = options["batch_size"]
        yield f"{size} conditions per step" if size else "all training conditions in each step"
    if options.get("micro_batch"):
        yield f"micro-batches of {options['micro_batch']}"
    if options.get("lr_of"):
        yield f"learning rates of single parts {options['lr_of']}"
    if options.get("ema") is not None:
        yield f"weights averaged over steps with decay {options['ema']:g}"
    if options.get("clip") is not None:
        yield f"gradients clipped to a norm of {options['clip']:g}"
    if options.get("mixed_precision") not in (None, "no"):
        yield f"mixed precision {options['mixed_precision']}"
    if options.get("patience") is not None:
        yield f"stopped after {options['patience']} evaluations without improvement"
    if "evaluate_every" in options:
        every = options["evaluate_every"]
        yield "an evaluation after each step" if every == 1 else f"an evaluation every {every} steps"


def _steps(run: Run) -> Iterator[str]:
    """Say how many steps led to each student, where folds chose them."""
    if run.evaluation is None:
        if run.best_step is not None:
            yield f"The weights of step {run.best_step} were kept."
        return
    chosen = run.settings.get("inner_folds") or run.histories.get("validation_similarity", pd.Series(dtype=float)).any()
    for student, steps in _steps_of_students(run.histories).items():
        if len(set(steps)) == 1:
            yield f"“{student}” was fitted for {counted(steps[0], 'step', 'steps')} in each fold."
        elif chosen:
            middle = f"{pd.Series(steps).median():g}"
            single = f"; by seed and fold: {', '.join(map(str, steps))}" if len(steps) <= _LISTED else ""
            range_ = f"{min(steps)} to {max(steps)} (median {middle}{single})"
            yield f"The chosen numbers of steps of “{student}” were {range_}."


def _steps_of_students(histories: pd.DataFrame) -> dict[str, list[int]]:
    """Return the number of steps that led to the weights of each final fit of each student."""
    if histories.empty or not {"student", "role", "inner"} <= set(histories):
        return {}
    final = histories[(histories["inner"] == -1) & (histories["role"] == Role.STUDENT.value)]
    keys = [column for column in ("seed", "fold", "left_out") if column in final]
    found: dict[str, list[int]] = {}
    for (student, *_), fit in final.groupby(["student", *keys], sort=False, dropna=False):
        found.setdefault(str(student), []).append(_best_step(fit))
    return found


def _best_step(fit: pd.DataFrame) -> int:
    steps, measured = fit["step"].to_numpy(int), fit.get("validation_similarity", pd.Series(dtype=float))
    return int(steps[np.nanargmax(measured.to_numpy(float))] if measured.notna().any() else steps.max())


# Computing and data


def _computing(run: Run) -> Iterator[str]:
    devices, platform = run.devices, (run.provenance or {}).get("platform")
    histories = run.histories
    if devices:
        where = f" ({platform})" if platform else ""
        yield f"Fits were computed on {and_joined(devices)}{where}."
    if "seconds" in histories and histories["seconds"].notna().any():
        keys = [column for column in ("student", "seed", "fold", "left_out", "inner") if column in histories]
        of_fits = histories.groupby(keys, dropna=False)["seconds"].max() if keys else histories["seconds"].tail(1)
        fits = counted(len(of_fits), "fit", "fits")
        yield f"The optimiser steps of {fits} took {_duration(float(of_fits.sum()))} in total."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{number(seconds, 1)} s"
    return f"{number(seconds / 60, 1)} min" if seconds < 5400 else f"{number(seconds / 3600, 1)} h"


def _data(run: Run) -> Iterator[str]:
    transform = run.settings.get("transform")
    if transform:
        yield f"Images were transformed by {transform}."
    hashes = {**((run.provenance or {}).get("hashes") or {}), **(run.settings.get("hashes") or {})}
    names = {"stimuli": "images", "teacher": "RDMs", "labels": "categories"}
    listed = [f"{names.get(what, what)} {str(value)[:_SHORT]}" for what, value in hashes.items()]
    if listed:
        yield f"SHA-256 of the data (first {_SHORT} characters; the provenance has all): {and_joined(listed)}."
