"""Scores with each subject's RDM, and their means."""

from itertools import combinations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import datasets, plot, rdms, rsa
from brainrdl.dissimilarity import correlation
from brainrdl.stimuli import default_transform


def draw() -> Figure:
    """Three models of the IT of 15 subjects."""
    data, neuron = datasets.load("algonauts92"), datasets.load("kriegeskorte92")  # the same images in the same order
    names, labels = data.stimuli.names, [neuron.stimuli.labels[name] for name in neuron.stimuli.names]
    images = data.stimuli.with_transform(default_transform(32, "none")).images()
    monkey = neuron.rdms.subset("roi", "mIT")
    models = {
        "pixels": rdms.from_tensor(correlation(images.flatten(1))[None], names),
        "categories": rdms.from_array([float(a != b) for a, b in combinations(labels, 2)], names),
        "monkey IT": rdms.from_array(rdms.select(monkey, neuron.stimuli.names).dissimilarities, names),
    }
    result = rsa(models, data.rdms.subset("roi", "IT"), comparators="spearman")
    figure = plt.figure(figsize=(3.35, 4.0), layout="compressed")
    plot.subject_scores(result, ax=figure.subplots())
    return figure
