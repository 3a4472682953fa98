"""Scores in each fold of held-out images, with the ceiling of the fold."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from brainrdl import RDMTeacher, Student, cross_validate, datasets, plot
from brainrdl.stimuli import default_transform


def linear() -> Student:
    """A linear map of the pixels."""
    return Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 12 * 12, 32)), ["1"])


def draw() -> Figure:
    """A linear map of the pixels is fitted to human IT; images of each fold are held out."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), average_over="session")
    images = data.stimuli.with_transform(default_transform(12))
    options = {"steps": 30, "optimizer": "adam", "lr": 0.003, "device": "cpu"}
    result = cross_validate({"linear map": linear}, teacher, images, folds=4, comparators=["spearman"], **options)
    figure = plt.figure(figsize=(3.35, 3.2), layout="compressed")
    plot.fold_scores(result, "spearman", "subjects", figure.subplots())
    return figure
