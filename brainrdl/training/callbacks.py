"""Functions of your own that `fit` calls: after steps, after evaluations, and at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from brainrdl._core.errors import refuse

if TYPE_CHECKING:
    from brainrdl.training.run_folder import FitResult

Event = Literal["on_step", "on_look", "on_end"]

EVENTS: tuple[Event, ...] = ("on_step", "on_look", "on_end")


class Callback:
    """What `fit` calls; a class of your own needs only the methods that it uses, and no base class.

    A method that returns True ends the run after one more evaluation. With several processes, each calls its own
    callbacks, and all must give the same answer.

    Examples
    --------
    >>> class Until(Callback):
    ...     def on_look(self, row):
    ...         return row["train_similarity"] > 0.9
    >>> Until().on_look({"train_similarity": 0.95})
    True
    """

    def on_step(self, step: int, losses: Mapping[str, Tensor]) -> bool | None:
        """Be told that `step` steps are done, with the losses of the last one on the device (reading them waits)."""

    def on_look(self, row: Mapping[str, Any]) -> bool | None:
        """Be told a new row of the history."""

    def on_end(self, fitted: FitResult) -> None:
        """Be told the result."""


def called(callbacks: Sequence[object], event: Event, *given: Any) -> bool:
    """Call a method of all callbacks that have it; True if one of them returned True.

    Raises
    ------
    BrainrdlError
        If an object has none of the methods.

    Examples
    --------
    >>> called([Callback()], "on_look", {"step": 0})
    False
    """
    answers = []
    for callback in callbacks:
        if not any(hasattr(callback, known) for known in EVENTS):
            refuse(f"a callback has a method on_step, on_look or on_end, got {callback!r}")
        method = getattr(callback, event, None)
        answers.append(bool(method(*given)) if method is not None else False)
    return any(answers)
