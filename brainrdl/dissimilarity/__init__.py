"""From patterns ``(..., n_conditions, n_channels)`` to dissimilarities ``(..., n_pairs)``, with gradients.

`measures` holds the dissimilarities, `cross_validated` those of several runs without a noise precision, `channelwise`
those of SciPy that compare channels one by one; a new one needs one line in `registry`. `pairs` defines the order of
pairs, and `products` holds the matrix products that the dissimilarities share; `small` computes those of few patterns
faster. `blockwise` yields dissimilarities block by block, if there are too many to be kept in memory.

Any function with this signature is a dissimilarity; `brainrdl.testing.check_dissimilarity` checks yours.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
