"""Brain data of two studies that showed the same 92 objects, and maps that are fitted to them.

Kriegeskorte et al. (2008, doi 10.1016/j.neuron.2008.10.043): human IT of 4 subjects (2 sessions each) and monkey IT,
the objects on grey. Cichy et al. (2014, doi 10.1038/nn.3635): IT and EVC of 15 other subjects, the same objects on
white. The objects have the same names in both, so that an object which is held out is held out in both.

The student is a linear map of the outputs of blocks 11 to 15 of EfficientNet-Lite0 (ImageNet weights from its package,
extra `demo`), averaged over space and z-scored with the training images. The network is frozen, so its outputs are
computed once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from brainrdl import RDMTeacher, Readout, Stimuli, Student, datasets, fit
from brainrdl.evaluation import TeacherRDMs, stimulus_folds, teacher_rdms
from brainrdl.models import build
from brainrdl.rdm_models import ReweightedModel
from brainrdl.rdms import names as names_of
from brainrdl.stimuli import default_transform
from brainrdl.teachers import Teacher

RUNS = Path("runs/experiments")
RESULTS = Path(__file__).parent / "results"
BLOCKS = "+".join(f"_blocks.{block}" for block in range(11, 16))
SIZE = 224
STEPS = {"optimizer": "momentum", "lr": 0.2, "evaluate_every": 3, "device": "cpu", "progress": False}
MOST_STEPS, INNER_FOLDS = 24, 3
N_FOLDS = 5
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)

HUMAN_IT, MONKEY_IT, IT, EVC = "human IT (4)", "monkey IT", "human IT (15)", "EVC (15)"
STUDIES = {HUMAN_IT: "kriegeskorte92", MONKEY_IT: "kriegeskorte92", IT: "algonauts92", EVC: "algonauts92"}
ROIS = {HUMAN_IT: "hIT", MONKEY_IT: "mIT", IT: "IT", EVC: "EVC"}


@dataclass(frozen=True)
class Brain:
    """The RDMs of a region, and the network's outputs for the images that these subjects saw."""

    name: str
    features: Stimuli
    teacher: RDMTeacher

    @property
    def truth(self) -> TeacherRDMs:
        """Every subject's RDM, under the name of the region."""
        found = teacher_rdms(self.teacher, self.features, self.features.names, self.teacher.targets)
        (one,) = found.values()
        return replace(one, target=self.name)

    def of(self, subjects: Sequence[str]) -> Brain:
        """The same with some of the subjects."""
        return replace(self, teacher=self.teacher.only_subjects(subjects))


@cache
def features(study: str) -> Stimuli:
    """Outputs of the blocks as stimuli (1 x 1 x 1,088), under the names of the objects, with six categories."""
    images, known = datasets.load(study).stimuli, datasets.load("kriegeskorte92").stimuli
    labels = [known.labels[name] for name in known.names]  # both studies list the objects in one order
    return Stimuli.from_arrays(torch.as_tensor(_patterns(study, images)), objects(images.names), labels=labels)


def _patterns(study: str, images: Stimuli) -> np.ndarray:
    """Compute the outputs once, and keep them in a file."""
    path = RUNS / f"features_{study}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)
    shown = images.with_transform(default_transform(SIZE, (127 / 255, 128 / 255)))
    network = Student(build("efficientnet_lite0", "imagenet").module, [BLOCKS], readout=Readout("avgpool"))
    (patterns,) = network.patterns(shown, batch_size=46).values()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, patterns[:, None, None].numpy())
    return patterns[:, None, None].numpy()


def objects(names: Iterable[str]) -> list[str]:
    """The object that an image shows, for example "object 07" for "stimulus_07" and "image_07"."""
    return [f"object {name.rpartition('_')[2]}" for name in names]


@cache
def brain(name: str) -> Brain:
    """One of the four regions."""
    rdms = datasets.load(STUDIES[name]).rdms.subset("roi", ROIS[name])
    rdms.pattern_descriptors = {**rdms.pattern_descriptors, "stimulus": objects(names_of(rdms))}
    teacher = RDMTeacher(rdms, name=name, average_over="session" if name == HUMAN_IT else ())
    return Brain(name, features(STUDIES[name]), teacher)


def make_map() -> Student:
    """A linear map of the channels, from the identity on."""
    readout = Readout(standardise=True, projection="square")
    return Student(nn.Sequential(nn.Flatten()), ["0"], readout=readout, trainable="projection")


