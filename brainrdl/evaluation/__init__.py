"""Scores of a student on stimuli and subjects that were held out, with noise ceilings and intervals.

`held_out` scores a student (`evaluate`), `cross_validation` fits and scores students on folds (`cross_validate`), and
`comparison` compares any two sets of RDMs (`compare`). `fitted_models` cross-validates models of the room `rdm_models`
(`cross_validate_models`). `scores` makes the tables, with the statistics of the room `inference`. `options`, `folds`,
the `plan` of all fits, `fresh_students` for each fit, and `jobs` in several processes belong to cross-validation;
`baselines` and `simple_models` are what scores are compared with. `elsewhere` scores a student on other images and
subjects. `rsatoolbox_result` converts an evaluation for rsatoolbox.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
