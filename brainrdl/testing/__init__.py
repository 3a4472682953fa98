"""Checks for plug-ins: each function runs the list of one protocol and raises `BrainrdlError` with what failed.

One module per protocol: `dissimilarities`, `file_readers`, `rdm_teachers`. Every part of brainrdl that implements a
protocol passes its check in the test suite, and a deliberately broken one fails it.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
