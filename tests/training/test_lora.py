"""Low-rank adapters of peft: only they are trained, and such a student is stored, resumed and exported like others."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from brainrdl import RDMTeacher, Stimuli, Student, export, fit, rdms
from brainrdl.runs import load_fit

peft = pytest.importorskip("peft")

NAMES = tuple(f"s{i:02d}" for i in range(12))
OPTIONS: dict[str, Any] = {"steps": 6, "lr": 0.01, "device": "cpu", "progress": False}


def shown() -> Stimuli:
    return Stimuli.from_arrays(torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)), NAMES)


def teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 66)), NAMES))


def student() -> Student:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 8))
    adapted = peft.get_peft_model(network, peft.LoraConfig(r=2, target_modules=["1", "3"], lora_dropout=0.1))
    return Student(adapted, ["base_model.model.3"], trainable="as is")


def changed(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {name for name, value in a.items() if isinstance(value, Tensor) and not torch.equal(value, b[name])}


def interrupt(step: int, losses: object) -> None:
    if step == 3:
        signal.raise_signal(signal.SIGINT)


def test_only_the_adapters_are_trained_and_a_resumed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, stopped, resumed = student(), student(), student()
    before = {name: value.clone() for name, value in whole.state_dict().items() if isinstance(value, Tensor)}
    fit(whole, teacher(), shown(), **OPTIONS)
    moved = changed(before, whole.state_dict())
    assert moved == {name for name in before if "lora_" in name}
    watch = type("Watch", (), {"on_step": staticmethod(interrupt)})()
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, teacher(), shown(), out=tmp_path / "run", callbacks=[watch], **OPTIONS)
    fit(resumed, teacher(), shown(), out=tmp_path / "run", resume=True, **OPTIONS)
    assert not changed(whole.state_dict(), resumed.state_dict())
    loaded = student()
    load_fit(tmp_path / "run", loaded)
    assert not changed(whole.state_dict(), loaded.state_dict())


def test_an_adapted_student_is_exported_as_a_network_that_loads_without_peft(tmp_path: Path) -> None:
    made = student()
    export(fit(made, teacher(), shown(), **OPTIONS), tmp_path / "model", stimuli=shown())
    images = shown().images(NAMES)
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys; sys.modules['peft'] = sys.modules['brainrdl'] = None; sys.path.insert(0, 'model'); "
        "import torch; from load import model; torch.save(model(torch.load('images.pt')), 'found.pt')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(dict(torch.load(tmp_path / "found.pt")), made.patterns(shown(), NAMES))
