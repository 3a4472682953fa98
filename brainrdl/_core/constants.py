"""Names and numbers that several rooms must agree on."""

from __future__ import annotations

PARTIAL = "partial "

GROUP = ("student", "role", "layer", "target", "comparator", "against")

MIN_CONDITIONS = 4  # fewer make at most 3 pairs: no correlation of RDMs to speak of
