"""RDMs of measurements, against rsatoolbox's and against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.data.noise import prec_from_measurements, prec_from_residuals
from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm, calc_rdm_movie

from brainrdl import BrainrdlError, calc_rdm
from brainrdl._core import progress
from brainrdl._core.constants import NOISE
from brainrdl.dissimilarity.measures import Crossnobis, Poisson, PoissonCV, poisson
from brainrdl.rdms import condition_pairs
from brainrdl.rdms.by_name import select
from brainrdl.rdms.noise import noise_precision

NAMES = ["house", "face", "cat", "shoe", "chair"]
N_RUNS, N_CHANNELS = 4, 7


def refused(words: str):
    return pytest.raises(BrainrdlError, match=words)


def dataset(seed: int = 0, shuffled: bool = True, times: int = 0, **descriptors: object):
    """Measure every condition once in each run, positive values, in a random order of observations."""
    generator = np.random.default_rng(seed)
    names, runs = np.tile(NAMES, N_RUNS), np.repeat(np.arange(N_RUNS), len(NAMES))
    signal = generator.gamma(2, 2, (len(NAMES), N_CHANNELS))[np.tile(np.arange(len(NAMES)), N_RUNS)]
    shape = (len(names), N_CHANNELS, times) if times else (len(names), N_CHANNELS)
    values = (signal[..., None] if times else signal) + generator.gamma(1, 1, shape)
    order = generator.permutation(len(names)) if shuffled else np.arange(len(names))
    observed = {"stimulus": names[order].tolist(), "run": runs[order].tolist()}
    if times:
        time = {"time": np.linspace(-0.1, 0.3, times)}
        return TemporalDataset(values[order], descriptors, observed, time_descriptors=time)
    return Dataset(values[order], descriptors, observed)


def in_order_of(expected, found):
    """Give rsatoolbox's pairs, whose conditions it sorts, in the order of ours."""
    expected.pattern_descriptors["stimulus"] = [str(name) for name in expected.pattern_descriptors["stimulus"]]
    return select(expected, found.pattern_descriptors["stimulus"]).dissimilarities


def precision(seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(N_CHANNELS + 5, N_CHANNELS))
    return np.linalg.inv(noise.T @ noise / (N_CHANNELS + 5))


@pytest.mark.parametrize("name", ["euclidean", "correlation", "poisson", "mahalanobis", "crossnobis"])
def test_an_rdm_of_repeated_observations_equals_that_of_rsatoolbox(name: str) -> None:
    whitened = {"noise": precision()} if name in ("mahalanobis", "crossnobis") else {}
    found = calc_rdm(dataset(), name, **whitened)
    cv = {"cv_descriptor": "run"} if name == "crossnobis" else {}
    expected = rsatoolbox_rdm(dataset(), name, descriptor="stimulus", **cv, **whitened)
    np.testing.assert_allclose(found.dissimilarities, in_order_of(expected, found), rtol=1e-10, atol=1e-12)
    assert found.dissimilarity_measure == name


def test_conditions_stand_in_the_order_in_which_they_first_appear() -> None:
    data = dataset()
    assert calc_rdm(data).pattern_descriptors["stimulus"] == list(dict.fromkeys(data.obs_descriptors["stimulus"]))


def test_the_order_of_observations_changes_nothing() -> None:
    found, sorted_ = calc_rdm(dataset(), "crossnobis"), calc_rdm(dataset(shuffled=False), "crossnobis")
    other = Dataset(*(getattr(dataset(), part) for part in ("measurements", "descriptors", "obs_descriptors")))
    other = other.subset_obs("run", [3, 2, 1, 0])
    np.testing.assert_allclose(select(calc_rdm(other, "crossnobis"), NAMES).dissimilarities,
                               select(found, NAMES).dissimilarities)  # fmt: skip
    assert sorted_.n_cond == len(NAMES)


