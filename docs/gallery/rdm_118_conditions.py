"""An RDM of 118 conditions at the width of a column: every name that fits."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

from brainrdl import datasets, plot


def draw() -> Figure:
    """Simulated subjects; 118 names would overlap, so every 7th or so is written."""
    patterns = torch.randn(118, 20, generator=torch.Generator().manual_seed(0)).cumsum(0)
    subjects = datasets.simulate_subjects(patterns, [f"image {i:03d}" for i in range(118)], n_subjects=4)
    figure = plt.figure(figsize=(3.35, 3.35), layout="compressed")
    plot.rdm(subjects.mean(), figure.subplots(), labels="names", scale="rank")
    return figure
