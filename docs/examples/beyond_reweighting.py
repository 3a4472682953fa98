"""Did fitting help beyond reweighting? Two maps fitted to human IT, and simpler models on the same held-out images.

Human IT is the mean of 4 subjects x 2 sessions (Kriegeskorte et al. 2008, doi 10.1016/j.neuron.2008.10.043). The
network is EfficientNet-Lite0 (ImageNet weights from its package, extra `demo`), read out at blocks 11 to 15. Compared
are a fitted linear map of all channels, a fitted weight for each channel by the same training, feature-reweighted RSA
(Kaniuth & Hebart 2022, doi 10.1016/j.neuroimage.2022.119294), and a weighted sum of the RDMs of the blocks.

    python docs/examples/beyond_reweighting.py --out runs/beyond_reweighting
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from brainrdl import RDMTeacher, Readout, Stimuli, Student, cross_validate, datasets
from brainrdl.evaluation import Candidate, cross_validate_models
from brainrdl.models import build
from brainrdl.rdm_models import SelectModel, WeightedModel, partition_variance
from brainrdl.stimuli import default_transform

BLOCKS = [f"_blocks.{block}" for block in range(11, 16)]


def load(size: int) -> tuple[Stimuli, RDMTeacher]:
    """The images at `size` pixels, scaled as the network expects, and the teacher."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name="human IT", average_over="session")
    transform = default_transform(size, (127 / 255, 128 / 255))
    return data.stimuli.with_transform(transform).align(teacher.conditions).cached(), teacher


def student(projection: str) -> Student:
    """The network with a map of the channels of all blocks."""
    readout = Readout("avgpool", standardise=True, projection=projection)
    network = build("efficientnet_lite0", "imagenet").module
    return Student(network, ["+".join(BLOCKS)], readout=readout, trainable="projection")


def fit_maps(stimuli: Stimuli, teacher: RDMTeacher, seeds: tuple[int, ...], out: Path) -> pd.DataFrame:
    """Fit both maps with controls; return the contrasts with the reweighted control and the summary."""
    options = {"optimizer": "momentum", "lr": 0.2, "steps": 30, "evaluate_every": 5}
    students = {
        "map": Candidate(lambda: student("square")),
        "weights": Candidate(lambda: student("diagonal"), controls=()),
    }
    result = cross_validate(
        students, teacher, stimuli, folds=5, seeds=seeds, inner_folds=3, controls=["unfitted", "reweighted"],
        out=out, resume=True, **options,
    )  # fmt: skip
    result.contrasts.to_csv(out / "contrasts.csv", index=False)
    return result.summary


def weigh_blocks(stimuli: Stimuli, seeds: tuple[int, ...]) -> pd.DataFrame:
    """Score the best block, chosen on training images, and a non-negative sum of the RDMs of all blocks."""
    network = Student(build("efficientnet_lite0", "imagenet").module, BLOCKS, readout=Readout("avgpool"))
    rdms = network.rdms(stimuli)
    blocks = {block: rdms.subset("layer", block) for block in BLOCKS}
    data = datasets.load("kriegeskorte92").rdms.subset("roi", "hIT")
    models = {"best block": SelectModel(blocks), "weighted blocks": WeightedModel(blocks), **blocks}
    result = cross_validate_models(
        models, data, stimuli.names, average_over="session", folds=5, seeds=seeds, labels=stimuli.labels
    )
    ends = {block: blocks[block] for block in (BLOCKS[0], BLOCKS[-1])}
    print(partition_variance(ends, data, average_over="session").round(3).to_string(index=False))
    return result.summary


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/beyond_reweighting"))
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--seeds", type=int, default=3, help="number of times that folds are drawn")
    words = parser.parse_args()
    words.out.mkdir(parents=True, exist_ok=True)
    seeds = tuple(range(words.seeds))
    stimuli, teacher = load(words.size)
    for name, summarise in (
        ("blocks", lambda: weigh_blocks(stimuli, seeds)),
        ("maps", lambda: fit_maps(stimuli, teacher, seeds, words.out / "maps")),
    ):
        summary = summarise()
        summary.to_csv(words.out / f"{name}.csv", index=False)
        rows = summary[(summary["comparator"] == "spearman") & (summary["against"] == "mean")]
        shown = ["student", "score", "low", "high", "ceiling", "gain", "gain_low", "gain_high"]
        print(rows.filter(items=shown).round(3).to_string())


if __name__ == "__main__":
    main()
