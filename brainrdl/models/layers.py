"""The layers of a network: their names and their outputs.

A layer is named as in ``model.named_modules()``, for example ``"layer1.0.conv2"``. Outputs are captured with forward
hooks, which are always removed afterwards. The captured output is a copy, made when the layer returns it, in the same
autograd graph. The copy is necessary because networks change outputs in place (``ReLU(inplace=True)``,
``out += identity``): without it, the output of a convolution would silently become that of the ReLU after it. The copy
costs less than 2 % of a forward pass for four stages of a ResNet-18.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError, arg, check_unique, nearest, quote, refuse
from brainrdl.models import rows
from brainrdl.models.axes import UNKNOWN, Axes, of_call, trace_axes
from brainrdl.models.hooks import eager, explained_by_shape, first_tensor_in, hooked, probing, tensors_in
from brainrdl.stimuli.inputs import Images, run_network

# Calls of layers of each network, with the shape of an image, that passed the probe of `read_layers`, and with which
# weights (see `_changes_of`).
_PROBED: WeakKeyDictionary[nn.Module, dict[tuple[str, int, tuple[int, ...]], int]] = WeakKeyDictionary()

# Networks of which all parameters have a shape: none waits for a first pass.
_WITH_SHAPES: WeakSet[nn.Module] = WeakSet()

# Layers of each network that give other rows for the same images, see `random_layers`.
_RANDOM: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()

# What `trace_axes` found for each network and shape of an image.
_AXES: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], dict[str, list[Axes]]]] = WeakKeyDictionary()


class Captured(dict[str, Tensor]):
    """Outputs of the last forward pass, ``{layer: Tensor (n, ...)}``; a layer that did not run is refused.

    For a module that ran several times, this is the last output; `at` gives that of another call.

    Raises
    ------
    BrainrdlError
        On access to a layer that did not run.

    Examples
    --------
    >>> Captured()["fc"]
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layer 'fc' has no output: it did not run in the last forward pass (none did)
    """

    def __init__(self, outputs: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(outputs or {})
        self._calls: dict[str, list[Tensor]] = {}
        self._passed: tuple[nn.Module, Images] | None = None

    def _keep(self, layer: str, output: object, n_images: int | None, every_call: bool) -> None:
        found = _first_tensor(output, layer)
        if n_images is not None:
            rows.check_count(layer, found, n_images)
        self[layer] = found.clone()
        if every_call:
            self._calls.setdefault(layer, []).append(self[layer])

    def __missing__(self, layer: str) -> Tensor:
        ran = f"those that did: {quote(self)}" if self else "none did"
        refuse(f"layer {layer!r} has no output: it did not run in the last forward pass ({ran})")

    def at(self, layer: str, step: int = -1) -> Tensor:
        """Return the output of one call of a layer: 0 is the first call in the pass, -1 the last.

        Raises
        ------
        BrainrdlError
            If the layer did not run as often, or only last outputs were captured.

        Examples
        --------
        >>> twice = nn.Flatten()
        >>> network = nn.Sequential(twice, nn.Linear(4, 2), twice)
        >>> outputs, _ = read_layers(network, ["0"], torch.rand(3, 1, 2, 2), {"0": (0, -1)})
        >>> outputs.at("0", 0).shape, outputs.at("0", -1).shape
        (torch.Size([3, 4]), torch.Size([3, 2]))
        """
        last = self[layer]
        calls = self._calls.get(layer, [last])
        if not -len(calls) <= step < len(calls):
            times = "once" if len(calls) == 1 else f"{len(calls)} times"
            refuse(
                f"layer {layer!r} runs {times} in one pass, so it has no call {arg('step', step)}; give a number from "
                f"0 (the first call) to {len(calls) - 1}, or -1 for the last"
            )
        return calls[step]

    def axes(self, layer: str, step: int = -1) -> Axes:
        """Say what the dimensions of the output of one call hold, as far as the types of the modules say.

        Examples
        --------
        >>> outputs, _ = read_layers(nn.Sequential(nn.Conv2d(1, 2, 3)), ["0"], torch.rand(3, 1, 4, 4))
        >>> outputs.axes("0").channels
        1
        """
        if self._passed is None or self.at(layer, step).ndim < 3:
            return UNKNOWN
        return of_call(_axes_of(*self._passed), layer, step)


def _axes_of(model: nn.Module, images: Images) -> dict[str, list[Axes]]:
    known = _AXES.setdefault(model, {})
    shape = tuple(images.shape[1:])
    if shape not in known:
        _, probe = rows.probe_images(images, rows.probe_sizes(len(images))[0])  # images that differ
        with probing(model, probe):
            known[shape] = trace_axes(model, probe)
    return known[shape]


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Return the dotted names of all modules inside `model`, in the order in which they were registered.

    Parameters
    ----------
    model : nn.Module
        Any network.

    Returns
    -------
    tuple of str
        A module that is registered under two names is listed under both.

    Examples
    --------
    >>> layer_names(nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU())))
    ('0', '1', '1.0')
    """
    return tuple(name for name, _ in model.named_modules(remove_duplicate=False) if name)


