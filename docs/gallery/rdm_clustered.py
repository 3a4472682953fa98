"""An RDM in the order of a hierarchical clustering, with its categories as colours."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, plot


def draw() -> Figure:
    """Neighbours are as similar as possible; the categories were not used for this order."""
    data = datasets.load("kriegeskorte92")
    human = data.rdms.subset("roi", "hIT").mean()
    figure = plt.figure(figsize=(5.5, 5.4), layout="compressed")
    plot.rdm(human, figure.subplots(), data.stimuli.labels, images=data.stimuli, scale="rank", order="cluster")
    return figure
