"""Score a finished run on other images and other subjects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainrdl._core.errors import arg, quote, refuse
from brainrdl._core.options import check_known
from brainrdl.evaluation.elsewhere import evaluate_elsewhere
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.recipe.building import make_loss, make_task
from brainrdl.recipe.schema import Recipe
from brainrdl.sharing.finished_runs import FinishedRun, load_run
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.streams import ImageStream
from brainrdl.teachers.protocol import Teacher, known_conditions


def evaluate_run_elsewhere(
    run: FinishedRun | Path | str,
    teacher: Teacher,
    stimuli: Stimuli,
    *,
    allow_missing: bool = False,
    control: bool = True,
    groups: Mapping[str, str] | Path | str | None = None,
    **options: Any,
) -> Evaluation:
    """Score the student of a run on images that it was not fitted to, next to the same student before the fit.

    Parameters
    ----------
    run : path or FinishedRun
        Run folder of a recipe, see `load_run`.
    teacher : Teacher
        Source of the RDMs to score against: of other subjects, or of the same.
    stimuli : Stimuli
        Images of the teacher's conditions; their transform is replaced by that of the run.
    allow_missing : bool
        If stimuli and conditions differ, use the names that both have; by default this is an error.
    control : bool
        Score the student before the fit as well, if its first weights can be made again.
    groups : mapping of name to group, or path, optional
        Groups of `stimuli`, in addition to those of the recipe.
    **options
        As in `brainrdl.evaluation.evaluate_elsewhere`: `drop_seen`, `same_names`, `match`, `comparators`, `models`, ...
        By default, comparators, intervals and dissimilarity are those of the recipe.

    Returns
    -------
    Evaluation

    Raises
    ------
    BrainrdlError
        As in `load_run` and `evaluate_elsewhere`; also if the images of the fit, which show what the student has seen,
        are no longer where the recipe says.

    Examples
    --------
    >>> evaluate_run_elsewhere("no/such/run", None, None)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'no/such/run' is not a run folder of 'brainrdl fit': there is no recipe.yaml ...
    """
    check_known(options, evaluate_elsewhere)
    found = run if isinstance(run, FinishedRun) else load_run(run)
    if not isinstance(teacher, Teacher) or not isinstance(stimuli, Stimuli):
        refuse(f"give a Teacher and Stimuli to score on, got {type(teacher).__name__} and {type(stimuli).__name__}")
    conditions = known_conditions(teacher)
    stimuli = stimuli if conditions is None else stimuli.align(conditions, allow_missing)
    stimuli = stimuli.with_transform(found.transform)
    stimuli = _new_to_the_task(found, stimuli, bool(options.get("drop_seen")))
    seen = found.stimuli()
    own = found.settings.get("groups") or {}
    others = groups_of(groups, (*seen.names, *stimuli.names)) or {}
    fit = {name: value for name, value in found.settings.items() if name not in ("train", "validation")}
    facts = {
        "run": str(found.fit), "train": list(found.seen), "fit": fit, "networks": {"fitted": found.settings},
        "recipe_student": found.recipe.student.model_dump(mode="json"), "fitted_to": found.settings.get("teacher"),
    }  # fmt: skip
    return evaluate_elsewhere(
        found.student,
        teacher,
        stimuli,
        seen,
        unfitted=found.unfitted(seen) if control else None,
        groups={**own, **others} or None,
        facts=facts,
        **{**_as_in(found.recipe), **options},
    )


def _new_to_the_task(run: FinishedRun, stimuli: Stimuli, drop: bool) -> Stimuli:
    """Refuse or leave out images that are byte-identical to images of the task that the student has learned."""
    task = make_task(run.recipe, run.network)
    if task is not None and isinstance(task.stimuli, ImageStream):
        warnings.warn(
            f"the student was also trained on {task.stimuli.where}, whose images are not known, so it was not checked "
            "whether these images were among them",
            stacklevel=2,
        )
    if task is None or not isinstance(task.stimuli, Stimuli):
        return stimuli
    learned = frozenset(task.stimuli.digests().values())
    same = [name for name, digest in stimuli.digests().items() if digest in learned]
    if same and not drop:
        refuse(
            f"{len(same)} images are byte-identical to images of the task that the student was trained on, "
            f"{quote(same)}, so they are not new to it; leave them out with {arg('drop_seen', True)}"
        )
    return stimuli.drop(same) if same else stimuli


def _as_in(recipe: Recipe) -> dict[str, Any]:
    """Return how a recipe scores its students."""
    scoring = {name: getattr(recipe.evaluation, name) for name in ("comparators", "intervals", "n_bootstrap")}
    return {"dissimilarity": make_loss(recipe).dissimilarity, **scoring}
