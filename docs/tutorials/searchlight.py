# %% [markdown]
# # A searchlight with a group test
#
# Around each voxel of eight simulated subjects, an RDM is computed and compared with two model RDMs. The maps of all
# subjects are then tested, and the clusters are compared with the regions that were simulated.
#
# Twelve conditions of three categories were measured in two runs. In one region, patterns depend on the category; in
# another, on the size of the object. Everywhere else there is only noise. For your own data, replace the simulation by
# the paths of your files. The [how-to](../how_to/searchlight.md) explains the options, also for surfaces and sensors.

# %% tags=["parameters"]
N_SUBJECTS, SHAPE = 8, (15, 18, 10)

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from scipy.ndimage import distance_transform_edt

from brainrdl import plot, rdms, read, searchlight
from brainrdl.searchlights import group_test, volume_neighbourhoods

names = [f"{category}_{k}" for category in ("face", "house", "tool") for k in range(1, 5)]
rng = np.random.default_rng(0)
category = np.repeat(np.eye(3), 4, axis=0)  # three columns, one per category
size = rng.permutation(12)[:, None] / 4  # not related to the category

grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
mask = (grid**2).sum(0) < 1  # an ellipsoid
regions = {
    "category": mask & (grid[0] > 0.2) & (grid[1] < 0),
    "size": mask & (grid[0] < -0.2) & (grid[1] > 0.2),
}
affine = np.diag([3.0, 3.0, 3.0, 1.0])  # voxels of 3 mm
nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), "mask.nii.gz")

for subject in range(1, N_SUBJECTS + 1):
    betas = rng.normal(size=(*SHAPE, 24))  # 12 conditions in each of 2 runs
    for values, region in ((category, regions["category"]), (size, regions["size"])):
        tuning = rng.normal(size=(region.sum(), values.shape[1]))
        betas[region] += 0.4 * np.tile(tuning @ values.T, 2)
    nib.save(nib.Nifti1Image(betas.astype(np.float32), affine), f"sub-{subject}_betas.nii.gz")
    rows = [f"{name}\t{run}" for run in (1, 2) for name in names]
    Path(f"sub-{subject}_betas.tsv").write_text("\n".join(["condition\trun", *rows]))

# %% [markdown]
# ## Models and spheres

# %%
i, j = np.triu_indices(12, 1)
models = {
    "category": rdms.from_array((category[i] != category[j]).any(1).astype(float), names),
    "size": rdms.from_array(np.abs(size[i] - size[j])[:, 0], names),
}
near = volume_neighbourhoods("mask.nii.gz", radius=6)
sizes = [len(near.channels_of(k)) for k in range(len(near.centres))]
print(f"{len(sizes)} spheres of {min(sizes)} to {max(sizes)} voxels")

# %% [markdown]
# ## One map per subject and model
#
# Crossnobis distances between the two runs are not biased by noise, so that a mean of 0 is expected where nothing is.

# %%
maps = [
    searchlight(
        read(f"sub-{subject}_betas.nii.gz", mask="mask.nii.gz"),
        near,
        models,
        dissimilarity="crossnobis",
        comparator="spearman",
    )
    for subject in range(1, N_SUBJECTS + 1)
]
maps[0].peaks("category", 3).round(2)

# %% [markdown]
# ## Group test
#
# The signs of subjects are flipped. `p_fwe` is corrected for all voxels. With eight subjects there are 256 flips, so no
# p-value can be below 1/256.

# %%
group = group_test(maps, p_threshold=0.01)
found = group.clusters.query("p < 0.05")
print(f"{len(found)} of {len(group.clusters)} clusters are significant")
found[["model", "size", "p", "peak_t", "x", "y", "z"]].round(3)

# %% tags=["thumbnail"]
figure = plt.figure(figsize=(7.1, 3.2), layout="compressed")
plot.brain_slices(group, "category", n_slices=5, figure=figure)

# %%
figure = plt.figure(figsize=(7.1, 3.2), layout="compressed")
plot.brain_slices(group, "size", n_slices=5, figure=figure)

# %% [markdown]
# ## Are they the regions that were simulated?
#
# A sphere reaches 6 mm beyond its centre, so centres just outside a region also contain its voxels.

# %%
voxels = tuple(near.centres[axis] for axis in "ijk")
for k, model in enumerate(group.models):
    found = group.values["p_fwe"][:, k] < 0.05
    away = distance_transform_edt(~regions[model], sampling=3.0)[voxels]  # mm to the region, 0 inside
    print(f"{model}: {found.sum()} significant centres, up to {away[found].max():.1f} mm from the region;")
    print(f"  they cover {(found & (away == 0)).sum() / (away == 0).sum():.0%} of the region")
