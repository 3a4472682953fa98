"""A group searchlight on a glass brain."""

from _simulated import group_map
from matplotlib.figure import Figure

from brainrdl import plot


def draw() -> Figure:
    """The significant voxels of twelve simulated subjects (extra `fmri`)."""
    return plot.glass_brain(group_map(), "animacy")
