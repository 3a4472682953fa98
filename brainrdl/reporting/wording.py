"""The result of a run and its limits, in sentences computed from its tables.

A score against single subjects is compared with the leave-one-subject-out noise ceiling, a score against the mean RDM
with the ceiling for the mean RDM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from brainrdl._core.constants import FINAL, PARTIAL
from brainrdl._core.rows import Against, Role
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.inference.p_values import p_equals
from brainrdl.reporting.run import SHOWN, Run, comparators_of, kinds_of, rows_of, shown_keys
from brainrdl.similarity.comparators import label_of

_ALPHA = 0.05

_COMPARED = 6  # differences between students that are written out

_FITTED = [role.value for role in Role if role.fitted]

# Words and numbers


def number(value: Any, digits: int = 2) -> str:
    """Format a number with a true minus sign; a dash for a missing number."""
    if value is None or not math.isfinite(float(value)):
        return "–"
    text = f"{float(value):.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")


def percent(value: Any) -> str:
    return f"{number(100 * float(value), 0)}%" if math.isfinite(float(value)) else "–"


def span(low: Any, high: Any) -> str:
    known = math.isfinite(float(low)) and math.isfinite(float(high))
    return f"{number(low)} to {number(high)}" if known else "–"


def scored(score: Any, low: Any, high: Any) -> str:
    interval = span(low, high)
    return f"{number(score)} ({'no interval' if interval == '–' else f'95% interval {interval}'})"


def and_joined(words: Iterable[str], most: int = 8) -> str:
    listed = [str(word) for word in words]
    if len(listed) > most:
        listed = [*listed[:most], f"{len(listed) - most} more"]
    return " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def counted(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def who_of(student: str, layer: str) -> str:
    return f"{student} (layer {layer})" if layer else student


# The result


def headlines(run: Run, evaluation: Evaluation) -> Iterator[str]:
    """Give short paragraphs on each of the first students, and the number of the others."""
    keys = shown_keys(evaluation.summary)
    yield from _comparisons(evaluation)
    for key in keys[:SHOWN]:
        yield from _paragraphs(run, evaluation, key, alone=len(keys) == 1)
    if len(keys) > SHOWN:
        yield f"The tables below show {len(keys) - SHOWN} more combinations of student and layer."


def _comparisons(evaluation: Evaluation) -> Iterator[str]:
    """Compare students with each other, on each target; nothing for one student."""
    summary, tested = evaluation.summary, evaluation.contrasts
    between = tested["role"].isin(_FITTED) & tested["other_role"].isin(_FITTED)
    first = (tested["comparator"] == comparators_of(summary)[0]) & (tested["against"] == kinds_of(summary)[0].value)
    for target, rows in tested[between & first].groupby("target", sort=False):
        found = rows_of(rows)
        similarity = label_of(found[0]["comparator"]).replace("'", "’")
        subjects = {"n_subjects": summary["n_subjects"].max(), "against": found[0]["against"]}
        text = [
            f"Students were compared on the same held-out pairs ({similarity} with {_against(subjects)} of {target})."
        ]
        text += [_comparison(row) for row in found[:_COMPARED]]
        if len(found) > _COMPARED:
            real = sum(_is_real(row) for row in found)
            text += [f"Of all {len(found)} differences between students, {real} have a corrected p below {_ALPHA:g}."]
        yield " ".join(text)


def _comparison(found: Mapping[str, Any]) -> str:
    """Say which of two students scored more, only as far as the contrast shows it."""
    layers = ("", "") if found["layer"] == found["other_layer"] else (found["layer"], found["other_layer"])
    one, other = (who_of(f"“{found[key]}”", layer) for key, layer in zip(("student", "other"), layers, strict=True))
    if not math.isfinite(found["difference"]):
        return f"{one} and {other} cannot be compared, because in no fold do both have a score."
    if not math.isfinite(found["p_corrected"]):
        return f"The score of {one} minus that of {other} is {_difference(found)}."
    if not _is_real(found):
        return f"These data do not show a difference between {one} and {other}: {_difference(found)}."
    more = "more" if found["difference"] > 0 else "less"
    return f"{one} scored {more} than {other}, with a difference of {_difference(found)}."


def _paragraphs(run: Run, evaluation: Evaluation, key: tuple[str, str, str], *, alone: bool) -> Iterator[str]:
    """Say what a student scored against subjects and the mean RDM, what fitting changed, and what controls scored."""
    student, layer, target = key
    summary = evaluation.summary
    comparator = comparators_of(summary)[0]
    mine = summary[(summary["target"] == target) & (summary["comparator"] == comparator)]
    own = {"student": student, "layer": layer}
    kinds = kinds_of(summary)
    rows = [row for against in kinds for row in rows_of(mine, **own, against=against.value)]
    similarity = label_of(comparator).replace("'", "’")
    network = "the fitted network" if run.was_fitted else "the network"
    who = who_of(network if alone else f"“{student}”", layer)
    where = "On held-out stimuli, " if run.was_fitted else ""
    if run.elsewhere is not None:
        where = f"On {int(rows[0]['n_stimuli'])} stimuli that were not used for the fit, "
    known = [row for row in rows if math.isfinite(row["score"])]
    if not known:
        sentence = (
            f"{where}{who} has no {similarity} with the RDMs of {target}: in each fold, its RDM is constant or unknown."
        )
        yield f"{sentence[0].upper()}{sentence[1:]}"
        return
    first, *others = known
    sentence = f"{where}{who} reached a {similarity} of {_score_of(first)} with {_against(first)} of {target}."
    yield f"{sentence[0].upper()}{sentence[1:]} {ceiling_sentence(first)}"
    for row in others:
        yield f"With {_against(row)} it reached {_score_of(row)}. {ceiling_sentence(row)}"
    tested = evaluation.contrasts
    yield from _joined(_gain_sentence(tested, first), _control_sentence(tested, mine, first))
    yield from _joined(_category_sentence(tested, mine, first), _partial_sentence(summary, first))


def _joined(*sentences: Iterator[str]) -> Iterator[str]:
    found = [text for part in sentences for text in part]
    if found:
        yield " ".join(found)


def _score_of(row: Mapping[str, Any]) -> str:
    return scored(row["score"], row["low"], row["high"])


def _against(row: Mapping[str, Any]) -> str:
    return (Against(row["against"]).label if row["n_subjects"] > 1 else "the RDM").replace("'", "’")


def ceiling_sentence(row: Mapping[str, Any]) -> str:
    ceiling, low, high, share = (float(row[key]) for key in ("ceiling", "ceiling_lower", "ceiling_upper", "share"))
    if not math.isfinite(ceiling):
        return "There is no noise ceiling to compare this score with, because it requires at least two subjects."
    if not math.isfinite(share):
        return f"The subjects hardly agree (the ceiling is {number(ceiling)}), so these data cannot evaluate a model."
    bounds = f" (bounds of the noise ceiling: {number(low)} to {number(high)})" if low != high else ""
    reached = f"A perfect model is expected to reach {number(ceiling)}{bounds}"
    if row["score"] >= ceiling:
        return f"{reached}. The score is above this, so these data do not show how much remains to be explained."
    return f"{reached}; the score is {percent(share)} of this."


def _tested(contrasts: pd.DataFrame, row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find the contrast between two rows of the summary."""
    if contrasts.empty:
        return None
    same = {column: row[column] for column in ("student", "layer", "target", "comparator", "against")}
    found = rows_of(contrasts, **same, other=other["student"], other_role=other["role"], other_layer=other["layer"])
    return found[0] if found and math.isfinite(found[0]["difference"]) else None


