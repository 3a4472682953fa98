"""Fitting a read-out of a network that does not change: each stimulus passes through the network once.

A student whose network is frozen is a function of its network's pooled outputs. `FrozenFeatures` computes them once
per stimulus, and makes a light `Student` that uses them as input and shares the read-outs (and so their training) with
the original student.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import quote, refuse
from brainrdl.models.feature_cache import digest_network
from brainrdl.models.layers import random_layers, read_layers
from brainrdl.models.readout import Readout, pool_call
from brainrdl.models.student import Student
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.teachers.protocol import Teacher, uses_images

_BATCH = 64


class FrozenFeatures:
    """Pooled outputs of frozen networks for one set of stimuli, computed when first needed and kept in memory.

    Parameters
    ----------
    stimuli : Stimuli
        With a deterministic transform.
    together : bool
        Compute the outputs of all stimuli when the first one is needed, in batches of the same stimuli each time. The
        last bits of an output depend on its batch, so with this option they do not depend on what was needed before.

    Examples
    --------
    >>> from brainrdl import Readout
    >>> stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), list("abcdef"))
    >>> network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())
    >>> student = Student(network, ["0"], readout=Readout("avgpool", projection=2), trainable="projection")
    >>> light, features = FrozenFeatures(stimuli).of(student, list("abcd"))
    >>> features.images().shape
    torch.Size([4, 1, 1, 3])
    """

    def __init__(self, stimuli: Stimuli, together: bool = False) -> None:
        self._stimuli, self._together = stimuli, together
        self._known: dict[tuple[str, ...], dict[str, tuple[Tensor, ...]]] = {}

    def serves(self, student: Student, teacher: Teacher | None) -> bool:
        """Whether only read-outs change: a frozen network, deterministic images, and a teacher that uses no images."""
        readouts = [head.readout for head in student.readout_heads()]
        # Features are the last outputs of modules, pooled in one way.
        alike = {(readout.pool, readout.step) for readout in readouts} == {(readouts[0].pool, -1)}
        looks = teacher is not None and uses_images(teacher)
        same = self._stimuli.deterministic and self._stimuli.augmentation is None
        return student.frozen and same and alike and not looks

    def check(self, stimuli: Stimuli) -> None:
        """Refuse other stimuli than those whose outputs are kept here, even if they have the same names.

        Raises
        ------
        BrainrdlError
            If `stimuli` is a different object.
        """
        if stimuli is not self._stimuli:
            refuse("features were computed from other stimuli; make FrozenFeatures(stimuli) from the stimuli to fit")

    def of(self, student: Student, names: Sequence[str]) -> tuple[Student, Stimuli]:
        """Return a student that uses the features as input, and the features as stimuli, for `names`.

        Parameters
        ----------
        student : Student
            Frozen, see `serves`; the light student trains its read-outs.
        names : sequence of str
            Conditions to compute features for.

        Returns
        -------
        tuple of Student and Stimuli
            "Images" of the stimuli are features, shape (1, 1, n_channels).

        Raises
        ------
        BrainrdlError
            If names are not among the stimuli.
        """
        names = tuple(names)
        heads = student.readout_heads()
        parts, pool = tuple(dict.fromkeys(part for head in heads for part in head.parts)), heads[0].readout.pool
        known = self._known.setdefault((digest_network(student.model), pool, *parts), {})
        missing = [name for name in names if name not in known]
        missing = list(self._stimuli.names) if missing and self._together else missing
        for chunk in (missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)):
            known.update(zip(chunk, _outputs(student, self._stimuli.images(chunk), parts, pool), strict=True))
        widths = {part: len(output) for part, output in zip(parts, known[names[0]], strict=True)}
        pixels = torch.stack([torch.cat(known[name]) for name in names])[:, None, None]
        return _light(student, widths), Stimuli.from_arrays(pixels, names)


@torch.no_grad()
def _outputs(student: Student, images: Tensor, parts: Sequence[str], pool: str) -> list[tuple[Tensor, ...]]:
    """Pooled outputs of each part, one tuple per image, on the CPU."""
    student.model.eval()
    outputs, _ = read_layers(student.model, parts, images.to(student.device))
    random = random_layers(student.model, parts)
    if random:
        refuse(
            f"layers {quote(random)} give other patterns for the same images each time, also in eval mode (random "
            "draws, or buffers that change), so that a read-out of them cannot be fitted to one pass; choose earlier "
            "layers, or switch the noise of the network off"
        )
    return list(zip(*[pool_call(outputs, part, Readout(pool)).cpu() for part in parts], strict=True))


def _light(student: Student, widths: Mapping[str, int]) -> Student:
    layers = student.match or student.layers
    readouts = {head.layer: head.readout for head in student.readout_heads()}
    light = Student(_columns(widths), layers, readout=readouts, trainable=student.trainable)
    light.heads = student.heads
    return light.to(student.device)


def _columns(widths: Mapping[str, int]) -> nn.Module:
    """Network over features, with one submodule per part, which returns the columns of that part."""
    root = _Columns()
    start = 0
    for part, width in widths.items():
        *folders, last = part.split(".")
        module = root
        for folder in folders:
            module = _child(module, folder)
        _child(module, last)._own = slice(start, start + width)
        start += width
    return root


class _Columns(nn.Module):
    """A leaf returns its columns of the features; a branch runs its submodules."""

    def __init__(self) -> None:
        super().__init__()
        self._own: slice | None = None

    def forward(self, features: Float[Tensor, "n 1 1 n_channels"]) -> Tensor:
        for module in self.children():
            module(features)
        # A separate view even for all columns: the output of a layer must not be the input itself.
        return features[:, 0, 0, self._own] if self._own is not None else features


def _child(module: _Columns, name: str) -> _Columns:
    if name not in module._modules:
        module.add_module(name, _Columns())
    return module.get_submodule(name)  # type: ignore[return-value]
