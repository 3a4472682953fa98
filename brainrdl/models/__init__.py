"""Networks and what is read from them: layers, readout, and the student that is fitted.

`networks` builds a network from its name, `weights` loads its parameters, `layers` captures what its layers put out,
`readout` turns that into patterns, `student` joins them, and `feature_cache` stores the patterns of a frozen network.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
