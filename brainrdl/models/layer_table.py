"""A table of the layers of a network: types, shapes, parameters, calls, and what each readout gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from brainrdl._core.errors import refuse
from brainrdl.models import rows
from brainrdl.models.axes import Axes, of_call, trace_axes
from brainrdl.models.hooks import eager, evaluating, first_tensor_in, hooked, probing
from brainrdl.models.pooling import possible_pools
from brainrdl.stimuli.inputs import Images

if TYPE_CHECKING:
    import pandas as pd


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
        in a pass), ``problem`` (why the layer cannot be read, or empty) and ``readouts`` (what each pooling gives, in
        words; see `brainrdl.models.pooling`).

    Raises
    ------
    BrainrdlError
        If the model cannot process an image of that shape; the message quotes the error of the model.

    Examples
    --------
    >>> describe_layers(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2)).drop(columns="problem")
      layer     type output_shape  n_parameters  calls           readouts
    0     0  Flatten        (12,)             0      1  flatten: 12 units
    1     1   Linear         (5,)            65      1   flatten: 5 units
    """
    import pandas as pd

    modules = dict(model.named_modules(remove_duplicate=False))
    del modules[""]
    passes: list[dict[str, list[_Seen]]] = []

    def begin() -> None:
        passes.append({name: [] for name in modules})

    def keep(layer: str, output: object, n_images: int | None) -> None:
        passes[-1][layer] = [*[_NOTHING] * len(passes[-1][layer]), _seen(output, n_images)]

    first, second = rows.probe_images(_black_image(model, image_shape), 3)
    with evaluating(model), hooked(model, modules, begin, keep), eager(model):
        for images in (first, first, second):
            _run(model, images, image_shape)
    with probing(model, second):
        traced = trace_axes(model, second)  # images that differ
    table = []
    for name, module in modules.items():
        one, again, other = ((seen[name] or [_NOTHING])[-1] for seen in passes)
        calls = len(passes[0][name])
        problem = "did not run" if not calls else one.problem or _mixing(one, again, other)
        shape = None if problem else one.shape
        readouts = "" if shape is None else _readouts(shape, of_call(traced, name, -1))
        table.append((name, type(module).__name__, shape, _n_parameters(module), calls, problem, readouts))
    return pd.DataFrame(table, columns=_COLUMNS)


_COLUMNS = ["layer", "type", "output_shape", "n_parameters", "calls", "problem", "readouts"]


def _readouts(shape: tuple[int, ...], axes: Axes) -> str:
    ways: dict[str, list[str]] = {}
    for pool, words in possible_pools(shape, axes).items():
        ways.setdefault(words, []).append(pool)
    return "; ".join(f"{' or '.join(pools)}: {words}" for words, pools in ways.items())


class _Seen(NamedTuple):
    """What `describe_layers` keeps of an output: shape of a row, why it cannot be read, and the first rows."""

    shape: tuple[int, ...] | None
    problem: str
    rows: Tensor | None


_NOTHING = _Seen(None, "", None)


def _seen(output: object, n_images: int | None) -> _Seen:
    found = first_tensor_in(output)
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


def _black_image(model: nn.Module, image_shape: tuple[int, ...]) -> Tensor:
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, *image_shape, device=like.device, dtype=like.dtype)


def _run(model: nn.Module, images: Images, image_shape: tuple[int, ...]) -> None:
    try:
        model(images)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        refuse(f"the model cannot process an image of shape {tuple(image_shape)} (c, h, w): {error}")
