"""An evaluation as rsatoolbox's `Result`: for its plots, its tests between models, and its files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from brainrdl._core.errors import arg, check_option, quote, refuse

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.inference.result import Result
    from rsatoolbox.model import Model
    from rsatoolbox.rdm import RDMs

    from brainrdl.evaluation.held_out import Evaluation


def to_result(evaluation: Evaluation, comparator: str | None = None, *, target: str | None = None) -> Result:
    """Convert held-out scores against single subjects to rsatoolbox's ``Result``.

    Its variances, and so its tests and error bars, are those of `rsatoolbox.inference.eval_fixed`, over subjects only.
    They are about other subjects with the same stimuli: read as statements about new stimuli, such tests rejected 4 to
    56 % of true null hypotheses in a simulation (docs/validity.md). The intervals of `Evaluation.summary` and the tests
    of `Evaluation.contrasts` are over subjects and stimuli, and therefore wider.

    Parameters
    ----------
    evaluation : Evaluation
        Evaluation with a teacher that has subjects.
    comparator : str, optional
        One of the scored comparators; the first one by default.
    target : str, optional
        Name of the target, if there are several.

    Returns
    -------
    rsatoolbox.inference.Result
        One model per layer of each student, control or model RDM; evaluations (1, n_models, n_subjects): means over
        folds and seeds. The models are fixed; their RDM is the mean over seeds, NaN if a pair was never held out
        together. `Result.save` writes it as HDF5; `brainrdl.read` reads the models' RDMs from that file.

    Raises
    ------
    BrainrdlError
        If the comparator or target is unknown, there are several targets and none is chosen, or there are no scores
        against subjects.

    Examples
    --------
    >>> import torch
    >>> from brainrdl import evaluate, RDMTeacher, Stimuli, Student, rdms
    >>> names = list("abcdef")
    >>> brain = rdms.from_array(torch.rand(3, 15).numpy(), names, descriptors={"subject": ["s1", "s2", "s3"]})
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["1"])
    >>> images = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), names)
    >>> result = to_result(evaluate(student, RDMTeacher(brain), images), "corr")
    >>> result.evaluations.shape, result.method
    ((1, 1, 3), 'corr')
    """
    scores = _scores(evaluation.scores, comparator, target)
    shown = list(dict.fromkeys(zip(scores["student"], scores["layer"], strict=True)))
    table = scores.pivot_table("score", ["student", "layer"], "subject", sort=False, dropna=False)
    values = np.stack([table.loc[key].to_numpy() for key in shown])
    lower, upper = scores[["ceiling_lower", "ceiling_upper"]].mean()
    return result_of_scores(
        [_model(evaluation.students, student, layer, scores["target"].iloc[0]) for student, layer in shown],
        values,
        scores["comparator"].iloc[0],
        (lower, upper),
        evaluation.teacher.n_cond,
    )


def result_of_scores(
    models: Sequence[Model],
    scores: Float[np.ndarray, "n_models n_subjects"],
    comparator: str,
    noise_ceiling: tuple[float, float],
    n_conditions: int,
) -> Result:
    """Make a `Result` as `rsatoolbox.inference.eval_fixed` does, with variances over subjects only.

    Examples
    --------
    >>> from rsatoolbox.model import ModelFixed
    >>> scores = np.array([[0.1, 0.2, 0.3]])
    >>> result_of_scores([ModelFixed("size", np.arange(6.0))], scores, "corr", (0.2, 0.4), 4).get_means()
    array([0.2])
    """
    from rsatoolbox.inference.result import Result

    n_subjects = scores.shape[1]
    result = Result(
        models,
        scores[None],
        method=comparator,
        cv_method="fixed",
        noise_ceiling=np.array(noise_ceiling),
        variances=np.cov(scores, ddof=0) / n_subjects if n_subjects > 1 else None,
        dof=n_subjects - 1,
        n_rdm=n_subjects,
    )
    result.n_pattern = n_conditions  # after its variances are computed, as in eval_fixed
    return result


def _scores(scores: pd.DataFrame, comparator: str | None, target: str | None) -> pd.DataFrame:
    """Keep the scores against subjects of one comparator and target."""
    found = scores[scores["against"] == "subjects"]
    if found.empty:
        refuse("the evaluation has no scores against subjects, which rsatoolbox's Result needs")
    comparator = check_option(comparator or found["comparator"].iloc[0], found["comparator"].unique(), "comparator")
    targets = list(found["target"].unique())
    if target is None and len(targets) > 1:
        refuse(f"the evaluation has the targets {quote(targets)}; choose one with {arg('target')}")
    target = check_option(target or targets[0], targets, "target")
    return found[(found["comparator"] == comparator) & (found["target"] == target)]


def _model(students: RDMs, student: str, layer: str, target: str) -> Model:
    """Make a fixed model from a row's RDM: the mean of held-out RDMs over seeds and left-out subjects."""
    from rsatoolbox.model import ModelFixed

    from brainrdl.rdms.by_name import names
    from brainrdl.rdms.conversion import from_array

    known = students.rdm_descriptors
    wanted = (student, layer, target)
    rows = [
        k for k, row in enumerate(zip(known["student"], known["layer"], known["target"], strict=True)) if row == wanted
    ]
    known = ~np.isnan(students.dissimilarities[rows]).all(axis=0)
    pairs = np.full(known.shape, np.nan)
    pairs[known] = np.nanmean(students.dissimilarities[rows][:, known], axis=0)
    return ModelFixed(f"{student}, {layer}" if layer else student, from_array(pairs, names(students)))
