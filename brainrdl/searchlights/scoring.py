"""Model RDMs by name, and their similarity to the RDMs of many spheres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from brainrdl._core.errors import arg, check_option, check_unique, quote, refuse
from brainrdl.rdms.by_name import alignment, names, select
from brainrdl.rdms.conversion import check, to_tensor
from brainrdl.searchlights.measurements import Values
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

    from brainrdl.similarity.traits import Similarity
_ROUNDING = 8 * float(np.finfo(float).eps)  # as in `brainrdl.similarity.pair_sums.centred`

_FEWEST = 4  # conditions; fewer give at most 3 pairs, too few for a correlation of RDMs


@dataclass(frozen=True, eq=False)
class Scorer:
    """Model RDMs (n_models, n_pairs) and a comparator."""

    labels: tuple[str, ...]
    models: Tensor
    comparator: Similarity

    def __call__(self, pairs: Values) -> Values:
        """Return the similarity of each RDM (n, n_pairs) to each model, (n, n_models)."""
        if self.comparator is SIMILARITIES["corr"] and not (np.isnan(pairs.sum()) or self.models.isnan().any()):
            return _centred(pairs) @ _centred(self.models.numpy()).T
        given = torch.from_numpy(pairs)
        rescale = getattr(self.comparator, "partial_scale", None)
        if rescale is not None and not (given.isnan().any() or self.models.isnan().any()):
            # the comparator is the cosine of rescaled RDMs, so that one matrix product compares all
            return (_unit(rescale(given, None)) @ _unit(rescale(self.models, None)).mT).numpy()
        return self.comparator(given[:, None], self.models[None]).numpy()


def _centred(rows: Values) -> Values:
    """Subtract the mean of each row and divide by its length; rows that are constant up to rounding become 0."""
    mean = rows.mean(1, keepdims=True)
    found: Values = rows - mean
    lengths = np.sqrt(np.einsum("ij,ij->i", found, found))[:, None]
    rounding = _ROUNDING * np.abs(mean) * rows.shape[1] ** 0.5
    found /= np.where(lengths > rounding, lengths, np.inf)
    return found


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def scorer_of(
    models: RDMs | Mapping[str, RDMs] | Sequence[RDMs],
    conditions: Sequence[str],
    comparator: str | Similarity,
    by: str = "stimulus",
    common: bool = False,
) -> tuple[Scorer, list[str]]:
    """Bring model RDMs to the conditions of the data.

    Parameters
    ----------
    models : rsatoolbox RDMs, sequence of such, or mapping of name to RDMs
        One or several models; their names are those of the mapping, of the rdm descriptors, or numbers.
    conditions : sequence of str
        Conditions of the data.
    comparator : str or callable
        A name in `brainrdl.similarity.SIMILARITIES`, or such a function.
    by : str
        Pattern descriptor that names the conditions of the models.
    common : bool
        Use only the conditions that all have, instead of refusing other conditions.

    Returns
    -------
    Scorer, list of str
        And the conditions that are used, in the order of the data.

    Raises
    ------
    BrainrdlError
        If a model has other conditions than the data, there are fewer than 4 in common, a model is constant, or two
        models have the same name.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> model = from_array([0.1, 0.9, 0.8, 0.7, 0.6, 0.2], ["cat", "dog", "car", "bus"])
    >>> scorer, used = scorer_of({"animacy": model}, ["bus", "car", "dog", "cat"], "corr")
    >>> scorer.labels, used
    (('animacy',), ['bus', 'car', 'dog', 'cat'])
    """
    listed = _listed(models)
    used = list(conditions)
    for label, rdms in listed:
        _check_model(rdms, label)
        met = alignment(used, names(rdms, by))
        if not common and (met.only_stimuli or met.only_rdms):
            refuse(
                f"model {label!r} and the data do not have the same conditions: only in the data "
                f"{quote(met.only_stimuli)}, only in the model {quote(met.only_rdms)}; rename them, or keep those in "
                f"common with {arg('common', True)}"
            )
        used = list(met.common)
    if len(used) < _FEWEST:
        refuse(f"the models and the data share {len(used)} conditions {quote(used)}, at least {_FEWEST} are needed")
    parts = [select(rdms, used, by) for _, rdms in listed]
    for (label, _), part in zip(listed, parts, strict=True):
        check(part, f"model {label!r}")
    labels = [name for (label, _), part in zip(listed, parts, strict=True) for name in _labels(label, part)]
    check_unique(labels, "the models")
    rows = torch.cat([to_tensor(part, by=by, dtype=torch.float64) for part in parts])
    compared = (
        SIMILARITIES[check_option(comparator, SIMILARITIES, "comparator")]
        if isinstance(comparator, str)
        else comparator
    )
    return Scorer(tuple(labels), rows, compared), used


def _listed(models: Any) -> list[tuple[str, Any]]:
    if isinstance(models, Mapping):
        listed = [(str(name), rdms) for name, rdms in models.items()]
    elif hasattr(models, "dissimilarities"):
        listed = [("", models)]
    else:
        listed = [("", rdms) for rdms in models]
    return listed or refuse("no model was given; leave models out to compute only RDMs")


def _check_model(given: object, label: str) -> None:
    if not hasattr(given, "dissimilarities"):
        refuse(
            f"model {label!r} must be rsatoolbox's RDMs, got {type(given).__name__}; see brainrdl.rdms.from_array and "
            "brainrdl.read"
        )


def _labels(label: str, rdms: Any) -> list[str]:
    """Name each RDM: by the name that was given, and its descriptors if there are several."""
    if label and rdms.n_rdm == 1:
        return [label]
    described = {key: values for key, values in rdms.rdm_descriptors.items() if key != "index"}
    if "name" in described:
        described = {"name": described["name"]}
    rows = zip(*described.values(), strict=True) if described else ((f"model {k}",) for k in range(rdms.n_rdm))
    return [" ".join(filter(None, (label, *map(str, row)))) for row in rows]


def place_of(conditions: Sequence[str], used: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the pairs of `used` conditions (in the order of `conditions`) among all pairs.

    Examples
    --------
    >>> place_of(["a", "b", "c", "d"], ["a", "c", "d"]).tolist()
    [1, 2, 5]
    """
    kept = np.isin(conditions, used)
    first, second = np.triu_indices(len(conditions), 1)
    return np.flatnonzero(kept[first] & kept[second])
