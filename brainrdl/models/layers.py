"""The layers of a network: their names, their outputs, and a table of them.

A layer is named as in ``model.named_modules()``, for example ``"layer1.0.conv2"``. Outputs are captured with forward
hooks, which are always removed afterwards. The captured output is a copy, made when the layer returns it, in the same
autograd graph. The copy is necessary because networks change outputs in place (``ReLU(inplace=True)``,
``out += identity``): without it, the output of a convolution would silently become that of the ReLU after it. The copy
costs less than 2 % of a forward pass for four stages of a ResNet-18.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError, check_unique, nearest, quote, refuse
from brainrdl.models import rows

if TYPE_CHECKING:
    import pandas as pd


# Layers of each network, with the shape of an image, that passed the probe of `read_layers`.
_PROBED: WeakKeyDictionary[nn.Module, set[tuple[str, tuple[int, ...]]]] = WeakKeyDictionary()


class Captured(dict[str, Tensor]):
    """Outputs of the last forward pass, ``{layer: Tensor (n, ...)}``; a layer that did not run is refused.

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

    def __missing__(self, layer: str) -> Tensor:
        ran = f"those that did: {quote(self)}" if self else "none did"
        refuse(f"layer {layer!r} has no output: it did not run in the last forward pass ({ran})")


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
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    hidden = [layer for layer in layers for name in scripted if not name or layer.startswith(f"{name}.")]
    if hidden:
        refuse(
            f"layers {quote(hidden)} are inside a scripted or traced network (torch.jit), which does not show the "
            "outputs of its layers; give the network from which it was made"
        )
    lazy = [name for name, value in model.named_parameters() if nn.parameter.is_lazy(value)]
    if lazy:
        refuse(
            f"parameters {quote(lazy)} have no shape yet, because the network has lazy modules; run it once on an "
            "image, model(image), before it is used"
        )


def _is_module(model: nn.Module, layer: str) -> bool:
    """Look up one name without listing all of them, because this runs in every forward pass."""
    try:
        return layer != "" and model.get_submodule(layer) is not None
    except AttributeError:
        return False


@contextmanager
def capture(model: nn.Module, layers: Iterable[str]) -> Iterator[Captured]:
    """Capture the outputs of `layers`: each forward pass in the ``with`` block fills the yielded mapping.

    Parameters
    ----------
    model : nn.Module
        The network. Replicas made by ``nn.DataParallel`` are refused: their outputs would overwrite each other.
    layers : iterable of str
        Names as in `layer_names`.

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
    For a module that runs several times in one pass (a shared ReLU, a recurrent cell), the *last* output is kept; the
    column ``calls`` of `describe_layers` shows these modules. The number of rows alone does not show whether a row
    belongs to one image; `read_layers` tests this as well. The hooks are removed after the block, also after an
    exception. They keep no references, so the graph is freed together with the mapping.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))
    >>> with capture(model, ["0"]) as outputs:
    ...     _ = model(torch.ones(2, 4))
    >>> outputs["0"].shape
    torch.Size([2, 3])
    """
    names = layers if isinstance(layers, str) else tuple(layers)
    check_layers(model, names)
    if isinstance(model, nn.DataParallel):
        refuse(
            "nn.DataParallel runs copies of the model, which overwrite each other's outputs; use "
            "DistributedDataParallel"
        )
    captured = Captured()

    def keep(layer: str, output: object, n_images: int | None) -> None:
        found = _first_tensor(output, layer)
        if n_images is not None:
            rows.check_count(layer, found, n_images)
        captured[layer] = found.clone()

    with _hooked(model, {name: model.get_submodule(name) for name in names}, captured.clear, keep):
        yield captured


def read_layers(model: nn.Module, layers: Sequence[str], images: Float[Tensor, "n ..."]) -> tuple[Captured, Any]:
    """Run `model` once and return the outputs of `layers`, one row per image, and the network's own output.

    Parameters
    ----------
    model : nn.Module
        The network.
    layers : sequence of str
        Names as in `layer_names`.
    images : Tensor, shape (n, ...)
        At least one image.

    Returns
    -------
    tuple of Captured and object
        As from `capture`, and what ``model(images)`` returned.

    Raises
    ------
    BrainrdlError
        As in `capture`; also if row i of a layer depends on other images than image i.

    Notes
    -----
    The first time that a network, layer and image shape are used, two more passes with three images test that rows
    belong to single images, in eval mode and without gradient; torch's random state is left as it was.

    Examples
    --------
    >>> outputs, answer = read_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), ["0"], torch.ones(2, 4))
    >>> outputs["0"].shape, answer.shape
    (torch.Size([2, 3]), torch.Size([2, 3]))
    """
    with capture(model, layers) as outputs, _eager(model):
        answer = model(images)
    passed = _PROBED.setdefault(model, set())
    new = [layer for layer in outputs if (layer, images.shape[1:]) not in passed]
    if new and len(images):
        _check_rows(model, new, images)
        passed |= {(layer, tuple(images.shape[1:])) for layer in new}
    return outputs, answer


