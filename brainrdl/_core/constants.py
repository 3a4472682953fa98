"""Names and numbers that several rooms must agree on."""

from __future__ import annotations

from typing import Literal, get_args

PARTIAL = "partial "

GROUP = ("student", "role", "layer", "target", "comparator", "against")

NOISE = ("diag", "full", "shrinkage_diag", "shrinkage_eye")  # estimates of a noise covariance, in rsatoolbox's names

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # in lower case

MIN_CONDITIONS = 4  # fewer give at most 3 pairs, too few for a correlation of RDMs

TeacherControl = Literal["permuted", "permuted_within_class", "random", "spectrum", "category", "pixels"]

TEACHER_CONTROLS: tuple[TeacherControl, ...] = get_args(TeacherControl)

FINAL = "final"  # folder of the final fit, inside that of a cross-validation

FOLD = "fold of seed "  # pattern descriptor of held-out RDMs, followed by their seed: the fold of each condition