def _difference(found: Mapping[str, Any]) -> str:
    known = math.isfinite(found["p_corrected"])
    tested = f"95% interval {span(found['low'], found['high'])}, corrected p {p_equals(found['p_corrected'])}"
    return f"{number(found['difference'])} ({tested if known else 'not tested'})"


def _is_real(found: Mapping[str, Any]) -> bool:
    return bool(found["p_corrected"] < _ALPHA)


def _gain_sentence(contrasts: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    before = {"student": row["base"], "role": Role.UNFITTED.value, "layer": row["layer"]}
    if found := _tested(contrasts, row, before):
        changed = (
            f"Against {_against(row)}, fitting changed the score by {_difference(found)} relative to the same network "
            "before fitting"
        )
        rise = "an increase" if found["difference"] > 0 else "a decrease"
        verdict = f", {rise}" if _is_real(found) else "; these data do not show a change"
        yield f"{changed}{verdict if math.isfinite(found['p_corrected']) else ''}."


_CONTROLS = {
    Role.REWEIGHTED: "The same network before fitting, with a fitted weight for each channel",
    Role.PERMUTED: "The same network, fitted in the same way to RDMs with shuffled condition names",
}


def _control_sentence(contrasts: pd.DataFrame, mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    """Give the scores of this student's fitted controls: all have the same unfitted student as base."""
    same = {column: row[column] for column in ("against", "layer", "base")}
    for role, network in _CONTROLS.items():
        for one in rows_of(mine, role=role.value, **same)[:1]:
            yield f"{network}, scored {_score_of(one)}{_compared(contrasts, row, one)}."


def _category_sentence(contrasts: pd.DataFrame, mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    for one in rows_of(mine, role=Role.CATEGORY.value, against=row["against"]):
        yield (
            f"The model “{one['student']}”, which predicts each pair from the categories of its stimuli, scored "
            f"{number(one['score'])}{_compared(contrasts, row, one)}."
        )


def _compared(contrasts: pd.DataFrame, row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say whether a student scored more than another row, only as far as the contrast shows it."""
    found = _tested(contrasts, row, other)
    if found is None:
        return ""
    if not math.isfinite(found["p_corrected"]):
        return f"; the difference is {_difference(found)}"
    if not _is_real(found):
        return f"; these data do not show a difference from it: {_difference(found)}"
    more = "more" if found["difference"] > 0 else "less"
    return f"; the network scored {more}, with a difference of {_difference(found)}"


def _partial_sentence(summary: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    partial = PARTIAL + row["comparator"]
    same = {column: row[column] for column in ("student", "layer", "target")}
    for one in rows_of(summary, comparator=partial, **same)[:1]:
        yield (
            f"With the category models and any other models held constant, the network’s {label_of(partial)} with "
            f"the mean RDM was {_score_of(one)}."
        )


def fit_headline(run: Run) -> str:
    history = run.histories
    parts = [f"The fit ran for {int(history['step'].max())} steps."]
    for column, label in (("train_similarity", "training"), ("validation_similarity", "validation")):
        curve = history[column].dropna() if column in history else pd.Series(dtype=float)
        if not curve.empty:
            change = f"went from {number(curve.iloc[0])} to {number(curve.iloc[-1])}"
            parts.append(f"The RDM correlation on {label} stimuli {change} (highest: {number(curve.max())}).")
    if said := accuracy_words(run):
        parts.append(f"{said[0].upper()}{said[1:]}.")
    if run.best_step is not None:
        parts.append(f"The weights of step {run.best_step} were kept.")
    limits = "Nothing on this page was measured on held-out stimuli, so it does not show how well the fit generalises."
    return " ".join([*parts, limits])


def accuracy_words(run: Run) -> str:
    """Give the accuracy of the task at the end of training, averaged over final fits; "" if no task was trained."""
    history = run.histories
    if not run.fit_options.get("task"):
        return ""
    if "inner" in history:
        history = history[history["inner"] == -1]
    fits = [column for column in ("student", "seed", "fold", "left_out") if column in history]
    last = history.groupby(fits, sort=False).tail(1) if fits else history.tail(1)
    found = [
        f"{percent(last[column].mean())} on {label} stimuli"
        for column, label in (("train_accuracy", "training"), ("validation_accuracy", "validation"))
        if column in last and last[column].notna().any()
    ]
    return f"the accuracy of the classification task at the end was {and_joined(found)}" if found else ""


# What the page cannot show

_FEW_SUBJECTS = 10

_WITHOUT = {
    Role.UNFITTED: "There is no unfitted control, so this page cannot show what fitting added.",
    Role.REWEIGHTED: "There is no reweighted control, so this page cannot show whether fitting did more than "
    "weights of channels would do.",
    Role.PERMUTED: "There is no permuted control, so this page cannot show what fitting to shuffled RDMs would give.",
    Role.CATEGORY: "There is no category model, so this page cannot show whether categories alone explain the score.",
}


def limits_of(run: Run) -> Iterator[str]:
    """Say what the page cannot show, given the design of this run."""
    if run.settings.get("simulated"):
        yield "The teacher’s RDMs are simulated. Nothing here is evidence about a brain."
    if run.evaluation is None:
        yield "Nothing was held out, so this page does not show how the network performs on other stimuli."
        yield "A high similarity on training stimuli can be overfitting: a large network also fits shuffled RDMs."
        return
    if run.final is not None:
        yield (
            f"A student was then fitted to all {len(run.final['train'])} stimuli in {run.final['steps']} steps (folder "
            f"“{FINAL}”). It has no held-out score itself: the scores are those of the students of the folds."
        )
    for flat in run.settings.get("constant") or ():
        yield f"{flat[0].upper()}{flat[1:]}, which then have no score and do not count in means over folds."
    yield from _limits_of_sample(run, run.evaluation)
    yield from _limits_of_design(run, run.evaluation)
    yield "Similar RDMs do not imply similar mechanisms: many different representations have the same distances."


def _limits_of_sample(run: Run, evaluation: Evaluation) -> Iterator[str]:
    summary, labels = evaluation.summary, evaluation.labels
    n_subjects, n_stimuli = int(summary["n_subjects"].max()), int(summary["n_stimuli"].max())
    kinds = f" of {len(set(labels.values()))} categories" if labels else ""
    yield f"The scores apply to images similar to these {n_stimuli} stimuli{kinds}, not to other kinds of images."
    if n_subjects < 2:
        yield "There is only one subject, so there is no noise ceiling, and other subjects may differ."
        return
    if n_subjects < _FEW_SUBJECTS:
        yield f"With {n_subjects} subjects, the intervals and the noise ceiling are imprecise."
    if run.elsewhere is not None:
        fitted_to = run.settings.get("fitted_to")
        source = f" (“{fitted_to}”)" if fitted_to else ""
        yield (
            f"The network was fitted to {run.elsewhere.get('n_seen')} other stimuli{source}. Whether the subjects "
            "here are the same as those of the fit was not checked."
        )
    elif run.was_fitted and run.settings.get("subjects", "all") == "all":
        yield "The network was fitted to the RDMs of the same subjects: stimuli were held out, subjects were not."


def _limits_of_design(run: Run, evaluation: Evaluation) -> Iterator[str]:
    summary, scores, n_subjects = evaluation.summary, evaluation.scores, int(evaluation.summary["n_subjects"].max())
    if scores["seed"].nunique() == 1:
        yield "There is only one seed: the effect of initial weights and batches on the scores was not measured."
    if summary["low"].notna().any():
        others = "stimuli and other subjects" if n_subjects > 1 else "stimuli, for this subject"
        yield f"Intervals are about other {others}; networks were not refitted to compute them."
    if (summary[["low", "high"]].abs() == 1).any(axis=None):
        yield (
            "Some intervals end at −1 or 1, which no score can pass. Such a wide interval means that there are too few "
            "data for this score."
        )
    if scores["fold"].nunique() > 1:
        pairs = int(scores["n_pairs"].median())
        yield f"Only pairs of stimuli that were held out together were scored: about {pairs} per fold."
    if not {"folds", "train"} & set(run.settings):
        yield "The settings do not show that these stimuli were held out from fitting; the user must know this."
    yield from (text for role, text in _WITHOUT.items() if role.value not in set(summary["role"]))
    if summary["low"].notna().any() and len(shown_keys(summary)) * len(comparators_of(summary)) > 1:
        yield (
            "Intervals are not corrected for multiple comparisons; the p-values of the contrasts are, within each "
            "comparator and reference."
        )
