"""Measures of a trained student on test images: error, calibration, robustness, RDMs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from brainrdl import FeatureTeacher, Stimuli, Student
from brainrdl.dissimilarity import resolve
from brainrdl.similarity import corr
from docs.experiments.results import pack

N_BINS = 15  # of confidence, as in Guo et al. (2017), doi 10.48550/arXiv.1706.04599
N_RDM = 500  # test images whose RDMs are compared


@dataclass(frozen=True)
class Exam:
    """The test images of an experiment.

    Parameters
    ----------
    stimuli : Stimuli
        With labels; images are in [0, 1] and networks normalise them.
    features : FeatureTeacher or None
        The teacher's patterns of these images.
    stages : mapping of layer to target
        The teacher's target that each of the student's layers is compared with.
    noise, fgsm : float
        Standard deviation of Gaussian noise, and step of the adversarial images, in units of the images' range.
    n_robustness : int
        Number of images that are changed.
    """

    stimuli: Stimuli
    features: FeatureTeacher | None
    stages: Mapping[str, str]
    noise: float
    fgsm: float
    n_robustness: int = 2000


MEASURES = (
    "error", "nll", "ece", "noise", "occlusion", "blur", "contrast", "pixelate", "fgsm", "rdm_early", "rdm_late",
    "correct",
)  # fmt: skip


def measure(student: Student, exam: Exam) -> dict[str, Any]:
    """Measure a student on the test images: one value for each name in `MEASURES`.

    Proportions of errors; nll in nats; ece is the expected calibration error; rdm_early and rdm_late are Pearson
    correlations of the student's and the teacher's RDM at the first and the last stage.
    """
    student.eval()
    images, labels = exam.stimuli.images(exam.stimuli.names), exam.stimuli.batch(exam.stimuli.names).labels
    logits = logits_of(student, images)
    correct = torch.eq(logits.argmax(1), labels)
    few, their_labels = images[: exam.n_robustness], labels[: exam.n_robustness]
    changed = {name: logits_of(student, change(few, exam)) for name, change in CHANGES.items()}
    changed["fgsm"] = logits_of(student, adversarial(student, few, their_labels, exam.fgsm))
    return {
        "error": 1 - float(correct.float().mean()),
        "nll": float(functional.cross_entropy(logits, labels)),
        "ece": calibration_error(logits, labels),
        **{name: float(torch.ne(found.argmax(1), their_labels).float().mean()) for name, found in changed.items()},
        **rdm_correlations(student, exam),
        "correct": pack(correct.numpy()),
    }


def guesses(exam: Exam) -> dict[str, Any]:
    """Measure a student that always answers the first class."""
    correct = torch.eq(exam.stimuli.batch(exam.stimuli.names).labels, 0)
    return {"error": 1 - float(correct.float().mean()), "correct": pack(correct.numpy())}


def logits_of(student: Student, images: Tensor) -> Tensor:
    """Logits of images in eval mode."""
    with torch.no_grad():
        return torch.cat([student(part).logits for part in images.split(500)])


def error_rate(student: Student, stimuli: Stimuli) -> tuple[float, float]:
    """Proportion of images classified wrongly, and mean negative log likelihood."""
    student.eval()
    batch = stimuli.batch(stimuli.names)
    logits = logits_of(student, batch.images)
    return float(torch.ne(logits.argmax(1), batch.labels).float().mean()), float(
        functional.cross_entropy(logits, batch.labels)
    )


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Mean absolute difference of confidence and accuracy over bins of confidence, weighted by their sizes."""
    confidence, chosen = logits.softmax(1).max(1)
    bins = (confidence * N_BINS).long().clamp(max=N_BINS - 1)
    gap = torch.zeros(N_BINS).index_add_(0, bins, (chosen == labels).float() - confidence)
    return float(gap.abs().sum() / len(labels))


def rdm_correlations(student: Student, exam: Exam) -> dict[str, float]:
    """Correlation with the teacher's RDM of the first test images, at the first and the last stage."""
    if exam.features is None:
        return {}
    batch = exam.stimuli.batch(exam.stimuli.names[:N_RDM])
    theirs = exam.features.rdms(batch)
    with torch.no_grad():
        ours = student(batch.images).patterns
    layers = list(exam.stages)
    kind = resolve(exam.features.identity(())["dissimilarity"])
    found = {layer: float(corr(kind(ours[layer]), theirs[exam.stages[layer]][0].float())) for layer in layers}
    return {"rdm_early": found[layers[0]], "rdm_late": found[layers[-1]]}


# Changed images, in the manner of Hendrycks & Dietterich (2019), doi 10.48550/arXiv.1903.12261; not their data


def adversarial(student: Student, images: Tensor, labels: Tensor, step: float) -> Tensor:
    """Move each pixel by `step` in the direction that increases the loss (Goodfellow et al. 2015)."""
    moved = []
    for part, true in zip(images.split(500), labels.split(500), strict=True):
        pixels = part.clone().requires_grad_()
        functional.cross_entropy(student(pixels).logits, true).backward()
        moved.append((part + step * pixels.grad.sign()).clamp(0, 1))
    return torch.cat(moved)


def _noise(images: Tensor, exam: Exam) -> Tensor:
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + exam.noise * drawn).clamp(0, 1)


def _occlusion(images: Tensor, exam: Exam) -> Tensor:
    """Cover a square of three eighths of the side with the mean grey."""
    side = images.shape[-1]
    size, changed, random = side * 3 // 8, images.clone(), np.random.default_rng(0)
    for image, (top, left) in zip(changed, random.integers(0, side - size + 1, (len(images), 2)), strict=True):
        image[:, top : top + size, left : left + size] = image.mean()
    return changed


def _blur(images: Tensor, exam: Exam) -> Tensor:
    channels = images.shape[1]
    line = torch.exp(-((torch.arange(5.0) - 2) ** 2) / 2)
    kernel = torch.outer(line, line).div_(line.sum() ** 2).expand(channels, 1, 5, 5)
    return functional.conv2d(functional.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=channels)


def _contrast(images: Tensor, exam: Exam) -> Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + 0.4 * (images - mean)


def _pixelate(images: Tensor, exam: Exam) -> Tensor:
    return functional.interpolate(functional.avg_pool2d(images, 2), scale_factor=2.0)


CHANGES: dict[str, Callable[[Tensor, Exam], Tensor]] = {
    "noise": _noise, "occlusion": _occlusion, "blur": _blur, "contrast": _contrast, "pixelate": _pixelate,
}  # fmt: skip
