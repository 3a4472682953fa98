"""Check a file before using it as a teacher: its contents, anything unusual, and whether its RDMs agree.

`auditing` runs the audit, `rdm_findings` and `measurement_findings` check RDMs and measurements, `condition_findings`
finds the conditions on which the agreement of subjects depends, `dissimilarity_kinds` recognises the likely kind of a
dissimilarity, `finding` defines a line of the audit, and `drawings` makes the figures.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
