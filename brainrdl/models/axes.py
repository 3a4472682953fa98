"""The dimensions of a layer's output: which holds the channels, and which tokens are class tokens.

The types of the modules decide. Convolutions, poolings and batch normalisation of torch put the channels first,
``(n, channels, positions...)``; linear layers, attention, recurrent layers and layer normalisation put them last. The
output of a block (of torchvision, timm or your own) has the dimensions of the last module inside it that gives such an
output, an activation has those of its input, and views (``permute``, ``transpose``, ``flatten``) are followed. If the
sizes do not distinguish the channels from the positions, or a module of unknown type changes the shape, the dimension
of the channels is not known.

Class and register tokens are parameters of the network with usual names (``cls_token``, ``class_token``,
``reg_token``, ...), which come before the patches. A layer has them if its number of tokens is that of the patches,
known from the convolution before, plus theirs. Before attention mixes the tokens, only those of the patches depend on
the image: this shows whether the class tokens are the first, and if not, which tokens they are is not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from brainrdl.models.hooks import every_call, first_tensor_in
from brainrdl.stimuli.inputs import Images, run_network


class Axes(NamedTuple):
    """What the dimensions of an output hold.

    Attributes
    ----------
    channels : int or None
        Dimension of the channels, 1 or more; None if the types of the modules do not say.
    prefix : int or None
        Number of class and register tokens before the patches, in an output (n, tokens, channels); None if not known.
    class_token : bool
        Whether the first of them is the class token.

    Examples
    --------
    >>> Axes(channels=1)
    Axes(channels=1, prefix=None, class_token=False)
    """

    channels: int | None = None
    prefix: int | None = None
    class_token: bool = False


UNKNOWN = Axes()

_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._LPPoolNd,
    nn.modules.pooling._MaxUnpoolNd,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.modules.padding._CircularPadNd,
    nn.Fold,
    nn.Unfold,
    nn.Upsample,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ChannelShuffle,
)

_LAST = (
    nn.MultiheadAttention,
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
    nn.modules.rnn.RNNBase,
    nn.Embedding,
)

# Torch applies them to the last dimension, which holds the channels unless the input is known to hold them elsewhere.
_ON_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm)

# Modules of these packages that return the shape of their input (activations, dropout, gates) keep its dimensions.
_KEEP_ORDER = ("torch.nn.modules.", "torchvision.", "timm.")

_EQUAL = 1e-6  # relative to the largest value; the epsilon of float32 is 1.2e-7

_CLASS = {"cls_token", "cls_tokens", "class_token", "class_embedding", "cls_embedding", "cls_embed", "class_embed"}

_REGISTERS = {"reg_token", "reg_tokens", "register_tokens", "dist_token", "distillation_token"}


def trace_axes(model: nn.Module, images: Images) -> dict[str, list[Axes]]:
    """Find what the dimensions of the output of each module hold, in each of its calls.

    Parameters
    ----------
    model : nn.Module
        The network; it runs once, as it is.
    images : Tensor, shape (n, ...), or Inputs
        Two or more different images, so that the dimension of the images differs from others.

    Returns
    -------
    dict of str to list of Axes
        One entry per call for each module that ran; an output that is no tensor has unknown axes.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(2))
    >>> {layer: axes[0].channels for layer, axes in trace_axes(net, torch.rand(3, 1, 8, 8)).items()}
    {'0': 1, '1': 1, '2': 1}
    """
    trace = _Trace(model)
    with every_call(model, trace.enter, trace.leave):
        run_network(model, images)
    first: dict[nn.Module, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        calls = trace.found.get(first.setdefault(module, name))
        if calls is not None:
            trace.found[name] = calls
    return trace.found


class _Call(NamedTuple):
    """A finished call with known channels: shape of its output, and the dimension of the channels."""

    shape: tuple[int, ...]
    channels: int


class _Trace:
    """What one pass shows: hooks call `enter` and `leave` around each module."""

    def __init__(self, model: nn.Module) -> None:
        self.found: dict[str, list[Axes]] = {}
        self._model = model
        self._channels: Any = WeakIdKeyDictionary()  # output -> dimension of its channels
        self._bases: Any = WeakIdKeyDictionary()  # tensor that owns the memory -> size and stride of the channels
        self._calls: list[_Call] = []
        self._begun: list[tuple[int, Tensor | None]] = []
        self._grids: set[int] = set()  # numbers of positions before any class token
        self._fixed: dict[int, list[int]] = {}  # number of tokens -> those that did not depend on the image at first

    def enter(self, given: object) -> None:
        found = first_tensor_in(given)
        self._begun.append((len(self._calls), found))
        self._note_fixed(found)

    def _note_fixed(self, tokens: Tensor | None) -> None:
        if tokens is None or tokens.ndim != 3 or tokens.shape[1] in self._fixed:
            return
        change = (tokens - tokens[:1]).detach().abs().amax(dim=(0, 2))
        fixed = (change <= _EQUAL * tokens.detach().abs().amax()).nonzero().flatten().tolist()
        if 0 < len(fixed) < tokens.shape[1]:
            self._fixed[tokens.shape[1]] = fixed

    def leave(self, name: str, module: nn.Module, output: object) -> None:
        start, given = self._begun.pop()
        found = first_tensor_in(output)
        axes = UNKNOWN
        if found is not None and found.ndim > 2:
            channels = self._of(found)
            if channels is None:
                channels = self._by_type(module, given, found, start)
            axes = self._axes(name, found, channels)
            if channels is not None:
                self._remember(found, channels)
        self.found.setdefault(name, []).append(axes)

    def _remember(self, output: Tensor, channels: int) -> None:
        self._channels[output] = channels
        self._bases[_base(output)] = (output.shape[channels], output.stride(channels))
        self._calls.append(_Call(tuple(output.shape), channels))
        positions = math.prod(output.shape[1:]) // max(output.shape[channels], 1)
        if output.ndim > 3 or not self._grids:
            self._grids.add(positions)

    def _of(self, output: Tensor) -> int | None:
        """Return the channels of a tensor that a module returned before, or of a view of one."""
        if output in self._channels:
            known: int = self._channels[output]
            return known if known < output.ndim else None
        like = self._bases.get(_base(output))
        same = [d for d in range(1, output.ndim) if (output.shape[d], output.stride(d)) == like]
        return same[0] if len(same) == 1 else None

    def _by_type(self, module: nn.Module, given: Tensor | None, output: Tensor, start: int) -> int | None:
        last, kind = output.ndim - 1, type(module).__name__
        input_channels = None if given is None else self._of(given)
        if isinstance(module, _FIRST) or (isinstance(module, nn.LayerNorm) and kind.endswith("2d")):
            return 1
        if isinstance(module, _LAST):
            return last
        if isinstance(module, _ON_LAST) and len(getattr(module, "normalized_shape", (0,))) == 1:
            return last if input_channels is None or given is None or given.ndim != output.ndim else input_channels
        same = given is not None and given.shape == output.shape
        block = next(module.children(), None) is not None
        # An activation or dropout after a sum that no module returned has the dimensions of the module before it.
        before = [call for call in self._calls[-1:] if same and input_channels is None and call.shape == output.shape]
        like = self._like_earlier(output, self._calls[start:] if block else before)
        if like is None and same and input_channels is not None:
            keeps = type(module).__module__.startswith(_KEEP_ORDER)
            return input_channels if keeps or _clear(tuple(output.shape), input_channels) else None
        if like is None and isinstance(module, nn.GLU) and given is not None and given.ndim == output.ndim:
            return input_channels
        return like

    def _like_earlier(self, output: Tensor, calls: Sequence[_Call]) -> int | None:
        """Return the channels of the latest call whose output has the same channels, or the same positions."""
        shape = tuple(output.shape)
        for call in reversed(calls):
            if len(call.shape) == len(shape) and call.shape[0] == shape[0] and _similar(shape, call):
                return call.channels
        return None

    def _axes(self, name: str, output: Tensor, channels: int | None) -> Axes:
        if output.ndim != 3 or channels != 2:
            return Axes(channels)
        n_class, n_others = _extra_tokens(self._model, name)
        n_tokens, extra = output.shape[1], n_class + n_others
        if extra and self._fixed.get(n_tokens, [*range(extra)]) != [*range(extra)]:
            return Axes(channels)
        if extra and n_tokens - extra in self._grids:
            return Axes(channels, extra, n_class > 0)
        return Axes(channels, 0 if n_tokens in self._grids or not self._grids else None)


def _base(tensor: Tensor) -> Tensor:
    base = tensor._base
    return tensor if base is None else base


def _clear(shape: tuple[int, ...], channels: int) -> bool:
    """Whether the size of the channels differs from all numbers of positions, so that a change of order would show."""
    return shape[1:].count(shape[channels]) == 1


def _similar(shape: tuple[int, ...], call: _Call) -> bool:
    if shape[call.channels] == call.shape[call.channels]:
        return _clear(shape, call.channels)
    return all(shape[d] == call.shape[d] for d in range(1, len(shape)) if d != call.channels)


def _extra_tokens(model: nn.Module, name: str) -> tuple[int, int]:
    """Count class tokens and others (registers, distillation) of the part of the network around a module."""
    parts = name.split(".")
    for end in range(len(parts) - 1, -1, -1):
        around = model.get_submodule(".".join(parts[:end]))
        counts = _count_tokens(around.named_parameters())
        if any(counts):
            return counts
    return 0, 0


def _count_tokens(parameters: Any) -> tuple[int, int]:
    n_class = n_others = 0
    for name, value in parameters:
        own = name.rpartition(".")[2]
        n_tokens = value.numel() // max(value.shape[-1], 1) if value.ndim else 0
        n_class += n_tokens if own in _CLASS else 0
        n_others += n_tokens if own in _REGISTERS else 0
    return n_class, n_others


def of_call(traced: Mapping[str, Sequence[Axes]], layer: str, step: int) -> Axes:
    """Return the axes of one call of a layer; unknown if it did not run then.

    Examples
    --------
    >>> of_call({"v1": [Axes(1), Axes(2)]}, "v1", -1).channels
    2
    """
    calls = traced.get(layer, ())
    return calls[step] if -len(calls) <= step < len(calls) else UNKNOWN
