"""The map of a searchlight: scores of each centre, peaks, and files that other programs read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import arg, check_option, check_whole, quote, refuse
from brainrdl.searchlights.measurements import said
from brainrdl.searchlights.neighbourhoods import Neighbourhoods

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm.rdms import RDMs
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SearchlightMap:
    """Similarity of the RDM around each centre to each model.

    Attributes
    ----------
    neighbourhoods : Neighbourhoods
        The centres.
    values : numpy.ndarray (n_centres, n_models)
        Scores; NaN for centres that were left out.
    models : tuple of str
        Names of the models.
    states : numpy.ndarray (n_centres,)
        0 if the centre has a score, otherwise why it was left out (`searching.REASONS`).
    left_out : dict
        How many channels and centres were left out, and why.
    settings : dict
        What was computed.
    rdms : rsatoolbox.rdm.RDMs, optional
        The RDMs of the centres that have one; the descriptor ``centre`` is their row in ``scores``.

    Examples
    --------
    >>> from brainrdl import searchlights
    >>> near = searchlights.sensor_neighbourhoods([[0.0, 0.0], [0.03, 0.0]], 0.04, names=["Oz", "POz"])
    >>> found = SearchlightMap(near, np.array([[0.1], [0.3]]), ("animacy",), np.zeros(2, int))
    >>> found.peaks("animacy")
      sensor  animacy
    0    POz      0.3
    """

    neighbourhoods: Neighbourhoods
    values: Values
    models: tuple[str, ...]
    states: npt.NDArray[Any]
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    rdms: RDMs | None = None

    @property
    def scores(self) -> pd.DataFrame:
        """Scores as a table: one row per centre, one column per model."""
        import pandas as pd

        return pd.DataFrame(self.values, columns=list(self.models))

    @property
    def notes(self) -> list[str]:
        """What was left out, in words."""
        return [line for what, counts in self.left_out.items() for line in said(counts, what)]

    def peaks(self, model: str, n: int = 10) -> pd.DataFrame:
        """Return the centres whose score is higher than that of all neighbouring centres, the highest first.

        Parameters
        ----------
        model : str
            Name of the model.
        n : int
            Largest number of peaks.

        Returns
        -------
        pandas.DataFrame
            Places of the centres, and their scores.
        """
        check_whole(n, "n", 1)
        values = self._of(model)
        highest = values.copy()
        first, second = self.neighbourhoods.links
        for a, b in ((first, second), (second, first)):
            np.fmax.at(highest, a, values[b])
        places = np.flatnonzero((values >= highest) & np.isfinite(values))
        places = places[np.argsort(-values[places], kind="stable")][:n]
        table = self.neighbourhoods.centres.loc[places].assign(**{model: values[places]})
        return table.reset_index(drop=True)

    def _of(self, model: str) -> Values:
        check_option(model, self.models, "model")
        return self.values[:, self.models.index(model)]

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write a map of each model, all scores as a table, peaks, and what was computed.

        Parameters
        ----------
        folder : str or Path
            Folder; it is made if it does not exist.
        overwrite : bool
            Replace existing files.

        Returns
        -------
        list of Path
            Volumes are written as NIfTI, surfaces as GIFTI, and surfaces over time as MNE's source estimates
            (``-lh.stc`` or ``-rh.stc``) if the mesh says of which hemisphere it is; sensors only as a table.

        Raises
        ------
        BrainrdlError
            If a file exists, or cannot be written.
        """
        from brainrdl.searchlights.writing import write_map

        return write_map(self.neighbourhoods, self.models, self.values, Path(folder), overwrite, self._texts())

    def _texts(self) -> dict[str, Any]:
        import pandas as pd

        peaks = [self.peaks(model).rename(columns={model: "score"}).assign(model=model) for model in self.models]
        return {
            "peaks.csv": pd.concat(peaks, ignore_index=True) if peaks else None,
            "searchlight.json": {"settings": self.settings, "left_out": self.left_out},
        }

    def image(self, model: str) -> Any:
        """Return the map of a model as a nibabel NIfTI image, NaN outside its centres.

        Parameters
        ----------
        model : str
            Name of the model.

        Returns
        -------
        nibabel.Nifti1Image

        Raises
        ------
        BrainrdlError
            If the neighbourhoods are not a volume.
        """
        from brainrdl.searchlights.writing import image_of

        return image_of(self.neighbourhoods, self._of(model))


def same_centres(maps: Sequence[SearchlightMap]) -> Neighbourhoods:
    """Return the neighbourhoods of maps of several subjects; refuse maps of other centres or models.

    Raises
    ------
    BrainrdlError
        If there are fewer than 2 maps, or they differ in their centres or models.

    Examples
    --------
    >>> same_centres([])
    Traceback (most recent call last):
    brainrdl.BrainrdlError: a group test needs maps of at least 2 subjects, got 0
    """
    if len(maps) < 2:
        refuse(f"a group test needs maps of at least 2 subjects, got {len(maps)}")
    first = maps[0]
    for number, other in enumerate(maps[1:], start=1):
        if not first.neighbourhoods.centres.equals(other.neighbourhoods.centres):
            refuse(
                f"map {number} (counted from 0) has other centres than map 0: {len(other.neighbourhoods.centres)} and "
                f"{len(first.neighbourhoods.centres)}, or other places; compute all with one mask in a common space"
            )
        if first.models != other.models:
            refuse(
                f"map {number} has the models {other.models}, map 0 has {first.models}; give all the same "
                f"{arg('models')}"
            )
        for key in ("dissimilarity", "comparator", "noise"):
            if first.settings.get(key) != other.settings.get(key):
                refuse(
                    f"map {number} has {key} {other.settings.get(key)!r}, map 0 has {first.settings.get(key)!r}; "
                    "compute all maps in the same way"
                )
    subjects = [str(one.settings["subject"]) for one in maps if one.settings.get("subject")]
    if twice := sorted({one for one in subjects if subjects.count(one) > 1}):
        refuse(f"subjects {quote(twice)} have several maps, but count once; average the maps of a subject first")
    return first.neighbourhoods
