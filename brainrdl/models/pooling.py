"""Pooling: from the output of a layer to one pattern per image.

- ``"flatten"`` keeps every unit.
- ``"avgpool"`` averages over all positions (pixels, time points or tokens, class tokens included) and keeps the
  channels. The types of the modules say which dimension holds the channels (see `brainrdl.models.axes`); where they do
  not, the layer is refused.
- ``"avgpool_first"`` and ``"avgpool_last"`` average over all positions, where you know that the channels are the first
  dimension after the images, ``(n, channels, positions...)``, or the last, ``(n, positions..., channels)``.
- ``"grid:4"`` (or any number) averages in each cell of a grid of 4 cells along each dimension of the positions: 4 x 4
  cells of images, 4 of time points. A dimension with fewer positions is kept as it is. Cells are those of torch's
  adaptive average pooling. Of tokens, the patches must form a square; class and register tokens are left out.
- ``"mean"``, ``"patches"`` and ``"cls"`` are for outputs (n, tokens, channels): the mean over all tokens, the mean over
  the patches without class and register tokens, and the class token alone.

Outputs with one number per channel, (n, channels), are kept as they are by all of these.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d

from brainrdl._core.errors import arg, refuse
from brainrdl.models.axes import UNKNOWN, Axes
from brainrdl.models.pools import EXAMPLE, POOLS, check_pool, n_cells

# In units of the precision of the numbers; instance normalisation in float32 leaves means of up to 4.
_ROUNDING = 16


def pool_patterns(
    output: Tensor,
    pool: str = "flatten",
    axes: Axes = UNKNOWN,
    *,
    layer: str = "",
    of: str = "student",
) -> Float[Tensor, "n n_channels"]:
    """Pool the output of a layer to one pattern per image.

    Parameters
    ----------
    output : Tensor, shape (n, ...)
        Output of the layer, any unit.
    pool : str
        One of `POOLS`; the module's docstring explains them.
    axes : Axes
        What the dimensions of `output` hold, as `Captured.axes` says.
    layer : str, optional
        Name of the layer in error messages.
    of : str
        Whose pooling a message advises: ``"student"`` or ``"teacher"``.

    Returns
    -------
    Tensor, shape (n, n_channels)
        The patterns, in the unit of `output`. Of complex numbers, first all real and then all imaginary parts.

    Raises
    ------
    BrainrdlError
        If `pool` is unknown, or is not possible for this output, or needs a dimension that `axes` does not tell; the
        message lists the choices.

    Examples
    --------
    >>> pool_patterns(torch.ones(2, 3, 4, 4)).shape, pool_patterns(torch.ones(2, 3, 4, 4), "avgpool", Axes(1)).shape
    (torch.Size([2, 48]), torch.Size([2, 3]))
    >>> pool_patterns(torch.ones(2, 197, 64), "patches", Axes(channels=2, prefix=1, class_token=True)).shape
    torch.Size([2, 64])
    """
    check_pool(pool)
    if output.is_complex():
        parts = (output.real, output.imag)
        return torch.cat([pool_patterns(part, pool, axes, layer=layer, of=of) for part in parts], dim=1)
    if pool == "flatten" or output.ndim < 3:
        return output[:, None] if output.ndim == 1 else output.flatten(1)
    shape = tuple(output.shape[1:])
    problem = _problem(pool, shape, axes)
    if problem:
        _refuse(problem, pool, shape, axes, layer, of)
    if pool == "cls":
        return output[:, 0]
    output = output if output.is_floating_point() else output.float()  # whole numbers have means that are not whole
    if pool == "patches":
        return _mean(output[:, axes.prefix :], [1])
    cells = n_cells(pool)
    if cells:
        return _grid(output, cells, axes)
    channels = _channels(pool, shape, axes)
    return _mean(output, [d for d in range(1, output.ndim) if d != channels])


def _grid(output: Tensor, cells: int, axes: Axes) -> Tensor:
    """Average in each cell: by torch where it is reproducible, elsewhere by a product for each dimension."""
    if _are_tokens(tuple(output.shape[1:]), axes):
        patches = output[:, axes.prefix :]
        side = math.isqrt(patches.shape[1])
        output, axes = patches.unflatten(1, (side, side)), Axes(3)
    if output.ndim == 4 and axes.channels in (1, 3) and output.numel():
        maps = output.movedim(axes.channels, 1)
        pooled = _pooled_maps(maps, cells)
        if pooled is not None:
            return pooled.movedim(1, axes.channels).flatten(1)
    for d in range(1, output.ndim):
        if d != axes.channels and output.shape[d] > cells:
            weights = _cell_weights(output.shape[d], cells).to(output)
            output = (output.movedim(d, -1) @ weights).movedim(-1, d)
    return output.flatten(1)


def _pooled_maps(maps: Tensor, cells: int) -> Tensor | None:
    """Pool maps (n, channels, height, width); None if torch has no reproducible way, or they are small enough."""
    sizes = maps.shape[2:]
    if max(sizes) <= cells:
        return None
    if all(n <= cells or n % cells == 0 for n in sizes):
        return avg_pool2d(maps, [max(n // cells, 1) for n in sizes])
    if maps.device.type == "cpu":  # on GPUs, the gradient of adaptive pooling is another one each time
        return adaptive_avg_pool2d(maps, (min(sizes[0], cells), min(sizes[1], cells)))
    return None


def _cell_weights(n: int, cells: int) -> Tensor:
    """Weights of `n` positions in each cell, which covers positions floor(k n / cells) to ceil((k + 1) n / cells)."""
    position, cell = torch.arange(n)[:, None], torch.arange(cells)
    inside = (position >= cell * n // cells) & (position < -(-(cell + 1) * n // cells))
    return inside / inside.sum(0)


def _are_tokens(shape: tuple[int, ...], axes: Axes) -> bool:
    return len(shape) == 2 and axes.channels == 2


def _mean(output: Tensor, dim: list[int]) -> Tensor:
    """Average over positions; a mean within the rounding errors of its terms is 0 (instance normalisation)."""
    mean = output.mean(dim=dim)
    rounding = _ROUNDING * torch.finfo(output.dtype).eps * output.detach().abs().mean(dim=dim)
    return torch.where(mean.abs() > rounding, mean, torch.zeros_like(mean))


def _channels(pool: str, shape: tuple[int, ...], axes: Axes) -> int | None:
    given = {"avgpool_first": 1, "avgpool_last": len(shape), "mean": len(shape)}
    return given.get(pool, axes.channels)


def _problem(pool: str, shape: tuple[int, ...], axes: Axes) -> str:
    """Say why an output cannot be pooled in this way, or return an empty string."""
    if (pool == "avgpool" or n_cells(pool)) and axes.channels is None:
        return "which dimension holds the channels is not known from the types of its modules"
    if pool in ("avgpool", "avgpool_first", "avgpool_last"):
        return ""
    if n_cells(pool):
        return _grid_problem(shape, axes)
    if len(shape) != 2 or axes.channels not in (None, 2):
        return "it has no tokens, (tokens, channels)"
    if pool == "mean":
        return ""
    if axes.prefix is None:
        return f"which of its {shape[0]} tokens are class tokens is not known"
    return "it has no class token" if pool == "cls" and not axes.class_token else ""


def _grid_sizes(shape: tuple[int, ...], axes: Axes) -> list[int]:
    """Return the number of positions along each dimension."""
    if _are_tokens(shape, axes):
        return [math.isqrt(shape[0] - (axes.prefix or 0))] * 2
    return [size for d, size in enumerate(shape, 1) if d != axes.channels]


def _grid_problem(shape: tuple[int, ...], axes: Axes) -> str:
    if not _are_tokens(shape, axes):
        return ""
    if axes.prefix is None:
        return f"how many of its {shape[0]} tokens are class tokens is not known"
    n = shape[0] - axes.prefix
    return "" if math.isqrt(n) ** 2 == n else f"its {n} patches do not form a square"


def possible_pools(shape: tuple[int, ...], axes: Axes) -> dict[str, str]:
    """List the ways to pool an output, and say in words what each gives.

    Parameters
    ----------
    shape : tuple of int
        Shape of the output for one image.
    axes : Axes
        What the dimensions hold; the images are dimension 0.

    Returns
    -------
    dict of str to str
        ``"avgpool_first"`` and ``"avgpool_last"`` are listed only if ``"avgpool"`` is not possible.

    Examples
    --------
    >>> possible_pools((768, 7, 7), Axes(channels=1))
    {'flatten': '37632 units', 'avgpool': 'mean over 7 x 7 positions of 768 channels', 'grid:4': 'mean in each ...'}
    >>> possible_pools((197, 64), Axes(channels=2, prefix=1, class_token=True))["patches"]
    'mean over 196 patches of 64 channels'
    """
    units = math.prod(shape)
    if len(shape) < 2:
        return {"flatten": f"{units} units"}
    coarser = max(_grid_sizes(shape, axes)) > n_cells(EXAMPLE)
    ways = [*POOLS[1:-1], EXAMPLE] if coarser else POOLS[1:-1]
    possible = [pool for pool in ways if not _problem(pool, shape, axes)]
    explicit = {"avgpool_first", "avgpool_last"} if "avgpool" in possible else {"mean"}
    kept = [pool for pool in possible if pool not in explicit]
    return {"flatten": f"{units} units"} | {pool: _in_words(pool, shape, axes) for pool in kept}


def _in_words(pool: str, shape: tuple[int, ...], axes: Axes) -> str:
    if pool == "cls":
        return f"class token, {shape[1]} channels"
    if cells := n_cells(pool):
        kept = " x ".join(str(min(size, cells)) for size in _grid_sizes(shape, axes))
        return f"mean in each of {kept} cells, {shape[(axes.channels or 1) - 1]} channels"
    if pool == "patches":
        return f"mean over {shape[0] - (axes.prefix or 0)} patches of {shape[1]} channels"
    channels = (_channels(pool, shape, axes) or 1) - 1
    positions = " x ".join(str(size) for d, size in enumerate(shape) if d != channels)
    tokens = len(shape) == 2 and channels == 1
    return f"mean over {positions} {'tokens' if tokens else 'positions'} of {shape[channels]} channels"


def _refuse(problem: str, pool: str, shape: tuple[int, ...], axes: Axes, layer: str, of: str) -> None:
    *others, last = (f"{arg('pool', name, of=of)} ({words})" for name, words in possible_pools(shape, axes).items())
    where = f"the output of layer {layer!r}" if layer else "an output"
    refuse(
        f"{where}, of shape {shape} for each image, cannot be pooled by {pool!r}: {problem}; choose "
        f"{', '.join(others)} or {last}"
    )
