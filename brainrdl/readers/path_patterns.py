"""Patterns of files like ``sub-*/betas.nii.gz``: which files match, whose they are, and how their data are joined.

``sub-``, ``ses-``, ``run-`` and ``hemi-`` in a path say of which subject, session, run and hemisphere a file is; so do
names in a pattern, which match anything within a part of the path: ``{subject}/RDM_{layer}.npz``. Files of one subject,
session and region become one Dataset: runs are joined along observations, hemispheres along channels.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import check_unique, quote, read_arg, refuse
from brainrdl.rdms.by_name import concat_same
from brainrdl.readers.condition_names import number_key
from brainrdl.readers.entities import value_of, values_in, without_entities

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_PLACES = ("subject", "session", "run", "hemi")

_WILD = frozenset("*?[")

# Words that name a subject; not S1 or P300, which are an area and a potential
_SUBJECT = re.compile(r"((sub|subj|subject|participant|vp|pp)[-_]?\d+|[sp]\d\d)(?![^\W_])", re.IGNORECASE)

_TOKENS = re.compile(r"\{([A-Za-z_]\w*)\}|(\*\*/)|(\*)|(\?)|(\[[^\]]*\])")


@dataclass(frozen=True)
class Origin:
    """What the path of a file says about it, spelled as there; "" for what it does not say."""

    file: Path
    subject: str
    session: str
    run: str
    hemisphere: str
    named: Mapping[str, str]
    label: str = ""  # in what the file differs from the others, if its subject is not known

    @property
    def fields(self) -> dict[str, str]:
        """What the names in braces in an option mean: what the path says, without what it does not say."""
        known = {
            "subject": self.subject or self.label,
            "session": self.session,
            "run": self.run,
            "hemi": self.hemisphere,
        }
        return {key: value for key, value in (known | dict(self.named)).items() if value}

    @property
    def side(self) -> str:
        """``L`` or ``R``, for any spelling of the hemisphere."""
        return self.hemisphere[:1].upper()


def is_pattern(path: Path) -> bool:
    """Say whether a path is a pattern: it has wild cards or names in braces, and no file has that name."""
    return bool(_TOKENS.search(str(path))) and not path.exists()


def files_of(pattern: Path) -> list[Path]:
    """List the files and folders that match a pattern, sorted as people do: run-2 before run-10.

    Raises
    ------
    BrainrdlError
        If there are none.
    """
    wild = Path(_TOKENS.sub(lambda token: "*" if token[1] else token[0], str(pattern)))
    start = Path(*itertools.takewhile(lambda part: not _WILD & set(part), wild.parts))
    files = sorted(start.glob(str(wild.relative_to(start))), key=lambda file: (number_key(str(file)), str(file)))
    if not files:
        refuse(f"no file matches the pattern {str(pattern)!r}")
    return files


def origins_of(files: Sequence[Path], pattern: Path) -> list[Origin]:
    """Give the subject, session, run and hemisphere of each file of a pattern.

    The subject is what follows ``sub-`` in the path, else the parts of the path in which the files differ (without
    sessions, runs and hemispheres; for a single file, the parts that the pattern leaves open), if they look like names
    of subjects: ``subj01``. Other words, such as ``V1`` or ``anna``, are the file's label, which can be anything. Names
    in the pattern have priority.
    """
    named = [_named(file, pattern) for file in files]
    subjects, labels = [_last(str(file), "sub") for file in files], [""] * len(files)
    if not all(subjects) and not any(named):
        subjects, labels = labels, _differing(files, pattern)
        if all(map(_SUBJECT.match, labels)):
            subjects, labels = labels, subjects
    return [
        Origin(
            file,
            said.get("subject", subject),
            said.get("session", _last(str(file), "ses")),
            said.get("run", _last(file.name, "run") or _last(str(file), "run")),
            said.get("hemi", _last(file.name, "hemi")),
            {key: value for key, value in said.items() if key not in _PLACES},
            "" if "subject" in said else label,
        )
        for file, subject, label, said in zip(files, subjects, labels, named, strict=True)
    ]


def origin_of(file: Path) -> Origin:
    """Give what the name of a single file says, as BIDS spells it; the names of its folders do not count.

    Examples
    --------
    >>> origin_of(Path("sub-03/sub-01_run-2_betas.nii")).fields
    {'subject': '01', 'run': '2'}
    """
    subject, session, run, side = (value_of(file.name, key) for key in ("sub", "ses", "run", "hemi"))
    return Origin(file, subject, session, run, side, {})


def folders_of(pattern: Path) -> dict[Path, list[Path]]:
    """Group the files of a pattern by their folder, if the pattern leaves only numbers or words of their names open."""
    if "**" in str(pattern) or "{" in pattern.name or not _WILD & set(pattern.name):
        return {}
    groups: dict[Path, list[Path]] = {}
    for file in files_of(pattern):
        groups.setdefault(file.parent, []).append(file)
    return groups


def several_runs(origins: Sequence[Origin]) -> list[str]:
    """List the runs of a subject, session and hemisphere that has more than one; none if there is none."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for origin in origins:
        whose = (origin.subject, origin.label, origin.session, origin.side, *origin.named.values())
        runs.setdefault(whose, []).append(origin.run)
    return next((found for found in runs.values() if len(found) > 1 and all(found)), [])


