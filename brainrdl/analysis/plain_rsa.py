"""Plain RSA in one call: any number of models with any number of regions, subjects and time points."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.errors import arg, check_option, check_text, check_whole, nearest, quote, refuse
from brainrdl._core.threads import threads_for
from brainrdl.analysis.best_layers import best_layers
from brainrdl.analysis.comparisons import Sampling, TargetRDMs, compare_all
from brainrdl.analysis.group_differences import group_differences
from brainrdl.analysis.model_sources import ModelRDM, Source, model_rdms_of
from brainrdl.analysis.rsa_result import RSAResult
from brainrdl.dissimilarity.measures import Dissimilarity
from brainrdl.evaluation.held_out import teacher_rdms
from brainrdl.evaluation.options import COMPARATORS, Intervals, resamples
from brainrdl.inference.corrections import Correction
from brainrdl.inference.pairwise import is_constant
from brainrdl.rdms import conversion
from brainrdl.rdms.by_name import alignment
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher, check_stored, known_conditions
from brainrdl.teachers.rdm_teacher import Names, RDMTeacher

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_FEW_TARGETS = 20  # are compared with each other by default

_PER_NUMBER = 100  # floating-point operations for each pair that is compared: ranks, products, sums


def rsa(
    models: Source | Sequence[Source] | Mapping[str, Source],
    data: RDMs | Path | str | Teacher,
    *,
    stimuli: Stimuli | Path | str | None = None,
    weights: str | Path | None = None,
    comparators: str | Sequence[str] = COMPARATORS,
    dissimilarity: str | Dissimilarity | None = None,
    by: str = "stimulus",
    names: Names | None = None,
    target_by: str | Sequence[str] | None = None,
    subject_by: str = "subject",
    average_over: str | Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    allow_missing: bool = False,
    between_targets: bool | None = None,
    intervals: Intervals = "dyadic",
    n_bootstrap: int | None = None,
    correction: Correction = "holm",
    folds: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> RSAResult:
    """Compare models with the RDMs of brains (or of behaviour, or of other networks), without fitting anything.

    Conditions are matched by name. RDMs of the data that differ in the subject are of different subjects; RDMs that
    differ in another descriptor (region, time, session) are different targets, which are scored one by one.

    Parameters
    ----------
    models : model, sequence of models, or mapping of name to model
        Each is one of: rsatoolbox RDMs or a file of RDMs (each RDM is a model; RDMs with a descriptor "layer" are
        layers of one network; RDMs with a descriptor "subject" are for one subject each); a `Student` or the result of
        `fit`; the run folder of a fitted network; or the name of a network with its layers,
        ``"resnet18:layer1,layer4"``.
    data : RDMs, path, or Teacher
        RDMs to compare with, as for `RDMTeacher`; or any teacher.
    stimuli : Stimuli or path, optional
        Images of the conditions, or their folder; needed for networks.
    weights : str or path, optional
        Weights of networks that are given by name: ``"DEFAULT"`` (trained), a name or a file, as for
        `brainrdl.models.build`, or ``"random"``. Needed for networks that have trained weights.
    comparators : str or sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    dissimilarity : str or callable, optional
        Dissimilarity of the networks' patterns; by default "correlation", for a run folder that of its loss.
    by, names, target_by, subject_by, average_over
        As for `RDMTeacher`.
    groups : mapping of subject to group, optional
        Groups of subjects whose scores are compared, for example patients and controls. Subjects without a group do not
        count in this comparison.
    allow_missing : bool
        If models, stimuli and data have different conditions, use the common ones, with a warning; by default this is
        an error.
    between_targets : bool, optional
        Whether to compare the scores of a model with two targets; by default if there are at most 20 targets. Targets
        with other conditions or subjects are not compared with each other, with a warning if `between_targets` is True.
    intervals : {"dyadic", "dual-bootstrap", "none"}
        How 95% intervals and p-values are computed, see `brainrdl.inference.intervals`: calibrated ones from the
        influence of stimuli, pairs and subjects; those of rsatoolbox's dual bootstrap, which are conservative, up to
        three times too wide; or none, for many models. The test against the noise ceiling (``p_ceiling``) and the best
        layers have the calibrated ones in both cases.
    n_bootstrap : int, optional
        Number of resamples for the dual bootstrap, 1000 by default; others need none.
    correction : {"holm", "fdr", "fdr-dependent", "none"}
        How p-values are corrected for their number, see `brainrdl.inference.corrected`.
    folds : int
        Number of folds over stimuli for choosing the best layer of a network; 0 chooses none.
    seed : int
        Seed of the folds, and of the resamples.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    RSAResult
        ``summary``, ``contrasts``, ``best_layers``, ``scores``; ``save(folder)`` writes them with figures and a page.

    Raises
    ------
    BrainrdlError
        If conditions differ, fewer than 4 are common, a model RDM is constant or has unknown pairs, names are not
        unique, a network has no images or weights, or an option is unknown.

    Warns
    -----
    UserWarning
        If conditions are left out because `allow_missing` is True, or `between_targets` is True and some targets cannot
        be compared.

    Examples
    --------
    >>> import numpy as np
    >>> from brainrdl import rdms, rsa
    >>> names, rng = list("abcdefgh"), np.random.default_rng(0)
    >>> size, colour = rng.random((2, 28))
    >>> brain = rdms.from_array(size + 0.5 * rng.random((5, 28)), names, descriptors={"subject": list("12345")})
    >>> models = {"size": rdms.from_array(size, names), "colour": rdms.from_array(colour, names)}
    >>> result = rsa(models, brain, comparators="corr")
    >>> result.summary.query("against == 'subjects'")[["model", "n_subjects"]].values.tolist()
    [['size', 5], ['colour', 5]]
    >>> bool(result.contrasts.difference.iloc[0] > 0)
    True
    """
    comparators = (comparators,) if isinstance(comparators, str) else tuple(dict.fromkeys(comparators))
    for comparator in comparators:
        check_option(comparator, SIMILARITIES, "comparator")
    how = Sampling(intervals, resamples(intervals, n_bootstrap) or 0, seed)
    check_option(correction, get_args(Correction), "correction")
    check_whole(folds, "folds", 0)
    check_whole(seed, "seed", 0, 2**32)
    teacher = _teacher(data, by, names, target_by, subject_by, average_over)
    shown = stimuli if isinstance(stimuli, Stimuli) or stimuli is None else Stimuli.from_folder(stimuli)
    conditions = _conditions(teacher, shown)
    found = model_rdms_of(
        models, shown, dissimilarity, conditions, weights=weights, by=by, allow_missing=allow_missing, progress=progress
    )
    check_text([one.label for one in found], "the models")
    kept = _common(conditions, found, allow_missing)
    cut = [_checked(one.of(kept)) for one in found]
    truth = teacher_rdms(teacher, shown, kept, teacher.targets)  # type: ignore[arg-type]
    targets = [TargetRDMs.of(one, cut) for one in truth.values()]
    between = len(targets) <= _FEW_TARGETS if between_targets is None else between_targets
    if between_targets and len({(one.names, one.subjects) for one in targets}) > 1:
        warnings.warn(
            "targets with other conditions or other subjects are not compared with each other: the difference of their "
            "scores needs the same stimuli and subjects",
            stacklevel=2,
        )
    with torch.no_grad(), threads_for(_PER_NUMBER * len(kept) ** 2 / 2):
        tables = compare_all(targets, comparators, between, how, correction, progress)
        used = comparators if folds > 1 else ()
        chosen = best_layers(targets, used, folds=folds, seed=seed, progress=progress)
        compared = group_differences(targets, comparators if groups else (), groups or {}, correction)
    settings = {
        "data": teacher.name, "models": [one.label for one in cut], "targets": [one.target for one in targets],
        "comparators": list(comparators), "weights": None if weights is None else str(weights),
        "dissimilarity": dissimilarity, "intervals": intervals, "n_bootstrap": how.n_bootstrap or None,
        "correction": correction, "between_targets": between, "folds": folds, "seed": seed, "groups": groups or {},
        "conditions": list(kept), "left_out": _left_out(conditions, found, kept),
    }  # fmt: skip
    summary, contrasts, scores = tables
    return RSAResult(summary, contrasts, chosen, scores, _models(cut), _data(truth, kept), compared, settings)


def _teacher(data: Any, by: str, names: Any, target_by: Any, subject_by: str, average_over: Any) -> Teacher:
    how = {"target_by": target_by, "subject_by": subject_by, "average_over": average_over}
    if isinstance(data, Teacher):
        teacher = data
        given = {
            "names": names is not None, "target_by": bool(target_by), "subject_by": subject_by != "subject",
            "average_over": bool(average_over),
        }  # fmt: skip
        if idle := [name for name, is_given in given.items() if is_given]:
            refuse(f"{quote(idle)} only apply to RDMs, and the data are a teacher; give them to the teacher instead")
    else:
        teacher = RDMTeacher(data, by=by, names=names, **how)
    check_stored(teacher)
    return teacher


def _conditions(teacher: Teacher, stimuli: Stimuli | None) -> tuple[str, ...]:
    conditions = known_conditions(teacher)
    if conditions is not None:
        return conditions
    if stimuli is None:
        refuse(f"teacher {teacher.name!r} lists no conditions; give the images to compare with {arg('stimuli')}")
    return stimuli.names


def _common(conditions: Sequence[str], models: Sequence[ModelRDM], allow_missing: bool) -> tuple[str, ...]:
    """Conditions that the data and all models have, in the order of the data."""
    kept = tuple(name for name in conditions if all(name in set(one.names) for one in models))
    for one in models:
        met = alignment(conditions, one.names)
        if (met.only_stimuli or met.only_rdms) and not allow_missing:
            close = nearest(met.only_stimuli[0], met.only_rdms) if met.only_stimuli else ""
            refuse(
                f"the data and model {one.label!r} do not have the same conditions: only in the data "
                f"{quote(met.only_stimuli)}, only in the model {quote(met.only_rdms)}{close}; rename them, or keep the "
                f"{len(met.common)} in common with {arg('allow_missing', True)}"
            )
    if len(kept) < MIN_CONDITIONS:
        refuse(
            f"the data and all models have {len(kept)} conditions in common, {quote(kept)}; at least {MIN_CONDITIONS} "
            "are needed"
        )
    if left_out := _left_out(conditions, models, kept):
        warnings.warn(
            f"{len(left_out)} conditions are left out because not all of the data and the models have them: "
            f"{quote(left_out)}; {len(kept)} are compared",
            stacklevel=3,
        )
    return kept


def _left_out(conditions: Sequence[str], models: Sequence[ModelRDM], kept: Sequence[str]) -> list[str]:
    every = dict.fromkeys((*conditions, *(name for one in models for name in one.names)))
    return [name for name in every if name not in set(kept)]


def _checked(model: ModelRDM) -> ModelRDM:
    if unknown := int(model.pairs.isnan().sum()):
        refuse(
            f"model {model.label!r} has {unknown} unknown (NaN) pairs among the conditions to compare; all models are "
            "compared on the same pairs, so leave out the model, or these conditions"
        )
    if is_constant(model.pairs).any():
        refuse(
            f"model {model.label!r} has the same dissimilarity for all pairs of the conditions to compare, so it has "
            "no correlation with anything; leave it out"
        )
    if not model.pairs.isfinite().all():
        refuse(f"model {model.label!r} has infinite dissimilarities; correct them")
    return model


def _models(models: Sequence[ModelRDM]) -> RDMs:
    described = {
        "model": [one.model for one in models for _ in one.pairs],
        "layer": [one.layer for one in models for _ in one.pairs],
    }
    if any(one.subjects for one in models):
        described["subject"] = [subject for one in models for subject in one.subjects or ("",)]
    measure = _shared([one.measure for one in models])
    return conversion.from_tensor(_cat(models), models[0].names, measure=measure, descriptors=described)


def _cat(models: Sequence[ModelRDM]) -> Tensor:
    return torch.cat([one.pairs for one in models])


def _data(truth: Mapping[str, Any], names: Sequence[str]) -> RDMs:
    means = torch.stack([teacher.pairs.double().nanmean(0) for teacher in truth.values()])
    measure = _shared([one.measure for one in truth.values()])
    return conversion.from_tensor(means, names, measure=measure, descriptors={"target": list(truth)})


def _shared(measures: Iterable[str | None]) -> str | None:
    """Return the measure that all RDMs have, or None if they differ."""
    known = set(measures)
    return known.pop() if len(known) == 1 else None
