"""The methods text of a plain RSA, its facts and what it cites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from brainrdl.dissimilarity.measures import label_of as measure_label
from brainrdl.reporting.methods import INTERVAL_METHODS, NILI
from brainrdl.reporting.rsa_source import RSA
from brainrdl.reporting.wording import and_joined, counted
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference

_BENJAMINI = Reference(
    "Benjamini & Hochberg, 1995",
    "Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society B 57:289-300.",
    "10.1111/j.2517-6161.1995.tb02031.x",
)

_YEKUTIELI = Reference(
    "Benjamini & Yekutieli, 2001",
    "Benjamini, Y. & Yekutieli, D. (2001). The control of the false discovery rate in multiple testing under "
    "dependency. Annals of Statistics, 29, 1165-1188.",
    "10.1214/aos/1013699998",
)

_CORRECTIONS = {
    "holm": "by Holm's method",
    "fdr": "by the false discovery rate (Benjamini & Hochberg, 1995)",
    "fdr-dependent": "by the false discovery rate for dependent tests (Benjamini & Yekutieli, 2001)",
    "none": "not at all",
}


_INTERVALS = {
    "dyadic": "Intervals (95%) and p-values of scores and of differences between scores were computed from a "
    "cluster-robust variance over stimuli, in which pairs that share a stimulus are correlated (Aronow et al., 2015), "
    "plus the jackknife variance over subjects, with degrees of freedom by Welch and Satterthwaite.",
    "dual-bootstrap": "Intervals (95%) and p-values of scores and of differences between scores were computed from {n} "
    "resamples of the dual bootstrap over stimuli and subjects (Schütt et al., 2023) with a t distribution; they are "
    "conservative.",
}


def facts_of_rsa(summary: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("Data", str(settings.get("data") or "")),
        ("Targets", and_joined(dict.fromkeys(summary["target"]), most=12)),
        ("Models", and_joined(_models(summary), most=12)),
        ("Stimuli", _numbers(summary["n_stimuli"])),
        ("Subjects", _numbers(summary["n_subjects"])),
        ("Comparators", and_joined(label_of(name) for name in dict.fromkeys(summary["comparator"]))),
        ("Dissimilarity", str(settings.get("dissimilarity") or "")),
        ("Correction of p", _CORRECTIONS[settings["correction"]]),
    ]
    return [fact for fact in facts if fact[1]]


def _models(summary: pd.DataFrame) -> Iterator[str]:
    for model, rows in summary.groupby("model", sort=False):
        layers = [layer for layer in dict.fromkeys(rows["layer"]) if layer]
        yield f"{model} ({'layers' if len(layers) > 1 else 'layer'} {', '.join(layers)})" if layers else str(model)


def _numbers(column: pd.Series[int]) -> str:
    low, high = int(column.min()), int(column.max())
    return str(high) if low == high else f"{low} to {high}"


def methods_of_rsa(rsa: RSA) -> Iterator[str]:
    """Write the methods text of a plain RSA."""
    summary, settings, layers = rsa.summary, rsa.settings, rsa.tables["best_layers"]
    comparators = and_joined(_cited(name) for name in dict.fromkeys(summary["comparator"]))
    n_subjects = int(summary["n_subjects"].max())
    subjects = counted(n_subjects, "subject", "subjects")
    models = counted(len(settings["models"]), "model", "models")
    targets = counted(summary["target"].nunique(), "target", "targets")
    stimuli = counted(int(summary["n_stimuli"].max()), "stimulus", "stimuli")
    yield (
        f"The RDMs of {models} were compared with the RDMs of {subjects} in {targets} ({stimuli}), by {comparators}. "
        f"Conditions were matched by name.{_measures(rsa)}"
    )
    if n_subjects > 1:
        yield (
            "Scores are means over subjects of the similarity with each subject's RDM, or similarities with the "
            "subjects' mean RDM. The noise ceiling was computed by leaving out one subject at a time (Nili et al., "
            "2014); the score that a perfect model is expected to reach was estimated by a one-factor model of the "
            "subjects' RDMs."
        )
    if summary["low"].notna().any():
        yield (
            f"{_INTERVALS[settings['intervals']].format(n=settings.get('n_bootstrap'))} "
            "They generalise to other stimuli and other subjects. The p-value of the lower bound is that of the "
            "difference between a score and the lower bound of the noise ceiling, in either direction. P-values were "
            "corrected for their number "
            f"{_CORRECTIONS[settings['correction']]}: scores over all models and targets, differences over all pairs "
            "of models within targets, and over all pairs of targets within models."
        )
    if len(layers):
        yield (
            f"The best layer of each network was chosen by cross-validation with {int(layers['n_folds'].max())} folds "
            "over stimuli"
            f"{' and leaving out one subject at a time' if n_subjects > 1 else ''}: the layer with the highest mean "
            f"score {'with the other subjects ' if n_subjects > 1 else ''}among the other stimuli was scored "
            f"{'with the left-out subject ' if n_subjects > 1 else ''}among the held-out stimuli."
        )


def _measures(rsa: RSA) -> str:
    """Name the dissimilarities of the data and of the models, as far as they are known."""
    found = {what: rsa.rdms[what].dissimilarity_measure for what in ("data", "models") if what in rsa.rdms}
    known = [f"the RDMs of the {what} contain {measure_label(name)}" for what, name in found.items() if name]
    text = " and ".join(known)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _cited(name: str) -> str:
    reference = SIMILARITIES[name].reference
    return f"{label_of(name)} ({reference.cited})" if reference else label_of(name)


def references_of_rsa(rsa: RSA) -> list[Reference]:
    """List what the methods text of a plain RSA cites."""
    summary, settings = rsa.summary, rsa.settings
    used = [SIMILARITIES[name].reference for name in dict.fromkeys(summary["comparator"])]
    fdr = {"fdr": _BENJAMINI, "fdr-dependent": _YEKUTIELI}.get(settings["correction"])
    intervals = INTERVAL_METHODS[settings["intervals"]] if summary["low"].notna().any() else None
    return list({one.doi: one for one in (NILI, intervals, fdr, *used) if one}.values())
