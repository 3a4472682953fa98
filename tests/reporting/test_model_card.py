"""A model card: a header that the hub reads, the scores with their ceilings, and what they do not show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import yaml

from brainrdl import FitResult, RDMTeacher, Stimuli, Student, evaluate, rdms
from brainrdl.reporting import card_of

FACTS = {
    "licence": "unknown",
    "config": {"torch": "2.14", "brainrdl": "0.1", "layers": {"a|b": {}}, "dissimilarity": "correlation"},
    "files": {"model.safetensors": "ab12"},
    "weights": "cd34",
    "loads_by": "program",
    "without_program": "",
}


def _header(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def _fitted() -> FitResult:
    history = pd.DataFrame({"step": [0, 5], "train_similarity": [0.1, 0.4]})
    student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    return FitResult(student, history, best_step=5, settings={"teacher": "IT", "train": list("abcdef")})


def test_a_fit_without_held_out_stimuli_has_no_score_in_its_card() -> None:
    card = card_of(_fitted(), FACTS, name="example")
    assert "model-index" not in _header(card)
    assert _header(card)["license"] == "unknown"
    assert "The licence of this model is not stated" in card
    assert "Nothing on this page was measured on held-out stimuli" in card
    assert "It was written by torch 2.14; torch does not promise that later versions can read it" in card
    assert "| `model.safetensors` | `ab12` |" in card
    assert "The licence of this model is not stated" not in card_of(_fitted(), FACTS | {"licence": "mit"}, name="x")


def test_scores_on_other_images_are_in_the_header_and_in_a_table() -> None:
    names = list("abcdef")
    generator = torch.Generator().manual_seed(0)
    teacher = RDMTeacher(rdms.from_array(torch.rand(3, 15, generator=generator).numpy(), names), subject_by="index")
    evaluation = evaluate(_fitted().student, teacher, Stimuli.from_arrays(torch.rand(6, 1, 4, 4), names))
    settings = evaluation.settings | {"elsewhere": {"n_seen": 6, "dropped": []}, "train": names, "teacher": "a|b"}
    card = card_of(_fitted(), FACTS, name="example", elsewhere=replace(evaluation, settings=settings))
    (result,) = _header(card)["model-index"][0]["results"]
    assert result["dataset"] == {"name": "a|b, other stimuli", "type": "a|b"}
    assert [one["value"] for one in result["metrics"]] == [round(score, 4) for score in evaluation.summary["score"]]
    assert "## Scores on other images" in card
    assert "On 6 stimuli that were not used for the fit, the fitted network" in card
    assert "Whether the subjects here are the same as those of the fit was not checked." in card


def test_a_cell_with_a_bar_keeps_the_columns_of_a_table(tmp_path: Path) -> None:
    names = list("abcdef")
    teacher = RDMTeacher(rdms.from_array(torch.rand(2, 15).numpy(), names), subject_by="index")
    models = {"size | colour": rdms.from_array(torch.rand(15).numpy(), names)}
    stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), names)
    card = card_of(_fitted(), FACTS, name="x", elsewhere=evaluate(_fitted().student, teacher, stimuli, models=models))
    (row, *_) = [line for line in card.splitlines() if "size \\| colour" in line]
    header = card.splitlines()[card.splitlines().index(row) - 3 :]
    assert row.replace("\\|", "").count("|") in {line.count("|") for line in header[:2]}
