"""The data that models are fitted to: the subjects' RDMs of each target, and model RDMs, for the same conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_text, refuse
from brainrdl.rdms.by_name import names as names_of
from brainrdl.rdms.conversion import to_tensor
from brainrdl.rdms.partial import comparable
from brainrdl.rdms.subjects import groups

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def subjects_of_targets(
    rdms: RDMs, names: Sequence[str] | None = None, average_over: str | Sequence[str] = ()
) -> dict[str, tuple[tuple[str, ...], Tensor]]:
    """Return the names of the subjects and their RDMs ``(n_subjects, n_pairs)`` of each target.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        Only the rdm descriptor ``"subject"`` distinguishes subjects; what differs otherwise are targets.
    names : sequence of str, optional
        Conditions, in this order; by default all.
    average_over : str or sequence of str
        Rdm descriptors over which a subject's RDMs are averaged, for example ``"session"``.

    Returns
    -------
    dict of target to (subjects, Tensor)
        Float64; NaN if a pair is unknown. The scales of subjects who know different pairs are made equal.

    Raises
    ------
    BrainrdlError
        If a condition is unknown, or several RDMs are of one subject and target.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> described = {"subject": ["s1", "s2"], "roi": ["IT", "IT"]}
    >>> data = from_array([[1.0, 2.0, 3.0], [3.0, 2.0, 2.0]], list("abc"), descriptors=described)
    >>> subjects_of_targets(data, ["c", "b", "a"])["IT"][1].tolist()
    [[3.0, 2.0, 1.0], [2.0, 2.0, 3.0]]
    """
    pairs = to_tensor(rdms, names_of(rdms) if names is None else names, dtype=torch.float64)
    found = {}
    for target, rows in groups(rdms, average_over=average_over).rows().items():
        of_subjects = torch.stack([pairs[places].nanmean(0) for places in rows.values()])
        found[target] = (tuple(rows), comparable(of_subjects, f"target {target!r}"))
    return found


def stacked(models: Mapping[str, RDMs], names: Sequence[str]) -> Float[Tensor, "n_models n_pairs"]:
    """Return the dissimilarities of model RDMs, one RDM each and every pair known, float64.

    Raises
    ------
    BrainrdlError
        If there is no model, a name is not text, or a model has several RDMs or unknown pairs.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> stacked({"size": from_array([1.0, 2.0, 3.0], list("abc"))}, ["a", "b", "c"]).tolist()
    [[1.0, 2.0, 3.0]]
    """
    check_text(models, "the models")
    if not models:
        refuse("there is no model RDM; give at least one, by name")
    return torch.stack([_one(name, rdms, names) for name, rdms in models.items()])


def _one(name: str, rdms: RDMs, names: Sequence[str]) -> Tensor:
    if rdms.n_rdm != 1:
        refuse(f"model {name!r} should be one RDM, got {rdms.n_rdm}")
    pairs = to_tensor(rdms, names, dtype=torch.float64)[0]
    if unknown := int(pairs.isnan().sum()):
        refuse(
            f"model {name!r} has {unknown} unknown (NaN) pairs of {len(pairs)} among the conditions; leave out the "
            "model, or these conditions"
        )
    return pairs
