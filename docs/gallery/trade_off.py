"""What a brain costs a task: accuracy and score for several weights, with controls."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from brainrdl import plot

# Of the example "A task and a brain together": teacher, weight, accuracy, its standard deviation, score, interval
ROWS = [
    ("task only", 0, 0.126, 0.010, 0.08, 0.02, 0.14),
    ("human IT", 0.1, 0.143, 0.009, 0.12, 0.05, 0.20),
    ("human IT", 1, 0.133, 0.007, 0.16, 0.09, 0.23),
    ("human IT", 10, 0.086, 0.010, 0.15, 0.08, 0.22),
    ("permuted", 1, 0.123, 0.008, 0.06, 0.02, 0.11),
    ("permuted", 10, 0.073, 0.019, 0.07, 0.02, 0.12),
    ("random RDM", 1, 0.123, 0.007, 0.08, -0.01, 0.18),
    ("random RDM", 10, 0.057, 0.013, 0.09, 0.00, 0.18),
    ("categories", 1, 0.123, 0.007, 0.08, 0.04, 0.13),
    ("categories", 10, 0.088, 0.013, 0.08, 0.03, 0.13),
]


def draw() -> Figure:
    """Points are labelled with the weight of the RDM loss; labels do not cover each other."""
    table = pd.DataFrame(ROWS, columns=["teacher", "weight", "accuracy", "accuracy_sd", "score", "low", "high"])
    figure = plt.figure(figsize=(7.1, 3.4), layout="compressed")
    plot.pareto(table.assign(comparator="spearman", against="subjects"), "weight", figure.subplots(), by="teacher")
    return figure
