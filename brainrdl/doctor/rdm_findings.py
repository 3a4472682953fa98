"""Findings about RDMs: their values, the kind of dissimilarity, and how the subjects agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float
from scipy.spatial.distance import squareform
from torch import Tensor

from brainrdl._core.errors import BrainrdlError, arg, quote, read_arg
from brainrdl._core.given_values import as_text
from brainrdl.dissimilarity.measures import traits_of
from brainrdl.dissimilarity.registry import DISSIMILARITIES
from brainrdl.doctor import dissimilarity_kinds as kinds
from brainrdl.doctor.condition_findings import of_conditions, outlying
from brainrdl.doctor.finding import Finding, percent, where_of
from brainrdl.inference.ceilings import ceiling_for_mean, ceiling_for_subjects, noise_ceiling
from brainrdl.rdms.conversion import to_tensor
from brainrdl.rdms.partial import comparable
from brainrdl.rdms.subjects import groups, in_words
from brainrdl.similarity.comparators import corr
from brainrdl.teachers.rdm_teacher import RDMTeacher

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs
_LABELLED_BY = ("roi", "layer", "model", "time", "subject", "session")

_SEED = 0

_SAME = 1 - 1e-7  # correlation of RDMs that are identical up to scale; that of other RDMs is lower, even in float32

_FAR_BELOW = 0.1  # in correlation: an outlier is at least this far below the median, however similar the others are

_TIMES_LARGER = 3

_CLEAR, _FEWER, _ENOUGH = 0.02, 20, 4  # share of violated triples, how many times fewer, and of how many RDMs


def labels(rdms: RDMs) -> list[str]:
    """Name each RDM by the target, subject and session in which the RDMs differ, otherwise by name or number."""
    worded = [_worded(rdms, key) for key in _LABELLED_BY]
    differing = [column for column in worded if len(set(column)) > 1] or [rdms.rdm_descriptors.get("name", [])]
    named = [" / ".join(str(word) for word in words) for words in zip(*differing, strict=True)]
    numbered = [f"RDM {index}" for index in range(rdms.n_rdm)]
    if len(set(named)) == rdms.n_rdm:
        return named
    return [f"{number} ({name})" for number, name in zip(numbered, named, strict=True)] if named else numbered


def _worded(rdms: RDMs, key: str) -> list[str]:
    """Return the values of an rdm descriptor as words that are clear without the descriptor, times with their unit."""
    words = in_words(list(rdms.rdm_descriptors.get(key, [])))
    return [f"{word} s" if key == "time" else f"{key} {word}" if word.isdecimal() else word for word in words]


def targets(rdms: RDMs, how: Mapping[str, Any]) -> list[str]:
    """Return the target of each RDM in words; `how` are the arguments of `brainrdl.rdms.groups`."""
    found = groups(rdms, **how)
    columns = [_worded(rdms, key) for key in found.target_by]
    return [" / ".join(words) for words in zip(*columns, strict=True)] or list(found.targets)


def of_rdms(rdms: RDMs, by: str, how: Mapping[str, Any]) -> Iterator[Finding]:
    """Check RDMs that passed `brainrdl.rdms.check`; their conditions must have names, which may be repeated."""
    names = [as_text(name) for name in rdms.pattern_descriptors[by]]
    found = kinds.likely_of_all(rdms.dissimilarities)
    rows = labels(rdms)
    yield _range(rdms)
    yield _negative(rdms, rows)
    yield from _missing(rdms, rows, names)
    yield from _equally_far(rdms, rows, names)
    yield from _zero(rdms, rows, names, found)
    yield from _kinds(rows, found, rdms.dissimilarity_measure)
    yield _triangle(rdms)
    yield from _order_of_pairs(rdms)
    yield _identical(rdms, rows)
    try:
        found_groups, words = groups(rdms, **how), targets(rdms, how)
        teacher = RDMTeacher(rdms, by=by, **how)
    except BrainrdlError as error:
        yield Finding("Subjects", "warning", "refused as a teacher", "", error.marked, blocks=True)
        return
    yield from _targets(words, found_groups.target_by)
    in_words = dict(zip(found_groups.targets, words, strict=True))
    for target in teacher.targets:
        yield from _subjects(teacher.subject_rdms(target), teacher, in_words[target])


def _targets(target_of_each: Sequence[str], keys: Sequence[str]) -> Iterator[Finding]:
    """Report which RDMs count as targets if they do not differ in region only."""
    found = list(dict.fromkeys(target_of_each))
    if len(found) < 2 or list(keys) == ["roi"]:
        return
    value = f"{len(found)} by {' and '.join(keys)}, not subjects: {quote(found)}"
    advice = f"to average the RDMs of a subject instead, use {arg('average_over', keys[-1])}"
    yield Finding("Subjects", "note", "targets", "", value, advice)


# Values


def _range(rdms: RDMs) -> Finding:
    values = rdms.dissimilarities
    text = f"{np.nanmin(values):.4g} to {np.nanmax(values):.4g}, mean {np.nanmean(values):.4g}"
    return Finding("Values", "ok", "range", where_of(labels(rdms), labels(rdms), "RDMs"), text)


def _negative(rdms: RDMs, rows: Sequence[str]) -> Finding:
    share = (rdms.dissimilarities < 0).mean(axis=1)
    where = where_of(_chosen(rows, share > 0), rows, "RDMs")
    if not share.any():
        return Finding("Values", "ok", "negative values", "", "none")
    value = f"{percent(share.mean())} of all pairs"
    measure = rdms.dissimilarity_measure
    if traits_of(measure).signed:
        return Finding("Values", "ok", "negative values", where, f"{value}, as expected of {measure}")
    if measure in DISSIMILARITIES:
        advice = f"{measure!r} cannot be negative: check how it was made"
        return Finding("Values", "warning", "negative values", where, value, advice)
    return Finding(
        "Values", "note", "negative values", where, value, "expected only of cross-validated distances and z-scores"
    )


def _missing(rdms: RDMs, rows: Sequence[str], names: Sequence[str]) -> Iterator[Finding]:
    missing = np.isnan(rdms.dissimilarities)
    if not missing.any():
        yield Finding("Values", "ok", "missing pairs (NaN)", "", "none")
        return
    value = f"{percent(missing.mean())} of all pairs, {percent(missing.all(axis=0).mean())} in every RDM"
    where = where_of(_chosen(rows, missing.any(axis=1)), rows, "RDMs")
    yield Finding("Values", "note", "missing pairs (NaN)", where, value, "loss and scores leave them out")
    without = np.stack([_without_a_pair(square) for square in squares(rdms)])
    lost = without.all(axis=0)
    if lost.any():
        value = quote(_chosen(names, lost))
        advice = "nothing can be learned from them: drop them from the RDMs or the stimuli"
        yield Finding("Values", "warning", "conditions with only NaN", "every RDM", value, advice)
    partly = without.any(axis=0) & ~lost
    if partly.any():
        where = where_of(_chosen(rows, without[:, partly].any(axis=1)), rows, "RDMs")
        yield Finding(
            "Values", "note", "conditions with only NaN", where, quote(_chosen(names, partly)), "other RDMs have them"
        )


def squares(rdms: RDMs) -> Iterator[Float[np.ndarray, "n n"]]:
    """Yield one square RDM after the other, because all together can be large."""
    return (squareform(row) for row in rdms.dissimilarities)


def _chosen(names: Sequence[str], mask: npt.ArrayLike) -> list[str]:
    return [names[int(place)] for place in np.flatnonzero(mask)]


def _without_a_pair(square: Float[np.ndarray, "n n"]) -> Bool[np.ndarray, " n"]:
    return np.isnan(square).sum(0) >= len(square) - 1


def _equally_far(rdms: RDMs, rows: Sequence[str], names: Sequence[str]) -> Iterator[Finding]:
    """Find conditions with at least 3 known pairs of the same value, except in models of categories."""
    found = []
    for row, values, square in zip(rows, rdms.dissimilarities, squares(rdms), strict=True):
        if len(np.unique(values[~np.isnan(values)])) > 2:
            found += [f"{names[k]} ({row}: {far:.3g})" for k, far in _constant_rows(square)]
    if found:
        advice = "was the pattern empty or constant? 1 - r of a constant pattern is 1 for all pairs, or NaN"
        yield Finding("Values", "warning", "equally far from all", "conditions", quote(found), advice)
    else:
        yield Finding("Values", "ok", "equally far from all", "conditions", "none")


def _constant_rows(square: Float[np.ndarray, "n n"]) -> Iterator[tuple[int, float]]:
    tolerance = 1e-6 * np.nanmax(np.abs(square))
    for k, row in enumerate(square):
        others = np.delete(row, k)
        others = others[~np.isnan(others)]
        if len(others) >= 3 and np.ptp(others) <= tolerance:
            yield k, float(others[0])


def _zero(rdms: RDMs, rows: Sequence[str], names: Sequence[str], found: Sequence[kinds.Kind]) -> Iterator[Finding]:
    """Find pairs at distance 0, unless the kind of RDM explains them."""
    first, second = np.triu_indices(rdms.n_cond, 1)
    pairs: list[str] = []
    where: list[str] = []
    for row, values, kind in zip(rows, rdms.dissimilarities, found, strict=True):
        if kind.name not in (kinds.TWO_VALUES, kinds.RANKS) and (values == 0).any():
            pairs += [f"{names[first[p]]} = {names[second[p]]}" for p in np.flatnonzero(values == 0)]
            where.append(row)
    if pairs:
        advice = "does the same measurement or image have two names?"
        value = quote(dict.fromkeys(pairs))
        yield Finding("Values", "warning", "pairs at distance 0", where_of(where, rows, "RDMs"), value, advice)
    else:
        yield Finding("Values", "ok", "pairs at distance 0", "", "none, except those that the kind of RDM explains")


# Kind

_OF_SIGNED = "do not clamp negative values to 0 or compute the root"

_ADVICE = {
    kinds.RANKS: ("note", "the distances are lost; compare by ranks, for example with 'spearman'"),
    kinds.SIMILARITY: ("warning", "convert it to dissimilarities first, for correlations 1 - value"),
    kinds.Z_SCORED: ("note", "suitable for correlations; the mean squared error and 'cosine' need the original scale"),
    kinds.SIGNED: ("note", f"if so, {_OF_SIGNED}"),
    kinds.UNKNOWN: ("note", "find out how it was made: judged, noisy, averaged over missing pairs, or cross-validated"),
    kinds.EITHER: ("note", "find out how it was made"),
    kinds.COMMON: ("note", "find out how it was made"),
    kinds.PLAIN: (
        "ok",
        "'euclidean' is squared in brainrdl and rsatoolbox: square these values to compare them with it",
    ),
}


# What cross-validated distances can look like: noise decides whether any is negative
_LIKE_SIGNED = frozenset({kinds.SIGNED, kinds.SQUARED, kinds.PLAIN, kinds.EITHER, kinds.COMMON, kinds.UNKNOWN})


def _kinds(rows: Sequence[str], found: Sequence[kinds.Kind], measure: str | None) -> Iterator[Finding]:
    names = list(dict.fromkeys(kind.name for kind in found))
    if traits_of(measure).signed and _LIKE_SIGNED.issuperset(names):
        value = f"{measure}, as the file says; the values agree with this"
        yield Finding("Kind", "ok", "dissimilarity", where_of(rows, rows, "RDMs"), value, _OF_SIGNED)
        return
    for name in names:
        of_kind = [row for row, kind in zip(rows, found, strict=True) if kind.name == name]
        example = next(kind.evidence for kind in found if kind.name == name)
        level, advice = _ADVICE.get(name, ("ok", ""))
        guess = name if name == kinds.UNKNOWN else f"likely {name}"
        inside = f"{of_kind[0]}: " if len(of_kind) > 1 else ""
        yield Finding(
            "Kind", level, "dissimilarity", where_of(of_kind, rows, "RDMs"), f"{guess} ({inside}{example})", advice
        )
    if len(names) > 1:
        advice = "their mean is hard to interpret; make them separate targets (descriptor roi)"
        yield Finding("Kind", "note", "mixed kinds", "all RDMs", f"likely {len(names)} kinds: {quote(names)}", advice)


def _triangle(rdms: RDMs) -> Finding:
    plain = float(np.nanmean([kinds.triangle_violations(square) for square in squares(rdms)]))
    value = f"violated by {percent(plain)} of the {_triples(rdms.n_cond)}"
    if (rdms.dissimilarities < 0).any():
        return Finding("Kind", "note", "triangle inequality", "mean over RDMs", f"{value}; some values are negative")
    rooted = float(np.nanmean([kinds.triangle_violations(np.sqrt(square)) for square in squares(rdms)]))
    value += f"; by {percent(rooted)} after a square root"
    level, advice = "ok", ""
    if plain > 0:
        cause = "squared distances" if rooted == 0 else "noise, ranks or judgements"
        level, advice = "note", f"typical of {cause}"
    return Finding("Kind", level, "triangle inequality", "mean over RDMs", value, advice)


def _order_of_pairs(rdms: RDMs) -> Iterator[Finding]:
    """Report pairs that would be distances in the order of the other triangle, which a condensed file does not show."""
    few = [square for square, _ in zip(squares(rdms), range(_ENOUGH), strict=False)]
    if any((square < 0).any() or np.isnan(square).any() for square in few):
        return
    roots: dict[str, Any] = {"the values": np.asarray, "their square roots": np.sqrt}
    as_read = {what: _mean_violations(few, root) for what, root in roots.items()}
    suspicious = [what for what, share in as_read.items() if share > _CLEAR]
    if not suspicious:
        return
    triangles = {"upper": np.triu_indices(rdms.n_cond, 1), "lower": np.tril_indices(rdms.n_cond, -1)}
    for order, other in (("lower", "upper"), ("upper", "lower")):
        moved = [_moved(square, triangles[other], triangles[order]) for square in few]
        for what in suspicious:
            instead = _mean_violations(moved, roots[what])
            if instead <= as_read[what] / _FEWER:
                value = (
                    f"{what} violate the triangle inequality in {percent(as_read[what])} of triples, but in "
                    f"{percent(instead)} if the pairs are in the order of the {order} triangle"
                )
                advice = f"if the file holds condensed pairs, compare with {read_arg('order', order)}"
                yield Finding("Kind", "warning", "order of pairs", "mean over RDMs", value, advice)
                return


def _mean_violations(held: Sequence[npt.NDArray[Any]], root: Any) -> float:
    return float(np.mean([kinds.triangle_violations(root(square)) for square in held]))


def _moved(square: npt.NDArray[Any], held: Any, stored: Any) -> npt.NDArray[Any]:
    """Take the pairs from one triangle, row by row, and put them in the other, row by row."""
    moved = np.zeros_like(square)
    moved[stored] = square[held]
    return moved + moved.T


def _triples(n_conditions: int) -> str:
    if n_conditions <= kinds.MOST_CONDITIONS:
        return f"{comb(n_conditions, 3)} triples"
    return f"{comb(kinds.MOST_CONDITIONS, 3)} triples of {kinds.MOST_CONDITIONS} conditions drawn at random (seed 0)"


# Subjects


def _identical(rdms: RDMs, rows: Sequence[str]) -> Finding:
    correlations = between(to_tensor(rdms, dtype=torch.float64))
    twice = [f"{rows[i]} = {rows[j]}" for i, j in combinations(range(len(rows)), 2) if correlations[i, j] > _SAME]
    if twice:
        return Finding(
            "Subjects",
            "warning",
            "identical RDMs",
            f"{len(rows)} RDMs",
            quote(twice),
            "if one is a copy, remove it",
        )
    return Finding("Subjects", "ok", "identical RDMs", "", "none")


def between(rows: Float[Tensor, "n_rdms n_pairs"]) -> Float[Tensor, "n_rdms n_rdms"]:
    """Return the Pearson correlation of each RDM with each, over the pairs known in both; by row, to save memory."""
    return torch.stack([corr(row, rows) for row in rows])


def _subjects(rdms: RDMs, teacher: RDMTeacher, target: str) -> Iterator[Finding]:
    rows = to_tensor(rdms, dtype=torch.float64)
    subjects = [as_text(name) for name in rdms.rdm_descriptors[teacher.subject_by]]
    if len(rows) < 2:
        value = "1 RDM: no agreement between subjects and no noise ceiling"
        advice = "give the RDM of each subject, not only their mean"
        yield Finding("Subjects", "note", "agreement", target, value, advice)
        return
    scaled = comparable(rows, f"target {target!r}")
    yield _agreement(scaled, target)
    yield _ceiling(rows, target)
    left_out = outlying(scaled, rdms.n_cond)
    yield from of_conditions(scaled, teacher.conditions, target, left_out)
    yield _outliers(_without(scaled, left_out), subjects, target)
    yield _scales(rows, subjects, target) if scaled is rows else _partial_scales(rows, scaled, subjects, target)


def _without(rows: Tensor, left_out: Bool[np.ndarray, " n"]) -> Tensor:
    """Return the pairs of the conditions that are not left out."""
    kept = torch.from_numpy(~left_out)
    i, j = torch.triu_indices(len(kept), len(kept), 1)
    return rows[:, kept[i] & kept[j]] if left_out.any() else rows


def _agreement(rows: Tensor, target: str) -> Finding:
    single = float(with_others(rows).mean())
    of_mean, of_subjects = ceiling_for_mean(rows), ceiling_for_subjects(rows)
    value = (
        f"each subject with the mean of the others: r = {single:.3f} (mean of {len(rows)}); a perfect model is "
        f"expected to reach {of_mean:.3f} with the mean RDM and {of_subjects:.3f} with single subjects (corr)"
    )
    if single > 0.1:
        return Finding("Subjects", "ok", "agreement", target, value)
    return Finding("Subjects", "warning", "agreement", target, value, "subjects share little that could be learned")


def with_others(rows: Float[Tensor, "n_subjects n_pairs"]) -> Float[Tensor, " n_subjects"]:
    """Return the Pearson correlation of the RDM of each subject with the mean of the others."""
    others = [torch.cat([rows[:s], rows[s + 1 :]]).nanmean(0) for s in range(len(rows))]
    return corr(rows, torch.stack(others))


def _ceiling(rows: Tensor, target: str) -> Finding:
    bounds = {name: noise_ceiling(rows, name) for name in ("corr", "spearman")}
    value = ", ".join(f"{name} {lower:.3f} to {upper:.3f}" for name, (lower, upper) in bounds.items())
    level = "ok" if bounds["corr"][0] > 0 else "warning"
    return Finding("Subjects", level, "noise ceiling", target, value, "for scores against single subjects")


def _outliers(rows: Tensor, subjects: Sequence[str], target: str) -> Finding:
    r: npt.NDArray[np.float64] = with_others(rows).numpy()
    middle = np.median(r)
    deviation = 1.4826 * np.median(np.abs(r - middle))
    far = (r < middle - _FAR_BELOW) & ((r < middle - 3 * deviation) | (r < middle / 4))
    if len(rows) < 3 or not far.any():
        return Finding("Subjects", "ok", "outliers", target, f"none (r with the others {r.min():.3f} to {r.max():.3f})")
    found = ", ".join(f"{subjects[s]} (r = {r[s]:.3f})" for s in np.flatnonzero(far).tolist())
    advice = "check that the conditions are in the same order; pair by names, or leave the subject out"
    return Finding("Subjects", "warning", "outliers", target, f"{found}; median {middle:.3f}", advice)


def _scales(rows: Tensor, subjects: Sequence[str], target: str) -> Finding:
    spread = np.nanstd(rows.numpy(), axis=1)
    low, high = int(spread.argmin()), int(spread.argmax())
    value = f"standard deviation {spread[low]:.3g} ({subjects[low]}) to {spread[high]:.3g} ({subjects[high]})"
    if spread[high] <= _TIMES_LARGER * spread[low]:
        return Finding("Subjects", "ok", "scale", target, value)
    advice = "the mean uses the values as they are: larger values have more weight"
    return Finding("Subjects", "note", "scale", target, value, advice)


def _partial_scales(rows: Tensor, scaled: Tensor, subjects: Sequence[str], target: str) -> Finding:
    """Compare the scales of subjects who know different pairs, by the pairs that they share."""
    factors = (rows.nan_to_num().norm(dim=1) / scaled.nan_to_num().norm(dim=1)).numpy()
    low, high = int(factors.argmin()), int(factors.argmax())
    times = factors[high] / factors[low]
    value = f"on shared pairs, {subjects[high]} has values {times:.3g} times as large as {subjects[low]}"
    if times <= _TIMES_LARGER / 2:
        return Finding("Subjects", "ok", "scale", target, value)
    advice = (
        "subjects know different pairs, so a mean of the values as they are is unusable; RDMTeacher makes the scales "
        "equal first, elsewhere use rsatoolbox.rdm.combine.rescale"
    )
    return Finding("Subjects", "warning", "scale", target, value, advice)
