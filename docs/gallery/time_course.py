"""Scores over time with intervals, clusters, onsets and the noise ceiling."""

import matplotlib.pyplot as plt
from _simulated import time_courses
from matplotlib.figure import Figure

from brainrdl import plot


def draw() -> Figure:
    """Eight simulated subjects follow an early and then a late layer."""
    courses = time_courses()
    clusters = {model: courses.clusters(model, n_permutations=500) for model in courses.models}
    figure = plt.figure(figsize=(3.35, 3.2), layout="compressed")
    plot.time_course(courses, figure.subplots(), clusters=clusters, onsets=courses.latencies("onset"))
    return figure
