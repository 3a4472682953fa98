"""Names and numbers that several rooms must agree on."""

from __future__ import annotations

PARTIAL = "partial "

GROUP = ("student", "role", "layer", "target", "comparator", "against")

NOISE = ("diag", "full", "shrinkage_diag", "shrinkage_eye")  # estimates of a noise covariance, in rsatoolbox's names

MIN_CONDITIONS = 4  # fewer give at most 3 pairs, too few for a correlation of RDMs

FINAL = "final"  # folder of the final fit, inside that of a cross-validation
