"""Readout: from a layer's output tensor to patterns ``(n, n_channels)``.

The steps, always in this order:

1. pool: ``"flatten"`` keeps every unit; ``"avgpool"`` takes the mean over all dimensions after the channels.
   Outputs with four or five dimensions are read as torch convolutions, ``(n, channels, height, width[, depth])``;
   outputs with three as transformer blocks, ``(n, tokens, channels)``, and averaged over tokens (class token included).
   A layer that gives channels last in four dimensions (Swin) needs a later layer, or ``"flatten"``.
2. concatenate: the pooled outputs of a ``"+"``-joined group stand side by side, in the order written.
3. standardise: each channel minus its mean, divided by its standard deviation over the calibration images.
4. project: a learned linear map without bias.

Steps 3 and 4 depend on the number of channels and on training stimuli; `ReadoutHead.calibrate` fixes both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_option, check_unique, refuse
from brainrdl.models import layers as features

POOLS = ("flatten", "avgpool")

# A square float32 map of this many channels takes 1 GiB, and three times that again with Adam's state and the gradient.
_LARGEST_SQUARE = 2**14


@dataclass(frozen=True)
class Readout:
    """How a layer's output becomes a pattern: pooling, standardising, projecting.

    Parameters
    ----------
    pool : str
        ``"flatten"`` (every unit is a channel) or ``"avgpool"`` (mean over space or tokens).
    standardise : bool
        Subtract each channel's mean and divide by its standard deviation over the calibration images.
    projection : int, "square" or None
        A learned linear map: ``k`` maps to ``k`` channels and starts at random orthonormal rows, which keep
        euclidean dissimilarities (divided by the number of channels) the same on average; ``"square"`` keeps the
        number of channels and starts at the identity; None has no map.

    Raises
    ------
    BrainrdlError
        If `pool` is unknown, or `projection` is neither a positive int, ``"square"`` nor None.

    Examples
    --------
    >>> Readout(pool="avgpool", projection=16)
    Readout(pool='avgpool', standardise=False, projection=16)
    >>> Readout(pool="avgpol")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: pool 'avgpol' is not known; nearest: 'avgpool' (known: flatten, avgpool)
    """

    pool: str = "flatten"
    standardise: bool = False
    projection: int | str | None = None

    def __post_init__(self) -> None:
        check_option(self.pool, POOLS, "pool")
        wanted = self.projection
        number = isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0
        if not (wanted is None or wanted == "square" or number):
            refuse(f"projection must be a positive int, 'square' or None, got {wanted!r}")

    @property
    def needs_calibration(self) -> bool:
        """Whether `ReadoutHead.calibrate` has anything to fix: True with standardise or projection."""
        return self.standardise or self.projection is not None


def pool_patterns(output: Tensor, pool: str = "flatten") -> Float[Tensor, "n n_channels"]:
    """Pool a layer's output to one pattern an image.

    Parameters
    ----------
    output : Tensor, shape (n, ...)
        What the layer gave; see the module's text for how its dimensions are read.
    pool : str
        ``"flatten"`` or ``"avgpool"``.

    Returns
    -------
    Tensor, shape (n, n_channels)
        The patterns, in the output's unit.

    Raises
    ------
    BrainrdlError
        If `pool` is unknown.

    Examples
    --------
    >>> pool_patterns(torch.ones(2, 3, 4, 4)).shape, pool_patterns(torch.ones(2, 3, 4, 4), "avgpool").shape
    (torch.Size([2, 48]), torch.Size([2, 3]))
    >>> pool_patterns(torch.ones(2, 197, 64), "avgpool").shape  # tokens are averaged
    torch.Size([2, 64])
    """
    check_option(pool, POOLS, "pool")
    if pool == "avgpool" and output.ndim == 3:
        return output.mean(dim=1)
    if pool == "avgpool" and output.ndim > 3:
        return output.flatten(2).mean(dim=2)
    return output.reshape(output.shape[0], -1)


class ReadoutHead(nn.Module):
    """One layer's readout with its calibrated numbers: outputs of the layer's modules -> patterns.

    Parameters
    ----------
    layer : str
        The layer's name, one module or several joined by ``"+"``.
    readout : Readout
        The steps to take.
    trainable : bool
        Whether the projection takes gradients.
    seed : int
        Seed of a random projection.

    Attributes
    ----------
    mean, std : Tensor, shape (n_channels,), or None
        Per channel over the calibration images, in the pattern's unit; None until calibrated, or without standardise.
    weight : Parameter, shape (n_projected, n_channels), or None
        The projection; None until calibrated, or without projection.

    Examples
    --------
    >>> head = ReadoutHead("conv1", Readout("avgpool", projection="square"))
    >>> head.calibrate(head.pooled({"conv1": torch.rand(5, 3, 8, 8)}))
    >>> head({"conv1": torch.rand(5, 3, 8, 8)}).shape
    torch.Size([5, 3])
    """

    mean: Tensor | None
    std: Tensor | None
    weight: nn.Parameter | None
    anchor: Tensor

    def __init__(self, layer: str, readout: Readout, *, trainable: bool = True, seed: int = 0) -> None:
        super().__init__()
        self.layer, self.readout, self.trainable, self.seed = layer, readout, trainable, seed
        self.parts = tuple(layer.split("+"))
        self.register_buffer("mean", None)
        self.register_buffer("std", None)
        self.register_parameter("weight", None)
        # Follows .to(device) and .half() before there is any weight to follow it.
        self.register_buffer("anchor", torch.zeros(1), persistent=False)

    @property
    def calibrated(self) -> bool:
        """Whether everything the readout needs is there."""
        standardised = not self.readout.standardise or self.mean is not None
        return standardised and (self.readout.projection is None or self.weight is not None)

    def pooled(self, outputs: Mapping[str, Tensor]) -> Float[Tensor, "n n_channels"]:
        """Pool the outputs of the layer's modules and put a group's side by side (steps 1 and 2)."""
        patterns = [pool_patterns(outputs[part], self.readout.pool) for part in self.parts]
        return patterns[0] if len(patterns) == 1 else torch.cat(patterns, dim=1)

    def forward(self, outputs: Mapping[str, Tensor]) -> Float[Tensor, "n n_projected"]:
        """Read patterns out of the outputs of the layer's modules (all steps).

        Raises
        ------
        BrainrdlError
            If not calibrated, or calibrated with another number of channels.
        """
        patterns = self.pooled(outputs)
        if not self.readout.needs_calibration:
            return patterns
        self._check(patterns)
        if self.mean is not None and self.std is not None:
            patterns = (patterns - self.mean) / self.std
        return patterns if self.weight is None else nn.functional.linear(patterns, self.weight)

    def _check(self, patterns: Tensor) -> None:
        if not self.calibrated:
            refuse(
                f"layer {self.layer!r} has a readout that standardises or projects but is not calibrated; "
                "call student.calibrate(images of the training stimuli) first"
            )
        known = self.mean if self.mean is not None else self.weight
        if known is not None and known.shape[-1] != patterns.shape[1]:
            refuse(
                f"layer {self.layer!r} was calibrated with {known.shape[-1]} channels and now gives "
                f"{patterns.shape[1]}; use images of the same size, or {arg('pool', 'avgpool', of='student')}"
            )

    @torch.no_grad()
    def calibrate(self, patterns: Float[Tensor, "n n_channels"]) -> None:
        """Fix mean and standard deviation from pooled `patterns`, and build the projection if it is not there yet.

        A constant channel gets the standard deviation 1, so that it becomes 0 rather than amplified rounding. A
        projection that is there already is kept, so calibrating twice forgets nothing that was learned.

        Raises
        ------
        BrainrdlError
            If standardising with fewer than 2 images, or if a ``"square"`` projection would take over 1 GiB.
        """
        if self.readout.standardise:
            self._standardise(patterns.float())
        if self.readout.projection is not None and self.weight is None:
            self.weight = nn.Parameter(self._start(patterns.shape[1]).to(self.anchor), requires_grad=self.trainable)

    def _standardise(self, patterns: Tensor) -> None:
        if patterns.shape[0] < 2:
            refuse(f"layer {self.layer!r} standardises over images: calibrate with at least 2, not {patterns.shape[0]}")
        std, mean = torch.std_mean(patterns, dim=0, correction=0)
        std[std <= 1e-6 * patterns.abs().amax(dim=0)] = 1.0
        self.mean, self.std = mean.to(self.anchor), std.to(self.anchor)

    def _start(self, n_channels: int) -> Tensor:
        """Build the projection's first value on the CPU, so that it does not depend on the device."""
        if isinstance(self.readout.projection, int):
            generator = torch.Generator().manual_seed(self.seed)
            return nn.init.orthogonal_(torch.empty(self.readout.projection, n_channels), generator=generator)
        if n_channels > _LARGEST_SQUARE:
            refuse(
                f"layer {self.layer!r} has {n_channels} channels: {arg('projection', 'square')} would take "
                f"{4 * n_channels**2 / 2**30:.0f} GiB; use "
                f"{arg('pool', 'avgpool', of='student')} or {arg('projection', 256)}"
            )
        return torch.eye(n_channels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Make room for calibrated numbers in a head that has none, so that a fresh student loads a fitted one."""
        room = {"mean": self.readout.standardise, "std": self.readout.standardise}
        room["weight"] = self.readout.projection is not None
        for name in [name for name, wanted in room.items() if wanted and prefix + name in state_dict]:
            if getattr(self, name) is None:
                empty = torch.empty_like(state_dict[prefix + name], device=self.anchor.device, dtype=self.anchor.dtype)
                setattr(self, name, nn.Parameter(empty, self.trainable) if name == "weight" else empty)
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_groups(model: nn.Module, layers: Iterable[str], where: str) -> tuple[str, ...]:
    """Check layers, each one module's name or several joined by ``"+"``, and list the modules to hook.

    Raises
    ------
    BrainrdlError
        If a module is unknown (with the nearest), a layer stands twice, none is given, or `layers` is a single string.

    Examples
    --------
    >>> check_groups(nn.Sequential(nn.ReLU(), nn.ReLU()), ["1", "0+1"], "the layers")
    ('1', '0')
    """
    if isinstance(layers, str):
        refuse(f"{where} must be a list of names, got the single string {layers!r}; write [{layers!r}]")
    check_unique(tuple(layers), where)
    parts = tuple(dict.fromkeys(part for layer in layers for part in layer.split("+")))
    features.check_layers(model, parts)
    return parts


def readouts_of(layers: Sequence[str], readout: Readout | Mapping[str, Readout]) -> dict[str, Readout]:
    """Give each layer its readout: the same for all, or each its own with the default for those not named.

    Raises
    ------
    BrainrdlError
        If a mapping names a layer that is not read.

    Examples
    --------
    >>> readouts_of(["conv1", "fc"], {"conv1": Readout("avgpool")})["fc"].pool
    'flatten'
    """
    if isinstance(readout, Readout):
        return dict.fromkeys(layers, readout)
    for layer in readout:
        check_option(layer, layers, "readout's layer")
    return {layer: readout.get(layer, Readout()) for layer in layers}
