"""What a run found, and what it cannot show, in sentences computed from its tables.

Like is compared with like: a score against single subjects stands beside the leave-one-subject-out noise ceiling, a
score against the mean RDM beside the reliability of that mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainrdl._core.constants import PARTIAL
from brainrdl._core.terms import AGAINST_LABELS, similarity_label
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.reporting.run import SHOWN, Run, comparators_of, rows_of, shown_keys

# Words and numbers


def number(value: Any, digits: int = 2) -> str:
    """Format a number with a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(float(value)):
        return "–"
    text = f"{float(value):.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")


def percent(value: Any) -> str:
    return f"{number(100 * float(value), 0)}%" if math.isfinite(float(value)) else "–"


def span(low: Any, high: Any) -> str:
    known = math.isfinite(float(low)) and math.isfinite(float(high))
    return f"{number(low)} to {number(high)}" if known else "–"


def _scored(score: Any, low: Any, high: Any) -> str:
    told = span(low, high)
    return f"{number(score)} ({'no interval' if told == '–' else f'95% interval {told}'})"


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


def headlines(evaluation: Evaluation) -> Iterator[str]:
    """Short paragraphs for each of the first students, and how many more there are."""
    keys = shown_keys(evaluation.summary)
    for key in keys[:SHOWN]:
        yield from _paragraphs(evaluation.summary, key, alone=len(keys) == 1)
    if len(keys) > SHOWN:
        yield f"{len(keys) - SHOWN} more combinations of student and layer are in the tables below."


def _paragraphs(summary: pd.DataFrame, key: tuple[str, str, str], *, alone: bool) -> Iterator[str]:
    """Tell what a student reached, against subjects and against the mean; what fitting did; how category models do."""
    student, layer, target = key
    comparator = comparators_of(summary)[0]
    mine = summary[(summary["target"] == target) & (summary["comparator"] == comparator)]
    rows = [row for against in AGAINST_LABELS for row in rows_of(mine, student=student, layer=layer, against=against)]
    first, *others = rows
    similarity = similarity_label(comparator).replace("'", "’")
    who = who_of("the fitted network" if alone else f"“{student}”", layer)
    yield (
        f"On stimuli held out from fitting, {who} reached a {similarity} of {_score_of(first)} with "
        f"{_against(first)} of {target}. {_ceiling_sentence(first)}"
    )
    for row in others:
        yield f"With {_against(row)} it reached {_score_of(row)}. {_ceiling_sentence(row)}"
    yield from _joined(_gain_sentence(first), _control_sentence(mine, first))
    yield from _joined(_category_sentence(mine, first), _partial_sentence(summary, first))


def _joined(*sentences: Iterator[str]) -> Iterator[str]:
    told = [text for part in sentences for text in part]
    if told:
        yield " ".join(told)


def _score_of(row: Mapping[str, Any]) -> str:
    return _scored(row["score"], row["low"], row["high"])


def _against(row: Mapping[str, Any]) -> str:
    return AGAINST_LABELS[row["against"]].replace("'", "’")


def _ceiling_sentence(row: Mapping[str, Any]) -> str:
    low, high, share = (float(row[key]) for key in ("ceiling_lower", "ceiling_upper", "share"))
    if not math.isfinite(low):
        return "There is no noise ceiling to hold this against: it needs more than one subject."
    if not math.isfinite(share):
        return f"The subjects hardly agree (their ceiling is {number(low)}), so these data cannot judge a model."
    if row["against"] == "mean":
        expected = f"A perfect model would be expected to reach {number(low)}, the reliability of that mean"
        return f"{expected}; the score is {percent(share)} of it."
    ceiling = f"The noise ceiling of that comparison, from leaving one subject out, is {number(low)} to {number(high)}"
    if row["score"] >= low:
        return (
            f"{ceiling}: the score lies above the lower bound, which is what the other subjects’ mean RDM predicts, "
            "so these data leave open how much is left to explain."
        )
    return f"{ceiling}: the score is {percent(share)} of its lower bound."


def _gain_sentence(row: Mapping[str, Any]) -> Iterator[str]:
    gain, low, high = (float(row.get(key, np.nan)) for key in ("gain", "gain_low", "gain_high"))
    if not math.isfinite(gain):
        return
    against = "single subjects" if row["against"] == "subjects" else "the mean RDM"
    told = f"{_scored(gain, low, high)} compared with the same network before fitting"
    yield f"Against {against}, fitting changed the score by {told}{_verdict(low, high)}."


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return ": it helped"
    if high < 0:
        return ": it did harm"
    return "; these data do not show that it helped" if math.isfinite(low) else ""


