"""The direction of the main finding of experiment 1 in a few minutes: fewer digits, steps and seeds, and no tuning.

The gain is smaller than with 1,200 steps: with 300 steps the RDMs are not learned completely.

python -m docs.experiments.run small
"""

from __future__ import annotations

from docs.experiments.methods import RDL
from docs.experiments.mnist import Design, setting
from docs.experiments.protocol import Experiment

METHODS = ("cross-entropy", RDL, "KD", "permuted within class")

EXPERIMENT = Experiment(
    "small",
    (setting("500 labels", Design(500, steps=300, teacher_steps=300), seeds=3, trials=1, methods=METHODS),),
)
