"""Power: the pilot's own design, laws of the numbers, agreement with simulated studies, refusals."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rsatoolbox.rdm import RDMs
from scipy import stats

from brainrdl import BrainrdlError
from brainrdl.inference import power, smallest_design
from brainrdl.inference.pairwise import comparison_of
from brainrdl.inference.uncertainty import DyadicInference, FoldRDMs
from brainrdl.rdms import from_array, select
from brainrdl.similarity import SIMILARITIES

sys.path.insert(0, str(Path(__file__).parents[1] / "validity"))
import population

NAMES = [f"image {k}" for k in range(24)]


def pilot(seed: int = 0, n_subjects: int = 6):
    sample = population.draw(np.random.default_rng(seed), 24, n_subjects, 2.0)
    rdms = from_array(sample.subjects, NAMES, descriptors={"subject": [f"s{k}" for k in range(n_subjects)]})
    return from_array(sample.better, NAMES), from_array(sample.worse, NAMES), rdms, sample


@pytest.mark.parametrize("comparator", ["corr", "cosine", "spearman", "corr_cov"])
def test_the_pilots_own_design_has_the_variance_of_its_interval(comparator: str) -> None:
    better, _, rdms, sample = pilot()
    row = power(better, rdms, n_stimuli=[24], n_subjects=[6], comparator=comparator).iloc[0]
    inference, data = DyadicInference(NAMES, 6), torch.tensor(sample.subjects)
    parts = inference.of_subjects(
        FoldRDMs(tuple(NAMES), data), torch.tensor(sample.better)[None], range(6), comparison_of(comparator),
        SIMILARITIES[comparator],
    )  # fmt: skip
    estimate = inference.join(row["effect"], [part[0] for part in parts])
    low, high, _ = estimate.interval()
    assert row["effect"] == pytest.approx(np.mean([float(part[0].found.value[0]) for part in parts]))
    assert stats.t.ppf(0.975, row["freedom"]) * row["sd"] == pytest.approx((high - low) / 2, rel=1e-6)


def test_power_is_that_of_a_noncentral_t() -> None:
    better, worse, rdms, _ = pilot()
    row = power(better, rdms, minus=worse, effect=-0.05, n_stimuli=[30], n_subjects=[9], alpha=0.01).iloc[0]
    critical, shift = stats.t.isf(0.005, row["freedom"]), 0.05 / row["sd"]
    drawn = stats.nct.rvs(row["freedom"], shift, size=20_000, random_state=1)
    assert row["power"] == pytest.approx(np.mean(np.abs(drawn) > critical), abs=0.02)


def test_power_grows_with_stimuli_subjects_and_effect_and_is_alpha_without_an_effect() -> None:
    better, _, rdms, _ = pilot()
    designs = {"n_stimuli": [12, 24, 48], "n_subjects": [4, 8, 16]}
    table = power(better, rdms, effect=0.05, **designs)
    grid = table.pivot_table(index="n_stimuli", columns="n_subjects", values="power").to_numpy()
    assert (np.diff(grid, axis=0) > 0).all()
    assert (np.diff(grid, axis=1) > 0).all()
    assert (power(better, rdms, effect=0.1, **designs)["power"] > table["power"]).all()
    np.testing.assert_allclose(power(better, rdms, effect=0.0, **designs)["power"], 0.05, atol=1e-6)
    assert power(better, rdms, effect=1.0, n_stimuli=[500], n_subjects=[50])["power"].item() == 1.0


def test_the_power_to_find_a_large_effect_is_known_and_near_1() -> None:
    better, _, rdms, _ = pilot()
    sd = power(better, rdms, n_stimuli=[24], n_subjects=[6])["sd"].iloc[0]
    for deviations in (12.0, 16.0, 20.0, 30.0, 60.0):  # scipy's distribution function is NaN for some of them
        row = power(better, rdms, effect=deviations * sd, n_stimuli=[24, 96], n_subjects=[6])
        assert (row["power"] > 0.999).all()
        assert (row["power_error"] < 0.01).all()


def test_conditions_are_paired_by_name_and_draws_by_seed() -> None:
    better, _, rdms, _ = pilot()
    design = {"n_stimuli": [20], "n_subjects": [5], "effect": 0.05}
    table = power(better, rdms, **design)
    pd.testing.assert_frame_equal(power(select(better, NAMES[::-1]), rdms, **design), table)
    assert 0 < table["power_error"].item() < 0.3


def test_predicted_deviations_are_those_of_simulated_studies() -> None:
    """Mean prediction of pilots of 24 stimuli for a study of another size, against the spread of such studies."""
    predicted = []
    for seed in range(8):
        better, worse, rdms, _ = pilot(seed)
        predicted.append(power(better, rdms, minus=worse, n_stimuli=[40], n_subjects=[10])["sd"].item() ** 2)
    found = []
    for seed in range(50):
        sample = population.draw(np.random.default_rng(1000 + seed), 40, 10, 2.0)
        scores = [np.corrcoef(model, rdm)[0, 1] for rdm in sample.subjects for model in (sample.better, sample.worse)]
        found.append(np.mean(scores[::2]) - np.mean(scores[1::2]))
    assert np.mean(predicted) ** 0.5 == pytest.approx(np.std(found), rel=0.35)


def test_the_smallest_design_has_enough_power() -> None:
    table = pd.DataFrame(
        {
            "n_stimuli": [24, 24, 24, 48, 48, 12],
            "n_subjects": [16, 4, 8, 4, 8, 99],
            "power": [0.95, 0.5, 0.81, 0.9, 1, 0.1],
        }
    )
    assert smallest_design(table)[["n_stimuli", "n_subjects"]].to_numpy().tolist() == [[24, 8], [48, 4]]
    assert smallest_design(table, 0.9)["n_subjects"].tolist() == [16, 4]
    with pytest.raises(BrainrdlError, match="at_least must be below 1"):
        smallest_design(table, 1.0)


def test_power_refuses() -> None:
    better, worse, rdms, sample = pilot()
    design = {"n_stimuli": [24], "n_subjects": [8]}
    both = from_array(np.stack([sample.better, sample.worse]), NAMES)
    holes = from_array(np.where(np.arange(276) == 3, np.nan, sample.better), NAMES)
    same = RDMs(np.ones((1, 276)), pattern_descriptors={"stimulus": list(NAMES)})
    regions = from_array(
        sample.subjects, NAMES, descriptors={"subject": list("abcabc"), "roi": ["V1"] * 3 + ["IT"] * 3}
    )
    for arguments, options, said in (
        ((better, rdms[[0, 1]]), {}, "at least 3 subjects and 8 conditions, got 2 and 24"),
        ((both, rdms), {}, "model must be one RDM, got 2"),
        ((better, rdms), {"minus": both}, "minus must be one RDM"),
        ((holes, rdms), {}, "unknown pairs"),
        ((better, regions), {}, "several"),
        ((same, rdms), {}, "model has the same dissimilarity for all pairs"),
        ((select(better, NAMES[:20]), rdms), {}, "image 20"),
        ((better, rdms), {"n_stimuli": [4]}, "n_stimuli must be a whole number, at least 8"),
        ((better, rdms), {"n_subjects": [1]}, "n_subjects must be a whole number, at least 2"),
        ((better, rdms), {"alpha": 1.0}, "alpha must be below 1"),
        ((better, rdms), {"effect": float("nan")}, "effect must be a finite number"),
        ((better, rdms), {"comparator": "pearson"}, "comparator 'pearson'"),
    ):
        with pytest.raises(BrainrdlError, match=said):
            power(*arguments, **(design | options))
    assert worse.n_rdm == 1
