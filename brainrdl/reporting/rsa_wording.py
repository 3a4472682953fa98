"""The result of a plain RSA and its limits, in sentences computed from its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from brainrdl.inference.p_values import p_equals
from brainrdl.reporting.rsa_source import RSA, main_rows, row_name
from brainrdl.reporting.wording import and_joined, number, percent, span

_MOST_TARGETS = 6  # of which the result is written out


def headlines_of_rsa(tables: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    rows = main_rows(tables["summary"])
    for target, own in list(rows.groupby("target", sort=False))[:_MOST_TARGETS]:
        ordered = own.sort_values("score", ascending=False, na_position="last", kind="stable")
        best = ordered.to_dict("records")[0]
        share = (
            f", {percent(best['share'])} of what a perfect model is expected to reach"
            if best["share"] == best["share"]
            else ""
        )
        interval = span(best["low"], best["high"])
        known = best["p_corrected"] == best["p_corrected"]
        p = f", corrected p {p_equals(best['p_corrected'])}" if known else ""
        shown = "" if interval == "–" else f" (95% interval {interval}{p})"
        most = "The highest score with" if len(own) > 1 else "The score with"
        yield f"{most} {target} is {number(best['score'])}{shown}, of {row_name(best)}{share}."
    layers = tables["best_layers"]
    if len(layers):
        own = layers[layers["comparator"] == layers["comparator"].iloc[0]]
        for row in own.head(_MOST_TARGETS).to_dict("records"):
            yield (
                f"Best layer of {row['model']} for {row['target']}: {row['layer']} (chosen in {percent(row['chosen'])} "
                f"of the choices). Scored on stimuli and subjects that did not choose it: {number(row['score'])} "
                f"(95% interval {span(row['low'], row['high'])})."
            )


def limits_of_rsa(rsa: RSA) -> Iterator[str]:
    """Say what the page of a plain RSA cannot show."""
    summary, settings = rsa.summary, rsa.settings
    yield (
        "A high score means that a model predicts which stimuli are similar in the brain. It does not show that the "
        "model computes in the same way."
    )
    if summary["model"].nunique() > 1 or summary["layer"].nunique() > 1:
        yield (
            "The highest of several scores is too high on average, because it was chosen. The table of best layers is "
            "free of this, as it scores each choice on other data; the map and the bars are not."
        )
    if summary["target"].nunique() > 1:
        yield (
            "Differences between targets also depend on how reliable their RDMs are. Compare the shares of the ceiling "
            "before you conclude that a model is closer to one region."
        )
    if int(summary["n_subjects"].min()) == 1:
        yield "With one subject (or one RDM for all), intervals are for this subject, and there is no noise ceiling."
    if settings.get("left_out"):
        yield f"Left out, because not all models and data have them: {and_joined(settings['left_out'])}."
