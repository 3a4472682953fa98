"""Sources of the RDMs that a student learns: known RDMs, or another network.

`protocol` states what any teacher must do; `rdm_teacher` holds RDMs known beforehand, `network_teacher` computes them
from images, and `controls` makes teachers for control fits.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
