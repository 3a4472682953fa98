"""The options of `brainrdl.fit`, each defined once: its type, default, help and bounds.

To add an option, add a field here. The signature and docstring of `fit` and `cross_validate`, editors' completion, the
reference, the keys of a recipe and its template, the settings of a run and the report are made from these fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from brainrdl._core.options import Option

Groups = Annotated[
    Mapping[str, str] | Path | None,
    Option(
        None,
        "Group of each stimulus (its object, identity or video): stimuli of one group stay in one fold, inner fold or "
        "part. A mapping, or a CSV file with columns stimulus and group. Stimuli that are not listed form groups of "
        "one.",
    ),
]

OPTIMISER_WORDS = {  # in the report's text on methods
    "adam": "the optimiser Adam",
    "adamw": "the optimiser AdamW",
    "sgd": "stochastic gradient descent",
    "momentum": "stochastic gradient descent with momentum 0.9",
    "rmsprop": "the optimiser RMSprop",
}


class TrainingOptions(TypedDict, total=False):
    """Options of `fit` that `cross_validate` and recipes accept as well.

    Examples
    --------
    >>> from brainrdl.training import TrainingOptions
    >>> options: TrainingOptions = {"steps": 100, "lr": 1e-2}
    """

    rdm_weight: Annotated[float, Option(1.0, "Weight of the RDM loss in the total loss.", at_least=0)]
    balance: Annotated[
        Literal["fixed", "uncertainty", "gradient norms"],
        Option(
            "fixed",
            "How the losses of RDM and task are weighted: as given (fixed), by trained uncertainties (Kendall et al. "
            "2018), or so that the weights are the ratios of the norms of their gradients.",
        ),
    ]
    steps: Annotated[int, Option(200, "Number of optimiser steps.", at_least=0)]
    batch_size: Annotated[
        int | None, Option(None, "Number of conditions per step; all training conditions by default.", at_least=1)
    ]
    workers: Annotated[
        int,
        Option(
            0,
            "Number of processes that load and transform images ahead of the training steps. The result does not "
            "depend on it.",
            at_least=0,
            fixed=False,
        ),
    ]
    optimizer: Annotated[
        Literal["adam", "adamw", "sgd", "momentum", "rmsprop"] | Callable[..., Any],
        Option(
            "adam",
            "Optimiser by name; momentum is SGD with momentum 0.9.",
            "Or a function ``(parameters, lr=, weight_decay=) -> Optimizer``.",
        ),
    ]
    lr: Annotated[float, Option(1e-3, "Learning rate of the optimiser.", above=0)]
    weight_decay: Annotated[float, Option(0.0, "Weight decay of the optimiser.", at_least=0)]
    schedule: Annotated[
        Literal["constant", "cosine", "linear"] | Callable[..., Any],
        Option(
            "constant",
            "Schedule of the learning rate by name.",
            "Or a function ``optimizer -> LRScheduler``; the scheduler advances once per step.",
        ),
    ]
    clip: Annotated[float | None, Option(None, "Clip the gradient to this norm; not clipped by default.", above=0)]
    patience: Annotated[
        int | None,
        Option(
            None,
            "Stop after this many evaluations without improvement on the validation stimuli; never by default, or if "
            "there are no validation stimuli.",
            at_least=1,
        ),
    ]
    monitor: Annotated[
        Literal["similarity", "accuracy", "task loss", "both"],
        Option(
            "similarity",
            "Measure that selects the best evaluation on the validation stimuli: RDM correlation, task accuracy, the "
            "lowest loss of the task, or the sum of correlation and accuracy (both).",
        ),
    ]
    evaluate_every: Annotated[int, Option(10, "Number of steps between evaluations.", at_least=1)]
    checkpoint_every: Annotated[int, Option(100, "Number of steps between checkpoints in the run folder.", at_least=1)]
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        Option(
            "auto",
            "Device to train on; start with ``torchrun`` or ``accelerate launch`` to use several.",
            fixed=False,
        ),
    ]
    mixed_precision: Annotated[
        Literal["no", "fp16", "bf16"],
        Option("no", "Precision of the network; RDMs are always computed in float32."),
    ]


class FitOptions(TrainingOptions, total=False):
    """Options of `fit`.

    Examples
    --------
    >>> from brainrdl.training import FitOptions
    >>> options: FitOptions = {"steps": 100, "seed": 3}
    """

    seed: Annotated[
        int, Option(0, "Seed of torch's global generator and of every random draw of the fit.", at_least=0, below=2**32)
    ]
    groups: Groups
