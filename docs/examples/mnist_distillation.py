"""The paper's own job, small: a LeNet-size student on 1,000 labelled digits, with and without a teacher's RDMs.

A CNN teacher is trained on all 60,000 training digits. Students see 1,000 of them (100 a class, others for each seed)
and learn from

- cross-entropy alone, with the settings of the others, and with settings tuned for it on other digits;
- cross-entropy + RDL: 1 - Pearson correlation of squared-Euclidean RDMs over all pairs of a batch;
- cross-entropy + RDL as in the paper (`RDMLoss.rdl2016`): squared error of the distances, weight decaying;
- cross-entropy + a label RDM (0 within a class, 1 between): what a teacher that knows nothing but the labels is worth.

Run it with MNIST's four files below $BRAINRDL_DATA/mnist (or --data):

    python docs/examples/mnist_distillation.py --out runs/mnist

It takes about half an hour on two cores and writes results.csv, summary.csv and figure.png.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
from collections import OrderedDict
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from safetensors.torch import save_file
from scipy.stats import t
from torch import nn
from torchvision.datasets import MNIST

from brainrdl import NetworkTeacher, RDMLoss, Stimuli, Student, evaluate, fit
from brainrdl.models import build
from brainrdl.teachers import Teacher, control

LAYERS = ("conv2", "logits")
N_LABELS, N_TUNING, N_RDM = 1000, 2000, 500
COMMON = {
    "steps": 1000,
    "batch_size": 100,
    "optimizer": "adam",
    "schedule": "cosine",
    "task_weight": 1.0,
    "evaluate_every": 250,
}
LR = 0.004


def digits(data: Path, out: Path) -> tuple[Stimuli, Stimuli]:
    """Training and test digits, unpacked into torchvision's layout below `out`."""
    raw = out / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for packed in sorted(data.glob("*.gz")):
        if not (raw / packed.stem).exists():
            with gzip.open(packed) as source, (raw / packed.stem).open("wb") as target:
                shutil.copyfileobj(source, target)
    train, test = (Stimuli.from_dataset(MNIST(out / "data", train=part)) for part in (True, False))
    return train, test


def teacher_network() -> nn.Module:
    """Two convolution stages of 32 and 64 channels and a hidden layer; about 99 % right."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            fc1=nn.Sequential(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.5)),
            logits=nn.Linear(128, 10),
        )
    )


def train_teacher(train: Stimuli, out: Path, steps: int) -> Student:
    """Teacher trained on all training digits; kept in `out`, so that a second run finds it."""
    torch.manual_seed(0)
    network = Student(teacher_network(), LAYERS, batchnorm="train")
    options = {"steps": steps, "batch_size": 128, "lr": 0.002, "schedule": "cosine", "evaluate_every": 200}
    fitted = fit(network, None, train, rdm_weight=0, task_weight=1, out=out / "teacher", resume=True, **options).student
    save_file(fitted.model.state_dict(), out / "teacher.safetensors")  # for the recipe
    return fitted


def error_rate(student: Student, test: Stimuli) -> float:
    """Share of test digits that are named wrongly."""
    student.eval()
    wrong = 0
    with torch.no_grad():
        for start in range(0, len(test), 1000):
            batch = test.batch(test.names[start : start + 1000])
            wrong += int((student(batch.images).logits.argmax(1) != batch.labels).sum())
    return wrong / len(test)


def labelled(train: Stimuli, seed: int) -> tuple[Stimuli, tuple[str, ...]]:
    """1,000 digits, 100 a class, and 2,000 others for tuning."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [train.names[i] for i in order]
    chosen = [name for digit in train.categories for name in _first_of(shuffled, train, digit)]
    return train.select(chosen), tuple(name for name in shuffled if name not in set(chosen))[:N_TUNING]


