"""Named public data sets, downloaded once and checked by SHA-256, and simulated subjects.

`catalogue` lists the data sets (their addresses are in ``datasets.yaml``), `download` fetches their files, `loaders`
reads them as stimuli and RDMs with the same names, and `simulation` simulates subjects with a known RDM.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
