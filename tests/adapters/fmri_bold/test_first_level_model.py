"""First-level models: nilearn's own numbers, known betas recovered, and what cannot be estimated refused."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import prec_from_residuals
from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm
from scipy.stats import gamma

from brainrdl import BrainrdlError, calc_rdm, read
from brainrdl.rdms.by_name import select
from brainrdl.rdms.noise import noise_precision
from data_adapters.fmri_bold.first_level_model import Model, Run, fit_run, to_dataset

T_R, N_VOLUMES = 2.0, 120
SHOWN = ["face", "house", "cat", "face", "cat", "house", "house", "face", "cat"]


def events_of(names=SHOWN, duration=10.0, gap=24.0):
    onsets = 6.0 + gap * np.arange(len(names))
    return pd.DataFrame({"onset": onsets, "duration": duration, "stimulus": names})


def response(events, n_volumes=N_VOLUMES, t_r=T_R, step=0.1):
    """The BOLD response of each event, convolved without nilearn: a double gamma, 0.1 s at a time."""
    time = np.arange(0, 32, step)
    kernel = gamma.pdf(time, 6) - gamma.pdf(time, 16) / 6
    fine = np.arange(0, n_volumes * t_r, step)
    boxes = [(fine >= onset) & (fine < onset + duration) for onset, duration in events[["onset", "duration"]].values]
    convolved = np.array([np.convolve(box, kernel / kernel.sum())[: len(fine)] for box in boxes])
    return convolved[:, np.searchsorted(fine, np.arange(n_volumes) * t_r)].T


def simulate(events, patterns, noise=0.05, seed=0):
    """BOLD with known patterns, one per event, on a baseline with a slow drift."""
    rng = np.random.default_rng(seed)
    drift = np.cos(np.pi * np.arange(N_VOLUMES) / N_VOLUMES)[:, None] * rng.normal(size=patterns.shape[1])
    return 100 + drift + response(events) @ patterns + noise * rng.normal(size=(N_VOLUMES, patterns.shape[1]))


# Recovery and oracle


@pytest.mark.parametrize("noise_model", ["ar1", "ols"])
def test_the_known_betas_of_conditions_are_recovered(noise_model):
    events, rng = events_of(), np.random.default_rng(1)
    patterns = dict(zip(["face", "house", "cat"], rng.normal(size=(3, 50)), strict=True))
    bold = simulate(events, np.stack([patterns[name] for name in events["stimulus"]]))
    run = fit_run(bold, events, T_R, Model(noise_model=noise_model))
    assert run.stimuli == ("cat", "face", "house")
    truth = np.stack([patterns[name] for name in run.stimuli])
    for beta, true in zip(run.betas, truth, strict=True):
        assert np.corrcoef(beta, true)[0, 1] > 0.99
    assert np.abs(run.betas - truth).mean() < 0.05


def test_the_known_betas_of_single_events_are_recovered_in_the_order_of_their_onsets():
    events = events_of()
    patterns = np.random.default_rng(1).normal(size=(len(events), 50))
    shuffled = events.sample(frac=1, random_state=0)
    run = fit_run(simulate(events, patterns), shuffled, T_R, Model(per="trial"))
    assert run.stimuli == tuple(SHOWN)
    assert all(np.corrcoef(beta, true)[0, 1] > 0.95 for beta, true in zip(run.betas, patterns, strict=True))


# nilearn 0.14 warns of its own call of its masker
@pytest.mark.filterwarnings("ignore:.*Generation of a mask has been requested:RuntimeWarning")
@pytest.mark.parametrize("noise_model", ["ar1", "ols"])
@pytest.mark.parametrize("hrf", ["spm", "glover + derivative"])
def test_betas_and_residuals_are_those_of_nilearns_first_level_model(noise_model, hrf):
    from nilearn.glm.first_level import FirstLevelModel

    events = events_of()
    bold = simulate(events, np.random.default_rng(1).normal(size=(len(events), 8)), noise=1.0).astype(np.float32)
    confounds = pd.DataFrame(np.random.default_rng(2).normal(size=(N_VOLUMES, 2)), columns=["trans_x", "rot_z"])
    ones = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    image = nib.Nifti1Image(bold.T.reshape(2, 2, 2, N_VOLUMES), np.eye(4))
    oracle = FirstLevelModel(
        t_r=T_R, hrf_model=hrf, high_pass=0.008, noise_model=noise_model, mask_img=ones, signal_scaling=False,
        minimize_memory=False,
    )  # fmt: skip
    oracle.fit(image, events.rename(columns={"stimulus": "trial_type"}), confounds)
    run = fit_run(bold, events, T_R, Model(hrf=hrf, high_pass=0.008, noise_model=noise_model), confounds)
    for name, beta in zip(run.stimuli, run.betas, strict=True):
        theirs = oracle.compute_contrast(name, output_type="effect_size").get_fdata().ravel()
        np.testing.assert_allclose(beta, theirs, rtol=1e-4, atol=1e-5)
    assert run.dof == N_VOLUMES - oracle.design_matrices_[0].shape[1]
    if noise_model == "ols":
        residuals = oracle.residuals_ if hasattr(oracle, "residuals_") else oracle.residuals  # older name
        np.testing.assert_allclose(run.residuals, residuals[0].get_fdata().reshape(8, -1).T, atol=1e-3)


@pytest.mark.parametrize("noise_model", ["ar1", "ols"])
def test_a_confound_of_zeros_changes_nothing(noise_model):
    from nilearn.glm.first_level import run_glm

    events, rng = events_of(), np.random.default_rng(3)
    bold, motion = rng.normal(size=(N_VOLUMES, 4)), rng.normal(size=N_VOLUMES)
    confounds, model = pd.DataFrame({"zero": 0.0, "x": motion}), Model(noise_model=noise_model)
    run, expected = (fit_run(bold, events, T_R, model, each) for each in (confounds, confounds[["x"]]))
    assert run.dof == expected.dof
    np.testing.assert_array_equal(run.residuals, expected.residuals)
    drift = np.cos(np.pi * np.outer(np.arange(N_VOLUMES) + 0.5, np.arange(5)) / N_VOLUMES)
    conditions = np.stack([response(events[events["stimulus"] == name]).sum(axis=1) for name in run.stimuli])
    design = np.column_stack([*conditions, motion, np.zeros(N_VOLUMES), drift])
    _, theirs = run_glm(bold, design, noise_model="ols")
    assert {result.df_residuals for result in theirs.values()} == {run.dof}  # nilearn's counts the rank
    nothing = fit_run(bold, events, T_R, model, confounds[["zero"]])
    assert nothing.dof == fit_run(bold, events, T_R, model).dof


def test_residuals_have_the_covariance_of_the_noise_at_the_degrees_of_freedom_given():
    events, rng = events_of(), np.random.default_rng(3)
    mixing = rng.normal(size=(4, 4))
    bold = rng.normal(size=(N_VOLUMES, 4)) @ mixing
    run = fit_run(bold, events, T_R, Model(noise_model="ols"))
    covariance = run.residuals.T @ run.residuals / run.dof
    assert np.corrcoef(covariance.ravel(), (mixing.T @ mixing).ravel())[0, 1] > 0.95


def test_residuals_of_autocorrelated_noise_are_whitened_over_time():
    events, rng = events_of(), np.random.default_rng(4)
    noise = rng.normal(size=(N_VOLUMES, 30))
    for volume in range(1, N_VOLUMES):
        noise[volume] += 0.6 * noise[volume - 1]

    def lag_one(model):
        residuals = fit_run(noise, events, T_R, model).residuals[1:]
        return np.mean([np.corrcoef(channel[1:], channel[:-1])[0, 1] for channel in residuals.T])

    assert lag_one(Model(noise_model="ols")) > 0.4
    assert abs(lag_one(Model())) < 0.2


# Names


@pytest.mark.parametrize("name", ["a b-c", "1", "constant", "drift_1", "e000001", "Gesicht/männlich", "confound 'x'"])
def test_a_name_is_kept_whatever_it_means_to_the_model(name):
    events = events_of([name, "house", "constant x"] * 3)
    patterns = np.random.default_rng(1).normal(size=(3, 20))
    bold = simulate(events, np.tile(patterns, (3, 1)))
    run = fit_run(bold, events, T_R, confounds=pd.DataFrame({"x": np.random.default_rng(5).normal(size=N_VOLUMES)}))
    assert set(run.stimuli) == {name, "house", "constant x"}
    assert np.corrcoef(run.betas[run.stimuli.index(name)], patterns[0])[0, 1] > 0.99


@settings(max_examples=10, deadline=None, derandomize=True)
@given(order=st.permutations(range(len(SHOWN))), names=st.permutations(["face", "house", "cat"]))
def test_names_travel_with_their_patterns_whatever_the_order_of_rows(order, names):
    renamed = [names[["face", "house", "cat"].index(name)] for name in SHOWN]
    events = events_of(renamed)
    patterns = {name: np.random.default_rng(ord(name[0])).normal(size=20) for name in names}
    bold = simulate(events, np.stack([patterns[name] for name in renamed]))
    run = fit_run(bold, events.iloc[list(order)], T_R)
    for name, beta in zip(run.stimuli, run.betas, strict=True):
        assert np.corrcoef(beta, patterns[name])[0, 1] > 0.99


# What cannot be estimated


def test_an_event_after_the_end_of_the_run_is_refused():
    events = events_of()
    with pytest.raises(
        BrainrdlError, match=r"1 of 9 events are outside run 3, which is 180 s long: 'cat' begins at 198"
    ):
        fit_run(np.random.default_rng(0).normal(size=(90, 2)), events, T_R, where="run 3")


def test_an_event_long_before_the_run_is_refused_and_one_shortly_before_is_not():
    bold = np.random.default_rng(0).normal(size=(N_VOLUMES, 2))
    early = events_of()
    early.loc[0, "onset"] = -30.0
    with pytest.raises(BrainrdlError, match="'face' begins at -30 s"):
        fit_run(bold, early, T_R)
    early.loc[0, "onset"] = -10.0
    assert fit_run(bold, early, T_R).betas.shape == (3, 2)


def test_an_event_that_outlasts_the_run_is_modelled_as_far_as_the_run_goes():
    events, bold = events_of(), np.random.default_rng(0).normal(size=(N_VOLUMES, 2))
    events.loc[8, "duration"] = N_VOLUMES * T_R
    longer = fit_run(bold, events, T_R)
    events.loc[8, "duration"] = N_VOLUMES * T_R - events.loc[8, "onset"] + 5
    np.testing.assert_allclose(longer.betas, fit_run(bold, events, T_R).betas, rtol=1e-6)


def test_an_event_that_lasts_longer_than_the_run_is_refused():
    events = events_of()
    events.loc[8, "duration"] = 10_000.0  # milliseconds
    with pytest.raises(
        BrainrdlError,
        match=r"'cat' at 198 s lasts 10000 s, longer than run 3, which is 240 s long; are durations in seconds\?",
    ):
        fit_run(np.zeros((N_VOLUMES, 2)), events, T_R, where="run 3")


def test_events_without_duration_are_modelled_without_a_warning():
    run = fit_run(np.random.default_rng(0).normal(size=(N_VOLUMES, 2)), events_of(duration=0.0), T_R)
    assert np.isfinite(run.betas).all()


def test_two_conditions_at_the_same_times_are_refused_by_name():
    events = events_of(["face"] * 4)
    both = pd.concat([events, events.assign(stimulus="person")])
    bold = np.random.default_rng(0).normal(size=(N_VOLUMES, 2))
    with pytest.raises(
        BrainrdlError, match="the regressors of the run cannot be estimated separately: 'face', 'person' are"
    ):
        fit_run(bold, both, T_R)
    with pytest.raises(BrainrdlError, match=r"event 1, event 2, event 3, event 4, event 5, event 6, \.\.\. are"):
        fit_run(bold, both, T_R, Model(per="trial"))


def test_a_condition_that_begins_with_the_last_volume_is_refused():
    events = events_of(["face", "house"])
    events.loc[1, "onset"] = (N_VOLUMES - 1) * T_R + 1
    with pytest.raises(BrainrdlError, match=r"too little of the response to 'house' .*more than 1000 times the noise"):
        fit_run(np.random.default_rng(0).normal(size=(N_VOLUMES, 2)), events, T_R)


def late(onset, name="e", duration=1.0):
    """One-second events every 12 s, and one more at `onset` in a run of 200 s."""
    rows = [(8 + 12 * i, duration, "abcd"[i % 4]) for i in range(15)]
    return pd.DataFrame([*rows, (onset, duration, name)], columns=["onset", "duration", "stimulus"])


@pytest.mark.parametrize(
    ("per", "name", "hrf"),
    [
        ("condition", "e", "glover + derivative + dispersion"),
        ("trial", "a", "spm"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("condition", "e", "spm"), ("trial", "a", "glover + derivative + dispersion")]
        ),
    ],
)
def test_an_event_whose_response_has_hardly_begun_when_the_run_ends_is_refused(per, name, hrf):
    bold = np.random.default_rng(0).normal(size=(100, 3))
    for onset in (196.5, 197, 199.5):
        words = (
            rf"run 3, which is 200 s long, .* response to '{name}' \((last )?event at {onset:g} s; .* times the noise"
        )
        with pytest.raises(BrainrdlError, match=words):
            fit_run(bold, late(onset, name), 2.0, Model(per=per, hrf=hrf), where="run 3")


@pytest.mark.parametrize(("per", "name"), [("condition", "e"), ("trial", "a")])
def test_an_event_with_half_a_response_is_warned_about_with_the_true_noise_of_its_pattern(per, name):
    bold = np.random.default_rng(0).normal(size=(100, 4000))
    with pytest.warns(UserWarning, match=rf"response to '{name}' \((last )?event at 195 s; 3\.\d* times") as told:
        run = fit_run(bold, late(195, name), 2.0, Model(per=per, noise_model="ols"))
    noise = run.betas.std(1) * np.sqrt(
        [sum(late(195, name).stimulus == x) if per == "condition" else 1 for x in run.stimuli]
    )
    factor = float(str(told[0].message).split("s; ")[1].split(" times")[0])
    assert noise[-1] / np.median(noise[:-1]) == pytest.approx(factor, rel=0.1)


def test_a_late_event_of_a_condition_with_others_and_one_with_its_peak_in_the_run_are_not_warned_about():
    bold = np.random.default_rng(0).normal(size=(100, 3))
    for onset in (120, 180, 190, 194):
        assert fit_run(bold, late(onset), 2.0).betas.shape == (5, 3)
    assert fit_run(bold, late(198, "a"), 2.0).betas.shape == (4, 3)


def test_an_event_whose_volumes_are_all_removed_by_confounds_is_refused():
    bold = np.random.default_rng(0).normal(size=(100, 3))
    spikes = pd.DataFrame(np.eye(100)[:, 60:73])
    with pytest.raises(BrainrdlError, match=r"response to 'e' \(last event at 120 s|'e'.* zero or sums of each other"):
        fit_run(bold, late(120), 2.0, confounds=spikes)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.parametrize(
    ("gap", "duration", "per", "t_r", "n_volumes"),
    [
        ((2, 6), 1, "condition", 2.0, 200),
        ((3, 6), 1, "trial", 2.0, 200),
        ((2, 2.5), 0.5, "trial", 1.0, 150),
        ((24, 32), 16, "condition", 2.0, 200),
        ((4, 4), 3, "trial", 1.6, 188),
    ],
)
def test_usual_designs_are_not_warned_about(gap, duration, per, t_r, n_volumes, seed):
    rng, onset, rows = np.random.default_rng(seed), 6.0, []
    while onset < n_volumes * t_r - 14 - duration:
        rows.append((onset, duration, f"c{rng.integers(6)}"))
        onset += rng.uniform(*gap)
    events = pd.DataFrame(rows, columns=["onset", "duration", "stimulus"])
    assert len(fit_run(rng.normal(size=(n_volumes, 2)), events, t_r, Model(per=per)).betas) > 3


def test_a_confound_that_is_listed_twice_is_refused_by_name():
    motion = np.random.default_rng(0).normal(size=N_VOLUMES)
    confounds = pd.DataFrame({"x": motion, "twice x": 2 * motion})
    with pytest.raises(BrainrdlError, match="separately: confound 'x', confound 'twice x' are"):
        fit_run(np.random.default_rng(0).normal(size=(N_VOLUMES, 2)), events_of(), T_R, confounds=confounds)


def test_a_run_with_no_more_volumes_than_regressors_is_refused():
    events = events_of()
    confounds = pd.DataFrame(np.random.default_rng(0).normal(size=(N_VOLUMES, N_VOLUMES - 12)))
    bold = np.random.default_rng(0).normal(size=(N_VOLUMES, 2))
    with pytest.raises(
        BrainrdlError, match="120 volumes, but its model has 122 regressors, of which 9 are of interest"
    ):
        fit_run(bold, events, T_R, Model(per="trial"), confounds)
    with pytest.raises(BrainrdlError, match=r"lower high_pass"):
        fit_run(bold, events, T_R, Model(high_pass=1.0))


def test_confounds_of_another_length_are_refused():
    with pytest.raises(BrainrdlError, match="the confounds of the run have 3 rows, but the run has 120 volumes"):
        fit_run(np.zeros((N_VOLUMES, 2)), events_of(), T_R, confounds=pd.DataFrame({"x": [1.0, 2, 3]}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hrf": "smp"}, "hrf 'smp' is not known; nearest: 'spm'"),
        ({"noise_model": "ar2"}, "noise_model 'ar2' is not known"),
        ({"per": "trials"}, "per 'trials' is not known; nearest: 'trial'"),
        ({"high_pass": 0}, r"high_pass \(in Hz\) must be a number above 0, got 0"),
        ({"high_pass": True}, "must be a number above 0, got True"),
        ({"high_pass": float("inf")}, "must be a number above 0, got inf"),
    ],
)
def test_an_unknown_value_of_an_option_of_the_model_is_refused(options, message):
    with pytest.raises(BrainrdlError, match=message):
        Model(**options)


def test_without_nilearn_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.glm.first_level", None)
    with pytest.raises(BrainrdlError, match=r"pip install nilearn$"):
        fit_run(np.zeros((N_VOLUMES, 2)), events_of(), T_R)


# Datasets


def test_runs_are_joined_into_one_dataset_with_their_residuals():
    rng = np.random.default_rng(0)
    runs = {name: Run(("a", "b"), rng.normal(size=(2, 3)), rng.normal(size=(9, 3)), 5) for name in ("1", "2")}
    data = to_dataset(runs, {"i": [0, 1, 2]}, {"roi": "IT"}, per="trial")
    assert isinstance(data, Dataset)
    np.testing.assert_array_equal(data.measurements, np.concatenate([run.betas for run in runs.values()]))
    assert list(data.obs_descriptors["stimulus"]) == ["a", "b", "a", "b"]
    assert list(data.obs_descriptors["run"]) == ["1", "1", "2", "2"]
    assert list(data.obs_descriptors["trial"]) == ["1", "2", "1", "2"]
    residuals = np.concatenate([run.residuals for run in runs.values()])
    np.testing.assert_array_equal(data.channel_descriptors["residuals"], residuals.T)
    assert "residuals" not in data.descriptors
    assert (data.descriptors["residual_dof"], data.descriptors["roi"]) == (10, "IT")
    assert "trial" not in to_dataset(runs, {}, {}, per="condition").obs_descriptors


@pytest.fixture
def measured():
    """Two runs of three conditions with residuals of three voxels, one of which is noisier."""
    rng = np.random.default_rng(0)
    made = (Run(("a", "b", "c"), rng.normal(size=(3, 3)), rng.normal(size=(40, 3)) * [1, 1, 5], 30) for _ in range(2))
    return to_dataset(dict(zip("12", made, strict=True)), {"i": [0, 1, 2]}, {"subject": "01"}, per="condition")


@pytest.mark.parametrize("method", ["euclidean", "correlation", "crossnobis"])
def test_rsatoolbox_computes_the_same_rdm_of_a_dataset_with_residuals(measured, method):
    cv = {"cv_descriptor": "run"} if method == "crossnobis" else {}
    theirs, ours = rsatoolbox_rdm(measured, method, descriptor="stimulus", **cv), calc_rdm(measured, method)
    np.testing.assert_allclose(select(theirs, list("abc")).dissimilarities, ours.dissimilarities, rtol=1e-10)
    assert theirs.rdm_descriptors["subject"] == ["01"]
    assert "residuals" not in theirs.rdm_descriptors


def test_residuals_stay_with_their_voxels_in_parts_of_a_dataset_and_in_a_file(measured, tmp_path):
    residuals = np.array(measured.channel_descriptors["residuals"]).T
    measured.save(str(tmp_path / "betas.h5"), file_type="hdf5")
    runs = measured.subset_obs("run", "1")
    for whole in (measured, runs, read(tmp_path / "betas.h5", reader="rsatoolbox"), *measured.odd_even_split("run")):
        expected = prec_from_residuals(residuals, 60, "shrinkage_eye")
        np.testing.assert_allclose(noise_precision(whole, "shrinkage_eye"), expected)
    two = measured.subset_channel("i", [0, 2])
    np.testing.assert_allclose(noise_precision(two, "diag"), prec_from_residuals(residuals[:, [0, 2]], 60, "diag"))
    assert calc_rdm(two, "crossnobis", noise="diag").n_cond == 3


def test_residuals_in_another_place_or_without_time_are_refused(measured):
    measured.channel_descriptors["residuals"] = [1.0, 2.0, 3.0]
    with pytest.raises(BrainrdlError, match=r"must be \(n_channels, n_timepoints\), got shape \(3,\)"):
        noise_precision(measured, "diag")
    measured.descriptors["residuals"] = np.zeros((40, 3))
    with pytest.raises(BrainrdlError, match="'residuals' must be a channel descriptor"):
        calc_rdm(measured, "crossnobis", noise="diag")
