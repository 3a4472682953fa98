"""Run a recipe: build its stimuli, teacher, student and loss, then fit and score, with results in a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from brainrdl._core import files as _files
from brainrdl._core.errors import about, check_conditions, quote, refuse
from brainrdl._core.options import free
from brainrdl._core.progress import silenced
from brainrdl._core.random_numbers import seed_all
from brainrdl.evaluation.cross_validation import cross_validate
from brainrdl.evaluation.folds import Splitter
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.options import EvaluationOptions
from brainrdl.models.student import Student
from brainrdl.recipe.building import (
    check_takes,
    make_loss,
    make_network,
    make_stimuli,
    make_student,
    make_task,
    make_teacher,
    make_terms,
)
from brainrdl.recipe.files import RECIPE, load_saved, save
from brainrdl.recipe.final_fit import fit_to_all
from brainrdl.recipe.schema import EvaluationSection, Recipe
from brainrdl.recipe.spelling import in_recipe
from brainrdl.runs import checkpoint as _checkpoint, run_folder
from brainrdl.runs.finished_fits import FitResult
from brainrdl.stimuli.categories import groups_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import known_conditions
from brainrdl.training.distributed import is_first, join, opened_by_first
from brainrdl.training.loop import fit
from brainrdl.training.options import FitOptions
from brainrdl.training.sampling import split


def run(
    recipe: Recipe, out: Path | str, *, resume: bool = False, overwrite: bool = False, progress: bool = True
) -> Evaluation | FitResult:
    """Run a recipe and write the results to a run folder.

    With several processes (``torchrun``), all of them compute each fit together; the first one writes.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe, see `load`.
    out : path
        Run folder; it also keeps the recipe of the first run.
    resume, overwrite : bool
        What to do if the run folder exists.
    progress : bool
        Show progress bars.

    Returns
    -------
    Evaluation or FitResult
        An evaluation if the recipe holds out stimuli (`folds` or `held_out`), otherwise the fit to all stimuli. With
        `final`, there is also a fit to all stimuli in the folder ``final`` of the run.

    Raises
    ------
    BrainrdlError
        As in `fit` and `cross_validate`; also if stimuli and RDM conditions differ, or a run is resumed with a recipe
        that would fit something else. A run that is refused before it has begun leaves no folder.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> run(check(example), "runs/example")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: stimulus folder 'images' does not exist...
    """
    with about(spelling=in_recipe()), silenced(not progress):
        join(recipe.fit.device)
        return _run(recipe, out, resume, overwrite, progress)


def _run(recipe: Recipe, out: Path | str, resume: bool, overwrite: bool, progress: bool) -> Evaluation | FitResult:
    seed_all(recipe.evaluation.seeds[0])
    network = make_network(recipe)
    stimuli = make_stimuli(recipe, network)
    teacher = make_teacher(recipe, stimuli)
    conditions = known_conditions(teacher)
    if conditions is not None:
        stimuli = stimuli.align(conditions, recipe.stimuli.allow_missing)
    stimuli = stimuli.drop(recipe.stimuli.drop)
    student = make_student(recipe, network)
    check_takes(student.model, stimuli, f"student.model {recipe.student.model!r}")
    options: dict[str, Any] = {
        "loss": make_loss(recipe),
        "task": make_task(recipe, network),
        "terms": make_terms(recipe),
    }
    options |= {"progress": progress, **recipe.fit.model_dump(exclude={"terms"})}
    section = recipe.evaluation
    _check_controls(section, stimuli)
    groups = groups_of(section.groups, stimuli.names)
    folds = section.folds or _one_fold(section, stimuli, groups)
    _check_unseen(recipe, stimuli, folds)
    with _opened(recipe, out, resume, overwrite) as folder:
        if folds is None:
            seed = section.seeds[0]
            return fit(student, teacher, stimuli, seed=seed, groups=groups, out=folder, resume=True, **options)
        chosen = section.model_dump(exclude={"folds", "held_out", "groups", "final"})
        make = _Students(recipe, student)
        evaluation = cross_validate(
            make, teacher, stimuli, folds=folds, groups=groups, out=folder, resume=True,
            facts={"recipe_student": recipe.student.model_dump()}, **chosen, **options,
        )  # fmt: skip
        if section.final and not run_folder.is_read_only(folder):
            fit_to_all(make, teacher, stimuli, Path(folder), section.seeds[0], {"groups": groups, **options})
        return evaluation


class _Students:
    """Makes the students of a recipe; the first one uses the network that is already built."""

    def __init__(self, recipe: Recipe, first: Student) -> None:
        self._recipe = recipe
        self._first: Student | None = first

    def __call__(self) -> Student:
        first, self._first = self._first, None
        return make_student(self._recipe) if first is None else first


@contextmanager
def _opened(recipe: Recipe, out: Path | str, resume: bool, overwrite: bool) -> Iterator[Any]:
    """Open the run folder and save the recipe in it, unless it is already open."""
    if isinstance(out, run_folder.OpenFolder):
        yield out
        return
    with (
        opened_by_first(out, resume=resume, overwrite=overwrite) as folder,
        _kept(recipe, folder) if is_first() else nullcontext(),
    ):
        yield run_folder.OpenFolder(folder)


def _check_unseen(recipe: Recipe, stimuli: Stimuli, folds: object) -> None:
    """Refuse weights of a run that was fitted to stimuli that are held out now: they are not new to the network."""
    weights = Path(recipe.student.weights or "no weights")
    beside = weights.with_name(run_folder.SETTINGS)
    if folds is None or not (weights.is_file() and beside.is_file()):
        return
    told = _files.read_json(beside)
    seen = sorted({*told.get("train", ()), *told.get("validation", ())} & set(stimuli.names))
    if seen:
        refuse(
            f"student.weights {str(weights)!r} were fitted to {len(seen)} of these stimuli, {quote(seen)}: held-out "
            "stimuli would not be new to them. Use other weights, or hold out nothing; if only the names are the same, "
            "copy the weights to another folder"
        )


def _check_controls(section: EvaluationSection, stimuli: Stimuli) -> None:
    categories = sorted(set((stimuli.labels or {}).values()))
    if "category" in (section.controls or ()) and len(categories) < 2:
        refuse(
            f"evaluation.controls has 'category', which needs stimuli of two or more categories, but they have "
            f"{quote(categories) if categories else 'no labels'}; set stimuli.labels, or remove this control"
        )


_MAY_CHANGE = {  # when a run is resumed: how it is computed and scored, not what is fitted
    "stimuli": {"cached"},
    "fit": free(FitOptions),
    "evaluation": {*free(EvaluationOptions), "final"},
}


@contextmanager
def _kept(recipe: Recipe, folder: Path) -> Iterator[None]:
    """Save the recipe in the run folder, and delete it if the run has not begun when the block ends."""
    path = folder / RECIPE
    ours = not path.exists()
    _keep(recipe, folder)
    try:
        yield
    finally:
        if ours and not (folder / run_folder.SETTINGS).exists():
            path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


def _keep(recipe: Recipe, folder: Path) -> None:
    """Save the recipe of a new run; refuse another recipe for a run that has begun: its fits would be reused."""
    path = folder / RECIPE
    if path.exists() and (folder / run_folder.SETTINGS).exists():
        asked, stored = (made.model_dump(mode="json", exclude=_MAY_CHANGE) for made in (recipe, load_saved(path)))
        _checkpoint.check_same_settings(asked, stored, str(path))
    else:
        save(recipe, path)


def _one_fold(section: EvaluationSection, stimuli: Stimuli, groups: Mapping[str, str] | None) -> Splitter | None:
    """Make a splitter with one fold that holds out the given conditions; None if there are none."""
    from sklearn.model_selection import PredefinedSplit

    if section.held_out is None:
        return None
    share = section.held_out
    names = set(split(stimuli.names, share, section.seeds[0], groups)[1] if isinstance(share, float) else share)
    check_conditions(names, stimuli.names, "the stimuli")
    return PredefinedSplit([0 if name in names else -1 for name in stimuli.names])


def evaluate_run(folder: Path | str, comparators: Sequence[str] = (), *, progress: bool = True) -> Evaluation:
    """Score a finished run again, with the same or other comparators; fitted students are loaded, not fitted again.

    Nothing is written; use `Evaluation.save` to save the result.

    Parameters
    ----------
    folder : path
        Run folder of a finished run.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`; those of the run by default.
    progress : bool
        Show progress and the time left on stderr if it takes longer than two seconds.

    Returns
    -------
    Evaluation

    Raises
    ------
    BrainrdlError
        If the folder is not a finished run of a recipe, or the recipe does not hold out stimuli.

    Examples
    --------
    >>> evaluate_run("no/such/run")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read recipe 'no/such/run/recipe.yaml': No such file or directory; ...
    """
    folder = Path(folder)
    if (folder / "evaluation.json").exists() and not (folder / RECIPE).exists():
        refuse(
            f"run {str(folder)!r} was made in Python, not by a recipe: score it in Python, with "
            "cross_validate(..., resume=True, comparators=[...])"
        )
    recipe = load_saved(folder / RECIPE)
    section = recipe.evaluation
    if section.folds is None and section.held_out is None:
        refuse(f"run {str(folder)!r} holds out no stimuli, so it cannot be scored; set evaluation.folds or held_out")
    if not (folder / "evaluation.json").exists():
        refuse(f"run {str(folder)!r} is not finished; resume it first: `brainrdl fit` with --resume")
    if comparators:
        recipe = recipe.model_copy(update={"evaluation": section.model_copy(update={"comparators": list(comparators)})})
    read: Any = run_folder.OpenFolder(folder, read_only=True)
    return run(recipe, read, resume=True, progress=progress)  # type: ignore[return-value]
