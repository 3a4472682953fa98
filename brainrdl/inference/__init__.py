"""Statistics of comparisons between RDMs: noise ceilings, intervals, and tests of differences.

`pairwise` compares RDMs, with weights of pairs where a statistic needs them, and `partial_correlation` holds other RDMs
constant. `ceilings` measure how well the subjects agree. `influence` measures how much each pair, condition and subject
changes a score, `uncertainty` joins the influences of all folds, and `intervals` turns them into intervals and p
values. `resamples` and `rank_resamples` compare RDMs in all resamples of a bootstrap at once, and `bootstraps` turn
them into replicates and intervals of many scores. `marks` are single scores with their interval and ceiling, and
`contrasts` test their differences. `closed_forms` are the influences of many models and subjects at once, and `batches`
the intervals of all their scores and differences. `permutation` tests flip the signs of subjects or permute the labels
of conditions, and `clusters` join neighbours in time or space. `movies` scores RDMs over time, and `latencies` measures
onsets and peaks. `condition_influence` leaves out one condition at a time, for the score and for the agreement of
subjects. `bayes_factors` measure the evidence for no difference, `corrections` are for many p-values, `p_values` writes
them as text, `ceiling_tests` compare a model with the noise ceiling, and `planning` predicts the power of a study from
a pilot.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
