"""NetworkTeacher: a frozen network whose RDMs are computed from images, and its re-initialised control."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_conditions, check_option, check_unique, quote, refuse
from brainrdl._core.files import digest, digest_tensor
from brainrdl.dissimilarity.measures import resolve
from brainrdl.models.feature_cache import PRECISIONS, FeatureStore, MemoryStore, ShardStore, digest_network, key_of
from brainrdl.models.fitted import build_fitted, reader
from brainrdl.models.layers import random_layers
from brainrdl.models.readout import Readout, ReadoutHead, asked_readout, check_groups
from brainrdl.models.student import Student, key_of_layer
from brainrdl.stimuli.inputs import Images
from brainrdl.stimuli.transforms import transform_text
from brainrdl.teachers.pattern_rdms import rdm_of
from brainrdl.teachers.protocol import VIEWS

if TYPE_CHECKING:
    from brainrdl.dissimilarity.measures import Dissimilarity
    from brainrdl.stimuli.named_images import Batch, Stimuli


Module = TypeVar("Module", bound=nn.Module)

# Images per forward pass, which limits the memory for many conditions.
_BATCH = 256


class NetworkTeacher:
    """RDMs of a frozen network's layers, computed from images in float32, eval mode and without gradient.

    The network is copied, so training the same network as a student does not change its teacher. It runs on the device
    of the batch's images.

    Parameters
    ----------
    model : nn.Module, Student or str
        A network, or a name for `brainrdl.models.build`. The layers of a `Student` are read with its readouts, as
        fitted.
    layers : sequence of str
        Dotted module names; they are the teacher's targets. Layers joined by ``"+"`` are concatenated after pooling.
    weights : str, optional
        Weights for a named model; refused for an nn.Module, which already has weights. Of a fitted run,
        ``weights.safetensors``, the layers are read with the readouts that were trained.
    dissimilarity : str or callable
        A name of `brainrdl.dissimilarity.DISSIMILARITIES` or a function of patterns.
    pool : str, optional
        How outputs become patterns, see `brainrdl.models.pooling`; ``"flatten"`` by default, or as a student or run
        was fitted.
    step : int, optional
        Call of a module that runs several times in one pass, see `Readout`; the last one by default, or as fitted.
    stimuli : Stimuli, optional
        Separate images for the teacher, with their own transform, found by the batch's names. Stimuli without a
        transform get that of a named model. By default the batch's images are used unchanged.
    cache : bool or Path
        Whether to store the patterns of each stimulus: True in memory, a path in a folder, in two files per layer that
        several processes may share. If all patterns of separate stimuli are stored, their images are not loaded.
    cache_precision : {"float32", "float16"}
        Type of the stored numbers, which the answers use also before they are stored.
    view : {"same", "clean"}, optional
        Which images the teacher sees in training, if the stimuli have an augmentation: ``"same"``, those of the
        student, or ``"clean"``, those without augmentation. By default clean with a cache or separate stimuli, which
        have no augmentation, else the same.
    name : str, optional
        Name in errors and reports; the model's name by default.

    Attributes
    ----------
    targets : tuple of str
        The layers.
    conditions : tuple of str
        The names it knows; only if it has separate stimuli.
    uses_images : bool
        Whether it uses the batch's images: only without separate stimuli.
    view : str
        As the parameter.

    Raises
    ------
    BrainrdlError
        If a layer or option is unknown, weights are given for an nn.Module, the readouts of a student or run differ
        from those asked for, the transform of `stimuli` is random, or ``view="same"`` is given with a cache or
        stimuli.

    Examples
    --------
    >>> from brainrdl.stimuli import Batch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    >>> teacher = NetworkTeacher(model, ["1", "2"])
    >>> answer = teacher.rdms(Batch(("a", "b", "c"), torch.rand(3, 1, 4, 4), None))
    >>> {layer: tuple(pairs.shape) for layer, pairs in answer.items()}
    {'1': (1, 3), '2': (1, 3)}
    """

    def __init__(
        self,
        model: nn.Module | str,
        layers: Sequence[str],
        *,
        weights: str | None = None,
        dissimilarity: str | Dissimilarity = "correlation",
        pool: str | None = None,
        step: int | None = None,
        stimuli: Stimuli | None = None,
        cache: bool | Path | str = False,
        cache_precision: str = "float32",
        view: str | None = None,
        name: str | None = None,
    ) -> None:
        student, transform = _student(model, layers, weights, asked_readout(pool, step))
        self.targets = tuple(layers)
        self.name = name or (model if isinstance(model, str) else type(model).__name__)
        self._dissimilarity = resolve(dissimilarity)
        self._stimuli = _with_default_transform(stimuli, transform)
        if self._stimuli is not None:
            self._stimuli.check_repeatable()
            if student.trained_on is not None:
                student.trained_on.check_stimuli(self._stimuli)
        self._raw: dict[str, str] | None = None
        self._store = _store(cache, cache_precision)
        self._has_room = False
        self.view = _checked_view(view, self._store is not None, stimuli is not None)
        self._freeze(student)

    def __repr__(self) -> str:
        return f"NetworkTeacher({self.name!r}, layers={list(self.targets)})"

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names this teacher knows.

        Raises
        ------
        AttributeError
            If it has no separate stimuli: it then accepts any images.
        """
        if self._stimuli is None:
            raise AttributeError(f"teacher {self.name!r} was made without stimuli, so it has no list of conditions")
        return tuple(self._stimuli.names)

    @property
    def uses_images(self) -> bool:
        """Whether it uses the batch's images: only without separate stimuli."""
        return self._stimuli is None

    def identity(self, names: Sequence[str]) -> dict[str, Any]:
        """Return what the answers for `names` depend on besides the batch's images; it must not change within a run.

        Parameters
        ----------
        names : sequence of str
            Conditions; names of its separate stimuli if it has any.

        Returns
        -------
        dict
            Digest of the network, layers and their readouts, dissimilarity; transform and digest of separate
            stimuli, or None; precision of the cache.

        Raises
        ------
        BrainrdlError
            If names are not in its separate stimuli.

        Examples
        --------
        >>> sorted(NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"]).identity(["a"]))
        ['dissimilarity', 'layers', 'network', 'precision', 'readouts', 'stimuli', 'transform']
        """
        own = self._stimuli
        return {
            "network": self._digest or digest_network(self._student.model),
            "layers": list(self.targets),
            "readouts": {layer: _described(head) for layer, head in self._heads.items()},
            "dissimilarity": self._dissimilarity,
            "precision": "float32" if self._store is None else self._store.precision,
            "transform": None if own is None else transform_text(getattr(own, "transform", None)),
            "stimuli": None if own is None else key_of(own.digests(names).values()),
        }

    def _freeze(self, student: Student) -> None:
        self._student = student.float().eval().requires_grad_(False)
        self._heads = {head.layer: head for head in student.readout_heads()}
        for head in self._heads.values():
            head.of = "teacher"
        self._digest = digest_network(student.model) if self._store is not None else ""
        self._readouts = {
            layer: key_of([repr(head.readout), digest_network(head)]) for layer, head in self._heads.items()
        }

    def rdms(self, batch: Batch) -> dict[str, Float[Tensor, "1 n_pairs"]]:
        """Compute the RDM of the batch's conditions at each layer, in their order.

        Parameters
        ----------
        batch : Batch
            Names, and images unless the teacher has separate stimuli.

        Returns
        -------
        dict of str to Tensor, shape (1, n_pairs)
            One entry per layer, on the device of the batch's images, without gradient.

        Raises
        ------
        BrainrdlError
            If names are unknown, there is not one image per name, a pattern has no defined dissimilarity (a constant
            pattern with correlation, a zero pattern with cosine), all patterns of a layer are equal, or dissimilarities
            are not finite.
        """
        patterns = self.patterns(batch)
        where = {layer: f"layer {layer!r} of teacher {self.name!r}" for layer in self.targets}
        return {
            layer: rdm_of(pattern, batch.names, self._dissimilarity, where[layer], "layer")
            for layer, pattern in patterns.items()
        }

    def patterns(self, batch: Batch) -> dict[str, Float[Tensor, "n_conditions n_channels"]]:
        """Return the network's patterns of the batch's conditions, from the cache if possible.

        Parameters
        ----------
        batch : Batch
            As in `rdms`.

        Returns
        -------
        dict of str to Tensor, shape (n_conditions, n_channels)
            One entry per layer, float32, on the device of the batch's images.

        Raises
        ------
        BrainrdlError
            If names are unknown or there is not one image per name.
        """
        self._check(batch)
        starts = range(0, len(batch.names), _BATCH)
        chunks = [self._chunk(batch, slice(start, start + _BATCH)) for start in starts]
        return {layer: torch.cat([chunk[layer] for chunk in chunks]) for layer in self.targets}

    def _check(self, batch: Batch) -> None:
        check_unique(batch.names, f"the conditions asked of teacher {self.name!r}")
        if self._stimuli is not None:
            check_conditions(batch.names, self._stimuli.names, f"teacher {self.name!r}")
        elif len(batch.images) != len(batch.names):
            refuse(
                f"teacher {self.name!r} got {len(batch.images)} images for {len(batch.names)} conditions; "
                "give one image per condition, or make it with NetworkTeacher(..., stimuli=...)"
            )

    def _chunk(self, batch: Batch, part: slice) -> dict[str, Tensor]:
        device = batch.images.device
        if self._store is None:
            return self._forward(self._images(batch, part).to(device))
        stored = self._stored(self._store, batch, part)
        return {layer: torch.stack(rows).to(device).float() for layer, rows in stored.items()}

    def _stored(self, store: FeatureStore, batch: Batch, part: slice) -> dict[str, list[Tensor]]:
        """Return the stored pattern of each stimulus for each layer, and first compute and store the missing ones."""
        names, keys = batch.names[part], self._keys(batch, part)
        groups = {layer: key_of([self._digest, layer, self._readouts[layer]]) for layer in self.targets}
        found = {layer: store.get(group, keys) for layer, group in groups.items()}
        missing = [i for i, key in enumerate(keys) if any(key not in rows for rows in found.values())]
        if missing:
            images = self._images(batch, part, [names[i] for i in missing])
            fresh = self._forward(images.to(batch.images.device))
            self._check_room(store, fresh, len(batch.names))
            for layer, group in groups.items():
                found[layer] |= store.put(group, [keys[i] for i in missing], fresh[layer])
        return {layer: [rows[key] for key in keys] for layer, rows in found.items()}

    def _check_room(self, store: FeatureStore, fresh: dict[str, Tensor], n_asked: int) -> None:
        """Refuse patterns that will not fit, before the first ones are stored."""
        if not self._has_room:
            n_conditions = n_asked if self._stimuli is None else len(self._stimuli)
            store.check_room(n_conditions * sum(patterns.shape[1] for patterns in fresh.values()))
            self._has_room = True

    def _forward(self, images: Images) -> dict[str, Tensor]:
        """Run the network in float32, also under autocast, on which a teacher's answer must not depend."""
        device = images.device
        student = self._student.to(device)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            patterns = student(_full_precision(images)).patterns
        random = random_layers(student.model, student.parts)
        if random:
            refuse(
                f"layers {quote(random)} of teacher {self.name!r} give other patterns for the same images each time, "
                "also in eval mode (random draws, or buffers that change); choose earlier layers, or switch the noise "
                "of the network off"
            )
        return {layer: pattern.float() for layer, pattern in patterns.items()}

    def _images(self, batch: Batch, part: slice, names: Sequence[str] | None = None) -> Any:
        asked = batch.names[part] if names is None else names
        if self._stimuli is not None:
            return self._stimuli.images(asked)
        position = {name: index for index, name in enumerate(batch.names)}
        return batch.images[[position[name] for name in asked]]

    def _keys(self, batch: Batch, part: slice) -> list[str]:
        """Identify a stimulus by raw content and transform if the transform's repr is complete, else by the image."""
        given = getattr(self._stimuli, "transform", None)
        transform = digest_network(given) if isinstance(given, nn.Module) else repr(given)
        if self._stimuli is None or " at 0x" in transform or "Lambda" in transform:
            return _digests(self._images(batch, part))
        raw = self._stimuli.digests(batch.names[part])
        return [f"{raw[name]} {transform}" for name in batch.names[part]]

    def reinitialised(self, seed: int = 0) -> NetworkTeacher:
        """Copy this teacher with random weights, as before any training.

        Convolutions and linear layers get He's normal initialisation and zero biases, which keeps activations in range
        in networks of any depth. Other modules use their ``reset_parameters``. Parameters that no module can reset
        (class tokens, position embeddings) get normal values with their previous mean and standard deviation.

        Parameters
        ----------
        seed : int
            Seed of the weights; torch's global generator does not change.

        Returns
        -------
        NetworkTeacher
            Same layers, dissimilarity, stimuli and cache.

        Raises
        ------
        BrainrdlError
            If readouts were fitted: they do not fit another network.

        References
        ----------
        He et al. 2015, doi 10.1109/ICCV.2015.123
        """
        fitted = [layer for layer, head in self._heads.items() if head.readout.needs_calibration]
        if fitted:
            refuse(
                f"teacher {self.name!r} reads layers {quote(fitted)} with readouts that were fitted, which do not fit "
                "a network with random weights; make the control from the network without readouts"
            )
        other = copy.copy(self)
        other.name = f"random {self.name} (seed {seed})"
        student = copy.deepcopy(self._student)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            student.cpu().model.apply(_reset)
        other._freeze(student)
        return other