def described(data: Any, origin: Origin) -> Any:
    """Add what a path says to data that do not say it themselves."""
    from rsatoolbox.rdm.rdms import RDMs

    whole = {"subject": origin.subject, "file": origin.label, "session": origin.session, **origin.named}
    if isinstance(data, RDMs):
        for key, value in (whole | {"run": origin.run}).items():
            if value:
                data.rdm_descriptors.setdefault(key, [value] * data.n_rdm)
        return data
    for part in data if isinstance(data, list) else [data]:
        said = part.descriptors.get("subject")
        for key, value in whole.items():
            if value and not (key == "file" and said):
                part.descriptors.setdefault(key, value)
        if origin.run:
            part.obs_descriptors.setdefault("run", [origin.run] * part.n_obs)
    return data


def _named(file: Path, pattern: Path) -> dict[str, str]:
    """Give what the names in a pattern match."""
    text, regex, end = str(pattern), "", 0
    for token in _TOKENS.finditer(text):
        regex += re.escape(text[end : token.start()]) + _regex(token, regex)
        end = token.end()
    found = re.fullmatch(regex + re.escape(text[end:]), str(file))
    return found.groupdict() if found else {}


def _regex(token: re.Match[str], before: str) -> str:
    """Translate one wild card, or a name in braces, which matches the same text each time it occurs."""
    name, folders, anything, _, characters = token.groups()
    if name:
        return f"(?P={name})" if f"(?P<{name}>" in before else f"(?P<{name}>[^/]+?)"
    if characters:
        return characters.replace("[!", "[^", 1)
    return "(?:.*/)?" if folders else "[^/]*" if anything else "[^/]"


def _last(path: str, key: str) -> str:
    """Give the last value of an entity: the nearest to the file's own name."""
    return next(reversed(values_in(path, key)), "")


