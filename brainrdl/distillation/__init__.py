"""Network distillation: a student learns from the patterns and logits of a network that does not change.

`frozen_network` runs this network once per batch. `transfer_terms` are terms of the total loss of `fit`: knowledge
distillation, hints, relational and similarity-preserving distillation, probabilistic transfer, kernel alignment.
`transfer_losses` computes their losses from the patterns of two networks.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
