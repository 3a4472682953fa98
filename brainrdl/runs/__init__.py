"""The folder of a run, and what makes the run reproducible.

`run_folder` opens and locks the folder, and `finished_fits` writes and reads settings, history and weights
(`FitResult`, `load_fit`). `checkpoint` is the state from which a stopped run continues. `fingerprint` collects the
settings and digests of data that identify a run, and `callables` the code of its functions: it can only be resumed
with the same ones. `provenance` records versions, commit and machine.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
