"""The student of a finished run is the one that was fitted, and its start and its images can be found again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from brainrdl import BrainrdlError, FitResult, Stimuli, recipe
from brainrdl._core.files import digest
from brainrdl.sharing import load_run

from .conftest import NAMES


def test_the_student_of_the_final_fit_is_used(world: Path) -> None:
    run = load_run(world / "run")
    assert run.fit == world / "run" / "final"
    assert set(run.seen) == set(NAMES)
    assert run.student.match == {"pool": "IT"}
    assert not run.student.training
    assert run.transform is run.network.transform


def test_the_student_of_a_plain_fit_gives_the_patterns_of_the_fit(content: dict, tmp_path: Path) -> None:
    del content["evaluation"]
    content["stimuli"]["size"] = 12
    content["student"] |= {"standardise": True, "projection": 4}
    fitted = recipe.run(recipe.check(content), tmp_path / "run", progress=False)
    assert isinstance(fitted, FitResult)
    run = load_run(tmp_path / "run")
    stimuli = Stimuli.from_folder(tmp_path / "images", run.transform)
    assert stimuli.images().shape[-1] == 12
    found, expected = run.student.patterns(stimuli)["pool"], fitted.student.eval().patterns(stimuli)["pool"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_fit_of_one_fold_can_be_chosen(world: Path) -> None:
    run = load_run(world / "run" / "fits" / "fitted-seed3-fold0")
    assert set(run.seen) == set(NAMES[4:])


def test_the_student_before_the_fit_is_made_again(world: Path) -> None:
    run = load_run(world / "run")
    before = run.unfitted()
    assert before is not None
    assert digest(before.model.state_dict()) != digest(run.student.model.state_dict())
    (head,) = before.readout_heads()
    assert head.mean is not None  # calibrated on the images of the run
    again = load_run(world / "run").unfitted()
    assert again is not None
    assert digest(again.state_dict()) == digest(before.state_dict())


def test_a_start_that_differs_from_that_of_the_run_is_no_control(world: Path) -> None:
    run = load_run(world / "run")
    run.settings["initial_weights"] = "0" * 64
    with pytest.warns(UserWarning, match="there is no unfitted control: the first weights of the run cannot be made"):
        assert run.unfitted() is None


def test_images_that_are_gone_or_changed_are_refused(world: Path, tmp_path: Path) -> None:
    run = load_run(world / "run")
    moved = recipe.check(run.recipe.model_dump(mode="json") | {"stimuli": {"folder": str(tmp_path / "images")}})
    object.__setattr__(run, "recipe", moved)
    with pytest.raises(BrainrdlError, match=r"the images that .*final' was fitted to: .*images' does not exist"):
        run.stimuli()
    shutil.copytree(world / "images", tmp_path / "images")
    assert set(run.stimuli().names) == set(NAMES)
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / f"{NAMES[0]}.png")
    with pytest.raises(BrainrdlError, match="they have changed since the fit"):
        run.stimuli()


def test_a_cross_validation_without_a_final_fit_says_how_to_add_one(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "final")
    with pytest.raises(BrainrdlError, match=r"none to all. Add a final fit with .* --resume --set evaluation.final=tr"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "final").mkdir()
    with pytest.raises(BrainrdlError, match=r"run .* is not finished; resume it first"):
        load_run(tmp_path / "run")


def test_a_network_that_has_changed_since_the_run_is_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brainrdl.models import networks
    from brainrdl.stimuli import default_transform

    def wider(name: str, weights: str | None) -> networks.Network:
        return networks.Network(torch.nn.Sequential(torch.nn.Flatten()), default_transform(8, "none", 1), 8, 1)

    monkeypatch.setitem(networks._OWN, "small_cnn", wider)
    with pytest.raises(BrainrdlError, match="network 'small_cnn' is not as it was in the run"):
        load_run(world / "run")