def _check_rows(model: nn.Module, layers: Sequence[str], images: Tensor) -> None:
    first, second = rows.probe_images(images)
    one, other = _probe(model, layers, first), _probe(model, layers, second)
    mixing = [layer for layer in one if layer in other and rows.mixes_images(one[layer], other[layer])]
    if not mixing:
        return
    again = _probe(model, layers, first)
    for layer in mixing:
        # A network that draws at random gives other rows for equal batches, too; that is not mixing.
        if torch.equal(one[layer], again[layer]):
            rows.refuse_mixing(layer, one[layer])


def _probe(model: nn.Module, layers: Sequence[str], images: Tensor) -> Captured:
    devices = [images.device] if images.device.type == "cuda" else []
    full = torch.autocast(images.device.type, enabled=False)
    with torch.random.fork_rng(devices=devices), evaluating(model), full:
        try:
            with capture(model, layers) as outputs, _eager(model):
                model(images)
        except BrainrdlError as error:
            if "cannot process" not in str(error):
                raise
            refuse(
                f"whether each row of layers {quote(layers)} belongs to one image cannot be tested with "
                f"{len(images)} images: {error}; use a network that takes any number of images"
            )
    return outputs


def gradient_problems(model: nn.Module, layers: Sequence[str], images: Float[Tensor, "n ..."]) -> dict[str, str]:
    """Say why a loss on the output of a layer would train nothing in the network, for the layers where this is so.

    Parameters
    ----------
    model : nn.Module
        The network, in the mode in which it will be trained. Its buffers and torch's random state are restored.
    layers : sequence of str
        Names as in `layer_names`.
    images : Tensor, shape (n, ...)
        Images for one pass with gradient.

    Returns
    -------
    dict of str to str
        The reason for each layer whose output has no gradient.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.Linear(3, 2))
    >>> gradient_problems(model, ["0", "1"], torch.ones(2, 4))
    {'0': 'no parameter that is trained comes before it, or its input is detached'}
    """
    problems: dict[str, str] = {}

    def keep(layer: str, output: object, _n_images: int | None) -> None:
        problems.pop(layer, None)
        if not torch.is_grad_enabled():
            problems[layer] = (
                "it runs without gradient, in torch.no_grad() or in checkpointing with use_reentrant=True (set "
                "use_reentrant=False)"
            )
        elif not _first_tensor(output, layer).requires_grad:
            problems[layer] = "no parameter that is trained comes before it, or its input is detached"

    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    devices = [images.device] if images.device.type == "cuda" else []
    modules = {layer: model.get_submodule(layer) for layer in layers}
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        _hooked(model, modules, lambda: None, keep),
        _eager(model),
    ):
        model(images)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return problems