@pytest.mark.parametrize("method", NOISE)
def test_noise_estimated_from_observations_equals_rsatoolbox(method: str) -> None:
    data = dataset(shuffled=False)
    dof = len(NAMES) * (N_RUNS - 1)  # what rsatoolbox 0.3.2 takes by itself is (5 - 1) * 4: too many for 5 means
    expected = prec_from_measurements(data, obs_desc="stimulus", method=method, dof=dof)
    np.testing.assert_allclose(noise_precision(data, method), expected, rtol=1e-8)


@pytest.mark.parametrize("method", NOISE)
def test_noise_estimated_from_residuals_equals_rsatoolbox(method: str) -> None:
    residuals = np.random.default_rng(3).normal(size=(100, N_CHANNELS))
    data = dataset(residual_dof=80)
    data.channel_descriptors["residuals"] = residuals.T
    np.testing.assert_allclose(noise_precision(data, method), prec_from_residuals(residuals, 80, method), rtol=1e-8)


def test_noise_normalisation_of_euclidean_is_mahalanobis() -> None:
    plain, whitened = (calc_rdm(dataset(), name, noise="shrinkage_diag") for name in ("euclidean", "mahalanobis"))
    np.testing.assert_allclose(plain.dissimilarities, whitened.dissimilarities, rtol=1e-9)
    assert np.abs(plain.dissimilarities - calc_rdm(dataset(), "euclidean").dissimilarities).max() > 0.1


def test_noise_normalisation_makes_a_loud_channel_count_as_the_others() -> None:
    loud = dataset()
    loud.measurements[:, 0] *= 1000
    found, before = (calc_rdm(data, "correlation", noise="diag").dissimilarities for data in (loud, dataset()))
    np.testing.assert_allclose(found, before, rtol=1e-6)


def test_each_time_point_has_an_rdm_as_in_a_movie_of_rsatoolbox() -> None:
    data = dataset(times=5)
    found = calc_rdm(data, "euclidean")
    expected = calc_rdm_movie(dataset(times=5), method="euclidean", descriptor="stimulus")
    np.testing.assert_allclose(found.dissimilarities, in_order_of(expected, found), rtol=1e-10)
    assert found.rdm_descriptors["time"] == pytest.approx(data.time_descriptors["time"])


def test_a_window_is_the_mean_over_its_time_points() -> None:
    data = dataset(times=5)
    found = calc_rdm(data, "crossnobis", windows=[(-0.1, 0.0), (0.1, 0.3)])
    for row, chosen in enumerate([slice(0, 2), slice(2, 5)]):
        mean = Dataset(data.measurements[:, :, chosen].mean(2), obs_descriptors=data.obs_descriptors)
        np.testing.assert_allclose(found.dissimilarities[row], calc_rdm(mean, "crossnobis").dissimilarities[0])
    assert found.rdm_descriptors["time"] == [-0.05, 0.2]


def test_regions_and_subjects_become_rdm_descriptors_and_conditions_are_paired_by_name() -> None:
    both = [dataset(seed, roi=roi, subject="s1") for seed, roi in enumerate(["V1", "IT"])]
    found = calc_rdm(both)
    assert found.rdm_descriptors["roi"] == ["V1", "IT"]
    assert found.rdm_descriptors["subject"] == ["s1", "s1"]
    alone = select(calc_rdm(both[1]), found.pattern_descriptors["stimulus"])
    np.testing.assert_allclose(found.dissimilarities[1], alone.dissimilarities[0])


def test_each_run_counts_the_same() -> None:
    data = dataset(shuffled=False)
    twice = [*range(len(NAMES) * N_RUNS), *range(len(NAMES))]  # the first run again
    names, runs = (np.array(data.obs_descriptors[key])[twice] for key in ("stimulus", "run"))
    more = Dataset(data.measurements[twice], obs_descriptors={"stimulus": names, "run": runs})
    np.testing.assert_allclose(calc_rdm(more, "crossnobis").dissimilarities,
                               calc_rdm(data, "crossnobis").dissimilarities)  # fmt: skip


