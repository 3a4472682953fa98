"""RDMs of designs that are not balanced, and noise that differs between runs and times: unbiased, and as rsatoolbox."""

from __future__ import annotations

import tracemalloc
import warnings
from itertools import combinations

import numpy as np
import pytest
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm
from rsatoolbox.rdm.calc_unbalanced import calc_rdm_unbalanced
from scipy.stats import poisson as poisson_distribution

from brainrdl import BrainrdlError, RDMTeacher, calc_rdm
from brainrdl.dissimilarity.measures import Crossnobis
from brainrdl.rdms.by_name import select
from brainrdl.rdms.noise import noise_precision

NAMES = list("abcde")
N_RUNS, N_CHANNELS = 4, 6

#: How often each condition (row) occurs in each run (column): conditions are missing, and repetitions are unequal.
COUNTS = np.array([[1, 1, 1, 1], [3, 1, 0, 2], [0, 2, 2, 1], [1, 0, 4, 1], [2, 1, 1, 0]])


def refused(words: str):
    return pytest.raises(BrainrdlError, match=words)


def observed(counts: np.ndarray = COUNTS) -> tuple[np.ndarray, np.ndarray]:
    """Return the condition and the run of each observation."""
    cells = [(i, r) for r in range(counts.shape[1]) for i in range(len(counts)) for _ in range(counts[i, r])]
    conditions, runs = np.array(cells).T
    return conditions, runs


def measure(values: np.ndarray, counts: np.ndarray = COUNTS) -> Dataset:
    conditions, runs = observed(counts)
    return Dataset(values, obs_descriptors={"stimulus": [NAMES[i] for i in conditions], "run": runs.tolist()})


def noisy(seed: int, counts: np.ndarray = COUNTS) -> Dataset:
    generator = np.random.default_rng(seed)
    conditions, _ = observed(counts)
    patterns = np.random.default_rng(99).normal(size=(len(NAMES), N_CHANNELS))
    return measure(patterns[conditions] + generator.normal(size=(len(conditions), N_CHANNELS)), counts)


def precisions(n: int, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, 2 * N_CHANNELS, N_CHANNELS))
    return np.linalg.inv(noise.transpose(0, 2, 1) @ noise / (2 * N_CHANNELS))


def within_error(found: np.ndarray, expected: np.ndarray) -> bool:
    """Say whether the mean over data sets (rows) is within 4 standard errors of what is expected, for every pair."""
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    return bool((np.abs(found.mean(0) - expected) < 4 * error).all())


# Unbiased, by simulation with known truth


@pytest.mark.slow
@pytest.mark.parametrize("precision", [None, "per run"])
def test_crossnobis_of_an_unbalanced_design_with_offsets_of_runs_is_unbiased(precision: str | None) -> None:
    generator = np.random.default_rng(0)
    conditions, runs = observed()
    patterns = generator.normal(size=(len(NAMES), N_CHANNELS)) + 3
    patterns[1] = patterns[0]  # a true distance of 0
    offsets = 5 * generator.normal(size=(N_RUNS, N_CHANNELS))
    scales = np.array([0.5, 1.0, 2.0, 1.0])  # of the noise of each run
    noise = None if precision is None else {str(r): np.eye(N_CHANNELS) / scales[r] ** 2 for r in range(N_RUNS)}
    found = []
    for _ in range(200):
        values = patterns[conditions] + offsets[runs]
        values = values + scales[runs, None] * generator.normal(size=values.shape)
        found.append(select(calc_rdm(measure(values), "crossnobis", noise=noise), NAMES).dissimilarities[0])
    expected = []
    for i, j in combinations(range(len(NAMES)), 2):
        shared = np.flatnonzero((COUNTS[i] > 0) & (COUNTS[j] > 0))
        weights = [1 if noise is None else 2 / (scales[r] ** 2 + scales[s] ** 2) for r, s in combinations(shared, 2)]
        expected.append(np.mean(weights) * np.square(patterns[i] - patterns[j]).mean())
    assert within_error(np.array(found), np.array(expected))


@pytest.mark.slow
def test_poisson_cv_of_a_design_with_missing_conditions_has_its_expected_value() -> None:
    counts = (COUNTS > 0).astype(int)
    generator = np.random.default_rng(0)
    conditions, _ = observed(counts)
    rates = generator.gamma(3, 1, (len(NAMES), N_CHANNELS))
    rates[1] = rates[0]
    found = [
        calc_rdm(measure(generator.poisson(rates[conditions]).astype(float), counts), "poisson_cv") for _ in range(200)
    ]
    k = np.arange(200)
    logs = (poisson_distribution.pmf(k[:, None, None], rates) * np.log((k + 0.1) / 1.1)[:, None, None]).sum(0)
    i, j = np.triu_indices(len(NAMES), 1)
    expected = ((rates[i] - rates[j]) / 1.1 * (logs[i] - logs[j])).mean(1)
    assert within_error(np.array([select(one, NAMES).dissimilarities[0] for one in found]), expected)


