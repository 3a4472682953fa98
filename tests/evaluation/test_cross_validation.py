"""Cross-validation: nothing held out leaks into a fit, controls mean what they say, and what is there is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import PredefinedSplit
from torch import Tensor, nn

from brainrdl import RDMLoss, RDMTeacher, Readout, Stimuli, Student, Task, fit, rdms, report
from brainrdl._core import files as _files
from brainrdl._core.errors import BrainrdlError
from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.dissimilarity.pairs import pair_indices, to_pairs, to_square
from brainrdl.evaluation import baselines, cross_validation as module, plan
from brainrdl.evaluation.cross_validation import cross_validate
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.options import CONTROLS
from brainrdl.evaluation.plan import Candidate
from brainrdl.rdm_models.reweighting import PENALTIES, ReweightedModel
from brainrdl.runs import finished_fits, run_folder
from brainrdl.stimuli.named_images import Batch
from brainrdl.stimuli.transforms import ImageTransform
from brainrdl.teachers.controls import control
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import Teacher
from brainrdl.training import stimulus_lists

N = 16
NAMES = [f"n{i:02d}" for i in range(N)]
LABELS = {name: "abc"[i % 3] for i, name in enumerate(NAMES)}
TEST = NAMES[-6:]
ONE_FOLD = PredefinedSplit([-1] * (N - 6) + [0] * 6)
QUICK: dict[str, Any] = {
    "steps": 2,
    "lr": 0.05,
    "device": "cpu",
    "progress": False,
    "evaluate_every": 1,
}


def images() -> Tensor:
    pixels = torch.rand(N, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels[:, 0, 0, 0] = torch.arange(N) / N  # by which a loaded image is recognised
    return pixels


def make_stimuli(labels: dict[str, str] | None = LABELS) -> Stimuli:
    return Stimuli.from_arrays(images(), NAMES, labels=labels)


def make_student(**options: Any) -> Student:
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), ["1"], **options)


def subject_pairs(n_subjects: int = 3) -> np.ndarray:
    return np.random.default_rng(1).random((n_subjects, N * (N - 1) // 2))


def make_teacher(pairs: np.ndarray | None = None, **options: Any) -> RDMTeacher:
    pairs = subject_pairs() if pairs is None else pairs
    subjects = {"subject": [f"s{s}" for s in range(len(pairs))]}
    return RDMTeacher(rdms.from_array(pairs, NAMES, descriptors=subjects), **options)


def is_held_out() -> np.ndarray:
    """Tell the pairs with a condition of `TEST`."""
    i, j = (index.numpy() for index in pair_indices(N))
    return (i >= N - 6) | (j >= N - 6)


def quick(students: Any = make_student, teacher: Teacher | None = None, **options: Any) -> Evaluation:
    stimuli = options.pop("stimuli", None) or make_stimuli()
    return cross_validate(students, teacher or make_teacher(), stimuli, **{"folds": ONE_FOLD, **QUICK, **options})


def rdm(evaluation: Evaluation, **where: str) -> np.ndarray:
    described = pd.DataFrame({key: list(values) for key, values in evaluation.students.rdm_descriptors.items()})
    chosen = np.all([described[key] == value for key, value in where.items()], axis=0)
    assert chosen.sum() == 1, described
    return evaluation.students.dissimilarities[chosen][0]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


# Nothing leaks


class Recorder:
    """Notes what is asked of a teacher and loaded of the stimuli while a student is fitted."""

    name, targets = "recorder", ("rdm",)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fitting, self.asked, self.loaded, self.fits = False, set[str](), set[str](), 0
        real = module.fit

        def fit(*args: Any, **options: Any) -> Any:
            self.fitting, self.fits = True, self.fits + 1
            try:
                return real(*args, **options)
            finally:
                self.fitting = False

        monkeypatch.setattr(module, "fit", fit)

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        if self.fitting:
            self.asked |= set(batch.names)
        return make_teacher().rdms(batch)

    def stimuli(self) -> Stimuli:
        def transform(image: Tensor) -> Tensor:
            if self.fitting:
                self.loaded.add(NAMES[round(float(image[0, 0, 0]) * N)])
            return image[:1]

        return Stimuli.from_arrays(images(), NAMES, labels=LABELS, transform=transform)


@pytest.mark.slow
def test_histories_keep_left_out_subjects_apart_so_that_their_curves_can_be_drawn(tmp_path: Path) -> None:
    result = quick(subjects="leave-one-out", inner_folds=2, controls=["unfitted"])
    finals = result.histories[result.histories["inner"] == -1]
    assert set(finals["left_out"]) == {"s0", "s1", "s2"}
    assert not finals.duplicated(["student", "seed", "fold", "left_out", "step"]).any()
    assert report(result, tmp_path / "report.html").exists()


@pytest.mark.parametrize("inner_folds", [0, 2])
def test_a_fit_neither_loads_held_out_images_nor_asks_the_teacher_about_them(
    monkeypatch: pytest.MonkeyPatch, inner_folds: int
) -> None:
    recorder = Recorder(monkeypatch)
    result = quick(
        lambda: make_student(readout=Readout(standardise=True)),
        recorder,
        stimuli=recorder.stimuli(),
        inner_folds=inner_folds,
    )
    assert recorder.fits == 2 * (1 + inner_folds)
    assert recorder.asked == set(NAMES) - set(TEST)
    assert recorder.loaded == set(NAMES) - set(TEST)
    assert result.scores["n_conditions"].unique().tolist() == [6]


@pytest.mark.parametrize(
    ("combine", "inner_folds"), [pytest.param("mean", 0, marks=pytest.mark.slow), ("mean", 2), ("reliability", 0)]
)
def test_what_the_teacher_says_of_held_out_conditions_changes_no_prediction(combine: str, inner_folds: int) -> None:
    """Not the students' RDMs, nor their histories and chosen steps, nor the look-up; the scores change."""
    shared, other = subject_pairs() + subject_pairs()[:1], subject_pairs() + subject_pairs()[:1]
    other[:, is_held_out()] = np.random.default_rng(2).random((3, is_held_out().sum()))
    one, two = (
        quick(teacher=make_teacher(pairs, combine=combine), inner_folds=inner_folds) for pairs in (shared, other)
    )
    for student in ("fitted", "unfitted", "reweighted", "permuted", "category", "category lookup"):
        assert same(rdm(one, student=student), rdm(two, student=student))
    pd.testing.assert_frame_equal(one.histories.drop(columns="seconds"), two.histories.drop(columns="seconds"))
    assert not np.allclose(one.scores["score"], two.scores["score"])


def test_what_the_teacher_says_of_training_conditions_changes_the_predictions() -> None:
    other = subject_pairs()
    other[:, ~is_held_out()] = np.random.default_rng(2).random((3, (~is_held_out()).sum()))
    one, two = quick(), quick(teacher=make_teacher(other))
    for student in ("fitted", "reweighted", "permuted", "category lookup"):
        assert not same(rdm(one, student=student), rdm(two, student=student))
    assert same(rdm(one, student="unfitted"), rdm(two, student="unfitted"))