# Refusals


def test_a_descriptor_that_is_missing_comes_with_the_nearest() -> None:
    with refused(r"no descriptor 'stimuli'; nearest: 'stimulus' \(they have \['stimulus', 'run'\]\)"):
        calc_rdm(dataset(), by="stimuli")


def test_nan_is_counted() -> None:
    data = dataset()
    data.measurements[2, 3] = np.nan
    with refused("1 of 7 channels and 1 of 20 observations contain NaN or Inf"):
        calc_rdm(data)


def test_a_constant_pattern_is_named() -> None:
    data = dataset(shuffled=False)
    data.measurements[1 :: len(NAMES)] = 2.5
    with refused(r"conditions \['face'\] have the same value in all channels"):
        calc_rdm(data, "correlation")
    assert calc_rdm(data, "euclidean").n_cond == len(NAMES)


@pytest.mark.parametrize("name", ["poisson", "poisson_cv"])
def test_counts_are_not_whitened(name: str) -> None:
    with pytest.raises(BrainrdlError, match="whitened counts are not counts: leave it out for Poisson"):
        calc_rdm(dataset(), name, noise="diag")


def test_noise_without_repeats_or_residuals_is_refused() -> None:
    with refused("each of the 5 conditions is observed once"):
        calc_rdm(dataset().subset_obs("run", 0), "euclidean", noise="diag")


def test_mahalanobis_without_noise_is_refused() -> None:
    with refused("'mahalanobis' needs noise="):
        calc_rdm(dataset(), "mahalanobis")


def test_an_unknown_noise_normalisation_is_refused() -> None:
    with refused("noise normalisation 'shrinkage_diga' is not known; nearest: 'shrinkage_diag'"):
        calc_rdm(dataset(), noise="shrinkage_diga")


def test_a_covariance_that_has_no_inverse_is_refused() -> None:
    data = dataset()
    data.measurements[:, 1] = data.measurements[:, 0]
    with refused("noise covariance of 7 channels cannot be inverted|precision that is not finite"):
        calc_rdm(data, "euclidean", noise="full")


def test_a_channel_that_never_changes_has_no_precision() -> None:
    data = dataset()
    data.measurements[:, 1] = 1.0
    with refused("precision that is not finite: a channel is constant|cannot be inverted"):
        calc_rdm(data, "euclidean", noise="diag")


def test_a_negative_precision_is_refused() -> None:
    precision = np.eye(N_CHANNELS)
    precision[0, 1] = precision[1, 0] = 2
    with refused("the noise precision has a negative eigenvalue, -1"):
        calc_rdm(dataset(), "euclidean", noise=precision)


def test_windows_need_time_and_time_points() -> None:
    with refused("need measurements with time"):
        calc_rdm(dataset(), windows=[(0, 1)])
    with refused(r"window \(0.02, 0.08\) s contains no time point; times go from -0.1 to 0.3 s"):
        calc_rdm(dataset(times=5), windows=[(0.02, 0.08)])


@pytest.mark.parametrize("window", [(0, 10), (-5, 0.1), (50, 150), (0.0, 0.36), (-0.16, 0.1), (0.0, np.inf)])
def test_a_window_beyond_the_data_is_refused(window: tuple[float, float]) -> None:
    with refused(r"s extends beyond the data; times go from -0.1 to 0.3 s"):
        calc_rdm(dataset(times=5), windows=[(0, 0.1), window])


@pytest.mark.parametrize("window", [(0.1, 0.05), (np.nan, 0.1)])
def test_a_window_that_ends_before_it_begins_is_refused(window: tuple[float, float]) -> None:
    with refused("ends before it starts"):
        calc_rdm(dataset(times=5), windows=[window])


