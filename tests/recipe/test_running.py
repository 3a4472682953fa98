"""A recipe does what the Python API does, into a run folder; what it cannot do is said before any work."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from brainrdl import BrainrdlError, FitResult, RDMLoss, Readout, recipe
from brainrdl._core import progress
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.loss.rdm_loss import Decay
from brainrdl.recipe import building, running
from brainrdl.recipe.schema import Recipe
from brainrdl.runs import run_folder
from brainrdl.stimuli.named_images import Batch
from brainrdl.stimuli.streams import ImageStream
from brainrdl.stimuli.transforms import ImageTransform
from brainrdl.teachers.controls import PermutedTeacher
from brainrdl.teachers.network_teacher import NetworkTeacher

NAMES = [f"face_{i:02d}" for i in range(12)]

ROWS = {"fitted", "unfitted", "reweighted", "permuted", "category", "category lookup"}
ONE_FIT = {"held_out": NAMES[:4], "controls": []}  # for tests of something else than folds and controls


def test_recipe_with_folds_cross_validates_and_keeps_itself_in_the_run_folder(content: dict, tmp_path: Path) -> None:
    content["evaluation"]["folds"] = 2
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    assert set(result.summary["student"]) == ROWS
    assert recipe.load(tmp_path / "run" / "recipe.yaml") == recipe.check(content)
    assert (tmp_path / "run" / "summary.csv").exists()


def test_recipe_runs_the_same_twice(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = {"held_out": NAMES[:4], "controls": ["permuted"]}
    first, second = (running.run(recipe.check(content), tmp_path / run, progress=False) for run in ("a", "b"))
    pd.testing.assert_frame_equal(first.scores, second.scores)


def test_recipe_with_held_out_names_scores_those_alone(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = {"held_out": NAMES[:5], "seeds": [0, 1], "controls": []}
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert result.scores["n_conditions"].eq(5).all()
    for fitted in (tmp_path / "run" / "fits").glob("*/settings.json"):
        assert set(yaml.safe_load(fitted.read_text())["train"]) == set(NAMES[5:])


def test_recipe_with_a_held_out_share_draws_it_by_the_seed(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = {"held_out": 0.4, "seeds": [3]}
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert set(result.summary["student"]) == ROWS
    assert result.scores["n_conditions"].eq(5).all()


PAIRS = {name: f"person {k // 2}" for k, name in enumerate(NAMES)}


@pytest.mark.slow
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("how", [{"folds": 3, "inner_folds": 2}, {"folds": 3}, {"held_out": 0.4}])
def test_groups_of_a_recipe_stay_together(content: dict, tmp_path: Path, how: dict, table: bool) -> None:
    content["evaluation"] = {"groups": PAIRS, "controls": [], **how}
    content["fit"] |= {"validation": 0.5} if how == {"folds": 3} else {}
    if table:
        (tmp_path / "groups.csv").write_text("stimulus,group\n" + "\n".join(",".join(row) for row in PAIRS.items()))
        content["evaluation"]["groups"] = str(tmp_path / "groups.csv")
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    fits = list((tmp_path / "run" / "fits").glob("*/settings.json"))
    assert fits
    for path in fits:
        stored = yaml.safe_load(path.read_text())
        for part in ("train", "validation"):
            inside = {PAIRS[name] for name in stored[part]}
            assert inside.isdisjoint(PAIRS[name] for name in set(NAMES) - set(stored[part]))
    assert recipe.load(tmp_path / "run" / "recipe.yaml") == recipe.check(content)
    running.run(recipe.check(content), tmp_path / "run", resume=True, progress=False)


@pytest.mark.slow
def test_identical_images_are_refused_with_the_keys_that_drop_them_or_keep_them_together(
    content: dict, tmp_path: Path
) -> None:
    for copy, original in ((3, 1), (7, 1)):
        shutil.copy(tmp_path / "images" / f"{NAMES[original]}.png", tmp_path / "images" / f"{NAMES[copy]}.png")
    content["evaluation"] = {"folds": 3, "seeds": [0, 1, 2, 3], "controls": ["unfitted"]}
    words = r"drop one of them with stimuli.drop: \[face_03, face_07\], or keep them together with evaluation.groups"
    with pytest.raises(BrainrdlError, match=words):
        running.run(recipe.check(content), tmp_path / "run", progress=False)
    content["stimuli"]["drop"] = [NAMES[3], NAMES[7]]
    content["evaluation"]["folds"] = 2
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    assert set(result.students.pattern_descriptors["stimulus"]) == set(NAMES) - {NAMES[3], NAMES[7]}


def test_recipe_that_holds_nothing_out_fits_to_all(content: dict, tmp_path: Path) -> None:
    del content["evaluation"]
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, FitResult)
    assert result.settings["train"] == NAMES
    with pytest.raises(BrainrdlError, match="holds out no stimuli, so it cannot be scored"):
        running.evaluate_run(tmp_path / "run")


@pytest.mark.parametrize("shown", [True, False])
def test_a_run_without_progress_hides_that_of_reading_too(
    shown: bool, content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    shutil.copy(tmp_path / "it.h5", tmp_path / "it2.h5")
    content["teacher"]["rdms"] = str(tmp_path / "it*.h5")
    del content["evaluation"]
    with pytest.raises(BrainrdlError):  # both files have the same subjects
        running.run(recipe.check(content), tmp_path / "run", progress=shown)
    assert ("files: 1 of 2" in capsys.readouterr().err) == shown


@pytest.mark.slow
def test_finished_run_is_scored_with_other_comparators_without_a_new_fit(content: dict, tmp_path: Path) -> None:
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    weights = sorted((tmp_path / "run").rglob("weights.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    again = running.evaluate_run(tmp_path / "run", ["tau-a"])
    assert set(again.summary["comparator"]) == {"tau-a"}
    assert len(weights) == 6
    assert [path.stat().st_mtime_ns for path in weights] == before


@pytest.mark.slow
def test_scoring_a_finished_run_again_writes_nothing_into_it(content: dict, tmp_path: Path) -> None:
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    again = running.evaluate_run(tmp_path / "run", ["tau-a"])
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    again.save(tmp_path / "run")  # the way to do it all the same
    assert set(Evaluation.load(tmp_path / "run").summary["comparator"]) == {"tau-a"}


def test_refusal_to_score_a_run_again_names_the_run(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = ONE_FIT
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    Image.fromarray(np.zeros((10, 10), dtype=np.uint8)).save(tmp_path / "images" / f"{NAMES[0]}.png")
    with pytest.raises(BrainrdlError, match=rf"'{tmp_path}/run/settings.json' was written with"):
        running.evaluate_run(tmp_path / "run", ["tau-a"])


@pytest.mark.slow
def test_a_finished_run_is_scored_again_where_symbolic_links_do_not_exist(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.run(recipe.check(content), tmp_path / "run", progress=False)

    def refused(*_: object, **__: object) -> None:
        raise OSError("symbolic links are not supported here")

    monkeypatch.setattr("os.symlink", refused)
    monkeypatch.setattr("os.link", refused)
    assert set(running.evaluate_run(tmp_path / "run", ["tau-a"]).summary["comparator"]) == {"tau-a"}


def test_a_recipe_that_has_changed_since_its_run_is_not_scored(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = ONE_FIT
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    path = tmp_path / "run" / "recipe.yaml"
    path.write_text(path.read_text().replace("intervals: dyadic", "intervals: none"))
    with pytest.raises(BrainrdlError, match=r"recipe.yaml' has changed since the run began"):
        running.evaluate_run(tmp_path / "run")
    assert recipe.load(path).evaluation.intervals == "none"  # as a new recipe


@pytest.mark.parametrize(
    "lost",
    ["fitted-seed0-fold0/weights.safetensors", pytest.param("fitted-seed0-fold0-inner.csv", marks=pytest.mark.slow)],
)
def test_a_run_that_lost_a_fit_is_not_fitted_when_it_is_scored_again(content: dict, tmp_path: Path, lost: str) -> None:
    content["evaluation"] = {"held_out": NAMES[:4], "inner_folds": 2, "controls": ["unfitted"]}
    content["stimuli"].pop("labels")
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    (tmp_path / "run" / "fits" / lost).unlink()
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(BrainrdlError, match=rf"there is no file '.*{lost}', so this run is not finished"):
        running.evaluate_run(tmp_path / "run")
    assert sorted((tmp_path / "run").rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("holds_out", [True, False])
def test_a_run_folder_is_opened_once(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holds_out: bool
) -> None:
    if not holds_out:
        del content["evaluation"]
    opened: list[Path] = []
    real = run_folder.open_folder

    def open_folder(out: Path, **options: bool) -> Path:
        opened.append(Path(out))
        return real(out, **options)

    monkeypatch.setattr(run_folder, "open_folder", open_folder)
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert opened.count(tmp_path / "run") == 1
    assert len(opened) == len(set(opened)) == (7 if holds_out else 1)
    opened.clear()
    if holds_out:
        running.evaluate_run(tmp_path / "run")
        assert opened == []


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A network in a Python file of the user's, `counted_network:make`; the list grows with each one that is built."""
    monkeypatch.chdir(tmp_path)
    Path("counted_network.py").write_text(
        "from torch import nn\n"
        "from brainrdl.models import Network\n"
        "from brainrdl.stimuli import default_transform\n"
        "built = []\n"
        "def make():\n"
        "    built.append(1)\n"
        "    return Network(nn.Sequential(nn.Flatten(), nn.Linear(100, 8)), default_transform(10, 'none', 1), 10, 1)\n"
    )
    with monkeypatch.context() as inner:
        inner.syspath_prepend(str(tmp_path))
        yield importlib.import_module("counted_network").built
    del sys.modules["counted_network"]


