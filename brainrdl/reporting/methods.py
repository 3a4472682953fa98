"""How a run was done: its facts, and the text and references for the methods section of a paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from brainrdl._core.rows import Against, Role
from brainrdl.dissimilarity.measures import label_of as measure_label
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.rdms.by_name import names
from brainrdl.reporting.fit_details import details_of
from brainrdl.reporting.run import Run, categories_of, comparators_of, kinds_of, shown_keys
from brainrdl.reporting.wording import accuracy_words, and_joined, percent
from brainrdl.runs.provenance import describe, gather_provenance
from brainrdl.similarity.comparators import label_of
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference
from brainrdl.training.options import OPTIMISER_WORDS

NILI = Reference(
    "Nili et al., 2014",
    "Nili, H., Wingfield, C., Walther, A., Su, L., Marslen-Wilson, W. & Kriegeskorte, N. (2014). A toolbox for "
    "representational similarity analysis. PLoS Computational Biology 10(4):e1003553.",
    "10.1371/journal.pcbi.1003553",
)

_METHOD = (
    Reference(
        "McClure & Kriegeskorte, 2016",
        "McClure, P. & Kriegeskorte, N. (2016). Representational distance learning for deep neural networks. "
        "Frontiers in Computational Neuroscience 10:131.",
        "10.3389/fncom.2016.00131",
    ),
    NILI,
)


INTERVAL_METHODS = {
    "dyadic": Reference(
        "Aronow et al., 2015",
        "Aronow, P. M., Samii, C. & Assenova, V. A. (2015). Cluster-robust variance estimation for dyadic data. "
        "Political Analysis 23:564-577.",
        "10.1093/pan/mpv018",
    ),
    "dual-bootstrap": Reference(
        "Schütt et al., 2023",
        "Schütt, H. H., Kipnis, A. D., Diedrichsen, J. & Kriegeskorte, N. (2023). Statistical inference on "
        "representational geometries. eLife 12:e82566.",
        "10.7554/eLife.82566",
    ),
}


_KANIUTH = Reference(
    "Kaniuth & Hebart, 2022",
    "Kaniuth, P. & Hebart, M. N. (2022). Feature-reweighted representational similarity analysis: A method for "
    "improving the fit between computational models, brains, and behavior. NeuroImage 257:119294.",
    "10.1016/j.neuroimage.2022.119294",
)


def references_of(run: Run) -> list[Reference]:
    """List what the methods text cites: the method first, then ceilings, intervals and comparators, each once."""
    if run.evaluation is None:
        return list(_METHOD[:1])
    inference = INTERVAL_METHODS.get(_intervals(run))
    reweighted = _KANIUTH if Role.REWEIGHTED.value in set(run.evaluation.summary["role"]) else None
    used = [SIMILARITIES[name].reference for name in comparators_of(run.evaluation.summary) if name in SIMILARITIES]
    return list(
        {reference.doi: reference for reference in (*_METHOD, inference, reweighted, *used) if reference}.values()
    )


# Facts


def facts_of(run: Run) -> list[tuple[str, str]]:
    """List terms and values; a value that the run did not record is empty."""
    teacher = ("Teacher", str(run.settings.get("teacher") or ""))
    facts = _fit_facts(run) if run.evaluation is None else _evaluation_facts(run, run.evaluation)
    loss = run.fit_options.get("loss")
    lost = {k: v for k, v in loss.items() if k != "kind" and v is not None} if isinstance(loss, Mapping) else {}
    return [teacher, ("Fitted to", _combined(run)), *facts, ("Loss", _listed(lost)), ("Fitting", _options(run))]


_COMBINED = {
    "mean": "the mean RDM over subjects",
    "reliability": "the mean RDM over subjects, weighted by their reliability",
    "sample": "the RDM of one subject per step, drawn at random",
    "all": "the RDMs of all subjects, with the loss averaged over subjects",
}


def _combined(run: Run) -> str:
    identity = run.settings.get("teacher_identity")
    return _COMBINED.get(str(identity.get("combine")), "") if isinstance(identity, Mapping) else ""


def _fit_facts(run: Run) -> list[tuple[str, str]]:
    return [
        ("Network", _network(run.settings, run.settings.get("recipe_student"))),
        ("Layers", and_joined(map(str, run.settings.get("layers", [])))),
        ("Training stimuli", _count(run.settings.get("train"))),
        ("Validation stimuli", _count(run.settings.get("validation"))),
    ]


def _evaluation_facts(run: Run, evaluation: Evaluation) -> list[tuple[str, str]]:
    settings, summary = run.settings, evaluation.summary
    students, layers, targets = (dict.fromkeys(words) for words in zip(*shown_keys(summary), strict=True))
    one_out = ", one held out at a time" if settings.get("subjects") == "leave-one-out" else ""
    seeds = sorted(evaluation.scores["seed"].unique())
    return [
        ("Targets", and_joined(targets)),
        ("Subjects", f"{int(summary['n_subjects'].max())}{one_out}"),
        ("Students", and_joined(students)),
        ("Networks", _networks(settings)),
        ("Layers", and_joined(layer for layer in layers if layer)),
        ("Stimuli", _stimuli_words(evaluation)),
        ("Held out", _held_out(evaluation.scores)),
        ("Seeds", f"{len(seeds)} ({and_joined(map(str, seeds))})"),
        ("Steps chosen by", _chosen_by(run)),
        ("Task", accuracy_words(run).removeprefix("the ")),
        ("Intervals", _INTERVALS.get(_intervals(run), "")),
    ]


def _networks(settings: Mapping[str, Any]) -> str:
    """Describe the network of each student; students with the same network are listed together."""
    described: dict[str, list[str]] = {}
    networks = settings.get("networks")
    for label, network in networks.items() if isinstance(networks, Mapping) else ():
        described.setdefault(_network(network, settings.get("recipe_student")), []).append(label)
    if len(described) == 1:
        return next(iter(described))
    return ". ".join(f"{and_joined(labels)}: {words}" for words, labels in described.items())


def _network(settings: Mapping[str, Any], asked: Any) -> str:
    """Describe a network, its weights, its readouts and its trainable part; `asked` is what a recipe says about it."""
    if "network" not in settings:
        return ""
    asked = asked if isinstance(asked, Mapping) else {}
    name = str(asked.get("model") or str(settings["network"]).rpartition(".")[2])
    digest = f"initial weights with SHA-256 {str(settings['initial_weights'])[:12]}"
    weights = f"weights {asked['weights']!r}" if asked.get("weights") else f"random {digest}" if asked else digest
    parts = [f"{name}, {settings['n_parameters']:,} parameters, {weights}"]
    parts += [f"{layer} read out by {_readout(readout)}" for layer, readout in settings.get("readouts", {}).items()]
    return "; ".join([*parts, f"trainable: {settings.get('trainable')}", f"batch norm: {settings.get('batchnorm')}"])


def _readout(readout: Mapping[str, Any]) -> str:
    steps = [str(readout.get("pool"))]
    steps += ["channels standardised"] if readout.get("standardise") else []
    steps += [f"a linear projection ({readout['projection']})"] if readout.get("projection") is not None else []
    return and_joined(steps)


def _held_out(scores: pd.DataFrame) -> str:
    folds = int(scores["fold"].nunique())
    stimuli, pairs = (_from_to(scores[column]) for column in ("n_conditions", "n_pairs"))
    together = f"{stimuli} stimuli, {pairs} pairs"
    return f"each stimulus once, in {folds} folds ({together} per fold)" if folds > 1 else f"one list ({together})"


def _from_to(counts: pd.Series[int]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _chosen_by(run: Run) -> str:
    """Say what the number of optimiser steps rests on; nothing where it was given."""
    inner, share = run.settings.get("inner_folds"), _validation_share(run)
    if inner:
        return f"{inner} folds inside the training stimuli"
    return f"the best score on {percent(share)} of the training stimuli, not fitted to" if share else ""


def _validation_share(run: Run) -> float:
    """Share of the training stimuli of each fold that was used to choose the number of steps."""
    nested = run.settings.get("fit")
    share = nested.get("validation") if isinstance(nested, Mapping) else None
    return share if isinstance(share, float) else 0.0


_INTERVALS = {
    "dyadic": "95%, over stimuli and subjects",
    "dual-bootstrap": "95%, by the dual bootstrap over stimuli and subjects (conservative)",
}


def _intervals(run: Run) -> str:
    """Name the kind of intervals; "" if there are none."""
    known = run.evaluation is not None and run.evaluation.summary["low"].notna().any()
    return str(run.settings.get("intervals", "dyadic")) if known else ""


def _count(value: Any) -> str:
    return str(len(value)) if value else ""


def _stimuli_words(evaluation: Evaluation) -> str:
    conditions, groups = names(evaluation.teacher), categories_of(evaluation)
    if not groups:
        return str(len(conditions))
    counts = Counter(groups[name] for name in conditions)
    listed = and_joined([f"{category} ({n})" for category, n in counts.items()], most=12)
    return f"{len(conditions)} in {len(counts)} categories: {listed}"


def _options(run: Run) -> str:
    return _listed({key: value for key, value in run.fit_options.items() if key not in ("loss", "task", "terms")})


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


# Methods


def methods_of(run: Run) -> Iterator[str]:
    """Write the methods text; it leaves out what the settings do not record."""
    teacher = f" of {run.settings['teacher']}" if run.settings.get("teacher") else ""
    measure = f" Student RDMs were made with {measure_label(run.dissimilarity)}." if run.dissimilarity else ""
    target = f" The target was {combined}." if (combined := _combined(run)) else ""
    settings = f" Settings: {listed}." if (listed := _options(run)) else ""
    if run.was_fitted or run.evaluation is None:
        yield (
            f"Networks were fitted to representational dissimilarity matrices (RDMs){teacher} by representational "
            f"distance learning (McClure & Kriegeskorte, 2016): {_trained(run.settings.get('trainable'))} changed by "
            f"{_optimiser(run)} so that the RDM of a layer approached the target RDM.{target}{measure}"
            f"{_task_text(run)}{settings}"
        )
    else:
        yield f"Networks were compared with representational dissimilarity matrices (RDMs){teacher}.{target}{measure}"
    yield from details_of(run)
    if run.evaluation is not None:
        yield _design_text(run, run.evaluation)
        yield _score_text(run.evaluation.summary)
        yield _inference_text(run)
        yield _controls_text(run.evaluation.summary)
    yield software_text(run.provenance or gather_provenance())


_TASKS = {
    "cross-entropy": "to classify images, with cross-entropy",
    "mse": "to predict numbers, with the squared error",
}


def _task_text(run: Run) -> str:
    """Say which task was learned as well, and which other terms the loss had."""
    task, terms = describe(run.fit_options.get("task")), describe(run.fit_options.get("terms")) or {}
    text = ""
    if task:
        how = _TASKS.get(str(task.get("loss")), f"a task with the loss {task.get('loss')}")
        smoothed = f" and label smoothing {task['label_smoothing']}" if task.get("label_smoothing") else ""
        shown = "other images than those of the RDM" if task.get("own_images") else "the images of the RDM"
        text = f" In the same steps they learned {how}{smoothed} (weight {task.get('weight')}), on {shown}."
    if terms:
        listed = and_joined([f"{name} (weight {term.get('weight')})" for name, term in terms.items()])
        text += f" The loss had further terms: {listed}."
    return text


_TRAINED = {
    "all": "all weights were",
    "as is": "the weights that the network does not freeze were",
    "projection": "the network was not changed, and a linear projection of a layer’s output was",
}


def _trained(trainable: Any) -> str:
    start = str(trainable).removeprefix("from:")
    if start != str(trainable):
        return f"the weights of the network from layer {start} on, and of any projections, were"
    return _TRAINED.get(str(trainable), "trainable weights were")


def _optimiser(run: Run) -> str:
    """Name the optimiser if it is the same for all students."""
    students = run.settings.get("students")
    made = describe(students).values() if isinstance(students, Mapping) else [{"options": {}}]
    shared = run.fit_options.get("optimizer", run.recorded.get("optimizer"))
    used = {str(describe(one["options"].get("optimizer", shared))) for one in made}
    return OPTIMISER_WORDS.get("".join(used), "gradient-based optimisation")


def _design_text(run: Run, evaluation: Evaluation) -> str:
    scores, settings, n = evaluation.scores, run.settings, len(names(evaluation.teacher))
    folds, seeds, inner = scores["fold"].nunique(), scores["seed"].nunique(), settings.get("inner_folds")
    if run.elsewhere is not None:
        return (
            f"The network was fitted to {run.elsewhere.get('n_seen')} other stimuli, and scored on all pairs of {n} "
            "stimuli. No stimulus had the name, the bytes or the group of one that it was fitted to."
        )
    if folds < 2:
        held_out = " that were specified as held out" if run.was_fitted else ""
        return f"The network was scored on all pairs of {n} stimuli{held_out}."
    spread = ", with categories spread evenly over folds" if settings.get("stratify") and evaluation.labels else ""
    text = [
        f"The {n} stimuli were divided into {folds} folds{spread}.",
        "Each fold was held out once while the network was fitted to the others.",
        "Only pairs of stimuli held out together were scored.",
    ]
    if settings.get("subjects") == "leave-one-out":
        text += ["One subject at a time was also held out, and the score is the similarity with this subject’s RDM."]
    if inner:
        text += [f"The number of steps was chosen by {inner}-fold cross-validation within each training set."]
    elif share := _validation_share(run):
        text += [f"The number of steps was chosen on {percent(share)} of each training set, not used for fitting."]
    if run.final is not None:
        text += [
            f"Finally, one network was fitted to all stimuli for {run.final['steps']} steps, the median of the steps "
            "that led to the networks of the folds; it was not scored."
        ]
    if seeds > 1:
        text += [f"The whole procedure was repeated with {seeds} seeds (folds, initial weights and batches)."]
    return " ".join(text)


_SCORED = {
    Against.SUBJECTS: "Student RDMs were compared with the RDM of each subject, and the scores were averaged; the "
    "ceiling of these scores is the mean loading of the subjects in a one-factor model, and the bounds of the noise "
    "ceiling (Nili et al., 2014) are the mean similarity of each subject’s RDM with the pooled RDM of the others "
    "(lower) and of all subjects (upper).",
    Against.MEAN: "Student RDMs were compared with the mean RDM of the subjects; the ceiling of this score is the "
    "square root of the reliability of the mean RDM (McDonald’s omega; Cronbach’s alpha for two subjects).",
}


def _score_text(summary: pd.DataFrame) -> str:
    similarity = and_joined([_cited(name) for name in comparators_of(summary)])
    text = [sentence for against, sentence in _SCORED.items() if against in kinds_of(summary)]
    both = ["The two kinds of scores and ceilings are not interchangeable."] if len(text) > 1 else []
    return " ".join([f"RDMs were compared by {similarity}.", *text, *both])


def _cited(comparator: str) -> str:
    reference = SIMILARITIES[comparator].reference if comparator in SIMILARITIES else None
    return label_of(comparator) + (f" ({reference.cited})" if reference else "")


_INFERENCE = {
    "dyadic": "Intervals are 95% intervals for other stimuli and, with several subjects, other subjects: the variance "
    "over stimuli is dyadic cluster-robust (Aronow et al., 2015), because pairs that share a stimulus are correlated; "
    "the variance over subjects is that of a jackknife; and a t distribution with Welch-Satterthwaite degrees of "
    "freedom was used.",
    "dual-bootstrap": "Intervals are 95% intervals from {n} resamples of the dual bootstrap over stimuli and subjects "
    "(Schütt et al., 2023) with a t distribution; they are conservative.",
}


def _inference_text(run: Run) -> str:
    if (kind := _intervals(run)) not in _INFERENCE:
        return ""
    text = [
        _INFERENCE[kind].format(n=run.settings.get("n_bootstrap")),
        "Folds and seeds share stimuli, and were averaged for each stimulus and subject. Networks were not refitted.",
    ]
    if run.evaluation is not None and run.evaluation.contrasts["p"].notna().any():
        text += [
            "Differences between students, controls and models were tested on the same pairs, with p-values corrected "
            "by Holm’s method for all contrasts with the same comparator and reference."
        ]
    return " ".join(text)


_COMPARED = {
    Role.UNFITTED: "the same network before fitting",
    Role.REWEIGHTED: "the same network before fitting, with a non-negative weight for each channel's squared "
    "differences, fitted by ridge regression to the training stimuli of each fold, with the penalty chosen in inner "
    "folds (Kaniuth & Hebart, 2022)",
    Role.PERMUTED: "the same network fitted in the same way to RDMs whose condition names were shuffled among the "
    "training stimuli",
    Role.PERMUTED_WITHIN_CLASS: "the same network fitted in the same way to RDMs whose condition names were shuffled "
    "among the training stimuli of each category",
    Role.RANDOM: "the same network fitted in the same way to the RDMs of the teacher network with random weights",
    Role.SPECTRUM: "the same network fitted in the same way to random RDMs with the spectrum of the teacher’s",
    Role.CATEGORY: "models based only on the category of each stimulus (same or different category; in "
    "cross-validations also the mean training dissimilarity of each pair of categories)",
    Role.MODEL: "the model RDMs listed in the table",
}


def _controls_text(summary: pd.DataFrame) -> str:
    present = [text for role, text in _COMPARED.items() if role.value in set(summary["role"])]
    return f"For comparison, the following were scored on the same pairs: {'; '.join(present)}." if present else ""


def software_text(provenance: Mapping[str, Any]) -> str:
    """Name the versions of the packages that made a result."""
    known = provenance.get("versions", {})
    used = [f"{name} {version}" for name, version in known.items() if version != "not installed"]
    python = f" Python {provenance['python']}." if provenance.get("python") else ""
    return f"Software: {and_joined(used)}.{python}" if used else ""