def _control_sentence(mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    """Fitted to shuffled names: the row of this student, whose label is made from the student's own."""
    found = rows_of(mine, role="permuted", against=row["against"], layer=row["layer"])
    own = [one for one in found if one["student"] in ("permuted", f"{row['student']}, permuted")]
    for one in own[:1]:
        yield f"Fitted in the same way to RDMs with shuffled condition names, it scored {_score_of(one)}."


def _category_sentence(mine: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    models = rows_of(mine, role="category", against=row["against"])
    if not models:
        return
    several = len(models) > 1
    told = and_joined([f"{number(one['score'])} (“{one['student']}”)" for one in models])
    verdict = "more than" if row["score"] > max(float(one["score"]) for one in models) else "no more than"
    yield (
        f"In the same comparison, {'models that know' if several else 'a model that knows'} only the category of a "
        f"stimulus scored {told}; the network scored {verdict} {'the better of these' if several else 'this'} (a "
        "difference that was not tested)."
    )


def _partial_sentence(summary: pd.DataFrame, row: Mapping[str, Any]) -> Iterator[str]:
    partial = PARTIAL + row["comparator"]
    same = {column: row[column] for column in ("student", "layer", "target")}
    for one in rows_of(summary, comparator=partial, **same)[:1]:
        yield (
            f"With the category model and any other models held constant, its {similarity_label(partial)} with "
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
    if run.best_step is not None:
        parts.append(f"The weights of step {run.best_step} were kept.")
    return " ".join([*parts, "Nothing on this page was measured on held-out stimuli: it shows fitting, not success."])


# What the page cannot show

_FEW_SUBJECTS = 10

_WITHOUT = {
    "unfitted": "There is no unfitted control, so the page cannot tell what fitting added.",
    "permuted": "There is no permuted control, so the page cannot tell what fitting to shuffled RDMs would have given.",
    "category": "There is no category model, so the page cannot tell whether the score is a matter of category alone.",
}


def limits_of(run: Run) -> Iterator[str]:
    """Say what the page cannot show, from the design of this very run."""
    if run.settings.get("simulated"):
        yield "The teacher’s RDMs are simulated. Nothing here is evidence about a brain."
    if run.evaluation is None:
        yield "Nothing was held out, so nothing here says how the network does on stimuli it was not fitted to."
        yield "A high similarity on training stimuli can be memory: a large network fits shuffled RDMs too."
        return
    for flat in run.settings.get("constant") or ():
        yield f"{flat}: a score of 0 there says that the network died, not that it is unlike the teacher."
    yield from _limits_of_sample(run, run.evaluation)
    yield from _limits_of_design(run, run.evaluation)
    yield "Alike RDMs are not alike mechanisms: many different representations have the same distances."


def _limits_of_sample(run: Run, evaluation: Evaluation) -> Iterator[str]:
    summary, labels = evaluation.summary, evaluation.labels
    n_subjects, n_stimuli = int(summary["n_subjects"].max()), int(summary["n_stimuli"].max())
    kinds = f" of {len(set(labels.values()))} categories" if labels else ""
    yield f"The scores hold for stimuli like these {n_stimuli}{kinds}; for other kinds of image they say nothing."
    if n_subjects < 2:
        yield "There is one subject: there is no noise ceiling, and nothing says that another subject would agree."
        return
    if n_subjects < _FEW_SUBJECTS:
        yield f"With {n_subjects} subjects, intervals and noise ceiling are rough."
    if run.settings.get("subjects", "all") == "all":
        yield "The subjects scored against are those whose RDMs were fitted: stimuli were held out, subjects were not."


def _limits_of_design(run: Run, evaluation: Evaluation) -> Iterator[str]:
    summary, scores = evaluation.summary, evaluation.scores
    if scores["seed"].nunique() == 1:
        yield "There is one seed: how much a score depends on initial weights and batches was not measured."
    if summary["low"].notna().any():
        yield "Intervals cover the choice of stimuli and subjects; networks were not refitted for them."
    if (summary[["low", "high"]].abs() > 1).any(axis=None):
        yield (
            "Some intervals reach beyond −1 or 1, where no score can lie: each is its score plus or minus a bootstrap "
            "error, and one so wide says that these data are too few to place the score."
        )
    if scores["fold"].nunique() > 1:
        pairs = int(scores["n_pairs"].median())
        yield f"Only pairs of stimuli that were held out together count: about {pairs} in a fold."
    if not {"folds", "train"} & set(run.settings):
        yield "That these stimuli were held out from fitting is the word of whoever made this evaluation."
    yield from (text for role, text in _WITHOUT.items() if role not in set(summary["role"]))
    if len(shown_keys(summary)) * len(comparators_of(summary)) > 1:
        yield "Intervals are not corrected for the number of students, layers and comparators looked at."