def counted(content: dict, **evaluation: object) -> Recipe:
    student = {"model": "counted_network:make", "layers": {"1": "IT"}}
    return recipe.check(content | {"student": student, "evaluation": {**evaluation}})


def test_a_network_is_built_once_per_row_and_once_more_to_detect_sharing(
    content: dict, tmp_path: Path, built: list[int]
) -> None:
    made = counted(content, folds=2)
    running.run(made, tmp_path / "run", progress=False)
    assert len(built) == 2 * len(["fitted", "unfitted", "permuted"]) + 1
    built.clear()
    running.evaluate_run(tmp_path / "run")
    assert len(built) == 7


def test_a_network_that_is_built_already_serves_stimuli_and_student(content: dict, built: list[int]) -> None:
    made = counted(content)
    network = building.make_network(made)
    assert building.make_stimuli(made, network).transform is network.transform
    assert building.make_student(made, network).model is network.module
    assert len(built) == 1
    assert building.make_student(made).model is not network.module


def test_a_network_is_built_once_for_a_single_fit(content: dict, tmp_path: Path, built: list[int]) -> None:
    running.run(counted(content), tmp_path / "run", progress=False)
    assert len(built) == 1


def test_networks_of_one_factory_that_share_weights_are_still_refused(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shared_network.py").write_text(
        "from torch import nn\n"
        "from brainrdl.models import Network\n"
        "from brainrdl.stimuli import default_transform\n"
        "network = Network(nn.Sequential(nn.Flatten(), nn.Linear(100, 8)), default_transform(10, 'none', 1), 10, 1)\n"
        "def make():\n"
        "    return network\n"
    )
    content["student"] = {"model": "shared_network:make", "layers": {"1": "IT"}}
    with pytest.raises(BrainrdlError, match="weights of an earlier student 'fitted' that training changes"):
        running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_provenance_of_a_run_holds_the_digests_of_its_data(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = {"held_out": NAMES[:4]}
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    facts = yaml.safe_load((tmp_path / "run" / "provenance.json").read_text())
    assert facts["hashes"].keys() == {"stimuli", "teacher", "labels"}
    assert all(len(digest) == 64 for digest in facts["hashes"].values())


@pytest.mark.slow
def test_existing_run_folder_is_refused_without_resume_or_overwrite(content: dict, tmp_path: Path) -> None:
    made = recipe.check(content)
    running.run(made, tmp_path / "run", progress=False)
    with pytest.raises(BrainrdlError, match="exists and is not empty"):
        running.run(made, tmp_path / "run", progress=False)
    changed = recipe.check(content | {"fit": {"steps": 2, "evaluate_every": 2, "device": "cpu"}})
    with pytest.raises(BrainrdlError, match=r"was written with .*steps.*4.*now.*2"):
        running.run(changed, tmp_path / "run", resume=True, progress=False)
    running.run(changed, tmp_path / "run", overwrite=True, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student": {"model": "small_cnn", "layers": ["pooll"]}}, r"'pooll'.*nearest: 'pool'"),
        ({"student": {"model": "smal_cnn", "layers": ["pool"]}}, r"'smal_cnn' is not known; nearest: 'small_cnn'"),
        ({"student": {"model": "small_cnn", "layers": {"pool": "IT2"}}}, r"'IT2'.*'IT'"),
        ({"loss": {"similarity": "spearman"}}, r"'spearman' has no gradient"),
        ({"loss": {"dissimilarity": "euclid"}}, r"'euclid' is not known; nearest: 'euclidean'"),
        ({"evaluation": {"folds": 3, "comparators": ["corrr"]}}, r"'corrr' is not known; nearest: 'corr'"),
        ({"evaluation": {"folds": 4}}, r"holds out 3 conditions"),
        ({"evaluation": {"held_out": ["face_0"]}}, r"\['face_0'\] are not in the stimuli .*nearest: 'face_1"),
        ({"stimuli": {"dataset": "mnist", "root": "nowhere"}}, r"cannot read MNIST in .* from stimuli.root 'nowhere'"),
        ({"stimuli": {"arrays": "nothing.npz"}}, r"cannot read stimuli.arrays 'nothing.npz'"),
    ],
)
def test_wrong_name_is_refused_before_anything_is_fitted(
    content: dict, tmp_path: Path, change: dict, message: str
) -> None:
    with pytest.raises(BrainrdlError, match=message):
        running.run(recipe.check(content | change), tmp_path / "run", progress=False)
    assert not list(tmp_path.rglob("weights.safetensors"))
    left = tmp_path / "run"
    assert not left.exists() or {"settings.json", "provenance.json"} < {path.name for path in left.iterdir()}


