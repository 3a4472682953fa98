"""Additional rows of a cross-validation: ensembles of students, and the predictions of category and model RDMs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from brainrdl._core.rows import Role
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.evaluation.plan import Split, display
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.evaluation.simple_models import model_rdms
from brainrdl.inference.pairwise import is_constant
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs
_CONSTANT = 1e-12  # spread of an RDM that is constant except for rounding


def constant_rows(held_out: Sequence[HeldOut]) -> list[str]:
    """Describe the students and controls with a constant RDM of held-out stimuli, and in how many folds."""
    folds: dict[str, list[bool]] = {}
    for one in held_out:
        who = f"{one.student} at layer {one.layer}" if one.layer else one.student
        folds.setdefault(who, []).append(bool(is_constant(one.pairs)))
    return [
        f"the RDM of {who} is constant in {sum(found)} of {len(found)} folds"
        for who, found in folds.items()
        if any(found)
    ]


def averaged_rows(held_out: Sequence[HeldOut], ensembles: Mapping[str, Sequence[str]]) -> list[HeldOut]:
    """Average z-scored RDMs over the members of each ensemble, fitted and unfitted."""
    rows = []
    for label, members in ensembles.items():
        bases = {display(member, Role.UNFITTED) for member in members}
        for role, averaged in ((Role.STUDENT, Role.ENSEMBLE), (Role.UNFITTED, Role.UNFITTED)):
            groups: dict[tuple[Any, ...], list[HeldOut]] = {}
            for one in held_out:
                if one.role is role and one.base in bases:
                    groups.setdefault((one.target, one.seed, one.fold, one.left_out), []).append(one)
            complete = [group for group in groups.values() if {one.base for one in group} == bases]
            rows += [_averaged(group, label, averaged) for group in complete]
    return rows


def _averaged(group: Sequence[HeldOut], label: str, role: Role) -> HeldOut:
    centred = torch.stack([one.pairs - one.pairs.mean() for one in group])
    pairs = (centred / centred.std(-1, keepdim=True).clamp(min=_CONSTANT)).mean(0)
    shown, base = display(label, role), display(label, Role.UNFITTED)
    return replace(group[0], student=shown, role=role, base=base, layer="", pairs=pairs)


def baseline_rows(
    split: Split, truth: Mapping[str, TeacherRDMs], stimuli: Stimuli, models: Mapping[str, RDMs], category: bool
) -> list[HeldOut]:
    targets = tuple(truth)
    labels = stimuli.labels if category else None
    rows = model_rdms(models, labels, targets, split.test, seed=split.seed, fold=split.fold)
    if labels:
        looked_up = {target: _look_up(split, truth[target], labels) for target in targets}
        rows += [
            HeldOut(
                student="category lookup",
                role=Role.CATEGORY,
                target=target,
                names=split.test,
                pairs=pairs,
                seed=split.seed,
                fold=split.fold,
            )
            for target, pairs in looked_up.items()
            if pairs.max() - pairs.min() > _CONSTANT * pairs.abs().max()
        ]
    return [replace(row, left_out=split.left_out) for row in rows]


def _look_up(split: Split, truth: TeacherRDMs, labels: Mapping[str, str]) -> torch.Tensor:
    """Predict each held-out pair by the training fold's mean dissimilarity between the two categories."""
    kept = [s for s, subject in enumerate(truth.subjects) if subject != split.left_out]
    seen = truth.of(split.train)[kept].nanmean(0)
    code = {category: k for k, category in enumerate(sorted(set(labels.values())))}

    def cells(names: tuple[str, ...]) -> torch.Tensor:
        codes = torch.tensor([code[labels[name]] for name in names])
        a, b = codes[pair_indices(len(names))]
        return torch.minimum(a, b) * len(code) + torch.maximum(a, b)

    known = ~seen.isnan()
    table = torch.full((len(code) ** 2,), float(seen[known].mean()), dtype=torch.float64)
    table = table.scatter_reduce(0, cells(split.train)[known], seen[known], "mean", include_self=False)
    return table[cells(split.test)]