def _full_precision(images: Images) -> Images:
    """Return images as float32; token ids stay integers, and several inputs stay as they are."""
    if isinstance(images, Tensor) and (images.is_floating_point() or images.dtype == torch.uint8):
        return images.float()
    return images


def _digests(images: Images) -> list[str]:
    if isinstance(images, Tensor):
        return [digest_tensor(image) for image in images]
    return [digest(images[place : place + 1].tensors) for place in range(len(images))]


def _described(head: ReadoutHead) -> dict[str, Any]:
    """Describe a readout, with a digest of its numbers if it has any."""
    numbers = {"numbers": digest_network(head)} if head.readout.needs_calibration else {}
    return asdict(head.readout) | numbers


def _student(
    model: nn.Module | str, layers: Sequence[str], weights: str | None, readout: Readout | None
) -> tuple[Student, Callable[[Any], Any] | None]:
    """Return a copy of the network with what reads its layers, and the transform of a named network."""
    if isinstance(model, str):
        network, fitted = build_fitted(model, weights)
        check_groups(network.module, layers, "the teacher's layers")
        return reader(network.module, layers, readout, fitted), network.transform
    if weights is not None:
        refuse(f"weights {weights!r} are for a model given by name; load them into the nn.Module first")
    if isinstance(model, Student):
        return _part_of(model, layers, readout), None
    check_groups(model, layers, "the teacher's layers")
    return reader(_copied(model), layers, readout), None


