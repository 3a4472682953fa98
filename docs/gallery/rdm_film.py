"""A film of the student's RDM during training."""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from brainrdl import RDMTeacher, Student, datasets, fit, plot, rdms
from brainrdl.stimuli import default_transform
from brainrdl.training import RecordRDMs


def recorded() -> tuple[RecordRDMs, dict]:
    """Fit a linear map of the pixels to human IT, and keep its RDM at each evaluation."""
    data = datasets.load("kriegeskorte92")
    human = data.rdms.subset("roi", "hIT")
    teacher = RDMTeacher(human, average_over="session")
    images = data.stimuli.with_transform(default_transform(12)).cached()
    torch.manual_seed(0)
    student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 12 * 12, 32)), ["1"])
    record = RecordRDMs(student, images)
    options = {"steps": 60, "evaluate_every": 3, "optimizer": "adam", "lr": 0.003, "device": "cpu"}
    fitted = fit(student, teacher, images, validation=0.25, callbacks=[record], **options)
    return record, {"teacher": human.mean(), "groups": data.stimuli.labels, "history": fitted.history}


def draw() -> Figure:
    """The first and the last RDM."""
    record, given = recorded()
    found, names = record.rdms, rdms.names(record.rdms)
    figure = plt.figure(figsize=(7.1, 2.9), layout="compressed")
    panels = figure.subplots(1, 2)
    both = found.dissimilarities[[0, -1]]
    limits = float(both.min()), float(both.max())
    for ax, k in zip(panels, (0, found.n_rdm - 1), strict=True):
        one = rdms.from_array(found.dissimilarities[k], names, measure="correlation")
        plot.rdm(one, ax, given["groups"], *limits, title=f"step {found.rdm_descriptors['step'][k]}")
    return figure


def film(path: Path) -> Path:
    """All RDMs, with the teacher's."""
    record, given = recorded()
    return plot.rdm_film(record.rdms, path=path, titles=("linear map", "human IT"), **given)
