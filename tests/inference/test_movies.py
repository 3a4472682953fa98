"""RDM movies: scores equal to rsatoolbox at each time, RDMs in any order, clusters and latencies in seconds."""

from __future__ import annotations

import numpy as np
import pytest
import rsatoolbox
import torch

from brainrdl import BrainrdlError
from brainrdl.inference import CrossTemporal, TimeCourses, cross_temporal, noise_ceiling, score_movie
from brainrdl.inference.pairwise import comparison_of
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.rdms import from_array, select, to_tensor
from brainrdl.similarity import SIMILARITIES

NAMES = [f"image {k}" for k in range(9)]
N_PAIRS = 36
TIMES = [-0.05, 0.0, 0.05, 0.1]


def movie_of(values: np.ndarray, times: list[float] = TIMES) -> rsatoolbox.rdm.RDMs:
    """RDMs of (n_subjects, n_times, n_pairs)."""
    n_subjects, n_times, n_pairs = values.shape
    labels = {"time": times * n_subjects, "subject": [f"s{k // n_times}" for k in range(n_subjects * n_times)]}
    return from_array(values.reshape(-1, n_pairs), NAMES, descriptors=labels)


def simulated(n_subjects: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    models, values = rng.random((2, N_PAIRS)), rng.random((n_subjects, len(TIMES), N_PAIRS))
    values[:, 2] += 2 * models[0]
    return models, values


def models_of(models: np.ndarray, key: str = "layer") -> rsatoolbox.rdm.RDMs:
    return from_array(models, NAMES, descriptors={key: ["early", "late"]})


@pytest.mark.parametrize("comparator", ["corr", "cosine", "spearman", "tau-a", "rho-a", "corr_cov"])
def test_scores_are_those_of_rsatoolbox_at_each_time(comparator: str) -> None:
    models, values = simulated()
    courses = score_movie(models_of(models), movie_of(values), comparator, intervals=False)
    for t in range(len(TIMES)):
        oracle = rsatoolbox.rdm.compare(models_of(models), from_array(values[:, t], NAMES), method=comparator)
        np.testing.assert_allclose(courses.scores[:, :, t], oracle, atol=1e-10)
    assert courses.models == ("early", "late")
    assert courses.summary["low"].isna().all()


def test_rdms_conditions_and_times_may_come_in_any_order() -> None:
    models, values = simulated()
    movie = movie_of(values)
    rng = np.random.default_rng(3)
    shuffled = select(movie[rng.permutation(movie.n_rdm)], list(rng.permutation(NAMES)))
    whole, other = score_movie(models_of(models), movie), score_movie(models_of(models), shuffled)
    place = [other.subjects.index(subject) for subject in whole.subjects]
    np.testing.assert_allclose(other.scores[:, place], whole.scores, atol=1e-12)
    np.testing.assert_allclose(other.summary["high"], whole.summary["high"], atol=1e-9)
    assert other.times.tolist() == TIMES


def test_intervals_and_ceilings_are_those_of_single_times() -> None:
    models, values = simulated()
    courses = score_movie(models_of(models), movie_of(values))
    of_time = torch.tensor(values[:, 2])
    inference = DyadicInference(NAMES, 5)
    parts = inference.of_subjects(
        FoldRDMs(tuple(NAMES), of_time), torch.tensor(models[:1]), range(5), comparison_of("corr"), SIMILARITIES["corr"]
    )
    expected = inference.join(courses.scores[0, :, 2].mean(), [part[0] for part in parts])
    row = courses.summary.query("model == 'early' and time == 0.05").iloc[0]
    assert tuple(row[["low", "high", "p"]]) == pytest.approx(expected.interval())
    assert tuple(row[["ceiling_low", "ceiling_high"]]) == pytest.approx(noise_ceiling(of_time, "corr"))
    assert row["n_subjects"] == 5
    differences = courses.difference("early", "late")
    assert differences.loc[2, "difference"] == pytest.approx(
        courses.scores[0, :, 2].mean() - courses.scores[1, :, 2].mean()
    )
    assert differences.loc[2, "p"] < 0.01 < differences.loc[0, "p"]


def test_the_table_has_one_row_per_model_subject_and_time() -> None:
    models, values = simulated()
    courses = score_movie(models_of(models), movie_of(values), intervals=False)
    row = courses.table.query("model == 'late' and subject == 's3' and time == 0.1")
    assert row["score"].item() == courses.scores[1, 3, 3]
    assert len(courses.table) == 2 * 5 * 4


def test_clusters_are_reported_in_seconds() -> None:
    models, values = simulated(8)
    values[:, 3] += 2 * models[0]
    courses = score_movie(models_of(models), movie_of(values), intervals=False)
    assert isinstance(courses, TimeCourses)
    for test in (courses.clusters("early", p_threshold=0.001), courses.clusters("early", "late", p_threshold=0.001)):
        first = test.clusters.iloc[0]
        assert (first["start"], first["end"], first["sign"]) == (0.05, 0.1, 1)
        assert first["p"] < 0.02
    assert courses.clusters("late", "early", p_threshold=0.001).clusters["sign"].iloc[0] == -1


def test_latencies_compare_all_models() -> None:
    models, values = simulated(8)
    values[:, 3] += 4 * models[1]
    courses = score_movie(models_of(models), movie_of(values), intervals=False)
    table = courses.latencies("peak")
    assert table["latency"].tolist() == pytest.approx([0.05, 0.1, -0.05])
    assert table["other"].tolist()[2] == "late"
    assert courses.course("late").shape == (8, 4)


def test_one_subject_and_one_model_without_names() -> None:
    models, values = simulated(1)
    courses = score_movie(from_array(models[0], NAMES), movie_of(values))
    assert courses.models == ("model 1",)
    assert courses.summary["ceiling"].isna().all()
    assert courses.summary["low"].notna().all()


def test_similarities_of_two_times_are_those_of_rsatoolbox() -> None:
    _, values = simulated()
    found = cross_temporal(movie_of(values), "spearman", subjects="within")
    assert isinstance(found, CrossTemporal)
    oracle = rsatoolbox.rdm.compare(from_array(values[1], NAMES), from_array(values[1], NAMES), method="spearman")
    np.testing.assert_allclose(found.similarities[1], oracle, atol=1e-10)


def test_a_subject_is_compared_with_the_mean_of_the_others() -> None:
    _, values = simulated()
    found = cross_temporal(movie_of(values), "cosine")
    scaled = values / np.sqrt((values**2).mean(-1, keepdims=True))
    others = np.delete(scaled[:, 3], 2, 0).mean(0)
    own = values[2, 1]
    assert found.similarities[2, 1, 3] == pytest.approx(own @ others / np.linalg.norm(own) / np.linalg.norm(others))
    diagonal = cross_temporal(movie_of(values)).similarities.mean(0).diagonal()
    lower = [noise_ceiling(torch.tensor(values[:, t]), "corr")[0] for t in range(4)]
    np.testing.assert_allclose(diagonal, lower)


def test_movies_refuse() -> None:
    models, values = simulated()
    movie = movie_of(values)
    two_regions = movie_of(values)
    two_regions.rdm_descriptors["roi"] = ["V1"] * 10 + ["IT"] * 10
    for broken, said in (
        (from_array(values[:, 0], NAMES), "no rdm descriptor 'time'"),
        (movie[np.arange(19)], r"lacks RDMs of \(subject, time\) \[\('s4', 0.1\)\]"),
        (two_regions, r"differ in \['roi'\] too"),
        (select(movie, NAMES[1:]), "image 0"),
    ):
        with pytest.raises(BrainrdlError, match=said):
            score_movie(models_of(models), broken)
    with pytest.raises(BrainrdlError, match="comparator 'pearson'"):
        score_movie(models_of(models), movie, "pearson")
    with pytest.raises(BrainrdlError, match="at least 2 subjects"):
        cross_temporal(movie_of(values[:1]))
    with pytest.raises(BrainrdlError, match="subjects 'across'"):
        cross_temporal(movie, subjects="across")
    with pytest.raises(BrainrdlError, match="model 'middle' is not known"):
        score_movie(models_of(models), movie, intervals=False).course("middle")


def test_models_are_named_by_the_first_descriptor_that_differs() -> None:
    models, values = simulated()
    named = models_of(models, "model")
    named.rdm_descriptors["name"] = ["same", "same"]
    assert score_movie(named, movie_of(values), intervals=False).models == ("early", "late")
    assert len(to_tensor(named)) == 2


def test_a_model_with_unknown_pairs_is_refused() -> None:
    rng = np.random.default_rng(0)
    labels = {"time": [0.0, 0.1] * 3, "subject": [f"s{k // 2}" for k in range(6)]}
    movie = from_array(rng.random((6, 28)), list("abcdefgh"), descriptors=labels)
    model = from_array(np.where(np.arange(28) < 15, np.nan, rng.random(28)), list("abcdefgh"))
    with pytest.raises(BrainrdlError, match="has 15 unknown"):
        score_movie(model, movie)
