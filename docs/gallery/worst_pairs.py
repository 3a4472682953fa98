"""The pairs of images that a model and human IT disagree about the most."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, plot


def draw() -> Figure:
    """Monkey IT as a model of human IT; left: all pairs, right: the worst ones."""
    data = datasets.load("kriegeskorte92")
    human, monkey = data.rdms.subset("roi", "hIT").mean(), data.rdms.subset("roi", "mIT")
    figure = plt.figure(figsize=(7.1, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    titles = ("monkey IT", "human IT")
    plot.pairs(monkey, human, left, scale="rank", titles=titles)
    plot.worst_pairs(monkey, human, right, images=data.stimuli, titles=titles)
    return figure
