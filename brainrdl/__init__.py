"""Fit a neural network's representations to brain RDMs, and learn on held-out stimuli how close it got.

The public names below load the first time they are used, so that ``import brainrdl`` (and the shell's completion) is
quick and loads neither torch nor rsatoolbox.

Examples
--------
>>> import brainrdl
>>> brainrdl.dissimilarity.n_conditions_of(6)  # six pairs: four conditions
4
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brainrdl import (
        cross_validation,
        datasets,
        dissimilarity,
        distributed,
        doctor,
        evaluation,
        experiment,
        features,
        loss,
        models,
        plot,
        rdm_estimation,
        rdms,
        readers,
        recipe,
        reporting,
        result,
        sampling,
        similarity,
        stimuli,
        student,
        teachers,
        testing,
        training,
    )
    from brainrdl._checks import BrainrdlError
    from brainrdl.cross_validation import cross_validate
    from brainrdl.evaluation import Evaluation, compare, evaluate
    from brainrdl.loss import RDMLoss
    from brainrdl.rdm_estimation import calc_rdm
    from brainrdl.readers import read
    from brainrdl.reporting import report
    from brainrdl.result import FitResult
    from brainrdl.stimuli import Stimuli
    from brainrdl.student import Readout, Student
    from brainrdl.teachers import NetworkTeacher, RDMTeacher
    from brainrdl.training import fit

    __version__: str

__all__ = [
    "BrainrdlError",
    "Evaluation",
    "FitResult",
    "NetworkTeacher",
    "RDMLoss",
    "RDMTeacher",
    "Readout",
    "Stimuli",
    "Student",
    "__version__",
    "calc_rdm",
    "compare",
    "cross_validate",
    "cross_validation",
    "datasets",
    "dissimilarity",
    "distributed",
    "doctor",
    "evaluate",
    "evaluation",
    "experiment",
    "features",
    "fit",
    "loss",
    "models",
    "plot",
    "rdm_estimation",
    "rdms",
    "read",
    "readers",
    "recipe",
    "report",
    "reporting",
    "result",
    "sampling",
    "similarity",
    "stimuli",
    "student",
    "teachers",
    "testing",
    "training",
]

# Where each name that is no module of its own lives. No name here may also be a module's: importing a module sets an
# attribute of that name on the package, and would take the function's place.
_HOME = {
    "BrainrdlError": "_checks",
    "Evaluation": "evaluation",
    "FitResult": "result",
    "NetworkTeacher": "teachers",
    "RDMLoss": "loss",
    "RDMTeacher": "teachers",
    "Readout": "student",
    "Stimuli": "stimuli",
    "Student": "student",
    "calc_rdm": "rdm_estimation",
    "compare": "evaluation",
    "cross_validate": "cross_validation",
    "evaluate": "evaluation",
    "fit": "training",
    "read": "readers",
    "report": "reporting",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = version(__name__) if name == "__version__" else _load(name)
    globals()[name] = value
    return value


def _load(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
