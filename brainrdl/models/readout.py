"""Readout: from the output tensor of a layer to patterns ``(n, n_channels)``.

The steps are always in this order:

1. pool: `brainrdl.models.pooling` lists the ways.
2. concatenate: the pooled outputs of a ``"+"``-joined group are concatenated along channels, in the order written.
3. standardise: subtract the mean of each channel and divide by its standard deviation over the calibration images.
4. project: apply a learned linear map without bias, or a learned weight for each channel.

Steps 3 and 4 depend on the number of channels and on the training stimuli; `ReadoutHead.calibrate` sets them up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_option, check_unique, refuse
from brainrdl.models import layers as features
from brainrdl.models.axes import UNKNOWN
from brainrdl.models.pooling import pool_patterns
from brainrdl.models.pools import check_pool

# A square float32 map of this many channels needs 1 GiB, and 3 GiB more for its gradient and the state of Adam.
_LARGEST_SQUARE = 2**14


@dataclass(frozen=True)
class Readout:
    """How the output of a layer becomes a pattern: pooling, standardising, projecting.

    Parameters
    ----------
    pool : str
        ``"flatten"`` (every unit is a channel), ``"avgpool"`` (mean over positions), or another of
        `brainrdl.models.pooling`.
    standardise : bool
        Subtract the mean of each channel and divide by its standard deviation over the calibration images.
    projection : int, "square", "diagonal" or None
        A learned linear map. An int is the number of channels after the map, which starts at random orthonormal rows:
        these keep euclidean dissimilarities (divided by the number of channels) the same on average. ``"square"``
        keeps the number of channels and starts at the identity. ``"diagonal"`` weights each channel, starting at 1; the
        weights act by their absolute value, so they cannot be negative, and euclidean dissimilarities become sums over
        channels with non-negative weights (feature reweighting, Kaniuth & Hebart 2022). None means no map.
    step : int
        Which call of a module that runs several times in one pass (as in recurrent networks): 0 is the first, -1 the
        last.

    Raises
    ------
    BrainrdlError
        If `pool` is unknown, `step` is not an int, or `projection` is not a positive int, ``"square"``, ``"diagonal"``
        or None.

    References
    ----------
    Kaniuth & Hebart (2022), NeuroImage 257:119294, doi 10.1016/j.neuroimage.2022.119294.

    Examples
    --------
    >>> Readout(pool="avgpool", projection=16)
    Readout(pool='avgpool', standardise=False, projection=16, step=-1)
    >>> Readout(pool="avgpol")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: pool 'avgpol' is not known; nearest: 'avgpool', ...
    """

    pool: str = "flatten"
    standardise: bool = False
    projection: int | str | None = None
    step: int = -1

    def __post_init__(self) -> None:
        check_pool(self.pool)
        wanted = self.projection
        number = isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0
        if not (wanted in (None, "square", "diagonal") or number):
            refuse(f"projection must be a positive int, 'square', 'diagonal' or None, got {wanted!r}")
        if not isinstance(self.step, int) or isinstance(self.step, bool):
            refuse(f"step must be an int, 0 for the first call and -1 for the last, got {self.step!r}")

    @property
    def needs_calibration(self) -> bool:
        """Whether the readout must be calibrated: True with `standardise` or `projection`."""
        return self.standardise or self.projection is not None


class ReadoutHead(nn.Module):
    """The readout of one layer with its calibrated numbers: outputs of the modules of the layer -> patterns.

    Parameters
    ----------
    layer : str
        Name of the layer: one module, or several joined by ``"+"``.
    readout : Readout
        The steps.
    trainable : bool
        Whether the projection is trained.
    seed : int
        Seed of a random projection.
    of : str
        Whose readout an error message is about: ``"student"`` or ``"teacher"``.

    Attributes
    ----------
    mean, std : Tensor, shape (n_channels,), or None
        Mean and standard deviation of each channel over the calibration images, in the unit of the patterns; None
        before calibration, or without `standardise`.
    weight : Parameter, shape (n_projected, n_channels), or (n_channels,) if "diagonal", or None
        The projection; None before calibration, or without `projection`. See `channel_weights`.

    Raises
    ------
    BrainrdlError
        When called before a calibration that is needed, or with another number of channels than calibrated.

    Examples
    --------
    >>> head = ReadoutHead("conv1", Readout("avgpool_first", projection="square"))
    >>> head.calibrate(head.pooled({"conv1": torch.rand(5, 3, 8, 8)}))
    >>> head({"conv1": torch.rand(5, 3, 8, 8)}).shape
    torch.Size([5, 3])
    """

    mean: Tensor | None
    std: Tensor | None
    weight: nn.Parameter | None
    anchor: Tensor

    def __init__(
        self, layer: str, readout: Readout, *, trainable: bool = True, seed: int = 0, of: str = "student"
    ) -> None:
        super().__init__()
        self.layer, self.readout, self.trainable, self.seed, self.of = layer, readout, trainable, seed, of
        self.parts = tuple(layer.split("+"))
        self.register_buffer("mean", None)
        self.register_buffer("std", None)
        self.register_parameter("weight", None)
        self.keeps_standardisation = False  # mean and std are those of a fitted run
        # Records the device and type of .to(device) and .half() as long as there is no weight.
        self.register_buffer("anchor", torch.zeros(1), persistent=False)

    @property
    def calibrated(self) -> bool:
        """Whether the head is calibrated, or needs no calibration."""
        standardised = not self.readout.standardise or self.mean is not None
        return standardised and (self.readout.projection is None or self.weight is not None)

    def pooled(self, outputs: Mapping[str, Tensor]) -> Float[Tensor, "n n_channels"]:
        """Pool the outputs of the layer's modules and concatenate those of a group (steps 1 and 2)."""
        patterns = [pool_call(outputs, part, self.readout, self.of) for part in self.parts]
        return patterns[0] if len(patterns) == 1 else torch.cat(patterns, dim=1)

    def forward(self, outputs: Mapping[str, Tensor]) -> Float[Tensor, "n n_projected"]:
        """Compute patterns from the outputs of the layer's modules (all steps).

        Parameters
        ----------
        outputs : mapping of str to Tensor, shape (n, ...)
            Output of each module of the layer.

        Returns
        -------
        Tensor, shape (n, n_projected), or (n, n_channels) without projection

        Raises
        ------
        BrainrdlError
            If the head is not calibrated, or was calibrated with another number of channels.
        """
        patterns = self.pooled(outputs)
        if not self.readout.needs_calibration:
            return patterns
        self._check(patterns)
        if self.mean is not None and self.std is not None:
            patterns = (patterns - self.mean) / self.std
        if self.weight is None:
            return patterns
        weights = self.channel_weights
        return nn.functional.linear(patterns, self.weight) if weights is None else patterns * weights

    @property
    def channel_weights(self) -> Float[Tensor, " n_channels"] | None:
        """The non-negative weights of a ``"diagonal"`` projection; None for other readouts and before calibration."""
        return self.weight.abs() if self.readout.projection == "diagonal" and self.weight is not None else None

    def _check(self, patterns: Tensor) -> None:
        if not self.calibrated:
            refuse(
                f"layer {self.layer!r} has a readout that standardises or projects, but is not calibrated; "
                "call student.calibrate(images of the training stimuli) first"
            )
        known = self.mean if self.mean is not None else self.weight
        if known is not None and known.shape[-1] != patterns.shape[1]:
            refuse(
                f"layer {self.layer!r} was calibrated with {known.shape[-1]} channels and now gives "
                f"{patterns.shape[1]}; use images of the same size, or {arg('pool', 'avgpool', of=self.of)}"
            )

    @torch.no_grad()
    def calibrate(self, patterns: Float[Tensor, "n n_channels"]) -> None:
        """Set mean and standard deviation from pooled `patterns`, and build the projection if there is none yet.

        A constant channel gets the standard deviation 1, so that it becomes 0 instead of amplified rounding errors. An
        existing projection is kept, so a second calibration does not undo training. So are the mean and standard
        deviation that come from a fitted run.

        Parameters
        ----------
        patterns : Tensor, shape (n, n_channels)
            Result of `pooled` for the calibration images.

        Raises
        ------
        BrainrdlError
            If the readout standardises and there are fewer than 2 images, or if a ``"square"`` projection would need
            more than 1 GiB.
        """
        if self.readout.standardise and not (self.keeps_standardisation and self.mean is not None):
            self._standardise(patterns.float())
        if self.readout.projection is not None and self.weight is None:
            self.weight = nn.Parameter(self._start(patterns.shape[1]).to(self.anchor), requires_grad=self.trainable)

    def _standardise(self, patterns: Tensor) -> None:
        if patterns.shape[0] < 2:
            refuse(f"layer {self.layer!r} standardises over images: calibrate with at least 2, got {patterns.shape[0]}")
        std, mean = torch.std_mean(patterns, dim=0, correction=0)
        std[std <= 1e-6 * patterns.abs().amax(dim=0)] = 1.0
        self.mean, self.std = mean.to(self.anchor), std.to(self.anchor)

    def _start(self, n_channels: int) -> Tensor:
        """Build the initial projection on the CPU, so that it does not depend on the device."""
        if isinstance(self.readout.projection, int):
            generator = torch.Generator().manual_seed(self.seed)
            return nn.init.orthogonal_(torch.empty(self.readout.projection, n_channels), generator=generator)
        if self.readout.projection == "diagonal":
            return torch.ones(n_channels)
        if n_channels > _LARGEST_SQUARE:
            refuse(
                f"layer {self.layer!r} has {n_channels} channels: {arg('projection', 'square')} would need "
                f"{4 * n_channels**2 / 2**30:.0f} GiB; use "
                f"{arg('pool', 'avgpool', of='student')} or {arg('projection', 256)}"
            )
        return torch.eye(n_channels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Create empty tensors for calibrated numbers, so that a new student can load the state of a fitted one."""
        room = {"mean": self.readout.standardise, "std": self.readout.standardise}
        room["weight"] = self.readout.projection is not None
        for name in [name for name, wanted in room.items() if wanted and prefix + name in state_dict]:
            if getattr(self, name) is None:
                empty = torch.empty_like(state_dict[prefix + name], device=self.anchor.device, dtype=self.anchor.dtype)
                setattr(self, name, nn.Parameter(empty, self.trainable) if name == "weight" else empty)
        super()._load_from_state_dict(state_dict, prefix, *args)


def pool_call(
    outputs: Mapping[str, Tensor], part: str, readout: Readout, of: str = "student"
) -> Float[Tensor, "n n_channels"]:
    """Pool the output of one module, of the call that the readout asks for (step 1).

    Parameters
    ----------
    outputs : mapping of str to Tensor, shape (n, ...)
        Outputs of modules. Of a mapping other than `Captured`, the dimensions of the outputs are not known.
    part : str
        Name of the module.
    readout : Readout
        Its pooling and step are used.
    of : str
        As in `ReadoutHead`.

    Returns
    -------
    Tensor, shape (n, n_channels)

    Raises
    ------
    BrainrdlError
        If the module has no such call, or its output cannot be pooled in this way.

    Examples
    --------
    >>> pool_call({"conv1": torch.rand(5, 3, 8, 8)}, "conv1", Readout("avgpool_first")).shape
    torch.Size([5, 3])
    """
    if not isinstance(outputs, features.Captured):
        return pool_patterns(outputs[part], readout.pool, layer=part, of=of)
    axes = UNKNOWN if readout.pool == "flatten" else outputs.axes(part, readout.step)
    return pool_patterns(outputs.at(part, readout.step), readout.pool, axes, layer=part, of=of)


def asked_readout(pool: str | None = None, step: int | None = None) -> Readout | None:
    """Return the readout that options ask for; None if they ask for nothing, so that a fitted one may be used.

    Examples
    --------
    >>> asked_readout(step=0), asked_readout()
    (Readout(pool='flatten', standardise=False, projection=None, step=0), None)
    """
    if pool is None and step is None:
        return None
    return Readout("flatten" if pool is None else pool, step=-1 if step is None else step)


def steps_of(heads: Iterable[ReadoutHead]) -> dict[str, tuple[int, ...]]:
    """List the calls of each module that readouts ask for, as `read_layers` needs them.

    Examples
    --------
    >>> steps_of([ReadoutHead("a+b", Readout()), ReadoutHead("a", Readout(step=0))])
    {'a': (-1, 0), 'b': (-1,)}
    """
    steps: dict[str, tuple[int, ...]] = {}
    for head in heads:
        for part in head.parts:
            steps[part] = tuple(dict.fromkeys((*steps.get(part, ()), head.readout.step)))
    return steps


def check_groups(model: nn.Module, layers: Iterable[str], where: str) -> tuple[str, ...]:
    """Check layers (module names, or several joined by ``"+"``), and list the modules whose outputs they need.

    Parameters
    ----------
    model : nn.Module
        Any network.
    layers : iterable of str
        Names of layers.
    where : str
        Name of the list in error messages.

    Returns
    -------
    tuple of str
        Module names without duplicates.

    Raises
    ------
    BrainrdlError
        If a module is unknown (the message gives the nearest), a layer occurs twice, no layer is given, or `layers` is
        a single string.

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
    """Return the readout of each layer: the same for all, or from a mapping, with the default for missing layers.

    Parameters
    ----------
    layers : sequence of str
        Names of layers.
    readout : Readout or mapping of str to Readout
        One readout for all layers, or the readout of some layers by name.

    Returns
    -------
    dict of str to Readout

    Raises
    ------
    BrainrdlError
        If a mapping contains a layer that is not among `layers`.

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


def pack_readouts(readouts: Mapping[str, Readout]) -> Tensor:
    """Write the readout of each layer as a tensor of bytes, for the state of a student.

    Examples
    --------
    >>> unpack_readouts(pack_readouts({"fc": Readout("avgpool")}))
    {'fc': Readout(pool='avgpool', standardise=False, projection=None, step=-1)}
    """
    text = json.dumps({layer: asdict(readout) for layer, readout in readouts.items()})
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def unpack_readouts(packed: object) -> dict[str, Readout]:
    """Read the readouts that `pack_readouts` wrote.

    Raises
    ------
    BrainrdlError
        If it did not write them.

    Examples
    --------
    >>> unpack_readouts(torch.zeros(3))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: the readouts in a student's state cannot be read ...
    """
    try:
        text = bytes(packed.tolist()).decode()  # type: ignore[attr-defined]
        return {str(layer): Readout(**keys) for layer, keys in json.loads(text).items()}
    except (AttributeError, TypeError, ValueError) as error:
        refuse(f"the readouts in a student's state cannot be read ({error}); is it damaged?")