def _part_of(student: Student, layers: Sequence[str], readout: Readout | None) -> Student:
    """Copy a student with some of its layers, read as it reads them."""
    if isinstance(layers, str):
        refuse(f"the teacher's layers must be a list of names, got the single string {layers!r}; write [{layers!r}]")
    check_unique(tuple(layers), "the teacher's layers")
    heads = {head.layer: head for head in student.readout_heads()}
    check_conditions(layers, heads, "the student's layers")
    for layer in layers:
        if readout is not None and heads[layer].readout != readout:
            refuse(f"the student reads layer {layer!r} with {heads[layer].readout}; leave out pool and step")
    copied = _copied(student)
    part = reader(copied.model, layers)
    part.trained_on = copied.trained_on
    part.heads = nn.ModuleDict({key_of_layer(layer): copied.heads[key_of_layer(layer)] for layer in layers})
    return part


def _copied(model: Module) -> Module:
    """Copy a network, also one with computed tensors (``torch.nn.utils.weight_norm``), which torch does not copy."""
    computed = [
        (vars(module), name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    for attributes, name, value in computed:
        attributes[name] = value.detach()
    try:
        return copy.deepcopy(model)
    finally:
        for attributes, name, value in computed:
            attributes[name] = value


def _with_default_transform(stimuli: Stimuli | None, transform: Callable[[Any], Any] | None) -> Stimuli | None:
    if stimuli is None or transform is None or getattr(stimuli, "transform", None) is not None:
        return stimuli
    return stimuli.with_transform(transform)


def _store(cache: bool | Path | str, precision: str) -> FeatureStore | None:
    check_option(precision, PRECISIONS, "cache_precision")
    if isinstance(cache, bool):
        return MemoryStore(precision) if cache else None
    return ShardStore(cache, precision)


def _checked_view(view: str | None, cached: bool, separate: bool) -> str:
    if view is None:
        return "clean" if cached or separate else "same"
    check_option(view, VIEWS, "view")
    if view == "same" and (cached or separate):
        refuse(
            f"{arg('view', 'same', of='teacher')} shows a teacher the student's images, which an augmentation changes "
            f"in each step, but {'separate stimuli have' if separate else 'a cache stores'} one image for each name; "
            f"use {arg('view', 'clean', of='teacher')}"
        )
    return view


def _reset(module: nn.Module) -> None:
    if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            module.bias.zero_()
        return
    reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        std = parameter.std(correction=0)
        parameter.copy_(parameter.mean() + std * torch.randn_like(parameter))