# Against rsatoolbox


def test_noise_of_each_run_equals_that_of_rsatoolbox() -> None:
    data, own = noisy(0, np.ones((5, N_RUNS), dtype=int)), precisions(N_RUNS)
    expected = rsatoolbox_rdm(data, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=list(own))
    for dissimilarity in ("crossnobis", Crossnobis()):
        found = calc_rdm(data, dissimilarity, noise={r: own[r] for r in reversed(range(N_RUNS))})
        np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities, rtol=1e-10)


@pytest.mark.parametrize("whitened", [False, True])
def test_each_pair_of_an_unbalanced_design_is_that_of_rsatoolbox_for_the_runs_with_both(whitened: bool) -> None:
    counts = (COUNTS > 0).astype(int)
    data, noise = noisy(0, counts), precisions(1)[0] if whitened else None
    found = select(calc_rdm(data, "crossnobis", noise=noise), NAMES).dissimilarities[0]
    for place, (i, j) in enumerate(combinations(range(len(NAMES)), 2)):
        shared = np.flatnonzero(counts[i] & counts[j]).tolist()
        both = data.subset_obs("stimulus", [NAMES[i], NAMES[j]]).subset_obs("run", shared)
        for function in (calc_rdm_unbalanced, rsatoolbox_rdm):
            expected = function(both, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=noise)
            np.testing.assert_allclose(found[place], expected.dissimilarities[0, 0], rtol=1e-9)


@pytest.mark.parametrize("dissimilarity", ["crossnobis", "poisson_cv"])
def test_a_condition_that_is_missing_from_a_run_does_not_change_the_pairs_of_others(dissimilarity: str) -> None:
    whole = measure(np.abs(noisy(0, np.ones((5, N_RUNS), dtype=int)).measurements), np.ones((5, N_RUNS), dtype=int))
    kept = [place for place in range(whole.n_obs) if place != 2]  # without 'c' in run 0
    described = {key: np.array(values)[kept].tolist() for key, values in whole.obs_descriptors.items()}
    cut = Dataset(whole.measurements[kept], obs_descriptors=described)
    others = ["a", "b", "d", "e"]
    expected, found = (select(calc_rdm(data, dissimilarity), others) for data in (whole, cut))
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities, rtol=1e-10)


# Noise that differs between runs or times


def timed(counts: np.ndarray = COUNTS) -> TemporalDataset:
    layers = [noisy(seed, counts) for seed in range(3)]
    values = np.stack([(seed + 1) * layer.measurements for seed, layer in enumerate(layers)], axis=2)
    return TemporalDataset(
        values, obs_descriptors=layers[0].obs_descriptors, time_descriptors={"time": np.array([0.1, 0.2, 0.3])}
    )


@pytest.mark.parametrize("dissimilarity", ["crossnobis", "mahalanobis", "euclidean"])
def test_each_time_point_may_have_its_noise_precision(dissimilarity: str) -> None:
    data, own = timed(), precisions(3)
    found = calc_rdm(data, dissimilarity, noise=own)
    for row in range(3):
        alone = Dataset(data.measurements[:, :, row], obs_descriptors=data.obs_descriptors)
        expected = calc_rdm(alone, dissimilarity, noise=own[row])
        np.testing.assert_allclose(found.dissimilarities[row], expected.dissimilarities[0], rtol=1e-9)


@pytest.mark.parametrize("method", ["diag", "shrinkage_diag"])
@pytest.mark.parametrize("dissimilarity", ["crossnobis", "mahalanobis", "correlation"])
def test_noise_can_be_estimated_in_each_window(dissimilarity: str, method: str) -> None:
    data = timed()
    found = calc_rdm(data, dissimilarity, noise=method, noise_per="window")
    for row in range(3):
        alone = Dataset(data.measurements[:, :, row], obs_descriptors=data.obs_descriptors)
        expected = calc_rdm(alone, dissimilarity, noise=method)
        np.testing.assert_allclose(found.dissimilarities[row], expected.dissimilarities[0], rtol=1e-9)


