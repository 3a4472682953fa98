"""Rules that the readers of measurements share: which column names the conditions, which channels make a region."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import check_option, check_unique, read_arg, refuse
from brainrdl._core.given_values import as_text
from brainrdl.rdms.naming import is_missing

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset


def condition_names(values: Sequence[Any] | np.ndarray, where: str) -> list[str]:
    """Give values as texts, whole floats as integers; refuse missing ones (None, NaN, blank, "n/a").

    Examples
    --------
    >>> condition_names([b"face", 2.0, 22.5], "column 'image'")
    ['face', '2', '22.5']
    """
    names = [as_text(value) for value in values]
    lacking = [
        place
        for place, (value, name) in enumerate(zip(values, names, strict=True))
        if value is None or is_missing(name)
    ]
    if lacking:
        refuse(
            f"{len(lacking)} of {len(names)} values of {where} are missing (NaN, blank or n/a), the first at position "
            f"{lacking[0]}; fill them in, drop those observations from the file, or choose another column"
        )
    return names


def condition_column(columns: Collection[str], asked: str | None, usual: Sequence[str], where: str) -> str | None:
    """Give the column asked for, or the first one with a usual name; None if there are no columns at all."""
    if asked is not None:
        return check_option(asked, columns, f"condition_column of {where}")
    found = [name for name in usual if name in columns]
    if columns and not found:
        refuse(
            f"which column of {where} names the conditions? Give {read_arg('condition_column')}; there are "
            f"{', '.join(columns)}"
        )
    return found[0] if found else None


def regions(labels: Sequence[str], roi: str | Sequence[str] | None) -> dict[str, np.ndarray]:
    """Give the positions of the channels of each region asked for; by default of all, in order of appearance."""
    known = list(dict.fromkeys(labels))
    asked = known if roi is None else [roi] if isinstance(roi, str) else list(roi)
    check_unique(asked, read_arg("roi"))
    if not asked:
        refuse(f"roi= is an empty list; the regions are {', '.join(known)}")
    return {check_option(name, known, "roi"): np.flatnonzero(np.array(labels) == name) for name in asked}


def dataset(
    values: np.ndarray,
    *,
    conditions: Sequence[str] | None,
    runs: Sequence[str] | None = None,
    channels: dict[str, list[str]] | None = None,
    times: np.ndarray | None = None,
    descriptors: dict[str, str] | None = None,
) -> Dataset:
    """Make a Dataset, or a TemporalDataset where there are times, with the descriptors that are known."""
    from rsatoolbox.data.dataset import Dataset, TemporalDataset

    observations = {"stimulus": conditions, "run": runs}
    known: dict[str, Any] = {
        "descriptors": descriptors or {},
        "obs_descriptors": {name: list(each) for name, each in observations.items() if each is not None},
        "channel_descriptors": channels or {},
    }
    return (
        Dataset(values, **known)
        if times is None
        else TemporalDataset(values, time_descriptors={"time": times}, **known)
    )
