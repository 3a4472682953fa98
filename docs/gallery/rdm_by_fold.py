"""Held-out RDMs by fold: student, human IT and their difference, only pairs that were held out together."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import RDMTeacher, Readout, Student, cross_validate, datasets, plot
from brainrdl.models import build
from brainrdl.stimuli import default_transform


def projection() -> Student:
    """ImageNet network with a linear map of its last blocks, which is fitted."""
    network = build("efficientnet_lite0", "imagenet").module
    readout = Readout("avgpool", standardise=True, projection="square")
    return Student(network, ["_blocks.13+_blocks.14+_blocks.15"], readout=readout, trainable="projection")


def draw() -> Figure:
    """Five folds, about 30 seconds on two cores."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name="human IT", average_over="session")
    stimuli = data.stimuli.with_transform(default_transform(112, (127 / 255, 128 / 255))).cached()
    options = {"optimizer": "momentum", "lr": 0.2, "steps": 12}
    result = cross_validate({"student": projection}, teacher, stimuli, folds=5, seeds=(0,), controls=(), **options)
    student = result.students.subset("student", "student")
    figure = plt.figure(figsize=(7.1, 4.3), layout="compressed")
    return plot.rdm_folds(
        student, result.teacher, plot.folds_of(student), data.stimuli.labels,
        images=data.stimuli, titles=("student", "human IT"), figure=figure,
    )  # fmt: skip
