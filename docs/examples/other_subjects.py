"""Fitted to the human IT of four subjects, tested on fifteen others who saw other images.

EfficientNet-Lite0 (ImageNet weights from its package, extra `demo`) is fitted to human IT of every second of the 92
images of Kriegeskorte et al. (2008, doi 10.1016/j.neuron.2008.10.043; 4 subjects): cross-validated, then fitted to all
46 images. It is tested on the 46 other images with the 15 subjects of Cichy et al. (2014, doi 10.1038/nn.3635), a
different study: the same objects on a white background. For comparison, it is also scored on the 46 objects that it was
fitted to, as these 15 subjects saw them.

    python docs/examples/other_subjects.py --out runs/other_subjects

The data are those of `brainrdl data fetch kriegeskorte92` and `algonauts92`.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from brainrdl import RDMTeacher, Stimuli, datasets, export, recipe
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.rdms.by_name import select
from brainrdl.sharing import evaluate_run_elsewhere, load_run

BLOCKS = "+".join(f"_blocks.{block}" for block in range(11, 16))


def prepare(folder: Path) -> recipe.Recipe:
    """Write every second image and its RDMs as files, and return the recipe that fits to them."""
    folder.mkdir(parents=True, exist_ok=True)
    data = datasets.load("kriegeskorte92")
    names = data.stimuli.names[::2]
    pixels = data.stimuli.images(names).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    labels = [data.stimuli.labels[name] for name in names]
    np.savez(folder / "stimuli.npz", images=pixels, names=names, labels=labels)
    select(data.rdms.subset("roi", "hIT"), names).save(str(folder / "human_it.h5"), file_type="hdf5", overwrite=True)
    return recipe.check(
        {
            "stimuli": {"arrays": str(folder / "stimuli.npz")},
            "teacher": {"rdms": str(folder / "human_it.h5"), "average_over": "session"},
            "student": {
                "model": "efficientnet_lite0",
                "weights": "imagenet",
                "layers": [BLOCKS],
                "pool": "avgpool",
                "standardise": True,
                "projection": "square",
                "trainable": "projection",
            },
            "fit": {"optimizer": "momentum", "lr": 0.2, "steps": 30, "evaluate_every": 1},
            "evaluation": {"folds": 4, "seeds": [0, 1, 2], "inner_folds": 4, "final": True},
        }
    )


def test_set() -> tuple[RDMTeacher, Stimuli, dict[str, str]]:
    """Fifteen subjects and their images, with categories; and the object that an image of either study shows."""
    data, known = datasets.load("algonauts92"), datasets.load("kriegeskorte92").stimuli.labels
    labels = {f"image_{k:02d}": known[f"stimulus_{k:02d}"] for k in range(1, 93)}
    objects = {f"{study}_{k:02d}": f"object {k}" for study in ("image", "stimulus") for k in range(1, 93)}
    teacher = RDMTeacher(data.rdms.subset("roi", "IT"), name="IT of 15 subjects")
    return teacher, data.stimuli.with_labels(labels), objects


def table(scored: dict[str, Evaluation]) -> pd.DataFrame:
    """Spearman correlations with their intervals and ceilings."""
    parts = []
    for title, evaluation in scored.items():
        rows = evaluation.summary[evaluation.summary["comparator"] == "spearman"]
        columns = ["against", "student", "score", "low", "high", "ceiling", "gain", "gain_low", "gain_high"]
        parts.append(rows[columns].assign(stimuli=title))
    return pd.concat(parts).set_index(["stimuli", "against", "student"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/other_subjects"))
    out = parser.parse_args().out
    made = prepare(out / "data")
    held_out = recipe.run(made, out / "run", resume=(out / "run").exists())
    run = load_run(out / "run")
    teacher, images, objects = test_set()
    with warnings.catch_warnings():  # says which 46 are left out
        warnings.simplefilter("ignore", UserWarning)
        new = evaluate_run_elsewhere(run, teacher, images, groups=objects, drop_seen=True)
        seen = [f"image_{k:02d}" for k in range(1, 93, 2)]
        # Without the groups only the images that look nearly the same are noticed, which is a warning.
        old = evaluate_run_elsewhere(run, teacher.select(seen), images.select(seen))
    new.save(out / "new_images")
    scored = {"held out, same subjects": held_out, "new images, new subjects": new, "seen objects, new subjects": old}
    result = table(scored)
    result.to_csv(out / "summary.csv")
    print(result.round(3).to_string())
    print(new.contrasts.query("comparator == 'spearman'").round(3).to_string())
    print(f"{run.settings['steps']} steps; {len(new.settings['elsewhere']['dropped'])} images left out")
    print(export(run, out / "model", scores=new, overwrite=True))


if __name__ == "__main__":
    main()
