"""RDMs by condition name, and RDMs from measurements.

`by_name` selects, aligns and joins rsatoolbox RDMs; `conversion` turns tensors, arrays and tables into RDMs and back;
`estimation` computes RDMs from measured patterns (`calc_rdm`). Nothing here pairs conditions by position.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
