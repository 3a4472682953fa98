"""The images that change a score the most, and what they do to the agreement of subjects."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, inference, plot


def draw() -> Figure:
    """Monkey IT as a model of human IT: each image is left out in turn."""
    data = datasets.load("kriegeskorte92")
    human, monkey = data.rdms.subset("roi", "hIT"), data.rdms.subset("roi", "mIT")
    table = inference.influence_of_conditions(monkey, human.subset("session", "1"))
    figure = plt.figure(figsize=(3.35, 3.9), layout="constrained")
    plot.condition_influence(table, figure.subplots(), images=data.stimuli)
    return figure
