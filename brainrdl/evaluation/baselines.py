"""Additional rows of a cross-validation: ensembles of students, and what scores are compared with.

These are unfitted students with reweighted channels, and the predictions of category and model RDMs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brainrdl._core.constants import MIN_CONDITIONS
from brainrdl._core.rows import Role
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.evaluation.plan import Split, display
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.evaluation.simple_models import model_rdms
from brainrdl.inference.pairwise import is_constant
from brainrdl.rdm_models.reweighting import NORMALISED, PENALTIES, ReweightedModel
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

_MOST_CHANNELS = 2048  # of a reweighted layer: a fold takes about a minute

_INNER_PARTS = 5

_FEWEST_PAIRS = 3

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


def reweighted_rows(
    split: Split,
    label: str,
    patterns: Mapping[str, torch.Tensor],
    names: tuple[str, ...],
    matched: Mapping[str, Mapping[str, float]],
    truth: Mapping[str, TeacherRDMs],
    dissimilarity: object,
    groups: Mapping[str, str] | None,
) -> list[HeldOut]:
    """Predict held-out RDMs from the unfitted student's channels, weighted to fit the training stimuli of the fold."""
    kind = dissimilarity if dissimilarity in NORMALISED else "euclidean"
    rows = []
    for layer, x in patterns.items():
        if x.shape[1] > _MOST_CHANNELS:
            warnings.warn(
                f"layer {layer!r} of student {label!r} has {x.shape[1]} channels, too many for the reweighted control "
                f"(at most {_MOST_CHANNELS}), which is left out for this layer; pool it, for example with "
                "Readout('avgpool')",
                stacklevel=2,
            )
            continue
        inner = _inner_parts(split, groups)
        penalties = PENALTIES[::2] if len(inner) > 1 else (1.0,)
        model = ReweightedModel(x, names, str(kind), penalties=penalties, folds=inner)
        for target in matched[layer]:
            if target in truth and int((~truth[target].pairs.isnan()).any(0).sum()) >= _FEWEST_PAIRS:
                fitted = model.fit(truth[target].of(split.train), split.train)
                rows.append(
                    HeldOut(
                        student=display(label, Role.REWEIGHTED),
                        role=Role.REWEIGHTED,
                        base=display(label, Role.UNFITTED),
                        layer=layer,
                        target=target,
                        names=split.test,
                        pairs=fitted.predict(split.test),
                        seed=split.seed,
                        fold=split.fold,
                        left_out=split.left_out,
                    )
                )
    return rows


def _inner_parts(split: Split, groups: Mapping[str, str] | None) -> list[list[str]]:
    """Divide the training stimuli to choose a penalty; stimuli of a group stay together."""
    group = [(groups or {}).get(name, name) for name in split.train]
    drawn = np.random.default_rng(split.seed).permutation(sorted(set(group)))
    n_parts = min(_INNER_PARTS, len(split.train) // MIN_CONDITIONS, len(drawn))
    parts = [set(part.tolist()) for part in np.array_split(drawn, max(n_parts, 1))]
    return [[name for name, of in zip(split.train, group, strict=True) if of in part] for part in parts]


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
