"""rsatoolbox's own HDF5 files, as ``RDMs.save`` and ``Dataset.save`` write them.

Layout on disk (``.h5`` or ``.hdf5``)::

    RDMs                                     Dataset
    /dissimilarities      (n_rdms, n_pairs)  /measurements        (n_obs, n_channels)
    /descriptors/         whole object       /descriptors/        whole object
    /rdm_descriptors/     one per RDM        /obs_descriptors/    one per observation
    /pattern_descriptors/ one per condition  /channel_descriptors/ one per channel
    @dissimilarity_measure                   @type                "Dataset"

Names stand as HDF5 strings, or as attributes of a group where they are not in ASCII, which rsatoolbox's lists cannot
hold. rsatoolbox can also save pickles; those are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from brainrdl._checks import quote, refuse
from data_adapters._hdf5 import check_file

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs

_SUFFIXES = frozenset({".h5", ".hdf5"})


class RsatoolboxHDF5:
    """Reads RDMs and Datasets saved by rsatoolbox.

    Examples
    --------
    >>> READER.sniff(Path("brain.pkl"))
    False
    """

    name = "rsatoolbox"
    layout = "rsatoolbox's HDF5, .h5 or .hdf5: RDMs.save(file) or Dataset.save(file)"

    def sniff(self, path: Path) -> bool:
        """Take ``.h5`` and ``.hdf5`` files, except sound ones of another layout.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            True also for a damaged file: saying what is wrong with it is left to `read`.
        """
        if path.suffix.lower() not in _SUFFIXES:
            return False
        try:
            return bool(_keys(path) & {"dissimilarities", "measurements"})
        except Exception:  # HDF5 fails in many ways on damaged files
            return True

    def read(self, path: Path) -> Dataset | RDMs:
        """Read with rsatoolbox's own loading functions.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        rsatoolbox.rdm.RDMs or rsatoolbox.data.Dataset
            As saved.

        Raises
        ------
        BrainrdlError
            If the file is empty, or holds neither RDMs nor a Dataset.
        """
        from rsatoolbox.data.dataset import load_dataset
        from rsatoolbox.rdm.rdms import load_rdm

        check_file(path)
        keys = _keys(path)
        # file_type is given, so that no file name can lead rsatoolbox to its pickles
        if "dissimilarities" in keys:
            rdms = load_rdm(str(path), file_type="hdf5")
            rdms.rdm_descriptors, rdms.pattern_descriptors = map(
                _text, (rdms.rdm_descriptors, rdms.pattern_descriptors)
            )
            return rdms
        if "measurements" in keys:
            data = load_dataset(str(path), file_type="hdf5")
            data.obs_descriptors, data.channel_descriptors = map(
                _text, (data.obs_descriptors, data.channel_descriptors)
            )
            return data
        refuse(f"neither 'dissimilarities' nor 'measurements' is in the file, it holds {quote(sorted(keys))}")


def _text(descriptors: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """Decode names that other programs wrote as HDF5 strings of variable length: rsatoolbox gives them as bytes."""
    return {
        key: [value.decode() if isinstance(value, bytes) else value for value in values]
        for key, values in descriptors.items()
    }


def _keys(path: Path) -> set[str]:
    with h5py.File(path, "r") as file:
        return set(file)


READER = RsatoolboxHDF5()
