"""Student: an unchanged network, with the layers whose patterns are trained to match a teacher.

The argument `trainable` decides which parameters are trained; it sets ``requires_grad`` of the network's parameters:

- ``"all"``: all parameters and the projections, also parameters that were frozen before;
- ``"as is"``: the parameters that are not frozen (for example the adapters of a LoRA network), and the projections;
- ``"from:LAYER"``: the parameters of the module LAYER and of all modules registered after it (in the order of
  ``model.named_modules()``, parents first), and the projections; the direct parameters of modules that contain LAYER
  stay frozen;
- ``"projection"``: only the projections of the readouts;
- ``"none"``: nothing, for evaluation.

The default is ``"all"``, or ``"as is"`` with a warning if some parameters of the network are frozen.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from brainrdl._core.errors import arg, check_option, check_text, nearest, quote, refuse
from brainrdl._core.progress import track_slow
from brainrdl.models import layers as features, rows
from brainrdl.models.gradients import gradient_problems
from brainrdl.models.hooks import evaluating
from brainrdl.models.layers import Captured
from brainrdl.models.readout import (
    Readout,
    ReadoutHead,
    check_groups,
    pack_readouts,
    readouts_of,
    steps_of,
    unpack_readouts,
)
from brainrdl.models.trained_on import TrainedOn
from brainrdl.stimuli.inputs import Images

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

    from brainrdl.dissimilarity.measures import Dissimilarity
    from brainrdl.stimuli.named_images import Stimuli


_TRAINABLE = ("all", "as is", "projection", "none")


class StudentOutput(NamedTuple):
    """The output of a student for a batch of images.

    Attributes
    ----------
    patterns : dict of str to Tensor, shape (n, n_channels)
        One entry per layer, in the order in which the layers were given.
    logits : Tensor, shape (n, n_classes), or None
        The output of the network, or its field ``logits``, if it is a two-dimensional tensor, otherwise None.

    Examples
    --------
    >>> patterns, logits = Student(nn.Sequential(nn.Flatten()), ["0"])(torch.rand(5, 1, 4, 4))
    >>> tuple(patterns["0"].shape), tuple(logits.shape)
    ((5, 16), (5, 16))
    """

    patterns: dict[str, Float[Tensor, "n n_channels"]]
    logits: Float[Tensor, "n n_classes"] | None


class Student(nn.Module):
    """A network and the layers to read patterns from; ``student(images)`` returns a `StudentOutput`.

    Parameters
    ----------
    model : nn.Module
        Any network whose input is a batch of images (n, c, h, w). Only its ``requires_grad`` flags are changed.
    layers : sequence of str, or mapping of str to str, list or mapping
        Dotted module names. Several names joined by ``"+"`` make one layer, concatenated after pooling. A mapping gives
        the teacher's target of each layer, or several targets, also with weights, as `RDMLoss.match`.
    readout : Readout or mapping of str to Readout
        How outputs become patterns: one readout for all layers, or one for each (missing layers get the default).
    trainable : str, optional
        ``"all"``, ``"as is"``, ``"projection"``, ``"from:LAYER"`` or ``"none"``; see the module's docstring.
    batchnorm : str, optional
        ``"eval"``: batch normalisation uses the network's stored statistics, also in ``train()``. RDM batches are
        small and their statistics noisy, and with batch statistics a pattern would depend on the other conditions in
        the same step. Scale and shift are still trained. ``"train"``: batch normalisation behaves as in torch: the
        statistics of a step are those of all its images. ``"task"``: as ``"train"`` for the images of a task, and as
        ``"eval"`` for those of the RDM. By default ``"eval"``, or ``"train"`` for a network that is trained from
        scratch: all of it is trained, and its statistics have never been updated.
    seed : int
        Seed of random projections.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers.
    parts : tuple of str
        Modules whose outputs the layers need.
    match : dict of str to str, or None
        The target of each layer, if `layers` was a mapping.
    trained_on : TrainedOn or None
        The images that the weights of a run belong to, once they are loaded: others are refused. None accepts all.

    Raises
    ------
    BrainrdlError
        If a layer or an option is unknown (the message gives the nearest names), a layer occurs twice, or no layer is
        given.

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
        layers: Sequence[str] | Mapping[str, Any],
        *,
        readout: Readout | Mapping[str, Readout] = Readout(),  # noqa: B008 (frozen)
        trainable: str | None = None,
        batchnorm: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(model, Student):
            refuse("the network is a Student already; give its network, student.model, or use the student as it is")
        self.match = dict(layers) if isinstance(layers, Mapping) else None
        self._logits_of: str | None = None
        self.parts = check_groups(model, layers, "the student's layers")
        self.layers = tuple(layers)
        targets = [target for matched in (self.match or {}).values() for target in _targets_of(matched)]
        check_text([*self.layers, *targets], "the student's layers and targets")
        readouts = readouts_of(self.layers, readout)
        self.trainable = trainable = _default_trainable(model) if trainable is None else trainable
        _check_trainable(trainable, model, readouts.values())
        chosen = _default_batchnorm(model, trainable) if batchnorm is None else batchnorm
        self.batchnorm = check_option(chosen, ("eval", "train", "task"), "batchnorm")
        self.model = model
        self.trained_on: TrainedOn | None = None
        self.heads = nn.ModuleDict(
            {
                key_of_layer(layer): ReadoutHead(
                    layer, readouts[layer], trainable=trainable != "none", seed=seed + position
                )
                for position, layer in enumerate(self.layers)
            }
        )
        _set_trainable(model, trainable)
        self.train(model.training)

    def readout_heads(self) -> list[ReadoutHead]:
        """List the readouts, one per layer, in the order of the layers."""
        return [head for head in self.heads.values() if isinstance(head, ReadoutHead)]

    def get_extra_state(self) -> Tensor:
        """Return the readouts for ``state_dict``, so that a file of it cannot be mistaken for the network alone."""
        return pack_readouts({head.layer: head.readout for head in self.readout_heads()})

    def set_extra_state(self, state: Any) -> None:
        """Refuse the state of a student that reads other layers, or the same ones in another way."""
        stored = unpack_readouts(state)
        own = {head.layer: head.readout for head in self.readout_heads()}
        differ = sorted(layer for layer in stored | own if stored.get(layer) != own.get(layer))
        if differ:
            refuse(
                f"the state does not fit this student: the readouts of layers {quote(differ)} differ; it was saved "
                f"with {stored}, and this student has {own}"
            )

    def forward(self, images: Images) -> StudentOutput:
        """Run the network once and read the patterns of the layers.

        Parameters
        ----------
        images : Tensor, shape (n, c, h, w), or any other batch that the network takes
            Images as the network expects them, on the student's device; or sounds, clips or texts, as a Tensor (n, ...)
            or `Inputs`.

        Returns
        -------
        StudentOutput
            Patterns of each layer, with gradient, and logits.

        Raises
        ------
        BrainrdlError
            If a readout standardises or projects but is not calibrated, or the images have another shape than those
            that the weights of a run were trained on.
        """
        outputs, answer = self._read(images)
        patterns = {head.layer: head(outputs) for head in self.readout_heads()}
        return StudentOutput(patterns, _logits(answer if self._logits_of is None else outputs[self._logits_of]))

    def read_logits(self, layer: str | None) -> None:
        """Take the logits from the output of a module instead of the network's output; `fit` with a task sets this.

        Parameters
        ----------
        layer : str or None
            Dotted name of a module whose output is (n, n_classes); None for the network's output.

        Raises
        ------
        BrainrdlError
            If there is no such module.

        Examples
        --------
        >>> student = Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 2)), ["1"])
        >>> student.read_logits("1")
        >>> student(torch.rand(3, 1, 4, 4)).logits.shape
        torch.Size([3, 4])
        """
        if layer is not None:
            check_groups(self.model, [layer], "the layer of the task")
        self._logits_of = layer

    @contextmanager
    def stored_statistics(self) -> Iterator[None]:
        """During the block, batch normalisation uses the stored statistics.

        Examples
        --------
        >>> student = Student(nn.Sequential(nn.BatchNorm2d(1)), ["0"], batchnorm="train")
        >>> with student.stored_statistics():
        ...     student.model[0].training
        False
        """
        modules = [module for module in self.modules() if isinstance(module, _BatchNorm) and module.training]
        for module in modules:
            module.eval()
        try:
            yield
        finally:
            for module in modules:
                module.train()

    def _read(self, images: Images) -> tuple[Captured, Any]:
        if self.trained_on is not None:
            self.trained_on.check_shape(images.shape)
        parts = self.parts if self._logits_of is None else tuple(dict.fromkeys([*self.parts, self._logits_of]))
        return features.read_layers(self.model, parts, images, steps_of(self.readout_heads()))

    def train(self, mode: bool = True) -> Student:
        """Set training mode, except for a frozen network and for batch normalisation with stored statistics."""
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
        """Whether the network does not change: at most readouts are trained, and stored statistics are kept."""
        return self.trainable in ("projection", "none") and self.batchnorm == "eval"

    @property
    def device(self) -> torch.device:
        """Device of the student."""
        return self.readout_heads()[0].anchor.device

    @property
    def calibrated(self) -> bool:
        """Whether all readouts are calibrated; always True if none standardises or projects."""
        return all(head.calibrated for head in self.readout_heads())

    def calibrate(self, images: Images, batch_size: int = 256) -> None:
        """Set means, standard deviations and projections of the readouts from images of the training stimuli.

        This is a forward pass in eval mode without gradient. Means and standard deviations then stay the same while
        the network is trained. Calibrate before building an optimizer, because this method creates the projections.
        Statistics of batch normalisation that training will compute, and that no image has updated yet, are first set
        to those of the images: z-scores of patterns with the initial ones (0 and 1) would not fit those of training.

        Parameters
        ----------
        images : Tensor, shape (n, c, h, w)
            Training images only: standardising with held-out images would be a leak.
        batch_size : int
            Number of images in each forward pass.

        Raises
        ------
        BrainrdlError
            If a readout standardises and there are fewer than 2 images, or a ``"square"`` projection would need more
            than 1 GiB.

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
        n_parts = -(-len(images) // batch_size)
        size = -(-len(images) // n_parts)  # parts of nearly equal size, because their means are averaged
        with evaluating(self):
            if self.batchnorm != "eval":
                self._start_statistics(images.split(size))
            passes = [self._pooled(part.to(self.device), wanting) for part in images.split(size)]
        for head in wanting:
            head.calibrate(torch.cat([pooled[head.layer] for pooled in passes]))

    def _start_statistics(self, parts: Iterable[Images]) -> None:
        modules = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        new = {
            module: module.momentum
            for module in modules
            if module.num_batches_tracked is not None and not int(module.num_batches_tracked)
        }
        for module in new:
            module.train()
            module.momentum = None  # the mean over all parts
        for part in parts if new else ():
            if len(part) > 1:
                self._read(part.to(self.device))
        for module, momentum in new.items():
            module.eval()
            module.momentum = momentum

    def _pooled(self, images: Images, heads: Sequence[ReadoutHead]) -> dict[str, Tensor]:
        outputs, _ = self._read(images)
        return {head.layer: head.pooled(outputs) for head in heads}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """List the parameters to train, for an optimizer; empty with ``trainable="none"``.

        Raises
        ------
        BrainrdlError
            If a projection is not built yet, because an optimizer built now would miss it.

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

    def check_gradients(self, images: Images) -> None:
        """Refuse layers whose RDM loss could train nothing in the network, from one pass in training mode.

        Nothing is changed. A student of which only projections are trained is not checked.

        Parameters
        ----------
        images : Tensor, shape (n, c, h, w)
            A few training images.

        Raises
        ------
        BrainrdlError
            If no gradient passes from a layer to a parameter of the network that is trained; layer and reason are
            named.

        Examples
        --------
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Linear(4, 2))
        >>> Student(model, ["1"], trainable="from:2").check_gradients(torch.rand(3, 1, 4, 4))
        Traceback (most recent call last):
        brainrdl.BrainrdlError: no gradient passes from layer '1' to the network: no parameter that is trained comes ...
        """
        if self.trainable in ("projection", "none"):
            return
        mode = self.training
        self.train()
        try:
            steps = steps_of(self.readout_heads())
            problems = gradient_problems(self.model, self.parts, images.to(self.device), steps)
        finally:
            self.train(mode)
        for part, reason in problems.items():
            refuse(
                f"no gradient passes from layer {part!r} to the network: {reason}. Its RDM loss would not train the "
                f"network ({arg('trainable', self.trainable)}); match other layers, train from an earlier layer, or "
                f"train only a projection, with {arg('trainable', 'projection')}"
            )

    def patterns(
        self,
        stimuli: Stimuli,
        names: Sequence[str] | None = None,
        batch_size: int = 256,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> dict[str, Float[Tensor, "n_conditions n_channels"]]:
        """Compute the patterns of named stimuli, in eval mode without gradient; the mode is restored afterwards.

        Parameters
        ----------
        stimuli : Stimuli
            Named images.
        names : sequence of str, optional
            Conditions, in this order (default: all of `stimuli`).
        batch_size : int
            Number of images in each forward pass.
        device : torch.device or str, optional
            Device to compute on (default: the student's present device). The student is moved there and stays there.
        progress : bool
            Show progress and the time left on stderr if it takes longer than two seconds.

        Returns
        -------
        dict of str to Tensor, shape (n_conditions, n_channels)
            One entry per layer, on the student's device.

        Raises
        ------
        BrainrdlError
            If a name is not in `stimuli`, no name is given, the transform of the stimuli is random or not that of the
            run whose weights were loaded, a pattern is not finite (layer and condition are named), or the student is
            not calibrated.

        Warns
        -----
        UserWarning
            If a layer has the same pattern for all conditions, or another one each time.
        """
        if device is not None:
            self.to(device)
        asked = tuple(stimuli.names if names is None else names)
        if not asked:
            refuse("no conditions were given; give at least one name")
        stimuli.check_repeatable()
        if self.trained_on is not None:
            self.trained_on.check_stimuli(stimuli)
        chunks = [asked[start : start + batch_size] for start in range(0, len(asked), batch_size)]
        with evaluating(self):
            shown = track_slow(chunks, "patterns", len(chunks), progress)
            passes = [self(stimuli.images(chunk).to(self.device)).patterns for chunk in shown]
        found = {layer: torch.cat([patterns[layer] for patterns in passes]) for layer in self.layers}
        rows.check_finite_rows(found, asked)
        rows.warn_if_same(found)
        random = features.random_layers(self.model, self.parts)
        if random:
            warnings.warn(
                f"layers {quote(random)} give other patterns for the same images each time, also in eval mode (random "
                "draws, or buffers that change): two evaluations of this student differ",
                stacklevel=2,
            )
        return found

    def rdms(
        self,
        stimuli: Stimuli,
        names: Sequence[str] | None = None,
        dissimilarity: str | Dissimilarity = "correlation",
        progress: bool = False,
    ) -> RDMs:
        """Compute the student's RDMs of named stimuli, one per layer, as rsatoolbox's `RDMs`.

        Parameters
        ----------
        stimuli : Stimuli
            Named images.
        names : sequence of str, optional
            Conditions, in this order (default: all of `stimuli`).
        dissimilarity : str or callable
            A name in `brainrdl.dissimilarity.DISSIMILARITIES`, or a function
            ``(..., n_conditions, n_channels) -> (..., n_pairs)``.
        progress : bool
            As in `patterns`.

        Returns
        -------
        RDMs
            One RDM per layer; rdm descriptor ``layer``, pattern descriptor ``stimulus``.

        Raises
        ------
        BrainrdlError
            If a name is not in `stimuli`, the student is not calibrated, or the dissimilarity is unknown.
        """
        from brainrdl.dissimilarity.measures import resolve
        from brainrdl.rdms.conversion import from_tensor

        measure = resolve(dissimilarity)
        asked = tuple(stimuli.names if names is None else names)
        found = self.patterns(stimuli, asked, progress=progress)
        pairs = torch.stack([measure(patterns).cpu() for patterns in found.values()])
        label = dissimilarity if isinstance(dissimilarity, str) else getattr(measure, "__name__", repr(measure))
        return from_tensor(pairs, asked, measure=label, descriptors={"layer": list(self.layers)})

    def extra_repr(self) -> str:
        """Show the layers and options in ``repr``."""
        return f"layers={list(self.layers)}, trainable={self.trainable!r}, batchnorm={self.batchnorm!r}"


def _logits(answer: object) -> Tensor | None:
    """Find the logits in the output of a network: a tensor, or the field ``logits`` (torchvision, Hugging Face)."""
    named = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    found = answer if isinstance(answer, Tensor) else named
    return found if isinstance(found, Tensor) and found.ndim == 2 else None


def key_of_layer(layer: str) -> str:
    """Return the key of a layer's readout in `Student.heads`: no dot, and no name of a method of ModuleDict.

    Examples
    --------
    >>> key_of_layer("layer3.0")
    'layer:layer3/0'
    """
    return "layer:" + layer.replace(".", "/")


def _targets_of(matched: str | Iterable[str]) -> tuple[str, ...]:
    return (matched,) if isinstance(matched, str) else tuple(matched)


def _default_trainable(model: nn.Module) -> str:
    frozen = sum(not parameter.requires_grad for parameter in model.parameters())
    if not frozen:
        return "all"
    warnings.warn(
        f"{frozen} parameters of the network are frozen and stay so (trainable='as is'); give trainable='all' to "
        "train them as well",
        stacklevel=3,
    )
    return "as is"


def _default_batchnorm(model: nn.Module, trainable: str) -> str:
    """Choose "train" for a network that is trained from scratch: no stored statistics were ever updated."""
    counts = [
        module.num_batches_tracked
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None
    ]
    from_scratch = bool(counts) and not any(int(count) for count in counts)
    return "train" if from_scratch and trainable == "all" else "eval"


def _check_trainable(trainable: str, model: nn.Module, readouts: Any) -> None:
    start = trainable.removeprefix("from:")
    if start != trainable:
        features.check_layers(model, [start])
    elif trainable not in _TRAINABLE:
        close = nearest(trainable, _TRAINABLE)
        refuse(f"trainable {trainable!r} is not known{close} (known: all, as is, projection, from:LAYER, none)")
    if trainable == "projection" and all(readout.projection is None for readout in readouts):
        square = arg("projection", "square", python="readout=Readout(projection='square')")
        refuse(f"{arg('trainable', 'projection')} but no layer has a projection; give {square}")


def _set_trainable(model: nn.Module, trainable: str) -> None:
    if trainable == "as is":
        return
    start = trainable.removeprefix("from:")
    model.requires_grad_(trainable == "all")
    after = False
    for name, module in model.named_modules(remove_duplicate=False) if start != trainable else ():
        after = after or name == start
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(parameter.requires_grad or after)
