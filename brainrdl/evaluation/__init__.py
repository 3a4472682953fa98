"""Scores of a student on stimuli and subjects that were held out, with noise ceilings and intervals.

`held_out` scores a fitted student (`evaluate`), `cross_validation` fits and scores students on folds
(`cross_validate`), and `comparison` compares any two sets of RDMs (`compare`). They use `scores` with `pairwise`
comparisons, `ceilings`, `intervals` and `partial_correlation`; the `options`, the `folds`, the `plan` of all fits, and
`fresh_students` for each fit; and `baselines` and `simple_models`, with which scores are compared.
`rsatoolbox_result` converts an evaluation for rsatoolbox.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
