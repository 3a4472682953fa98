"""Training curves of several folds, with the step that each fold kept."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from brainrdl import RDMTeacher, Student, datasets, fit, plot
from brainrdl.stimuli import default_transform


def draw() -> Figure:
    """Linear maps of the pixels are fitted to human IT, with other validation images in each run."""
    import pandas as pd

    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), average_over="session")
    images = data.stimuli.with_transform(default_transform(12)).cached()
    histories = []
    for fold in range(4):
        torch.manual_seed(fold)
        student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 12 * 12, 32)), ["1"])
        options = {"steps": 60, "evaluate_every": 4, "optimizer": "adam", "lr": 0.003, "device": "cpu"}
        fitted = fit(student, teacher, images, validation=images.names[fold::4], **options)
        histories.append(fitted.history.assign(fold=fold))
    figure = plt.figure(figsize=(3.35, 3.4), layout="compressed")
    plot.history(pd.concat(histories), figure.subplots(), similarity="RDM correlation")
    return figure
