"""Weighted ranks, concordance and soft ranks of pairs, computed by sorting and cumulative sums in O(n_pairs) memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from brainrdl.similarity.inversions import Concordance, count_concordance
from brainrdl.similarity.pair_sums import centred, dot, mean_of
from brainrdl.similarity.sorting import stable_order

_SMALL = 32  # places compared directly, by a small matrix product; a power of 2

_COUNTED = 256  # pairs from which counting the orders of one RDM after the other is faster than of all at once

_BLOCK = 2**20  # numbers per block, whose memory is reused: 1000 resamples in one block took three times longer


def in_blocks(
    compare: Callable[[Tensor, Tensor, Tensor | None], Tensor], a: Tensor, b: Tensor, weights: Tensor | None
) -> Tensor:
    """Call `compare` for one block of weights after the other, if only the weights have a leading dimension."""
    if weights is None or weights.ndim <= max(a.ndim, b.ndim) or len(weights) == 0:
        return compare(a, b, weights)
    size = max(1, _BLOCK * len(weights) // weights.numel())
    return torch.cat([compare(a, b, block) for block in weights.split(size)])


def take(values: Tensor, index: Tensor) -> Tensor:
    """Gather along pairs without copying an expanded index (torch.take_along_dim took six times longer)."""
    batch = np.broadcast_shapes(values.shape[:-1], index.shape[:-1])
    return values.expand(*batch, -1).gather(-1, index.expand(*batch, -1))


def cumulative(values: Tensor) -> Tensor:
    """Sum of the first k values, k = 0 ... n."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))


