"""Patterns of earlier steps as further conditions of the RDM loss: more pairs per step, in the memory of the batch.

An RDM of a small batch has few pairs. Patterns that the student had for other conditions a few steps ago cost nothing
to keep, and approximate those that it would have now, as long as the weights change slowly (Wang et al., 2020, call
this a cross-batch memory). No gradient passes to them. Pairs of two remembered conditions have no gradient at all and
are left out of the loss. The gradient is therefore not that of a large batch: it lacks the part of the remembered
conditions, and their patterns are old. `brainrdl.training.cached_backward` computes the exact one, for more time.

References
----------
Wang, Zhang, Huang & Scott (2020), Cross-batch memory for embedding learning, CVPR,
doi 10.1109/CVPR42600.2020.00642.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from brainrdl._core.errors import arg, refuse
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.similarity import comparators as _similarity
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher, uses_images, view_of
from brainrdl.training.options import FitOptions


@dataclass(frozen=True)
class PatternMemory:
    """The last patterns of conditions of earlier steps; it never changes, `after` returns the memory of the next step.

    Parameters
    ----------
    names : tuple of str
        Conditions, each once, the latest ones last.
    patterns : mapping of layer to Tensor, shape (n_conditions, n_channels)
        Their patterns, without gradient; empty if there are no conditions.

    Examples
    --------
    >>> memory = PatternMemory().after(("a", "b"), {"fc": torch.eye(2)}, size=3)
    >>> memory = memory.after(("c", "a"), {"fc": torch.zeros(2, 2)}, size=3)
    >>> memory.names
    ('b', 'c', 'a')
    >>> others = memory.without(("c", "d"))
    >>> others.names, others.added_to({"fc": torch.ones(2, 2)})["fc"].tolist()
    (('b', 'a'), [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    """

    names: tuple[str, ...] = ()
    patterns: Mapping[str, Float[Tensor, "n_conditions n_channels"]] = field(default_factory=dict)

    def without(self, names: Sequence[str]) -> PatternMemory:
        """Return the memory of all conditions but these.

        Parameters
        ----------
        names : sequence of str
            Conditions of the present step.
        """
        present = frozenset(names)
        return self._at([i for i, name in enumerate(self.names) if name not in present])

    def added_to(self, patterns: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "n_all n_channels"]]:
        """Return the patterns of a batch, followed by those of the memory.

        Parameters
        ----------
        patterns : mapping of layer to Tensor, shape (n, n_channels)
            Patterns of the present step, with gradient.
        """
        return {
            layer: torch.cat([rows, self.patterns[layer]]) if self.names else rows for layer, rows in patterns.items()
        }

    def compared(self, rdms: Mapping[str, Float[Tensor, "n_rdms n_pairs"]]) -> dict[str, Tensor]:
        """Return a teacher's RDMs of a batch and the memory with NaN for pairs of two remembered conditions.

        Parameters
        ----------
        rdms : mapping of target to Tensor, shape (n_rdms, n_pairs)
            RDMs of the conditions of the batch, followed by those of the memory.
        """
        # In row-major order of the upper triangle, pairs of the last conditions are the last pairs.
        n = len(self.names) * (len(self.names) - 1) // 2
        if not n:
            return dict(rdms)
        return {target: pad(rows[..., :-n], (0, n), value=math.nan) for target, rows in rdms.items()}

    def after(self, names: Sequence[str], patterns: Mapping[str, Tensor], size: int) -> PatternMemory:
        """Return the memory after a step, with the latest `size` conditions.

        Parameters
        ----------
        names : sequence of str
            Conditions of the step; they replace older patterns of the same conditions.
        patterns : mapping of layer to Tensor, shape (n, n_channels)
            Their patterns; a copy without gradient is kept.
        size : int
            Largest number of conditions in the memory.
        """
        older, new = self.without(names), {layer: rows.detach().clone() for layer, rows in patterns.items()}
        joined = {
            layer: torch.cat([older.patterns[layer], rows]) if older.names else rows for layer, rows in new.items()
        }
        known = (*older.names, *names)
        return PatternMemory(known, joined)._at(range(max(len(known) - size, 0), len(known)))

    def _at(self, positions: Sequence[int]) -> PatternMemory:
        kept = list(positions)
        if len(kept) == len(self.names):
            return self
        return PatternMemory(
            tuple(self.names[i] for i in kept), {layer: rows[kept] for layer, rows in self.patterns.items()}
        )


def check_memory(
    options: FitOptions, loss: RDMLoss, teacher: Teacher | None, stimuli: Stimuli, n_conditions: int
) -> None:
    """Refuse the option `memory` of a fit where it would have no effect, or another one than expected.

    Parameters
    ----------
    options : FitOptions
        All options of the fit.
    loss : RDMLoss
    teacher : Teacher or None
    stimuli : Stimuli
        Images of the RDM.
    n_conditions : int
        Number of training conditions.

    Raises
    ------
    BrainrdlError
        If there is no RDM loss, each step has all conditions, the loss compares whole RDMs or a given number of pairs,
        or the teacher would need the augmented images of earlier steps.

    Examples
    --------
    >>> check_memory({"memory": 8, "rdm_weight": 1.0, "batch_size": None}, RDMLoss(), None, None, 20)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: memory=8 has no effect: each step has all 20 training conditions; set batch_size= below ...
    """
    memory = arg("memory", options["memory"])
    if not options["rdm_weight"]:
        refuse(f"{memory} is for the loss of the RDM, but {arg('rdm_weight', 0)}; leave out {arg('memory')}")
    if options["batch_size"] is None or options["batch_size"] >= n_conditions:
        refuse(
            f"{memory} has no effect: each step has all {n_conditions} training conditions; set {arg('batch_size')} "
            f"below {n_conditions}, or leave out {arg('memory')}"
        )
    single_pairs = getattr(_similarity.resolve(loss.similarity), "single_pairs", True)
    if loss.form == "similarity" and not single_pairs:
        refuse(
            f"{memory} leaves out pairs of two remembered conditions, but {arg('similarity', loss.similarity)} "
            f"compares whole RDMs; use {arg('similarity', 'corr')}, or leave out {arg('memory')}"
        )
    if loss.n_pairs is not None:
        refuse(
            f"{arg('n_pairs', loss.n_pairs)} draws among all pairs, also those of two remembered conditions that "
            f"{memory} leaves out; leave out one of the two"
        )
    if teacher is not None and uses_images(teacher) and view_of(teacher) == "same" and stimuli.augmentation is not None:
        refuse(
            f"{memory} asks the teacher for the RDM of conditions of earlier steps, but teacher {teacher.name!r} is "
            f"given the augmented images of the present step only; use a teacher with view 'clean', leave out the "
            f"augmentation, or leave out {arg('memory')}"
        )
