"""Options that the readers of BOLD series share: which voxels they read, and the first-level model of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_adapters.fmri_bold.first_level_model import Model
from data_adapters.fmri_bold.series import Regions, find_regions


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """Which voxels of a BOLD series to read, and how to model each run.

    Parameters
    ----------
    mask, atlas, labels : str or Path, optional
        The voxels to read, their regions and the regions' names, as of the reader ``nifti``. An atlas gives a list of
        Datasets, except for a single name in `roi`.
    roi : str or sequence of str, optional
        Regions of the atlas to read; by default all.
    t_r : float, optional
        Seconds from volume to volume, 0.05 to 60; by default what the header says.
    condition_column : str, optional
        Column of the events (or of the table) that holds the conditions; by default ``trial_type``, ``condition`` or
        ``stimulus``.
    baseline : str or sequence of str, optional
        Conditions that are not modelled; each must occur in some run, except ``"rest"``.
    per : {"condition", "trial"}
        One pattern per condition and run, or one per event.
    hrf : str
        Haemodynamic response: ``"spm"`` or ``"glover"``, also with ``" + derivative"`` or
        ``" + derivative + dispersion"``.
    high_pass : float
        Slowest frequency that is kept, in Hz.
    noise_model : {"ar1", "ols"}
        Autoregressive noise of first order, or independent noise.

    Examples
    --------
    >>> SeriesOptions(per="trial").model().per
    'trial'
    """

    mask: str | Path | None = None
    atlas: str | Path | None = None
    labels: str | Path | None = None
    roi: str | Sequence[str] | None = None
    t_r: float | None = None
    condition_column: str | None = None
    baseline: str | Sequence[str] | None = "rest"
    per: str = Model.per
    hrf: str = Model.hrf
    high_pass: float = Model.high_pass
    noise_model: str = Model.noise_model

    @property
    def is_one_region(self) -> bool:
        """Whether one Dataset is asked for rather than a list, one for each region."""
        return self.atlas is None or isinstance(self.roi, str)

    def model(self, start_time: float = Model.start_time) -> Model:
        """Give the first-level model; slices were shifted to `start_time`, in seconds."""
        return Model(self.hrf, self.high_pass, self.noise_model, self.per, start_time)

    def regions_of(self, files: Sequence[Path]) -> Regions:
        """Find the voxels to read of series on the same grid."""
        return find_regions(files, mask=self.mask, atlas=self.atlas, labels=self.labels, roi=self.roi)