@pytest.mark.parametrize(
    "windows", [[], [(0, 0.1, 0.2)], [("0", "0.1")], [(0, 0.1), (0.1,)], 0.1, [True, False], [[]], "0:1"]
)
def test_windows_that_are_not_pairs_are_refused(windows: object) -> None:
    with refused(r"must be a list of \(start, end\) in seconds, got .*; use windows=\[\(0.05, 0.1\)\]"):
        calc_rdm(dataset(times=5), windows=windows)


def test_one_window_without_its_list_is_refused_with_what_was_meant() -> None:
    with refused(r"got \(0.1, 0.2\); use windows=\[\(0.1, 0.2\)\], or leave it out"):
        calc_rdm(dataset(times=5), windows=(0.1, 0.2))


def test_an_array_of_windows_is_taken() -> None:
    found = calc_rdm(dataset(times=5), windows=np.array([[0, 0.1], [0.1, 0.2]]))
    assert found.rdm_descriptors["time"] == [0.05, 0.15]


def with_times(times, data=None):
    data = data or dataset(times=len(times))
    observed = data.obs_descriptors
    return TemporalDataset(data.measurements, obs_descriptors=observed, time_descriptors={"time": times})


def test_times_in_float32_lose_no_sample() -> None:
    times = np.linspace(-0.1, 0.3, 41)
    windows = [(start, start + 0.02) for start in np.arange(-0.1, 0.28, 0.02)]
    found, expected = (
        calc_rdm(with_times(each), "euclidean", windows=windows) for each in (times.astype(np.float32), times)
    )
    np.testing.assert_array_equal(found.dissimilarities, expected.dissimilarities)


def test_a_window_may_reach_to_the_edges_of_the_outer_bins() -> None:
    middles = with_times(np.array([0.05, 0.15, 0.25]))
    whole = calc_rdm(middles, "euclidean", windows=[(0, 0.3)])
    np.testing.assert_allclose(
        whole.dissimilarities, calc_rdm(middles, "euclidean", windows=[(0.05, 0.25)]).dissimilarities
    )


# Windows and what is averaged


def averaged(data, windows):
    """Average by hand."""
    times = np.asarray(data.time_descriptors["time"])
    means = [data.measurements[:, :, (times > a - 1e-6) & (times < b + 1e-6)].mean(2) for a, b in windows]
    centres = np.array([(a + b) / 2 for a, b in windows])
    return with_times(centres, TemporalDataset(np.stack(means, 2), obs_descriptors=data.obs_descriptors))


@pytest.mark.parametrize("name", ["crossnobis", "mahalanobis", "correlation"])
@pytest.mark.parametrize("windows", [[(-0.1, 0.3)], [(-0.1, 0.0), (0.1, 0.3)]])
def test_noise_is_that_of_what_is_averaged(name: str, windows: list[tuple[float, float]]) -> None:
    data = dataset(times=5)
    found = calc_rdm(data, name, windows=windows, noise="shrinkage_diag")
    by_hand = calc_rdm(averaged(data, windows), name, noise="shrinkage_diag")
    np.testing.assert_allclose(found.dissimilarities, by_hand.dissimilarities, rtol=1e-9)


def test_noise_of_one_window_is_what_rsatoolbox_makes_of_the_means() -> None:
    data = dataset(times=5, shuffled=False)
    means = Dataset(data.measurements.mean(2), obs_descriptors=data.obs_descriptors)
    noise = prec_from_measurements(means, "stimulus", method="diag", dof=len(NAMES) * (N_RUNS - 1))
    expected = rsatoolbox_rdm(means, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=noise)
    found = calc_rdm(data, "crossnobis", windows=[(-0.1, 0.3)], noise="diag")
    np.testing.assert_allclose(found.dissimilarities, in_order_of(expected, found), rtol=1e-8)


def counted(width: int):
    """Count spikes in bins of `width` ms over 240 ms: the same spikes, whatever the width."""
    fine = np.random.default_rng(0).poisson(0.02, (20, N_CHANNELS, 240)).reshape(20, N_CHANNELS, -1, width).sum(3)
    observed = {"stimulus": NAMES * 4, "run": np.repeat(range(4), 5).tolist()}
    times = (np.arange(fine.shape[2]) + 0.5) * width / 1000
    return TemporalDataset(fine.astype(float), obs_descriptors=observed, time_descriptors={"time": times})


