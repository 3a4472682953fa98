"""Experiment 3: teacher and student of different architectures, on MNIST with 1,000 labels.

python -m docs.experiments.run architectures --jobs 2
"""

from __future__ import annotations

from docs.experiments.methods import RDL
from docs.experiments.mnist import FIRST, Design, setting
from docs.experiments.networks import mnist_mixer, mnist_vit_teacher
from docs.experiments.protocol import Experiment
from docs.experiments.statistics import Contrast

FROM_CNN = (("block1", "conv1"), ("block2", "conv2"), ("pooled", "fc1"), ("logits", "logits"))
FROM_TRANSFORMER = (("conv2", "block2"), ("fc1", "pooled"), ("logits", "logits"))

EXPERIMENT = Experiment(
    "architectures",
    tuple(
        setting(name, design, seeds=5, trials=4, methods=FIRST)
        for name, design in (
            ("CNN from a transformer", Design(1000, teacher=mnist_vit_teacher, stages=FROM_TRANSFORMER)),
            ("MLP-Mixer from a CNN", Design(1000, student=mnist_mixer, stages=FROM_CNN)),
        )
    ),
)

CONTRASTS = [
    Contrast(one.name, first, second)
    for one in EXPERIMENT.settings
    for first, second in ((RDL, "cross-entropy"), (RDL, "label RDM"), (RDL, "KD"), ("RDL + KD", "KD"))
]
