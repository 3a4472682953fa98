"""The demo: simulated subjects look at handwritten digits, and a small network is fitted to their RDMs.

Nothing is downloaded. The stimuli are scikit-learn's digits; the "brains" are simulated from a hidden network, which
was trained on other digits, plus noise. Because the true RDM is known, so is the score that a good student reaches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.evaluation.cross_validation import cross_validate
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.models.networks import build
from brainrdl.models.student import Student
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.training.loop import fit
from brainrdl.training.task import Task

PER_DIGIT = 10

LAYER = "pool"


def digits(per_digit: int = PER_DIGIT) -> tuple[Stimuli, Stimuli]:
    """Return two sets of scikit-learn's 8 x 8 digits: the stimuli, and others to train the hidden network on.

    Examples
    --------
    >>> shown, others = digits(per_digit=2)
    >>> len(shown), shown.names[0]
    (20, '0_00')
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    order = {digit: np.flatnonzero(data.target == digit) for digit in range(10)}
    shown = {f"{digit}_{k:02d}": i for digit, rows in order.items() for k, i in enumerate(rows[:per_digit])}
    rest = {f"{digit}_{k:03d}": i for digit, rows in order.items() for k, i in enumerate(rows[per_digit:])}
    first, second = (
        Stimuli.from_arrays(images[list(part.values())], list(part), labels={name: name[0] for name in part})
        for part in (shown, rest)
    )
    return first, second


def _hidden_patterns(shown: Stimuli, others: Stimuli, seed: int = 0, **options: Any) -> torch.Tensor:
    """Return the patterns for the `shown` stimuli in a network that was trained to classify `others`."""
    torch.manual_seed(seed)
    hidden = Student(build("small_cnn").module, [LAYER])
    training: dict[str, Any] = {
        "rdm_weight": 0,
        "task": Task(),
        "steps": 150,
        "batch_size": 100,
        "lr": 3e-3,
        "evaluate_every": 50,
    }
    fit(hidden, None, others, seed=seed, device="cpu", progress=False, **(training | options))
    return hidden.patterns(shown)[LAYER]


def run(
    out: Path | str | None = None, *, seeds: tuple[int, ...] = (0, 1), progress: bool = True, **options: Any
) -> Evaluation:
    """Simulate subjects, fit a small network to their RDMs by cross-validation, and score it on held-out digits.

    Parameters
    ----------
    out : path, optional
        Run folder; without it nothing is written.
    seeds : tuple of int
        Seeds of folds and initial weights.
    progress : bool
        Show a progress bar.
    **options
        Passed to `cross_validate`.

    Returns
    -------
    Evaluation
        ``settings["simulated"]`` is true.

    Examples
    --------
    >>> evaluation = run(seeds=(0,), folds=2, steps=2, controls=["unfitted"], progress=False)
    >>> evaluation.settings["simulated"], sorted(evaluation.summary.student.unique())
    (True, ['fitted', 'unfitted'])
    """
    shown, others = digits()
    brains = simulate_subjects(_hidden_patterns(shown, others), shown.names, n_subjects=8, n_voxels=50, noise=1.5)

    def make() -> Student:
        return Student(build("small_cnn").module, {LAYER: "IT"})

    settings: dict[str, Any] = {
        "folds": 5,
        "inner_folds": 0,
        "steps": 60,
        "lr": 3e-3,
        "evaluate_every": 10,
        "device": "cpu",
    }
    return cross_validate(
        make, RDMTeacher(brains, name="8 simulated subjects"), shown, seeds=seeds, out=out, progress=progress,
        facts={"simulated": True}, **(settings | options),
    )  # fmt: skip
