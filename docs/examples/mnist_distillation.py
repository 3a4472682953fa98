"""A small version of the paper's application: a LeNet-size student, 1,000 labelled digits, a teacher's RDMs.

A CNN teacher is trained on all 60,000 training digits. Students see 1,000 of them (100 per class, other digits
for each seed) and learn from

- cross-entropy alone, with the settings of the others, and with settings tuned for it on other digits;
- cross-entropy + RDL: 1 - Pearson correlation of squared-Euclidean RDMs over all pairs of a batch;
- cross-entropy + RDL as in the paper (`RDMLoss.rdl2016`): squared error of the distances, weight decaying;
- cross-entropy + a label RDM (0 within a class, 1 between classes): a teacher that knows only the labels.

    python docs/examples/mnist_distillation.py --out runs/mnist

It downloads MNIST (12 MB) into OUT/data if it is not there, takes about half an hour on two cores, and writes
results.csv, summary.csv and figure.png.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from safetensors.torch import save_file
from scipy.stats import t
from torch import nn

from brainrdl import NetworkTeacher, RDMLoss, RDMTeacher, Stimuli, Student, Task, datasets, evaluate, fit
from brainrdl.models.networks import build
from brainrdl.rdms.conversion import from_tensor
from brainrdl.teachers.controls import control
from brainrdl.teachers.protocol import Teacher

LAYERS = ("conv2", "logits")
SAME = {layer: layer for layer in LAYERS}
N_LABELS, N_TUNING, N_RDM = 1000, 2000, 500
COMMON = {
    "steps": 1500,
    "batch_size": 100,
    "optimizer": "adam",
    "lr": 0.004,
    "task": Task(),
    "evaluate_every": 500,
}


def digits(out: Path) -> tuple[Stimuli, Stimuli]:
    """Training and test digits; the files are kept below `out`, where the recipe reads them too."""
    train, test = (datasets.load("mnist", out / "data", train=part).stimuli for part in (True, False))
    return train, test


def teacher_network() -> nn.Module:
    """Two convolution stages of 32 and 64 channels and a hidden layer; about 99 % correct."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            fc1=nn.Sequential(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.5)),
            logits=nn.Linear(128, 10),
        )
    )


def train_teacher(train: Stimuli, out: Path, steps: int) -> Student:
    """Teacher trained on all training digits; stored in `out` for the next run."""
    torch.manual_seed(0)
    network = Student(teacher_network(), LAYERS, batchnorm="train")
    options = {"steps": steps, "batch_size": 128, "lr": 0.002, "schedule": "cosine", "evaluate_every": 200}
    fitted = fit(network, None, train, rdm_weight=0, task=Task(), out=out / "teacher", resume=True, **options).student
    save_file(fitted.model.state_dict(), out / "teacher.safetensors")  # for the recipe
    return fitted


def error_rate(student: Student, test: Stimuli) -> float:
    """Proportion of test digits that are classified wrongly."""
    student.eval()
    wrong = 0
    with torch.no_grad():
        for start in range(0, len(test), 1000):
            batch = test.batch(test.names[start : start + 1000])
            wrong += int((student(batch.images).logits.argmax(1) != batch.labels).sum())
    return wrong / len(test)


def labelled(train: Stimuli, seed: int) -> tuple[Stimuli, tuple[str, ...]]:
    """1,000 digits, 100 per class, and 2,000 others for tuning."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [train.names[i] for i in order]
    chosen = [name for digit in train.categories for name in _first_of(shuffled, train, digit)]
    return train.select(chosen), tuple(name for name in shuffled if name not in set(chosen))[:N_TUNING]


def _first_of(names: list[str], train: Stimuli, digit: str) -> list[str]:
    labels = train.labels or {}
    return [name for name in names if labels[name] == digit][: N_LABELS // 10]


def teacher_rdms(network: NetworkTeacher, shown: Stimuli) -> RDMTeacher:
    """The network's RDMs of all digits in use, computed once; batches are then found by name."""
    answer = network.rdms(shown.batch(shown.names))
    pairs = torch.cat([answer[layer] for layer in LAYERS])
    return RDMTeacher(from_tensor(pairs, shown.names, descriptors={"roi": list(LAYERS)}), name=network.name)