@pytest.mark.parametrize("name", ["poisson", "poisson_cv", poisson, Poisson()])
def test_counts_are_added_up_so_that_the_width_of_bins_does_not_matter(name) -> None:
    windows = [(0, 0.12), (0.12, 0.24)]
    fine, coarse = (calc_rdm(counted(width), name, windows=windows) for width in (1, 24))
    np.testing.assert_allclose(fine.dissimilarities, coarse.dissimilarities)
    data = counted(1)
    whole = Dataset(data.measurements[:, :, :120].sum(2), obs_descriptors=data.obs_descriptors)
    np.testing.assert_allclose(fine.dissimilarities[0], calc_rdm(whole, name).dissimilarities[0])


def test_other_dissimilarities_of_counts_are_of_their_mean() -> None:
    data = counted(1)
    mean = Dataset(data.measurements.mean(2), obs_descriptors=data.obs_descriptors)
    found = calc_rdm(data, "euclidean", windows=[(0, 0.24)])
    np.testing.assert_allclose(found.dissimilarities, calc_rdm(mean, "euclidean").dissimilarities)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: x / 3, "are not whole numbers"),
        (lambda x: -x, "are not whole"),
        (lambda x: 100 * x, "multiples of 100"),
    ],
)
def test_rates_are_not_summed_over_a_window(change, told) -> None:
    data = counted(1)
    rates = TemporalDataset(change(data.measurements), obs_descriptors=data.obs_descriptors,
                            time_descriptors=data.time_descriptors)  # fmt: skip
    with pytest.raises(BrainrdlError, match=f"sum counts over a window, but these measurements .*{told}"):
        calc_rdm(rates, "poisson", windows=[(0, 0.24)])


def test_a_precision_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"noise= has -1 on its diagonal; a noise precision must be positive definite"
    ):
        calc_rdm(dataset(), "mahalanobis", noise=-np.eye(N_CHANNELS))


def test_two_conditions_are_refused_by_name() -> None:
    two = Dataset(np.eye(2), obs_descriptors={"stimulus": ["cat", "dog"]})
    with pytest.raises(BrainrdlError, match=r"there are 2 conditions, \['cat', 'dog'\]; an RDM needs at least 3"):
        calc_rdm(two)


def test_windows_with_the_same_centre_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"names \['0.05 s'\] occur more than once in the centres of windows="):
        calc_rdm(counted(1), "euclidean", windows=[(0, 0.1), (0.04, 0.06), (0.1, 0.2)])


def test_a_dissimilarity_over_runs_may_be_an_object() -> None:
    data = dataset()
    expected = calc_rdm(data, "crossnobis")
    np.testing.assert_allclose(calc_rdm(data, Crossnobis()).dissimilarities, expected.dissimilarities)
    counts = Dataset(np.abs(data.measurements).round(), obs_descriptors=data.obs_descriptors)
    weighted, plain = (calc_rdm(counts, PoissonCV(prior_weight=w)).dissimilarities for w in (0.2, 0.1))
    np.testing.assert_allclose(plain, calc_rdm(counts, "poisson_cv").dissimilarities)
    assert not np.allclose(weighted, plain)


@pytest.mark.parametrize("noise", [np.eye(N_CHANNELS, dtype=int), np.eye(N_CHANNELS, dtype="f4"), np.eye(7).tolist()])
def test_a_precision_of_any_kind_of_number_is_taken(noise) -> None:
    for name in ("crossnobis", "correlation"):
        expected = calc_rdm(dataset(), name, noise=np.eye(N_CHANNELS))
        np.testing.assert_allclose(calc_rdm(dataset(), name, noise=noise).dissimilarities, expected.dissimilarities)


