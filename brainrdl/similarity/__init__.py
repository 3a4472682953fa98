"""How similar are two RDMs? Comparators ``(..., n_pairs), (..., n_pairs) -> (...)``; higher is more similar.

A new comparator belongs in `comparators`, with one line in `registry`; its attributes (label, differentiable,
rank-based, whitened, ...) are described in `traits`. Comparators of the kernels behind RDMs are in `kernels`. They
share `pair_sums`, `ranks`, `whitening` and the scales of `pooling`; ranks use `sorting` and `inversions`. `shapes`
compares patterns, not RDMs. Names and conventions are those of rsatoolbox.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
