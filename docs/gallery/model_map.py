"""Models by regions: shares of the noise ceiling, and which scores differ from 0."""

from itertools import combinations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, plot, rdms, rsa
from brainrdl.dissimilarity import correlation
from brainrdl.stimuli import default_transform


def draw() -> Figure:
    """Pixels, categories and monkey IT as models of two regions of 15 subjects."""
    data, neuron = datasets.load("algonauts92"), datasets.load("kriegeskorte92")  # the same images in the same order
    names, labels = data.stimuli.names, [neuron.stimuli.labels[name] for name in neuron.stimuli.names]
    models = {}
    for size in (4, 16, 64):
        images = data.stimuli.with_transform(default_transform(size, "none")).images()
        models[f"{size} x {size} pixels"] = rdms.from_tensor(correlation(images.flatten(1))[None], names)
    models["categories"] = rdms.from_array([float(a != b) for a, b in combinations(labels, 2)], names)
    monkey = neuron.rdms.subset("roi", "mIT")
    models["monkey IT"] = rdms.from_array(rdms.select(monkey, neuron.stimuli.names).dissimilarities, names)
    result = rsa(models, data.rdms, comparators="spearman")
    figure = plt.figure(figsize=(3.35, 2.6), layout="compressed")
    plot.model_map(result, ax=figure.subplots())
    return figure