@pytest.mark.parametrize("evaluation", [{**ONE_FIT, "comparators": ["corrr"]}, {}])
def test_recipe_that_was_refused_runs_when_corrected(content: dict, tmp_path: Path, evaluation: dict) -> None:
    content["evaluation"] = ONE_FIT
    wrong = content | {"evaluation": evaluation}
    if not evaluation:
        wrong = wrong | {"fit": content["fit"] | {"batch_size": 3}}  # refused by fit, not by cross_validate
    with pytest.raises(BrainrdlError, match=r"corrr|batch_size"):
        running.run(recipe.check(wrong), tmp_path / "run", progress=False)
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "summary.csv").exists()


def test_refused_recipe_leaves_what_was_in_the_folder(content: dict, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    wrong = recipe.check(content | {"evaluation": {"folds": 4}})
    with pytest.raises(BrainrdlError, match=r"holds out 3 conditions|holds no settings.json"):
        running.run(wrong, tmp_path / "run", resume=True, progress=False)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_stimuli_that_are_not_the_rdms_conditions_are_refused_by_name(content: dict, tmp_path: Path) -> None:
    (tmp_path / "images" / "face_03.png").rename(tmp_path / "images" / "face_30.png")
    content["stimuli"].pop("labels")
    with pytest.raises(BrainrdlError, match="face_03"):
        running.run(recipe.check(content), tmp_path / "run", progress=False)


def test_stimuli_come_from_arrays_and_keep_only_the_first(tmp_path: Path, content: dict) -> None:
    images = np.random.default_rng(0).random((6, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "s.npz", images=images, names=NAMES[:6], labels=list("aabbab"))
    content["stimuli"] = {"arrays": str(tmp_path / "s.npz"), "first": 5}
    made = recipe.check(content)
    stimuli = building.make_stimuli(made)
    assert stimuli.names == tuple(NAMES[:5])
    assert stimuli.labels[NAMES[2]] == "b"


def test_arrays_without_names_or_with_pickles_are_refused(tmp_path: Path, content: dict) -> None:
    content["stimuli"] = {"arrays": str(tmp_path / "s.npz")}
    made = recipe.check(content)
    np.savez(tmp_path / "s.npz", images=np.zeros((6, 8, 8)))
    with pytest.raises(BrainrdlError, match=r"lacks \['names'\]"):
        building.make_stimuli(made)
    np.savez(tmp_path / "s.npz", images=np.zeros((6, 8, 8)), names=np.array([{}], dtype=object))
    with pytest.raises(BrainrdlError, match="Object arrays"):
        building.make_stimuli(made)


def test_size_changes_the_networks_own_transform(content: dict) -> None:
    content["stimuli"]["size"] = 6
    made = recipe.check(content)
    stimuli = building.make_stimuli(made)
    assert isinstance(stimuli.transform, ImageTransform)
    assert stimuli.images().shape == (12, 1, 6, 6)


@pytest.mark.parametrize("model", ["resnet18", "timm/resnet18"])
def test_size_also_changes_the_preset_of_a_public_network(content: dict, model: str) -> None:
    content["stimuli"]["size"] = 32
    content["student"] = {"model": model, "layers": {"layer1": "IT"}}
    assert building.make_stimuli(recipe.check(content)).images().shape == (12, 3, 32, 32)


def test_size_that_the_network_cannot_take_is_refused_before_any_work(content: dict, tmp_path: Path) -> None:
    content["stimuli"]["size"] = 20
    content["student"] = {"model": "lenet", "layers": {"conv2": "IT"}}
    with pytest.raises(BrainrdlError, match=r"student.model 'lenet' cannot process the images, of shape \(1, 20, 20\)"):
        running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_teacher_may_be_a_network_or_a_control(content: dict) -> None:
    content["teacher"] = {"network": "small_cnn", "layers": ["conv2", "pool"], "dissimilarity": "euclidean"}
    made = recipe.check(content)
    stimuli = building.make_stimuli(made)
    assert isinstance(building.make_teacher(made, stimuli), NetworkTeacher)
    content["teacher"]["control"] = "permuted"
    assert isinstance(building.make_teacher(recipe.check(content), stimuli), PermutedTeacher)


def test_loss_section_becomes_the_loss(content: dict) -> None:
    content["loss"] = {"preset": "rdl2016", "n_pairs": 20, "half_life": 30}
    loss = building.make_loss(recipe.check(content))
    assert loss == RDMLoss.rdl2016(n_pairs=20, half_life=30, match={"pool": "IT"})
    content["loss"] = {"similarity": "cosine", "half_life": 30}
    expected = RDMLoss(similarity="cosine", schedule=Decay(30), match={"pool": "IT"})
    assert building.make_loss(recipe.check(content)) == expected


def test_recipe_with_inner_folds_runs(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = {"held_out": NAMES[:4], "inner_folds": 2, "controls": []}
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert sorted(result.histories["inner"].unique()) == [-1, 0, 1]


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("student", "pool", "avgpool", "student.pool='flatten', now student.pool='avgpool'"),
        ("stimuli", "size", 6, "stimuli.size=None, now stimuli.size=6"),
    ],
)
def test_run_is_not_resumed_with_another_recipe_nor_its_recipe_replaced(
    content: dict, tmp_path: Path, section: str, key: str, value: object, message: str
) -> None:
    content["student"]["layers"] = {"conv2": "IT"}
    content["evaluation"] = ONE_FIT
    first = recipe.check(content)
    running.run(first, tmp_path / "run", progress=False)
    content[section][key] = value
    with pytest.raises(BrainrdlError, match=rf"recipe.yaml' was written with {message}"):
        running.run(recipe.check(content), tmp_path / "run", resume=True, progress=False)
    assert recipe.load(tmp_path / "run" / "recipe.yaml") == first


def test_recipe_of_a_run_that_never_began_may_be_mended_and_resumed(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = ONE_FIT
    (tmp_path / "run").mkdir()
    recipe.save(recipe.check(content | {"evaluation": {"folds": 4}}), tmp_path / "run" / "recipe.yaml")
    running.run(recipe.check(content), tmp_path / "run", resume=True, progress=False)
    assert recipe.load(tmp_path / "run" / "recipe.yaml") == recipe.check(content)


def test_other_comparators_do_not_become_the_runs_own(content: dict, tmp_path: Path) -> None:
    content["evaluation"] = ONE_FIT
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    running.evaluate_run(tmp_path / "run", ["tau-a"])
    again = running.evaluate_run(tmp_path / "run")
    assert set(again.summary["comparator"]) == {"spearman", "corr"}


def test_unfinished_run_is_not_scored_but_refused(content: dict, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    recipe.save(recipe.check(content), tmp_path / "run" / "recipe.yaml")
    with pytest.raises(BrainrdlError, match="is not finished; resume it first: `brainrdl fit` with --resume"):
        running.evaluate_run(tmp_path / "run")
    assert not (tmp_path / "run" / "fits").exists()


@pytest.mark.parametrize("damage", ["npy", "cut off"])
def test_arrays_that_are_no_archive_are_refused(tmp_path: Path, content: dict, damage: str) -> None:
    path = tmp_path / "s.npz"
    np.savez(path, images=np.zeros((6, 8, 8)), names=NAMES[:6])
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros((6, 8, 8)))
    else:
        path.write_bytes(path.read_bytes()[:200])
    content["stimuli"] = {"arrays": str(path)}
    with pytest.raises(BrainrdlError, match=r"cannot read stimuli.arrays .* should be .npz with images and names"):
        building.make_stimuli(recipe.check(content))


def test_teacher_network_sees_images_as_its_own_weights_expect_them(content: dict) -> None:
    content["teacher"] = {"network": "lenet", "layers": ["conv1"]}  # 28 pixels; the student's images have 8
    made = recipe.check(content)
    stimuli = building.make_stimuli(made)
    teacher = building.make_teacher(made, stimuli)
    patterns = teacher.patterns(stimuli.batch(NAMES[:4]))["conv1"]
    assert patterns.shape == (4, 6 * 14 * 14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"teacher": {"rdms": "bare.npy"}},
            r"file '.*bare.npy': .* choose one with teacher.by, .* when reading it: teacher.names$",
        ),
        (
            {"teacher": {"rdms": "two.npz"}},
            r"'.*two.npz' .*with teacher.options.variable: .*with teacher.options.names_variable",
        ),
        ({"student": {"model": "small_cnn", "layers": {"pool": "V1"}}}, r"student.layers"),
        ({"stimuli": {"folder": "fewer"}}, r"pass stimuli.allow_missing: true$"),
        ({"teacher": {"rdms": "it.h5", "subjects": ["s9"]}}, r"subjects \['s9'\] are not in .*nearest: 's3'"),
        ({"stimuli": {"folder": "images", "size": 1}}, r"'small_cnn' cannot process .* \(1, 1, 1\) .*size"),
        (
            {"student": {"model": "os:system", "layers": ["0"]}},
            r"'os:system': system\(\) failed \(TypeError.*no argument",
        ),
        ({"student": {"model": "sys:exit", "layers": ["0"]}}, r"'sys:exit': exit\(\) failed \(SystemExit"),
        (
            {"student": {"model": "grey_net:make", "layers": ["0"]}},
            r"cannot process the images, of shape \(3, 10, 10\)",
        ),
        ({"student": {"model": "no_net:make", "layers": ["0"]}}, r"'no_net' cannot be imported \(division by zero\)"),
        ({"teacher": {"network": "grey_net:make", "layers": ["0"]}}, r"teacher.network 'grey_net:make' cannot process"),
    ],
)
def test_fault_of_data_or_network_is_refused_before_any_work_in_words_of_the_recipe(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("bare.npy", np.random.default_rng(0).random(66))
    np.savez("two.npz", one=np.arange(66.0), other=np.arange(66.0), names=NAMES)
    Path("grey_net.py").write_text("from torch import nn\nmake = lambda: nn.Sequential(nn.Conv2d(1, 2, 3))\n")
    Path("no_net.py").write_text("1 / 0\n")
    Path("fewer").mkdir()
    for name in NAMES[:8]:
        shutil.copy(f"images/{name}.png", "fewer")
    if "network" in change.get("teacher", {}):
        change = change | {"student": {"model": "colour_net:make", "layers": ["0"]}}
        Path("colour_net.py").write_text("from torch import nn\nmake = lambda: nn.Sequential(nn.Conv2d(3, 2, 3))\n")
    with pytest.raises(BrainrdlError, match=message):
        running.run(recipe.check(content | change), "run", progress=False)
    assert not Path("run").exists()


def test_factory_is_found_in_the_current_folder_which_then_leaves_the_path(
    content: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    Path("nets_here.py").write_text("from torch import nn\nmake = lambda: nn.Sequential(nn.Conv2d(3, 2, 3))\n")
    before = list(sys.path)
    content["student"] = {"model": "nets_here:make", "layers": ["0"]}
    assert building.make_student(recipe.check(content)).layers == ("0",)
    assert sys.path == before


def test_stimuli_and_conditions_in_common_and_some_subjects_may_be_asked_for(content: dict, tmp_path: Path) -> None:
    for name in NAMES[8:]:
        (tmp_path / "images" / f"{name}.png").unlink()
    content["stimuli"] = {"folder": content["stimuli"]["folder"], "allow_missing": True}
    content["teacher"]["subjects"] = ["s1", "s3"]
    content["evaluation"] = {"folds": 2, "controls": []}
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert set(result.scores["subject"]) == {"", "s1", "s3"}
    assert result.teacher.n_cond == 8


@pytest.mark.parametrize("labels", [pytest.param(None, marks=pytest.mark.slow), "one"])
def test_category_control_is_refused_only_where_asked_for_without_categories(
    content: dict, tmp_path: Path, labels: str | None
) -> None:
    del content["stimuli"]["labels"]
    if labels:
        pd.DataFrame({"stimulus": NAMES, "category": labels}).to_csv(tmp_path / "one.csv", index=False)
        content["stimuli"]["labels"] = str(tmp_path / "one.csv")
    content["evaluation"] = {"held_out": NAMES[:4], "controls": ["category"]}
    told = r"\['one'\]" if labels else "no labels"
    with pytest.raises(BrainrdlError, match=rf"controls has 'category', which needs .* they have {told}; set"):
        running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    del content["evaluation"]["controls"]
    made = recipe.check(content)
    assert recipe.check(yaml.safe_load(recipe.dump(made))) == made  # what is written out is still no request
    result = running.run(made, tmp_path / "run", progress=False)
    assert {"fitted", "unfitted", "reweighted", "permuted"} <= set(result.summary["student"])


@pytest.mark.parametrize("readout", [{}, {"standardise": True, "projection": 2, "trainable": "projection"}])
def test_weights_of_a_run_give_its_network_and_its_readout(content: dict, tmp_path: Path, readout: dict) -> None:
    del content["evaluation"]
    content["student"] |= readout
    fitted = running.run(recipe.check(content), tmp_path / "run", progress=False)
    content["student"]["weights"] = str(tmp_path / "run" / "weights.safetensors")
    student = building.make_student(recipe.check(content))
    torch.testing.assert_close(dict(student.state_dict()), dict(fitted.student.state_dict()), rtol=0, atol=0)
    images = torch.rand(5, 1, 8, 8)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    student.calibrate(images)  # as a fit does: the means of the run are kept
    torch.testing.assert_close(dict(student.state_dict()), before, rtol=0, atol=0)


def test_keys_of_pooling_and_step_reach_student_and_teacher(content: dict) -> None:
    content["student"] |= {"pool": "avgpool_first", "step": 0}
    content["teacher"] = {"network": "small_cnn", "layers": ["conv2"], "pool": "avgpool", "step": 0}
    content["student"]["layers"] = ["conv2"]
    checked = recipe.check(content)
    assert building.make_student(checked).readout_heads()[0].readout == Readout("avgpool_first", step=0)
    stimuli = building.make_stimuli(checked)
    patterns = building.make_teacher(checked, stimuli).patterns(
        Batch(tuple(stimuli.names), stimuli.images(stimuli.names))
    )
    assert patterns["conv2"].shape[1] == 32


def test_pools_of_recipes_are_those_of_readouts(content: dict) -> None:
    content["student"]["pool"] = "grid:3"
    assert building.make_student(recipe.check(content)).readout_heads()[0].readout.pool == "grid:3"
    content["student"]["pool"] = "grid"
    with pytest.raises(BrainrdlError, match=r"student.pool: pool 'grid' is not known; nearest: 'grid:4'"):
        recipe.check(content)


def test_a_recipe_fits_to_features(content: dict, tmp_path: Path) -> None:
    from brainrdl.teachers.feature_teacher import FeatureTeacher

    patterns = np.random.default_rng(0).normal(size=(12, 20))
    np.savez(tmp_path / "it.npz", patterns=patterns, names=NAMES)
    content["teacher"] = {"features": {"IT": str(tmp_path / "it.npz")}, "dissimilarity": "euclidean"}
    content["evaluation"] = ONE_FIT
    checked = recipe.check(content)
    teacher = building.make_teacher(checked, building.make_stimuli(checked))
    assert isinstance(teacher, FeatureTeacher)
    found = running.run(checked, tmp_path / "run", progress=False)
    assert set(found.summary["target"]) == {"IT"}
    content["teacher"] |= {"features": str(tmp_path / "it.npz"), "names": ["a"]}
    with pytest.raises(BrainrdlError, match=r"it.npz.*1 names were given"):
        building.make_teacher(recipe.check(content), building.make_stimuli(checked))


def test_a_layer_of_a_recipe_has_several_targets_with_weights(content: dict, tmp_path: Path) -> None:
    content["teacher"] = {"network": "small_cnn", "layers": ["conv2", "pool"]}
    content["student"]["layers"] = {"pool": {"conv2": 1, "pool": 3}}
    content["evaluation"] = {"folds": 2, "controls": []}
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert set(zip(result.summary["layer"], result.summary["target"], strict=True)) >= {
        ("pool", "conv2"), ("pool", "pool"),
    }  # fmt: skip
    assert building.make_loss(recipe.check(content)).match == {"pool": {"conv2": 1, "pool": 3}}
    content["student"]["layers"] = {"pool": {"conv2": "much"}}
    with pytest.raises(BrainrdlError, match=r"student.layers.*should be .*number"):
        recipe.check(content)


def test_patterns_of_a_recipes_teacher_are_stored_in_a_folder(content: dict, tmp_path: Path) -> None:
    content["teacher"] = {
        "network": "small_cnn", "layers": ["pool"], "cache": str(tmp_path / "cache"), "cache_precision": "float16",
    }  # fmt: skip
    checked = recipe.check(content)
    stimuli = building.make_stimuli(checked)
    building.make_teacher(checked, stimuli).rdms(stimuli.batch(stimuli.names))
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".index", ".rows"]


def test_a_recipes_teacher_sees_what_the_student_sees_if_both_expect_the_same(content: dict) -> None:
    content["teacher"] = {"network": "small_cnn", "layers": ["pool"]}
    views = []
    for view in ("clean", "same"):
        content["teacher"]["view"] = view
        checked = recipe.check(content)
        teacher = building.make_teacher(checked, building.make_stimuli(checked))
        views.append((teacher.view, teacher.uses_images))
    assert views == [("clean", False), ("same", True)]
    content["teacher"] = {"network": "lenet", "layers": ["conv1"], "view": "same"}
    with pytest.raises(BrainrdlError, match=r"teacher.view: same shows the student's images .*use teacher.view: clean"):
        building.make_teacher(recipe.check(content), building.make_stimuli(checked))


@pytest.mark.parametrize("kind", ["permuted_within_class", "spectrum"])
def test_controls_of_a_recipe_are_fitted_in_the_place_of_the_teacher(content: dict, kind: str) -> None:
    content["teacher"]["control"] = kind
    checked = recipe.check(content)
    stimuli = building.make_stimuli(checked)
    teacher = building.make_teacher(checked, stimuli)
    del content["teacher"]["control"]
    original = building.make_teacher(recipe.check(content), stimuli)
    assert teacher.targets == original.targets
    batch = stimuli.batch(stimuli.names)
    assert not torch.allclose(teacher.rdms(batch)["IT"], original.rdms(batch)["IT"])


def test_weights_of_a_run_with_another_readout_are_refused_by_the_keys_to_set(content: dict, tmp_path: Path) -> None:
    del content["evaluation"]
    readout = {"pool": "avgpool", "standardise": True, "projection": 2}
    running.run(recipe.check({**content, "student": content["student"] | readout}), tmp_path / "run", progress=False)
    content["student"]["weights"] = str(tmp_path / "run" / "weights.safetensors")
    with pytest.raises(
        BrainrdlError,
        match=r"another readout of layer 'pool'; set student\.pool: avgpool, student\.standardise: true, "
        r"student\.projection: 2, or train",
    ):
        building.make_student(recipe.check(content))


def test_a_fitted_run_teaches_with_its_readout(content: dict, tmp_path: Path) -> None:
    del content["evaluation"]
    content["student"] |= {"standardise": True, "projection": 2, "trainable": "projection"}
    fitted = running.run(recipe.check(content), tmp_path / "run", progress=False)
    content["teacher"] = {
        "network": "small_cnn", "layers": ["pool"], "weights": str(tmp_path / "run" / "weights.safetensors"),
    }  # fmt: skip
    content["student"]["layers"] = ["pool"]
    checked = recipe.check(content)
    stimuli = building.make_stimuli(checked)
    teacher = building.make_teacher(checked, stimuli)
    got = teacher.rdms(Batch(tuple(stimuli.names), stimuli.images(stimuli.names), None))["pool"][0]
    expected = fitted.student.rdms(stimuli).dissimilarities[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)
    content["teacher"]["pool"] = "avgpool"
    with pytest.raises(BrainrdlError, match=r"another readout of layer 'pool'; set teacher\.pool: flatten"):
        building.make_teacher(recipe.check(content), stimuli)


@pytest.mark.slow
def test_weights_that_saw_the_held_out_stimuli_are_refused(content: dict, tmp_path: Path) -> None:
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    weights = next((tmp_path / "run").rglob("weights.safetensors"))
    content["student"]["weights"] = str(weights)
    with pytest.raises(BrainrdlError, match=r"fitted to \d+ of these stimuli, \['.*held-out stimuli would not be new"):
        running.run(recipe.check(content), tmp_path / "again", progress=False)
    assert not (tmp_path / "again").exists()
    del content["evaluation"]  # nothing is held out, so nothing can leak
    running.run(recipe.check(content), tmp_path / "all", progress=False)


@pytest.mark.slow
def test_a_refusal_with_overwrite_leaves_the_old_run(content: dict, tmp_path: Path) -> None:
    running.run(recipe.check(content), tmp_path / "run", progress=False)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    content["student"]["layers"] = {"pool": "ITT"}
    with pytest.raises(BrainrdlError, match="'ITT'"):
        running.run(recipe.check(content), tmp_path / "run", overwrite=True, progress=False)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_run_made_in_python_is_scored_again_in_python(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(BrainrdlError, match="was made in Python, not by a recipe: score it in Python"):
        running.evaluate_run(tmp_path)


# A task and other terms


def _task_images(tmp_path: Path) -> dict:
    pixels = np.random.default_rng(1).integers(0, 255, (20, 10, 10), dtype=np.uint8)
    names = [f"task_{k:02d}" for k in range(20)]
    np.savez(tmp_path / "task.npz", images=pixels, names=names, labels=["dark", "light"] * 10)
    return {"arrays": str(tmp_path / "task.npz")}


@pytest.mark.slow
def test_a_recipe_learns_a_task_on_images_of_its_own(content: dict, tmp_path: Path) -> None:
    content["task"] = {"stimuli": _task_images(tmp_path), "weight": 0.5, "batch_size": 6, "validation": 0.25}
    content["fit"]["monitor"] = "accuracy"
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    fits = result.histories.query("role == 'student' and step > 0")
    np.testing.assert_allclose(fits["loss"], fits["rdm_loss"] + 0.5 * fits["task_loss"], rtol=1e-5)
    assert fits["validation_accuracy"].notna().all()


@pytest.fixture
def _own_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_data.py").write_text(
        "import torch\n"
        "class Shards:\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __iter__(self):\n"
        "        for k in range(self.n):\n"
        "            yield torch.full((1, 12, 12), k / self.n), ('dark', 'light')[k % 2]\n"
        "make_shards = Shards\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_data", None)


@pytest.mark.usefixtures("_own_stream")
def test_a_recipe_learns_a_task_on_a_stream_of_your_own_package(content: dict, tmp_path: Path) -> None:
    stream = {"factory": "own_data:make_shards", "options": {"n": 20}, "classes": ["dark", "light"], "buffer": 4}
    content["task"] = {"stream": {**stream, "validation": _task_images(tmp_path)}, "batch_size": 6}
    content["evaluation"] = {}
    content["fit"] |= {"steps": 2, "evaluate_every": 1, "monitor": "accuracy"}
    made = building.make_task(recipe.check(content))
    assert isinstance(made.stimuli, ImageStream)
    assert made.stimuli.buffer == 4
    found = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert found.history["validation_accuracy"].notna().all()
    assert found.history["task_loss"].dropna().gt(0).all()


@pytest.mark.usefixtures("_own_stream")
@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            {"stream": {"factory": "own_data:make_shard"}},
            "own_data has no function 'make_shard'; nearest: 'make_shards'",
        ),
        ({"stream": {"factory": "own_data:make_shards"}}, "cannot be called with {}: .* see options of task.stream"),
        (
            {"stream": {"factory": "own_data:make_shards", "options": {"n": 9}}, "validation": 0.2},
            "can be split off",
        ),
        ({"stream": {"factory": "own_data:make_shards"}, "stimuli": {"folder": "x"}}, "stimuli or stream, not both"),
        (
            {
                "stream": {"factory": "own_data:make_shards", "validation": {"folder": "x"}, "options": {"n": 9}},
                "validation": 0.2,
            },
            r"give task.stream.validation \(other images\) or task.validation, not both",
        ),
    ],
)
def test_a_stream_that_cannot_be_made_is_refused(content: dict, task: dict, message: str) -> None:
    content["task"] = task
    with pytest.raises(BrainrdlError, match=message):
        building.make_task(recipe.check(content))


