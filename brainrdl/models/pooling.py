"""Pooling: from the output of a layer to one pattern per image.

- ``"flatten"`` keeps every unit.
- ``"avgpool"`` averages over all positions (pixels, time points or tokens, class tokens included) and keeps the
  channels. The types of the modules say which dimension holds the channels (see `brainrdl.models.axes`); where they do
  not, the layer is refused.
- ``"avgpool_first"`` and ``"avgpool_last"`` average over all positions, where you know that the channels are the first
  dimension after the images, ``(n, channels, positions...)``, or the last, ``(n, positions..., channels)``.
- ``"mean"``, ``"patches"`` and ``"cls"`` are for outputs (n, tokens, channels): the mean over all tokens, the mean over
  the patches without class and register tokens, and the class token alone.

Outputs with one number per channel, (n, channels), are kept as they are by all of these.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import arg, check_option, refuse
from brainrdl.models.axes import UNKNOWN, Axes

# In units of the precision of the numbers; instance normalisation in float32 leaves means of up to 4.
_ROUNDING = 16

POOLS = ("flatten", "avgpool", "avgpool_first", "avgpool_last", "mean", "patches", "cls")


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
    check_option(pool, POOLS, "pool")
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
    if pool == "patches":
        return _mean(output[:, axes.prefix :], [1])
    channels = _channels(pool, shape, axes)
    return _mean(output, [d for d in range(1, output.ndim) if d != channels])


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
    if pool == "avgpool" and axes.channels is None:
        return "which dimension holds the channels is not known from the types of its modules"
    if pool in ("avgpool", "avgpool_first", "avgpool_last"):
        return ""
    if len(shape) != 2 or axes.channels not in (None, 2):
        return "it has no tokens, (tokens, channels)"
    if pool == "mean":
        return ""
    if axes.prefix is None:
        return f"which of its {shape[0]} tokens are class tokens is not known"
    return "it has no class token" if pool == "cls" and not axes.class_token else ""


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
    {'flatten': '37632 units', 'avgpool': 'mean over 7 x 7 positions of 768 channels'}
    >>> possible_pools((197, 64), Axes(channels=2, prefix=1, class_token=True))["patches"]
    'mean over 196 patches of 64 channels'
    """
    units = math.prod(shape)
    if len(shape) < 2:
        return {"flatten": f"{units} units"}
    possible = [pool for pool in POOLS if pool != "flatten" and not _problem(pool, shape, axes)]
    explicit = {"avgpool_first", "avgpool_last"} if "avgpool" in possible else {"mean"}
    kept = [pool for pool in possible if pool not in explicit]
    return {"flatten": f"{units} units"} | {pool: _in_words(pool, shape, axes) for pool in kept}


def _in_words(pool: str, shape: tuple[int, ...], axes: Axes) -> str:
    if pool == "cls":
        return f"class token, {shape[1]} channels"
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
