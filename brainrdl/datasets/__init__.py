"""Named public data sets, downloaded once and checked by SHA-256, and simulated subjects.

`catalogue` lists the data sets (their addresses are in ``datasets.yaml``), `download` fetches their files, `loaders`
reads them as stimuli and RDMs with the same names, `simulation` simulates subjects with a known RDM, and
`example_files` writes small made-up files with which every page of the documentation runs.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
