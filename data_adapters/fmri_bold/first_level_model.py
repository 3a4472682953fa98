"""First-level models: from the BOLD series of a run and its events to one pattern per event or condition, by nilearn.

The readers of raw fMRI share the model of a run (`nilearn.glm.first_level`) and the `Dataset` of all runs. Each run is
modelled separately; a regressor that is a sum of others is refused, whereas nilearn would regularise it. Residuals are
a channel descriptor, so that they are selected with their channels, and rsatoolbox leaves them out of its RDMs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainrdl._core.errors import check_option, read_arg, refuse

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
HRFS = tuple(
    f"{name}{more}" for name in ("spm", "glover") for more in ("", " + derivative", " + derivative + dispersion")
)

_EARLIEST = -24.0  # seconds; nilearn leaves out events that begin earlier

_LATEST = 40.0  # seconds after the beginning of an event by which its response is over

_NOISY, _TOO_NOISY = 5.0, 100.0  # variance of a beta, relative to the others: the largest of 70 usual designs was 3

_LISTED = 5

_SMALLEST = 1e-6  # share of the largest singular value of the scaled design below which a direction counts as absent


@dataclass(frozen=True)
class Model:
    """Settings of the first-level model, the same for all runs.

    Parameters
    ----------
    hrf : str
        One of `HRFS`; with derivatives, patterns are the betas of the canonical response.
    high_pass : float
        Slowest frequency that is kept, in Hz; below it cosines model the drift.
    noise_model : str
        ``"ar1"`` or ``"ols"``. With ``"ar1"`` the residuals are those of the series whitened over time.
    per : str
        ``"condition"``: one beta per condition and run; ``"trial"``: one per event (least squares, all together).
    start_time : float
        Seconds from the beginning of a volume to the time that its slices were shifted to (BIDS: StartTime).

    Raises
    ------
    BrainrdlError
        If a value is not allowed.

    Examples
    --------
    >>> Model(per="trials")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: per 'trials' is not known; nearest: 'trial' (known: condition, trial)
    """

    hrf: str = "spm"
    high_pass: float = 0.01
    noise_model: str = "ar1"
    per: str = "condition"
    start_time: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that nilearn does not accept, or understands differently."""
        check_option(self.hrf, HRFS, "hrf")
        check_option(self.noise_model, ("ar1", "ols"), "noise_model")
        check_option(self.per, ("condition", "trial"), "per")
        check_seconds(self.high_pass, "high_pass (in Hz)")


@dataclass(frozen=True)
class Run:
    """The patterns of one run: names and betas (n_obs, n_channels), residuals (n_timepoints, n_channels)."""

    stimuli: tuple[str, ...]
    betas: np.ndarray
    residuals: np.ndarray
    dof: int


