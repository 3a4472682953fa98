"""The final fit of a recipe: after cross-validation, on all stimuli, for as many steps as the folds chose."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median_low
from typing import Any

from brainrdl._core.constants import FINAL
from brainrdl._core.errors import refuse
from brainrdl._core.files import read_safetensors
from brainrdl._core.random_numbers import seed_all
from brainrdl.evaluation.fresh_students import with_new_terms, without_choice
from brainrdl.models.student import Student
from brainrdl.runs.finished_fits import FitResult
from brainrdl.runs.run_folder import WEIGHTS
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher
from brainrdl.training.loop import fit

_FOLDS = re.compile(r"fitted-seed\d+-fold\d+(-without-.*)?")  # of the fitted students; not of controls and inner folds


def chosen_steps(run: Path | str) -> int:
    """Return the number of steps of the final fit: the median of those that led to the students of the folds.

    With ``inner_folds`` or validation stimuli, each fold of each seed has chosen its number; otherwise all have that of
    the recipe. For an even count, the lower of the two middle numbers is used, so that a fold has chosen it.

    Parameters
    ----------
    run : path
        Folder of a cross-validation.

    Raises
    ------
    BrainrdlError
        If the folder has no finished fits.

    Examples
    --------
    >>> chosen_steps("no/such/run")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: there are no finished fits in 'no/such/run/fits', which choose the number of steps
    """
    fits = [path.parent.name for path in Path(run, "fits").glob(f"*/{WEIGHTS}")]
    folds = [name for name in sorted(fits) if _FOLDS.fullmatch(name)]
    if not folds:
        refuse(f"there are no finished fits in {str(Path(run, 'fits'))!r}, which choose the number of steps")
    return median_low(int(read_safetensors(Path(run, "fits", name, WEIGHTS))[1]["best_step"]) for name in folds)


def fit_to_all(
    make: Callable[[], Student], teacher: Teacher, stimuli: Stimuli, run: Path, seed: int, options: Mapping[str, Any]
) -> FitResult:
    """Fit a new student to all stimuli, into the folder ``final`` of a cross-validation that is finished.

    No images are used for validation, also none of a task, so the result is the student after the last step.

    Examples
    --------
    >>> fit_to_all(None, None, None, Path("no/such/run"), 0, {})
    Traceback (most recent call last):
    brainrdl.BrainrdlError: there are no finished fits in 'no/such/run/fits', which choose the number of steps
    """
    steps = chosen_steps(run)
    if not steps:
        warnings.warn(
            "the folds have chosen 0 steps (the median of their best steps), so the final student is the one before "
            "the fit; look at the histories of the folds before you use it",
            stacklevel=2,
        )
    seed_all(seed)
    rest = with_new_terms(without_choice({name: value for name, value in options.items() if name != "steps"}))
    return fit(make(), teacher, stimuli, seed=seed, steps=steps, out=run / FINAL, resume=True, **rest)
