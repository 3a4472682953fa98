"""RDMs by condition name, and RDMs from measurements.

`by_name` selects, aligns and joins rsatoolbox RDMs. `conversion` converts tensors and arrays to RDMs, and RDMs to
tensors and tables. `estimation` computes RDMs from measured patterns (`calc_rdm`): `observations` averages the
observations of each condition, `noise` estimates noise precisions and whitens, `condition_pairs` computes the
dissimilarities, and `run_pairs` those of designs in which not every condition occurs in every run. `mapped` leaves RDMs
in their file. `subjects` groups RDMs into targets and subjects, `partial` averages RDMs with different missing pairs,
and `naming` refuses missing names, and finds names of image files. Conditions are paired by name.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