@pytest.mark.parametrize("window_as", ["mean", "samples"])
@pytest.mark.parametrize("dissimilarity", ["crossnobis", "mahalanobis"])
def test_noise_of_a_window_is_that_of_the_values_that_are_compared(dissimilarity: str, window_as: str) -> None:
    data = timed()
    windows = [(0.1, 0.2), (0.2, 0.3)]
    how = {"noise": "shrinkage_diag", "window_as": window_as}
    found = calc_rdm(data, dissimilarity, windows=windows, noise_per="window", **how)
    alone = [calc_rdm(data, dissimilarity, windows=[window], **how).dissimilarities[0] for window in windows]
    np.testing.assert_allclose(found.dissimilarities, alone, rtol=1e-9)
    together = calc_rdm(data, dissimilarity, windows=windows, **how)
    assert np.abs(together.dissimilarities / found.dissimilarities - 1).max() > 0.05


def test_residuals_of_all_times_are_not_the_noise_of_a_window() -> None:
    data = timed()
    data.channel_descriptors["residuals"] = np.random.default_rng(0).normal(size=(N_CHANNELS, 40))
    with refused(r"noise_per='window' cannot use the residuals that this dataset has, which are of no window"):
        calc_rdm(data, "crossnobis", noise="diag", noise_per="window")


@pytest.mark.filterwarnings("ignore:noise differs between runs:UserWarning")  # the design is not balanced
@pytest.mark.parametrize("method", ["diag", "shrinkage_diag"])
@pytest.mark.parametrize("dissimilarity", ["crossnobis", "mahalanobis", "correlation"])
def test_noise_can_be_estimated_in_each_run(dissimilarity: str, method: str) -> None:
    data = noisy(0, 4 * COUNTS)
    own = {r: noise_precision(data.subset_obs("run", r), method) for r in range(N_RUNS)}
    found, expected = (
        calc_rdm(data, dissimilarity, noise=method, noise_per="run"),
        calc_rdm(data, dissimilarity, noise=own),
    )
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:noise differs between runs:UserWarning")  # the design is not balanced
def test_observations_are_whitened_with_the_noise_of_their_run() -> None:
    data, scales = noisy(0), np.array([1.0, 10.0, 0.5, 2.0])
    loud = measure(data.measurements * scales[np.array(data.obs_descriptors["run"])][:, None])
    own = {r: np.eye(N_CHANNELS) / scales[r] ** 2 for r in range(N_RUNS)}
    for dissimilarity, plain in (("euclidean", "euclidean"), ("mahalanobis", "euclidean"), ("correlation",) * 2):
        found = calc_rdm(loud, dissimilarity, noise=own).dissimilarities
        np.testing.assert_allclose(found, calc_rdm(data, plain).dissimilarities, rtol=1e-9)