def test_a_task_in_a_recipe_is_on_the_images_of_the_rdm_by_default(content: dict, tmp_path: Path) -> None:
    content["task"] = {"label_smoothing": 0.1}
    content["evaluation"] = ONE_FIT
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    assert result.histories["task_loss"].dropna().gt(0).all()


@pytest.mark.slow
@pytest.mark.usefixtures("_own_package")
def test_a_recipe_has_terms_of_your_own_package(content: dict, tmp_path: Path) -> None:
    content["fit"]["terms"] = {"small": {"factory": "own_terms:make_small", "options": {"power": 3}, "weight": 0.1}}
    found = building.make_terms(recipe.check(content))["small"]
    assert (found.weight, found.on) == (0.1, "rdm")
    result = running.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(result, Evaluation)
    assert result.histories["small_loss"].dropna().gt(0).all()


@pytest.fixture
def _own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "own_terms.py").write_text(
        "def make_small(power=2):\n"
        "    def small(output, batch, step):\n"
        "        return sum(rows.abs().pow(power).mean() for rows in output.patterns.values())\n"
        "    return small\n"
    )
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_terms", None)


@pytest.mark.usefixtures("_own_package")
@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"factory": "own_terms:make_smal"}, "own_terms has no function 'make_smal'; nearest: 'make_small'"),
        ({"factory": "no_such_package:make"}, "'no_such_package' cannot be imported"),
        ({"factory": "own_terms:make_small", "options": {"pow": 1}}, "cannot be called with {'pow': 1}"),
    ],
)
def test_a_term_that_cannot_be_made_is_refused(content: dict, term: dict, message: str) -> None:
    content["fit"]["terms"] = {"small": term}
    with pytest.raises(BrainrdlError, match=message):
        building.make_terms(recipe.check(content))
