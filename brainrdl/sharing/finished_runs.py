"""The student of a finished run, with all that is needed to use it: its network, transform and training images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from brainrdl._core.constants import FINAL
from brainrdl._core.errors import BrainrdlError, about, refuse
from brainrdl._core.files import digest, hash_words, read_json
from brainrdl.models.fitted import fitted_student
from brainrdl.models.networks import Network, build
from brainrdl.models.student import Student
from brainrdl.models.weights import NETWORK, read_student
from brainrdl.recipe.building import make_network, make_stimuli, make_student, transform_of
from brainrdl.recipe.files import RECIPE, load_saved
from brainrdl.recipe.schema import Recipe
from brainrdl.runs.run_folder import SETTINGS, WEIGHTS
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import transform_text
from brainrdl.training.stimulus_lists import calibration_names


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """The fitted student of a run and how it was made.

    Attributes
    ----------
    folder : Path
        Folder of the run, with its recipe.
    fit : Path
        Folder of the fit: the run itself, or its final fit.
    recipe : Recipe
        The recipe of the run.
    settings : dict
        Settings of the fit: among others ``train`` and ``validation``, the names that it was fitted to.
    network : Network
        The network with the fitted weights; it is that of the student.
    student : Student
        The network with its readouts, as they were fitted; ``trainable`` is ``"none"``.

    Examples
    --------
    >>> load_run("no/such/run")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'no/such/run' is not a run folder of 'brainrdl fit': there is no recipe.yaml ...
    """

    folder: Path
    fit: Path
    recipe: Recipe
    settings: dict[str, Any]
    network: Network
    student: Student

    @property
    def transform(self) -> Callable[..., Any] | None:
        """Transform from an image to what the network was fitted to: size and normalisation."""
        return transform_of(self.recipe, self.network)

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the stimuli that the student was fitted to, or that chose its number of steps."""
        return (*self.settings["train"], *self.settings["validation"])

    def stimuli(self) -> Stimuli:
        """Return the images that the student was fitted to, or that chose its number of steps.

        Raises
        ------
        BrainrdlError
            If the images are no longer where the recipe says, or have changed since the fit.
        """
        with about(f"the images that {str(self.fit)!r} was fitted to"):
            found = make_stimuli(self.recipe, self.network).select(self.seen)
            known = hash_words(f"{name} {digest}" for name, digest in found.digests().items())
            if known != self.settings["hashes"]["stimuli"]:
                refuse("they have changed since the fit, so they cannot show which images it has seen; restore them")
        return found

    def unfitted(self, shown: Stimuli | None = None) -> Student | None:
        """Return the student as it was before the fit; None, with a warning, if its first weights cannot be made again.

        Parameters
        ----------
        shown : Stimuli, optional
            The result of `stimuli`, if it is at hand: readouts are calibrated on these images.

        Warns
        -----
        UserWarning
            If the weights differ from those that the run started with, or cannot be loaded.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.settings["seed"])
            try:
                student = make_student(self.recipe)
            except BrainrdlError as error:
                _warn_of_no_control(str(error))
                return None
        if digest(student.state_dict()) != self.settings["initial_weights"]:
            _warn_of_no_control("the first weights of the run cannot be made again with these versions of the packages")
            return None
        shown = shown or self.stimuli()
        student.calibrate(shown.images(calibration_names(self.settings["train"])))
        return student


def _warn_of_no_control(why: str) -> None:
    warnings.warn(f"there is no unfitted control: {why}", stacklevel=3)


def load_run(run: Path | str) -> FinishedRun:
    """Load the student of a finished run of a recipe: of the final fit after a cross-validation, or of its only fit.

    Parameters
    ----------
    run : path
        Run folder of `brainrdl fit`, or the folder of one of its fits (``RUN/fits/...``).

    Returns
    -------
    FinishedRun

    Raises
    ------
    BrainrdlError
        If the folder is not a run of a recipe, is not finished, or is a cross-validation without a final fit; or if the
        network cannot be built again as it was.

    Examples
    --------
    >>> load_run("no/such/run")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'no/such/run' is not a run folder of 'brainrdl fit': there is no recipe.yaml ...
    """
    given = Path(run)
    folder = given.parent if given.name == FINAL else given.parent.parent if given.parent.name == "fits" else given
    if not (folder / RECIPE).is_file():
        refuse(
            f"{str(given)!r} is not a run folder of 'brainrdl fit': there is no {RECIPE} in it; a sweep has the runs "
            "of its points in the folder points, and a fit in Python is used in Python (its FitResult or Student)"
        )
    recipe = load_saved(folder / RECIPE)
    fit = _fit_in(given)
    settings = read_json(fit / SETTINGS)
    network = _network_of(recipe, settings, fit / WEIGHTS)
    student = fitted_student(network.module, fit / WEIGHTS)
    student.match = recipe.student.layers if isinstance(recipe.student.layers, dict) else None
    return FinishedRun(folder, fit, recipe, settings, network, student.eval())


def _fit_in(run: Path) -> Path:
    """Return the folder of the fit that used all stimuli."""
    for fit in (run / FINAL, run):
        if (fit / WEIGHTS).is_file():
            return fit
    if not (run / "evaluation.json").is_file() or (run / FINAL).exists():
        refuse(f"run {str(run)!r} is not finished; resume it first: `brainrdl fit` with --resume")
    again = f"brainrdl fit {run / RECIPE} --out {run} --resume --set evaluation.final=true"
    refuse(
        f"run {str(run)!r} is a cross-validation: each of its students was fitted to a part of the stimuli, and none "
        f"to all. Add a final fit with `{again}`, or choose one of the fits in {str(run / 'fits')!r}"
    )


def _network_of(recipe: Recipe, settings: dict[str, Any], weights: Path) -> Network:
    """Build the network; its pretrained weights are only loaded if their transform or their modules are needed."""
    found = read_student(weights)
    stored = _counted({name.removeprefix(NETWORK) for name in found[0] if name.startswith(NETWORK)} if found else ())
    for make in (lambda: build(recipe.student.model), lambda: make_network(recipe)):
        network = make()
        if (
            _counted(network.module.state_dict()) == stored
            and transform_text(transform_of(recipe, network)) == settings["transform"]
        ):
            return network
    refuse(
        f"network {recipe.student.model!r} is not as it was in the run {str(weights.parent)!r}: its parameters or its "
        f"transform differ, which was {settings['transform']}; use the code and package versions of "
        f"{str(weights.with_name('provenance.json'))!r}"
    )


def _counted(names: Iterable[str]) -> set[str]:
    """Leave out the counters of batches, which old weight files lack."""
    return {name for name in names if not name.endswith("num_batches_tracked")}
