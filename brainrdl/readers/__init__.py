"""Reading RDMs and measurements from files: one function, `read`, and any number of readers behind it.

The readers themselves are in the package ``data_adapters``, one file per format. This room holds what is common to all
formats: the reader protocol (`reading`), options from Python or a command line (`options`), paths such as
``sub-*/betas.nii.gz`` (`path_patterns`), subjects, sessions and runs in file names (`entities`), and names given with a
file (`condition_names`).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