def test_only_pairs_held_out_together_are_kept_and_scored() -> None:
    result = quick(folds=3, seeds=(0,), stratify=False, controls=[])
    pairs = rdm(result, student="fitted")
    sizes = result.scores.drop_duplicates("fold")["n_conditions"]
    assert np.isfinite(pairs).sum() == (sizes * (sizes - 1) // 2).sum()
    assert sizes.sum() == N


def test_the_permuted_teacher_shuffles_training_names_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []
    real = plan.control

    def watched(kind: str, **options: Any) -> Any:
        made.append((kind, options["teacher"].conditions, options["conditions"], options["seed"]))
        return real(kind, **options)

    monkeypatch.setattr(plan, "control", watched)
    quick(seeds=(4,))
    assert set(made) == {("permuted", tuple(NAMES[:-6]), tuple(NAMES[:-6]), 4)}


def test_the_look_up_predicts_the_training_mean_of_each_pair_of_categories() -> None:
    result = quick(controls=["category"])
    mean = subject_pairs().mean(0)
    i, j = (index.tolist() for index in pair_indices(N))
    kinds = ["".join(sorted(LABELS[NAMES[a]] + LABELS[NAMES[b]])) for a, b in zip(i, j, strict=True)]
    table = pd.Series(mean[~is_held_out()]).groupby(np.array(kinds)[~is_held_out()]).mean()
    found = rdm(result, student="category lookup")
    known = np.isfinite(found)
    assert known.sum() == 15
    assert found[known] == pytest.approx(table[np.array(kinds)[known]].to_numpy())


def test_a_pair_of_categories_that_training_never_showed_is_looked_up_as_the_mean_of_all() -> None:
    labels = {name: "z" if name in TEST[:3] else "xy"[i % 2] for i, name in enumerate(NAMES)}
    found = rdm(quick(controls=["category"], stimuli=make_stimuli(labels), stratify=False), student="category lookup")
    of_all = subject_pairs().mean(0)[~is_held_out()].mean()
    first = [NAMES.index(name) for name in TEST[:2]]
    assert to_square(torch.tensor(found))[first[0], first[1]].item() == pytest.approx(of_all)


def test_category_models_are_left_out_where_they_tell_no_pairs_apart() -> None:
    """A correlation that is undefined is neither 0 nor computed from rounding errors."""
    one_in_training = {name: "xy"[name in TEST[:3]] for name in NAMES}
    result = quick(controls=["category"], stimuli=make_stimuli(one_in_training), stratify=False)
    assert set(result.summary["student"]) == {"fitted", "category"}
    one_held_out = {name: "x" if name in TEST else "yz"[i % 2] for i, name in enumerate(NAMES)}
    result = quick(controls=["category"], stimuli=make_stimuli(one_held_out), stratify=False)
    assert set(result.summary["student"]) == {"fitted"}


def test_byte_identical_images_in_two_parts_are_refused() -> None:
    pixels = images()
    pixels[-1] = pixels[0]
    with pytest.raises(BrainrdlError, match="'n15' of held_out is byte-identical to 'n00' of train"):
        quick(stimuli=Stimuli.from_arrays(pixels, NAMES))


def test_all_byte_identical_pairs_of_all_seeds_are_listed_with_the_command_that_drops_them() -> None:
    pixels = images()
    pixels[-1], pixels[3], pixels[4] = pixels[0], pixels[2], pixels[2]
    stimuli = Stimuli.from_arrays(pixels, NAMES)
    words = (
        r"is byte-identical to .*'n04' to 'n02'.*drop one of them with stimuli.drop\(\['n03', 'n04', 'n15'\]\), or keep"
    )
    with pytest.raises(BrainrdlError, match=words):
        quick(stimuli=stimuli, folds=4, seeds=range(6))
    assert len(quick(stimuli=stimuli.drop(["n03", "n04", "n15"]), folds=3, controls=[]).summary)


# Groups

PAIRS = {name: f"pair{i // 2}" for i, name in enumerate(NAMES)}


@pytest.mark.slow
def test_groups_stay_together_in_folds_inner_folds_and_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[list[set[str]]] = []
    real = module.fit

    def fit(student: Any, teacher: Any, stimuli: Any, **options: Any) -> Any:
        train, validation = stimulus_lists.training_names(
            stimuli, options["train"], options["validation"], options["held_out"], options["seed"], options["groups"]
        )
        parts.append([set(train), set(validation), set(options["held_out"])])
        return real(student, teacher, stimuli, **options)

    monkeypatch.setattr(module, "fit", fit)
    for more in ({"inner_folds": 2}, {"validation": 0.4}):
        parts.clear()
        quick(folds=2, groups=PAIRS, seeds=(0, 1), controls=["unfitted"], stimuli=make_stimuli(None), **more)
        assert any(validation for _, validation, _ in parts)
        for three in parts:
            for part in three:
                assert all((NAMES[i] in part) == (NAMES[i + 1] in part) for i in range(0, N, 2))


def test_a_resumed_run_must_have_the_same_groups(tmp_path: Path) -> None:
    options: dict[str, Any] = {"folds": 2, "controls": [], "out": tmp_path / "run"}
    quick(groups=PAIRS, **options)
    stored = _files.read_json(tmp_path / "run" / run_folder.SETTINGS)
    assert stored["groups"] == PAIRS
    table = tmp_path / "groups.csv"
    table.write_text("stimulus,group\n" + "\n".join(f"{name},{group}" for name, group in PAIRS.items()))
    assert len(quick(groups=table, **options, resume=True).summary)
    with pytest.raises(BrainrdlError, match="groups"):
        quick(groups={**PAIRS, NAMES[0]: "pair1"}, **options, resume=True)


@pytest.mark.slow
def test_byte_identical_images_of_one_group_are_not_refused() -> None:
    pixels = images()
    pixels[1] = pixels[0]
    stimuli = Stimuli.from_arrays(pixels, NAMES)
    assert len(quick(folds=4, seeds=(0, 1, 2), groups={"n00": "a", "n01": "a"}, stimuli=stimuli).summary)


def test_groups_that_are_no_mapping_or_table_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"groups must be a mapping or a path, got \['a'\]"):
        quick(groups=["a"])
    with pytest.raises(BrainrdlError, match=r"group table 'nothing\.csv' does not exist"):
        quick(groups="nothing.csv")


def test_groups_as_a_series_give_the_folds_of_a_mapping() -> None:
    options: dict[str, Any] = {"folds": 2, "controls": []}
    one, other = (quick(groups=groups, **options) for groups in (PAIRS, pd.Series(PAIRS)))
    assert same(one.students.dissimilarities, other.students.dissimilarities)


def textures(n: int = N) -> Tensor:
    """Images in which nearly equal ones can be recognised."""
    return torch.rand(n, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def twins() -> Stimuli:
    pixels = textures()
    pixels[1], pixels[-1] = pixels[0].flip(-1), pixels[5] * 0.9
    return Stimuli.from_arrays(pixels, NAMES)


def flat_student() -> Student:
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(576, 8)), ["1"])


