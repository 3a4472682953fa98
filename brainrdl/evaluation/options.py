"""The options of `cross_validate` in addition to those of `fit`, each defined once: type, default, help, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, TypedDict, get_args, runtime_checkable

from brainrdl._core.options import Names, Option
from brainrdl.training.options import Groups, TrainingOptions

Control = Literal["unfitted", "reweighted", "permuted", "category"]

CONTROLS: tuple[Control, ...] = get_args(Control)

Intervals = Literal["dyadic", "dual-bootstrap", "none"]

COMPARATORS = ("spearman", "corr")


@runtime_checkable
class Splitter(Protocol):
    """A scikit-learn splitter: ``split(X, y)`` yields positions of training and test conditions."""

    def split(self, X: Any, y: Any = None) -> Any:
        """Yield the positions of training and test conditions of each fold."""


class EvaluationOptions(TypedDict, total=False):
    """Options of `cross_validate` in addition to those of `fit`.

    Examples
    --------
    >>> from brainrdl.evaluation import EvaluationOptions
    >>> options: EvaluationOptions = {"folds": 4, "seeds": [0, 1]}
    """

    folds: Annotated[
        int | Splitter,
        Option(5, "Number of folds over stimuli.", "Or a scikit-learn splitter.", at_least=2),
    ]
    seeds: Annotated[
        Sequence[int],
        Option(
            (0,),
            "Seeds; the whole cross-validation is repeated with each, with other folds, initial weights and batches.",
            at_least=0,
            below=2**32,
        ),
    ]
    stratify: Annotated[
        bool, Option(True, "Distribute the categories of the stimuli evenly over folds and inner folds.")
    ]
    groups: Groups
    inner_folds: Annotated[
        int,
        Option(
            0,
            "If above 1, choose the number of steps for each training fold by cross-validation inside it (the best "
            "evaluation of the mean validation curve, step 0 included), then fit on the whole training fold for "
            "that many steps. Needs a schedule that does not depend on the number of steps.",
            at_least=0,
        ),
    ]
    subjects: Annotated[
        Literal["all", "leave-one-out"],
        Option(
            "all",
            "Train on the RDMs of all subjects, or also hold out one subject at a time and score against that alone.",
        ),
    ]
    comparators: Annotated[
        Sequence[Annotated[str, Names("brainrdl.similarity.registry:SIMILARITIES")]],
        Option(COMPARATORS, "Similarities for comparing RDMs.", fixed=False),
    ]
    controls: Annotated[
        Sequence[Control] | None,
        Option(
            None,
            "Controls for each student: the student before fitting (unfitted), and the same with a non-negative weight "
            "for each channel (reweighted, feature-reweighted RSA; layers of at most 2,048 channels); the student "
            "fitted in the same way to a teacher whose names are shuffled among the training stimuli (permuted); and "
            "category models (category), which need labels. By default all that are possible; listed ones must be.",
            may_be_empty=True,
            fixed=False,
        ),
    ]
    intervals: Annotated[
        Intervals,
        Option(
            "dyadic",
            "How 95 % intervals and p-values over stimuli and subjects are computed: from the influence of stimuli, "
            "pairs and subjects (dyadic); by rsatoolbox's dual bootstrap, which is conservative, up to three times too "
            "wide (dual-bootstrap); or not at all (none).",
            fixed=False,
        ),
    ]
    n_bootstrap: Annotated[
        int,
        Option(
            1000, "Resamples of stimuli and subjects for the dual bootstrap; others need none.", at_least=0, fixed=False
        ),
    ]
    n_jobs: Annotated[
        int | None,
        Option(
            None,
            "Number of processes that fit at the same time, each with its share of the cores and its own GPU; -1 for "
            "one per core. Results are the same. By default 1.",
            "Or as in ``joblib.parallel_config``, which can also choose a cluster.",
            at_least=-1,
            fixed=False,
        ),
    ]


class CrossValidationOptions(EvaluationOptions, TrainingOptions, total=False):
    """Options of `cross_validate`: its own and those of each fit.

    Examples
    --------
    >>> from brainrdl.evaluation import CrossValidationOptions
    >>> options: CrossValidationOptions = {"folds": 4, "steps": 100}
    """