def check_seconds(value: float, what: str) -> float:
    """Return a number above 0, else refuse it.

    Raises
    ------
    BrainrdlError
        If it is not a finite number above 0.

    Examples
    --------
    >>> check_seconds(2, "t_r")
    2.0
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf:
        refuse(f"{what} must be a number above 0, got {value!r}")
    return float(value)


def fit_run(
    bold: np.ndarray,
    events: pd.DataFrame,
    t_r: float,
    model: Model | None = None,
    confounds: pd.DataFrame | None = None,
    where: str = "the run",
) -> Run:
    """Estimate one pattern per condition (or event) from the BOLD series of a run.

    Parameters
    ----------
    bold : numpy.ndarray
        Series (n_timepoints, n_channels), finite, without constant channels.
    events : pandas.DataFrame
        Columns onset and duration (seconds from the beginning of the first volume) and stimulus.
    t_r : float
        Seconds from volume to volume.
    model : Model, optional
        The model; by default ``Model()``.
    confounds : pandas.DataFrame, optional
        Series to remove (n_timepoints, n_confounds).
    where : str
        The name of the run, for messages.

    Returns
    -------
    Run
        Conditions in alphabetical order, or events in the order of their onsets.

    Raises
    ------
    BrainrdlError
        If an event begins after the run's end or more than 24 s before it, or lasts longer than the run, there are not
        more volumes than regressors, a regressor is a sum of others, or the run contains too little of the response to
        a condition (or event); the message names them.

    Warns
    -----
    UserWarning
        If the run contains little of the response to a condition (or event), so that its beta is noisier than others.

    Notes
    -----
    An event that begins within the run and would end after it is modelled until the end of the run.

    **How well a beta can be estimated** follows from the design X alone. Its variance, ``inv(X'X)[k, k]`` in units of
    the noise, is multiplied by the sum of squares that its regressor would have if the run were long enough for the
    whole response. The product is 1 for complete responses that do not overlap with anything, whatever the number and
    duration of the events. A condition (or event) whose product is more than 100 times the median of the others is
    refused, because its pattern would be noise with more than 10 times their standard deviation; above 5 times, there
    is a warning. This happens to an event near the end of the run, whose response has only begun, and to one whose
    volumes are removed by confounds.

    Examples
    --------
    >>> events = pd.DataFrame({"onset": [4, 40], "duration": [10, 10], "stimulus": ["face", "house"]})
    >>> bold = np.random.default_rng(0).normal(size=(40, 3))
    >>> run = fit_run(bold, events, 2.0)
    >>> run.stimuli, run.betas.shape, run.dof
    (('face', 'house'), (2, 3), 36)
    """
    run_glm, _ = _nilearn()
    model = model or Model()
    events = _in_time(events, len(bold) * t_r, where).sort_values(["onset", "stimulus"], ignore_index=True)
    keys = events["stimulus"] if model.per == "condition" else pd.Series(range(len(events)))
    design, codes = _design(events, keys, len(bold), t_r, model, confounds, where)
    labels, results = run_glm(np.asarray(bold, dtype=np.float64), design.to_numpy(), noise_model=model.noise_model)
    betas, residuals = np.empty((len(codes), bold.shape[1])), np.empty(bold.shape)
    rows = [design.columns.get_loc(code) for code in codes]
    for label, result in results.items():
        betas[:, labels == label] = result.theta[rows]
        residuals[:, labels == label] = result.whitened_residuals
    stimuli = codes.values() if model.per == "condition" else events["stimulus"]
    return Run(tuple(stimuli), betas, residuals, len(bold) - design.shape[1])


def _nilearn() -> tuple[Any, Any]:
    try:
        from nilearn.glm.first_level import make_first_level_design_matrix, run_glm
    except ImportError:
        refuse("first-level models need nilearn, which is not installed; install it with: pip install nilearn")
    return run_glm, make_first_level_design_matrix


def _in_time(events: pd.DataFrame, end: float, where: str) -> pd.DataFrame:
    """Refuse an event outside the run: most likely the events, or t_r, are wrong."""
    outside = events[(events["onset"] >= end) | (events["onset"] < _EARLIEST)]
    if len(outside):
        first = outside.iloc[0]
        refuse(
            f"{len(outside)} of {len(events)} events are outside {where}, which is {end:g} s long: "
            f"{first['stimulus']!r} begins at {first['onset']:g} s; are these the events of this run, in seconds, and "
            "is t_r right?"
        )
    longer = events[events["duration"] > end]
    if len(longer):
        longest = longer.iloc[0]
        refuse(
            f"{longest['stimulus']!r} at {longest['onset']:g} s lasts {longest['duration']:g} s, longer than {where}, "
            f"which is {end:g} s long; are durations in seconds?"
        )
    return events


def _design(
    events: pd.DataFrame,
    keys: pd.Series,
    n_volumes: int,
    t_r: float,
    model: Model,
    confounds: pd.DataFrame | None,
    where: str,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Make the design; columns of interest are named by codes, because some names have a meaning for nilearn."""
    _, make_first_level_design_matrix = _nilearn()
    codes = {f"e{place:06d}": key for place, key in enumerate(sorted(set(keys)))}
    code_of = {key: code for code, key in codes.items()}
    frame = events[["onset", "duration"]].assign(trial_type=[code_of[key] for key in keys])
    if confounds is not None:
        confounds = confounds.loc[
            :, (confounds != 0).any()
        ]  # nilearn turns zeros into noise, which costs a degree of freedom
        if len(confounds) != n_volumes:
            refuse(f"the confounds of {where} have {len(confounds)} rows, but the run has {n_volumes} volumes")
    extra = None if confounds is None else confounds.to_numpy(dtype=np.float64)
    with warnings.catch_warnings():
        # events without duration are intended; singular designs are refused below
        warnings.filterwarnings("ignore", message="(?s).*null duration", category=UserWarning)
        warnings.filterwarnings("ignore", message="Matrix is singular|High-pass filter will span", category=UserWarning)
        design = make_first_level_design_matrix(
            np.arange(n_volumes) * t_r + model.start_time,
            frame,
            hrf_model=model.hrf,
            drift_model="cosine",
            high_pass=model.high_pass,
            add_regs=extra,
            add_reg_names=None if confounds is None else [f"confound {name!r}" for name in confounds],
            min_onset=_EARLIEST - abs(model.start_time) - 1,
        )
        whole = make_first_level_design_matrix(
            np.arange(math.floor(_EARLIEST / t_r), n_volumes + math.ceil(_LATEST / t_r)) * t_r + model.start_time,
            frame.assign(duration=np.minimum(frame["duration"], n_volumes * t_r - frame["onset"])),
            hrf_model=model.hrf,
            drift_model=None,
            min_onset=_EARLIEST - abs(model.start_time) - 1,
        )
    words = {code: repr(key) if model.per == "condition" else f"event {key + 1}" for code, key in codes.items()}
    weights, directions, sizes = _check_estimable(design, words, where)
    variances = np.square(directions / weights[:, None]).sum(0) / np.square(sizes)
    rows = [design.columns.get_loc(code) for code in codes]
    inflated = variances[rows] * np.square(whole[list(codes)].to_numpy()).sum(0)
    last = events.groupby(keys.to_numpy())[["stimulus", "onset"]].last().loc[list(codes.values())]
    _check_variances(inflated, last, model.per, n_volumes * t_r, where)
    return design, codes


def _check_estimable(
    design: pd.DataFrame, words: Mapping[str, str], where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Refuse a design with too few volumes, or with regressors that are sums of others.

    Return the singular values and vectors (rows) of the design with columns of length 1, and the columns' lengths.
    """
    n_volumes, n_regressors = design.shape
    if n_volumes <= n_regressors:
        refuse(
            f"{where} has {n_volumes} volumes, but its model has {n_regressors} regressors, of which {len(words)} are "
            f"of interest; use fewer confounds, a simpler hrf, a lower high_pass, or {read_arg('per', 'condition')}"
        )
    sizes = np.linalg.norm(design, axis=0)
    _, weights, directions = np.linalg.svd(design.to_numpy() / np.where(sizes > 0, sizes, 1), full_matrices=False)
    absent = directions[weights < _SMALLEST * weights[0]]
    if len(absent):
        involved = design.columns[(np.abs(absent) > 1e-3).any(axis=0)]
        listed = ", ".join(_worded(name, words) for name in involved[:6]) + (", ..." if len(involved) > 6 else "")
        refuse(
            f"the regressors of {where} cannot be estimated separately: {listed} are zero or sums of each other; "
            f"leave one out ({read_arg('baseline')}, {read_arg('confounds')}), or check onsets and durations"
        )
    return weights, directions, sizes


def _check_variances(inflated: np.ndarray, last: pd.DataFrame, per: str, end: float, where: str) -> None:
    """Refuse, or warn about, conditions or events whose betas have a much larger variance than the others.

    Parameters
    ----------
    inflated : numpy.ndarray (n,)
        Variance of each beta, relative to complete responses without overlap.
    last : pandas.DataFrame
        Stimulus and onset of the last event of each.
    per, end, where
        As in `Model`; the length of the run in s, and its name.
    """
    usual = [max(float(np.median(np.delete(inflated, k))), 1.0) if len(inflated) > 1 else 1.0 for k in range(len(last))]
    times = inflated / np.array(usual)
    for bound, consequence in ((_TOO_NOISY, refuse), (_NOISY, partial(warnings.warn, stacklevel=4))):
        weak = np.flatnonzero(times > bound)
        if len(times) == 1 and bound == _NOISY:
            return  # there are no others
        if not len(weak):
            continue
        event = "last event" if per == "condition" else "event"
        listed = [
            f"{name!r} ({event} at {onset:g} s; {_many(factor)} times the noise (SD) of other patterns)"
            for (name, onset), factor in zip(last.iloc[weak].itertuples(index=False), times[weak], strict=True)
        ]
        some = ", ".join(listed[:_LISTED]) + (f" and {len(weak) - _LISTED} more" if len(weak) > _LISTED else "")
        consequence(
            f"{where}, which is {end:g} s long, has too little of the response to {some}, or confounds and drift "
            "explain it; leave such events out of the table of events"
        )


def _many(variances: float) -> str:
    deviations = math.sqrt(variances)
    return f"{deviations:.3g}" if deviations < 1000 else "more than 1000"


def _worded(column: str, words: Mapping[str, str]) -> str:
    code, _, more = column.partition("_")
    return f"{words[code]} {more}".strip() if code in words else column


def to_dataset(
    runs: Mapping[str, Run], channel_descriptors: Mapping[str, Any], descriptors: Mapping[str, Any], per: str
) -> Dataset:
    """Join the runs of one subject and region.

    Parameters
    ----------
    runs : mapping of str to Run
        By name, with the same channels.
    channel_descriptors, descriptors : mapping
        Descriptors of the Dataset.
    per : str
        With ``"trial"``, the observation descriptor ``"trial"`` also counts the events of each run from 1.

    Returns
    -------
    rsatoolbox.data.Dataset
        Observation descriptors stimulus and run; channel descriptor residuals (n_channels, n_timepoints of all runs),
        and the descriptor residual_dof, their degrees of freedom.

    Examples
    --------
    >>> run = Run(("face", "house"), np.zeros((2, 3)), np.zeros((40, 3)), 30)
    >>> data = to_dataset({"1": run, "2": run}, {}, {"subject": "01"}, per="condition")
    >>> list(data.obs_descriptors["run"]), data.channel_descriptors["residuals"].shape, data.descriptors["residual_dof"]
    (['1', '1', '2', '2'], (3, 80), 60)
    """
    from rsatoolbox.data.dataset import Dataset

    observed = {
        "stimulus": [stimulus for run in runs.values() for stimulus in run.stimuli],
        "run": [name for name, run in runs.items() for _ in run.stimuli],
    }
    if per == "trial":
        observed["trial"] = [str(trial) for run in runs.values() for trial, _ in enumerate(run.stimuli, start=1)]
    residuals = np.concatenate([run.residuals for run in runs.values()])
    return Dataset(
        np.concatenate([run.betas for run in runs.values()]),
        descriptors={**descriptors, "residual_dof": sum(run.dof for run in runs.values())},
        obs_descriptors=observed,
        channel_descriptors={**channel_descriptors, "residuals": residuals.T},
    )
