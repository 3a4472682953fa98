"""A network with its read-outs, as a plain torch module.

This file needs only torch. The command ``brainrdl export`` copies it into the folder that it writes, as ``model.py``.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Model(nn.Module):
    """A network and the read-outs of its layers: images -> patterns by layer.

    Parameters
    ----------
    network : nn.Module
        The network, with any weights: those of the state dict replace them.
    layers : mapping of str to mapping
        How each layer is read, as in ``config.json``, see `Pattern`.

    Examples
    --------
    >>> layers = {"0": {"parts": [{"module": "0", "step": -1, "pool": "flatten"}]}}
    >>> model = Model(nn.Sequential(nn.Linear(4, 3)), layers)
    >>> {layer: tuple(pattern.shape) for layer, pattern in model(torch.rand(5, 4)).items()}
    {'0': (5, 3)}
    """

    def __init__(self, network: nn.Module, layers: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(layers)
        self.patterns = nn.ModuleList(Pattern(**keys) for keys in layers.values())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the patterns of each layer, (n, n_channels), for images (n, channels, height, width)."""
        modules = [part["module"] for pattern in self.patterns for part in pattern.parts]  # type: ignore[union-attr]
        calls: dict[str, list[Tensor]] = {name: [] for name in modules}
        hooks = [
            self.network.get_submodule(name).register_forward_hook(
                lambda _module, _args, output, kept=kept: kept.append(first_tensor(output).clone())
            )
            for name, kept in calls.items()
        ]
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return {layer: pattern(calls) for layer, pattern in zip(self.layers, self.patterns, strict=True)}


class Pattern(nn.Module):
    """The read-out of one layer: pool the outputs of its modules, join them, z-score the channels, project.

    Parameters
    ----------
    parts : list of mapping
        For each module of the layer: its name (``module``), the call to read if it runs several times (``step``), and
        how its output is pooled: ``pool`` is ``"flatten"``, ``"mean"`` (over the dimensions ``over``, without the first
        ``skip`` tokens), ``"token"`` (the first token) or ``"grid"`` (the mean in each of ``cells`` x ``cells`` cells
        of the dimensions ``over``).
    n_channels : int
        Number of channels after pooling; only needed for the z-scores and the projection.
    standardise : bool
        Whether channels are z-scored with the mean and standard deviation of the training stimuli.
    n_projected : int, optional
        Number of channels after the linear projection; None for no projection.
    weighted : bool
        Whether each channel is multiplied by a weight (the absolute value of `weight`) instead of a projection.

    Examples
    --------
    >>> pattern = Pattern([{"module": "a", "step": -1, "pool": "mean", "over": [2, 3], "skip": 0}], 8, True, 2)
    >>> pattern({"a": [torch.rand(5, 8, 4, 4)]}).shape
    torch.Size([5, 2])
    """

    mean: Tensor | None
    std: Tensor | None

    def __init__(
        self,
        parts: list[dict[str, Any]],
        n_channels: int = 0,
        standardise: bool = False,
        n_projected: int | None = None,
        weighted: bool = False,
    ) -> None:
        super().__init__()
        self.parts = parts
        self.register_buffer("mean", torch.zeros(n_channels) if standardise else None)
        self.register_buffer("std", torch.ones(n_channels) if standardise else None)
        self.weighted = weighted
        shape = (n_channels,) if weighted else None if n_projected is None else (n_projected, n_channels)
        self.weight = None if shape is None else nn.Parameter(torch.zeros(shape))

    def forward(self, calls: Mapping[str, list[Tensor]]) -> Tensor:
        """Return the patterns (n, n_channels) from the outputs of modules, by name and call."""
        pattern = torch.cat([pooled(calls[part["module"]][part["step"]], **part) for part in self.parts], dim=1)
        if self.mean is not None and self.std is not None:
            pattern = (pattern - self.mean) / self.std
        if self.weight is None:
            return pattern
        return pattern * self.weight.abs() if self.weighted else nn.functional.linear(pattern, self.weight)


def pooled(
    output: Tensor, pool: str, over: tuple[int, ...] = (), skip: int = 0, cells: int = 0, **_others: Any
) -> Tensor:
    """Pool the output (n, ...) of a module to patterns (n, n_channels).

    Examples
    --------
    >>> pooled(torch.ones(5, 8, 4, 4), "mean", over=(2, 3)).shape
    torch.Size([5, 8])
    """
    if pool == "flatten":
        return output[:, None] if output.ndim == 1 else output.flatten(1)
    if pool == "token":
        return output[:, 0]
    output = output[:, skip:] if skip else output
    if pool == "grid":
        return grid(output, over, cells).flatten(1)
    mean = output.mean(dim=tuple(over))
    rounding = 16 * torch.finfo(output.dtype).eps * output.detach().abs().mean(dim=tuple(over))
    return torch.where(mean.abs() > rounding, mean, torch.zeros_like(mean))  # rounding errors are not a pattern


def grid(output: Tensor, over: tuple[int, ...], cells: int) -> Tensor:
    """Average the output in each of a number of cells along each dimension ``over``; tokens are first made a square.

    Examples
    --------
    >>> grid(torch.ones(5, 8, 6, 6), (2, 3), 2).shape, grid(torch.ones(5, 36, 8), (1,), 2).shape
    (torch.Size([5, 8, 2, 2]), torch.Size([5, 2, 2, 8]))
    """
    if len(over) == 1 and output.ndim == 3:
        side = math.isqrt(output.shape[1])
        output, over = output.unflatten(1, (side, side)), (1, 2)
    for d in over:
        if (n := output.shape[d]) > cells:
            position, cell = torch.arange(n)[:, None], torch.arange(cells)
            inside = (position >= cell * n // cells) & (position < -(-(cell + 1) * n // cells))
            output = (output.movedim(d, -1) @ (inside / inside.sum(0)).to(output)).movedim(-1, d)
    return output


def first_tensor(output: object) -> Tensor:
    """Return the first tensor of real numbers in the output of a module, which may be a tuple, list, dict or dataclass.

    Examples
    --------
    >>> first_tensor({"loss": torch.tensor(0.5), "hidden": torch.ones(2, 3)}).shape
    torch.Size([2, 3])
    """
    waiting = [output]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, Tensor):
            if found.ndim and found.is_floating_point():
                return found
        elif isinstance(found, Mapping):
            waiting = [*found.values(), *waiting]
        elif isinstance(found, list | tuple):
            waiting = [*found, *waiting]
        elif hasattr(found, "__dataclass_fields__"):
            waiting = [*(getattr(found, name) for name in found.__dataclass_fields__), *waiting]
    raise TypeError(f"the output, {type(output).__name__}, holds no tensor of real numbers")
