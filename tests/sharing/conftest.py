"""A small run that ends in a final fit, and other images with RDMs of other subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brainrdl import rdms, recipe

NAMES = [f"face_{i:02d}" for i in range(12)]
OTHERS = [f"tool_{i:02d}" for i in range(8)]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/, it.h5, run/ (held out: four images; then a final fit), other/ and other.h5."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for images, names in (("images", NAMES), ("other", OTHERS)):
        (folder / images).mkdir()
        for name in names:
            pixels = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / images / f"{name}.png")
    for file, names, subjects in (("it.h5", NAMES, ["s1", "s2", "s3"]), ("other.h5", OTHERS, ["a", "b", "c", "d"])):
        n = len(names)
        described = {"subject": subjects, "roi": ["IT"] * len(subjects)}
        pairs = rng.random((len(subjects), n * (n - 1) // 2))
        rdms.from_array(pairs, names, descriptors=described).save(str(folder / file), file_type="hdf5")
    made = recipe.check(
        {
            "stimuli": {"folder": str(folder / "images")},
            "teacher": {"rdms": str(folder / "it.h5")},
            "student": {"model": "small_cnn", "layers": {"pool": "IT"}, "standardise": True, "projection": 5},
            "loss": {"dissimilarity": "euclidean"},
            "fit": {"steps": 4, "evaluate_every": 2, "lr": 0.01, "device": "cpu"},
            "evaluation": {"held_out": NAMES[:4], "final": True, "controls": ["unfitted"], "seeds": [3]},
        }
    )
    recipe.run(made, folder / "run", progress=False)
    return folder
