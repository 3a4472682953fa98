"""From patterns ``(..., n_conditions, n_channels)`` to dissimilarities ``(..., n_pairs)``, with gradients.

A new dissimilarity belongs in `measures`, with one line in `registry`. The order of pairs is kept in `pairs`, the
matrix products that all of them share in `products`.

Any function with this signature is a dissimilarity; `brainrdl.testing.check_dissimilarity` checks yours.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