def all_studies() -> dict[str, Stimuli]:
    """What the network sees in each study."""
    return {study: features(study) for study in dict.fromkeys(STUDIES.values())}


def splits(stimuli: Stimuli, seed: int) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Number, training and test names of each fold, stratified by category."""
    table = stimulus_folds(stimuli.names, N_FOLDS, labels=stimuli.labels, seed=seed)
    tests = {int(fold): tuple(part["stimulus"]) for fold, part in table.groupby("fold")}
    return [(k, tuple(name for name in stimuli.names if name not in set(test)), test) for k, test in tests.items()]


def fit_map(teacher: Teacher, stimuli: Stimuli, train: Sequence[str], seed: int) -> tuple[Student, int]:
    """Fit a map to the RDM of `train`; inner folds of `train` choose the number of steps, which is returned too."""
    inner = stimulus_folds(train, INNER_FOLDS, labels=_balanced(stimuli, train), seed=seed, what="inner_folds")
    curves = []
    for _, part in inner.groupby("fold"):
        own = [name for name in train if name not in set(part["stimulus"])]
        found = fit(
            make_map(), teacher, stimuli, train=own, validation=list(part["stimulus"]), steps=MOST_STEPS, seed=seed,
            **STEPS,
        )  # fmt: skip
        curves.append(found.history.set_index("step")["validation_similarity"])
    steps = int(pd.concat(curves, axis=1).mean(axis=1).idxmax())
    return fit(make_map(), teacher, stimuli, train=list(train), steps=steps, seed=seed, **STEPS).student, steps


def _balanced(stimuli: Stimuli, names: Sequence[str]) -> Mapping[str, str] | None:
    """Categories to distribute over inner folds, if each is large enough."""
    labels = {name: (stimuli.labels or {})[name] for name in names}
    return labels if pd.Series(labels).value_counts().min() >= INNER_FOLDS else None


def unfitted_map(stimuli: Stimuli, train: Sequence[str]) -> Student:
    """The map before fitting: z-scored outputs of the network."""
    student = make_map()
    student.calibrate(stimuli.images(train))
    return student


def pairs_of(student: Student, stimuli: Stimuli, names: Sequence[str]) -> Tensor:
    """Dissimilarities of the student's patterns."""
    return torch.as_tensor(student.rdms(stimuli, names).dissimilarities[0])


def reweighted(
    before: Student, source: Brain, shown: Mapping[str, Stimuli], train: Sequence[str], test: Sequence[str], seed: int,
    truth: TeacherRDMs | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    """Predict `test` in each study from channels of the unfitted map, with weights that are fitted to `train`."""
    asked = {"seen": (source.features, train)} | {study: (images, test) for study, images in shown.items()}
    patterns = {label: next(iter(before.patterns(*each).values())) for label, each in asked.items()}
    names = {label: [f"{label} {name}" for name in each[1]] for label, each in asked.items()}
    inner = stimulus_folds(names["seen"], INNER_FOLDS, seed=seed)
    parts = [list(part["stimulus"]) for _, part in inner.groupby("fold")]
    every = [name for label in names for name in names[label]]
    model = ReweightedModel(torch.cat([*patterns.values()]), every, "correlation", folds=parts, penalties=PENALTIES)
    fitted = model.fit((truth or source.truth).of(train), names["seen"])
    return {study: fitted.predict(names[study]) for study in shown}


def looked_up(truth: TeacherRDMs, labels: Mapping[str, str], train: Sequence[str], test: Sequence[str]) -> Tensor:
    """Predict each pair of `test` by the mean dissimilarity of its two categories in `train`."""
    mean, of_train = truth.of(train).nanmean(0), [labels[name] for name in train]
    pairs = pd.DataFrame([sorted(pair) for pair in combinations(of_train, 2)], columns=["one", "other"])
    known = pairs.assign(mean=mean.numpy()).groupby(["one", "other"])["mean"].mean().to_dict()
    found = [known.get(tuple(sorted(pair)), float(mean.mean())) for pair in combinations(map(labels.get, test), 2)]
    return torch.tensor(found, dtype=torch.float64)


def as_text(pairs: Tensor) -> str:
    """Dissimilarities with four decimals, for a table; those of correlation distances are between 0 and 2."""
    return " ".join(f"{value:.4f}" for value in pairs.tolist())


def from_text(text: str) -> Tensor:
    """Read what `as_text` wrote."""
    return torch.tensor([float(value) for value in text.split()], dtype=torch.float64)
