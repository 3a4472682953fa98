"""A brain beside a task: a small network learns CIFAR-100 and human IT together, with the weight of the brain varied.

The network is trained on 5,000 labelled photographs of CIFAR-100 and on the human IT RDM of the training objects of a
fold (Kriegeskorte et al. 2008, doi 10.1016/j.neuron.2008.10.043; 4 subjects, 2 sessions each, averaged). Each of five
seeds holds out another fifth of the 92 objects, so that each object is held out once. Accuracy is that of other
photographs: as they are, with noise, with a part hidden, and changed in the direction that increases the loss (FGSM).

    python -m docs.experiments.brain_beside_task            # fit what is missing, score, draw, and write the page
    python -m docs.experiments.brain_beside_task --page     # only draw and write the page from the tables

Photographs are read from cifar100_mini.npz in the folder BRAINRDL_DATA if it is there; otherwise CIFAR-100 (169 MB) is
downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import ttest_1samp
from torch import Tensor, nn
from torch.nn import functional

from brainrdl import RDMTeacher, Readout, Stimuli, Student, Task, datasets, fit, plot
from brainrdl.evaluation import HeldOut, score, stimulus_folds, teacher_rdms
from brainrdl.inference import corrected, format_p, power
from brainrdl.inference.p_values import p_equals
from brainrdl.rdms import from_array
from brainrdl.stimuli import Augmentation, default_transform, similar_images
from brainrdl.teachers import Teacher, control
from docs.experiments.brains import RESULTS, as_text, from_text
from docs.experiments.cifar100 import arrays
from docs.experiments.measures import MEASURES, Exam, measure
from docs.experiments.results import Results
from docs.experiments.scoring import (
    SCORE,
    command,
    draw,
    interval,
    load,
    markdown,
    missing,
    number,
    percent,
    planned,
    save,
    write,
)

SIZE, N_CLASSES, LAYER = 32, 100, "second"
BRAIN, TASK_ONLY = "human IT", "task only"
CONTROLS = {
    "permuted": "permuted",
    "permuted within category": "permuted_within_class",
    "random RDM": "spectrum",
    "categories": "category",
}
WEIGHTS, CONTROL_WEIGHTS = (0.1, 1.0, 10.0), (0.1, 1.0)
SEEDS = range(5)
TRAINING = {
    "steps": 500, "batch_size": 32, "optimizer": "momentum", "lr": 0.1, "weight_decay": 1e-3, "schedule": "cosine",
    "warmup": 40, "clip": 5.0, "channels_last": True, "device": "cpu", "progress": False,
}  # fmt: skip
KEY = ("teacher", "weight", "seed")
COLUMNS = (*KEY, *(name for name in MEASURES if not name.startswith("rdm_")), "seconds", "pairs")


class Block(nn.Module):
    """Two convolutions and a shortcut; half the size."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = convolution(n_in, n_out, 3, 2), convolution(n_out, n_out, 3, 1)
        self.shortcut = convolution(n_in, n_out, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Add the convolved and the reduced input."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))


def convolution(n_in: int, n_out: int, size: int, stride: int) -> nn.Sequential:
    """Convolution and batch normalisation."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, size, stride, size // 2, bias=False), nn.BatchNorm2d(n_out))


class Network(nn.Module):
    """A residual network of 0.08 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = convolution(3, 16, 3, 2), Block(16, 32), Block(32, 64)
        self.logits = nn.Linear(64, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images in the range 0 to 1."""
        stem = functional.relu(self.stem((x - 0.5) / 0.25))
        return self.logits(self.second(self.first(stem)).mean((2, 3)))


def make() -> Student:
    """A new student; its generator was seeded before."""
    return Student(Network(), [LAYER], readout=Readout("avgpool"), batchnorm="task")


@cache
def brain() -> tuple[Stimuli, RDMTeacher]:
    """The 92 images at 32 pixels with six categories, and human IT."""
    data = datasets.load("kriegeskorte92")
    teacher = RDMTeacher(data.rdms.subset("roi", "hIT"), name=BRAIN, average_over="session")
    shown = data.stimuli.with_transform(default_transform(SIZE, "none")).align(teacher.conditions)
    small = Stimuli.from_arrays(shown.images().clamp(0, 1).mul(255).round().byte(), shown.names, labels=shown.labels)
    return small.with_augmentation(Augmentation(crop=4, flip=True)), teacher


@cache
def photographs() -> tuple[Stimuli, Stimuli]:
    """Photographs of 100 classes for training and for testing, the latter without copies of any other."""
    found, pixels, labels, names = arrays(), [], [], []
    for kind in ("train", "test"):
        order = turns(found[f"y_{kind}"])
        pixels.append(found[f"x_{kind}"][order])
        labels += [f"{label:02d}" for label in found[f"y_{kind}"][order]]
        names += [f"{kind}_{place:04d}" for place in range(len(order))]
    every = Stimuli.from_arrays(np.concatenate(pixels), names, labels=labels)
    copies = set(similar_images(every)[["first", "second"]].to_numpy().ravel())
    train = every.select([name for name in names if name.startswith("train")])
    test = every.select([name for name in names if name.startswith("test") and name not in copies])
    return train.with_augmentation(Augmentation(crop=4, flip=True)), test


def turns(labels: np.ndarray) -> np.ndarray:
    """Order in which the classes take turns."""
    return np.argsort(pd.Series(labels).groupby(labels).cumcount().to_numpy(), kind="stable")


def stored() -> Results:
    """One row per fit: measures of the task, and the held-out RDM."""
    return Results(RESULTS / "brain_beside_task.csv", COLUMNS, KEY)


def plan() -> Iterator[tuple[str, float]]:
    """Teachers and weights, the most important first."""
    yield TASK_ONLY, 0.0
    yield from ((BRAIN, weight) for weight in WEIGHTS)
    yield from ((name, weight) for weight in CONTROL_WEIGHTS for name in CONTROLS)


def run(seeds: range = SEEDS) -> None:
    """Fit what is missing, seed by seed."""
    table = stored()
    done = table.done()
    for seed in seeds:
        for name, weight in plan():
            if (name, f"{weight:g}", str(seed)) not in {(one, f"{float(w):g}", k) for one, w, k in done}:
                table.add({"teacher": name, "weight": weight, "seed": seed} | fit_one(name, weight, seed))


def split(seed: int) -> tuple[list[str], list[str]]:
    """Training and test objects of a seed: each seed holds out another fold."""
    stimuli, _ = brain()
    table = stimulus_folds(stimuli.names, len(SEEDS), labels=stimuli.labels, seed=0)
    test = list(table.loc[table["fold"] == seed, "stimulus"])
    return [name for name in stimuli.names if name not in set(test)], test


def teacher_of(name: str, train: list[str], seed: int) -> Teacher:
    """Human IT of the training objects, or a control made from it."""
    stimuli, human = brain()
    known = human.select(train)
    kind = CONTROLS.get(name)
    return known if kind is None else control(kind, teacher=known, stimuli=stimuli, conditions=train, seed=seed)


def fit_one(name: str, weight: float, seed: int) -> dict[str, object]:
    """Fit one student; its accuracies and held-out RDM."""
    (stimuli, _), (labelled, test_images) = brain(), photographs()
    train, test = split(seed)
    started = time.process_time()
    torch.manual_seed(seed)
    fitted = fit(
        make(), teacher_of(name, train, seed), stimuli, train=train, held_out=test, rdm_weight=weight,
        task=Task(labelled, batch_size=64), seed=seed, evaluate_every=TRAINING["steps"], **TRAINING,
    )  # fmt: skip
    seconds = round(time.process_time() - started, 1)
    rdm = torch.as_tensor(fitted.student.rdms(stimuli, test).dissimilarities[0])
    exam = Exam(test_images, None, {}, noise=0.1, fgsm=1 / 255, n_robustness=1000)
    return {**measure(fitted.student, exam), "seconds": seconds, "pairs": as_text(rdm)}


# Scores


def label(teacher: str, weight: float) -> str:
    """Name of a row of the tables."""
    return TASK_ONLY if teacher == TASK_ONLY else f"{teacher}, weight {weight:g}"


def complete() -> pd.DataFrame:
    """Rows of the seeds of which all fits are there."""
    rows = stored().rows()
    counts = rows.groupby("seed").size()
    return rows[rows["seed"].isin(counts.index[counts >= len([*plan()])])]


def score_all() -> None:
    """Score the held-out RDMs, compare accuracies over seeds, and write the tables."""
    rows, (stimuli, human) = complete(), brain()
    if rows.empty:
        return
    truth = teacher_rdms(human, stimuli, stimuli.names, human.targets)
    held_out = [
        HeldOut(
            student=label(row["teacher"], row["weight"]), role="student", target=human.targets[0],
            names=tuple(split(row["seed"])[1]), pairs=from_text(row["pairs"]), seed=row["seed"], fold=row["seed"],
        )
        for row in rows.to_dict("records")
    ]  # fmt: skip
    found = score(held_out, truth, ["spearman"])
    brains = found.summary[found.summary["against"] == "subjects"].set_index("student")
    columns = ["comparator", "against", *SCORE, "ceiling_lower", "ceiling_upper"]
    table = accuracies(rows).join(brains[columns], on="student")
    save("brain_beside_task_summary", table)
    pairs = {(one, other, human.targets[0]): "score" for one, other in contrasts()}
    scores = planned(found.contrasts[found.contrasts["against"] == "subjects"], pairs)
    save("brain_beside_task_contrasts", pd.concat([scores, *(over_seeds(rows, what) for what in ("error", "noise"))]))
    save("brain_beside_task_power", power_of_scores(rows, scores))


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds, of accuracies instead of errors."""
    kinds = ["error", "noise", "occlusion", "blur", "contrast", "fgsm"]
    right = rows.assign(**{kind: 1 - rows[kind] for kind in kinds}).rename(columns={"error": "accuracy"})
    grouped = right.groupby(["teacher", "weight"], sort=False)
    means, spread = grouped[["accuracy", *kinds[1:], "nll", "ece"]].mean(), grouped["accuracy"].std(ddof=1)
    table = means.assign(accuracy_sd=spread, n_seeds=grouped.size()).reset_index()
    return table.assign(student=[label(*key) for key in zip(table["teacher"], table["weight"], strict=True)])


def contrasts() -> list[tuple[str, str]]:
    """The planned contrasts: human IT minus the task only, and minus each control with the same weight."""
    return [
        (label(BRAIN, weight), other)
        for weight in CONTROL_WEIGHTS
        for other in (TASK_ONLY, *(label(name, weight) for name in CONTROLS))
    ]


def over_seeds(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Planned contrasts of accuracies: paired t-tests over seeds."""
    named = rows.assign(student=[label(*key) for key in zip(rows["teacher"], rows["weight"], strict=True)])
    wide = 1 - named.pivot_table(what, "seed", "student")
    found = []
    for one, other in contrasts():
        apart = wide[one] - wide[other]
        test = ttest_1samp(apart, 0) if len(apart) > 1 else None
        low, high = test.confidence_interval() if test else (np.nan, np.nan)
        p = test.pvalue if test else np.nan
        found.append({
            "family": "accuracy" if what == "error" else f"accuracy, {what}", "student": one, "other": other,
            "difference": apart.mean(), "low": low, "high": high, "p": p, "sd": apart.std(ddof=1),
        })  # fmt: skip
    table = pd.DataFrame(found)
    return table.assign(p_corrected=corrected(table["p"].tolist(), "holm"))


def power_of_scores(rows: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Power for the observed differences between held-out scores, from the folds of single seeds."""
    _, human = brain()
    named = rows.assign(student=[label(*key) for key in zip(rows["teacher"], rows["weight"], strict=True)])
    texts = named.set_index(["student", "seed"])["pairs"]
    parts = []
    for row in scores.to_dict("records"):
        for seed in sorted(set(rows["seed"])):
            test = split(seed)[1]
            one, other = (
                from_array(from_text(texts[row[who], seed])[None].numpy(), test) for who in ("student", "other")
            )
            pilot = human.select(test).subject_rdms(human.targets[0])
            found = power(
                one, pilot, minus=other, effect=row["difference"], n_stimuli=N_PLANNED, n_subjects=SUBJECTS_PLANNED,
                comparator="spearman",
            )  # fmt: skip
            parts.append(found.assign(student=row["student"], other=row["other"], seed=seed))
    keys = ["student", "other", "n_stimuli", "n_subjects", "effect"]
    return pd.concat(parts).groupby(keys, sort=False)[["power", "sd"]].mean().reset_index()


N_PLANNED, SUBJECTS_PLANNED = (92, 184, 368, 736), (4, 8, 16, 32)


# Page


def page() -> None:
    """Draw the figure, and write the page from the tables."""
    seeds = 0 if complete().empty else complete()["seed"].nunique()
    done = missing(len(stored().rows()), len([*plan()]) * len(SEEDS))
    words = {"seeds": seeds, "fits": done, "steps": TRAINING["steps"], "most": f"{max(WEIGHTS):g}"}
    write("brain_beside_task", PAGE.format(**words, **main_result(), results=results_part().strip()))


def main_result() -> dict[str, str]:
    """Numbers of the paragraph that gives the result."""
    compared = load("brain_beside_task_contrasts").set_index(["family", "student", "other"])
    heavy = (label(BRAIN, CONTROL_WEIGHTS[-1]), TASK_ONLY)
    return {
        "accuracy_heavy": with_p(compared.loc[("accuracy", *heavy)]),
        "noise_heavy": with_p(compared.loc[("accuracy, noise", *heavy)]),
    }


def results_part() -> str:
    """Figure, tables and findings."""
    table, compared = load("brain_beside_task_summary"), load("brain_beside_task_contrasts")
    drawn = Figure(figsize=(7.2, 4.6), layout="compressed")
    plot.pareto(table, "weight", drawn.subplots(), by="teacher")
    draw("brain_beside_task", drawn)
    needed = load("brain_beside_task_power").set_index(["student", "other", "n_stimuli", "n_subjects"])
    families = {kind: rows.set_index(["student", "other"]) for kind, rows in compared.groupby("family")}
    by_name = table.set_index("student")
    return RESULTS_PART.format(
        table=markdown(shown(table)),
        scores=markdown(differences(families["score"])),
        accuracies=markdown(differences(families["accuracy"], 3)),
        noise=markdown(differences(families["accuracy, noise"], 3)),
        power=markdown(power_table(needed)),
        ceiling=number(by_name["ceiling"].iloc[0]),
        alone=number(by_name.loc[TASK_ONLY, "accuracy"], 3),
        alone_score=interval(by_name.loc[TASK_ONLY]),
        findings=findings(by_name, families),
    )


def findings(table: pd.DataFrame, families: Mapping[str, pd.DataFrame]) -> str:
    """Sentences on the planned contrasts, with their numbers."""
    found = [
        f"- *{label(BRAIN, weight)}*, {what}: {differing(families[family], label(BRAIN, weight), digits)}."
        for family, what, digits in (
            ("score", "score on held-out images", 2), ("accuracy", "accuracy", 3),
            ("accuracy, noise", "accuracy with noise", 3),
        )
        for weight in CONTROL_WEIGHTS
    ]  # fmt: skip
    best = table["accuracy"].idxmax()
    return "\n".join(
        [*found, f"- The highest accuracy ({number(table.loc[best, 'accuracy'], 3)}) is that of *{best}*."]
    )


def differing(rows: pd.DataFrame, one: str, digits: int) -> str:
    """What is significantly higher or lower than with human IT, and how many differences are not significant."""
    here = rows.loc[one]
    clear = here[here["p_corrected"] < 0.05]
    parts = [
        f"{'higher' if row['difference'] > 0 else 'lower'} than with {other} ({with_p(row, digits)})"
        for other, row in clear.iterrows()
    ]
    n_others = len(here) - len(clear)
    rest = [f"none of the {'other ' if parts else ''}{n_others} differences is significant"] if n_others else []
    return "; ".join([*parts, *rest])


def with_p(row: pd.Series, digits: int = 3) -> str:
    """A difference with its interval and corrected p-value."""
    return f"{interval(row, 'difference', digits)}, p {p_equals(row['p_corrected'])}"


CHANGED = ("noise", "occlusion", "blur", "contrast", "fgsm")


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The main table."""
    pairs = zip(table["accuracy"], table["accuracy_sd"], strict=True)
    return pd.DataFrame({
        "teacher": table["teacher"],
        "weight": [f"{weight:g}" for weight in table["weight"]],
        "accuracy (sd)": [f"{number(mean, 3)} ({number(sd, 3)})" for mean, sd in pairs],
        **{what: [number(value, 3) for value in table[what]] for what in CHANGED},
        "NLL": [number(value) for value in table["nll"]],
        "score": [interval(row) for _, row in table.iterrows()],
        "share of ceiling": [percent(share) for share in table["share"]],
    })  # fmt: skip


def differences(rows: pd.DataFrame, digits: int = 2) -> pd.DataFrame:
    """Planned contrasts of one family."""
    return pd.DataFrame({
        "": [one for one, _ in rows.index],
        "minus": [other for _, other in rows.index],
        "difference": [interval(row, "difference", digits) for _, row in rows.iterrows()],
        "corrected p": [format_p(p) for p in rows["p_corrected"]],
    })  # fmt: skip


def power_table(needed: pd.DataFrame) -> pd.DataFrame:
    """Power for the observed differences with some designs."""
    designs = [(92, 4), (92, 16), (368, 4), (368, 16), (736, 32)]
    needed = needed[needed["effect"].abs() >= 0.01]  # nothing could find a smaller one
    pairs = dict.fromkeys((one, other) for one, other, *_ in needed.index)
    rows = []
    for one, other in pairs:
        cells = {f"{n} images, {k} subjects": number(needed.loc[(one, other, n, k), "power"]) for n, k in designs}
        rows.append({"": one, "minus": other, "observed": number(needed.loc[(one, other, 92, 4), "effect"]), **cells})
    return pd.DataFrame(rows)


RESULTS_PART = """
## Results

![Accuracy and score on held-out images for each teacher and weight](../figures/brain_beside_task.png)

*Points are labelled with the weight of the RDM loss. Vertical lines: 95% intervals; horizontal lines: standard
deviations over seeds.*

A perfect model is expected to reach a score of {ceiling}. The task alone has an accuracy of {alone},
and a score of {alone_score}.

{table}

Scores on held-out images:

{scores}

Accuracies:

{accuracies}

Accuracies with noise:

{noise}

{findings}

## What it would take

Predicted power to find the observed differences of scores, from the variance over images and subjects within the
folds (`brainrdl.inference.power`). The prediction extrapolates from folds of 18 or 19 images and 4 subjects, and is
rough. The power is that of a single test at 0.05; with a correction for ten contrasts it is lower. Observed
differences are estimates, and those of less than 0.01 are left out.

{power}
"""

PAGE = """
# A brain beside a task

**Question.** A small network learns to classify photographs. Does it help, or harm, to pull its RDM of 92 other
images towards that of human IT at the same time? And does it learn about the brain what controls do not?

**Result.** Human IT does not raise the accuracy. With weight 1 it changes the accuracy by {accuracy_heavy}, and the
accuracy with noise by {noise_heavy}. Its score on held-out images does not differ significantly from that of the task
only or of any control. The [first version of this experiment](../examples/task_and_brain.md), with another network and
other settings, had found higher scores for human IT than for the task only and for several controls. This experiment
does not confirm it.

**Data.** *Task*: 5,000 photographs of CIFAR-100 (50 of each class; Krizhevsky 2009) for training, and 1,972 others
for testing (2,000 without those that look nearly the same as another photograph). *Brain*: human IT RDMs of 92
images, 4 subjects x 2 sessions (Kriegeskorte et al. 2008), averaged over sessions and then over subjects. All
images have 32 x 32 pixels, are moved by up to 4 pixels and mirrored at random in training.

**Student.** A residual network of 0.08 million weights. Each of {steps} steps (SGD with momentum 0.9, learning rate
0.1 with a cosine schedule, weight decay 0.001) uses 64 photographs for the cross-entropy, and 32 of the training
images of the brain for the RDM loss (1 - Pearson correlation) of the last stage, averaged over space. Batch
normalisation uses the photographs of the step; images of the brain pass with the stored statistics. These settings
were fixed beforehand and not tuned. The weight of the RDM loss is 0.1, 1 or {most}.

**Controls**, with weights 0.1 and 1: names of the RDM *permuted* among the training images; *permuted within
category* (six categories); a *random RDM* with the spectrum of human IT; an RDM of the *categories*; and the *task
only*.

**Scores.** Each seed holds out another fifth of the 92 images, so that after five seeds each image was held out
once. Score: Spearman correlation with single subjects, for pairs of images that were held out together, with 95%
intervals over images and subjects. Accuracy is measured on all test photographs (chance 0.01), and on
1,000 of them after each of these changes: noise (sd 0.1), a covered square (12 x 12), blur, lower contrast, and one
FGSM step of 1/255. The number of steps is fixed, so nothing is chosen on test photographs or held-out
images. There are {seeds} seeds. {fits}

**Planned contrasts.** Human IT with weights 0.1 and 1 minus each control and minus the task only: 10 contrasts of
the scores (over images and subjects), 10 of the accuracies and 10 of the accuracies with noise (paired t-tests over
seeds, which share the photographs), each family corrected by Holm's method.

{results}

## What this does not show

- The network is small and trained for few passes over the photographs. Longer
  training, larger networks and pretrained ones were not tried.
- 73 or 74 images of the brain, at 32 x 32 pixels, are few.
- Weights between those shown, and other layers, were not tried. The learning rate was not tuned for each weight.
- Tests over seeds say whether a difference holds for other initial weights, batches and splits of the 92 images, not
  for other photographs.
- Weight 10 has the highest score and no controls, so that its score cannot be attributed to human IT.

## Run it

<!-- not run: takes about an hour -->
```bash
python -m docs.experiments.brain_beside_task
```

It continues where it stopped, scores, draws, and writes this page. `--page` only writes the page. Raw results:
`docs/experiments/results/brain_beside_task.csv`, one row per fit with the held-out RDM.
"""


if __name__ == "__main__":
    command(__doc__, SEEDS, run, score_all, page)
