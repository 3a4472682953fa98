"""Networks, the patterns of their layers, and the student that is fitted.

`networks` builds a network from its name, `weights` loads its parameters, `layers` captures the outputs of layers,
`rows` tests that each row of an output belongs to one image, `readout` turns outputs into patterns, `student` joins
these steps, and `feature_cache` stores the patterns of a frozen network.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
