"""Bars with single subjects, intervals, the noise ceiling, and arrows to the models that are worse."""

from itertools import combinations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, plot, rdms, rsa
from brainrdl.dissimilarity import correlation
from brainrdl.stimuli import default_transform


def draw() -> Figure:
    """Models of the IT of 15 subjects: brackets where few models differ, arrows where many do."""
    data, neuron = datasets.load("algonauts92"), datasets.load("kriegeskorte92")  # the same images in the same order
    names, labels = data.stimuli.names, [neuron.stimuli.labels[name] for name in neuron.stimuli.names]
    models = {}
    for size in (4, 16, 64):
        images = data.stimuli.with_transform(default_transform(size, "none")).images()
        models[f"{size} x {size} pixels"] = rdms.from_tensor(correlation(images.flatten(1))[None], names)
    for model, kinds in (("categories", labels), ("faces", ["face" in label for label in labels])):
        models[model] = rdms.from_array([float(a != b) for a, b in combinations(kinds, 2)], names)
    monkey = neuron.rdms.subset("roi", "mIT")
    models["monkey IT"] = rdms.from_array(rdms.select(monkey, neuron.stimuli.names).dissimilarities, names)
    result = rsa(models, data.rdms.subset("roi", "IT"), comparators="spearman")
    figure = plt.figure(figsize=(7.1, 3.0), layout="compressed")
    left, right = figure.subplots(1, 2)
    plot.model_bars(result, ax=left, differences="brackets")
    plot.model_bars(result, ax=right, kind="dots", differences="arrows")
    return figure
