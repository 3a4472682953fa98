"""Plain RSA as rsatoolbox's `Result`, and scores of a `Result` as a table of brainrdl."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from brainrdl._core.errors import arg, quote, refuse
from brainrdl.analysis.comparisons import SCORES
from brainrdl.evaluation.rsatoolbox_result import of_one_target, result_of_table
from brainrdl.rdms import conversion
from brainrdl.rdms.by_name import names as names_of

if TYPE_CHECKING:
    from rsatoolbox.inference.result import Result
    from rsatoolbox.model import ModelFixed

    from brainrdl.analysis.rsa_result import RSAResult


def result_of(found: RSAResult, comparator: str | None, target: str | None) -> Result:
    """Make a `Result` of the scores with single subjects; see `RSAResult.to_result`."""
    rows = of_one_target(found.scores, comparator, target, "analysis")
    comparator, target = rows[["comparator", "target"]].iloc[0]
    bounds = found.summary.query("against == 'subjects' and comparator == @comparator and target == @target").iloc[0]
    ceiling = (bounds["ceiling_lower"], bounds["ceiling_upper"])
    return result_of_table(rows, partial(_model, found), ceiling, int(bounds["n_stimuli"]))


def _model(found: RSAResult, model: str, layer: str) -> ModelFixed:
    from rsatoolbox.model import ModelFixed

    known = found.models.rdm_descriptors
    rows = [k for k, key in enumerate(zip(known["model"], known["layer"], strict=True)) if key == (model, layer)]
    described = {"model": [model], "layer": [layer]}
    pairs = found.models.dissimilarities[rows].mean(0)
    return ModelFixed(
        f"{model}, {layer}" if layer else model,
        conversion.from_array(pairs, names_of(found.models), descriptors=described),
    )


def scores_of_result(result: Result, *, target: str = "", subjects: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the scores with single subjects of rsatoolbox's `Result`, as the table `RSAResult.scores`.

    Parameters
    ----------
    result : rsatoolbox.inference.Result
        Of `rsatoolbox.inference.eval_fixed`, or of `RSAResult.to_result`.
    target : str
        Name of the target, which a `Result` does not have.
    subjects : sequence of str, optional
        Names of the subjects, which it does not have either; by default their positions.

    Returns
    -------
    pandas.DataFrame
        One row per model and subject: model, layer, target, comparator, subject, score.

    Raises
    ------
    BrainrdlError
        If the result has no scores with single subjects, for example because it is of a bootstrap, or the number of
        subjects is another one.

    Examples
    --------
    >>> import numpy as np
    >>> from rsatoolbox.inference import eval_fixed
    >>> from rsatoolbox.model import ModelFixed
    >>> from rsatoolbox.rdm import RDMs
    >>> size, *brains = np.random.default_rng(0).random((4, 6))
    >>> result = eval_fixed(ModelFixed("size", size), RDMs(np.stack(brains)), method="corr")
    >>> scores_of_result(result, target="IT")[["model", "target", "comparator", "subject"]].values.tolist()
    [['size', 'IT', 'corr', '0'], ['size', 'IT', 'corr', '1'], ['size', 'IT', 'corr', '2']]
    """
    shape = result.evaluations.shape
    if result.cv_method != "fixed" or len(shape) != 3 or shape[0] != 1:
        refuse(
            f"the result is of {result.cv_method!r} with evaluations of shape {shape}; only the evaluations "
            "(1, n_models, n_subjects) of 'fixed' are scores with single subjects"
        )
    shown = [str(k) for k in range(shape[2])] if subjects is None else list(subjects)
    if len(shown) != shape[2]:
        refuse(f"{arg('subjects')} should name the {shape[2]} subjects of the result, got {quote(shown)}")
    rows = [
        (*_name(model), target, result.method, subject, score)
        for model, scores in zip(result.models, result.evaluations[0], strict=True)
        for subject, score in zip(shown, scores.tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=list(SCORES))


def _name(model: ModelFixed) -> tuple[str, str]:
    """Model and layer, from the descriptors of its RDM if it has them."""
    described = getattr(getattr(model, "rdm_obj", None), "rdm_descriptors", {})
    if {"model", "layer"} <= set(described):
        return str(described["model"][0]), str(described["layer"][0])
    return model.name, ""
