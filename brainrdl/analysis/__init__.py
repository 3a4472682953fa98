"""Plain RSA: model RDMs and networks compared with the RDMs of brains, without fitting anything.

`plain_rsa` is the whole analysis in one call. `model_sources` makes RDMs of everything that can be a model,
`comparisons` scores them, `best_layers` chooses a layer of each network by cross-validation, and `rsa_result` holds the
tables and writes them into a folder; `toolbox_results` converts them to those of rsatoolbox and back.
`group_differences` compares groups of subjects.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