@pytest.mark.slow
def test_nearly_identical_images_in_different_folds_are_listed_once_with_the_groups_that_keep_them_together() -> None:
    stimuli, options = twins(), {"folds": 4, "seeds": range(3), "inner_folds": 2, "controls": []}
    words = r"2 pairs of images .* nearly the same \(similarity\): 'n00' and 'n01' \(1.00\), 'n05' and 'n15'"
    with pytest.warns(UserWarning, match=words) as told:
        quick(flat_student, stimuli=stimuli, **options)
    assert len(told) == 1
    groups = eval(str(told[0].message).split("groups=")[1].split("}")[0] + "}")
    assert groups == {"n00": "n00", "n01": "n00", "n05": "n05", "n15": "n05"}
    quick(flat_student, stimuli=twins(), groups=groups, **options)  # without a warning


def test_groups_and_nearly_identical_images_are_joined_in_the_groups_that_are_advised() -> None:
    with pytest.warns(UserWarning, match="'n05' and 'n15'") as told:
        quick(flat_student, stimuli=twins(), groups={"n00": "a", "n01": "a", "n05": "a"}, folds=4, controls=[])
    assert "groups={'n00': 'n00', 'n01': 'n00', 'n05': 'n00', 'n15': 'n00'}" in str(told[0].message)


# Students that share

PROJECTION = Readout(projection=4)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8))


def sharing(kind: str) -> Any:
    """Makes students that are not independent of one another."""
    shared, weights, pool = network(), network().state_dict(), [network() for _ in range(5)]
    whole = Student(shared, ["1"])
    readout = Student(network(), ["1"], readout=PROJECTION, trainable="projection")

    def assigned() -> Student:
        fresh = network()
        fresh.load_state_dict(weights, assign=True)
        return Student(fresh, ["1"])

    def taken() -> Student:
        pool.append(pool.pop(0))
        return Student(pool[0], ["1"])

    return {
        "network": lambda: Student(shared, ["1"]),
        "last layers": lambda: Student(shared, ["1"], trainable="from:1"),
        "statistics": lambda: Student(
            shared, ["1"], readout=PROJECTION, trainable="projection", batchnorm="train"
        ),
        "student": lambda: whole,
        "readout": lambda: readout,
        "weights": assigned,
        "pool": taken,
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["network", "last layers", "statistics", "student", "readout", "weights"])
@pytest.mark.usefixtures("no_fit")
def test_students_that_share_what_training_changes_are_refused_before_any_fit(kind: str, tmp_path: Path) -> None:
    message = "student 'fitted' was made with weights of an earlier student 'fitted' .*; build the network inside"
    with pytest.raises(BrainrdlError, match=message):
        quick(sharing(kind), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_that_comes_back_later_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="build the network inside the function that makes"):
        quick(sharing("pool"), folds=3)


@pytest.mark.parametrize("first", ["frozen", "trained"])
@pytest.mark.usefixtures("no_fit")
def test_candidates_of_one_network_are_refused_if_one_trains_it(first: str) -> None:
    shared, calls = network(), {"frozen": 0, "trained": 0}

    def frozen() -> Student:
        return Student(shared, ["1"], readout=PROJECTION, trainable="projection")

    def trained() -> Student:
        calls["trained"] += 1
        return Student(shared if calls["trained"] == 1 else network(), ["1"], trainable="all")

    both = {"frozen": frozen, "trained": trained}
    with pytest.raises(BrainrdlError, match=r"student '(\w+)' was made with weights of an earlier student '(?!\1)"):
        quick({label: both[label] for label in sorted(both, reverse=first == "trained")})


def test_a_network_that_stays_as_it_is_may_be_shared() -> None:
    shared = network()

    def make(layer: str = "1") -> Student:
        return Student(shared, [layer], readout=Readout(projection=4, standardise=True), trainable="projection")

    def fresh() -> Student:
        copied = network()
        copied.load_state_dict(shared.state_dict())
        return Student(copied, ["1"], readout=Readout(projection=4, standardise=True), trainable="projection")

    one = quick({"a": make, "b": partial(make, "2")}, seeds=(0, 1), controls=())
    two = quick({"a": fresh}, seeds=(0, 1), controls=())
    for seed in (0, 1):
        assert same(rdm(one, student="a", seed=seed), rdm(two, student="a", seed=seed))  # type: ignore[arg-type]


def test_a_network_with_frozen_first_layers_may_share_those() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8))

    def make() -> Student:
        return Student(nn.Sequential(backbone, nn.Linear(8, 6)), ["1"], trainable="from:1")

    assert not quick(make, folds=2).scores.empty


@pytest.mark.usefixtures("no_fit")
def test_what_makes_no_new_student_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="student 'fitted' is a Student; give a function that makes a new Student"):
        quick(make_student())
    with pytest.raises(BrainrdlError, match="makes student 'fitted' should return a Student, got Sequential"):
        quick(network)


# Choosing the number of steps


@pytest.mark.parametrize("files", [("weights.safetensors", "history.csv"), ("weights.safetensors",)])
def test_files_of_another_fold_in_a_fit_are_refused_when_resumed(tmp_path: Path, files: tuple[str, ...]) -> None:
    options: dict[str, Any] = {"folds": 2, "controls": [], "steps": 2, "out": tmp_path / "run"}
    quick(**options)
    first, second = sorted(path for path in (tmp_path / "run" / "fits").iterdir() if path.is_dir())
    for name in files:
        shutil.copy(first / name, second / name)
    with pytest.raises(
        BrainrdlError, match=r"weights.safetensors' does not belong to .*settings.json': it is of a run"
    ):
        quick(**options, resume=True)
    with pytest.raises(BrainrdlError, match="does not belong to"):
        finished_fits.read_history(second)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["fold", "run"])
def test_inner_tables_of_another_fold_or_run_are_refused_when_resumed(tmp_path: Path, of: str) -> None:
    options: dict[str, Any] = {"folds": 2, "controls": [], "steps": 2, "inner_folds": 2}
    for name, seed in (("run", 0), ("other", 1)):
        quick(**options, out=tmp_path / name, lr=0.01 * (1 + seed))
    fits = tmp_path / "run" / "fits"
    first, second = (path.with_suffix("") for path in sorted(fits.glob("*-inner.csv")))
    source = first if of == "fold" else tmp_path / "other" / "fits" / second.name
    for suffix in (".csv", ".json"):
        shutil.copy(source.with_suffix(suffix), second.with_suffix(suffix))
    with pytest.raises(BrainrdlError, match=r"-inner.json' is of another run or fold; delete it, and resume the run"):
        quick(**options, out=tmp_path / "run", lr=0.01, resume=True)


def test_a_run_with_inner_folds_is_not_resumed_with_other_images_or_another_loss_of_the_task(tmp_path: Path) -> None:
    def run(seed: int, factor: float, resume: bool = True) -> None:
        pixels = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
        own = Stimuli.from_arrays(pixels, [f"t{k}" for k in range(8)], labels=list("aabbaabb"))
        task = Task(own, loss=lambda logits, labels: factor * logits.square().mean())
        quick(**options, task=task, out=tmp_path / "run", resume=resume)

    options: dict[str, Any] = {"controls": [], "steps": 2, "inner_folds": 2}
    run(0, 1.0, resume=False)
    shutil.rmtree(next(path for path in (tmp_path / "run" / "fits").iterdir() if path.is_dir()))  # not finished yet
    with pytest.raises(BrainrdlError, match=r"hashes.task_stimuli"):
        run(1, 1.0)
    with pytest.raises(BrainrdlError, match=r"the functions of the run, or their code,|code\.task loss"):
        run(0, 2.0)
    run(0, 1.0)