def sorted_edges(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sort each vector: the order, and for each place the numbers of smaller, and of smaller or equal, values.

    NumPy sorts several times faster than torch on a processor; elsewhere, sorted values are looked up among themselves.
    """
    x = x.detach()
    if x.device.type != "cpu":
        ordered, order = x.sort(dim=-1)
        return order, torch.searchsorted(ordered, ordered), torch.searchsorted(ordered, ordered, right=True)
    order, ordered = map(torch.from_numpy, stable_order(x.numpy()))
    places = torch.arange(x.shape[-1]).expand_as(order)
    new = ordered[..., 1:] != ordered[..., :-1]
    if new.all():
        return order, places, places + 1
    first, last = torch.zeros_like(order), torch.full_like(order, x.shape[-1])
    first[..., 1:] = torch.where(new, places[..., 1:], 0)
    last[..., :-1] = torch.where(new, places[..., 1:], x.shape[-1])
    return order, first.cummax(-1).values, last.flip(-1).cummin(-1).values.flip(-1)


def below_and_upto(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """For each pair, sum the weights of pairs with a smaller value, with a smaller or equal value, and of all pairs."""
    order, *edges = sorted_edges(x)
    below, upto = (torch.empty_like(order).scatter_(-1, order, edge) for edge in edges)
    if weights is None:
        return below, upto, upto.new_tensor([x.shape[-1]])
    mass = cumulative(take(weights, order))
    return take(mass, below), take(mass, upto), mass[..., -1:]


def centred_ranks(x: Tensor, weights: Tensor | None) -> Tensor:
    """Twice the midrank minus its mean; exactly centred, because the mean of weighted midranks is (total + 1) / 2."""
    if weights is None:
        order, first, last = sorted_edges(x)
        ranks = (first + last - x.shape[-1]).to(x.dtype)
        return torch.empty_like(ranks).scatter_(-1, order, ranks)
    below, upto, total = below_and_upto(x, weights)
    return (below + upto - total).to(x.dtype)


def concordance(a: Tensor, b: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over i < j of w_i w_j sign(a_i - a_j) sign(b_i - b_j), and the sums of those not tied in a, and in b."""
    if weights is None and a.device.type == "cpu" and a.shape[-1] >= _COUNTED:
        return _counted(a, b)
    weights = a.new_ones(a.shape[-1]) if weights is None else weights
    rank_a, rank_b = below_and_upto(a, None)[0], below_and_upto(b, None)[0]
    joint = rank_a * a.shape[-1] + rank_b
    tied_a, tied_b, tied_both = (_tied_weight(ranks, weights) for ranks in (rank_a, rank_b, joint))
    order = joint.argsort(dim=-1)
    # in the order of a, ties of b are numbered in order, and `joint` orders ties of a by b: neither are inversions
    by_b = take(rank_b, order).argsort(dim=-1, stable=True)
    places = torch.empty_like(by_b).scatter_(-1, by_b, torch.arange(a.shape[-1], device=a.device).expand_as(by_b))
    discordant = inversions(places, take(weights, order))
    # all - tied in a - tied in b + tied in both = concordant + discordant; the tie of a pair with itself cancels
    total = weights.sum(-1) ** 2
    score = (total - tied_a - tied_b + tied_both) / 2 - 2 * discordant
    return score, (total - tied_a) / 2, (total - tied_b) / 2


def _counted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Concordance without weights, of one pair of RDMs after the other; an RDM compared with many is sorted once."""
    batch, n = np.broadcast_shapes(a.shape[:-1], b.shape[:-1]), a.shape[-1]
    values_a, values_b = a.detach().numpy(), b.detach().numpy()
    orders = np.broadcast_to(stable_order(values_a)[0], (*batch, n))
    values_a, values_b = np.broadcast_to(values_a, (*batch, n)), np.broadcast_to(values_b, (*batch, n))
    found = np.zeros((*batch, len(Concordance._fields)))
    for one in np.ndindex(batch):
        found[one] = count_concordance(values_a[one], values_b[one], orders[one])
    score, untied_a, untied_b = torch.from_numpy(found).to(a.dtype).unbind(-1)
    return score, untied_a, untied_b


def _tied_weight(ranks: Tensor, weights: Tensor) -> Tensor:
    """Sum over pairs of the weight times the total weight of the pairs with the same rank."""
    below, upto, _ = below_and_upto(ranks, weights)
    return dot(weights, upto - below)


def inversions(places: Tensor, weights: Tensor) -> Tensor:
    """Sum of w_i w_j over i < j with place_i > place_j, for places 0 ... n - 1.

    Two places differ in a highest bit. Places that share all higher bits form a group in their original order, in which
    half of the places have this bit: an inversion is a 1 before a 0. Groups of `_SMALL` places are compared directly.
    """
    n = places.shape[-1]
    n_bits = max(n - 1, _SMALL - 1).bit_length()
    padding = torch.arange(n, 1 << n_bits, device=places.device)
    places = torch.cat([places, padding.expand(*places.shape[:-1], -1)], -1)
    weights = torch.nn.functional.pad(weights, (0, len(padding)))
    found = weights.new_zeros(())
    for half in (1 << bit for bit in reversed(range(_SMALL.bit_length() - 1, n_bits))):
        places, weights = places.unflatten(-1, (-1, 2 * half)), weights.unflatten(-1, (-1, 2 * half))
        is_one = (places & half) > 0
        ones = weights * is_one
        found = found + dot((weights - ones).flatten(-2), ones.cumsum(-1).flatten(-2))
        n_ones = is_one.cumsum(-1)
        move = torch.where(is_one, half - 1 + n_ones, torch.arange(2 * half, device=places.device) - n_ones)
        places = torch.empty_like(places).scatter_(-1, move, places).flatten(-2)
        weights = torch.empty_like(weights).scatter_(-1, move.expand_as(weights), weights).flatten(-2)
    places, weights = places.unflatten(-1, (-1, _SMALL)), weights.unflatten(-1, (-1, _SMALL))
    inverted = (places[..., :, None] > places[..., None, :]).triu(1).to(weights)
    later = torch.einsum("...gij,...gj->...gi", inverted, weights)
    return found + dot(weights.flatten(-2), later.flatten(-2))


def soft_centred_ranks(x: Tensor, weights: Tensor | None, temperature: float) -> Tensor:
    """Twice the soft rank minus its mean: the weight below a window plus the ramp times the weight within it."""
    x = _standardised(x, weights)
    weights = torch.ones_like(x) if weights is None else weights.to(x.dtype)
    shape = np.broadcast_shapes(x.shape, weights.shape)
    x, weights = x.expand(shape), weights.expand(shape)
    ordered, order = x.sort(dim=-1)
    values, edges = x.detach().contiguous(), ordered.detach()
    low = torch.searchsorted(edges, values - temperature)
    high = torch.searchsorted(edges, values + temperature, right=True)
    mass = cumulative(take(weights, order))
    moment = cumulative(take(weights, order) * ordered)
    below, inside = take(mass, low), take(mass, high) - take(mass, low)
    ramp = (x * inside - take(moment, high) + take(moment, low)) / temperature
    return 2 * below + inside + ramp - mass[..., -1:]


def _standardised(x: Tensor, weights: Tensor | None) -> Tensor:
    """Standardise to mean 0 and standard deviation 1, in float64 if the device supports it: cumulative sums need it."""
    x = centred(x, weights).to(x.dtype if x.device.type == "mps" else torch.float64)
    variance = mean_of(x * x, None if weights is None else weights.to(x.dtype))
    return x / torch.where(variance > 0, variance, 1).sqrt()
