"""Scores of a student on stimuli and subjects that were held out, with noise ceilings and intervals.

`held_out` scores a student that was fitted (`evaluate`), `cross_validation` fits and scores it on folds
(`cross_validate`), `comparison` compares any two RDMs (`compare`). Below them: `scores` with `pairwise`
comparisons, `ceilings`, `intervals` and `partial_correlation`; the `options`, the `folds`, the `plan` of who is fitted
to what, and `fresh_students` for each fit; `baselines` and `simple_models` that a score is compared with;
`rsatoolbox_result` hands an evaluation to rsatoolbox.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
