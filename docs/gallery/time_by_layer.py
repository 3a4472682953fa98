"""Layers by times: when does the brain resemble each layer?"""

import matplotlib.pyplot as plt
from _simulated import time_courses
from matplotlib.figure import Figure

from brainrdl import plot


def draw() -> Figure:
    """Eight simulated subjects follow five layers, one after the other."""
    courses = time_courses(layers=5)
    clusters = {model: courses.clusters(model, n_permutations=500) for model in courses.models}
    onsets = courses.latencies("onset", window=(0, 0.35))
    figure = plt.figure(figsize=(7.1, 2.4), layout="compressed")
    plot.time_by_model(courses, figure.subplots(), clusters=clusters, onsets=onsets, label="Pearson correlation")
    return figure
