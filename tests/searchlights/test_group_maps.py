"""Group tests: family-wise error in simulations without effect, and a simulated effect is found."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from brainrdl import BrainrdlError
from brainrdl.searchlights import Neighbourhoods, SearchlightMap, group_test, volume_neighbourhoods


def box() -> Neighbourhoods:
    return volume_neighbourhoods(np.ones((8, 8, 8)), 2.0, affine=np.eye(4))


def smooth(generator: np.random.Generator, near: Neighbourhoods, n: int) -> np.ndarray:
    """Scores (n, n_centres) that neighbouring centres share, as overlapping spheres do."""
    noise = generator.normal(size=(n, near.n_channels))
    members = near.members(np.arange(near.n_channels))
    return np.where(members >= 0, np.take(noise, members, axis=1), 0).sum(2) / np.sqrt((members >= 0).sum(1))


def maps(near: Neighbourhoods, scores: np.ndarray) -> list[SearchlightMap]:
    return [SearchlightMap(near, own[:, None], ("faces",), np.zeros(len(own))) for own in scores]


@pytest.mark.slow
def test_the_largest_statistic_and_the_largest_cluster_are_beyond_chance_in_five_of_a_hundred_maps() -> None:
    near, generator = box(), np.random.default_rng(0)
    n, centres, clusters = 100, 0, 0
    for seed in range(n):
        found = group_test(maps(near, smooth(generator, near, 11)), n_permutations=99, p_threshold=0.01, seed=seed)
        centres += found.values["p_fwe"].min() <= 0.05
        clusters += found.values["p_cluster"].min() <= 0.05
    for count in (centres, clusters):
        assert 1 <= count <= 13  # 99 % of a binomial distribution with .05 are at most 12


def test_an_effect_is_found_where_it_is() -> None:
    near, generator = box(), np.random.default_rng(1)
    scores = smooth(generator, near, 12)
    blob = np.linalg.norm(near.centres[["i", "j", "k"]] - [2, 5, 4], axis=1) <= 2
    scores[:, blob] += 2.5
    found = group_test(maps(near, scores), n_permutations=500)
    assert (found.values["p_fwe"][blob, 0] < 0.05).mean() > 0.8
    assert (found.values["p_fwe"][~blob, 0] < 0.05).sum() <= 3
    top = found.clusters.iloc[0]
    assert top.p < 0.05
    assert np.abs(top[["i", "j", "k"]].to_numpy(float) - [2, 5, 4]).max() <= 2
    assert found.table("faces")["p_cluster"][blob].max() < 0.05
    t = ttest_1samp(scores, 0).statistic
    np.testing.assert_allclose(found.values["t"][:, 0], t, rtol=1e-8)
    np.testing.assert_allclose(found.values["mean"][:, 0], scores.mean(0))


def test_centres_that_a_subject_lacks_are_left_out_and_counted(tmp_path: Path) -> None:
    near = box()
    scores = smooth(np.random.default_rng(2), near, 6)
    scores[3, 100] = np.nan
    found = group_test(maps(near, scores), n_permutations=50)
    assert found.notes == ["1 centre: without a score in a subject"]
    assert np.isnan(found.values["p_fwe"][100, 0])
    assert np.isfinite(found.values["p_fwe"]).sum() == 511
    found.save(tmp_path)
    image = nib.load(tmp_path / "faces_p_fwe.nii.gz").get_fdata()
    np.testing.assert_allclose(image.ravel(), found.values["p_fwe"][:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.image("faces", "t").get_fdata().ravel(), found.values["t"][:, 0], rtol=1e-6)
    assert pd.read_csv(tmp_path / "clusters.csv").columns.tolist()[:5] == ["cluster", "sign", "size", "mass", "p"]


def test_maps_that_differ_are_refused() -> None:
    near = box()
    scores = smooth(np.random.default_rng(2), near, 3)
    other = volume_neighbourhoods(np.ones((8, 8, 8)), 2.0, affine=2 * np.eye(4))
    with pytest.raises(BrainrdlError, match="at least 2 subjects, got 1"):
        group_test(maps(near, scores)[:1])
    with pytest.raises(BrainrdlError, match=r"map 1 .* has other centres than map 0"):
        group_test([*maps(near, scores[:1]), *maps(other, scores[1:])])
    named = SearchlightMap(near, scores[1][:, None], ("houses",), np.zeros(512))
    with pytest.raises(BrainrdlError, match="map 1 has the models"):
        group_test([*maps(near, scores[:1]), named])
    with pytest.raises(BrainrdlError, match="no centre has a score in all subjects"):
        group_test(maps(near, np.where(np.arange(512) % 3 == np.arange(3)[:, None], np.nan, scores)))
    session = [
        SearchlightMap(near, one.scores, one.models, one.states, settings={"subject": "s1"})
        for one in maps(near, scores)
    ]
    with pytest.raises(BrainrdlError, match="have several maps, but count once"):
        group_test(session)
    spearman = SearchlightMap(near, scores[1][:, None], ("faces",), np.zeros(512), settings={"comparator": "spearman"})
    with pytest.raises(BrainrdlError, match="map 1 has comparator 'spearman', map 0 has None"):
        group_test([*maps(near, scores[:1]), spearman])
