"""One row per image: the output of a layer for n images has n rows, and row i depends on image i, and on it alone.

A layer may break this rule in two ways. Its first dimension may not be that of the images (sequence-first transformers
and LSTMs, windows or frames as batch), which the number of rows shows unless it happens to equal the number of images.
Or each row may mix the images of a batch (a transformer with ``batch_first=False`` whose input is (images, tokens,
channels) attends over images). Both are found with a probe: two passes with another number of images, in which one
image stays and the others change. The row of that image must stay as well. A second probe has as many images as the
pass, up to 16, for layers that mix only batches of some sizes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import quote, refuse
from brainrdl.stimuli.inputs import Images, Inputs

_WAY_OUT = (
    "choose a layer whose output is (images, ...), or put the network into a module that brings the images to the "
    "first dimension (for example batch_first=True)"
)

# Where the image that stays is in the probe.
_KEPT, _MOVED = 1, 0  # places of the image that both batches of a probe have in common

_MOST = 16  # images in a probe

# Relative to the norm of a row. Both passes of a probe have the same shape, so that only true mixing exceeds this.
_ROUNDING = 1e-4

# Relative to the largest value of a unit over the images of a probe: small units are tested beside large ones.
_ROUNDING_OF_UNIT = 1e-3

# Sums that nearly cancel leave units that are small beside the others, and their rounding may be larger than that.
# Changes below the first share of the median unit count only if they exceed the second share of their own unit.
_SMALL, _ROUNDING_OF_SMALL = 1e-5, 0.05

# Relative to the largest value. The epsilon of float32 is 1.2e-7.
_EQUAL = 1e-6


def count_problem(output: Tensor, n_images: int) -> str:
    """Say what is wrong with the number of rows of an output, or return an empty string.

    Parameters
    ----------
    output : Tensor
        Output of a layer.
    n_images : int
        Number of images in the pass.

    Returns
    -------
    str

    Examples
    --------
    >>> count_problem(torch.zeros(9, 4, 8), 4)
    'gives 9 rows for 4 images, shape (9, 4, 8)'
    >>> count_problem(torch.zeros(4, 9, 8), 4)
    ''
    """
    rows = output.shape[0] if output.ndim else 0
    images = "1 image" if n_images == 1 else f"{n_images} images"
    return "" if rows == n_images else f"gives {rows} rows for {images}, shape {tuple(output.shape)}"


def check_count(layer: str, output: Tensor, n_images: int) -> None:
    """Refuse an output that does not have one row per image.

    Parameters
    ----------
    layer : str
        Name of the layer.
    output : Tensor
        Its output.
    n_images : int
        Number of images in the pass.

    Raises
    ------
    BrainrdlError
        If the first dimension is not `n_images`.

    Examples
    --------
    >>> check_count("encoder", torch.zeros(9, 4, 8), 4)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layer 'encoder' gives 9 rows for 4 images, shape (9, 4, 8), but each image needs one ...
    """
    problem = count_problem(output, n_images)
    if problem:
        refuse(f"layer {layer!r} {problem}, but each image needs one row; {_WAY_OUT}")


def probe_sizes(n_images: int) -> tuple[int, ...]:
    """Return the numbers of images of the probes of a pass: another number first, then the same, up to 16.

    Examples
    --------
    >>> probe_sizes(1), probe_sizes(3), probe_sizes(8), probe_sizes(256)
    ((3,), (4, 3), (3, 8), (3, 16))
    """
    other = 4 if n_images == 3 else 3
    return (other,) if n_images < 2 else (other, min(n_images, _MOST))


def probe_images(images: Images, n: int) -> tuple[Images, Images]:
    """Return two batches of n images that have one image in common.

    Parameters
    ----------
    images : Tensor, shape (n_images, ...), or Inputs
        At least one image.
    n : int
        At least 2.

    Returns
    -------
    tuple of Tensor, shape (n, ...), or of Inputs
        The second image of the first batch is the first image of the second batch; the others differ.

    Examples
    --------
    >>> first, second = probe_images(torch.rand(3, 1, 4, 4), 4)
    >>> first.shape, torch.equal(first[1], second[0]), torch.equal(first[1], second[1])
    (torch.Size([4, 1, 4, 4]), True, False)
    """
    generator = torch.Generator().manual_seed(0)
    chosen = images[[0, len(images) - 1] + [0] * (n - 2)]
    if not isinstance(chosen, Inputs):
        return _probe_pair(chosen, generator)
    pairs = {name: _probe_pair(tensor, generator) for name, tensor in chosen.tensors.items()}
    first, second = ({name: pair[k] for name, pair in pairs.items()} for k in (0, 1))
    return Inputs(first), Inputs(second)


def _probe_pair(first: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    first = first.detach()
    low, high = first.amin(), first.amax()
    if first.is_floating_point():
        noise = torch.rand(first.shape, generator=generator).to(first)
        second = low + noise * (high - low if high > low else 1)
    else:  # token ids and masks; others may not be known to the network
        second = torch.randint(int(low), int(high) + 1, first.shape, generator=generator).to(first)
    second[_MOVED] = first[_KEPT]
    return first, second


def mixes_images(first: Tensor, second: Tensor) -> bool:
    """Say whether the row of the image that both batches of a probe share depends on the other images or on its place.

    Parameters
    ----------
    first, second : Tensor, shape (n, ...)
        Outputs of a layer for the two batches of `probe_images`.

    Returns
    -------
    bool

    Examples
    --------
    >>> first, second = probe_images(torch.rand(5, 1, 4, 4), 3)
    >>> mixes_images(first * 2, second * 2), mixes_images(first - first.mean(0), second - second.mean(0))
    (False, True)
    """
    sizes = _unit_sizes(first).maximum(_unit_sizes(second)) if first.shape == second.shape else _unit_sizes(first)
    return _changed(first[_KEPT], second[_MOVED], sizes)


def differ(one: Tensor, other: Tensor) -> bool:
    """Say whether two outputs for the same images differ by more than rounding, as a whole or in one unit.

    Parameters
    ----------
    one, other : Tensor, shape (n, ...)

    Returns
    -------
    bool

    Examples
    --------
    >>> rows = torch.tensor([[1e6, 1.0], [2e6, 2.0]])
    >>> differ(rows, rows * (1 + 1e-7)), differ(rows, torch.tensor([[1e6, 2.0], [2e6, 1.0]]))
    (False, True)
    """
    return _changed(one, other, _unit_sizes(one))


def _unit_sizes(output: Tensor) -> Tensor:
    """Largest absolute value of each unit over the images."""
    return output.abs().nan_to_num().amax(0)


def _changed(one: Tensor, other: Tensor, sizes: Tensor) -> bool:
    if one.shape != other.shape:
        return True
    change, row = (one - other).abs().nan_to_num(), one.abs().nan_to_num()
    if change.double().norm() > _ROUNDING * row.double().norm():
        return True
    usual = sizes[sizes > 0].median() if sizes.any() else 0.0
    share = torch.where(change > _SMALL * usual, _ROUNDING_OF_UNIT, _ROUNDING_OF_SMALL)
    return bool((change > share * sizes).any())


def refuse_mixing(layer: str, output: Tensor) -> None:
    """Refuse a layer whose rows depend on several images.

    Raises
    ------
    BrainrdlError
        Always.

    Examples
    --------
    >>> refuse_mixing("encoder", torch.zeros(3, 9, 8))
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layer 'encoder', shape (3, 9, 8) for 3 images, gives an image another row when the other ...
    """
    refuse(
        f"layer {layer!r}, shape {tuple(output.shape)} for {len(output)} images, gives an image another row when the "
        f"other images in the batch or its place change, so its rows are not patterns of single images; {_WAY_OUT}"
    )


def same_for_all(patterns: Float[Tensor, "n n_channels"]) -> bool:
    """Say whether two or more images all have the same pattern, so that their RDM is undefined.

    Parameters
    ----------
    patterns : Tensor, shape (n, n_channels)

    Returns
    -------
    bool
        Differences within the rounding of float32 do not count.

    Examples
    --------
    >>> same_for_all(torch.ones(4, 3)), same_for_all(torch.eye(3)), same_for_all(torch.ones(1, 3))
    (True, False, False)
    """
    change = (patterns - patterns[:1]).detach().abs().amax() if patterns.numel() else torch.zeros(())
    return len(patterns) > 1 and bool(change <= _EQUAL * patterns.detach().abs().amax())


def check_finite_rows(patterns: Mapping[str, Float[Tensor, "n n_channels"]], names: Sequence[str]) -> None:
    """Refuse patterns with NaN or Inf, whose dissimilarities are undefined.

    Parameters
    ----------
    patterns : mapping of str to Tensor, shape (n, n_channels)
        Patterns of each layer.
    names : sequence of str
        The n conditions.

    Raises
    ------
    BrainrdlError
        With the layer and the first of the conditions.

    Examples
    --------
    >>> check_finite_rows({"fc": torch.tensor([[1.0], [torch.nan]])}, ["a", "b"])
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layer 'fc' gives NaN or Inf for condition 'b' (1 of 2 conditions), so its RDM ...
    """
    for layer, found in patterns.items():
        bad = (~torch.isfinite(found)).any(1).nonzero().flatten().tolist()
        if bad:
            refuse(
                f"layer {layer!r} gives NaN or Inf for condition {names[bad[0]]!r} ({len(bad)} of {len(names)} "
                "conditions), so its RDM is undefined; check the image and the weights, or lower the learning rate"
            )


def warn_if_same(patterns: Mapping[str, Float[Tensor, "n n_channels"]]) -> None:
    """Warn about each layer whose pattern is the same for all images.

    Parameters
    ----------
    patterns : mapping of str to Tensor, shape (n, n_channels)
        Patterns of each layer.

    Warns
    -----
    UserWarning
        With the names of the layers.

    Examples
    --------
    >>> warn_if_same({"fc": torch.eye(3)})
    """
    same = [layer for layer, rows in patterns.items() if same_for_all(rows)]
    if same:
        warnings.warn(
            f"layers {quote(same)} give the same pattern for all images, so their RDMs are undefined: a score of them "
            "means nothing; choose other layers, or lower the learning rate if training made them so",
            stacklevel=2,
        )
