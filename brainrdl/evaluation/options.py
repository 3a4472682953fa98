"""The options of `cross_validate` in addition to those of `fit`, each defined once: type, default, help, bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, TypedDict, get_args, runtime_checkable

from brainrdl._core.constants import TeacherControl
from brainrdl._core.errors import arg, check_option, check_whole, refuse
from brainrdl._core.options import Names, Option
from brainrdl.training.options import Groups, TrainingOptions

Control = Literal["unfitted", "reweighted", TeacherControl]

CONTROLS: tuple[Control, ...] = get_args(Control)
"""All controls of an evaluation."""

MODEL_CONTROLS: tuple[Control, ...] = ("category", "pixels")  # scored as they are; a student is fitted to the others

Intervals = Literal["dyadic", "dual-bootstrap", "none"]

COMPARATORS = ("spearman", "corr")
"""The comparators of scores by default."""

_RESAMPLES, _FEWEST_RESAMPLES = 1000, 2  # by default, and of each kind for a variance


def resamples(intervals: str, n_bootstrap: int | None) -> int | None:
    """Return the number of resamples, 1000 by default; None if these intervals need none.

    Parameters
    ----------
    intervals : {"dyadic", "dual-bootstrap", "none"}
    n_bootstrap : int or None

    Returns
    -------
    int or None

    Raises
    ------
    BrainrdlError
        If the intervals are unknown, or a number is given that is not whole, below 2, or would have no effect.

    Examples
    --------
    >>> resamples("dual-bootstrap", None), resamples("dyadic", None)
    (1000, None)
    """
    bootstrapped = check_option(intervals, get_args(Intervals), "intervals") == "dual-bootstrap"
    if n_bootstrap is None:
        return _RESAMPLES if bootstrapped else None
    check_whole(n_bootstrap, "n_bootstrap", 0)
    if not bootstrapped:
        refuse(
            f"{arg('n_bootstrap', n_bootstrap)} has no effect with {arg('intervals', intervals)}, which resamples "
            f"nothing; leave it out, or use {arg('intervals', 'dual-bootstrap')}"
        )
    if n_bootstrap < _FEWEST_RESAMPLES:
        refuse(f"{arg('intervals', intervals)} needs at least {_FEWEST_RESAMPLES} resamples, got {n_bootstrap}")
    return n_bootstrap


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
            "for each channel (reweighted: feature-reweighted RSA, layers of at most 2,048 channels); the student "
            "fitted in the same way to the teacher's RDMs under names shuffled among the training stimuli (permuted) "
            "or within their categories (permuted_within_class), to random RDMs with the spectrum of the teacher's "
            "(spectrum), or to the RDMs of the teacher's network with random weights (random); and the RDMs of "
            "categories (category) and of pixels (pixels). By default unfitted, reweighted, permuted and, with labels, "
            "category; listed ones must be possible.",
            may_be_empty=True,
            fixed=False,
        ),
    ]
    intervals: Annotated[
        Intervals,
        Option(
            "dyadic",
            "How 95% intervals and p-values over stimuli and subjects are computed: from the influence of stimuli, "
            "pairs and subjects (dyadic); by rsatoolbox's dual bootstrap, which is conservative, up to three times too "
            "wide (dual-bootstrap); or not at all (none).",
            fixed=False,
        ),
    ]
    n_bootstrap: Annotated[
        int | None,
        Option(
            None,
            "Resamples of stimuli and subjects for the dual bootstrap, by default 1000; refused with other intervals, "
            "which need none.",
            at_least=0,
            fixed=False,
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
