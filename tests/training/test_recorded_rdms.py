"""The callback that records RDMs keeps those of the student at each evaluation, and does not change the fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from brainrdl import BrainrdlError, RDMTeacher, Stimuli, Student, fit
from brainrdl.rdms.conversion import from_array
from brainrdl.training import RecordRDMs
from brainrdl.training.callbacks import Callback

NAMES = [f"image{k}" for k in range(8)]
TEACHER = RDMTeacher(from_array(np.random.default_rng(0).random((1, 28)), NAMES))
OPTIONS = {"steps": 4, "evaluate_every": 2, "device": "cpu", "progress": False, "seed": 3}


def made() -> tuple[Student, Stimuli]:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 8)
    )
    return Student(net, ["1", "3"]), Stimuli.from_arrays(torch.rand(8, 1, 8, 8), NAMES)


def test_each_evaluation_adds_the_rdm_of_the_present_weights() -> None:
    student, stimuli = made()
    seen = []

    class Keep(Callback):
        def on_look(self, row: object) -> None:
            seen.append(student.rdms(stimuli, NAMES[::-1], "euclidean").dissimilarities[1])

    record = RecordRDMs(student, stimuli, NAMES[::-1], layer="3", dissimilarity="euclidean")
    fit(student, TEACHER, stimuli, callbacks=[record, Keep()], **OPTIONS)
    assert record.rdms.rdm_descriptors["step"] == [0, 2, 4]
    assert record.rdms.rdm_descriptors["layer"] == ["3"] * 3
    assert record.rdms.dissimilarity_measure == "euclidean"
    assert list(record.rdms.pattern_descriptors["stimulus"]) == NAMES[::-1]
    np.testing.assert_array_equal(record.rdms.dissimilarities, np.stack(seen))


def test_a_fit_is_the_same_with_and_without_it() -> None:
    histories = []
    for records in (True, False):
        student, stimuli = made()
        callbacks = [RecordRDMs(student, stimuli)] if records else []
        histories.append(fit(student, TEACHER, stimuli, callbacks=callbacks, **OPTIONS).history.drop(columns="seconds"))
    pd.testing.assert_frame_equal(*histories)


def test_an_unknown_layer_and_rdms_before_the_fit_are_refused() -> None:
    student, stimuli = made()
    with pytest.raises(BrainrdlError, match="layer '2' is not known"):
        RecordRDMs(student, stimuli, layer="2")
    with pytest.raises(BrainrdlError, match=r"no RDM was recorded: .* one that is finished records none"):
        RecordRDMs(student, stimuli).rdms  # noqa: B018
