"""HDF5 files of rsatoolbox, as ``RDMs.save``, ``Dataset.save`` and ``Result.save`` write them.

Layout on disk (``.h5`` or ``.hdf5``)::

    RDMs                                     Dataset
    /dissimilarities      (n_rdms, n_pairs)  /measurements        (n_obs, n_channels)
    /descriptors/         whole object       /descriptors/        whole object
    /rdm_descriptors/     one per RDM        /obs_descriptors/    one per observation
    /pattern_descriptors/ one per condition  /channel_descriptors/ one per channel
    @dissimilarity_measure                   @type                "Dataset"

From a ``Result`` of ``rsatoolbox.inference``, the RDMs of its models are read (``/models/model_0/rdm``, with the layout
of RDMs). The rdm descriptor ``model`` has the name of each model, numbered (``"w 1"``, ``"w 2"``) if several have the
same name. Its evaluations can be read with ``rsatoolbox.inference.load_results``.

Names are stored as HDF5 strings, or as attributes of a group if they are not in ASCII, because rsatoolbox's lists of
strings must be in ASCII. rsatoolbox can also save pickles; those are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from brainrdl._core.errors import check_unique, quote, refuse
from brainrdl.rdms.by_name import concat
from brainrdl.rdms.mapped import MappedFile
from data_adapters._shared.hdf5 import array, check_links, opened
from data_adapters._shared.measurements import condition_names

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs
_RESULT = frozenset({"models", "evaluations"})

_SUFFIXES = frozenset({".h5", ".hdf5"})


class RsatoolboxHDF5:
    """Reads RDMs, Datasets, and the RDMs of the models of a Result, saved by rsatoolbox.

    Examples
    --------
    >>> READER.sniff(Path("brain.pkl"))
    False
    """

    name = "rsatoolbox"
    layout = (
        "rsatoolbox's HDF5, .h5 or .hdf5: from RDMs.save(file), Dataset.save(file) or Result.save(file) (its models)"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise ``.h5`` and ``.hdf5`` files, except valid files with another layout.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            True also for a damaged file, so that `read` reports the damage.
        """
        if path.suffix.lower() not in _SUFFIXES:
            return False
        try:
            keys = _keys(path)
            return bool(keys & {"dissimilarities", "measurements"}) or keys >= _RESULT
        except Exception:  # HDF5 fails in many ways on damaged files
            return True

    def read(self, path: Path, *, memory_map: bool = False) -> Dataset | RDMs:
        """Read the file with rsatoolbox's loading functions.

        Parameters
        ----------
        path : Path
            The file.
        memory_map : bool
            Leave the dissimilarities of RDMs in the file, from which an `RDMTeacher` reads the pairs of each batch, so
            that they need no memory. They must be stored in one piece, as `RDMs.save` does. Do not change the file
            while it is used.

        Returns
        -------
        rsatoolbox.rdm.RDMs or rsatoolbox.data.Dataset
            As saved, (n_rdms, n_pairs) or (n_observations, n_channels), except that names in ``stimulus`` become texts
            (whole floats without a point). From a Result, the RDMs of its models with a unique rdm descriptor
            ``model``; conditions are matched by ``stimulus`` if they have it.

        Raises
        ------
        BrainrdlError
            If the file is empty or does not contain RDMs, a Dataset or a Result, if the models of a Result have no
            RDMs, or RDMs of different conditions, or if `memory_map` is set and the file does not contain RDMs stored
            in one piece.
        """
        from rsatoolbox.data.dataset import load_dataset
        from rsatoolbox.rdm.rdms import load_rdm

        with opened(path) as file:
            check_links(file)
            if memory_map:
                return _mapped(file, path)
        keys = _keys(path)
        # file_type is given, so that rsatoolbox never opens a file as a pickle because of its name
        if "dissimilarities" in keys:
            return _tidy(load_rdm(str(path), file_type="hdf5"))
        if "measurements" in keys:
            data = load_dataset(str(path), file_type="hdf5")
            data.descriptors = {key: _plain(value) for key, value in data.descriptors.items()}
            data.obs_descriptors, data.channel_descriptors = map(
                _text, (data.obs_descriptors, data.channel_descriptors)
            )
            return data
        if keys >= _RESULT:
            return _models(path)
        refuse(f"the file must contain 'dissimilarities' or 'measurements', got {quote(sorted(keys))}")


def _plain(value: Any) -> Any:
    """Convert an array without axes to a number: rsatoolbox loads numbers so, and its calc_rdm refuses them."""
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else value


