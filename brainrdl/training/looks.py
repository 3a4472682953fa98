"""Evaluations during training ("looks"): a student on training and validation stimuli, and a check of the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from brainrdl._core.errors import quote, refuse
from brainrdl.dissimilarity import measures
from brainrdl.loss.matching import match_layers
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.rows import warn_if_same
from brainrdl.models.student import Student
from brainrdl.similarity import comparators as _similarity
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.protocol import Teacher

_CHUNK = 256  # images per forward pass of an evaluation: a whole validation set at once could fill the memory


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
    """Measure a student on a batch, in evaluation mode and full precision.

    Parameters
    ----------
    student : Student
        Network to evaluate; its mode is restored afterwards.
    teacher : Teacher or None
        Source of the RDMs to compare with.
    batch : Batch
        Images and, for the accuracy, labels, on the student's device.
    loss : RDMLoss
        Defines how patterns become RDMs, and which layer is matched with which target.

    Returns
    -------
    dict
        similarity (mean Pearson correlation of student and teacher RDMs over layers and the teacher's RDMs; NaN without
        a teacher), accuracy (NaN without labels or logits), n_constant (patterns without variance, in all layers).

    Raises
    ------
    BrainrdlError
        If a pattern is NaN or Inf; layer and conditions are named.

    Examples
    --------
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten()), ["0"])
    >>> look(student, None, Batch(tuple("abc"), torch.eye(3).view(3, 1, 3, 1), torch.tensor([0, 1, 0])), RDMLoss())
    {'similarity': nan, 'accuracy': 0.666..., 'n_constant': 0.0}
    """
    mode = student.training
    student.eval()
    patterns, logits = _forward(student, batch.images)
    student.train(mode)
    _check_patterns(f"at step {batch.step}", patterns, batch.names)
    warn_if_same(patterns)
    n_constant = sum(int(measures.count_constant(pattern)) for pattern in patterns.values())
    measured = {"similarity": math.nan, "accuracy": math.nan, "n_constant": float(n_constant)}
    if teacher is not None:
        measured["similarity"] = _mean_similarity(patterns, teacher.rdms(batch), loss)
    if logits is not None and batch.labels is not None:
        measured["accuracy"] = float((logits.argmax(-1) == batch.labels).float().mean())
    return measured


def _forward(student: Student, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
    passes = [student(part) for part in images.split(_CHUNK)]
    patterns = {layer: torch.cat([output.patterns[layer] for output in passes]) for layer in student.layers}
    logits = [output.logits for output in passes if output.logits is not None]
    return patterns, torch.cat(logits) if logits else None


def _mean_similarity(patterns: Mapping[str, Tensor], teacher_rdms: Mapping[str, Tensor], loss: RDMLoss) -> float:
    calc = measures.resolve(loss.dissimilarity)
    matched = match_layers(patterns, teacher_rdms, loss.match)
    values = [
        _similarity.corr(calc(patterns[layer]).cpu(), teacher_rdms[target].cpu()).mean()
        for layer, targets in matched.items()
        for target in targets
    ]
    return float(torch.stack(values).mean())


def check_loss(
    total: Tensor | float, patterns: Mapping[str, Tensor], teacher_rdms: Mapping[str, Tensor], batch: Batch
) -> None:
    """Refuse a loss that is NaN or Inf, and name the step, the layer and the conditions.

    Parameters
    ----------
    total : Tensor, scalar, or float
        The loss.
    patterns : mapping of layer to Tensor (n_conditions, n_channels)
    teacher_rdms : mapping of target to Tensor (n_rdms, n_pairs)
    batch : Batch
        Conditions and images of the step.

    Raises
    ------
    BrainrdlError
        If `total` is not finite.

    Examples
    --------
    >>> patterns = {"fc": torch.tensor([[0.0], [torch.nan]])}
    >>> check_loss(float("nan"), patterns, {}, Batch(("a", "b"), torch.zeros(2, 1, 1, 1), step=7))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: loss is nan at step 7: patterns of layer 'fc' are NaN or Inf for conditions ['b'];
    lower lr, or set clip
    """
    value = float(total.detach()) if isinstance(total, Tensor) else total
    if math.isfinite(value):
        return
    where = f"loss is {value} at step {batch.step}"
    infinite = [target for target, rdm in teacher_rdms.items() if rdm.isinf().any()]
    if infinite:
        refuse(f"{where}: the teacher's RDMs of targets {quote(infinite)} hold Inf; repair them first")
    _check_patterns(f"{where}:", patterns, batch.names)
    refuse(
        f"{where} for conditions {quote(batch.names)}, though the patterns of layers {quote(patterns)} are finite; "
        "lower lr, or set clip"
    )


def _check_patterns(where: str, patterns: Mapping[str, Tensor], names: Sequence[str]) -> None:
    for layer, pattern in patterns.items():
        bad = (~torch.isfinite(pattern)).any(-1).tolist()
        if any(bad):
            listed = quote(name for name, is_bad in zip(names, bad, strict=True) if is_bad)
            refuse(f"{where} patterns of layer {layer!r} are NaN or Inf for conditions {listed}; lower lr, or set clip")
