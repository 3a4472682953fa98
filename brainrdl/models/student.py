"""Student: a network, unchanged, with the layers whose patterns a teacher shapes.

Which parameters train is one argument, and sets ``requires_grad`` on the network's own parameters:

- ``"all"``: every one, and the projections;
- ``"from:LAYER"``: those of the module LAYER and of every module registered after it (the order of
  ``model.named_modules()``, parents first), and the projections; modules that contain LAYER keep their own frozen;
- ``"projection"``: the readouts' projections only;
- ``"none"``: nothing, for evaluating.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from brainrdl._core.errors import arg, check_option, nearest, refuse
from brainrdl.models import layers as features
from brainrdl.models.readout import Readout, ReadoutHead, check_groups, readouts_of

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

    from brainrdl.dissimilarity.measures import Dissimilarity
    from brainrdl.stimuli.named_images import Stimuli


class StudentOutput(NamedTuple):
    """What a student gives for a batch of images.

    Attributes
    ----------
    patterns : dict of str to Tensor, shape (n, n_channels)
        One entry a layer, in the order the layers were given.
    logits : Tensor, shape (n, n_classes), or None
        The network's own output when it is a two-dimensional tensor, else None.

    Examples
    --------
    >>> patterns, logits = Student(nn.Sequential(nn.Flatten()), ["0"])(torch.rand(5, 1, 4, 4))
    >>> tuple(patterns["0"].shape), tuple(logits.shape)
    ((5, 16), (5, 16))
    """

    patterns: dict[str, Float[Tensor, "n n_channels"]]
    logits: Float[Tensor, "n n_classes"] | None


class Student(nn.Module):
    """A network and the layers to read patterns from; ``student(images)`` gives a `StudentOutput`.

    Parameters
    ----------
    model : nn.Module
        Any network that takes a batch of images; it is not changed, only its ``requires_grad`` flags are set.
    layers : sequence of str, or mapping of str to str
        Dotted module names; several joined by ``"+"`` make one layer, concatenated after pooling. A mapping names the
        teacher's target each layer is matched to.
    readout : Readout or mapping of str to Readout
        How outputs become patterns, the same for all layers or one each (layers not named get the default).
    trainable : str
        ``"all"``, ``"projection"``, ``"from:LAYER"`` or ``"none"``; see the module's text.
    batchnorm : str
        ``"eval"`` keeps batch normalisation at the network's stored statistics, also in ``train()``: RDM batches are
        small, their statistics noisy, and with batch statistics a pattern would depend on which other conditions
        happen to be in the step. Scale and shift still train. ``"train"`` leaves it to torch.
    seed : int
        Seed of random projections.

    Attributes
    ----------
    layers : tuple of str
        The layers' names.
    match : dict of str to str, or None
        Layer to target, if `layers` was a mapping.

    Raises
    ------
    BrainrdlError
        If a layer is unknown, none or one twice is given, or an option is unknown; the message gives nearest names.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> student = Student(model, ["0", "3"], readout={"0": Readout("avgpool")})
    >>> output = student(torch.rand(5, 1, 8, 8))
    >>> {layer: tuple(patterns.shape) for layer, patterns in output.patterns.items()}, tuple(output.logits.shape)
    ({'0': (5, 4), '3': (5, 10)}, (5, 10))
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str] | Mapping[str, str],
        *,
        readout: Readout | Mapping[str, Readout] = Readout(),  # noqa: B008 (frozen)
        trainable: str = "all",
        batchnorm: str = "eval",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.match = dict(layers) if isinstance(layers, Mapping) else None
        self.trainable, self.batchnorm = trainable, check_option(batchnorm, ("eval", "train"), "batchnorm")
        self._parts = check_groups(model, layers, "the student's layers")
        self.layers = tuple(layers)
        readouts = readouts_of(self.layers, readout)
        _check_trainable(trainable, model, readouts.values())
        self.model = model
        self.heads = nn.ModuleDict(
            {
                _key(layer): ReadoutHead(layer, readouts[layer], trainable=trainable != "none", seed=seed + position)
                for position, layer in enumerate(self.layers)
            }
        )
        _set_trainable(model, trainable)
        self.train(model.training)

    def readout_heads(self) -> list[ReadoutHead]:
        """List the readouts, one a layer, in the layers' order."""
        return [head for head in self.heads.values() if isinstance(head, ReadoutHead)]

    def forward(self, images: Float[Tensor, "n c h w"]) -> StudentOutput:
        """Run the network once and read the patterns out on the way.

        Parameters
        ----------
        images : Tensor, shape (n, c, h, w)
            Images as the network expects them, on the student's device.

        Returns
        -------
        StudentOutput
            Patterns a layer, with gradient, and logits.

        Raises
        ------
        BrainrdlError
            If a readout standardises or projects and is not calibrated.
        """
        with features.capture(self.model, self._parts) as outputs:
            answer = self.model(images)
        patterns = {head.layer: head(outputs) for head in self.readout_heads()}
        return StudentOutput(patterns, answer if isinstance(answer, Tensor) and answer.ndim == 2 else None)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but for a frozen network and the stored statistics of batch normalisation."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        if self.batchnorm == "eval":
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    @property
    def frozen(self) -> bool:
        """Whether the network itself stays as it is: only readouts train, and no statistics move."""
        return self.trainable in ("projection", "none") and self.batchnorm == "eval"

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return self.readout_heads()[0].anchor.device

    @property
    def calibrated(self) -> bool:
        """Whether every readout has what it needs; True at once without standardise and projection."""
        return all(head.calibrated for head in self.readout_heads())

    def calibrate(self, images: Float[Tensor, "n c h w"], batch_size: int = 256) -> None:
        """Fix the readouts' means, standard deviations and projections from images of the training stimuli.

        One forward pass in eval mode without gradient. The numbers stay as they are from then on, while the network
        trains. Calibrate before building an optimizer: projections are created here.

        Parameters
        ----------
        images : Tensor, shape (n, c, h, w)
            Training images only: held-out ones would leak into the standardising.
        batch_size : int
            Images a forward pass.

        Raises
        ------
        BrainrdlError
            If a readout standardises and there are fewer than 2 images.

        Examples
        --------
        >>> student = Student(nn.Sequential(nn.Flatten()), ["0"], readout=Readout(standardise=True, projection=3))
        >>> student.calibrate(torch.rand(20, 1, 4, 4))
        >>> student(torch.rand(5, 1, 4, 4)).patterns["0"].shape
        torch.Size([5, 3])
        """
        wanting = [head for head in self.readout_heads() if head.readout.needs_calibration]
        if not wanting:
            return
        with _evaluating(self):
            passes = [self._pooled(part.to(self.device), wanting) for part in torch.split(images, batch_size)]
        for head in wanting:
            head.calibrate(torch.cat([pooled[head.layer] for pooled in passes]))

    def _pooled(self, images: Tensor, heads: Sequence[ReadoutHead]) -> dict[str, Tensor]:
        with features.capture(self.model, self._parts) as outputs:
            self.model(images)
        return {head.layer: head.pooled(outputs) for head in heads}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """List the parameters that train, for an optimizer; empty with ``trainable="none"``.

        Raises
        ------
        BrainrdlError
            If a projection is not built yet: an optimizer made now would miss it.

        Examples
        --------
        >>> student = Student(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), ["1"], trainable="from:1")
        >>> [tuple(parameter.shape) for parameter in student.trainable_parameters()]
        [(2, 3), (2,)]
        """
        unbuilt = [
            head.layer for head in self.readout_heads() if head.readout.projection is not None and head.weight is None
        ]
        if unbuilt:
            refuse(f"the projection of layer {unbuilt[0]!r} is not built yet; call student.calibrate(images) first")
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def patterns(
        self,
        stimuli: Stimuli,
        names: Sequence[str] | None = None,
        batch_size: int = 256,
        device: torch.device | str | None = None,
    ) -> dict[str, Float[Tensor, "n_conditions n_channels"]]:
        """Read the patterns of named stimuli, in eval mode and without gradient; the mode is restored.

        Parameters
        ----------
        stimuli : Stimuli
            Named images.
        names : sequence of str, optional
            Which, and in which order; all of `stimuli` by default.
        batch_size : int
            Images a forward pass.
        device : torch.device or str, optional
            Where to compute; the student is moved there and stays. Its present device by default.

        Returns
        -------
        dict of str to Tensor, shape (n_conditions, n_channels)
            One entry a layer, on the student's device.

        Raises
        ------
        BrainrdlError
            If names are not in `stimuli`, or the student is not calibrated.
        """
        if device is not None:
            self.to(device)
        asked = tuple(stimuli.names if names is None else names)
        if not asked:
            refuse("no conditions were asked for; give at least one name")
        chunks = [asked[start : start + batch_size] for start in range(0, len(asked), batch_size)]
        with _evaluating(self):
            passes = [self(stimuli.images(chunk).to(self.device)).patterns for chunk in chunks]
        return {layer: torch.cat([patterns[layer] for patterns in passes]) for layer in self.layers}

    def rdms(
        self,
        stimuli: Stimuli,
        names: Sequence[str] | None = None,
        dissimilarity: str | Dissimilarity = "correlation",
    ) -> RDMs:
        """Compute the student's RDMs of named stimuli, one a layer, as rsatoolbox's `RDMs`.

        Parameters
        ----------
        stimuli : Stimuli
            Named images.
        names : sequence of str, optional
            Which conditions, and in which order; all by default.
        dissimilarity : str or callable
            A name of `brainrdl.dissimilarity.DISSIMILARITIES`, or a function of patterns.

        Returns
        -------
        RDMs
            ``n_rdm`` = number of layers; rdm descriptor ``layer``, pattern descriptor ``stimulus``.

        Raises
        ------
        BrainrdlError
            If names are not in `stimuli`, the student is not calibrated, or the dissimilarity is unknown.
        """
        from brainrdl.dissimilarity.measures import resolve
        from brainrdl.rdms.conversion import from_tensor

        measure = resolve(dissimilarity)
        asked = tuple(stimuli.names if names is None else names)
        pairs = torch.stack([measure(patterns).cpu() for patterns in self.patterns(stimuli, asked).values()])
        label = dissimilarity if isinstance(dissimilarity, str) else getattr(measure, "__name__", repr(measure))
        return from_tensor(pairs, asked, measure=label, descriptors={"layer": list(self.layers)})

    def extra_repr(self) -> str:
        """Show the layers and options in ``repr``."""
        return f"layers={list(self.layers)}, trainable={self.trainable!r}, batchnorm={self.batchnorm!r}"


def _key(layer: str) -> str:
    """Make a ModuleDict key, which may hold no dot nor be the name of one of its methods."""
    return "layer:" + layer.replace(".", "/")


def _check_trainable(trainable: str, model: nn.Module, readouts: Any) -> None:
    start = trainable.removeprefix("from:")
    if start != trainable:
        features.check_layers(model, [start])
    elif trainable not in ("all", "projection", "none"):
        close = nearest(trainable, ("all", "projection", "none"))
        refuse(f"trainable {trainable!r} is not known{close} (known: all, projection, from:LAYER, none)")
    if trainable == "projection" and all(readout.projection is None for readout in readouts):
        square = arg("projection", "square", python="readout=Readout(projection='square')")
        refuse(f"{arg('trainable', 'projection')} but no layer has a projection; give {square}")


def _set_trainable(model: nn.Module, trainable: str) -> None:
    start = trainable.removeprefix("from:")
    model.requires_grad_(trainable == "all")
    after = False
    for name, module in model.named_modules(remove_duplicate=False) if start != trainable else ():
        after = after or name == start
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(parameter.requires_grad or after)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; every submodule's own mode comes back after, also when something fails."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode
