"""Statistics of comparisons between RDMs: noise ceilings, intervals, and tests of differences.

`pairwise` compares RDMs, with weights of pairs where a statistic needs them, and `partial_correlation` holds other RDMs
constant. `ceilings` measure how well the subjects agree. `influence` measures how much each pair, condition and subject
changes a score, `uncertainty` joins the influences of all folds, and `intervals` turns them into intervals and p
values. `marks` are single scores with their interval and ceiling, and `contrasts` test their differences.
`closed_forms` are the influences of many models and subjects at once, `batches` the intervals of all their scores and
differences, and `corrections` correct p-values for their number.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
