"""Images that are nearly the same: mirrored, compressed again, resized, shifted a little, or brighter.

If one of two such images is trained on and the other held out, a student scores above chance on noise. Each image
becomes a fingerprint: grey, 32 x 32 pixels, band-passed (differences of Gaussians of 0.8 and 3 pixels), of length 1.
The distance of two images is 1 minus the correlation of their fingerprints, or of one and the mirrored other, after the
best shift of at most 4 pixels (an eighth of the image). So that not all pairs need to be shifted, only the 20 nearest
neighbours of each image are compared: those with similar amplitudes of spatial frequencies, which neither shifts nor
mirroring change. Two images are nearly the same if their distance is below 0.15, and below a quarter of the median
distance of either to its 20 neighbours, because in some sets (digits) all images resemble each other; or if it is below
0.005. So of more than 10 nearly equal images, some pairs may not be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from brainrdl.stimuli.named_images import Stimuli
_NEAR, _SHARE, _SURE = 0.15, 0.25, 0.005  # see above

_SIDE, _SHIFT, _NEIGHBOURS, _FINE, _COARSE, _LOWEST = 32, 4, 20, 0.8, 3.0, 11

_FEW = 6  # images, too few to say how different images usually are

_SMALLEST = 16  # pixels; smaller images have too little detail to say that they are the same

_MOST = 20_000  # images; the search would take minutes

_CHUNK = 2000


@dataclass(frozen=True)
class Seen:
    """What was found about the images of a set, which all selections of it share.

    Examples
    --------
    >>> Seen().reported
    set()
    """

    prints: dict[int, Tensor] = field(default_factory=dict)
    pairs: dict[tuple[str, ...], pd.DataFrame] = field(default_factory=dict)
    reported: set[tuple[str, str]] = field(default_factory=set)
    # pairs with other sets, which are kept, so that their numbers (id) are not used again
    between: dict[int, tuple[Seen, dict[tuple[tuple[str, ...], ...], pd.DataFrame]]] = field(default_factory=dict)


def similar_images(stimuli: Stimuli, *, at_most: int = _MOST) -> pd.DataFrame:
    """Find pairs of images that are nearly the same: mirrored, compressed, resized, shifted or brighter copies.

    Parameters
    ----------
    stimuli : Stimuli
        Images of at least 16 pixels; of smaller ones none are found. The images as they are stored are compared,
        without their transform.
    at_most : int
        Number of images above which none are found. Time grows with the square of the number, and about 20 KB of
        memory are needed per image.

    Returns
    -------
    pandas.DataFrame
        Columns first, second (names, in the order of the stimuli) and similarity (correlation, 0.85 to 1), the most
        similar pair first. Byte-identical images are among them.

    Raises
    ------
    BrainrdlError
        If an image cannot be read.

    Examples
    --------
    >>> from brainrdl.stimuli import Stimuli
    >>> images = torch.rand(3, 1, 32, 32)
    >>> images[2] = images[0].flip(-1)
    >>> found = similar_images(Stimuli.from_arrays(images, ["cat", "dog", "mirrored cat"]))
    >>> found[["first", "second"]].values.tolist()
    [['cat', 'mirrored cat']]
    """
    columns = ["first", "second", "similarity"]
    if not 1 < len(stimuli) <= at_most or not stimuli.has_images:
        return pd.DataFrame(columns=columns)
    if stimuli.names not in stimuli.seen.pairs:
        stimuli.seen.pairs[stimuli.names] = _table(stimuli, columns)
    return stimuli.seen.pairs[stimuli.names].copy()


def _table(stimuli: Stimuli, columns: list[str]) -> pd.DataFrame:
    prints = stimuli.fingerprints()
    kept = prints.flatten(1).any(1).nonzero().flatten().tolist()  # others are uniform, or too small
    names = [stimuli.names[place] for place in kept]
    found = sorted(_similar_pairs(prints[kept]), key=lambda pair: -pair[2])
    return pd.DataFrame([(names[i], names[j], similarity) for i, j, similarity in found], columns=columns)


def similar_between(first: Stimuli, second: Stimuli) -> pd.DataFrame:
    """Find images of one set that are nearly the same as images of another, as `similar_images` does within a set.

    Parameters
    ----------
    first, second : Stimuli
        Two sets, together at most 20,000 images; of more none are found.

    Returns
    -------
    pandas.DataFrame
        Columns first, second (names) and similarity (correlation, 0.85 to 1), the most similar pair first.

    Raises
    ------
    BrainrdlError
        If an image cannot be read.

    Examples
    --------
    >>> from brainrdl.stimuli import Stimuli
    >>> images = torch.rand(2, 1, 32, 32)
    >>> first = Stimuli.from_arrays(images, ["a", "b"])
    >>> found = similar_between(first, Stimuli.from_arrays(images[1:].flip(-1), ["mirrored b"]))
    >>> found[["first", "second"]].values.tolist()
    [['b', 'mirrored b']]
    """
    columns = ["first", "second", "similarity"]
    if len(first) + len(second) > _MOST or not (first.has_images and second.has_images):
        return pd.DataFrame(columns=columns)
    key = (first.names, second.names)
    with_second = first.seen.between.setdefault(id(second.seen), (second.seen, {}))[1]
    if key not in with_second:
        with_second[key] = _table_between(first, second, columns)
    return with_second[key].copy()


def _table_between(first: Stimuli, second: Stimuli, columns: list[str]) -> pd.DataFrame:
    prints = torch.cat([first.fingerprints(), second.fingerprints()])
    kept = prints.flatten(1).any(1).nonzero().flatten().tolist()
    found = [(kept[i], kept[j], similarity) for i, j, similarity in _similar_pairs(prints[kept])]
    between = sorted((pair for pair in found if pair[0] < len(first) <= pair[1]), key=lambda pair: -pair[2])
    return pd.DataFrame([(first.names[i], second.names[j - len(first)], r) for i, j, r in between], columns=columns)


def groups_of_similar(stimuli: Stimuli, *, at_most: int = _MOST) -> dict[str, str]:
    """Return the group of each image that is nearly the same as another, to use as ``groups=``.

    Parameters
    ----------
    stimuli : Stimuli
    at_most : int
        As in `similar_images`.

    Returns
    -------
    dict of str to str
        For each image in a pair of `similar_images`, the first image that it is linked to by such pairs.

    Examples
    --------
    >>> from brainrdl.stimuli import Stimuli
    >>> images = torch.rand(3, 1, 32, 32)
    >>> images[2] = images[0].flip(-1)
    >>> groups_of_similar(Stimuli.from_arrays(images, ["cat", "dog", "mirrored cat"]))
    {'cat': 'cat', 'mirrored cat': 'cat'}
    """
    found = similar_images(stimuli, at_most=at_most)
    return linked(zip(found["first"], found["second"], strict=True), stimuli.names)


def linked(pairs: Iterable[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Return for each name in a pair the first of `names` that it is linked to.

    Examples
    --------
    >>> linked([("b", "c"), ("a", "c")], "abcd")
    {'a': 'a', 'b': 'a', 'c': 'a'}
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = {name: k for k, name in enumerate(names)}
    listed = [(place[a], place[b]) for a, b in pairs]
    if not listed:
        return {}
    rows, columns = zip(*listed, strict=True)
    _, component = connected_components(coo_array(([1] * len(rows), (rows, columns)), shape=(len(place),) * 2), False)
    first: dict[int, str] = {}
    for k, name in enumerate(names):
        first.setdefault(component[k], name)
    return {names[k]: first[component[k]] for k in sorted({*rows, *columns})}


def fingerprints(images: Iterable[Tensor]) -> Float[Tensor, "n 32 32"]:
    """Return the fingerprint of each image; zeros if it is uniform or smaller than 16 pixels.

    Parameters
    ----------
    images : iterable of Tensor, each (c, h, w)
        Pixels, uint8 or float.

    Examples
    --------
    >>> fingerprints([torch.rand(3, 40, 60), torch.ones(1, 40, 40)]).flatten(1).norm(dim=1).round().tolist()
    [1.0, 0.0]
    """
    from torch.nn.functional import interpolate

    def small(pixels: Tensor) -> Tensor:
        if min(pixels.shape[-2:]) < _SMALLEST:
            return torch.zeros(_SIDE, _SIDE)
        grey = pixels.detach().to("cpu", torch.float32).mean(0)[None, None]
        return interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)[0, 0]

    grey = torch.stack([small(pixels) for pixels in images])
    grey = grey / grey.abs().amax((-2, -1), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    fine, coarse = _blur(_FINE), _blur(_COARSE)
    found = fine @ grey @ fine.mT - coarse @ grey @ coarse.mT
    found = found - found.mean((-2, -1), keepdim=True)
    norm = found.norm(dim=(-2, -1), keepdim=True)
    return torch.where(norm > 1e-4, found / norm, 0.0)


def _blur(width: float) -> Float[Tensor, "32 32"]:
    """Return the matrix that blurs columns with a Gaussian, renormalised at the edges."""
    place = torch.arange(_SIDE, dtype=torch.float32)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * width**2))
    normalised: Tensor = weights / weights.sum(1, keepdim=True)
    return normalised


def _similar_pairs(prints: Float[Tensor, "n 32 32"]) -> list[tuple[int, int, float]]:
    """Return positions of similar pairs, and their correlations."""
    n = len(prints)
    if n < 2:
        return []
    amplitudes = _amplitudes(prints)
    rows = max(1, _CHUNK * _MOST // max(n, _MOST))
    near = torch.cat([_nearest(amplitudes, start, rows) for start in range(0, n, rows)])
    first, second = torch.arange(n).repeat_interleave(near.shape[1]), near.flatten()
    parts = zip(first.split(_CHUNK), second.split(_CHUNK), strict=True)
    distances = torch.cat([1 - _shifted(prints[i], prints[j]) for i, j in parts])
    usual = distances.view(n, -1).median(1).values if n >= _FEW else torch.full((n,), torch.inf)
    bound = (_SHARE * torch.minimum(usual[first], usual[second])).clamp(_SURE, _NEAR)
    found = {
        (min(i, j), max(i, j)): min(1 - distance, 1.0)
        for i, j, distance in zip(
            *(each[distances < bound].tolist() for each in (first, second, distances)), strict=True
        )
    }
    return [(i, j, similarity) for (i, j), similarity in found.items()]


def _nearest(amplitudes: Float[Tensor, "n n_frequencies"], start: int, rows: int) -> Int[Tensor, "n_rows n_neighbours"]:
    """Return the positions of the nearest neighbours of some images, without themselves."""
    near = amplitudes[start : start + rows] @ amplitudes.mT
    near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -torch.inf
    return near.topk(min(_NEIGHBOURS, len(amplitudes) - 1), dim=1).indices


def _amplitudes(prints: Float[Tensor, "n 32 32"]) -> Float[Tensor, "n n_frequencies"]:
    """Return the amplitudes of low spatial frequencies, of an image and its mirror image together, of length 1."""
    spectrum = torch.fft.fft2(prints).abs()[..., :_LOWEST]
    mirrored = spectrum + spectrum.flip(-2).roll(1, -2)  # frequencies (-u, v) and (u, v)
    roots = mirrored[:, :_LOWEST].sqrt().flatten(1)
    roots = roots - roots.mean(1, keepdim=True)
    scaled: Tensor = roots / roots.norm(dim=1, keepdim=True)
    return scaled


def _shifted(a: Float[Tensor, "n 32 32"], b: Float[Tensor, "n 32 32"]) -> Float[Tensor, " n"]:
    """Return the largest correlation of two fingerprints over shifts and mirroring."""
    spectrum = torch.fft.rfft2(a)

    def best(other: Tensor) -> Tensor:
        products = torch.fft.irfft2(spectrum * torch.fft.rfft2(other).conj(), s=(_SIDE, _SIDE))
        width = 2 * _SHIFT + 1
        largest: Tensor = products.roll((_SHIFT, _SHIFT), (-2, -1))[:, :width, :width].amax((-2, -1))
        return largest

    return torch.maximum(best(b), best(b.flip(-1)))
