"""NumPy's ``.npy`` and ``.npz`` files.

Layout on disk::

    .npy   one RDM (n, n), a stack (n_rdms, n, n), or condensed pairs (n_pairs,) or (n_rdms, n_pairs)
    .npz   rdms (or rdm)   as above; another key with variable=, and a file with a single array needs neither
           names           n names of the conditions, text (optional)
           subjects        n_rdms names of the subjects (optional)
           roi             n_rdms names of the regions, or one for all (optional)

Condensed pairs are in row-major upper-triangle order, that of ``scipy.spatial.distance.squareform``. Arrays of objects
are pickles inside and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._checks import check_option, quote, refuse
from brainrdl.rdms import from_array

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

_LABELS = ("names", "subjects", "roi")


class NumpyArrays:
    """Reads RDMs from NumPy's array files.

    Examples
    --------
    >>> READER.sniff(Path("rdms.npz"))
    True
    """

    name = "numpy"
    layout = (
        ".npy: RDMs (n, n), (n_rdms, n, n), (n_pairs,) or (n_rdms, n_pairs); .npz: the same under the key 'rdms', with "
        "'names', 'subjects' and 'roi' if known"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.npy`` or ``.npz``.
        """
        return path.suffix.lower() in {".npy", ".npz"}

    def read(self, path: Path, *, variable: str | None = None) -> RDMs:
        """Read and check the RDMs.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            Key of the RDMs in a ``.npz`` file.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            With pattern descriptor ``stimulus`` and rdm descriptors ``subject`` and ``roi`` where the file has them.

        Raises
        ------
        BrainrdlError
            If the file is empty, holds Python objects, leaves open which array is meant, or holds no sound RDM.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        arrays = _arrays(path)
        key = _key(arrays, variable)
        names = _text(arrays["names"]) if "names" in arrays and key != "names" else None
        rdms = from_array(arrays[key], names, where=f"array {key!r}")
        for descriptor, label in (("subject", "subjects"), ("roi", "roi")):
            if label in arrays and key != label:
                rdms.rdm_descriptors[descriptor] = _one_each(_text(arrays[label]), rdms.n_rdm, label)
        return rdms


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Load every array by its key; the single array of a ``.npy`` file is called by the file's name."""
    try:
        # opened here, because NumPy leaves a damaged zip open
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {path.name: loaded}
            arrays = {key: loaded[key] for key in loaded.files}
    except ValueError as error:
        if "pickle" in str(error):
            refuse(
                "it holds Python objects, that is a pickle, and loading one could run any code it holds; save numbers"
            )
        raise
    # a member of the zip that is not in the .npy format comes back as bytes
    return {key: array for key, array in arrays.items() if isinstance(array, np.ndarray)}


def _key(arrays: Mapping[str, Any], variable: str | None) -> str:
    """Decide which array holds the RDMs."""
    if variable is not None:
        return check_option(variable, arrays, "variable")
    candidates = [key for key in ("rdms", "rdm") if key in arrays] or [key for key in arrays if key not in _LABELS]
    if len(candidates) != 1:
        refuse(f"choose the array of the RDMs with variable=: {quote(candidates or arrays)}")
    return candidates[0]


def _text(array: np.ndarray) -> list[str]:
    """Turn an array of text or numbers into a list of text."""
    return [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]


def _one_each(labels: list[str], n_rdms: int, key: str) -> list[str]:
    """Repeat a single label for every RDM, and refuse any other number but one each."""
    if len(labels) not in (1, n_rdms):
        refuse(f"array {key!r} has {len(labels)} values for {n_rdms} RDMs")
    return labels if len(labels) == n_rdms else labels * n_rdms


READER = NumpyArrays()
