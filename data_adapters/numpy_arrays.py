"""NumPy's ``.npy`` and ``.npz`` files.

Layout on disk::

    .npy   one RDM (n, n), a stack (n_rdms, n, n), or condensed pairs (n_pairs,) or (n_rdms, n_pairs)
    .npz   rdms (or rdm)   as above; another key with variable=, and a file with a single array needs neither
           names           n names of the conditions, text (optional)
           subjects        n_rdms names of the subjects (optional)
           roi             n_rdms names of the regions, or one for all (optional)

With ``patterns=True`` the array holds patterns (n_conditions, n_channels) instead, under the key ``patterns`` in a
``.npz`` file, with ``names`` and ``runs`` (one a row) and one subject and roi if known.

Condensed pairs are in row-major upper-triangle order, that of ``scipy.spatial.distance.squareform``. Arrays of objects
are pickles inside and are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainrdl._checks import check_option, quote, refuse
from brainrdl.rdms import from_array
from data_adapters._arrays import is_pairs, npy_array, npy_keys, patterns, texts
from data_adapters.triplets import looks_like_triplets

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs

_LABELS = ("names", "subjects", "roi", "runs")


class NumpyArrays:
    """Reads RDMs or patterns from NumPy's array files.

    Examples
    --------
    >>> READER.sniff(Path("rdms.npz"))
    True
    """

    name = "numpy"
    layout = (
        ".npy: RDMs (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs); .npz: the same under the key 'rdms', with "
        "'names', 'subjects' and 'roi' if known; patterns (n_conditions, n_channels) with patterns=True"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix, except odd-one-out triplets.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.npy`` or ``.npz``, and a ``.npy`` file does not hold whole numbers (n_trials, 3).
        """
        return path.suffix.lower() in {".npy", ".npz"} and not looks_like_triplets(path)

    def read(
        self, path: Path, *, variable: str | None = None, patterns: bool = False, axes: str | None = None
    ) -> RDMs | Dataset:
        """Read and check the RDMs, or the patterns.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            Key of the array in a ``.npz`` file.
        patterns : bool
            Whether the array holds patterns rather than RDMs.
        axes : {"first", "last"}, optional
            Which axis of patterns counts the conditions; by default the one with as many as there are names, and the
            first where there are none.

        Returns
        -------
        rsatoolbox.rdm.RDMs or rsatoolbox.data.Dataset
            With pattern (observation) descriptor ``stimulus`` and rdm descriptors (of a Dataset: descriptors)
            ``subject`` and ``roi`` where the file has them.

        Raises
        ------
        BrainrdlError
            If the file is empty, holds Python objects, leaves open which array is meant, declares more than it can
            hold, or holds no sound RDM.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        if axes is not None and not patterns:
            refuse(f"axes={axes!r} is about patterns; say patterns=True, or leave it out for RDMs")
        keys = npy_keys(path)
        key = _key(keys, variable, patterns)
        labels = {label: texts(npy_array(path, label)) for label in _LABELS if label in keys and label != key}
        array = npy_array(path, key)
        return _dataset(array, key, labels, axes) if patterns else _rdms(array, key, labels)


def _key(keys: list[str], variable: str | None, patterns: bool) -> str:
    """Decide which array is meant."""
    if variable is not None:
        return check_option(variable, keys, "variable")
    usual = ("patterns",) if patterns else ("rdms", "rdm")
    candidates = [key for key in usual if key in keys] or [key for key in keys if key not in _LABELS]
    if len(candidates) != 1:
        refuse(
            f"choose the array of the {'patterns' if patterns else 'RDMs'} with variable=: {quote(candidates or keys)}"
        )
    return candidates[0]


def _rdms(array: np.ndarray, key: str, labels: dict[str, list[str]]) -> RDMs:
    if array.ndim == 2 and array.shape[0] != array.shape[1] and not is_pairs(array.shape[1]):
        refuse(
            f"array {key!r} of shape {array.shape} is neither square nor holds the pairs of any number of conditions; "
            "if it holds patterns (n_conditions, n_channels), say patterns=True"
        )
    rdms = from_array(array, labels.get("names"), where=f"array {key!r}")
    for descriptor, label in (("subject", "subjects"), ("roi", "roi")):
        if label in labels:
            rdms.rdm_descriptors[descriptor] = _one_each(labels[label], rdms.n_rdm, label)
    return rdms


def _one_each(labels: list[str], n_rdms: int, key: str) -> list[str]:
    """Repeat a single label for every RDM, and refuse any other number but one each."""
    if len(labels) not in (1, n_rdms):
        refuse(f"array {key!r} has {len(labels)} values for {n_rdms} RDMs")
    return labels if len(labels) == n_rdms else labels * n_rdms


def _dataset(array: np.ndarray, key: str, labels: dict[str, list[str]], axes: str | None) -> Dataset:
    descriptors = {}
    for descriptor, label in (("subject", "subjects"), ("roi", "roi")):
        if label in labels:
            descriptors[descriptor] = _one_each(labels[label], 1, label)[0]
    where = f"array {key!r}"
    return patterns(array, where, names=labels.get("names"), runs=labels.get("runs"), axes=axes, **descriptors)


READER = NumpyArrays()
