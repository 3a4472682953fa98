"""Measurements of one subject, in the order of the channels of the neighbourhoods, and averaged by condition.

Channels are found by their descriptors where a dataset has them (voxels by ``i, j, k``, vertices by ``vertex``, sensors
by ``channel``), otherwise by position, if their number is the same. Channels that a dataset lacks, that are NaN or
infinite in an observation, or have one value in all observations are not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from brainrdl._core.errors import arg, nearest, quote, refuse
from brainrdl._core.given_values import as_text, real_array
from brainrdl.rdms.by_name import FEWEST_CONDITIONS
from brainrdl.rdms.naming import checked_names

if TYPE_CHECKING:
    from brainrdl.searchlights.neighbourhoods import Neighbourhoods

Values = npt.NDArray[np.float64]

Codes = npt.NDArray[np.int64]

_RESIDUALS, _RESIDUAL_DOF = "residuals", "residual_dof"  # as in `brainrdl.rdms.noise`


@dataclass(frozen=True, eq=False)
class Measurements:
    """Observations (n_observations, n_channels), with the condition and run of each.

    Attributes
    ----------
    values : numpy.ndarray (n_observations, n_channels)
        In the order of the neighbourhoods' channels; 0 for channels that are not used.
    usable : numpy.ndarray of bool (n_channels,)
        Which channels are used.
    names : list of str
        Conditions in the order of their first appearance.
    codes : numpy.ndarray (n_observations,)
        The condition of each observation.
    run_names, run_codes
        The same for runs; None if the observations have no runs.
    residuals : numpy.ndarray (n_channels, n_samples), optional
        Residuals of a first-level model, and their degrees of freedom `dof`.
    left_out : dict of str to int
        How many channels are not used, and why.
    descriptors : dict
        What describes the dataset, for example its subject.
    runs : str
        Says in messages where the runs were sought.
    """

    values: Values
    usable: npt.NDArray[np.bool_]
    names: list[str]
    codes: Codes
    run_names: list[str] | None
    run_codes: Codes | None
    residuals: Values | None
    dof: float | None
    left_out: dict[str, int]
    descriptors: dict[str, Any]
    runs: str = ""


def measurements_of(
    data: Any, where: Neighbourhoods, by: str | Sequence[str], runs: str | Sequence[str]
) -> Measurements:
    """Bring the data of a subject into the order of the channels of `where`.

    Parameters
    ----------
    data : rsatoolbox Dataset or TemporalDataset, nibabel image (x, y, z, n), or array
        Measurements; an array is (n_observations, n_channels[, n_times]).
    where : Neighbourhoods
        The channels.
    by, runs : str or sequence of str
        Observation descriptors, or the condition and the run of each observation.

    Returns
    -------
    Measurements

    Raises
    ------
    BrainrdlError
        If the data do not fit the neighbourhoods, observations have no conditions, there are fewer than 3 conditions,
        or no channel can be used.

    Examples
    --------
    >>> from brainrdl.searchlights import sensor_neighbourhoods
    >>> near = sensor_neighbourhoods([[0.0, 0.0], [0.03, 0.0]], 0.04)
    >>> found = measurements_of(np.array([[1.0, 2], [2, 2], [3, 2]]), near, ["a", "b", "c"], "run")
    >>> found.usable.tolist(), found.left_out
    ([True, False], {'the same in all observations': 1})
    """
    described: dict[str, Any] = dict(getattr(data, "descriptors", {}))
    observed: dict[str, Any] = dict(getattr(data, "obs_descriptors", {}))
    channels: dict[str, Any] = dict(getattr(data, "channel_descriptors", {}))
    given = _array_of(data, where)
    values, lacking = _arranged(given, channels, where)
    names, codes = _coded(by, observed, len(values), "by")
    if len(names) < FEWEST_CONDITIONS:
        refuse(f"there are {len(names)} conditions, {quote(names)}; an RDM needs at least {FEWEST_CONDITIONS}")
    has_runs = not isinstance(runs, str) or runs in observed
    run_names, run_codes = _coded(runs, observed, len(values), "runs") if has_runs else (None, None)
    finite = np.isfinite(values).all(0) & ~lacking
    values[:, ~finite] = 0
    varies = np.ptp(values, axis=0) > 0
    counts = {
        "not in the data": int(lacking.sum()),
        "NaN or infinite in an observation": int((~finite & ~lacking).sum()),
        "the same in all observations": int((finite & ~varies).sum()),
    }
    if not varies.any():
        refuse(f"no channel can be used: {'; '.join(f'{n} {why}' for why, n in counts.items() if n)}")
    residuals, dof = _residuals(channels, described, where, given.shape[1])
    return Measurements(
        values, varies, names, codes, run_names, run_codes, residuals, dof,
        {why: n for why, n in counts.items() if n},
        {key: value for key, value in described.items() if key in ("subject", "session", "task")},
        _sought(runs, observed),
    )  # fmt: skip


def _array_of(data: Any, where: Neighbourhoods) -> npt.NDArray[Any]:
    """Return measurements (n_observations, n_channels[, n_times])."""
    if hasattr(data, "affine"):
        return _of_image(data, where)
    given = real_array(getattr(data, "measurements", data), "data")
    if given.dtype.kind == "b" or given.ndim not in (2, 3):
        refuse(
            "data must be rsatoolbox's Dataset or TemporalDataset, a nibabel image, or an array of numbers "
            f"(n_observations, n_channels), got {type(data).__name__} of {given.dtype} and shape {given.shape}"
        )
    if hasattr(data, "time_descriptors"):
        _check_times(np.asarray(data.time_descriptors["time"], dtype=np.float64), where)
    return given


def _of_image(image: Any, where: Neighbourhoods) -> npt.NDArray[Any]:
    if where.kind != "volume":
        refuse(f"the data are an image of voxels, but the neighbourhoods are of {where.kind}")
    shape, affine = where.space["shape"], where.space["affine"]
    if len(image.shape) != 4 or image.shape[:3] != shape:
        refuse(f"the image has shape {image.shape}, but the mask has {shape}; expected {(*shape, 'n_observations')}")
    if not np.allclose(image.affine, affine, atol=1e-3):
        refuse(
            f"the image and the mask have different affines, {image.affine.round(3).tolist()} and "
            f"{affine.round(3).tolist()}; resample one of them"
        )
    places = tuple(where.labels[axis] for axis in "ijk")
    return np.stack([np.asarray(image.dataobj[..., n])[places] for n in range(image.shape[3])])


def _check_times(times: Values, where: Neighbourhoods) -> None:
    if where.times is None:
        refuse(
            f"the data have {len(times)} times, but the neighbourhoods have none; make them with over_time(..., times)"
        )
    if times.shape != where.times.shape or not np.allclose(times, where.times, atol=1e-6):
        refuse(
            f"the data have {len(times)} times from {times[0]:g} to {times[-1]:g} s, the neighbourhoods "
            f"{len(where.times)} from {where.times[0]:g} to {where.times[-1]:g} s"
        )


def _arranged(
    given: npt.NDArray[Any], channels: dict[str, Any], where: Neighbourhoods
) -> tuple[Values, npt.NDArray[np.bool_]]:
    """Return values in the order of the channels of `where`, NaN for those that are lacking, and which those are."""
    n_times = 1 if where.times is None else len(where.times)
    n_places = where.n_channels // n_times
    if given.ndim == 3 and given.shape[2] != n_times:
        refuse(f"the data have {given.shape[2]} times, but the neighbourhoods {n_times}; make them with over_time")
    if given.ndim == 2 and n_times > 1:
        refuse(f"the neighbourhoods have {n_times} times, but the data have none: their shape is {given.shape}")
    columns = _columns(given.shape[1], channels, where, n_places)
    lacking = columns < 0
    values = np.asarray(given[:, columns], dtype=np.float64).reshape(len(given), n_places, n_times)
    values[:, lacking] = np.nan
    return values.reshape(len(given), -1), np.repeat(lacking, n_times)


def _columns(n_given: int, channels: dict[str, Any], where: Neighbourhoods, n_places: int) -> Codes:
    """Return the column of the data for each channel, -1 if there is none."""
    keys = list(where.labels)
    if not keys or not all(key in channels for key in keys):
        if n_given != n_places:
            what = f" (and no channel descriptor {quote(keys)} that says which they are)" if keys else ""
            refuse(f"the data have {n_given} channels{what}, but the neighbourhoods have {n_places}")
        return np.arange(n_places)
    held = list(zip(*(map(as_text, np.asarray(channels[key])) for key in keys), strict=True))
    number = {place: column for column, place in enumerate(held)}
    if len(number) < len(held):
        refuse(f"the channel descriptors {quote(keys)} of the data are the same for several channels")
    wanted = zip(*(map(as_text, where.labels[key]) for key in keys), strict=True)
    found = np.array([number.get(place, -1) for place in wanted])
    if (found < 0).all():
        refuse(
            f"no channel of the data is in the neighbourhoods: the first is {quote(held[0])}, by {', '.join(keys)}; "
            "were they made for another grid?"
        )
    return found


def _coded(given: str | Sequence[str], observed: dict[str, Any], n: int, what: str) -> tuple[list[str], Codes]:
    """Return the values of a descriptor in order of first appearance, and the code of each observation."""
    if isinstance(given, str):
        if given not in observed:
            known = [key for key in observed if key != "index"]
            has = f"{nearest(given, known)} (they have {quote(known)})" if known else ""
            refuse(
                f"the observations have no descriptor {given!r}{has}; choose one with {arg(what)}, or give it the "
                "value of each observation"
            )
        listed, where = observed[given], f"observation descriptor {given!r}"
    else:
        listed, where = given, arg(what)
    values = checked_names(listed, where)
    if len(values) != n:
        refuse(f"{where} has {len(values)} values, but there are {n} observations")
    names = list(dict.fromkeys(values))
    number = {name: index for index, name in enumerate(names)}
    return names, np.array([number[value] for value in values])


def _sought(runs: str | Sequence[str], observed: dict[str, Any]) -> str:
    """Say which descriptor was to name the runs, and which others there are."""
    if not isinstance(runs, str):
        return arg("runs")
    known = [key for key in observed if key != "index"]
    return f"descriptor {runs!r}" + (f"{nearest(runs, known)} (they have {quote(known)})" if known else "")


def _residuals(
    channels: dict[str, Any], described: dict[str, Any], where: Neighbourhoods, n_given: int
) -> tuple[Values | None, float | None]:
    if _RESIDUALS not in channels:
        return None, None
    given = np.asarray(channels[_RESIDUALS], dtype=np.float64)
    if given.ndim != 2 or len(given) != n_given or where.times is not None:
        refuse(f"channel descriptor {_RESIDUALS!r} must be ({n_given}, n_timepoints), got shape {given.shape}")
    values, _ = _arranged(given.T, channels, where)
    dof = described.get(_RESIDUAL_DOF)
    return np.ascontiguousarray(values.T), None if dof is None else float(dof)


def mean_of_each(values: Values, codes: Codes, n: int) -> Values:
    """Average observations (n_observations, n_channels) of each code, (n_channels, n).

    Examples
    --------
    >>> mean_of_each(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]), 2)
    array([[2., 5.]])
    """
    members = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(n, len(codes)))
    return np.ascontiguousarray((members @ values / members.sum(1)[:, None]).T)


def said(left_out: dict[str, int], what: str) -> Iterable[str]:
    """Say in words what was left out.

    Examples
    --------
    >>> list(said({"NaN in an observation": 2}, "channels"))
    ['2 channels: NaN in an observation']
    """
    return (f"{n} {what if n > 1 else what.removesuffix('s')}: {why}" for why, n in left_out.items())