@pytest.mark.parametrize("full", [True, False])
def test_unequal_whitening_of_equal_patterns_is_warned_about_with_its_size(full: bool) -> None:
    counts = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
    conditions, _ = observed(counts)
    patterns = np.tile(np.random.default_rng(3).normal(size=N_CHANNELS), (3, 1))
    patterns[2] *= 3  # a and b are equal
    data = measure(patterns[conditions], counts)
    scales = np.array([1.0, 1.0, 0.5, 0.5])  # of the noise; patterns are the same in all runs
    own = {r: np.eye(N_CHANNELS) / scales[r] ** 2 for r in range(N_RUNS)}
    if full:
        mix = np.linalg.qr(np.random.default_rng(4).normal(size=(N_CHANNELS, N_CHANNELS)))[0]
        own = {r: mix @ each @ mix.T for r, each in own.items()}
    with pytest.warns(UserWarning, match="'a' and 'b' had the same pattern in all runs, it would differ by 63 %"):
        found = select(calc_rdm(data, "euclidean", noise=own), ["a", "b"]).dissimilarities[0, 0]
    # whitening by 1 and by 2: a difference of 1, relative to the root mean square of 1 and 2
    assert found == pytest.approx(np.square(patterns[0]).mean())
    assert np.sqrt(found / (2.5 * np.square(patterns[0]).mean())) == pytest.approx(0.63, abs=0.005)
    everywhere = measure(patterns[observed(np.ones((3, 4), dtype=int))[0]], np.ones((3, 4), dtype=int))
    whole = select(calc_rdm(everywhere, "euclidean", noise=own), ["a", "b"])
    assert whole.dissimilarities == pytest.approx(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calc_rdm(data, "euclidean", noise={r: np.eye(N_CHANNELS) for r in range(N_RUNS)})


def test_univariate_noise_of_a_large_region_needs_no_matrix_of_all_channels() -> None:
    measured = np.random.default_rng(0).normal(size=(120, 3000)) * np.linspace(1, 3, 3000)
    names, runs = [f"w{i % 20}" for i in range(120)], [i // 20 for i in range(120)]
    described = {"stimulus": names, "run": runs}
    tracemalloc.start()
    found = calc_rdm(Dataset(measured, obs_descriptors=described), "crossnobis", noise="diag")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    cube = measured.reshape(6, 20, 3000)
    scaled = measured / np.sqrt(np.square(cube - cube.mean(0)).sum((0, 1)) / 100)
    expected = calc_rdm(Dataset(scaled, obs_descriptors=described), "crossnobis")
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities)
    assert peak < 3000**2 * 8 / 2


# Pairs without an estimate


def apart() -> Dataset:
    """Measure five conditions of which 'e' occurs in one run only."""
    counts = np.ones((5, N_RUNS), dtype=int)
    counts[4, 1:] = 0
    return noisy(0, counts)


def test_pairs_that_share_fewer_than_two_runs_are_nan_with_a_warning_that_names_them() -> None:
    with pytest.warns(
        UserWarning, match=r"4 of 10 pairs .* crossnobis is NaN: 'a' and 'e', .* \(and 1 more\); .*runs="
    ):
        found = calc_rdm(apart(), "crossnobis")
    missing = np.isnan(select(found, NAMES).get_matrices()[0])
    assert missing[4, :4].all()
    assert not missing[:4, :4].any()
    assert RDMTeacher(found).targets == ("rdm",)


def test_a_design_in_which_all_pairs_share_runs_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(calc_rdm(noisy(0), "crossnobis").dissimilarities).all()


def test_conditions_that_are_never_together_are_refused_and_repetitions_can_be_folds() -> None:
    counts = np.kron(np.eye(5, dtype=int), np.ones((1, 2), dtype=int))  # each condition in two runs, without others
    data = noisy(0, counts)
    with refused("no two conditions occur together in two or more runs, .* give runs= .*repetition"):
        calc_rdm(data, "crossnobis")
    data.obs_descriptors["repetition"] = [run % 2 for run in data.obs_descriptors["run"]]
    assert np.isfinite(calc_rdm(data, "crossnobis", runs="repetition").dissimilarities).all()


# Refusals


def test_a_run_without_a_precision_is_named() -> None:
    with refused(r"noise= has no precision for run \['3'\] \(it has \['0', '1', '2'\]\)"):
        calc_rdm(noisy(0), "crossnobis", noise={r: np.eye(N_CHANNELS) for r in range(3)})


def test_a_list_of_precisions_is_refused_because_runs_have_names() -> None:
    with refused("for each run by name"):
        calc_rdm(noisy(0), "crossnobis", noise=list(precisions(N_RUNS)))


def test_where_noise_is_estimated_must_be_known_and_possible() -> None:
    with refused("noise_per 'session' is not known"):
        calc_rdm(noisy(0), noise="diag", noise_per="session")
    with refused("noise_per 'run' says where noise is estimated; set noise= to diag, "):
        calc_rdm(noisy(0), noise_per="run")
    with refused("noise_per='window' needs measurements with time"):
        calc_rdm(noisy(0), noise="diag", noise_per="window")
    with refused("run '0'.*each of the 5 conditions is observed once"):
        calc_rdm(noisy(0, np.ones((5, N_RUNS), dtype=int)), noise="diag", noise_per="run")
    kept = noisy(0)
    kept.channel_descriptors["residuals"] = np.ones((N_CHANNELS, 30))
    with refused("noise_per='run' cannot use the residuals"):
        calc_rdm(kept, noise="diag", noise_per="run")


def test_a_precision_of_a_run_that_has_no_inverse_is_refused() -> None:
    own = {r: np.ones((N_CHANNELS, N_CHANNELS)) for r in range(N_RUNS)}
    with refused("noise precision of a run cannot be inverted"):
        calc_rdm(noisy(0), "crossnobis", noise=own)


def test_a_precision_that_is_not_symmetric_or_finite_is_refused() -> None:
    data = Dataset(
        np.random.default_rng(0).normal(size=(8, 3)),
        obs_descriptors={"stimulus": list("abcd") * 2, "run": [1] * 4 + [2] * 4},
    )
    for method in ("euclidean", "crossnobis"):
        with pytest.raises(BrainrdlError, match="noise= is not symmetric"):
            calc_rdm(data, method, noise=np.triu(np.full((3, 3), 0.5) + np.eye(3)))
        with pytest.raises(BrainrdlError, match="noise= holds NaN or Inf"):
            calc_rdm(data, method, noise=np.array([[1.0, np.nan, 0], [np.nan, 1, 0], [0, 0, 1]]))