@contextmanager
def _hooked(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    begin: Callable[[], None],
    keep: Callable[[str, object, int | None], None],
) -> Iterator[None]:
    """Call `begin` before each pass of `model` and `keep(name, output, n_images)` after each module in the block."""
    running: list[tuple[int, ...]] = []  # shape of the images in the forward pass that is running

    def start(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        begin()
        running[:] = [tuple(arg.shape) for arg in (*args, *named.values()) if isinstance(arg, Tensor)][:1]

    def read(layer: str, output: object) -> None:
        keep(layer, output, running[0][0] if running and running[0] else None)

    with ExitStack() as handles, _explained(running):
        handles.enter_context(model.register_forward_pre_hook(start, with_kwargs=True))
        handles.enter_context(model.register_forward_hook(lambda *_: running.clear()))
        for name, module in modules.items():
            # The default argument binds the name now. Returning None keeps the output of the module.
            handles.enter_context(
                module.register_forward_hook(lambda _module, _args, output, name=name: read(name, output))
            )
        yield


def _eager(model: nn.Module) -> AbstractContextManager[Any]:
    """Run a network compiled by torch.compile as it was before: compiled code may ignore hooks that are added later."""
    compiled = any(hasattr(module, "_orig_mod") or module._compiled_call_impl for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def _explained(running: Sequence[tuple[int, ...]]) -> Iterator[None]:
    """Add the shape of the images to an error in the network's forward pass; other errors are not changed."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        if not running or isinstance(error, BrainrdlError | torch.OutOfMemoryError) or "CUDA" in str(error):
            raise
        where = f"images of shape {running[0]}, (n, c, h, w)"
        raise BrainrdlError(f"the network cannot process {where}: {error}") from error


def _readable(output: object) -> Tensor | None:
    """Return the first tensor of real or complex numbers, not counting single numbers such as a loss."""
    return next((x for x in _tensors(output) if x.ndim and (x.is_floating_point() or x.is_complex())), None)


def _first_tensor(output: object, layer: str) -> Tensor:
    found = _readable(output)
    if found is None:
        tensors = list(_tensors(output))
        kinds = sorted({f"{x.dtype} {tuple(x.shape)}" for x in tensors}) or [type(output).__name__]
        refuse(
            f"layer {layer!r} must return a tensor of floats with one row per image, got {', '.join(kinds)}; choose a "
            "layer inside or after it"
        )
    return found


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)


def describe_layers(model: nn.Module, image_shape: tuple[int, ...]) -> pd.DataFrame:
    """Return a table of the layers of `model`, from forward passes of black images and noise.

    Parameters
    ----------
    model : nn.Module
        The network. It runs in eval mode without gradient; its modes are restored afterwards.
    image_shape : tuple of int
        Shape of one image, (c, h, w), in pixels.

    Returns
    -------
    pandas.DataFrame
        One row per module, with the columns ``layer``, ``type``, ``output_shape`` (without the batch dimension; None if
        the layer cannot be read), ``n_parameters`` (including the modules inside), ``calls`` (how often the module ran
        in a pass) and ``problem`` (why the layer cannot be read, or empty).

    Raises
    ------
    BrainrdlError
        If the model cannot process an image of that shape; the message quotes the error of the model.

    Examples
    --------
    >>> describe_layers(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2)).drop(columns="problem")
      layer     type output_shape  n_parameters  calls
    0     0  Flatten        (12,)             0      1
    1     1   Linear         (5,)            65      1
    """
    import pandas as pd

    modules = dict(model.named_modules(remove_duplicate=False))
    del modules[""]
    passes: list[dict[str, list[_Seen]]] = []

    def begin() -> None:
        passes.append({name: [] for name in modules})

    def keep(layer: str, output: object, n_images: int | None) -> None:
        passes[-1][layer] = [*[_NOTHING] * len(passes[-1][layer]), _seen(output, n_images)]

    first, second = rows.probe_images(_black_image(model, image_shape))
    with evaluating(model), _hooked(model, modules, begin, keep), _eager(model):
        for images in (first, first, second):
            _run(model, images, image_shape)
    table = []
    for name, module in modules.items():
        one, again, other = ((seen[name] or [_NOTHING])[-1] for seen in passes)
        calls = len(passes[0][name])
        problem = "did not run" if not calls else one.problem or _mixing(one, again, other)
        shape = None if problem else one.shape
        table.append((name, type(module).__name__, shape, _n_parameters(module), calls, problem))
    return pd.DataFrame(table, columns=["layer", "type", "output_shape", "n_parameters", "calls", "problem"])


class _Seen(NamedTuple):
    """What `describe_layers` keeps of an output: shape of a row, why it cannot be read, and the first rows."""

    shape: tuple[int, ...] | None
    problem: str
    rows: Tensor | None


_NOTHING = _Seen(None, "", None)


def _seen(output: object, n_images: int | None) -> _Seen:
    found = _readable(output)
    if found is None:
        return _Seen(None, "returns no tensor of floats", None)
    problem = rows.count_problem(found, n_images or 0)
    return _Seen(tuple(found.shape[1:]), problem, None if problem else found[:2].clone())


def _mixing(one: _Seen, again: _Seen, other: _Seen) -> str:
    if one.rows is None or again.rows is None or other.rows is None or not torch.equal(one.rows, again.rows):
        return ""
    return "rows depend on several images" if rows.mixes_images(one.rows, other.rows) else ""


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Use eval mode without gradient, then restore the mode of each module, including frozen ones."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _black_image(model: nn.Module, image_shape: tuple[int, ...]) -> Tensor:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *image_shape, device=like.device, dtype=like.dtype)


def _run(model: nn.Module, images: Tensor, image_shape: tuple[int, ...]) -> None:
    try:
        model(images)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        refuse(f"the model cannot process an image of shape {tuple(image_shape)} (c, h, w): {error}")
