"""Checks for plug-ins: each function checks the contract of one protocol and raises `BrainrdlError` if a point fails.

One module per protocol: `dissimilarities`, `file_readers`, `rdm_teachers`. In the test suite, every part of
brainrdl that implements a protocol passes its check, and a deliberately broken part fails it.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
