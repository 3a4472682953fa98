"""Sources of the RDMs that a student learns: known RDMs, given patterns, or another network.

`protocol` states what any teacher must do; `rdm_teacher` holds RDMs known beforehand, `feature_teacher` computes them
from given patterns and `network_teacher` from images (`pattern_rdms` is what these two share), `joint_teacher` joins
several teachers with their own conditions, and `controls` makes teachers for control fits.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
