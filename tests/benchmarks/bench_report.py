"""Size of a report and processor time to write it: ``python tests/benchmarks/bench_report.py --conditions 500``.

Simulated RDMs of one student and four subjects without missing pairs, which compress worst; with ``--folds 5`` those of
a cross-validation, in which only pairs of one fold were held out together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from brainrdl import Evaluation, Stimuli, report
from brainrdl._core.rows import Role
from brainrdl.evaluation.held_out import assemble
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs


def simulated(n: int, folds: int) -> Evaluation:
    """Score a student that resembles the teacher, and an unfitted one; each fold has every `folds`-th condition."""
    generator, names = torch.Generator().manual_seed(0), tuple(f"image_{k:04d}" for k in range(n))
    truth = torch.rand(n * (n - 1) // 2, generator=generator)
    subjects = truth + 0.5 * torch.rand(4, len(truth), generator=generator)
    rows = [
        HeldOut(
            student=label, role=role, base="unfitted", layer="conv", target="IT", names=names, fold=fold,
            pairs=truth + noise * torch.rand(len(truth), generator=generator),
        ).only(names[fold::folds])
        for label, role, noise in (("fitted", Role.STUDENT, 0.3), ("unfitted", Role.UNFITTED, 2.0))
        for fold in range(folds)
    ]  # fmt: skip
    labels = {name: f"category {8 * k // n}" for k, name in enumerate(names)}
    teacher = TeacherRDMs("IT", names, tuple("abcd"), subjects)
    return assemble(rows, {"IT": teacher}, ("spearman",), "dyadic", None, 0, labels=labels, settings={"teacher": "IT"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conditions", type=int, default=500)
    parser.add_argument("--folds", type=int, default=1)
    n, folds = vars(parser.parse_args()).values()
    evaluation = simulated(n, folds)
    pixels = torch.rand(n, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images = Stimuli.from_arrays(pixels, list(evaluation.labels or ()))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        report(evaluation, page, progress=False)  # imports
        for what, stimuli in (("without thumbnails", None), ("with thumbnails", images)):
            started = time.process_time()
            report(evaluation, page, stimuli=stimuli, progress=False)
            seconds = time.process_time() - started
            print(f"{n} conditions, {folds} folds, {what}: {page.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