def conditions(teacher: Teacher, shown: Stimuli, tuned: dict[str, dict]) -> dict[str, tuple[Teacher | None, dict]]:
    """Teacher and options of `fit` for each condition."""
    labels = control("category", stimuli=shown)
    ours = RDMLoss(dissimilarity="euclidean", match=SAME)
    to_labels = RDMLoss(dissimilarity="euclidean", match=dict.fromkeys(LAYERS, labels.targets[0]))
    return {
        "cross-entropy": (None, {"rdm_weight": 0.0}),
        "cross-entropy, tuned": (None, tuned["cross-entropy"]),
        "+ RDL": (teacher, {"rdm_weight": 5.0, "loss": ours}),
        "+ RDL as in 2016": (teacher, tuned["RDL as in 2016"]),
        "+ label RDM": (labels, {"rdm_weight": 5.0, "loss": to_labels}),
    }


def learn(shown: Stimuli, teacher: Teacher | None, seed: int, **options: object) -> Student:
    """A LeNet-size student fitted to `shown`."""
    torch.manual_seed(seed)
    student = Student(build("lenet").module, SAME)
    return fit(student, teacher, shown, seed=seed, progress=False, **{**COMMON, **options}).student


def tune(train: Stimuli, network: NetworkTeacher) -> dict[str, dict]:
    """Settings chosen on training digits that no student of seed 0 sees; other conditions are not tuned."""
    shown, others = labelled(train, 0)
    teacher, rest = teacher_rdms(network, shown), train.select(others)
    loss = RDMLoss.rdl2016(half_life=COMMON["steps"] / 4, match=SAME)
    alone = {"rdm_weight": 0.0, "optimizer": "adamw"}
    grids: dict[str, tuple[Teacher | None, list[dict]]] = {
        "cross-entropy": (
            None,
            [alone | {"lr": lr, "weight_decay": d} for lr in (0.002, 0.004, 0.008) for d in (0.0, 0.01)],
        ),
        "RDL as in 2016": (teacher, [{"rdm_weight": weight, "loss": loss} for weight in (1e-6, 1e-5, 1e-4, 1e-3)]),
    }
    return {
        name: min(points, key=lambda point: error_rate(learn(shown, source, 0, **point), rest))
        for name, (source, points) in grids.items()
    }


def run(out: Path, seeds: int, teacher_steps: int) -> pd.DataFrame:
    """One row per condition and seed: test error, and each layer's RDM correlation with the teacher on test digits."""
    train, test = digits(out)
    trained = train_teacher(train, out, teacher_steps)
    print(f"teacher: test error {error_rate(trained, test):.2%}")
    network = NetworkTeacher(trained.model, list(LAYERS), dissimilarity="euclidean", name="CNN teacher")
    tuned = tune(train, network)
    print(f"chosen on other training digits: {tuned}")
    rows = []
    for seed in range(seeds):
        shown, _ = labelled(train, seed)
        teacher = teacher_rdms(network, shown)
        for name, (source, options) in conditions(teacher, shown, tuned).items():
            student = learn(shown, source, seed, **options)
            rows.append(
                {
                    "condition": name,
                    "seed": seed,
                    "error": error_rate(student, test),
                    **likeness(student, network, test),
                }
            )
            print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def likeness(student: Student, network: NetworkTeacher, test: Stimuli) -> dict[str, float]:
    """Pearson correlation of the student's and the teacher's RDM of 500 test digits, for each layer."""
    names = test.names[:N_RDM]
    scored = evaluate(student, network, test, names, comparators=["corr"], dissimilarity="euclidean").scores
    rows = scored[(scored["role"] == "student") & (scored["against"] == "mean")]
    return dict(zip(rows["layer"], rows["score"], strict=True))


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean, and 95 % t interval over seeds, of each column and condition."""
    measures = results.drop(columns="seed").groupby("condition", sort=False)
    half = measures.sem() * float(t.ppf(0.975, results["seed"].nunique() - 1))
    return pd.concat({"mean": measures.mean(), "low": measures.mean() - half, "high": measures.mean() + half}, axis=1)


def draw(results: pd.DataFrame, path: Path) -> None:
    """Error, and RDM correlation with the teacher, by condition; dots are seeds and bars are means."""
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
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--teacher-steps", type=int, default=3000)
    words = parser.parse_args()
    results = run(words.out, words.seeds, words.teacher_steps)
    results.to_csv(words.out / "results.csv", index=False)
    summarise(results).to_csv(words.out / "summary.csv")
    print(summarise(results).round(4).to_string())
    draw(results, words.out / "figure.png")


if __name__ == "__main__":
    main()
