"""The result of a plain RSA: tables, settings and model RDMs, in memory and in a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainrdl._core.errors import refuse
from brainrdl._core.files import (
    check_digests,
    digests_of,
    read_json,
    read_rdms,
    reason,
    write_csv,
    write_json,
    write_rdms,
)
from brainrdl._core.locks import locked
from brainrdl.analysis.toolbox_results import result_of
from brainrdl.reporting.rsa_figures import write_figures
from brainrdl.reporting.rsa_page import write_rsa_page
from brainrdl.reporting.rsa_source import RSA_FACTS, TABLES, read_table
from brainrdl.runs.provenance import describe, gather_provenance

if TYPE_CHECKING:
    from rsatoolbox.inference.result import Result
    from rsatoolbox.rdm import RDMs

_RDM_FILES = ("models", "data")


@dataclass(frozen=True, repr=False, eq=False)
class RSAResult:
    """Scores of models with targets, their differences, and the best layers.

    Attributes
    ----------
    summary : pandas.DataFrame
        One row per model x layer x target x comparator x against ("subjects" or "mean"): score, 95% interval (low,
        high), p (of a true score of 0) and p_corrected (over all rows with the same comparator and reference),
        p_ceiling (of a model that predicts a subject as well as the mean of the other subjects does, the lower bound of
        the noise ceiling, see `brainrdl.inference.ceiling_test`; NaN for fewer than 3 subjects), ceiling (the score
        that a perfect model is expected to reach), ceiling_lower and ceiling_upper (bounds of the noise ceiling), share
        of the ceiling (NaN if it is near 0), n_stimuli, n_subjects.
    contrasts : pandas.DataFrame
        Differences between scores with their 95% interval and p. Family "models": two models (model, layer; other,
        other_layer) with the same target; family "targets": the same model with two targets (target; other_target).
        p_corrected is for the contrasts of the same family, comparator and reference.
    best_layers : pandas.DataFrame
        The best layer of each network for each target, chosen on some stimuli and subjects and scored on the others;
        see `brainrdl.analysis.best_layers`.
    scores : pandas.DataFrame
        One row per model x layer x target x comparator x subject.
    models, data : rsatoolbox.rdm.RDMs
        Model RDMs (rdm descriptors model and layer, also subject if a model has an RDM for each) and the mean RDM of
        each target (rdm descriptor target).
    groups : pandas.DataFrame
        Differences between groups of subjects; empty without groups.
    settings : dict
        Options of the analysis.

    Examples
    --------
    >>> RSAResult.load("no/such/folder")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: cannot read 'no/such/folder/rsa.json': No such file or directory
    """

    summary: pd.DataFrame
    contrasts: pd.DataFrame
    best_layers: pd.DataFrame
    scores: pd.DataFrame
    models: RDMs
    data: RDMs
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Summarise in one line what was compared."""
        shown = [
            f"{column}s={list(dict.fromkeys(self.summary[column]))}" for column in ("model", "target", "comparator")
        ]
        return f"RSAResult({', '.join([f'n_stimuli={self.data.n_cond}', *shown])})"

    def to_result(self, comparator: str | None = None, *, target: str | None = None) -> Result:
        """Convert scores with single subjects to rsatoolbox's ``Result``: for its plots, its tests, and its files.

        Parameters
        ----------
        comparator : str, optional
            One of the scored comparators; the first one by default.
        target : str, optional
            Name of the target, if there are several.

        Returns
        -------
        rsatoolbox.inference.Result
            The same as of `rsatoolbox.inference.eval_fixed` with these models; evaluations (1, n_models, n_subjects).
            A model with an RDM for each subject has the mean of them. `brainrdl.analysis.scores_of_result` turns it
            into a table again.

        Raises
        ------
        BrainrdlError
            If the comparator or target is unknown, or there are several targets and none is chosen.

        Notes
        -----
        Its variances, and so its tests and error bars, are over subjects only, about other subjects with the same
        stimuli. Read as statements about new stimuli, such tests rejected 4 to 56 % of true null hypotheses in a
        simulation (docs/validity.md). The intervals of `summary` and `contrasts` are over subjects and stimuli.

        Examples
        --------
        >>> import numpy as np
        >>> from brainrdl import rdms, rsa
        >>> names, rng = list("abcdefgh"), np.random.default_rng(0)
        >>> brain = rdms.from_array(rng.random((5, 28)), names, descriptors={"subject": list("12345")})
        >>> found = rsa({"size": rdms.from_array(rng.random(28), names)}, brain, comparators="corr")
        >>> result = found.to_result()
        >>> result.evaluations.shape, result.method
        ((1, 1, 5), 'corr')
        """
        return result_of(self, comparator, target)

    def save(self, folder: Path | str) -> Path:
        """Write tables as CSV, RDMs as rsatoolbox HDF5, settings as JSON, figures as PNG, and an HTML page.

        Returns
        -------
        Path
            The page, ``report.html``.

        Raises
        ------
        BrainrdlError
            If the folder cannot be written, holds something other than a plain RSA, or another process writes into it.
        """
        folder = Path(folder)
        if folder.is_dir() and any(folder.iterdir()) and not (folder / RSA_FACTS).is_file():
            refuse(
                f"folder {str(folder)!r} holds files that are not of a plain RSA, which would be lost; choose another"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refuse(f"cannot make folder {str(folder)!r}: {reason(error)}; choose another")
        with locked(folder):
            for name in TABLES:
                write_csv(folder / f"{name}.csv", getattr(self, name))
            for name in _RDM_FILES:
                write_rdms(folder / f"{name}.h5", getattr(self, name))
            files = (*(f"{name}.csv" for name in TABLES), *(f"{name}.h5" for name in _RDM_FILES))
            write_json(
                folder / RSA_FACTS,
                {
                    "settings": describe(self.settings),
                    "provenance": gather_provenance(),
                    "files": digests_of(folder, files),
                },
            )
            write_figures(folder)
            return write_rsa_page(folder)

    @classmethod
    def load(cls, folder: Path | str) -> RSAResult:
        """Read a result from a folder written by `save`.

        Raises
        ------
        BrainrdlError
            If a file is missing, damaged, or was not written by `save`.
        """
        folder = Path(folder)
        facts = read_json(folder / RSA_FACTS)
        check_digests(folder, facts["files"], "save the result again, or repeat the analysis")
        tables = {name: read_table(folder / f"{name}.csv") for name in TABLES}
        models, data = (read_rdms(folder / f"{name}.h5") for name in _RDM_FILES)
        return cls(**tables, models=models, data=data, settings=facts["settings"])