def _mapped(file: h5py.File, path: Path) -> RDMs:
    """Read everything but the dissimilarities, which stay in the file."""
    from rsatoolbox.io import hdf5
    from rsatoolbox.rdm.rdms import rdms_from_dict

    if "dissimilarities" not in file:
        refuse(f"only RDMs can stay in their file; it holds {quote(sorted(file))}, so leave out memory_map")
    held = array(file, "dissimilarities")
    if held.chunks is not None or held.id.get_offset() is None or held.dtype.kind not in "iuf" or held.ndim != 2:
        refuse(
            f"the dissimilarities ({held.dtype} of shape {held.shape}) are not numbers (n_rdms, n_pairs) stored in one "
            "piece without compression, so they cannot stay in the file; leave out memory_map, or write the file again "
            "with rsatoolbox's RDMs.save"
        )
    source = MappedFile(str(path.resolve()), held.id.get_offset(), held.dtype.str, held.shape)
    groups = {key: hdf5._read_group(part) for key, part in file.items() if isinstance(part, h5py.Group)}
    measure = file.attrs.get("dissimilarity_measure")
    return _tidy(rdms_from_dict(groups | {"dissimilarities": source.values(), "dissimilarity_measure": measure}))


def _tidy(rdms: RDMs) -> RDMs:
    rdms.rdm_descriptors, rdms.pattern_descriptors = map(_text, (rdms.rdm_descriptors, rdms.pattern_descriptors))
    return rdms


def _models(path: Path) -> RDMs:
    """Join the RDMs of the models of a Result."""
    from rsatoolbox.io.hdf5 import read_dict_hdf5
    from rsatoolbox.rdm.rdms import rdms_from_dict

    held = read_dict_hdf5(str(path))["models"]
    models = [held[f"model_{place}"] for place in range(len(held))]
    for model in models:
        if not model["rdm"]:
            refuse(f"model {str(model['name'])!r} of the Result has no RDM; read it with rsatoolbox's load_results")
    found = {place: _tidy(rdms_from_dict(model["rdm"])) for place, model in enumerate(models)}
    labels = iter(_counted([str(models[place]["name"]) for place, rdms in found.items() for _ in range(rdms.n_rdm)]))
    for rdms in found.values():
        rdms.rdm_descriptors["model"] = list(islice(labels, rdms.n_rdm))
        _check_conditions(rdms, found[0])
    keys = dict.fromkeys(key for rdms in found.values() for key in (*rdms.rdm_descriptors, *rdms.descriptors))
    for rdms in found.values():  # what one model has, such as layers, others may lack
        for key in keys:
            if key not in rdms.descriptors:
                rdms.rdm_descriptors.setdefault(key, [""] * rdms.n_rdm)
    return concat(list(found.values()), "stimulus" if "stimulus" in found[0].pattern_descriptors else "index")


def _counted(names: list[str]) -> list[str]:
    """Add numbers to repeated names, because RDMs with the same label would be averaged like those of subjects."""
    labels = [
        f"{name} {names[: place + 1].count(name)}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    check_unique(labels, "the models of the Result, with equal names numbered")
    return labels


def _check_conditions(rdms: RDMs, first: RDMs) -> None:
    """Refuse models with other conditions than the first; different orders are accepted only with ``stimulus``."""
    one, other = _conditions(rdms), _conditions(first)
    if one != other:
        names = quote(rdms.rdm_descriptors["model"][:1] + first.rdm_descriptors["model"][:1])
        refuse(
            f"models {names} of the Result have different conditions, {_listed(one)} and {_listed(other)}; read their "
            "RDMs with rsatoolbox's load_results, one by one"
        )


def _conditions(rdms: RDMs) -> dict[str, list[Any]]:
    """Return what identifies the conditions: their number, and the stimuli, or all descriptors in their order."""
    known = {key: list(values) for key, values in rdms.pattern_descriptors.items() if key != "index"}
    named = {"stimulus": sorted(known["stimulus"])} if "stimulus" in known else known
    return {"conditions": [rdms.n_cond], **named}


def _listed(conditions: dict[str, list[Any]]) -> str:
    return ", ".join(f"{key} {quote(values)}" for key, values in conditions.items())


def _text(descriptors: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """Decode names that other programs wrote as HDF5 strings of variable length: rsatoolbox loads them as bytes."""
    plain = {
        key: [value.decode() if isinstance(value, bytes) else value for value in values]
        for key, values in descriptors.items()
    }
    names = {"stimulus": condition_names(plain["stimulus"], "descriptor 'stimulus'")} if "stimulus" in plain else {}
    return plain | names


def _keys(path: Path) -> set[str]:
    with h5py.File(path, "r") as file:
        return set(file)


READER = RsatoolboxHDF5()