def check_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """Refuse an empty list of layers, duplicates, and layers that are not modules of `model`.

    Parameters
    ----------
    model : nn.Module
        Any network.
    layers : sequence of str
        Names to look up.

    Raises
    ------
    BrainrdlError
        If a name is not a module of `model` (the message gives the nearest) or occurs twice, or if `layers` is empty or
        a single string.

    Examples
    --------
    >>> check_layers(nn.ModuleDict({"conv1": nn.ReLU()}), ["conv2"])
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layers ['conv2'] are not in the model (1 modules); nearest: 'conv1'
    """
    if isinstance(layers, str):
        refuse(f"layers must be a list of names, got the single string {layers!r}; write [{layers!r}]")
    if not layers:
        refuse("no layers were given; brainrdl.models.layer_names(model) lists them")
    check_unique(layers, "the layers given")
    _check_kind(model, layers)
    missing = [layer for layer in layers if not _is_module(model, layer)]
    if missing:
        known = layer_names(model)
        listed = f"; it has {quote(known)}: brainrdl.models.layer_names(model) or `brainrdl layers NAME` lists all"
        refuse(
            f"layers {quote(missing)} are not in the model ({len(known)} modules){nearest(missing[0], known) or listed}"
        )


def _check_kind(model: nn.Module, layers: Sequence[str]) -> None:
    """Refuse networks whose layers torch cannot show: scripted, traced, and lazy ones before their first pass."""
    hidden = [layer for layer in layers if _is_scripted(model, layer)]
    if hidden:
        refuse(
            f"layers {quote(hidden)} are inside a scripted or traced network (torch.jit), which does not show the "
            "outputs of its layers; give the network from which it was made"
        )
    if model in _WITH_SHAPES:
        return
    lazy = [name for name, value in model.named_parameters() if nn.parameter.is_lazy(value)]
    if lazy:
        refuse(
            f"parameters {quote(lazy)} have no shape yet, because the network has lazy modules; run it once on an "
            "image, model(image), before it is used"
        )
    _WITH_SHAPES.add(model)


def _is_scripted(model: nn.Module, layer: str) -> bool:
    """Whether a layer is inside a scripted module, from the modules around it: this runs in every forward pass."""
    around: object = model
    for name in layer.split("."):
        if isinstance(around, torch.jit.ScriptModule):
            return True
        around = getattr(around, name, None)
    return False


def _is_module(model: nn.Module, layer: str) -> bool:
    """Look up one name without listing all of them, because this runs in every forward pass."""
    try:
        return layer != "" and model.get_submodule(layer) is not None
    except AttributeError:
        return False


