"""The demo: simulated subjects look at handwritten digits, and a small network is fitted to their RDMs.

`simulated_experiment` needs no files and no download; `brainrdl demo` runs it and writes a report.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
