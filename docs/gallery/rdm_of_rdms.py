"""Similarities between RDMs of subjects, species and layers of a network."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from brainrdl import Readout, Student, compare, datasets, plot
from brainrdl.models import build
from brainrdl.rdms import concat
from brainrdl.stimuli import default_transform


def draw() -> Figure:
    """Four subjects, monkey IT and five blocks of a network, clustered."""
    data = datasets.load("kriegeskorte92")
    stimuli = data.stimuli.with_transform(default_transform(112, (127 / 255, 128 / 255)))
    layers = [f"_blocks.{k}" for k in (2, 5, 9, 12, 15)]
    network = Student(build("efficientnet_lite0", "imagenet").module, layers, readout=Readout("avgpool"))
    blocks = network.rdms(stimuli)
    blocks.rdm_descriptors["name"] = [f"block {layer.split('.')[1]}" for layer in layers]
    brains = data.rdms.subset("session", "1")
    brains.rdm_descriptors["name"] = [*(f"human {who}" for who in ("BE", "KO", "SN", "TI")), "monkey"]
    named = [type(rdms)(rdms.dissimilarities, rdm_descriptors={"name": rdms.rdm_descriptors["name"]},
                        pattern_descriptors=rdms.pattern_descriptors) for rdms in (brains, blocks)]  # fmt: skip
    everything = concat(named)
    groups = {name: name.split()[0] for name in everything.rdm_descriptors["name"]}
    figure = plt.figure(figsize=(5.2, 4.6), layout="compressed")
    plot.rdm_of_rdms(compare(everything, everything, ["spearman"]), figure.subplots(), groups=groups, order="cluster")
    return figure
