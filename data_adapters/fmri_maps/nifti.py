"""NIfTI maps: betas, t or z values of fMRI, with a mask or an atlas.

Layout on disk::

    betas.nii, .nii.gz      one map (x, y, z), or several (x, y, z, n_observations)
    betas.tsv, betas.csv    its table, found by its name or given with table=: one row per map, in their order (a column
                            volume, index or similar must count in this order); the column condition, stimulus or
                            trial_type names the condition, run the run, session the session. Rows whose condition is
                            n/a or empty are left out, with their maps
    stats.nii of AFNI       a bucket: its labels name the maps (face#0_Coef is "face"); tests and contrasts are left out
    folder/                 3-D maps, one observation each; files="beta_*.nii" selects some
    table= of a folder      is paired by any column whose cells all name maps (by the ends of their paths, ignoring
                            case, suffixes, leading zeros and SPM's ",1"), or by their numbers in a column named file,
                            name, index or similar; only maps that it names are read. Without such a column it needs
                            one row per map, and maps whose names differ in a number only. It must not rename a
                            condition that SPM's headers name
    names of a folder       without a table: SPM's betas by their headers (Sn(1) face*bf(1) is "face" of run 1;
                            derivatives, modulators, regressors and constants are left out), maps with contrast-face
                            by the contrast, others by their files' names, or by the folders that differ if these
                            repeat; runs and sessions by run-1 and ses-1
    mask=                   a map of 0 and one other value
    atlas=                  a map of whole numbers, 0 or less outside all regions
    labels=                 its regions: a table with the columns index and name (or label), as BIDS writes it next to
                            *_dseg.nii.gz, where it is found by its name; or a text file of lines "1 V1" (also with
                            FreeSurfer's, ITK-SNAP's or FSL's colours), or of one name per line, numbered from 1 (from
                            0 if the first is "Background" or "Unknown")

Runs of several sessions are named ``session/run``, or by the session if no run is known. The descriptor
``n_dropped_observations`` counts maps that are left out. A folder must hold maps of one kind, subject and task: one
that also holds other files (masks, anatomy, residuals), or several kinds (betas and contrasts, effects and z values),
is refused unless ``files=`` selects one kind.

Mask and atlas must be on the grid of the maps, to a tenth of a voxel: nothing is resampled. Voxels that are NaN or
infinite in any map, or do not vary within a run (or are 0, if a run has one map), are left out and counted in
``n_dropped_channels``. Volumes are read one at a time, so that a region of a large file needs little memory.
FreeSurfer's ``.mgz`` and ``.mgh`` are read in the same way; ``.hdr`` with ``.img``, and AFNI's ``.HEAD`` with
``.BRIK``, must be converted to ``.nii`` first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._core.errors import BrainrdlError, quote, read_arg, refuse
from brainrdl.readers.entities import value_of
from data_adapters._shared.text_tables import blaming
from data_adapters.fmri_maps.folders import (
    check_headers,
    check_links,
    check_observations,
    check_paths,
    names_in_folder,
    names_of_afni,
)
from data_adapters.fmri_maps.maps import dataset_of, entities_in_names, neighbour, observations_of
from data_adapters.fmri_maps.pairing import names_of, stem
from data_adapters.fmri_maps.regions import as_mask, find_regions, read_atlas, read_beside
from data_adapters.fmri_maps.volumes import Volumes, check_grid, is_mgh, is_surface, open_volumes, read_values

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_OURS = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)

# CIFTI belongs to the reader surfaces; the volumes of a BOLD series are not observations yet
_NOT_OURS = re.compile(
    r"(\.[dp](scalar|tseries|label|[dp]?conn\w*)\.nii|(^|_)bold\.nii(\.gz)?|^filtered_func_data\.nii(\.gz)?)$",
    re.IGNORECASE,
)


class Nifti:
    """Reads maps of fMRI as measurements, one Dataset per region.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_betas.nii.gz")), READER.sniff(Path("sub-01.dscalar.nii"))
    (True, False)
    """

    name = "nifti"
    layout = (
        ".nii, .nii.gz, .mgz or .mgh: maps (x, y, z) or (x, y, z, n_observations), or a folder of 3-D maps; with mask= "
        "or atlas= (and labels= and roi=), and conditions and runs in table="
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix, and folders that hold such files, or those of nilearn for subjects.

        Parameters
        ----------
        path : Path
            The file or folder.

        Returns
        -------
        bool
            Whether it is a NIfTI file (not CIFTI, not named ``..._bold``) or a volume of FreeSurfer, or a folder with
            NIfTI files that is not the root of a BIDS dataset (unless they are named ``..._statmap``, there or in a
            ``sub-...``).
        """
        if path.is_dir():
            plain = bool(_maps_in(path, None)) and not (path / "dataset_description.json").exists()
            return plain or any(True for inside in ("", "sub-*/") for _ in path.glob(f"{inside}*_statmap.nii*"))
        return _is_ours(path.name) or (is_mgh(path) and not is_surface(path))

    def are_one(self, files: Sequence[Path]) -> bool:
        """Say whether files of one folder are single maps of one subject, so that each is an observation.

        Parameters
        ----------
        files : sequence of Path
            The files.

        Returns
        -------
        bool
            Whether each holds one map, and no names of subjects (``sub-``) distinguish them.
        """
        if len({value_of(file.name, "sub") for file in files}) > 1:
            return False
        try:
            return all(_is_ours(file.name) and open_volumes(file).n == 1 for file in files)
        except (BrainrdlError, OSError):  # reading the files says what is wrong with them
            return False

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
            Conditions, runs and sessions; by default the ``.tsv`` file of the same name, if there is one. For a folder,
            a column of it names the maps.
        condition_column, run_column : str, optional
            Columns of the table, if they have other names.
        files : str, optional
            Which files of a folder to read, for example ``"beta_*.nii"``.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            A list if there is an atlas, except for a single name in `roi`. Observation descriptors ``stimulus`` and
            ``run`` (and ``session``, of several), channel descriptors ``i``, ``j``, ``k`` (voxel), and the descriptors
            ``roi``, ``subject``, ``session`` as far as they are known.

        Raises
        ------
        BrainrdlError
            If a file is damaged or not a map, a folder holds more than maps of one kind, mask or atlas are on another
            grid or hold other values, the table does not fit, a region is unknown, or no voxel of it is left.
        """
        maps = _folder(path, files) if path.is_dir() else [_file(path, files)]
        inside = np.ones(maps[0].n_voxels, bool) if mask is None else as_mask(read_beside(mask, "mask", maps[0]))
        regions = find_regions(inside, *read_atlas(atlas, labels, maps[0]), roi)
        voxels = np.unique(np.concatenate([channels for _, channels in regions]))
        kept, observed = _observed(path, maps, table, condition_column, run_column)
        if path.is_dir():
            values = np.concatenate([_values(maps[place], voxels) for place in kept])
        else:
            values = read_values(maps[0], voxels)
            values = values if len(kept) == len(values) else values[kept]
        n_left_out = sum(each.n for each in maps) - len(kept)
        places = dict(zip("ijk", np.unravel_index(voxels, maps[0].shape, order="F"), strict=True))
        parts = [(name, np.searchsorted(voxels, channels)) for name, channels in regions]
        datasets = [dataset_of(values, name, part, observed, places, path, n_left_out) for name, part in parts]
        return datasets[0] if atlas is None or isinstance(roi, str) else datasets


def _is_ours(name: str) -> bool:
    return bool(_OURS.search(name)) and not _NOT_OURS.search(name) and not name.startswith(".")


def _file(path: Path, files: str | None) -> Volumes:
    if files is not None:
        refuse(f"files={files!r} selects maps of a folder, but this is a single file")
    volumes = open_volumes(path)
    if volumes.is_series and volumes.n > 1:
        refuse(
            "it is a series of volumes of AFNI, not maps of conditions: read it with "
            f"{read_arg('reader', 'bold')} and {read_arg('events')}, or read the bucket of its model"
        )
    return volumes


def _maps_in(folder: Path, pattern: str | None) -> list[Path]:
    """Find the maps of a folder, including links to files that were not downloaded."""
    found = [file for file in folder.glob(pattern or "*") if _is_ours(file.name)]
    return sorted(file for file in found if file.is_file() or file.is_symlink())


def _folder(folder: Path, pattern: str | None) -> list[Volumes]:
    """Open the maps of a folder, which must be 3-D and on the same grid."""
    found = _maps_in(folder, pattern)
    if not found:
        below = sorted({file.parent.name for file in folder.glob("*/*") if _is_ours(file.name)})
        more = f"; there are maps in its folders {quote(below)}, read one of them" if below else ""
        refuse(f"no map in the folder matches {read_arg('files', pattern or '*')}{more}")
    check_paths([path_in(folder, file) for file in found])
    check_observations(found, pattern)
    check_links(found)
    maps = []
    for file in found:
        with blaming("the map", file.name):
            maps.append(open_volumes(file))
    for each in maps:
        if each.n > 1:
            refuse(
                f"{each.path.name!r} holds {each.n} maps, but in a folder each file is one observation; read this file "
                "by itself"
            )
        check_grid(each, maps[0], repr(each.path.name), repr(maps[0].path.name))
    return maps


def _values(volumes: Volumes, voxels: np.ndarray) -> np.ndarray:
    with blaming("the map", volumes.path.name):
        return read_values(volumes, voxels)


def _observed(
    path: Path, maps: Sequence[Volumes], table: str | Path | None, condition_column: str | None, run_column: str | None
) -> tuple[list[int], dict[str, list[str]]]:
    """Give which maps are observations, and what is known about each."""
    if not path.is_dir():
        known, table = entities_in_names([path.name] * maps[0].n), neighbour(path) if table is None else table
        if table is None and len(maps[0].labels) == maps[0].n > 1 and (names := names_of_afni(maps[0].labels)):
            known["stimulus"] = names
        return observations_of(maps[0].n, known, table, condition_column, run_column)
    paths, headers = [path_in(path, each.path) for each in maps], [each.about for each in maps]
    if table is None:
        known = names_in_folder(paths, headers)
        return observations_of(len(paths), known, None, condition_column, run_column)
    kept, observed = observations_of(
        len(paths), entities_in_names(paths), table, condition_column, run_column, paths=paths
    )
    names = names_of(paths)
    stimuli = dict(zip([names[place] for place in kept], observed["stimulus"], strict=True))
    with blaming("table=", table):
        check_headers(headers, stimuli, names)
    return kept, observed


def path_in(folder: Path, file: Path) -> str:
    """Give the path of a map within the folder, without its suffix."""
    return file.relative_to(folder).with_name(stem(file)).as_posix()


READER = Nifti()
