"""A callback that keeps the student's RDM at each evaluation, for a film of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import check_option, refuse
from brainrdl.dissimilarity import measures
from brainrdl.rdms.conversion import from_array
from brainrdl.training.callbacks import Callback

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from brainrdl.models.student import Student
    from brainrdl.stimuli.named_images import Stimuli


class RecordRDMs(Callback):
    """Keep the RDM of one layer of a student at each evaluation during `fit`.

    Parameters
    ----------
    student : Student
        The student that is fitted.
    stimuli : Stimuli
        Images of the conditions.
    names : sequence of str, optional
        Conditions of the RDM (default: all of `stimuli`); held-out ones are only looked at, not trained on.
    layer : str, optional
        Layer of the student; by default its first.
    dissimilarity : str or callable
        A name in `brainrdl.dissimilarity.DISSIMILARITIES`, or a function of patterns.

    Raises
    ------
    BrainrdlError
        If the student has no such layer, or the dissimilarity is unknown.

    Notes
    -----
    The RDM is that of the present weights, not of their average (`FitOptions`: average), and of a single process. The
    fit does not change: the student is in evaluation mode, and no random number is drawn. RDMs are only in memory: a
    run that is resumed records from there on, and one that is finished already records none.

    Examples
    --------
    >>> import torch
    >>> from brainrdl import RDMTeacher, Stimuli, Student, fit
    >>> names = [f"image{i}" for i in range(8)]
    >>> teacher = RDMTeacher(from_array(np.random.default_rng(0).random((1, 28)), names))
    >>> stimuli = Stimuli.from_arrays(torch.rand(8, 1, 8, 8), names)
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16)), ["1"])
    >>> recorded = RecordRDMs(student, stimuli)
    >>> fitted = fit(student, teacher, stimuli, steps=4, evaluate_every=2, device="cpu", progress=False,
    ...              callbacks=[recorded])
    >>> recorded.rdms.rdm_descriptors["step"]
    [0, 2, 4]
    """

    def __init__(
        self,
        student: Student,
        stimuli: Stimuli,
        names: Sequence[str] | None = None,
        *,
        layer: str | None = None,
        dissimilarity: str | measures.Dissimilarity = "correlation",
    ) -> None:
        measures.resolve(dissimilarity)
        self._student, self._stimuli, self._dissimilarity = student, stimuli, dissimilarity
        self._names = tuple(stimuli.names if names is None else names)
        self._layer = student.layers[0] if layer is None else check_option(layer, student.layers, "layer")
        self._steps: list[int] = []
        self._rows: list[np.ndarray] = []
        self._measure = ""

    def on_look(self, row: Mapping[str, Any]) -> None:
        """Compute the RDM of the present weights."""
        found = self._student.rdms(self._stimuli, self._names, self._dissimilarity)
        self._measure = str(found.dissimilarity_measure)
        self._steps.append(int(row["step"]))
        self._rows.append(found.dissimilarities[self._student.layers.index(self._layer)])

    @property
    def rdms(self) -> RDMs:
        """The RDMs, one for each evaluation; rdm descriptors step and layer.

        Raises
        ------
        BrainrdlError
            If there was no evaluation yet.
        """
        if not self._rows:
            refuse(
                "no RDM was recorded: give this callback to fit, in callbacks=[...]; a run that is resumed records "
                "only the evaluations that follow, so one that is finished records none"
            )
        described: dict[str, list[Any]] = {"step": self._steps, "layer": [self._layer] * len(self._steps)}
        return from_array(np.stack(self._rows), self._names, measure=self._measure, descriptors=described)
