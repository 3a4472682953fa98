"""rsatoolbox's own HDF5 files, as ``RDMs.save``, ``Dataset.save`` and ``Result.save`` write them.

Layout on disk (``.h5`` or ``.hdf5``)::

    RDMs                                     Dataset
    /dissimilarities      (n_rdms, n_pairs)  /measurements        (n_obs, n_channels)
    /descriptors/         whole object       /descriptors/        whole object
    /rdm_descriptors/     one per RDM        /obs_descriptors/    one per observation
    /pattern_descriptors/ one per condition  /channel_descriptors/ one per channel
    @dissimilarity_measure                   @type                "Dataset"

A ``Result`` of ``rsatoolbox.inference`` gives the RDMs of its models (``/models/model_0/rdm``, laid out as RDMs), each
with its model's name as rdm descriptor ``model``, counted (``"w 1"``, ``"w 2"``) where several have one name; its
evaluations are read by ``rsatoolbox.inference.load_results``.

Names stand as HDF5 strings, or as attributes of a group where they are not in ASCII, which rsatoolbox's lists cannot
hold. rsatoolbox can also save pickles; those are refused.
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
from data_adapters._shared.hdf5 import check_links, opened
from data_adapters._shared.measurements import condition_names

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs
_RESULT = frozenset({"models", "evaluations"})

_SUFFIXES = frozenset({".h5", ".hdf5"})


class RsatoolboxHDF5:
    """Reads RDMs, Datasets, and the RDMs of a Result's models saved by rsatoolbox.

    Examples
    --------
    >>> READER.sniff(Path("brain.pkl"))
    False
    """

    name = "rsatoolbox"
    layout = "rsatoolbox's HDF5, .h5 or .hdf5: RDMs.save(file), Dataset.save(file), or Result.save(file), of its models"

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
            keys = _keys(path)
            return bool(keys & {"dissimilarities", "measurements"}) or keys >= _RESULT
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
            As saved, but names in ``stimulus`` as texts (whole floats without a point). Of a Result, the RDMs of its
            models with the rdm descriptor ``model``, unique; conditions are matched by ``stimulus`` if there is one.

        Raises
        ------
        BrainrdlError
            If the file is empty, or holds neither RDMs nor a Dataset nor a Result, or a Result's models have no RDMs,
            or RDMs of different conditions.
        """
        from rsatoolbox.data.dataset import load_dataset
        from rsatoolbox.rdm.rdms import load_rdm

        with opened(path) as file:
            check_links(file)
        keys = _keys(path)
        # file_type is given, so that no file name can lead rsatoolbox to its pickles
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
        refuse(f"neither 'dissimilarities' nor 'measurements' is in the file, it holds {quote(sorted(keys))}")


def _plain(value: Any) -> Any:
    """Give a number that rsatoolbox loads as an array without axes, which its own calc_rdm refuses, as a number."""
    return value.item() if isinstance(value, np.ndarray) and not value.ndim else value


def _tidy(rdms: RDMs) -> RDMs:
    rdms.rdm_descriptors, rdms.pattern_descriptors = map(_text, (rdms.rdm_descriptors, rdms.pattern_descriptors))
    return rdms


def _models(path: Path) -> RDMs:
    """Join the RDMs of a Result's models."""
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
    return concat(list(found.values()), "stimulus" if "stimulus" in found[0].pattern_descriptors else "index")


def _counted(names: list[str]) -> list[str]:
    """Add numbers to names that stand more than once: RDMs of one label would be averaged like those of subjects."""
    labels = [
        f"{name} {names[: place + 1].count(name)}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    check_unique(labels, "the models of the Result, those of one name counted")
    return labels


def _check_conditions(rdms: RDMs, first: RDMs) -> None:
    """Refuse a model whose conditions are not those of the first; only by stimulus can they be put in order."""
    one, other = _conditions(rdms), _conditions(first)
    if one != other:
        names = quote(rdms.rdm_descriptors["model"][:1] + first.rdm_descriptors["model"][:1])
        refuse(
            f"models {names} of the Result have different conditions, {_told(one)} and {_told(other)}; read their RDMs "
            "with rsatoolbox's load_results, one by one"
        )


def _conditions(rdms: RDMs) -> dict[str, list[Any]]:
    """Give what the conditions are known by: their number, and the stimuli, or else all descriptors in their order."""
    known = {key: list(values) for key, values in rdms.pattern_descriptors.items() if key != "index"}
    named = {"stimulus": sorted(known["stimulus"])} if "stimulus" in known else known
    return {"conditions": [rdms.n_cond], **named}


def _told(conditions: dict[str, list[Any]]) -> str:
    return ", ".join(f"{key} {quote(values)}" for key, values in conditions.items())


def _text(descriptors: Mapping[str, Iterable[Any]]) -> dict[str, list[Any]]:
    """Decode names that other programs wrote as HDF5 strings of variable length: rsatoolbox gives them as bytes."""
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
