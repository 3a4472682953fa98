"""Your functions that `fit` calls after steps, after evaluations, and at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from brainrdl._core.errors import check_option, refuse

if TYPE_CHECKING:
    from brainrdl.runs.finished_fits import FitResult

Event = Literal["on_step", "on_look", "on_end"]

EVENTS: tuple[Event, ...] = ("on_step", "on_look", "on_end")


class Callback:
    """The methods that `fit` calls. Your class needs only those that it uses, and need not inherit from this one.

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
        """After each step: number of steps done, and losses of the last one, on the device (reading them waits)."""

    def on_look(self, row: Mapping[str, Any]) -> bool | None:
        """After each evaluation: the new row of the history."""

    def on_end(self, fitted: FitResult) -> None:
        """After the fit: its result."""


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


class Log(Callback):
    """Send the rows of the history to loggers that Accelerate knows: TensorBoard, Weights & Biases, MLflow, Comet, ...

    The history is also in the run folder, as history.csv and TensorBoard events.

    Parameters
    ----------
    *loggers : str
        ``"tensorboard"``, ``"wandb"``, ``"mlflow"``, ``"comet_ml"``, ``"aim"``, ``"clearml"``, ``"dvclive"``, ...;
        their packages must be installed.
    run : str
        Name of the run or project.
    folder : path
        Where loggers that write files put them.
    settings : mapping, optional
        Settings to store with the run: numbers and text.

    Raises
    ------
    BrainrdlError
        If a logger is unknown or its package is missing.

    Examples
    --------
    >>> Log("wanbd")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: logger 'wanbd' is not known; nearest: 'wandb'...
    """

    def __init__(
        self,
        *loggers: str,
        run: str = "brainrdl",
        folder: Path | str = "logs",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        from accelerate import tracking

        kinds = {str(kind): tracker for kind, tracker in tracking.LOGGER_TYPE_TO_CLASS.items()}
        available = {str(kind) for kind in tracking.get_available_trackers()}
        for logger in loggers:
            check_option(logger, kinds, "logger")
            if logger not in available:
                refuse(f"logger {logger!r} needs its package, which is not installed; install it with pip")
        self._make = [kinds[logger] for logger in loggers]
        self._run, self._folder, self._settings = run, str(folder), dict(settings or {})
        self._open: list[Any] = []

    def on_look(self, row: Mapping[str, Any]) -> None:
        """Log a row."""
        if not self._open:
            self._open = [_tracker(make, self._run, self._folder) for make in self._make]
            for tracker in self._open:
                tracker.store_init_configuration(self._settings)
        values = {key: value for key, value in row.items() if key != "step" and value == value}
        for tracker in self._open:
            tracker.log(values, step=row["step"])

    def on_end(self, fitted: FitResult) -> None:
        """Close the loggers."""
        for tracker in self._open:
            tracker.finish()
        self._open = []


def _tracker(make: Any, run: str, folder: str) -> Any:
    tracker = make(run, logging_dir=folder) if make.requires_logging_directory else make(run)
    if hasattr(tracker, "start"):  # Accelerate before 1.8 started trackers at once
        tracker.start()
    return tracker