@pytest.mark.parametrize("name", ["crossnobis", "correlation"])
def test_a_precision_of_text_is_refused(name: str) -> None:
    with refused(r"or a precision of numbers \(7, 7\)\) must hold real numbers, got dtype <U1"):
        calc_rdm(dataset(), name, noise=np.full((7, 7), "a"))


@pytest.mark.parametrize("noise", [np.eye(3), np.ones(N_CHANNELS)])
@pytest.mark.parametrize("name", ["crossnobis", "correlation"])
def test_a_precision_that_does_not_fit_is_refused(noise: np.ndarray, name: str) -> None:
    with refused(r"or a precision of numbers \(7, 7\), as many as channels .*; got .* of shape"):
        calc_rdm(dataset(), name, noise=noise)


def test_without_runs_the_option_that_reads_them_is_named() -> None:
    alone = Dataset(dataset().measurements, obs_descriptors={"stimulus": dataset().obs_descriptors["stimulus"]})
    with refused(r"no descriptor 'run' \(they have .*read them with run_column=$"):
        calc_rdm(alone, "crossnobis")
    with refused("no descriptor 'stimulus'.*condition_column=.*or give names="):
        calc_rdm(Dataset(np.ones((4, 3))))


def test_no_dataset_is_refused() -> None:
    with refused("no dataset was given"):
        calc_rdm([])


@pytest.mark.parametrize("wrap", [lambda array: array, lambda array: [dataset(), array]])
def test_an_array_is_refused_with_the_dataset_it_should_be(wrap) -> None:
    message = (
        r"needs rsatoolbox's Dataset or TemporalDataset, got ndarray of shape \(4, 5\); an array .* becomes one with "
        r"rsatoolbox.data.Dataset\(array, obs_descriptors=\{'item': names\}\)"
    )
    with refused(message):
        calc_rdm(wrap(np.zeros((4, 5))), by="item")


def test_names_instead_of_a_descriptor_are_refused() -> None:
    with refused(r"rsatoolbox.data.Dataset\(array, obs_descriptors=\{'stimulus': names\}\), where names are"):
        calc_rdm(np.zeros((4, 5)), by=list("abcd"))
    with refused(r"by must be the name of an observation descriptor, got \['a', 'b', 'c', 'd', 'e', and 1 more\]"):
        calc_rdm(dataset(), by=list("abcdef"))


def test_what_is_neither_dataset_nor_array_is_refused_by_its_type() -> None:
    with refused("got str; an array"):
        calc_rdm(["it.h5"])


# Descriptors


def test_descriptors_that_are_constant_within_a_condition_are_kept_with_their_types() -> None:
    data = dataset()
    listed = data.obs_descriptors["stimulus"]
    animate = {"house": False, "face": True, "cat": True, "shoe": False, "chair": False}
    data.obs_descriptors["animate"] = [animate[name] for name in listed]
    data.obs_descriptors["letters"] = np.array([len(name) for name in listed])
    data.obs_descriptors["rating"] = [len(name) + 0.25 for name in listed]
    data.obs_descriptors["trial"] = list(range(len(listed)))
    found = calc_rdm(data).pattern_descriptors
    assert found["animate"] == [animate[name] for name in found["stimulus"]]
    assert found["letters"] == [len(name) for name in found["stimulus"]]
    assert found["rating"] == [len(name) + 0.25 for name in found["stimulus"]]
    assert {type(value) for value in found["rating"]} == {float}
    assert not {"trial", "run"} & set(found)  # these differ between the observations of a condition


def test_what_describes_a_dataset_describes_its_rdms_with_its_type() -> None:
    found = calc_rdm([dataset(subject=3, task="naming", age=31.5), dataset(subject=4, task="naming", age=27.0)])
    assert found.rdm_descriptors["subject"] == [3, 4]
    assert found.rdm_descriptors["task"] == ["naming", "naming"]
    assert found.rdm_descriptors["age"] == [31.5, 27.0]