@contextmanager
def capture(model: nn.Module, layers: Iterable[str], every_call: bool = False) -> Iterator[Captured]:
    """Capture the outputs of `layers`: each forward pass in the ``with`` block fills the yielded mapping.

    Parameters
    ----------
    model : nn.Module
        The network. Replicas made by ``nn.DataParallel`` are refused: their outputs would overwrite each other.
    layers : iterable of str
        Names as in `layer_names`.
    every_call : bool
        Keep the output of each call of a module that runs several times in one pass, for `Captured.at`.

    Yields
    ------
    Captured
        ``{layer: output}``, with the output's shape (n, ...) and its gradient. If a layer returns a tuple, list or dict
        (for example the output and state of an LSTM), the first tensor in it. The mapping is emptied when the next
        forward pass begins.

    Raises
    ------
    BrainrdlError
        At once if a layer is unknown; in the forward pass if a layer returns no tensor or another number of rows than
        there are images, or the network cannot process images of that shape; on access if a layer did not run.

    Notes
    -----
    For a module that runs several times in one pass (a shared ReLU, a recurrent cell), the *last* output is kept unless
    `every_call` is set; the column ``calls`` of `describe_layers` shows these modules. The number of rows alone does
    not show whether a row belongs to one image; `read_layers` tests this as well. The hooks are removed after the
    block, also after an exception. They keep no references, so the graph is freed together with the mapping.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with capture(model, ["0"]) as outputs:
    ...     _ = model(torch.ones(2, 4))
    >>> outputs["0"].shape
    torch.Size([2, 3])
    """
    names = layers if isinstance(layers, str) else tuple(layers)
    _check_readable(model, names)
    captured = Captured()

    def begin() -> None:
        captured.clear()
        captured._calls.clear()

    def keep(layer: str, output: object, n_images: int | None) -> None:
        captured._keep(layer, output, n_images, every_call)

    with hooked(model, {name: model.get_submodule(name) for name in names}, begin, keep):
        yield captured


def _check_readable(model: nn.Module, layers: Sequence[str]) -> None:
    check_layers(model, layers)
    if isinstance(model, nn.DataParallel):
        refuse(
            "nn.DataParallel runs copies of the model, which overwrite each other's outputs; use "
            "DistributedDataParallel"
        )


def _one_pass(model: nn.Module, layers: Sequence[str], images: Images, every_call: bool) -> tuple[Captured, Any]:
    """Capture the outputs of one pass of known images, for which the network itself needs no hooks: see `capture`."""
    _check_readable(model, layers)
    captured, n_images, handles = Captured(), len(images), []
    try:
        for name in layers:

            def keep(_module: nn.Module, _args: object, output: object, name: str = name) -> None:
                captured._keep(name, output, n_images, every_call)

            handles.append(model.get_submodule(name).register_forward_hook(keep))
        return captured, run_network(model, images)
    except (RuntimeError, AssertionError, ValueError) as error:
        explained = explained_by_shape(error, images.shape)
        if explained is None:
            raise
        raise explained from error
    finally:
        for handle in handles:
            handle.remove()


def read_layers(
    model: nn.Module,
    layers: Sequence[str],
    images: Images,
    steps: Mapping[str, Iterable[int]] | None = None,
) -> tuple[Captured, Any]:
    """Run `model` once and return the outputs of `layers`, one row per image, and the network's own output.

    Parameters
    ----------
    model : nn.Module
        The network.
    layers : sequence of str
        Names as in `layer_names`.
    images : Tensor, shape (n, ...), or Inputs
        At least one image; or another batch that the network takes.
    steps : mapping of str to iterable of int, optional
        Calls of a layer to read, for modules that run several times in one pass; the last one by default.

    Returns
    -------
    tuple of Captured and object
        As from `capture`, and what ``model(images)`` returned.

    Raises
    ------
    BrainrdlError
        As in `capture`; also if row i of a layer depends on other images than image i, or a layer has no such call.

    Notes
    -----
    The first time that a network, layer and image shape are used, a few more passes with up to 16 images test that rows
    belong to single images and are the same each time (see `random_layers`), in eval mode and without gradient;
    torch's random state is left as it was. A pass without gradient after the weights have changed is tested again,
    because a layer whose gate starts at 0 may begin to mix images when it is trained.

    Examples
    --------
    >>> outputs, answer = read_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), ["0"], torch.ones(2, 4))
    >>> outputs["0"].shape, answer.shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """
    steps = steps or {}
    every_call = any(step != -1 for asked in steps.values() for step in asked)
    with eager(model):
        outputs, answer = _one_pass(model, layers, images, every_call)
    outputs._passed = (model, images)
    asked = [(layer, step) for layer in outputs for step in steps.get(layer, (-1,))]
    for layer, step in asked:
        outputs.at(layer, step)
    passed, shape = _PROBED.setdefault(model, {}), tuple(images.shape[1:])
    if torch.is_grad_enabled() and all((*call, shape) in passed for call in asked):
        return outputs, answer
    changes = _changes_of(model)
    good = {changes} if not torch.is_grad_enabled() else {changes, *passed.values()}
    new = [(layer, step) for layer, step in asked if passed.get((layer, step, shape)) not in good]
    if new and len(images):
        for n in rows.probe_sizes(len(images)):
            _check_rows(model, new, images, n)
        passed |= {(layer, step, shape): changes for layer, step in new}
    return outputs, answer


