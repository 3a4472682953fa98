"""Check a file before using it as a teacher: its contents, anything unusual, and whether its RDMs agree.

Nothing is changed or repaired. What can only be guessed from the numbers is called likely, and the reason is given.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._core.constants import IMAGE_SUFFIXES
from brainrdl._core.errors import (
    BrainrdlError,
    Spelling,
    arg,
    in_python,
    nearest,
    quote,
    read_arg,
    refuse,
    spell,
)
from brainrdl._core.given_values import as_text
from brainrdl.doctor.finding import Finding
from brainrdl.doctor.measurement_findings import dataset_names, of_dataset
from brainrdl.doctor.rdm_findings import of_rdms
from brainrdl.rdms.by_name import alignment
from brainrdl.rdms.conversion import check
from brainrdl.rdms.naming import files_of, is_missing
from brainrdl.rdms.subjects import check_known
from brainrdl.readers.condition_names import number_key
from brainrdl.readers.reading import read, reader_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.near_duplicates import similar_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm import RDMs
_MOST_TARGETS = 8  # if there are more, similar findings share one line of text

_COLUMNS = ["level", "what", "where", "value", "advice"]

_MIN_CONDITIONS = 3

_SHOWN = 6

_RDMS_ARE_OF = ("subject", "roi", "session", "layer", "model", "time")


@dataclass(frozen=True, eq=False)
class Audit:
    """The result of `audit`: as text ``str(audit)``, as a table `findings`, for JSON `to_dict`, as a picture `figure`.

    Attributes
    ----------
    source : str
        Path or type of the data.
    facts : mapping of str to str, int, list or None
        Contents of the data, in types that JSON can store.
    can_teach : bool
        Whether the data can be used to teach: they could be read, the conditions have names, and the values distinguish
        conditions. For measurements: whether an RDM can be computed from them.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> found = audit(from_array([0.0, 0.9, 0.8], ["cat", "Cat", "car"]))
    >>> found.findings.query("level == 'warning'")[["what", "value"]].values.tolist()
    [['nearly equal names', "['cat = Cat']"], ['pairs at distance 0', "['cat = Cat']"]]
    """

    source: str
    facts: Mapping[str, Any]
    can_teach: bool
    _items: tuple[Finding, ...] = field(repr=False)
    _data: RDMs | list[DatasetBase] | None = field(repr=False)
    _by: str = field(repr=False)
    _how: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _spelling: Spelling = field(default=in_python, repr=False)

    def spelled(self, spelling: Spelling) -> Audit:
        """Give the same audit, its advice in the words of a front end, such as the command line."""
        return replace(self, _spelling=spelling)

    @property
    def _shown(self) -> list[Finding]:
        texts = [[spell(text, self._spelling) for text in (item.value, item.advice)] for item in self._items]
        return [item._replace(value=text[0], advice=text[1]) for item, text in zip(self._items, texts, strict=True)]

    @property
    def findings(self) -> pd.DataFrame:
        """One row per finding: level ("ok", "note" or "warning"), what, where, value, advice (all text)."""
        return pd.DataFrame(self._shown, columns=list(Finding._fields))[_COLUMNS]

    def __str__(self) -> str:
        facts = {key: _text(value) for key, value in self.facts.items() if value is not None}
        lines = [self.source, *(f"  {key:<14}{value}" for key, value in facts.items())]
        items = self._shown
        width = max((len(item.what) for item in items), default=0)
        for section in dict.fromkeys(item.section for item in items):
            listed = [item for item in items if item.section == section]
            listed = _together(listed) if section == "Subjects" else listed
            lines += ["", section, *(_line(item, width) for item in listed)]
        counts = {level: sum(item.level == level for item in self._items) for level in ("warning", "note", "ok")}
        counted = ", ".join(
            f"{count} {level}{'s' if count != 1 and level != 'ok' else ''}" for level, count in counts.items()
        )
        return "\n".join([*lines, "", f"{'Can' if self.can_teach else 'Cannot'} teach: {counted}."])

    def to_dict(self) -> dict[str, Any]:
        """Return the whole audit in types that JSON can store.

        Returns
        -------
        dict
            ``source``, ``can_teach``, ``facts``, and ``findings``: a list of dicts with the section and the columns of
            `findings`.
        """
        found = [{"section": item.section, **{key: getattr(item, key) for key in _COLUMNS}} for item in self._shown]
        return {"source": self.source, "can_teach": self.can_teach, "facts": dict(self.facts), "findings": found}

    def figure(self) -> Figure:
        """Draw the data: RDMs with their values, map and agreement, or measurements with their counts and runs.

        Returns
        -------
        Figure

        Raises
        ------
        BrainrdlError
            If the data could not be read.
        """
        from brainrdl.doctor.drawings import draw_measurements, draw_rdms

        if self._data is None:
            refuse(f"there is nothing to draw for {self.source!r}: {self._items[0].value}")
        if isinstance(self._data, list):
            return draw_measurements(self._data, self._by)
        return draw_rdms(self._data, self._by, self._how)


def audit(
    source: str | Path | RDMs | DatasetBase | Sequence[DatasetBase],
    *,
    stimuli: str | Path | Stimuli | None = None,
    names: Sequence[str] | str | Path | None = None,
    by: str = "stimulus",
    target_by: str | Sequence[str] | None = None,
    subject_by: str = "subject",
    average_over: str | Sequence[str] = (),
    **options: Any,
) -> Audit:
    """Check RDMs or measurements: contents, names, values, likely kind, agreement of subjects, match with images.

    RDMs that differ in anything but the subject (regions, layers, models, times, sessions) are different targets.
    Subjects are compared within each target.

    Parameters
    ----------
    source : str, Path, RDMs, Dataset or list of Dataset
        A file (or folder, or pattern of paths) that `brainrdl.read` can read, or data that it returns: RDMs (n_rdms,
        n_pairs) or measurements (n_observations, n_channels[, n_time]), any unit. If `read` refuses the file, this is
        a finding, not an error.
    stimuli : str, Path or Stimuli, optional
        The images of the conditions, or their folder.
    names, by, options
        As in `brainrdl.read`; `names` and `options` only for a file.
    target_by, subject_by, average_over : str or sequence of str, optional
        Rdm descriptors that distinguish targets and subjects, and those over which the RDMs of a subject are averaged,
        as in `RDMTeacher`.

    Returns
    -------
    Audit

    Raises
    ------
    BrainrdlError
        If `source` is something else, `names` or options are given for data in memory, or `target_by`, `subject_by`
        or `average_over` is not an rdm descriptor.

    Notes
    -----
    Triangle inequality and kind are judged from at most 120 conditions, drawn with a fixed seed. Ceilings are
    those of `brainrdl.inference.ceiling_for_mean` and `ceiling_for_subjects`; the bounds of the noise ceiling are
    those of `noise_ceiling`, which equal rsatoolbox's.

    Examples
    --------
    >>> from brainrdl.datasets import simulate_subjects
    >>> import torch
    >>> patterns = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    >>> found = audit(simulate_subjects(patterns, [f"image_{i:02d}" for i in range(20)], n_subjects=4))
    >>> found.can_teach, found.facts["subjects"][:2]
    (True, ['simulated-01', 'simulated-02'])
    >>> found.findings.query("what == 'dissimilarity'")["value"].item()
    'likely correlation distance (1 - r) (...within 0 to 2; 1 - value is a valid matrix of correlations)'
    """
    _check_arguments(source, names, options)
    where = str(source) if isinstance(source, str | Path) else type(source).__name__
    try:
        data = _data(read(source, names=names, by=by, **options) if isinstance(source, str | Path) else source)
    except BrainrdlError as error:
        refused = Finding("Contents", "warning", "refused", "", error.marked, blocks=True)
        return Audit(where, {}, False, (refused,), None, by)
    how = {"target_by": target_by, "subject_by": subject_by, "average_over": average_over}
    _check_descriptors(data, how)
    facts = _facts(data, by)
    if isinstance(source, str | Path):
        facts = {"reader": reader_of(source, options.get("reader")).name, **facts}
    conditions = _conditions(data, by)
    found = (*_names(conditions, data, by), *_contents(data, by, how), *_stimuli(stimuli, conditions))
    return Audit(where, facts, not any(item.blocks for item in found), found, data, by, how)


def _check_arguments(source: Any, names: Any, options: Mapping[str, Any]) -> None:
    from rsatoolbox.data.base import DatasetBase
    from rsatoolbox.rdm.rdms import RDMs

    if isinstance(source, str | Path):
        return
    if names is not None or options:
        given = [*(["names"] if names is not None else []), *options]
        refuse(f"{quote(given)} can only be used with a file; give a path, or leave them out")
    parts = source if isinstance(source, list | tuple) else [source]
    if not parts or not (isinstance(source, RDMs) or all(isinstance(part, DatasetBase) for part in parts)):
        refuse(f"audit needs a path, rsatoolbox's RDMs, a Dataset or a list of Datasets, got {type(source).__name__}")


def _check_descriptors(data: RDMs | list[DatasetBase], how: Mapping[str, Any]) -> None:
    for key, value in how.items():
        if not value or value == "subject":
            continue
        if isinstance(data, list):
            refuse(f"{key}={value!r} is only for RDMs, and these are measurements; leave it out")
        check_known(data, [value] if isinstance(value, str) else value, key, "the RDMs")


def _data(given: Any) -> RDMs | list[DatasetBase]:
    """Return measurements as a list, or a checked copy of RDMs in float64."""
    from rsatoolbox.rdm.rdms import RDMs

    if not isinstance(given, RDMs):
        return list(given) if isinstance(given, list | tuple) else [given]
    check(given, "the RDMs")
    copied: RDMs = given.copy()
    copied.dissimilarities = np.asarray(given.dissimilarities, dtype=np.float64)
    return copied


# Contents


def _facts(data: RDMs | list[DatasetBase], by: str) -> dict[str, Any]:
    if not isinstance(data, list):
        held = {"holds": "RDMs", "rdms": data.n_rdm, "conditions": data.n_cond, "pairs": data.dissimilarities.shape[1]}
        of_rdms = {f"{key}s": _unique(data.rdm_descriptors.get(key, [])) or None for key in _RDMS_ARE_OF}
        return held | of_rdms | {"measure": data.dissimilarity_measure}
    first = data[0]
    held = {"holds": type(first).__name__, "datasets": len(data), "observations": first.n_obs}
    channels = [part.n_channel for part in data]
    sizes = {"channels": channels[0] if len(data) == 1 else channels, "times": getattr(first, "n_time", None)}
    named = {
        "conditions": len(_conditions(data, by) or ()) or None,
        "runs": _unique(first.obs_descriptors.get("run", [])),
    }
    whole = {
        f"{key}s": _unique(part.descriptors.get(key, "") for part in data) for key in ("subject", "roi", "session")
    }
    return held | sizes | {key: value or None for key, value in (named | whole).items()}


def _unique(values: Iterable[Any]) -> list[str]:
    return [text for text in dict.fromkeys(as_text(value) for value in values) if text]


def _conditions(data: RDMs | list[DatasetBase], by: str) -> list[str] | None:
    """Return the names as they are (of measurements: each once), or None if there are none."""
    if not isinstance(data, list):
        return [as_text(name) for name in data.pattern_descriptors[by]] if by in data.pattern_descriptors else None
    known = [name for part in data for name in part.obs_descriptors.get(by, [])]
    return list(dict.fromkeys(as_text(name) for name in known)) or None


def _contents(data: RDMs | list[DatasetBase], by: str, how: Mapping[str, Any]) -> Iterator[Finding]:
    if isinstance(data, list):
        for part, name in zip(data, dataset_names(data), strict=True):
            yield from of_dataset(part, name, by)
        return
    if by not in data.pattern_descriptors:  # positions, so that the rest can be checked; `data` is our copy
        data.pattern_descriptors[by] = [str(number) for number in range(data.n_cond)]
    yield from of_rdms(data, by, how)


# Names


def _names(names: Sequence[str] | None, data: RDMs | list[DatasetBase], by: str) -> Iterator[Finding]:
    if names is None:
        held = data[0].obs_descriptors if isinstance(data, list) else data.pattern_descriptors
        value = f"none: there is no descriptor {by!r} (known: {', '.join(held) or 'none'})"
        advice = (
            f"give {read_arg('names')} in the order of the file, or choose another descriptor with {read_arg('by')}"
        )
        yield Finding("Names", "warning", "names of conditions", "", value, advice, blocks=True)
        return
    yield from _repeated(names)
    for what, bad, advice in (
        ("blank names", [name for name in names if is_missing(name)], "give these conditions names"),
        ("spaces at the ends", [name for name in names if name.strip() and name != name.strip()], "remove the spaces"),
        (
            "decomposed letters",
            [name for name in names if not unicodedata.is_normalized("NFC", name)],
            "letters and accents are separate characters (as in file names of macOS), which do not equal the composed "
            "letters: normalise to NFC",
        ),
    ):
        if bad:
            yield Finding("Names", "warning", what, f"{len(bad)} of {len(names)} names", quote(bad), advice)
    other = [name for name in names if not name.isascii()]
    if other:
        yield Finding("Names", "note", "letters beyond ASCII", f"{len(other)} of {len(names)} names", quote(other))
    suffixed = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if suffixed:
        advice = "names from a folder of stimuli have no suffix; stimuli.align() and recipes match them if all have one"
        yield Finding(
            "Names", "note", "file suffixes", f"{len(suffixed)} of {len(names)} names", quote(suffixed), advice
        )
    yield _order(names)


def _repeated(names: Sequence[str]) -> Iterator[Finding]:
    twice = [name for name, *others in _groups(zip(names, names, strict=True)) if others]
    if twice:
        advice = "conditions are matched by name: rename or drop the copies"
        yield Finding("Names", "warning", "repeated names", "", quote(twice), advice, blocks=True)
    else:
        yield Finding("Names", "ok", "repeated names", f"{len(names)} names", "none")
    folded = ((_folded(name), name) for name in dict.fromkeys(names))
    close = [" = ".join(group) for group in _groups(folded) if len(group) > 1]
    if close:
        advice = "they differ only in case, spaces or the encoding of letters: are they the same condition?"
        yield Finding("Names", "warning", "nearly equal names", "", quote(close), advice)


def _groups(keyed: Iterable[tuple[Hashable, str]]) -> list[list[str]]:
    groups: dict[Hashable, list[str]] = {}
    for key, name in keyed:
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _folded(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())


def _order(names: Sequence[str]) -> Finding:
    """Report how names are sorted: brainrdl ignores positions, but the scripts that made the file may use them."""
    text, numbers = sorted(names), sorted(names, key=number_key)
    if list(names) == text == numbers:
        return Finding("Names", "ok", "order", "", "sorted, both as text and by number")
    value = (
        "sorted by number, not as text (2 before 10)"
        if list(names) == numbers
        else "sorted as text, not by number (10 before 2)"
        if list(names) == text
        else f"not sorted: {quote(names)}"
    )
    return Finding(
        "Names", "note", "order", "", value, "brainrdl pairs by name; scripts that pair by position must use this order"
    )


# Stimuli


def _stimuli(stimuli: str | Path | Stimuli | None, conditions: Sequence[str] | None) -> Iterator[Finding]:
    if stimuli is None:
        return
    try:
        images = stimuli if isinstance(stimuli, Stimuli) else Stimuli.from_folder(stimuli)
        if conditions is None:
            advice = "give the conditions the names of their images"
            yield Finding("Stimuli", "warning", "match", f"{len(images)} images", "conditions have no names", advice)
            return
        files = files_of(images.names, conditions)
        met = alignment([files.get(name, name) for name in images.names], conditions)
    except BrainrdlError as error:
        yield Finding("Stimuli", "warning", "refused", "", error.marked, "correct it: training would be refused", True)
        return
    few = len(met.common) < _MIN_CONDITIONS
    level = "warning" if few else "ok"
    yield Finding(
        "Stimuli", level, "match", f"{len(images)} images", str(met), "too few to train on" if few else "", few
    )
    if met.only_rdms:
        unmatched = nearest(met.only_rdms[0], met.only_stimuli)
        advice = (
            f"add the images or correct the names{unmatched}; or train on the others with {arg('allow_missing', True)}"
        )
        yield Finding("Stimuli", "warning", "conditions without image", "", quote(met.only_rdms), advice)
    if met.only_stimuli:
        yield Finding("Stimuli", "note", "images without condition", "", quote(met.only_stimuli), "they are not used")
    yield _copies(images)
    yield from _near_copies(images)


def _near_copies(images: Stimuli) -> Iterator[Finding]:
    """Report images that are nearly the same, without those that are byte-identical."""
    digests = images.digests()
    found = similar_images(images)
    pairs = [
        f"{first} ~ {second} ({similarity:.3f})"
        for first, second, similarity in zip(found["first"], found["second"], found["similarity"], strict=True)
        if digests[first] != digests[second]
    ]
    if pairs:
        shown = f"{', '.join(pairs[:_SHOWN])}{', ...' if len(pairs) > _SHOWN else ''}"
        advice = "keep each pair in one fold: brainrdl.stimuli.groups_of_similar gives groups for evaluation.groups"
        yield Finding("Stimuli", "warning", "nearly the same images", f"{len(pairs)} pairs", shown, advice)


def _copies(images: Stimuli) -> Finding:
    digests = ((digest, name) for name, digest in images.digests().items())
    twice = [" = ".join(group) for group in _groups(digests) if len(group) > 1]
    if not twice:
        return Finding("Stimuli", "ok", "identical images", "", "none")
    return Finding(
        "Stimuli", "warning", "identical images", "", quote(twice), "the same image has two names: is one wrong?"
    )


# Text


def _text(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return f"{len(value)}: {', '.join(map(str, value[:_SHOWN]))}{', ...' if len(value) > _SHOWN else ''}"


def _together(items: Sequence[Finding]) -> list[Finding]:
    """Join similar findings about many targets in one line; the table and JSON keep a finding for each."""
    similar: dict[tuple[str, ...], list[Finding]] = {}
    for item in items:
        many = sum(other.what == item.what for other in items) > _MOST_TARGETS
        similar.setdefault((item.what, item.level, item.advice, "" if many else item.value), []).append(item)
    return [_one_line(group) for group in similar.values()]


def _one_line(group: Sequence[Finding]) -> Finding:
    first, last = group[0], group[-1]
    if len(group) == 1:
        return first
    value = first.value if first.value == last.value else f"{first.value} (the first), {last.value} (the last)"
    return first._replace(where=f"{len(group)} targets, {first.where} to {last.where}", value=value)


def _line(item: Finding, width: int) -> str:
    where = f"{item.where}: " if item.where else ""
    advice = f"; {item.advice}" if item.advice else ""
    return f"  {item.level:<7}  {item.what:<{width}}  {where}{item.value}{advice}"
