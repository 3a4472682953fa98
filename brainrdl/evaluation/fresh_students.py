"""New students and terms for each fit; students that share trained weights are refused: folds must not leak."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.batchnorm import _BatchNorm

from brainrdl._core.errors import refuse
from brainrdl._core.random_numbers import numpy_and_python_from, seed_all
from brainrdl.models.student import Student


class Maker:
    """Makes students; refuses two that share trained weights, because the second would know the first one's stimuli.

    Weights are tracked by weak references, which do not keep networks alive; a tracked address is not used again.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], Student] = {}
        self._used: dict[StorageWeakRef, str] = {}
        self._changed: set[StorageWeakRef] = set()

    def __reduce__(self) -> tuple[type[Maker], tuple[()]]:
        """Start anew in another process, which shares no memory with this one."""
        return Maker, ()

    def first(self, makes: Mapping[str, Callable[[], Student]], seed: int) -> dict[str, Student]:
        """Make two students of each label, so that shared weights are found before any fit.

        The second one is kept for the first fit with this seed.
        """
        made = {label: self.by(label, make, seed) for label, make in makes.items()}
        self._waiting = {(label, seed): self.by(label, make, seed) for label, make in makes.items()}
        return made

    def by(self, label: str, make: Callable[[], Student], seed: int) -> Student:
        """Make a student after seeding the generators of torch, NumPy and Python, or return the one that was kept."""
        kept = self._waiting.pop((label, seed), None)
        return self._new(label, make, seed) if kept is None else kept

    def _new(self, label: str, make: Callable[[], Student], seed: int) -> Student:
        seed_all(seed)
        with numpy_and_python_from(seed):
            student = make()
        if not isinstance(student, Student):
            refuse(f"the function that makes student {label!r} should return a Student, got {type(student).__name__}")
        self._used = {ref: owner for ref, owner in self._used.items() if not ref.expired()}
        used = {StorageWeakRef(tensor.untyped_storage()) for tensor in _tensors(student)}
        changed = {StorageWeakRef(tensor.untyped_storage()) for tensor in _changing(student)}
        shared = [ref for ref in self._used if (ref in used and ref in self._changed) or ref in changed]
        if shared:
            refuse(
                f"student {label!r} was made with weights of an earlier student {self._used[shared[0]]!r} that "
                "training changes, so a fold would start from the weights of another; build the network inside the "
                "function that makes the student"
            )
        self._used |= dict.fromkeys(used, label)
        self._changed = {ref for ref in self._changed | changed if not ref.expired()}
        return student


def with_new_terms(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `fit` with copies of the terms, which training changes if they have parameters.

    Examples
    --------
    >>> with_new_terms({"steps": 5})
    {'steps': 5}
    """
    terms = {"terms": copy.deepcopy(options["terms"])} if options.get("terms") else {}
    return {**options, **terms}


def without_choice(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of `fit` for a number of steps that is chosen already: no image is kept for validation.

    Examples
    --------
    >>> without_choice({"validation": 0.2, "lr": 0.1})
    {'validation': (), 'lr': 0.1, 'patience': None}
    """
    task = {"task": options["task"].without_validation()} if options.get("task") else {}
    return {**options, **task, "validation": (), "patience": None}


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _changing(student: Student) -> Iterator[torch.Tensor]:
    """Yield the tensors that a fit changes: trained parameters, calibrated readouts, buffers of unfrozen networks."""
    yield from (parameter for parameter in student.parameters() if parameter.requires_grad)
    for head in student.readout_heads():
        yield from _tensors(head) if head.readout.needs_calibration else ()
    for module in student.model.modules() if not student.frozen else ():
        if student.batchnorm != "eval" or not isinstance(module, _BatchNorm):
            yield from module.buffers(recurse=False)
