"""The options of `brainrdl.fit` and of a task, each defined once: its type, default, help and bounds.

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
    micro_batch: Annotated[
        int | None,
        Option(
            None,
            "Number of images that pass through the network together. The gradient stays that of the whole batch, in "
            "the memory of a micro-batch, for the time of one more forward pass. By default all pass together.",
            at_least=1,
        ),
    ]
    memory: Annotated[
        int,
        Option(
            0,
            "Number of conditions of earlier steps whose patterns are compared with those of the batch, without "
            "gradient: more pairs per step, for the time of the RDM loss only. The gradient only approximates that of "
            "a larger batch and can be worse than without; micro_batch gives the exact one.",
            at_least=0,
        ),
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
    warmup: Annotated[
        int,
        Option(0, "Number of first steps in which the learning rate rises to that of the schedule.", at_least=0),
    ]
    lr_of: Annotated[
        Mapping[str, float] | None,
        Option(
            None,
            "Learning rate of parameters by name or pattern, for example {layer1.*: 0, layer4.*: 1e-4}; 0 leaves them "
            "as they are. Names are those of the network's parameters; the first pattern that fits counts.",
        ),
    ]
    ema: Annotated[
        float | None,
        Option(
            None,
            "Average the weights over the steps with this factor of decay, for example 0.999; the averaged student is "
            "evaluated and returned. Not averaged by default.",
            at_least=0,
            below=1,
        ),
    ]
    channels_last: Annotated[
        bool,
        Option(False, "Store images and weights with channels last, which is faster for convolutions on GPUs."),
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
    tf32: Annotated[
        bool,
        Option(
            False,
            "Compute matrix products and convolutions of the network and of its gradient in TensorFloat-32 on GPUs "
            "that have it: faster, with about 3 decimal digits. RDMs are computed in float32. By default torch's "
            "settings are kept: TensorFloat-32 in convolutions only. On other devices this changes nothing.",
        ),
    ]
    fused: Annotated[
        bool,
        Option(
            False,
            "Use the optimiser's fused implementation, which updates all weights in one operation: faster for networks "
            "with many small layers on GPUs. Not for rmsprop or your own optimiser.",
        ),
    ]


class FitOptions(TrainingOptions, total=False):
    """Options of `fit`.

    Examples
    --------
    >>> from brainrdl.training import FitOptions
    >>> options: FitOptions = {"steps": 100, "seed": 3}
    """

    seed: Annotated[
        int,
        Option(
            0,
            "Seed of every random draw of the fit. Torch's global generator is the same before and after.",
            at_least=0,
            below=2**32,
        ),
    ]
    groups: Groups


class TaskOptions(TypedDict, total=False):
    """Options of `Task`, and keys of the section ``task`` of a recipe.

    Examples
    --------
    >>> options: TaskOptions = {"weight": 0.5, "label_smoothing": 0.1}
    """

    weight: Annotated[
        float | Callable[[int], float],
        Option(1.0, "Weight of the task's loss in the total loss.", "Or a function ``step -> weight``.", at_least=0),
    ]
    loss: Annotated[
        Literal["cross-entropy", "mse"] | Callable[..., Any],
        Option(
            "cross-entropy",
            "Loss: cross-entropy of logits and labels, or the mean squared error of outputs and values (mse).",
            "Or a function ``(logits, labels) -> Tensor``.",
        ),
    ]
    batch_size: Annotated[
        int | None,
        Option(
            None,
            "Number of task images per step; by default 128, or all of them if they are fewer. Without images for the "
            "task itself, the batch is that of the RDM.",
            at_least=1,
        ),
    ]
    layer: Annotated[
        str | None, Option(None, "Module whose output is compared with the labels; by default the network's output.")
    ]
    class_weights: Annotated[
        Mapping[str, float] | None,
        Option(None, "Weight of each category in the cross-entropy; 1 for categories that are not listed."),
    ]
    label_smoothing: Annotated[
        float, Option(0.0, "Label smoothing of the cross-entropy, from 0 to below 1.", at_least=0, below=1)
    ]
    overlap: Annotated[
        Literal["refuse", "drop"],
        Option(
            "refuse",
            "Task images that are byte-identical to validation or held-out stimuli of the RDM: refuse the fit, or drop "
            "these images from the task. In a cross-validation each fold drops those that it holds out.",
        ),
    ]