def _first_of(names: list[str], train: Stimuli, digit: str) -> list[str]:
    labels = train.labels or {}
    return [name for name in names if labels[name] == digit][: N_LABELS // 10]


def conditions(teacher: Teacher, shown: Stimuli, tuned: dict[str, float]) -> dict[str, tuple[Teacher | None, dict]]:
    """Teacher and options of `fit` for each condition."""
    match = {layer: layer for layer in LAYERS}
    ours = RDMLoss(dissimilarity="euclidean", match=match)
    paper = RDMLoss.rdl2016(half_life=COMMON["steps"] / 4, match=match)
    labels = control("category", stimuli=shown)
    to_labels = RDMLoss(dissimilarity="euclidean", match=dict.fromkeys(LAYERS, labels.targets[0]))
    return {
        "cross-entropy": (None, {"rdm_weight": 0.0, "lr": LR}),
        "cross-entropy, tuned": (None, {"rdm_weight": 0.0, **tuned}),
        "+ RDL": (teacher, {"rdm_weight": 5.0, "lr": LR, "loss": ours}),
        "+ RDL as in 2016": (teacher, {"rdm_weight": 0.1, "lr": LR, "loss": paper}),
        "+ label RDM": (labels, {"rdm_weight": 5.0, "lr": LR, "loss": to_labels}),
    }


def learn(shown: Stimuli, teacher: Teacher | None, seed: int, **options: object) -> Student:
    """A LeNet-size student fitted to `shown`."""
    torch.manual_seed(seed)
    student = Student(build("lenet").module, LAYERS)
    return fit(student, teacher, shown, seed=seed, progress=False, **{**COMMON, **options}).student


def tune(train: Stimuli) -> dict[str, float]:
    """Learning rate and weight decay for cross-entropy alone, chosen on other training digits (seed 0)."""
    shown, others = labelled(train, 0)
    rest = train.select(others)
    grid = [{"lr": lr, "weight_decay": decay} for lr in (0.001, 0.002, 0.004, 0.008) for decay in (0.0, 0.001, 0.01)]
    found = [
        (error_rate(learn(shown, None, 0, rdm_weight=0.0, optimizer="adamw", **point), rest), point) for point in grid
    ]
    return {"optimizer": "adamw", **min(found, key=lambda pair: pair[0])[1]}


def run(data: Path, out: Path, seeds: int, teacher_steps: int) -> pd.DataFrame:
    """One row a condition and seed: test error, and each layer's RDM correlation with the teacher on test digits."""
    train, test = digits(data, out)
    network = train_teacher(train, out, teacher_steps)
    print(f"teacher: test error {error_rate(network, test):.2%}")
    teacher = NetworkTeacher(network.model, list(LAYERS), dissimilarity="euclidean", cache=True, name="CNN teacher")
    tuned = tune(train)
    print(f"cross-entropy tuned: {tuned}")
    rows = []
    for seed in range(seeds):
        shown, _ = labelled(train, seed)
        for name, (source, options) in conditions(teacher, shown, tuned).items():
            student = learn(shown, source, seed, **options)
            student.match = {layer: layer for layer in LAYERS}
            seen = evaluate(
                student,
                teacher,
                test,
                test.names[:N_RDM],
                comparators=["corr"],
                dissimilarity="euclidean",
                n_bootstrap=0,
            ).summary
            likeness = seen[(seen.role == "student") & (seen.against == "mean")].set_index("layer")["score"].to_dict()
            rows.append({"condition": name, "seed": seed, "error": error_rate(student, test), **likeness})
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean, and 95 % t interval over seeds, of each column and condition."""
    measures = results.drop(columns="seed").groupby("condition", sort=False)
    half = measures.sem() * float(t.ppf(0.975, results["seed"].nunique() - 1))
    return pd.concat({"mean": measures.mean(), "low": measures.mean() - half, "high": measures.mean() + half}, axis=1)


def draw(results: pd.DataFrame, path: Path) -> None:
    """Error, and RDM correlation with the teacher, by condition: each seed a dot, the mean a bar."""
    figure, axes = plt.subplots(1, 1 + len(LAYERS), figsize=(10, 2.8), sharey=True, layout="constrained")
    order = list(dict.fromkeys(results["condition"]))[::-1]
    labels = {"error": "test error (%)"} | {layer: f"RDM correlation with teacher,\n{layer}" for layer in LAYERS}
    for ax, (column, label) in zip(axes, labels.items(), strict=True):
        values = results[column] * (100 if column == "error" else 1)
        for y, condition in enumerate(order):
            here = values[results["condition"] == condition]
            ax.plot(here, [y] * len(here), "o", color="#0072B2", alpha=0.5, markersize=4)
            ax.plot([here.mean()] * 2, [y - 0.3, y + 0.3], color="#222222", linewidth=2)
        ax.set(xlabel=label, yticks=range(len(order)), yticklabels=order)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    figure.savefig(path, dpi=200)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("BRAINRDL_DATA", ".")) / "mnist")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--teacher-steps", type=int, default=1400)
    words = parser.parse_args()
    results = run(words.data, words.out, words.seeds, words.teacher_steps)
    results.to_csv(words.out / "results.csv", index=False)
    summarise(results).to_csv(words.out / "summary.csv")
    print(summarise(results).round(4).to_string())
    draw(results, words.out / "figure.png")


if __name__ == "__main__":
    main()
