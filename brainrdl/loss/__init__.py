"""How far a student's RDMs are from a teacher's, as a loss with a gradient.

`rdm_loss` is the only place where a similarity of RDMs becomes a loss; `matching` pairs layers with targets;
`correlation_kernel` computes the default loss in one step; `pair_sampling` draws random pairs.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
