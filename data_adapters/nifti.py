"""NIfTI maps: betas, t or z values of fMRI, with a mask or an atlas.

Layout on disk::

    betas.nii, .nii.gz      one map (x, y, z), or several (x, y, z, n_observations)
    betas.tsv               its table, found by its name or given with table=: a row for each map, in their order; the
                            column condition, stimulus or trial_type names the condition, run the run
    folder/                 3-D maps, one observation each, named by the files; files="beta_*.nii" picks some. A
                            table= for it has a column file, or the order of the sorted files
    mask=                   a map of 0 and one other value
    atlas=                  a map of whole numbers, 0 or less outside all regions
    labels=                 its regions: a table with the columns index and name (or label), as BIDS writes it next to
                            *_dseg.nii.gz, where it is found by its name; or a .txt of lines "1 V1", or of one name a
                            line, numbered from 1 (from 0 if the first is "Background" or "Unknown")

Mask and atlas must lie on the grid of the maps: nothing is resampled. Voxels that are NaN or infinite in any map, or
the same in all (of a single map: 0), are left out and counted in the descriptor ``n_dropped_channels``. Values come by
streaming, a volume at a time, so that a region of a large file needs little memory.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._checks import check_unique, quote, refuse
from data_adapters._maps import dataset_of, neighbour, observations_of, stem
from data_adapters._regions import as_mask, find_regions, read_atlas, read_beside
from data_adapters._volumes import Volumes, check_grid, open_volumes, read_values

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset

_OURS = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
# CIFTI is another reader's; of a BOLD series the volumes are no observations yet
_NOT_OURS = re.compile(r"(\.[dp](scalar|tseries|label|[dp]?conn\w*)\.nii|(^|_)bold\.nii(\.gz)?)$", re.IGNORECASE)
_SPM = frozenset({"mask", "ResMS", "RPV"})  # maps that SPM writes next to the betas


class Nifti:
    """Reads maps of fMRI as measurements, one Dataset a region.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_betas.nii.gz")), READER.sniff(Path("sub-01.dscalar.nii"))
    (True, False)
    """

    name = "nifti"
    layout = (
        ".nii or .nii.gz: maps (x, y, z) or (x, y, z, n_observations), or a folder of 3-D maps; mask= or atlas= (with "
        "labels= and roi=), conditions and runs in table="
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix, and folders that hold such files.

        Parameters
        ----------
        path : Path
            The file or folder.

        Returns
        -------
        bool
            Whether it is a NIfTI file (no CIFTI, not called ``..._bold``), or a folder with some that is no BIDS root.
        """
        if path.is_dir():
            return not (path / "dataset_description.json").exists() and bool(_maps_in(path, "*"))
        return _is_ours(path.name)

    def read(
        self,
        path: Path,
        *,
        mask: str | Path | None = None,
        atlas: str | Path | None = None,
        labels: str | Path | None = None,
        roi: str | Sequence[str] | None = None,
        table: str | Path | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
        files: str | None = None,
    ) -> Dataset | list[Dataset]:
        """Read the voxels of the mask, or of each region.

        Parameters
        ----------
        path : Path
            The file, or the folder of 3-D maps.
        mask : str or Path, optional
            Map of the voxels to read; by default all.
        atlas : str or Path, optional
            Map of the regions' numbers.
        labels : str or Path, optional
            Names of the regions; by default the table next to the atlas, else their numbers.
        roi : str or sequence of str, optional
            Regions to read: a list of Datasets for a list of names, one Dataset for a name; by default all.
        table : str or Path, optional
            Conditions and runs; by default the ``.tsv`` file of the same name, if there is one.
        condition_column, run_column : str, optional
            Columns of the table, where they have other names.
        files : str, optional
            Which files of a folder to read, for example ``"beta_*.nii"``.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            A list if there is an atlas, except for a single name in `roi`. Observation descriptors ``stimulus`` and
            ``run``, channel descriptors ``i``, ``j``, ``k`` (voxel), and the descriptors ``roi``, ``subject``,
            ``session`` as far as known.

        Raises
        ------
        BrainrdlError
            If a map is damaged or no map, mask or atlas lie on another grid or hold other values, the table does not
            fit, a region is unknown, or no voxel of it is left.
        """
        maps = _folder(path, files) if path.is_dir() else [_file(path, files)]
        inside = np.ones(maps[0].n_voxels, bool) if mask is None else as_mask(read_beside(mask, "mask", maps[0]))
        regions = find_regions(inside, *read_atlas(atlas, labels, maps[0]), roi)
        voxels = np.unique(np.concatenate([channels for _, channels in regions]))
        sources = [each.path for each in maps for _ in range(each.n)]
        own = [stem(file) for file in sources] if path.is_dir() else None
        found = table if table is not None or path.is_dir() else neighbour(path)
        observed = observations_of(sources, own, found, condition_column, run_column)
        values = np.concatenate([read_values(each, voxels) for each in maps])
        places = dict(zip("ijk", np.unravel_index(voxels, maps[0].shape, order="F"), strict=True))
        parts = [(name, np.searchsorted(voxels, channels)) for name, channels in regions]
        datasets = [dataset_of(values, name, part, observed, places, path) for name, part in parts]
        return datasets[0] if atlas is None or isinstance(roi, str) else datasets


def _is_ours(name: str) -> bool:
    return bool(_OURS.search(name)) and not _NOT_OURS.search(name) and not name.startswith(".")


def _file(path: Path, files: str | None) -> Volumes:
    if files is not None:
        refuse(f"files={files!r} picks maps of a folder, and this is a single file")
    return open_volumes(path)


def _maps_in(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if _is_ours(file.name) and file.is_file())


def _folder(folder: Path, pattern: str | None) -> list[Volumes]:
    """Open the maps of a folder, which must be 3-D and on one grid."""
    found = _maps_in(folder, pattern or "*")
    if not found:
        refuse(f"no map in the folder fits files={pattern or '*'!r}")
    strange = [file.name for file in found if stem(file) in _SPM]
    if pattern is None and strange:
        refuse(f"the folder also holds {quote(strange)}, which are no observations; say which with files='beta_*.nii'")
    check_unique([stem(file) for file in found], "the folder, suffixes left out")
    maps = [open_volumes(file) for file in found]
    for each in maps:
        if each.n > 1:
            refuse(
                f"{each.path.name!r} holds {each.n} maps; in a folder each file is one observation, read it by itself"
            )
        check_grid(each, maps[0], repr(each.path.name), repr(maps[0].path.name))
    return maps


READER = Nifti()