def _differing(files: Sequence[Path], pattern: Path) -> list[str]:
    """Name files by the parts of their paths in which they differ; by the whole path if their depths differ."""
    parts = [(*map(without_entities, file.parts[:-1]), without_entities(file.name).split(".")[0]) for file in files]
    if len({len(each) for each in parts}) > 1:
        return [str(file) for file in files]
    places = [place for place, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    if len(files) == 1 and len(pattern.parts) == len(parts[0]):
        places = [place for place, part in enumerate(pattern.parts) if _WILD & set(part)]
    return ["/".join(dict.fromkeys(each[place] for place in places if each[place])) for each in parts]


def joined(found: Sequence[Any], origins: Sequence[Origin], pattern: str, by: str) -> Any:
    """Join the data of all files: RDMs by name into one, measurements into a list with one per subject and region.

    Raises
    ------
    BrainrdlError
        If some files hold RDMs and some measurements, or nothing in their paths distinguishes two files of one subject.
    """
    from rsatoolbox.rdm.rdms import RDMs

    kinds = {isinstance(data, RDMs) for data in found}
    if kinds == {True, False}:
        refuse(f"of the files of {pattern!r}, some hold RDMs and some measurements; read them separately")
    if kinds == {False}:
        return _measurements(found, origins)
    for rdms, origin in zip(found, origins, strict=True):
        unnamed = origin.run and not (origin.subject or origin.label or origin.named)
        label = without_entities(origin.file.name).split(".")[0] if unnamed else origin.label
        described(rdms, replace(origin, label=label))
    if len(found) > 1 and not all(by in rdms.pattern_descriptors for rdms in found):
        refuse(
            f"the files of {pattern!r} hold no names of conditions, so they cannot be joined; give {read_arg('names')}"
        )
    return found[0] if len(found) == 1 else concat_same(found, by)


def _measurements(found: Sequence[Any], origins: Sequence[Origin]) -> list[Any]:
    """Group the parts of each subject, session and region, in the order of their first files."""
    groups: dict[tuple[str, ...], list[tuple[Any, Origin]]] = {}
    for data, origin in zip(found, origins, strict=True):
        described(data, origin)
        for part in data if isinstance(data, list) else [data]:
            whose = tuple(
                str(part.descriptors.get(key, "")) for key in ("subject", "file", "session", "roi", *origin.named)
            )
            groups.setdefault(whose, []).append((part, origin))
    return [_one(members) for members in groups.values()]


def _one(members: Sequence[tuple[Dataset, Origin]]) -> Dataset:
    """Make one Dataset from the parts of one subject, session and region."""
    parts, origins = zip(*members, strict=True)
    if len(parts) == 1:
        return parts[0]
    _check_mergeable(parts, origins)
    sides = list(dict.fromkeys(origin.side for origin in origins))
    each = [[member for member in members if member[1].side == side] for side in sides]
    return _joined_hemispheres([_joined_runs(*zip(*of_one, strict=True)) for of_one in each], sides)


def _check_mergeable(parts: Sequence[Dataset], origins: Sequence[Origin]) -> None:
    """Refuse files of one subject, session and region that are not runs or hemispheres of one measurement."""
    parts_of = [(origin.run, origin.side) for origin in origins]
    files = quote(str(origin.file) for origin in origins)
    if len(set(parts_of)) < len(parts_of):
        refuse(
            f"files {files} are of one subject, session and region, and their paths do not distinguish them; name them "
            "with sub-, ses-, run- or hemi-, or read them one by one"
        )
    if any(part.measurements.ndim > 2 or "residuals" in part.channel_descriptors for part in parts):
        refuse(
            f"files {files} are parts of one measurement; measurements over time, or with residuals, cannot be joined: "
            f"read them one by one, or raw runs with {read_arg('runs')} of the reader"
        )


def _joined_runs(parts: Sequence[Dataset], origins: Sequence[Origin]) -> Dataset:
    """Join runs along observations, with the channels that all have."""
    if len(parts) == 1:
        return parts[0]
    first, columns = parts[0], _common_channels(parts, origins)
    runs = [
        [str(run) for run in part.obs_descriptors.get("run", [origin.run] * part.n_obs)]
        for part, origin in zip(parts, origins, strict=True)
    ]
    check_unique([run for each in runs for run in dict.fromkeys(each)], "the runs of the files")
    descriptors = dict(first.descriptors)
    if "n_dropped_channels" in descriptors:
        descriptors["n_dropped_channels"] += first.n_channel - len(columns[0])
    if left_out := sum(part.descriptors.get("n_dropped_observations", 0) for part in parts):
        descriptors["n_dropped_observations"] = left_out
    return _dataset(
        np.concatenate([part.measurements[:, chosen] for part, chosen in zip(parts, columns, strict=True)]),
        descriptors,
        _shared([part.obs_descriptors for part in parts]) | {"run": [run for each in runs for run in each]},
        {key: np.asarray(values)[columns[0]] for key, values in first.channel_descriptors.items()},
    )


def _common_channels(parts: Sequence[Dataset], origins: Sequence[Origin]) -> list[list[int]]:
    """Give the positions of the channels that all have, by descriptors; without them, their number must be the same."""
    keys = sorted(set(parts[0].channel_descriptors) - {"index"})
    if not keys and len({part.n_channel for part in parts}) == 1:
        return [list(range(part.n_channel)) for part in parts]
    called = [list(zip(*(part.channel_descriptors.get(key, ()) for key in keys), strict=False)) for part in parts]
    shared = set(called[0]).intersection(*called[1:])
    if not shared:
        files, counts = quote(str(origin.file) for origin in origins), [part.n_channel for part in parts]
        refuse(f"the runs {files} have no channel in common (they have {counts} channels)")
    places = [{channel: place for place, channel in enumerate(each)} for each in called]
    return [[place[channel] for channel in called[0] if channel in shared] for place in places]


def _joined_hemispheres(parts: Sequence[Dataset], sides: Sequence[str]) -> Dataset:
    """Join hemispheres along channels; their observations must be the same."""
    if len(parts) == 1:
        return parts[0]
    first, *others = parts
    for other, side in zip(others, sides[1:], strict=True):
        for key in ("stimulus", "run"):
            one, two = (list(map(str, part.obs_descriptors.get(key, ()))) for part in (first, other))
            if one != two or first.n_obs != other.n_obs:
                refuse(f"hemispheres {sides[0]} and {side} differ in {key}: {quote(one)} and {quote(two)}")
    channels = _shared([part.channel_descriptors for part in parts])
    hemispheres = [side for part, side in zip(parts, sides, strict=True) for _ in range(part.n_channel)]
    descriptors = dict(first.descriptors)
    if "n_dropped_channels" in descriptors:
        descriptors["n_dropped_channels"] = sum(part.descriptors["n_dropped_channels"] for part in parts)
    values = np.concatenate([part.measurements for part in parts], axis=1)
    return _dataset(values, descriptors, first.obs_descriptors, channels | {"hemisphere": hemispheres})


def _shared(descriptors: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Concatenate the descriptors that all have."""
    keys = [key for key in descriptors[0] if key != "index" and all(key in each for each in descriptors)]
    return {key: [value for each in descriptors for value in each[key]] for key in keys}


def _dataset(
    values: np.ndarray, descriptors: Mapping[str, Any], observations: Mapping[str, Any], channels: Mapping[str, Any]
) -> Dataset:
    from rsatoolbox.data.dataset import Dataset

    kept = ({key: value for key, value in each.items() if key != "index"} for each in (observations, channels))
    observed, places = kept
    return Dataset(values, descriptors=dict(descriptors), obs_descriptors=observed, channel_descriptors=places)