class Remembers:
    """A dissimilarity that keeps the pairs of each number of conditions in a public attribute."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.cache = factor, dict[int, Any]()

    def __call__(self, x: Tensor) -> Tensor:
        i, j = self.cache.setdefault(x.shape[-2], pair_indices(x.shape[-2]))
        return (x[..., i, :] - x[..., j, :]).square().mean(-1) * self.factor


@dataclass
class RemembersInAField(Remembers):
    factor: float = 1.0
    cache: dict[int, Any] = field(default_factory=dict)


@pytest.mark.parametrize("kind", [Remembers, RemembersInAField])
def test_a_dissimilarity_may_remember_something_from_one_fit_to_the_next(kind: Any, tmp_path: Path) -> None:
    def run(factor: float = 2.0, resume: bool = True) -> Evaluation:
        student = Candidate(make_student, {"loss": RDMLoss(dissimilarity=kind(factor))})
        options: dict[str, Any] = {"controls": [], "inner_folds": 2, "out": tmp_path / "run"}
        return quick({"a": student}, loss=RDMLoss(dissimilarity=kind()), **options, resume=resume)

    whole = run(resume=False)
    last = sorted(path for path in (tmp_path / "run" / "fits").iterdir() if path.is_dir())[-1]
    shutil.rmtree(last)  # the last fit was not finished yet
    pd.testing.assert_frame_equal(run().scores, whole.scores)
    with pytest.raises(BrainrdlError, match=r"code.a.loss.dissimilarity.*holds.factor=2.0, now"):
        run(3.0)


def test_the_steps_are_those_of_the_best_mean_evaluation_of_the_inner_folds() -> None:
    result = quick(inner_folds=2, steps=6, controls=[])
    histories = result.histories
    inner = histories[histories.inner >= 0]
    best = inner.groupby("step")["validation_similarity"].mean().idxmax()
    assert sorted(inner["inner"].unique()) == [0, 1]
    assert histories[histories.inner == -1]["step"].max() == best


def test_validation_stimuli_and_inner_folds_do_not_both_choose_the_steps() -> None:
    with pytest.raises(
        BrainrdlError, match=r"'fitted' has inner_folds=2, .* and validation=0.4, which also chooses it"
    ):
        quick(inner_folds=2, validation=0.4)
    assert not quick(inner_folds=2, validation=[], controls=[]).scores.empty  # the default of a recipe


@pytest.mark.usefixtures("no_fit")
@pytest.mark.parametrize(
    "changes", [{"schedule": "cosine"}, {"students": Candidate(make_student, {"schedule": "cosine"})}]
)
def test_a_schedule_is_not_squeezed_into_the_steps_that_inner_folds_choose(changes: dict[str, Any]) -> None:
    with pytest.raises(
        BrainrdlError, match=r"schedule='cosine', which depends on that number; use schedule='constant'"
    ):
        quick(inner_folds=2, **changes)


def test_a_schedule_goes_with_fixed_steps_or_if_it_knows_none() -> None:
    assert not quick(schedule="cosine", controls=[]).scores.empty
    decay = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9)
    assert not quick(schedule=decay, inner_folds=2, controls=[]).scores.empty


@pytest.mark.parametrize("stratify", [True, False])
def test_inner_folds_are_stratified_as_the_outer_ones(monkeypatch: pytest.MonkeyPatch, stratify: bool) -> None:
    real, asked = plan.stimulus_folds, list[Any]()

    def stimulus_folds(*args: Any, labels: Any, **options: Any) -> pd.DataFrame:
        asked.append(labels)
        return real(*args, labels=labels, **options)

    monkeypatch.setattr(plan, "stimulus_folds", stimulus_folds)
    quick(inner_folds=2, stratify=stratify, controls=[])
    assert asked == [LABELS if stratify else None] * 3  # inner ones twice: to refuse early, and to fit


def test_not_fitting_at_all_may_be_the_best_number_of_steps() -> None:
    result = quick(inner_folds=2, steps=4, lr=1e6, optimizer="sgd", controls=["unfitted"])
    assert result.histories.query("inner == -1")["step"].tolist() == [0]
    assert same(rdm(result, student="fitted"), rdm(result, student="unfitted"))
    row = result.summary.query("student == 'fitted' and against == 'mean' and comparator == 'corr'").iloc[0]
    assert row["gain"] == 0


# A subject left out


def test_a_left_out_subject_never_trains_and_is_scored_against_alone() -> None:
    changed = subject_pairs()
    changed[2] = np.random.default_rng(5).random(changed.shape[1])
    one, two = (
        quick(teacher=make_teacher(pairs), subjects="leave-one-out", models={"size": size_model()})
        for pairs in (subject_pairs(), changed)
    )
    for student in ("fitted", "reweighted", "permuted", "category lookup"):
        assert same(rdm(one, student=student, left_out="s2"), rdm(two, student=student, left_out="s2"))
        assert not same(rdm(one, student=student, left_out="s0"), rdm(two, student=student, left_out="s0"))
    assert set(one.scores["against"]) == {"subjects"}
    fitted = one.scores.query("student == 'fitted' and comparator == 'corr'")
    assert fitted["subject"].tolist() == ["s0", "s1", "s2"]
    own = rdm(one, student="fitted", left_out="s1")
    known = np.isfinite(own)
    expected = np.corrcoef(own[known], subject_pairs()[1][known])[0, 1]
    assert fitted["score"].iloc[1] == pytest.approx(expected, abs=1e-6)
    assert {"size", "category"} <= set(one.summary["student"])


@pytest.mark.parametrize("teacher", [make_teacher(subject_pairs(1)), None])
def test_one_subject_cannot_be_left_out(teacher: Teacher | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BrainrdlError, match="needs a teacher with at least 2 subjects"):
        quick(teacher=teacher or Recorder(monkeypatch), subjects="leave-one-out")


# Resuming


def test_a_resumed_run_must_have_the_same_subjects_for_the_same_rdms(tmp_path: Path) -> None:
    quick(out=tmp_path, controls=[])
    swapped = {"subject": ["s1", "s0", "s2"]}
    with pytest.raises(BrainrdlError, match=r"hashes.teacher"):
        quick(
            teacher=RDMTeacher(rdms.from_array(subject_pairs(), NAMES, descriptors=swapped)),
            out=tmp_path, controls=[], resume=True,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("inner_folds", [0, 2])
def test_a_run_that_was_killed_goes_on_to_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner_folds: int
) -> None:
    options = {"folds": 3, "inner_folds": inner_folds, "out": tmp_path / "run"}
    whole = quick(**{**options, "out": None})
    real, calls = module.fit, list[Path | None]()

    def killed_after(n: int) -> Callable[..., Any]:
        def fit(*args: Any, **given: Any) -> Any:
            if len(calls) == n:
                raise KeyboardInterrupt
            calls.append(given.get("out"))
            return real(*args, **given)

        return fit

    monkeypatch.setattr(module, "fit", killed_after(3 * (1 + inner_folds)))
    with pytest.raises(KeyboardInterrupt):
        quick(**options)
    finished = {path.parent: path.stat().st_mtime_ns for path in tmp_path.rglob("weights.safetensors")}
    assert len(finished) == 3
    calls.clear()
    monkeypatch.setattr(module, "fit", killed_after(1000))
    resumed = quick(**options, resume=True)
    pd.testing.assert_frame_equal(resumed.scores, whole.scores)
    pd.testing.assert_frame_equal(resumed.summary, whole.summary)
    times = {folder: (folder / "weights.safetensors").stat().st_mtime_ns for folder in finished}
    assert times == finished  # what was finished is read, not fitted again
    assert sum("-inner" in str(out) for out in calls) == 3 * inner_folds  # inner fits of what was not finished alone
    assert not list((tmp_path / "run" / "fits").glob("*-inner[0-9]*"))  # their table is kept
    again = Evaluation.load(tmp_path / "run")
    pd.testing.assert_frame_equal(again.summary, whole.summary, rtol=1e-14)


def test_a_run_is_not_resumed_with_another_design_or_other_data(tmp_path: Path) -> None:
    quick(out=tmp_path, controls=[])
    for changes, key in [
        ({"steps": 4}, "fit.steps=2, now fit.steps=4"),
        ({"seeds": (1,)}, r"seeds=\[0\], now seeds=\[1\]"),
        ({"inner_folds": 2}, "inner_folds=0, now inner_folds=2"),
        ({"subjects": "leave-one-out"}, "subjects='all', now subjects='leave-one-out'"),
        ({"teacher": make_teacher(subject_pairs() ** 2)}, "hashes.teacher="),
        ({"stimuli": Stimuli.from_arrays(1 - images(), NAMES, labels=LABELS)}, "hashes.stimuli="),
        ({"stimuli": make_stimuli().with_transform(ImageTransform(4, channels=1))}, "transform=None, now"),
        ({"teacher": make_teacher(combine="all")}, "teacher_identity.combine='mean', now teacher_identity.combine="),
    ]:
        with pytest.raises(BrainrdlError, match=rf"settings.json' was written with {key}"):
            quick(out=tmp_path, controls=[], resume=True, **changes)


def test_a_run_is_not_resumed_with_another_network_of_the_same_shapes(tmp_path: Path) -> None:
    def made(activation: type[nn.Module]) -> Callable[[], Student]:
        return lambda: Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 4), activation()), ["2"])

    told = quick(made(nn.ReLU), out=tmp_path, controls=[]).settings["networks"]["fitted"]
    assert (told["n_parameters"], told["layers"], told["trainable"]) == (68, ["2"], "all")
    with pytest.raises(BrainrdlError, match=r"^the network's modules, or their code, have changed since the run began"):
        quick(made(nn.Tanh), out=tmp_path, controls=[], resume=True)


def test_folds_that_follow_labels_are_not_resumed_with_other_labels(tmp_path: Path) -> None:
    other = make_stimuli({name: "ab"[i % 2] for i, name in enumerate(NAMES)})
    options: dict[str, Any] = {"controls": ["category"]}
    quick(out=tmp_path / "a", **options)
    with pytest.raises(BrainrdlError, match=r"^the stimuli's labels have changed since the run began"):
        quick(out=tmp_path / "a", stimuli=other, resume=True, **options)
    quick(out=tmp_path / "b", stratify=False, **options)
    assert quick(out=tmp_path / "b", stratify=False, stimuli=other, resume=True, **options).labels == other.labels


def test_names_in_any_script_survive_a_run_and_its_resumption(tmp_path: Path) -> None:
    names = [f"Käse {i} 日本" for i in range(N)]
    described = {"subject": ["Zoë", "Łukasz"] * 2, "roi": ["aire é"] * 2 + ["IT"] * 2}
    pairs = np.random.default_rng(1).random((4, N * (N - 1) // 2))
    options = {
        "teacher": RDMTeacher(rdms.from_array(pairs, names, descriptors=described)),
        "stimuli": Stimuli.from_arrays(images(), names, labels=["é" if i % 2 else "ü" for i in range(N)]),
        "students": lambda: Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), {"1": "aire é"}),
        "subjects": "leave-one-out",
        "controls": ["category"],
        "out": tmp_path / "Ergebnis ä",
    }
    first = quick(**options)
    for result in (quick(**options, resume=True), Evaluation.load(options["out"])):
        pd.testing.assert_frame_equal(result.scores, first.scores, rtol=1e-14)
        assert rdms.names(result.teacher) == rdms.names(result.students) == tuple(names)
        assert set(result.students.rdm_descriptors["left_out"]) == {"Zoë", "Łukasz"}
        assert set(result.students.rdm_descriptors["target"]) == {"aire é"}


def test_a_run_goes_on_on_another_device(tmp_path: Path) -> None:
    made = Candidate(make_student, {"device": "cpu", "progress": False})
    first = quick({"a": made}, out=tmp_path, controls=[])
    other = Candidate(make_student, {"device": "auto", "progress": True})
    again = quick({"a": other}, out=tmp_path, controls=[], device="auto", resume=True)
    pd.testing.assert_frame_equal(again.scores, first.scores)


def test_the_folder_of_a_single_fit_is_no_cross_validation_to_go_on_with(tmp_path: Path) -> None:
    fit(make_student(), make_teacher(), make_stimuli(), steps=1, device="cpu", progress=False, out=tmp_path)
    with pytest.raises(BrainrdlError, match=r"settings.json' was written with"):
        quick(out=tmp_path, resume=True)


def test_a_finished_run_may_be_judged_anew(tmp_path: Path) -> None:
    quick(out=tmp_path, comparators=["corr"], controls=[])
    again = quick(
        out=tmp_path,
        resume=True,
        comparators=["cosine"],
        controls=["unfitted"],
        models={"size": size_model()},
    )
    assert set(again.summary["comparator"]) == {"cosine"}
    assert set(again.summary["student"]) == {"fitted", "unfitted", "size"}


def test_an_existing_run_is_neither_touched_nor_lost_unasked(tmp_path: Path) -> None:
    quick(out=tmp_path, controls=[])
    with pytest.raises(BrainrdlError, match="exists and is not empty; resume or overwrite it"):
        quick(out=tmp_path, controls=[])
    assert quick(out=tmp_path, controls=[], overwrite=True, steps=1).settings["fit"]["steps"] == 1


# Students, seeds and rows


def size_model() -> Any:
    return rdms.from_array(np.random.default_rng(8).random(N * (N - 1) // 2), NAMES[::-1])


def test_several_students_bring_their_own_options_and_controls() -> None:
    students = {
        "short": Candidate(make_student, {"steps": 1}, controls=["unfitted"]),
        "long": Candidate(make_student, {"steps": 5}, controls=[]),
        "plain": make_student,
    }
    result = quick(students, controls=["unfitted", "permuted"])
    assert set(result.summary["student"]) == {
        "short", "short, unfitted", "long", "plain", "plain, unfitted", "plain, permuted",
    }  # fmt: skip
    last = result.histories.groupby("student")["step"].max().to_dict()
    assert last == {"short": 1, "long": 5, "plain": 2, "plain, permuted": 2}
    assert same(rdm(result, student="short, unfitted"), rdm(result, student="plain, unfitted"))
    gains = result.summary.dropna(subset="gain")["student"].unique()
    assert set(gains) == {"short", "plain", "plain, permuted"}


def test_the_reweighted_control_is_the_reweighting_of_the_unfitted_student_on_the_training_stimuli() -> None:
    result = quick(lambda: make_student(readout=Readout(standardise=True)), controls=["reweighted"], steps=2)
    split = plan.Split(0, 0, tuple(NAMES[:-6]), tuple(NAMES[-6:]))
    torch.manual_seed(0)
    student = make_student(readout=Readout(standardise=True))
    student.calibrate(make_stimuli().images(split.train))
    patterns = student.patterns(make_stimuli(), NAMES)["1"]
    model = ReweightedModel(
        patterns, NAMES, "correlation", penalties=PENALTIES[::2], folds=baselines._inner_parts(split, None)
    )
    square = to_square(torch.tensor(subject_pairs()))
    fitted = model.fit(to_pairs(square[:, :-6, :-6]), split.train)
    found = rdm(result, student="reweighted")
    np.testing.assert_allclose(found[np.isfinite(found)], fitted.predict(split.test), rtol=1e-5)
    assert "reweighted" in set(result.contrasts["other"])
    assert "unfitted" not in set(result.summary["student"])


def test_a_layer_with_too_many_channels_has_no_reweighted_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MOST_CHANNELS", 7)
    with pytest.warns(UserWarning, match="layer '1' of student 'fitted' has 8 channels, too many"):
        result = quick(controls=["reweighted"])
    assert set(result.summary["student"]) == {"fitted"}


def test_groups_stay_together_in_the_folds_that_choose_a_penalty() -> None:
    groups = {name: f"object{k // 3}" for k, name in enumerate(NAMES)}
    parts = baselines._inner_parts(plan.Split(0, 0, tuple(NAMES), ()), groups)
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    for part in parts:
        assert all(name in part for name in NAMES if groups[name] in {groups[one] for one in part})


def test_labels_whose_folders_would_be_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError, match=r"names \['conv_1-seed0-fold0', .*occur more than once in the folders of"):
        quick({"conv 1": make_student, "conv_1": make_student}, out=tmp_path / "run")


def test_the_unfitted_student_is_calibrated_as_the_fitted_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stimulus_lists, "_CALIBRATION", 4)
    student = Candidate(lambda: make_student(readout=Readout(standardise=True), trainable="all"), {"steps": 0})
    result = quick(student, controls=["unfitted"])
    assert same(rdm(result, student="fitted"), rdm(result, student="unfitted"))


def test_a_student_may_choose_its_steps_where_others_do_not() -> None:
    students = {"chosen": Candidate(make_student, inner_folds=2), "fixed": make_student}
    result = quick(students, controls=[])
    inner = result.histories[result.histories.inner >= 0]
    assert set(inner["student"]) == {"chosen"}


def test_a_student_is_the_same_alone_and_among_others() -> None:
    alone = quick({"b": make_student}, controls=["permuted"])
    among = quick({"a": lambda: make_student(readout=Readout(projection=3)), "b": make_student}, controls=["permuted"])
    for student in ("b", "b, permuted"):
        assert same(rdm(alone, student=student), rdm(among, student=student))


def test_the_loss_says_how_patterns_become_rdms() -> None:
    from brainrdl.dissimilarity.measures import euclidean

    result = quick(loss=RDMLoss(dissimilarity="euclidean"), controls=["unfitted"])
    torch.manual_seed(0)
    with torch.no_grad():
        expected = euclidean(make_student()(make_stimuli().images(TEST)).patterns["1"])
    found = rdm(result, student="unfitted")
    assert found[np.isfinite(found)] == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.slow
def test_each_seed_has_its_own_folds_and_weights() -> None:
    result = quick(folds=3, seeds=(0, 1), controls=["unfitted"])
    by_seed = [np.isfinite(rdm(result, student="fitted", seed=seed)) for seed in (0, 1)]  # type: ignore[arg-type]
    assert not np.array_equal(*by_seed)
    row = result.summary.iloc[0]
    assert (row["n_seeds"], row["n_folds"]) == (2, 3)
    again = quick(folds=3, seeds=(0, 1), controls=["unfitted"])
    pd.testing.assert_frame_equal(result.scores, again.scores)


def test_an_ensemble_is_the_mean_of_z_scored_rdms() -> None:
    students = {"a": make_student, "b": lambda: make_student(readout=Readout(projection=3))}
    result = quick(students, ensembles={"both": ["a", "b"]}, controls=["unfitted"])
    for label, members in {"both": ("a", "b"), "both, unfitted": ("a, unfitted", "b, unfitted")}.items():
        rows = [rdm(result, student=member) for member in members]
        known = np.isfinite(rows[0])
        scored = [(row[known] - row[known].mean()) / row[known].std(ddof=1) for row in rows]
        assert rdm(result, student=label)[known] == pytest.approx(np.mean(scored, axis=0))
    row = result.summary.query("student == 'both' and against == 'mean' and comparator == 'corr'").iloc[0]
    assert row["role"] == "ensemble"
    base = result.summary.query("student == 'both, unfitted' and against == 'mean' and comparator == 'corr'").iloc[0]
    assert row["gain"] == pytest.approx(row["score"] - base["score"])


@pytest.mark.filterwarnings("ignore:layers .* give the same pattern for all images:UserWarning")
def test_a_member_that_tells_nothing_apart_adds_nothing_to_an_ensemble() -> None:
    class Collapsed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat, self.weight = nn.Flatten(), nn.Parameter(torch.ones(()))
            self.out = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.flat(x) * 0 + self.weight)

    students = {"a": make_student, "collapsed": lambda: Student(Collapsed(), ["out"])}
    with pytest.warns(UserWarning, match=r"constant: \['collapsed / out"):
        result = quick(students, ensembles={"both": ["a", "collapsed"]}, controls=[])
    rows = result.summary.query("against == 'mean' and comparator == 'corr'").set_index("student")["score"]
    assert rows["both"] == pytest.approx(rows["a"])
    assert np.isnan(rows["collapsed"])


def test_models_are_paired_by_name() -> None:
    result = quick(models={"size": size_model()}, controls=[])
    whole = rdms.to_tensor(size_model(), NAMES, dtype=torch.float64)[0].numpy()
    found = rdm(result, student="size")
    assert same(found[np.isfinite(found)], whole[np.isfinite(found)])
    assert "partial corr" in set(result.summary["comparator"])


def test_facts_go_into_the_settings(tmp_path: Path) -> None:
    quick(out=tmp_path, facts={"simulated": True}, controls=[])
    assert Evaluation.load(tmp_path).settings["simulated"] is True


@pytest.mark.parametrize("stratify", [True, False])
def test_the_provenance_of_a_run_holds_the_digests_of_its_data(tmp_path: Path, stratify: bool) -> None:
    options: dict[str, Any] = {"stratify": stratify, "controls": ["category"]}
    quick(out=tmp_path / "run", **options)
    other_labels = make_stimuli({name: "ab"[i % 2] for i, name in enumerate(NAMES)})
    quick(out=tmp_path / "other", stimuli=other_labels, **options)
    hashes, other = (_files.read_json(tmp_path / run / "provenance.json")["hashes"] for run in ("run", "other"))
    assert hashes.keys() == {"stimuli", "teacher", "labels"}
    assert {what for what in hashes if hashes[what] != other[what]} == {"labels"}


def test_a_fit_to_all_stimuli_has_the_hashes_of_the_cross_validation(tmp_path: Path) -> None:
    quick(out=tmp_path / "run", controls=[])
    hashes = _files.read_json(tmp_path / "run" / "provenance.json")["hashes"]
    fitted = module.fit(make_student(), make_teacher(), make_stimuli(), steps=0, device="cpu", progress=False)
    assert {what: hashes[what] for what in ("stimuli", "teacher")} == fitted.provenance["hashes"]


def test_an_evaluation_is_printed_in_a_line_without_the_names_of_its_stimuli() -> None:
    printed = repr(quick(controls=["unfitted"]))
    assert printed == (
        "Evaluation(n_stimuli=16, students=['fitted', 'unfitted'], targets=['rdm'], comparators=['spearman', 'corr'])"
    )


def test_labels_and_histories_come_with_the_result() -> None:
    result = quick()
    assert result.labels == LABELS
    assert {"student", "role", "seed", "fold", "inner", "step", "train_similarity"} <= set(result.histories)
    assert set(zip(result.histories["student"], result.histories["role"], strict=True)) == {
        ("fitted", "student"),
        ("permuted", "permuted"),
    }
    assert set(result.histories["student"]) == {"fitted", "permuted"}


# Refusals


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: Any, **options: Any) -> None:
        raise AssertionError("fitted before it was refused")

    monkeypatch.setattr(module, "fit", fit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"controls": ["permutated"]}, "controls: 'permutated' is not known; nearest: 'permuted'"),
        ({"subjects": "each"}, "subjects 'each' is not known"),
        ({"comparators": ["pearson"]}, "comparators: 'pearson' is not known"),
        ({"comparators": []}, "comparators is empty; give at least one"),
        ({"seeds": ()}, "seeds is empty; give at least one"),
        ({"seeds": (1, 1)}, r"names \['1'\] occur more than once in seeds"),
        ({"students": {}}, "there is no student to cross-validate"),
        (
            {"students": {"a": Candidate(make_student, controls=["category"])}},
            "control of student 'a' 'category' is not",
        ),
        ({"students": {"a": Candidate(make_student, {"seed": 3})}}, "fit's option 'seed' is set for each fold"),
        ({"train": NAMES}, "fit's option 'train' is set for each fold"),
        (
            {"ensembles": {"both": ["fitted", "other"]}},
            r"conditions \['other'\] are not in the students of an ensemble",
        ),
        (
            {"students": {"fitted": make_student, "unfitted": make_student}},
            r"names \['unfitted'\] occur more than once",
        ),
        ({"ensembles": {"both": ["fitted", "fitted"]}}, "occur more than once in the students of an ensemble"),
        ({"ensembles": {"fitted": ["fitted"]}}, r"names \['fitted', .*occur more than once in the rows"),
        ({"models": {"category": size_model()}}, r"names \['category'\] occur more than once in the rows"),
        ({"models": {"few": rdms.from_array(np.arange(6.0), NAMES[:4])}}, r"conditions \['n04'"),
        ({"folds": 5}, "fold 1 holds out 3 conditions .*: use fewer folds"),
        ({"folds": 2.0}, "folds must be a whole number, at least 2, got 2.0"),
        ({"stratify": "no"}, "stratify must be True or False, got 'no'"),
        ({"lr": 0}, "lr must be a finite number above 0, got 0"),
        ({"students": {"a": Candidate(make_student, {"out": "here"})}}, "fit's option 'out' is set for each fold"),
        ({"folds": PredefinedSplit([-1] * 14 + [0] * 2)}, "fold 0 holds out 2 conditions .*: hold out more conditions"),
        ({"inner_folds": 3}, "fold 1 holds out 3 conditions .*: use fewer inner_folds"),
        ({"inner_folds": 2.5}, "inner_folds must be a whole number, at least 0, got 2.5"),
        (
            {"students": {"plain": make_student, "a": Candidate(make_student, inner_folds=3)}},
            "fold 1 holds out 3 conditions .*: use fewer inner_folds",
        ),
        ({"n_bootstrap": -1}, "n_bootstrap must be a whole number, at least 0, got -1"),
        (
            {"n_bootstrap": 100},
            "n_bootstrap=100 has no effect with intervals='dyadic'.* leave it out, or use intervals",
        ),
        ({"intervals": "none", "n_bootstrap": 1000}, "n_bootstrap=1000 has no effect with intervals='none'"),
        ({"intervals": "dual-bootstrap", "n_bootstrap": 1}, "'dual-bootstrap' needs at least 2 resamples, got 1"),
        ({"n_bootstrap": "many"}, "n_bootstrap must be a whole number, at least 0, got 'many'"),
        ({"seeds": 3}, r"seeds should be a list, got 3; write \[3\]"),
        ({"comparators": "corr"}, r"comparators should be a list, got 'corr'; write \['corr'\]"),
        ({"seeds": (0, 1.5)}, "each of seeds must be a whole number, at least 0 and below 4294967296, got 1.5"),
        ({"seeds": (2**32,)}, "each of seeds must be a whole number, .* got 4294967296"),
        ({"step": 3}, "option of cross_validate or fit 'step' is not known; nearest: 'steps'"),
        ({"students": {"a": Candidate(make_student, {"learning_rate": 1})}}, "fit 'learning_rate' is not known"),
    ],
)
@pytest.mark.usefixtures("no_fit")
def test_what_cannot_work_is_refused_before_anything_is_fitted(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BrainrdlError, match=message):
        quick(**changes, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"optimizer": "adamm"}, {"steps": 2.5}, {"loss": RDMLoss(match={"1": "IT"})}])
def test_a_run_whose_first_fit_is_refused_leaves_no_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BrainrdlError):
        quick(out=tmp_path / "runs" / "a", **changes)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_refused_after_fits_keeps_them(tmp_path: Path) -> None:
    students = {"good": make_student, "bad": Candidate(make_student, {"batch_size": 3})}
    with pytest.raises(BrainrdlError, match="batch_size must lie between 4"):
        quick(students, controls=[], out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "fits").iterdir()] == ["good-seed0-fold0"]


def test_seeds_may_be_numpys(tmp_path: Path) -> None:
    one = quick(seeds=np.arange(2), controls=[], out=tmp_path)
    pd.testing.assert_frame_equal(one.scores, quick(seeds=(0, 1), controls=[]).scores)


def test_stimuli_that_are_not_the_teachers_are_refused() -> None:
    known = rdms.select(rdms.from_array(subject_pairs(1), NAMES), NAMES[1:])
    with pytest.raises(BrainrdlError, match=r"conditions \['n00'\] are not in"):
        quick(teacher=RDMTeacher(known))


# Recovery


def recovery(**options: Any) -> Evaluation:
    """Subjects see three hidden directions of the images; a linear student is to find them."""
    generator = torch.Generator().manual_seed(3)
    n = 48
    pixels = torch.randn(n, 1, 5, 5, generator=generator)
    hidden = pixels.flatten(1) @ torch.randn(25, 3, generator=generator)
    names = [f"image{i:02d}" for i in range(n)]
    brains = simulate_subjects(hidden, names, n_subjects=5, n_voxels=60, noise=0.7)

    def make() -> Student:
        return Student(nn.Sequential(nn.Flatten(), nn.Linear(25, 12)), {"1": "IT"})

    return cross_validate(
        make, RDMTeacher(brains), Stimuli.from_arrays(pixels, names), lr=0.02,
        device="cpu", progress=False, evaluate_every=50, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def recovered() -> Evaluation:
    return recovery(folds=4, steps=150)


@pytest.mark.slow
@pytest.mark.parametrize("comparator", ["spearman", "corr"])
@pytest.mark.parametrize("against", ["mean", "subjects"])
def test_what_subjects_share_is_found_and_a_permuted_teacher_finds_nothing(
    recovered: Evaluation, comparator: str, against: str
) -> None:
    rows = recovered.summary.query("comparator == @comparator and against == @against").set_index("student")
    score = rows["score"]
    assert score["fitted"] > score["unfitted"] + 0.2
    assert rows.loc["fitted", "gain_low"] > 0
    assert abs(score["permuted"]) < 0.15
    assert 0.6 < rows.loc["fitted", "share"] < 1.05
    assert score["fitted"] < rows.loc["fitted", "ceiling_upper"] + 0.03


def test_a_fit_finds_part_of_what_subjects_share_and_held_out_scores_are_below_those_of_training() -> None:
    found = recovery(folds=2, steps=50, controls=["unfitted"])
    last = found.histories.query("student == 'fitted'").groupby("fold")["train_similarity"].last().mean()
    rows = found.summary.query("comparator == 'corr' and against == 'mean'").set_index("student")
    assert rows.loc["unfitted", "score"] + 0.1 < rows.loc["fitted", "score"] < last


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": make_stimuli()}, "teacher should be a Teacher, got Stimuli; the order is cross_validate"),
        ({"stimuli": make_student}, "stimuli should be a Stimuli, got function"),
        ({"students": make_stimuli()}, "student 'fitted' is a Stimuli; give a function that makes a new Student"),
        ({"controls": "permuted"}, r"controls should be a list, got 'permuted'; write \['permuted'\]"),
        *[
            (
                {"controls": controls, "stimuli": make_stimuli(None)},
                "control 'category' needs labels of two or more categories",
            )
            for controls in (["category"], CONTROLS, list(CONTROLS))
        ],
    ],
)
def test_arguments_in_another_order_and_controls_that_cannot_be_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BrainrdlError, match=message):
        quick(**change)


def test_controls_are_the_same_from_any_sequence_and_by_default_all_that_apply() -> None:
    with_labels, without = make_stimuli(), make_stimuli(None)
    for controls in (CONTROLS, list(CONTROLS)):
        assert plan.controls_for(controls, with_labels) == list(CONTROLS)
    assert plan.controls_for(None, with_labels) == ["unfitted", "reweighted", "permuted", "category"]
    assert plan.controls_for(None, without) == ["unfitted", "reweighted", "permuted"]


@pytest.mark.slow
def test_a_student_is_fitted_to_each_control_of_a_teacher_and_the_pixels_are_scored(tmp_path: Path) -> None:
    asked = ["permuted_within_class", "spectrum", "pixels"]
    result = quick(controls=asked, out=tmp_path / "run")
    rows = result.summary.drop_duplicates("student").set_index("student")["role"]
    assert dict(rows) == {
        "fitted": "student",
        "permuted_within_class": "permuted_within_class",
        "spectrum": "spectrum",
        "pixels": "model",
    }
    assert set(result.histories["role"]) == {"student", "permuted_within_class", "spectrum"}
    assert {"permuted_within_class", "spectrum", "pixels"} <= set(result.contrasts["other"])
    text = report(tmp_path / "run").read_text(encoding="utf-8")
    assert "shuffled among the training stimuli of each category" in text
    assert "random RDMs with the spectrum of the teacher’s" in text


def test_controls_are_fitted_to_what_the_controls_of_a_teacher_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, original = {}, module.fit

    def watched(student: Student, teacher: Teacher, *args: Any, **options: Any) -> Any:
        seen[teacher.name] = teacher
        return original(student, teacher, *args, **options)

    monkeypatch.setattr(module, "fit", watched)
    quick(controls=["permuted_within_class", "spectrum"])
    train = [name for name in NAMES if name not in TEST]
    asked = make_stimuli().batch(train)
    truth = make_teacher().select(train)
    within = control("permuted_within_class", teacher=truth, stimuli=make_stimuli(), conditions=train, seed=0)
    spectrum = control("spectrum", teacher=truth, conditions=train, seed=0)
    for expected in (within, spectrum):
        answer, known = seen[expected.name].rdms(asked), expected.rdms(asked)
        assert all(torch.equal(answer[target], known[target]) for target in known)
        assert set(seen[expected.name].conditions) == set(train)


def test_a_network_teacher_is_compared_with_itself_before_training() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8))
    teacher = NetworkTeacher(network, ["1"], stimuli=make_stimuli())
    result = quick(teacher=teacher, controls=["random"])
    assert "random" in set(result.summary["role"])


@pytest.mark.parametrize(
    ("controls", "labels", "message"),
    [
        (["random"], LABELS, r"control 'random' re-initialises a network"),
        (["permuted_within_class"], None, r"control 'permuted_within_class'.*"),
        (["permuted_within_class"], {name: name for name in NAMES}, "each of the 10 classes has only one name"),
    ],
)
def test_controls_that_a_teacher_or_stimuli_cannot_have_are_refused_before_any_fit(
    monkeypatch: pytest.MonkeyPatch, controls: list[str], labels: dict[str, str] | None, message: str
) -> None:
    monkeypatch.setattr(module, "fit", None)
    with pytest.raises(BrainrdlError, match=message):
        quick(controls=controls, stimuli=make_stimuli(labels))


def test_a_model_that_has_the_name_of_a_control_is_refused() -> None:
    model = rdms.from_array(np.arange(N * (N - 1) // 2), NAMES)
    with pytest.raises(BrainrdlError, match="a model and a control with the name 'pixels'"):
        quick(controls=["pixels"], models={"pixels": model})


@pytest.mark.filterwarnings("ignore:layers .* give the same pattern for all images:UserWarning")
def test_a_network_that_died_is_told() -> None:
    def dead() -> Student:
        made = make_student()
        for parameter in made.parameters():
            nn.init.zeros_(parameter)
        return made

    with pytest.warns(
        UserWarning, match=r"undefined \(NaN\) where an RDM .* constant: \['fitted / 1 / rdm in 1 of 1 folds'\]"
    ):
        evaluation = quick(dead, steps=0, controls=[])
    assert len(evaluation.settings["constant"]) == 1
    assert evaluation.summary["score"].isna().all()
    assert quick(controls=[]).settings["constant"] == []