def _changes_of(model: nn.Module) -> int:
    """Count the changes of a network's parameters, as torch does for its gradients."""
    return sum(0 if value.is_inference() else value._version for value in model.parameters())


def _check_rows(model: nn.Module, calls: Sequence[tuple[str, int]], images: Images, n: int) -> None:
    layers = tuple(dict.fromkeys(layer for layer, _ in calls))
    first, second = rows.probe_images(images, n)
    with probing(model, images):
        one, other, again = (_probe(model, layers, *shown) for shown in ((first, 0), (second, 0), (first, 1)))
    for layer, step in calls:
        if not all(layer in outputs for outputs in (one, other, again)):
            continue
        row, row_among_others, row_again = (outputs.at(layer, step) for outputs in (one, other, again))
        # A network that draws at random gives other rows for equal batches, too; that is not mixing.
        if rows.differ(row, row_again):
            _RANDOM.setdefault(model, set()).add(layer)
        elif rows.mixes_images(row, row_among_others):
            rows.refuse_mixing(layer, row)


def random_layers(model: nn.Module, layers: Iterable[str]) -> list[str]:
    """List the layers whose output for the same images is another one each time, in eval mode.

    Parameters
    ----------
    model : nn.Module
        The network.
    layers : iterable of str
        Layers that `read_layers` has read.

    Returns
    -------
    list of str
        Layers that draw at random, or depend on buffers that each pass changes.

    Examples
    --------
    >>> class Noise(nn.Module):
    ...     def forward(self, x):
    ...         return x + torch.rand_like(x)
    >>> model = nn.Sequential(nn.Flatten(), Noise())
    >>> _ = read_layers(model, ["0", "1"], torch.zeros(2, 1, 3, 3))
    >>> random_layers(model, ["0", "1"])
    ['1']
    """
    known = _RANDOM.get(model, set())
    return [layer for layer in layers if layer in known]


def _probe(model: nn.Module, layers: Sequence[str], images: Images, seed: int) -> Captured:
    torch.default_generator.manual_seed(seed)
    if images.is_cuda:
        torch.cuda.manual_seed(seed)
    try:
        with capture(model, layers, every_call=True) as outputs:
            run_network(model, images)
    except BrainrdlError as error:
        if "cannot process" not in str(error):
            raise
        refuse(
            f"whether each row of layers {quote(layers)} belongs to one image cannot be tested with "
            f"{len(images)} images: {error}; use a network that takes any number of images"
        )
    return outputs


def _first_tensor(output: object, layer: str) -> Tensor:
    found = first_tensor_in(output)
    if found is None or found.layout != torch.strided:
        tensors = list(tensors_in(output))
        sparse = {True: "", False: " sparse"}
        kinds = sorted({f"{x.dtype} {tuple(x.shape)}{sparse[x.layout == torch.strided]}" for x in tensors})
        refuse(
            f"layer {layer!r} must return a tensor of floats with one row per image, got "
            f"{', '.join(kinds) or type(output).__name__}; choose a "
            "layer inside or after it"
        )
    return found
