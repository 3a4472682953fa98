"""Cluster tests: equal to MNE-Python for grids and graphs, signs and tails, threshold-free enhancement, refusals."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.ndimage import gaussian_filter

from brainrdl import BrainrdlError
from brainrdl.inference import ClusterTest, cluster_test


def smooth(shape: tuple[int, ...], n_subjects: int = 8, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n_subjects, *shape))
    return gaussian_filter(noise, [0] + [1.5] * len(shape))


def of_mne(values: np.ndarray, threshold: object, tail: int, adjacency: object = None) -> tuple[np.ndarray, np.ndarray]:
    """Masses of MNE's clusters, the largest first, and its null distribution, which lacks one of all flips."""
    stats = pytest.importorskip("mne").stats
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        t, found, _, null = stats.permutation_cluster_1samp_test(
            values, threshold=threshold, n_permutations="all", tail=tail, adjacency=adjacency, out_type="mask", seed=0
        )
    mass = np.array([t[mask].sum() for mask in found])
    return mass[np.argsort(-np.abs(mass))], np.abs(null)


def check_null(maxima: np.ndarray, of_mne: np.ndarray, *, one_sided: bool = False) -> None:
    """All values of MNE are ours; a one-sided test of MNE has the observed value twice, and lacks its opposite."""
    left, theirs = np.array(maxima), np.array(of_mne)
    assert len(left) == len(theirs) + 1
    for value in np.delete(theirs, np.abs(theirs - maxima[0]).argmin()) if one_sided else theirs:
        nearest = np.abs(left - value).argmin()
        assert left[nearest] == pytest.approx(value, rel=1e-9)
        left = np.delete(left, nearest)


@pytest.mark.parametrize("shape", [(20,), (6, 7)])
@pytest.mark.parametrize(("tail", "sign"), [("two-sided", 0), ("greater", 1), ("less", -1)])
def test_clusters_on_a_grid_are_those_of_mne(shape: tuple[int, ...], tail: str, sign: int) -> None:
    values = smooth(shape, 6)
    test = cluster_test(values, tail=tail, t_threshold=0.4)
    mass, null = of_mne(values, -0.4 if sign < 0 else 0.4, sign)
    assert test.exact
    assert len(mass)
    np.testing.assert_allclose(test.clusters["mass"], mass, rtol=1e-9)
    check_null(test.maxima, null, one_sided=sign != 0)
    np.testing.assert_allclose(test.clusters["p"], [(test.maxima >= abs(m) - 1e-9).mean() for m in mass])


def test_clusters_on_a_graph_over_time_are_those_of_mne() -> None:
    n = 9
    ring = sparse.coo_array((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    values = smooth((4, n), 6, seed=1)
    test = cluster_test(values, adjacency=ring, t_threshold=1.0)
    combine = pytest.importorskip("mne").stats.combine_adjacency
    mass, null = of_mne(values, 1.0, 0, combine(4, sparse.coo_array(ring + ring.T)))
    np.testing.assert_allclose(test.clusters["mass"], mass, rtol=1e-9)
    check_null(test.maxima, null)


def test_threshold_free_enhancement_is_that_of_mne() -> None:
    values = smooth((12,), 5, seed=2) + 0.3
    _, null = of_mne(values, {"start": 0, "step": 0.1}, 0)
    test = cluster_test(values, method="tfce")
    check_null(test.maxima, null)
    assert test.p.min() == 1 / 16 or test.maxima[0] < test.maxima.max()


def test_a_value_has_the_p_of_its_cluster_and_the_peak_is_its_largest_t() -> None:
    values = smooth((30,), seed=3)
    values[:, 10:16] += 1.0
    values[:, 22:25] -= 1.0
    test = cluster_test(values)
    assert test.clusters["sign"].tolist()[:2] == [1, -1]
    first = test.clusters.iloc[0]
    assert first["size"] == (test.labels == 1).sum()
    assert set(test.p[test.labels == 1]) == {first["p"]}
    assert (test.p[test.labels == 0] == 1).all()
    assert test.t[first["peak"]] == first["peak_t"] == test.t.max()


def test_the_threshold_is_the_quantile_of_t() -> None:
    from scipy.stats import t

    values = smooth((10,))
    assert cluster_test(values, p_threshold=0.01).threshold == pytest.approx(t.ppf(0.995, 7))
    assert cluster_test(values, p_threshold=0.01, tail="greater").threshold == pytest.approx(t.ppf(0.99, 7))


def test_an_unknown_value_belongs_to_no_cluster() -> None:
    values = smooth((12,)) + 2
    values[1:, 5] = np.nan
    test = cluster_test(values)
    assert np.isnan(test.p[5])
    assert test.labels[5] == 0
    assert len(test.clusters) == 2


def test_without_clusters_the_table_is_empty() -> None:
    test = cluster_test(smooth((12,)), t_threshold=1e6)
    assert isinstance(test, ClusterTest)
    assert len(test.clusters) == 0
    assert (test.p == 1).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adjacency": sparse.eye_array(5)}, r"adjacency must be a SciPy sparse matrix \(12, 12\).*got \(5, 5\)"),
        ({"adjacency": np.eye(12)}, "adjacency must be a SciPy sparse matrix"),
        ({"method": "size"}, "method 'size' is not known"),
        ({"p_threshold": 0.7}, "p_threshold must be below 0.5"),
        ({"t_threshold": -2.0}, "t_threshold must be a finite number above 0"),
        ({"tail": "left"}, "tail 'left'"),
    ],
)
def test_cluster_tests_refuse(options: dict, said: str) -> None:
    with pytest.raises(BrainrdlError, match=said):
        cluster_test(smooth((12,)), **options)


@pytest.mark.slow
def test_one_of_twenty_tests_without_an_effect_finds_a_cluster() -> None:
    found = [cluster_test(smooth((15,), 7, seed)).p.min() <= 0.05 for seed in range(200)]
    assert 0.01 < np.mean(found) < 0.09


@pytest.mark.parametrize("method", ["mass", "tfce"])
def test_a_value_that_is_the_same_in_all_subjects_has_no_t(method: str) -> None:
    values = np.random.default_rng(0).random((10, 6))
    values[:, 2] = 1
    with pytest.raises(BrainrdlError, match="1 of 6 values are the same in all subjects"):
        cluster_test(values, method=method)  # type: ignore[arg-type]
