"""A group searchlight on the inflated cortex."""

from _simulated import group_map
from matplotlib.figure import Figure

from brainrdl import plot


def draw() -> Figure:
    """The clusters of twelve simulated subjects, sampled on fsaverage5 (extra `fmri`)."""
    return plot.brain_surface(group_map(), "animacy", significant="p_cluster", views=("lateral", "ventral"))
