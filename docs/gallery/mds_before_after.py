"""Maps of a student before and after fitting, with arrows from its teacher, for images that it was not fitted to."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import RDMTeacher, Readout, Student, datasets, fit, plot
from brainrdl.models import build
from brainrdl.rdms import select
from brainrdl.stimuli import default_transform


def projection() -> Student:
    """ImageNet network with a linear map of its last blocks, which is fitted."""
    network = build("efficientnet_lite0", "imagenet").module
    readout = Readout("avgpool", standardise=True, projection="square")
    return Student(network, ["_blocks.13+_blocks.14+_blocks.15"], readout=readout, trainable="projection")


def draw() -> Figure:
    """Half of the images train the student, the map shows the other half."""
    data = datasets.load("kriegeskorte92")
    human = data.rdms.subset("roi", "hIT")
    teacher = RDMTeacher(human, name="human IT", average_over="session")
    stimuli = data.stimuli.with_transform(default_transform(112, (127 / 255, 128 / 255))).cached()
    train, held_out = stimuli.names[::2], stimuli.names[1::2]
    student = projection()
    student.calibrate(stimuli.images(train))
    before = student.rdms(stimuli, held_out)
    fit(student, teacher, stimuli, train=train, steps=12, optimizer="momentum", lr=0.2)
    after = student.rdms(stimuli, held_out)
    goal = select(human.mean(), held_out)
    figure = plt.figure(figsize=(7.1, 4.6), layout="compressed")
    panels = zip(figure.subplots(1, 2), (before, after), ("before fitting", "after fitting"), strict=True)
    for ax, rdms, title in panels:
        plot.displacement_map(rdms, goal, ax, data.stimuli.labels, images=data.stimuli, title=title)
    return figure
