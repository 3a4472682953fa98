# %% [markdown]
# # When does a signal resemble a layer?
#
# An RDM movie of simulated MEG: scores of two layers over time, clusters, onsets, and whether a geometry lasts.
#
# Twelve simulated subjects saw 24 images. Their 30 noisy sensors show the geometry of an early layer around 0.1 s and
# that of a late layer around 0.18 s. For your own recordings, replace the simulation by
# `brainrdl.read("sub-*/meg/*-epo.fif", picks="mag")`. The [how-to](../how_to/rdm_movie.md) explains the choices.

# %% tags=["parameters"]
N_SUBJECTS, N_IMAGES, N_SENSORS, N_REPEATS = 12, 24, 30, 4

# %%
import matplotlib.pyplot as plt
import numpy as np
from rsatoolbox.data import TemporalDataset

import brainrdl
from brainrdl import plot
from brainrdl.inference import cluster_test, cross_temporal, score_movie

rng = np.random.default_rng(0)
times = np.round(np.arange(-0.1, 0.4, 0.01), 2)
names = [f"image_{k:02d}" for k in range(N_IMAGES)]
layers = {"early": rng.normal(size=(N_IMAGES, 8)), "late": rng.normal(size=(N_IMAGES, 8))}
strength = {"early": np.exp(-(((times - 0.10) / 0.03) ** 2)), "late": np.exp(-(((times - 0.18) / 0.05) ** 2))}

subjects = []
for subject in range(N_SUBJECTS):
    sensors = {name: patterns @ rng.normal(size=(8, N_SENSORS)) / 8**0.5 for name, patterns in layers.items()}
    signal = sum(sensors[name][:, :, None] * strength[name] for name in layers)
    trials = np.concatenate([signal + 1.5 * rng.normal(size=signal.shape) for _ in range(N_REPEATS)])
    described = {"stimulus": names * N_REPEATS, "run": np.repeat(np.arange(N_REPEATS), N_IMAGES)}
    subjects.append(
        TemporalDataset(trials, {"subject": f"s{subject + 1:02d}"}, described, time_descriptors={"time": times})
    )

# %% [markdown]
# ## RDMs over time
#
# `calc_rdm` makes one RDM for each subject and window. Crossnobis is not biased by noise, so its expected value is 0
# before the response begins.

# %%
windows = [(t - 0.01, t + 0.01) for t in times[1:-1]]
movie = brainrdl.calc_rdm(subjects, "crossnobis", noise="shrinkage_diag", windows=windows)
print(movie.n_rdm, "RDMs of", movie.n_cond, "images")

# %% [markdown]
# The models are the RDMs of the two layers. With real data they are `student.rdms(stimuli)` of a network.

# %%
i, j = np.triu_indices(N_IMAGES, 1)
distances = np.stack([((patterns[i] - patterns[j]) ** 2).sum(1) for patterns in layers.values()])
models = brainrdl.rdms.from_array(distances, names, descriptors={"layer": list(layers)})
courses = score_movie(models, movie)
peaks = courses.summary.loc[courses.summary.groupby("model")["score"].idxmax()]
peaks[["model", "time", "score", "low", "high", "ceiling"]].round(3)

# %% [markdown]
# ## Clusters
#
# A cluster test flips the signs of subjects. Its p-value belongs to the cluster as a whole, so an onset must not be
# read from it.

# %% tags=["thumbnail"]
clusters = {layer: courses.clusters(layer) for layer in courses.models}
figure, ax = plt.subplots(figsize=(7.1, 3.4), layout="compressed")
plot.time_course(courses, ax, clusters=clusters)

# %%
clusters["early"].clusters.round(3)

# %%
clusters["late"].clusters.round(3)

# %% [markdown]
# When is one layer better than the other? A negative sign means that the early layer is better.

# %%
courses.clusters("late", "early").clusters[["sign", "start", "end", "p"]].round(3)

# %% [markdown]
# ## Onsets
#
# The onset is the time at which a course reaches half of its peak, in the mean over subjects, with a jackknife
# interval. The simulated subjects differ less than real ones, so their intervals are narrow.

# %%
onsets = courses.latencies("onset", window=(0.0, 0.3))
onsets[["model", "other", "latency", "low", "high"]].round(4)

# %% [markdown]
# ## Does a geometry last?
#
# The RDM of each subject at one time is compared with the mean RDM of the others at another time. A geometry that lasts
# gives a square, one that moves on gives a diagonal.

# %%
crossed = cross_temporal(movie)
test = cluster_test(crossed.similarities, tail="greater")
figure, ax = plt.subplots(figsize=(4.2, 3.6), layout="compressed")
plot.time_by_time(crossed.times, crossed.similarities.mean(0), ax, significant=test.p < 0.05)
