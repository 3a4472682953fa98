"""`cross_validate_models`: fit models with parameters to some stimuli (and subjects), and score them on the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from brainrdl._core.errors import (
    arg,
    check_conditions,
    check_option,
    check_text,
    check_unique,
    quote,
    refuse,
)
from brainrdl._core.progress import track_slow
from brainrdl._core.rows import Role
from brainrdl.evaluation.baselines import constant_rows
from brainrdl.evaluation.folds import stimulus_folds
from brainrdl.evaluation.held_out import Evaluation, assemble
from brainrdl.evaluation.options import COMPARATORS, Intervals, Splitter, resamples
from brainrdl.evaluation.plan import Split
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.rdm_models.combinations import FixedModel
from brainrdl.rdm_models.protocol import RDMModel
from brainrdl.rdm_models.targets import subjects_of_targets
from brainrdl.rdms.by_name import names as names_of
from brainrdl.stimuli.categories import groups_of

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_FEWEST_PAIRS = 3


def cross_validate_models(
    models: Mapping[str, RDMModel | RDMs],
    rdms: RDMs,
    names: Sequence[str] | None = None,
    *,
    average_over: str | Sequence[str] = (),
    folds: int | Splitter = 5,
    seeds: Sequence[int] = (0,),
    subjects: Literal["all", "leave-one-out"] = "all",
    labels: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | pd.Series | str | Path | None = None,
    comparators: Sequence[str] = COMPARATORS,
    intervals: Intervals = "dyadic",
    n_bootstrap: int | None = None,
    progress: bool = True,
) -> Evaluation:
    """Fit models to training stimuli and score them on pairs of stimuli that were held out together.

    All models have the same folds, so that their differences are tested on the same pairs. Models without parameters
    are scored in the same way.

    Parameters
    ----------
    models : mapping of name to RDMModel or RDMs
        Models of `brainrdl.rdm_models`, or your own with ``fit(rdms, names)``; one RDM is a fixed model.
    rdms : RDMs
        Data; the rdm descriptor ``"subject"`` distinguishes subjects, others distinguish targets. Models are fitted to
        each target.
    names : sequence of str, optional
        Conditions to use; by default all of `rdms`. Models must know them.
    average_over : str or sequence of str
        Rdm descriptors over which a subject's RDMs are averaged, for example ``"session"``.
    folds : int or scikit-learn splitter
        Folds over conditions, see `stimulus_folds`.
    seeds : sequence of int
        The cross-validation is repeated with each, with other folds.
    subjects : {"all", "leave-one-out"}
        Fit to all subjects, or also hold out one subject at a time and score against that one alone.
    labels : mapping of name to category, optional
        Categories, to distribute evenly over folds.
    groups : mapping of name to group, optional
        Conditions that are held out together.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    intervals : {"dyadic", "dual-bootstrap", "none"}
        How intervals are computed; see `brainrdl.inference.intervals`.
    n_bootstrap : int, optional
        Number of resamples for the dual bootstrap, 1000 by default; others need none.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    Evaluation
        `summary` has the scores with intervals and ceilings, `contrasts` the differences between all models, and
        ``settings["parameters"]`` the fitted numbers: a list of rows (model, target, seed, fold, left_out, parameter,
        value) for `pandas.DataFrame`.

    Raises
    ------
    BrainrdlError
        If a model lacks conditions or cannot be fitted, folds are too small, or an option is unknown.

    Notes
    -----
    Intervals do not contain the variance of fitting to other stimuli explicitly; for fitted maps, simulations show that
    they cover it (docs/validity.md).

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl.rdm_models import WeightedModel
    >>> from brainrdl.rdms import from_array
    >>> random, names = np.random.default_rng(0), [f"image{k}" for k in range(16)]
    >>> first, second = random.random((2, 120))
    >>> layers = {"first": from_array(first, names), "second": from_array(second, names)}
    >>> data = from_array(first + second + random.random((3, 120)), names, descriptors={"subject": list("abc")})
    >>> result = cross_validate_models({"weighted": WeightedModel(layers), **layers}, data, folds=2)
    >>> scores = result.summary.query("comparator == 'corr' and against == 'mean'").set_index("student")["score"]
    >>> bool(scores["weighted"] > scores["first"])
    True
    """
    check_option(subjects, ("all", "leave-one-out"), "subjects")
    n_bootstrap = resamples(intervals, n_bootstrap)
    conditions = _conditions(rdms, names)
    fitters = _as_models(models)
    truth = {
        target: TeacherRDMs(target, conditions, of_whom, pairs, getattr(rdms, "dissimilarity_measure", None))
        for target, (of_whom, pairs) in subjects_of_targets(rdms, conditions, average_over).items()
    }
    grouped = groups_of(groups, conditions)
    tables = [(seed, stimulus_folds(conditions, folds, labels=labels, groups=grouped, seed=seed)) for seed in seeds]
    parameters: list[dict[str, Any]] = []
    held_out: list[HeldOut] = []
    jobs = [
        (_Fold(split, known), name, model)
        for known in truth.values()
        for split in _splits(tables, conditions, known.subjects, subjects)
        for name, model in fitters.items()
    ]
    for work, name, model in track_slow(jobs, "models", len(jobs), progress):
        found, rows = work.fitted(name, model)
        held_out += found
        parameters += rows
    if not held_out:
        refuse(f"no fold of the targets {quote(truth)} has {_FEWEST_PAIRS} known pairs to fit a model to")
    judging: dict[str, Any] = {"comparators": list(comparators), "intervals": intervals, "n_bootstrap": n_bootstrap}
    design = {"folds": folds, "seeds": list(seeds), "subjects": subjects, "n_stimuli": len(conditions)}
    settings: dict[str, Any] = {"models": list(models), **design, **judging, "constant": constant_rows(held_out)}
    settings["parameters"] = parameters
    parts: dict[str, Any] = {"labels": labels, "settings": settings, "progress": progress}
    return assemble(held_out, truth, comparators, intervals, n_bootstrap, seeds[0], **parts)


def _conditions(rdms: RDMs, names: Sequence[str] | None) -> tuple[str, ...]:
    known = names_of(rdms)
    if names is None:
        return known
    check_unique(names, "names")
    check_conditions(names, known, "the RDMs")
    return tuple(names)


def _as_models(models: Mapping[str, RDMModel | RDMs]) -> dict[str, RDMModel]:
    from rsatoolbox.rdm import RDMs

    check_text(models, "the models")
    if not models:
        refuse(f"there is no model to score; give {arg('models')} as a mapping of name to model")
    found: dict[str, RDMModel] = {}
    for name, model in models.items():
        given = FixedModel(model) if isinstance(model, RDMs) else model
        if not isinstance(given, RDMModel):
            refuse(f"model {name!r} should be RDMs, or have the method fit(rdms, names); got {type(model).__name__}")
        found[name] = given
    return found


def _splits(
    tables: Sequence[tuple[int, pd.DataFrame]], names: Sequence[str], of_whom: Sequence[str], subjects: str
) -> Iterator[Split]:
    if subjects == "leave-one-out" and len(of_whom) < 2:
        refuse(f"subjects='leave-one-out' needs at least 2 subjects, got {quote(of_whom)}")
    for seed, table in tables:
        for fold, part in table.groupby("fold"):
            test = tuple(part["stimulus"])
            train = tuple(name for name in names if name not in set(test))
            for left_out in of_whom if subjects == "leave-one-out" else ("",):
                yield Split(seed, int(str(fold)), train, test, left_out)


@dataclass(frozen=True)
class _Fold:
    """The training RDMs of one target."""

    split: Split
    truth: TeacherRDMs

    def fitted(self, name: str, model: RDMModel) -> tuple[list[HeldOut], list[dict[str, Any]]]:
        """Return the predicted RDM of the held-out conditions and the fitted parameters; none if nothing is known."""
        kept = [k for k, subject in enumerate(self.truth.subjects) if subject != self.split.left_out]
        seen = self.truth.of(self.split.train)[kept]
        if int((~seen.isnan()).any(0).sum()) < _FEWEST_PAIRS:
            return [], []
        found = model.fit(seen, self.split.train)
        row = HeldOut(
            student=name,
            role=Role.FITTED,
            target=self.truth.target,
            names=self.split.test,
            pairs=found.predict(self.split.test),
            seed=self.split.seed,
            fold=self.split.fold,
            left_out=self.split.left_out,
        )
        where = {"model": name, "target": row.target, "seed": row.seed, "fold": row.fold, "left_out": row.left_out}
        return [row], [where | {"parameter": what, "value": value} for what, value in found.parameters.items()]