def test_times_are_exact() -> None:
    data = dataset(times=6)
    times = np.array([0.00000001, 0.00000002, 0.1, 0.2, 1 / 3, 2 / 3])
    data.time_descriptors["time"] = times
    assert calc_rdm(data).rdm_descriptors["time"] == times.tolist()
    data.time_descriptors["time"] = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=np.float32)
    assert calc_rdm(data).rdm_descriptors["time"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


def test_datasets_with_different_conditions_are_refused() -> None:
    data = dataset()
    other = data.subset_obs("stimulus", NAMES[:4])
    with refused(r"do not have the same conditions: only in the first \['chair'\]"):
        calc_rdm([data, other])


# Windows that keep their samples


def test_a_window_can_keep_its_samples_as_channels() -> None:
    from scipy.spatial.distance import pdist

    values = np.random.default_rng(3).normal(size=(5, 4, 12))
    times = {"time": np.arange(12) / 100}
    data = TemporalDataset(values, obs_descriptors={"stimulus": list("abcde")}, time_descriptors=times)
    found = calc_rdm(data, "correlation", windows=[(0.02, 0.04), (0.05, 0.07)], window_as="samples")
    for row, first in zip(found.dissimilarities, (2, 5), strict=True):
        np.testing.assert_allclose(row, pdist(values[:, :, first : first + 3].reshape(5, -1), "correlation"))
    assert found.rdm_descriptors["time"] == [0.03, 0.06]
    averaged = calc_rdm(data, "correlation", windows=[(0.02, 0.04), (0.05, 0.07)])
    assert not np.allclose(found.dissimilarities, averaged.dissimilarities)


def test_windows_that_keep_their_samples_refuse() -> None:
    values = np.random.default_rng(3).normal(size=(10, 4, 12))
    names, times = {"stimulus": list("abcde") * 2}, {"time": np.arange(12) / 100}
    data = TemporalDataset(values, obs_descriptors=names, time_descriptors=times)
    with pytest.raises(BrainrdlError, match="give windows= too"):
        calc_rdm(data, window_as="samples")
    with pytest.raises(BrainrdlError, match=r"equally many, got 3 in \(0.02, 0.04\) s, 2 in \(0.05, 0.06\) s"):
        calc_rdm(data, windows=[(0.02, 0.04), (0.05, 0.06)], window_as="samples")
    with pytest.raises(BrainrdlError, match="window_as 'all' is not known"):
        calc_rdm(data, windows=[(0.02, 0.04)], window_as="all")
    data.channel_descriptors["residuals"] = np.zeros((4, 30))
    with pytest.raises(BrainrdlError, match="cannot use the residuals"):
        calc_rdm(data, windows=[(0.02, 0.04)], window_as="samples", noise="diag")


@pytest.mark.parametrize(
    ("measure", "noise"), [("correlation", None), ("euclidean", "diag"), ("mahalanobis", np.eye(4)), ("cosine", None)]
)
def test_the_pairs_of_a_large_dataset_show_progress_and_are_those_of_a_small_one(
    measure: str, noise: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    data = Dataset(rows, obs_descriptors={"stimulus": [f"s{k}" for k in range(30)] * 2})
    whole = calc_rdm(data, measure, noise=noise)
    monkeypatch.setattr(progress, "_AFTER", -1.0)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(condition_pairs, "_MANY", 30)
    in_blocks = calc_rdm(data, measure, noise=noise)
    assert "pairs of conditions: 435 of 435" in capsys.readouterr().err
    np.testing.assert_allclose(in_blocks.dissimilarities, whole.dissimilarities, atol=1e-12)
    calc_rdm(data, measure, noise=noise, progress=False)
    assert capsys.readouterr().err == ""


def test_rdms_of_many_datasets_show_progress_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", -1.0)
    calc_rdm([dataset(), dataset()])
    assert "RDMs" in capsys.readouterr().err
    calc_rdm([dataset(), dataset()], progress=False)
    assert capsys.readouterr().err == ""
