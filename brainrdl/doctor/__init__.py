"""Check a file before using it as a teacher: what it holds, what is unusual, and whether its RDMs agree.

`auditing` runs the audit; what is found in RDMs is in `rdm_findings`, in measurements in `measurement_findings`, and
the likely kind of a dissimilarity in `dissimilarity_kinds`; `drawings` shows it.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
