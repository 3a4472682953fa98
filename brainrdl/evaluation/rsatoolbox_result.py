"""An evaluation as rsatoolbox's `Result`: for its plots, its tests between models, and its files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

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
    found = evaluation.scores[evaluation.scores["against"] == "subjects"]
    if found.empty:
        refuse("the evaluation has no scores against subjects, which rsatoolbox's Result needs")
    scores = of_one_target(found, comparator, target, "evaluation")
    lower, upper = scores[["ceiling_lower", "ceiling_upper"]].mean()

    def model(student: str, layer: str) -> Model:
        return _model(evaluation.students, student, layer, scores["target"].iloc[0])

    return result_of_table(
        scores.rename(columns={"student": "model"}), model, (lower, upper), evaluation.teacher.n_cond
    )


def of_one_target(scores: pd.DataFrame, comparator: str | None, target: str | None, what: str) -> pd.DataFrame:
    """Select the scores of one comparator and target, which must be chosen if there are several targets.

    Examples
    --------
    >>> import pandas as pd
    >>> scores = pd.DataFrame({"comparator": ["corr", "cosine"], "target": "IT", "score": [0.2, 0.3]})
    >>> of_one_target(scores, "cosine", None, "analysis")["score"].tolist()
    [0.3]
    """
    comparators, targets = (list(dict.fromkeys(scores[column])) for column in ("comparator", "target"))
    comparator = check_option(comparator or comparators[0], comparators, "comparator")
    if target is None and len(targets) > 1:
        refuse(f"the {what} has the targets {quote(targets)}; choose one with {arg('target')}")
    target = check_option(target or targets[0], targets, "target")
    return scores[(scores["comparator"] == comparator) & (scores["target"] == target)]


def result_of_table(
    table: pd.DataFrame,
    model_of: Callable[[str, str], Model],
    noise_ceiling: tuple[float, float],
    n_conditions: int,
) -> Result:
    """Make a `Result` as `rsatoolbox.inference.eval_fixed` does, with variances over subjects only.

    Parameters
    ----------
    table : pandas.DataFrame
        Scores of one comparator and target: model, layer, comparator, subject, score; several rows of one subject are
        averaged.
    model_of : callable
        ``model_of(model, layer)`` makes the model.
    noise_ceiling : tuple of float
        Lower and upper bound.
    n_conditions : int
        Number of conditions of the RDMs.

    Examples
    --------
    >>> import pandas as pd
    >>> from rsatoolbox.model import ModelFixed
    >>> columns = {"model": "size", "layer": "", "comparator": "corr"}
    >>> table = pd.DataFrame({**columns, "subject": list("abc"), "score": [0.1, 0.2, 0.3]})
    >>> result_of_table(table, lambda model, layer: ModelFixed(model, np.arange(6.0)), (0.2, 0.4), 4).get_means()
    array([0.2])
    """
    from rsatoolbox.inference.result import Result

    shown = list(dict.fromkeys(zip(table["model"], table["layer"], strict=True)))
    by_subject = table.pivot_table("score", ["model", "layer"], "subject", sort=False, dropna=False)
    scores = np.stack([by_subject.loc[key].to_numpy() for key in shown])
    n_subjects = scores.shape[1]
    result = Result(
        [model_of(*key) for key in shown],
        scores[None],
        method=table["comparator"].iloc[0],
        cv_method="fixed",
        noise_ceiling=np.array(noise_ceiling),
        variances=np.cov(scores, ddof=0) / n_subjects if n_subjects > 1 else None,
        dof=n_subjects - 1,
        n_rdm=n_subjects,
    )
    result.n_pattern = n_conditions  # after its variances are computed, as in eval_fixed
    return result


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
