"""Tests of the maps of several subjects: where is the mean score above 0, corrected for the number of centres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import check_option, refuse
from brainrdl.inference.clusters import cluster_test
from brainrdl.inference.permutation import Tail, sign_flip_test
from brainrdl.searchlights.maps import SearchlightMap, same_centres
from brainrdl.searchlights.measurements import said
from brainrdl.searchlights.neighbourhoods import Neighbourhoods

if TYPE_CHECKING:
    import pandas as pd
Values = npt.NDArray[np.float64]

QUANTITIES = ("mean", "t", "p", "p_fwe", "p_cluster")


@dataclass(frozen=True, eq=False)
class GroupMap:
    """Mean scores over subjects, and their p-values.

    Attributes
    ----------
    neighbourhoods : Neighbourhoods
        The centres.
    models : tuple of str
        Names of the models.
    values : dict of str to numpy.ndarray (n_centres, n_models)
        ``mean`` and ``t`` over subjects, the uncorrected ``p``, ``p_fwe`` corrected for all centres by the largest t,
        and ``p_cluster`` of the cluster that contains a centre (1 outside of clusters). NaN for centres that a subject
        lacks.
    clusters : pandas.DataFrame
        One row per cluster: model, sign, size, mass (sum of t), p, and the place and t of its peak.
    left_out : dict
        How many centres were left out, and why.
    settings : dict
        What was computed.

    Examples
    --------
    >>> GroupMap.__name__
    'GroupMap'
    """

    neighbourhoods: Neighbourhoods
    models: tuple[str, ...]
    values: dict[str, Values]
    clusters: pd.DataFrame
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What was left out, in words."""
        return [line for what, counts in self.left_out.items() for line in said(counts, what)]

    def table(self, model: str) -> pd.DataFrame:
        """Return places and all quantities of a model, one row per centre."""
        check_option(model, self.models, "model")
        column = self.models.index(model)
        return self.neighbourhoods.centres.assign(**{name: found[:, column] for name, found in self.values.items()})

    def image(self, model: str, quantity: str = "t") -> Any:
        """Return a quantity of a model as a nibabel NIfTI image.

        Parameters
        ----------
        model : str
            Name of the model.
        quantity : {"mean", "t", "p", "p_fwe", "p_cluster"}
            What the image shows.

        Returns
        -------
        nibabel.Nifti1Image
        """
        from brainrdl.searchlights.writing import image_of

        check_option(quantity, QUANTITIES, "quantity")
        return image_of(self.neighbourhoods, self.table(model)[quantity].to_numpy())

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write a map of each quantity and model, all values and clusters as tables, and what was computed.

        Parameters
        ----------
        folder : str or Path
            Folder; it is made if it does not exist.
        overwrite : bool
            Replace existing files.

        Returns
        -------
        list of Path
            Files as in `SearchlightMap.save`.

        Raises
        ------
        BrainrdlError
            If a file exists, or cannot be written.
        """
        from brainrdl.searchlights.writing import write_map

        labels = [f"{model} {name}" for model in self.models for name in QUANTITIES]
        columns = [self.values[name][:, k] for k in range(len(self.models)) for name in QUANTITIES]
        others: Mapping[str, Any] = {
            "clusters.csv": self.clusters,
            "group.json": {"settings": self.settings, "left_out": self.left_out},
        }
        return write_map(self.neighbourhoods, labels, np.stack(columns, 1), Path(folder), overwrite, others)


def group_test(
    maps: Sequence[SearchlightMap],
    *,
    tail: Tail = "greater",
    p_threshold: float = 0.001,
    n_permutations: int = 5000,
    seed: int = 0,
) -> GroupMap:
    """Test in which centres, and in which clusters of centres, the mean score of subjects is above 0.

    Parameters
    ----------
    maps : sequence of SearchlightMap
        One map per subject, of the same centres (in a common space) and models.
    tail : {"greater", "less", "two-sided"}
        Whether scores above 0, below 0 or both are of interest.
    p_threshold : float
        Centres with an uncorrected p (of t) below it form clusters.
    n_permutations : int
        Number of random flips of the signs of subjects; all are made if they are not more.
    seed : int
        Seed of the flips.

    Returns
    -------
    GroupMap
        p-values are corrected for all centres of a model, not for the number of models.

    Raises
    ------
    BrainrdlError
        If maps have other centres or models, or no centre has a score in all subjects.

    Notes
    -----
    The signs of the scores of a whole subject are flipped together, which keeps the dependence between overlapping
    spheres. The largest t of each flip corrects for the number of centres (Nichols & Holmes 2002); the mass of the
    largest cluster of neighbouring centres tests clusters, not the centres in them. Both assume that if there is no
    effect, scores are distributed symmetrically around 0, which holds for correlations with a model, but not for the
    cosine of RDMs that are not cross-validated, whose expected value is above 0.

    References
    ----------
    Nichols & Holmes (2002), Human Brain Mapping 15:1-25, doi 10.1002/hbm.1058.

    Examples
    --------
    >>> from brainrdl import searchlights
    >>> near = searchlights.sensor_neighbourhoods(np.eye(4)[:, :3], 2.0)
    >>> scores = np.random.default_rng(0).normal(size=(8, 4, 1)) + [[0.0], [0.0], [0.0], [3.0]]
    >>> maps = [searchlights.SearchlightMap(near, own, ("animacy",), np.zeros(4)) for own in scores]
    >>> group_test(maps).values["p_fwe"][:, 0] < 0.05
    array([False, False, False,  True])
    """
    import pandas as pd

    where = same_centres(maps)
    scores = np.stack([each.values for each in maps])
    known = np.isfinite(scores).all((0, 2))
    if not known.any():
        refuse("no centre has a score in all subjects and models")
    adjacency = where.adjacency[known][:, known]
    values = {name: np.full(scores.shape[1:], np.nan) for name in QUANTITIES}
    tables = []
    flips: dict[str, Any] = {"tail": tail, "n_permutations": n_permutations, "seed": seed}
    for column, model in enumerate(maps[0].models):
        own = scores[:, known, column]
        centres = sign_flip_test(own, **flips)
        clusters = cluster_test(own, adjacency=adjacency, p_threshold=p_threshold, **flips)
        found = (centres.value, centres.statistic, centres.p, centres.p_fwe, clusters.p)
        for name, one in zip(QUANTITIES, found, strict=True):
            values[name][known, column] = one
        peaks = np.flatnonzero(known)[[peak[0] for peak in clusters.clusters["peak"]]]
        places = where.centres.loc[peaks].reset_index(drop=True)
        tables.append(pd.concat([clusters.clusters.drop(columns="peak"), places], axis=1).assign(model=model))
    lacking = int((~known).sum())
    return GroupMap(
        where,
        maps[0].models,
        values,
        pd.concat(tables, ignore_index=True),
        {"centres": {"without a score in a subject": lacking} if lacking else {}},
        {"n_subjects": len(maps), "p_threshold": p_threshold, **flips, **_common(maps)},
    )


def _common(maps: Sequence[SearchlightMap]) -> dict[str, Any]:
    """Return what is the same in the settings of all subjects."""
    first = maps[0].settings
    return {key: value for key, value in first.items() if all(each.settings.get(key) == value for each in maps)}
