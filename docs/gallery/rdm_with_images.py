"""An RDM with its images: the mean RDM of human IT, 92 images in six categories."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, plot


def draw() -> Figure:
    """Ranks of dissimilarities, images in the order of the categories."""
    data = datasets.load("kriegeskorte92")
    human = data.rdms.subset("roi", "hIT").mean()
    figure = plt.figure(figsize=(5.5, 5.0), layout="compressed")
    plot.rdm(human, figure.subplots(), data.stimuli.labels, images=data.stimuli, scale="rank", title="human IT")
    return figure
