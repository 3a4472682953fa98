"""What a run shows of itself: looks at training and validation stimuli, a progress bar, TensorBoard events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from brainrdl import dissimilarity as _dissimilarity
from brainrdl import similarity as _similarity
from brainrdl._checks import quote, refuse
from brainrdl.loss import RDMLoss, match_layers
from brainrdl.stimuli import Batch
from brainrdl.student import Student
from brainrdl.teachers import Teacher


T = TypeVar("T")


class Show(Protocol):
    """Receives each row of the history as it comes."""

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Show `row`."""


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device.

    Examples
    --------
    >>> to_device(Batch(("a",), torch.zeros(1, 1, 2, 2), None), torch.device("cpu")).names
    ('a',)
    """
    labels = None if batch.labels is None else batch.labels.to(device)
    return Batch(batch.names, batch.images.to(device), labels, batch.step)


@torch.no_grad()
def look(student: Student, teacher: Teacher | None, batch: Batch, loss: RDMLoss) -> dict[str, float]:
    """Measure a student on a batch, in evaluation mode.

    Returns
    -------
    dict
        similarity (mean Pearson correlation of student and teacher RDMs over layers and the teacher's RDMs; NaN without a
        teacher), accuracy (NaN without labels or logits), n_constant (patterns without variance, which have no direction).
    """
    mode = student.training
    student.eval()
    patterns, logits = student(batch.images)
    student.train(mode)
    measured = {"similarity": float("nan"), "accuracy": float("nan"), "n_constant": 0.0}
    measured["n_constant"] = float(sum(int(_dissimilarity.count_constant(p)) for p in patterns.values()))
    if teacher is not None:
        measured["similarity"] = _mean_similarity(patterns, teacher.rdms(batch), loss)
    if logits is not None and batch.labels is not None:
        measured["accuracy"] = float((logits.argmax(-1) == batch.labels).float().mean())
    return measured


def _mean_similarity(patterns: Mapping[str, Tensor], teacher_rdms: Mapping[str, Tensor], loss: RDMLoss) -> float:
    calc = _dissimilarity.resolve(loss.dissimilarity)
    matched = match_layers(patterns, teacher_rdms, loss.match)
    values = [
        _similarity.corr(calc(patterns[layer]).cpu(), teacher_rdms[target].cpu()).mean() for layer, target in matched.items()
    ]
    return float(torch.stack(values).mean())


def check_loss(total: Tensor, patterns: Mapping[str, Tensor], teacher_rdms: Mapping[str, Tensor], batch: Batch) -> None:
    """Refuse to go on with a loss that is NaN or Inf, saying at which step, in which layer and for which conditions.

    Raises
    ------
    BrainrdlError
        If `total` is not finite.
    """
    if torch.isfinite(total):
        return
    for layer, pattern in patterns.items():
        bad = (~torch.isfinite(pattern)).any(-1).tolist()
        if any(bad):
            named = quote(name for name, is_bad in zip(batch.names, bad, strict=True) if is_bad)
            refuse(
                f"loss is {float(total)} at step {batch.step}: patterns of layer {layer!r} are NaN or Inf for conditions {named}; "
                "lower lr, or set clip"
            )
    empty = [target for target, rdm in teacher_rdms.items() if rdm.isnan().all(-1).any()]
    cause = f"teacher targets {quote(empty)} have no known pair" if empty else f"patterns of layers {quote(patterns)} are finite"
    refuse(f"loss is {float(total)} at step {batch.step} for conditions {quote(batch.names)}: {cause}; lower lr, or set clip")


@contextmanager
def progress_bar(steps: int, done: int, shown: bool) -> Iterator[Show]:
    """Show a bar with the live RDM correlations of training and validation stimuli.

    Examples
    --------
    >>> with progress_bar(10, 0, shown=False) as show:
    ...     show({"step": 10, "train_similarity": 0.5, "validation_similarity": float("nan")})
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("fit"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[seen]}"), TimeRemainingColumn())
    with Progress(*columns, disable=not shown, transient=True) as bar:
        task = bar.add_task("fit", total=steps, completed=done, seen="")

        def show(row: Mapping[str, Any]) -> None:
            seen = f"RDM correlation: train {row['train_similarity']:.3f}, validation {row['validation_similarity']:.3f}"
            bar.update(task, completed=row["step"], seen=seen)

        yield show


@contextmanager
def event_writer(folder: Path | None) -> Iterator[Show]:
    """Write rows as TensorBoard events into `folder`, or nowhere without a folder or without tensorboard.

    Examples
    --------
    >>> with event_writer(None) as write:
    ...     write({"step": 0, "loss": 1.0})
    """
    try:
        if folder is None:
            raise ImportError
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield lambda row: None
        return
    with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]

        def write(row: Mapping[str, Any]) -> None:
            for key, value in row.items():
                if key != "step":
                    writer.add_scalar(key, value, row["step"])  # type: ignore[no-untyped-call]

        yield write


def track(items: Sequence[T], what: str, shown: bool) -> Iterator[T]:
    """Go through `items` behind a progress bar.

    Examples
    --------
    >>> list(track([1, 2], "counting", shown=False))
    [1, 2]
    """
    from rich.progress import track as rich_track

    yield from rich_track(items, what, disable=not shown)
