"""Models with parameters, fitted to RDMs: weighted sums of RDMs, reweighted channels, shares of explained variance.

`protocol` says what a model is. `combinations` are models made of given RDMs (fixed, selected, weighted, interpolated).
`reweighting` gives each channel of a layer a weight, from `channel_distances` and `least_squares`. `regression` has the
weights and partial correlations of several model RDMs at once, and `partitioning` their unique and shared variance.
`targets` are the data.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
