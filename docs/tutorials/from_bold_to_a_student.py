# %% [markdown]
# # From BOLD to a trained student
#
# The whole way: BOLD series and their events, a first-level model, crossnobis RDMs, a network that is fitted to them, and
# its scores on images that were held out.
#
# The BOLD series are simulated here, so that the page needs no download and the true RDM is known: five subjects look at
# 40 handwritten digits, and their voxels respond like the units of a network that was trained to recognise digits. With
# your own data, begin at "Read the series". First-level models need nilearn (`pip install '.[fmri]'`).

# %% tags=["parameters"]
N_SUBJECTS, N_RUNS, STEPS, SEEDS = 5, 6, 80, (0, 1)

# %% [markdown]
# ## Simulate the experiment
#
# Each image is shown once per run for 1 s, every 5 s, in random order. The response of a voxel is a random mixture of the
# hidden network's units, convolved with a haemodynamic response, plus drift and noise.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
import torch
from nilearn.glm.first_level import spm_hrf

from brainrdl import RDMTeacher, Student, Task, calc_rdm, compare, cross_validate, fit, plot, read
from brainrdl.demo import digits
from brainrdl.models import build

images, others = digits(per_digit=4)
torch.manual_seed(0)
hidden = Student(build("small_cnn").module, ["pool"])
training = {"rdm_weight": 0, "task": Task(), "steps": 150, "batch_size": 100, "lr": 0.003, "evaluate_every": 50}
fit(hidden, None, others, device="cpu", **training)
units = hidden.patterns(images)["pool"].double().numpy()
units = (units - units.mean(0)) / (units.std(0) + 1e-9)

T_R, VOXELS = 2.0, (6, 6, 4)
rng = np.random.default_rng(0)
n_volumes = int((len(images) * 5 + 20) / T_R)
fine = 10  # samples per volume, for the convolution
response = spm_hrf(T_R, oversampling=fine)


def series(tuning):
    """Return the volumes of a run and its events."""
    order = rng.permutation(len(images))
    onsets = 5.0 * np.arange(len(images)) + 4
    neural = np.zeros((n_volumes * fine, tuning.shape[1]))
    for onset, image in zip(onsets, order):
        start = int(onset * fine / T_R)
        neural[start : start + int(fine / T_R)] += units[image] @ tuning
    bold = np.apply_along_axis(lambda course: np.convolve(course, response)[: len(course)], 0, neural)[::fine]
    drift = np.linspace(-1, 1, n_volumes)[:, None] * rng.normal(size=tuning.shape[1])
    bold = 1000 + 20 * bold / bold.std() + 10 * drift + 25 * rng.normal(size=bold.shape)
    names = [images.names[image] for image in order]
    return bold, pd.DataFrame({"onset": onsets, "duration": 1.0, "trial_type": names})


affine = np.diag([3.0, 3.0, 3.0, 1.0])
for subject in range(1, N_SUBJECTS + 1):
    folder = Path(f"sub-{subject:02d}")
    folder.mkdir(exist_ok=True)
    tuning = rng.normal(size=(units.shape[1], np.prod(VOXELS)))
    for run in range(1, N_RUNS + 1):
        bold, events = series(tuning)
        image = nib.Nifti1Image(bold.T.reshape(*VOXELS, -1).astype(np.float32), affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = T_R
        nib.save(image, folder / f"run-{run}_bold.nii.gz")
        events.to_csv(folder / f"run-{run}_events.tsv", sep="\t", index=False)
nib.save(nib.Nifti1Image(np.ones(VOXELS, np.uint8), affine), "mask.nii.gz")

# %% [markdown]
# ## Read the series
#
# `read` estimates one pattern per image and run with nilearn's first-level model. Drifts are modelled with cosines.
# Subjects are recognised by the names of their folders. For fMRIPrep's output, give the BIDS folder instead
# ([Read raw fMRI](../how_to/raw_fmri.md)).

# %%
data = read("sub-*", reader="bold", runs="run-*_bold.nii.gz", events="run-{run}_events.tsv", mask="mask.nii.gz")
for dataset in data:
    print(dataset.descriptors["subject"], dataset.measurements.shape)

# %% [markdown]
# ## RDMs
#
# Crossnobis distances compare patterns of different runs, so noise does not bias them. The noise covariance comes from
# the residuals of the first-level model.

# %%
measured = calc_rdm(data, "crossnobis", noise="shrinkage_eye")

# %% [markdown]
# ## Fit
#
# A small network with random weights learns from the RDMs of 30 images. It is scored on the other 10, in four folds.


# %%
def make():
    return Student(build("small_cnn").module, ["pool"])


teacher = RDMTeacher(measured, name="simulated subjects")
evaluation = cross_validate(make, teacher, images, folds=4, seeds=SEEDS, steps=STEPS, lr=0.003, device="cpu")
shown = evaluation.summary.query("comparator == 'corr' and against == 'mean'")
shown[["student", "score", "low", "high", "ceiling", "share"]].round(2)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="compressed")
plot.scores(evaluation, "corr", "mean", ax)

# %% [markdown]
# ## Compare with the truth
#
# Because the data are simulated, the RDM without noise is known. How similar is it to the measured RDM, and to one student
# that was fitted to all images?

# %%
truth = hidden.rdms(images, dissimilarity="euclidean")
torch.manual_seed(0)
final = fit(make(), teacher, images, steps=STEPS, lr=0.003, device="cpu").student
for name, other in (("measured", measured.mean()), ("student", final.rdms(images))):
    print(f"{name}: {compare(truth, other, ['corr'])['similarity'].item():.2f}")

# %% [markdown]
# Both are 0.96. The first means that, with these subjects and runs, noise changed the measured RDM little. The second means
# that the student came as close to the true RDM as the measurement did. It saw all of these images, so its number is not a
# score on held-out images; that is 0.78, in the table above.
#
# ## Before you do this with real data
#
# - Check the files first: `brainrdl doctor sub-01/run-1_bold.nii.gz` ([Check a file](../how_to/doctor.md)).
# - Choose the region before looking at scores.
# - Forty images are few: the interval in the table above shows how few.
#   [Plan a study](../how_to/plan_a_study.md) computes how many are needed.
