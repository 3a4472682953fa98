"""RDMs of simple models: same or different category, and the pixels of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from brainrdl._core.errors import refuse
from brainrdl._core.rows import Role
from brainrdl.evaluation.scores import HeldOut
from brainrdl.rdms import conversion
from brainrdl.stimuli.categories import different_category

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def model_rdms(
    models: Mapping[str, RDMs],
    labels: Mapping[str, str] | None,
    targets: Sequence[str],
    names: tuple[str, ...],
    *,
    seed: int,
    fold: int,
) -> list[HeldOut]:
    """Return rows for each target: model RDMs and, if it is not constant, the category model.

    Examples
    --------
    >>> from brainrdl import rdms
    >>> size = rdms.from_array([1.0, 2.0, 3.0], list("abc"))
    >>> rows = model_rdms({"size": size}, {"a": "cat", "b": "cat", "c": "dog"}, ["IT"], ("a", "b", "c"), seed=0, fold=0)
    >>> [(row.student, row.role.value, row.pairs.tolist()) for row in rows]
    [('category', 'category', [0.0, 1.0, 1.0]), ('size', 'model', [1.0, 2.0, 3.0])]
    """
    rows = {name: (Role.MODEL, _one_rdm(name, rdms, names)) for name, rdms in models.items()}
    category = different_category(names, labels) if labels else torch.zeros(1)
    if category.min() < category.max():
        rows = {"category": (Role.CATEGORY, category)} | rows
    return [
        HeldOut(student=name, role=role, target=target, seed=seed, fold=fold, names=names, pairs=pairs)
        for name, (role, pairs) in rows.items()
        for target in targets
    ]


def _one_rdm(name: str, rdms: RDMs, names: tuple[str, ...]) -> torch.Tensor:
    if rdms.n_rdm != 1:
        refuse(f"model {name!r} should be one RDM, got {rdms.n_rdm}")
    pairs = conversion.to_tensor(rdms, names, dtype=torch.float64)[0]
    if unknown := int(pairs.isnan().sum()):
        refuse(
            f"model {name!r} has {unknown} unknown (NaN) pairs of {len(pairs)} among the stimuli to score; all rows "
            "are scored and compared on the same pairs, so leave out the model, or these stimuli"
        )
    return pairs
