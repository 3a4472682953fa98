"""Teachers: what gives the RDMs a student is to approach, always asked by condition name.

The contract of a `Teacher`, which `brainrdl.testing.check_teacher` tries on anyone's:

1. ``name`` says in errors and reports who it is; ``targets`` are the names of its RDMs (regions, layers), no two alike.
2. ``rdms(batch)`` answers with exactly one float tensor a target, shape ``(n_rdms, n_pairs)`` with at least one RDM,
   on the device of ``batch.images``; pairs in row-major upper-triangle order of ``batch.names``.
3. The order of the answer is the order asked: in another order, or for fewer names, the dissimilarities are the same.
4. The same batch (names, images and step) gets the same answer.
5. No gradient flows into a teacher, and nothing it answers is Inf. NaN marks a pair it does not know, which the
   loss leaves out.
6. A name it does not know is an error. A teacher that answers by name lists the names it knows in ``conditions``;
   one that computes from the batch's images has no such list.

Answers may be kept and given again: do not write into them.

Two more members are optional. ``uses_images``: False says that the batch's images are never looked at.
``identity(names)``: a dict of what the answers for these names depend on beside the images; a run is not resumed with
another.

A teacher of your own is a class with these three members; nothing to inherit from, nothing to register.

Examples
--------
>>> import torch
>>> from brainrdl.stimuli import Batch
>>> class RatedSize:
...     name, targets = "rated size", ("size",)
...     conditions = ("mouse", "cat", "horse", "house")
...
...     def rdms(self, batch):
...         size = torch.tensor([float(self.conditions.index(name)) for name in batch.names])
...         i, j = torch.triu_indices(len(size), len(size), 1)
...         return {"size": (size[i] - size[j]).abs()[None].to(batch.images.device)}
>>> RatedSize().rdms(Batch(("horse", "mouse", "cat"), torch.zeros(3, 1, 2, 2), None))
{'size': tensor([[2., 1., 1.]])}
>>> from brainrdl.testing import check_teacher
>>> check_teacher(RatedSize(), Batch(RatedSize.conditions, torch.zeros(4, 1, 2, 2), None))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_conditions, refuse
from brainrdl.stimuli.named_images import Batch


@runtime_checkable
class Teacher(Protocol):
    """Anything with a name, targets and ``rdms(batch)``; the module's text holds the contract."""

    @property
    def name(self) -> str:
        """What errors and reports call it."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of its RDMs: regions or layers."""

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "n_rdms n_pairs"]]:
        """Answer with the RDMs of the batch's conditions, in their order."""


def conditions_of(teacher: Teacher, conditions: Sequence[str] | None) -> tuple[str, ...]:
    known: Sequence[str] | None = getattr(teacher, "conditions", None)
    if conditions is None and known is None:
        refuse(f"teacher {teacher.name!r} lists no conditions: say which names to permute with conditions=")
    if conditions is not None and known is not None:
        check_conditions(conditions, known, f"teacher {teacher.name!r}")
    return tuple(conditions if conditions is not None else known or ())
