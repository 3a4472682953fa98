"""A group searchlight on slices, with outlines around significant voxels."""

import matplotlib.pyplot as plt
from _simulated import group_map
from matplotlib.figure import Figure

from brainrdl import plot


def draw() -> Figure:
    """Twelve simulated subjects; voxels that are not significant are pale, not hidden."""
    figure = plt.figure(figsize=(7.1, 3.6), layout="compressed")
    return plot.brain_slices(group_map(), "animacy", figure=figure)
