"""The searchlight against rsatoolbox, a plain loop over spheres, and simulated effects."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.util.searchlight import (
    evaluate_models_searchlight,
    get_searchlight_RDMs,
    get_volume_searchlight,
)

from brainrdl import BrainrdlError, calc_rdm, rdms, searchlight
from brainrdl.dissimilarity.cross_validated import is_reliable
from brainrdl.rdms import from_array, select
from brainrdl.searchlights import (
    Neighbourhoods,
    over_time,
    sensor_neighbourhoods,
    volume_neighbourhoods,
)
from brainrdl.searchlights.searching import DONE, SMALL
from brainrdl.similarity import SIMILARITIES

NAMES = [f"image {k}" for k in (3, 1, 2, 0, 5, 4)]
MM = np.diag([1.0, 1.0, 1.0, 1.0])


def mask() -> np.ndarray:
    """A ball with a hole, so that spheres have many sizes."""
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3, indexing="ij"))
    inside = np.linalg.norm(grid - 3, axis=0) < 3.4
    inside[3, 3, 4] = False
    return inside


def measured(n_runs: int = 4, n_channels: int | None = None, seed: int = 0) -> Dataset:
    n = int(mask().sum()) if n_channels is None else n_channels
    generator = np.random.default_rng(seed)
    patterns = generator.normal(size=(len(NAMES), n)) + 3
    values = np.tile(patterns, (n_runs, 1)) + generator.normal(size=(n_runs * len(NAMES), n)) * generator.gamma(
        3, 0.3, n
    )
    observations = {"stimulus": NAMES * n_runs, "run": np.repeat([f"run {r}" for r in range(n_runs)], len(NAMES))}
    return Dataset(values, obs_descriptors=observations, descriptors={"subject": "s1"})


def models(seed: int = 1) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    n_pairs = len(NAMES) * (len(NAMES) - 1) // 2
    return {name: from_array(generator.random(n_pairs), sorted(NAMES)) for name in ("first", "second")}


def ball(radius: float = 2.2) -> Neighbourhoods:
    return volume_neighbourhoods(mask(), radius, affine=MM)


def loop(data: Dataset, near: Neighbourhoods, centres: Any, **options: Any) -> np.ndarray:
    """RDMs of single spheres, one after another, by `calc_rdm`."""
    found = []
    for centre in centres:
        channels = near.channels_of(centre)
        residuals = data.channel_descriptors.get("residuals")
        part = Dataset(
            data.measurements[:, channels],
            obs_descriptors=data.obs_descriptors,
            descriptors={key: value for key, value in data.descriptors.items() if key == "residual_dof"},
            channel_descriptors={} if residuals is None else {"residuals": np.asarray(residuals)[channels]},
        )
        found.append(calc_rdm(part, **options).dissimilarities[0])
    return np.array(found)


# Oracles


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_volumes_equal_the_searchlight_of_rsatoolbox(method: str) -> None:
    data, near = measured(), ball()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        centres, spheres = get_volume_searchlight(mask(), radius=2.2, threshold=0, truncate_at_boundary=True)
        volume = np.zeros((data.n_obs, mask().size))
        volume[:, np.flatnonzero(mask())] = data.measurements
        expected = get_searchlight_RDMs(volume, centres, spheres, np.array(data.obs_descriptors["stimulus"]), method)
        chosen = [ModelFixed(name, rdm.dissimilarities[0]) for name, rdm in models().items()]
        scored = evaluate_models_searchlight(expected, chosen, eval_fixed, method="corr")
    found = searchlight(data, near, models(), dissimilarity=method, keep_rdms=True)
    assert np.flatnonzero(mask()).tolist() == centres.tolist()
    ours = select(found.rdms, sorted(NAMES))  # rsatoolbox sorts conditions, and keeps no names
    np.testing.assert_allclose(ours.dissimilarities, expected.dissimilarities, rtol=0, atol=1e-10)
    theirs = [[float(result.evaluations.ravel()[k]) for k in range(2)] for result in scored]
    np.testing.assert_allclose(found.scores, np.array(theirs), rtol=0, atol=1e-10)


OPTIONS: list[dict[str, Any]] = [
    {"dissimilarity": "correlation"},
    {"dissimilarity": "euclidean"},
    {"dissimilarity": "cosine"},
    {"dissimilarity": "crossnobis"},
    {"dissimilarity": "correlation", "noise": "shrinkage_diag"},
    {"dissimilarity": "cosine", "noise": "diag"},
    *(
        {"dissimilarity": name, "noise": noise}
        for name in ("mahalanobis", "crossnobis")
        for noise in ("diag", "shrinkage_eye", "shrinkage_diag")
    ),
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_every_sphere_equals_calc_rdm_of_its_channels(options: dict[str, Any]) -> None:
    data, near = measured(), ball()
    found = searchlight(data, near, keep_rdms=True, **options)
    centres = [0, 17, 60, 90]
    np.testing.assert_allclose(
        found.rdms.dissimilarities[centres], loop(data, near, centres, **options), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("noise", ["full", "shrinkage_eye", "shrinkage_diag", "diag"])
def test_local_noise_comes_from_kept_residuals(noise: str) -> None:
    data, near = measured(), ball(1.5)
    residuals = np.random.default_rng(5).normal(size=(data.n_channel, 120)) @ np.diag(np.linspace(1, 2, 120))
    data.channel_descriptors["residuals"] = residuals + np.roll(residuals, 1, axis=0)
    data.descriptors["residual_dof"] = 100
    options = {"dissimilarity": "crossnobis", "noise": noise}
    found = searchlight(data, near, keep_rdms=True, **options)
    expected = loop(data, near, [3, 77], **options)
    np.testing.assert_allclose(found.rdms.dissimilarities[[3, 77]], expected, rtol=1e-9, atol=1e-10)


def test_crossnobis_equals_rsatoolbox_with_the_same_precision() -> None:
    from rsatoolbox.data.noise import prec_from_residuals
    from rsatoolbox.rdm import calc_rdm as rsatoolbox_rdm

    data, near = measured(), ball()
    found = searchlight(data, near, dissimilarity="crossnobis", noise="shrinkage_eye", keep_rdms=True)
    part = Dataset(data.measurements[:, near.channels_of(50)], obs_descriptors=data.obs_descriptors)
    patterns = part.measurements.reshape(4, 6, -1)
    residuals = (patterns - patterns.mean(0)).reshape(24, -1)
    precision = prec_from_residuals(residuals, dof=24 - 6, method="shrinkage_eye")
    theirs = rsatoolbox_rdm(part, "crossnobis", descriptor="stimulus", cv_descriptor="run", noise=precision)
    ours = select(found.rdms[50], sorted(NAMES))
    assert theirs.pattern_descriptors["stimulus"] == sorted(NAMES)
    np.testing.assert_allclose(ours.dissimilarities, theirs.dissimilarities, rtol=0, atol=1e-10)


def test_conditions_missing_from_runs_are_compared_in_the_runs_they_share() -> None:
    data, near = measured(), ball()
    data = data.subset_obs("run", ["run 0", "run 1", "run 2"])
    keep = [k for k in range(data.n_obs) if k not in (0, 2)]
    observations = {key: np.array(values)[keep] for key, values in data.obs_descriptors.items()}
    data = Dataset(data.measurements[keep], obs_descriptors=observations)
    for noise in (None, "shrinkage_eye"):
        options = {"dissimilarity": "crossnobis", "noise": noise}
        found = searchlight(data, near, keep_rdms=True, **options)
        expected = loop(data, near, [5, 70], **options)
        np.testing.assert_allclose(found.rdms.dissimilarities[[5, 70]], expected, rtol=1e-10, atol=1e-10)


def test_pairs_without_two_shared_runs_are_left_out_of_scores() -> None:
    data, near = measured(2), ball()
    data = Dataset(data.measurements[1:], obs_descriptors={k: v[1:] for k, v in data.obs_descriptors.items()})
    with pytest.warns(UserWarning, match="pairs of conditions occur together in fewer than two runs"):
        found = searchlight(data, near, models(), dissimilarity="crossnobis", keep_rdms=True)
    rdm = found.rdms[40].dissimilarities[0]
    assert np.isnan(rdm).sum() == 5
    order = data_order(data)
    model = rdms.to_tensor(models()["first"], order, dtype=torch.float64)[0]
    expected = float(SIMILARITIES["corr"](torch.tensor(rdm), model))
    assert found.scores["first"][40] == pytest.approx(expected, abs=1e-12)


def data_order(data: Dataset) -> list[str]:
    return list(dict.fromkeys(map(str, data.obs_descriptors["stimulus"])))


@pytest.mark.parametrize("comparator", ["corr", "cosine", "spearman", "tau-a", "rho-a", "corr_cov", "cka"])
def test_scores_are_those_of_the_comparator(comparator: str) -> None:
    data = measured()
    found = searchlight(data, ball(), models(), comparator=comparator, keep_rdms=True)
    pairs = torch.tensor(found.rdms.dissimilarities)
    for name, model in models().items():
        expected = SIMILARITIES[comparator](pairs, rdms.to_tensor(model, NAMES, dtype=torch.float64))
        np.testing.assert_allclose(found.scores[name], expected, rtol=0, atol=1e-12)


def test_your_own_dissimilarity_and_comparator_are_used() -> None:
    def city_block(x: torch.Tensor) -> torch.Tensor:
        first, second = torch.triu_indices(x.shape[-2], x.shape[-2], 1)
        return (x[..., first, :] - x[..., second, :]).abs().mean(-1)

    def agreement(a: torch.Tensor, b: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        return -(a - b).abs().mean(-1)

    data, near = measured(), ball()
    found = searchlight(data, near, models(), dissimilarity=city_block, comparator=agreement, keep_rdms=True)
    expected = loop(data, near, [9], dissimilarity=city_block)
    np.testing.assert_allclose(found.rdms.dissimilarities[[9]], expected, atol=1e-12)
    model = models()["first"]
    assert found.scores["first"][9] == pytest.approx(-np.abs(expected - select(model, NAMES).dissimilarities).mean())


# Order, workers, memory


def test_the_order_of_conditions_and_observations_changes_nothing() -> None:
    data, near = measured(), ball()
    order = np.random.default_rng(2).permutation(data.n_obs)
    shuffled = Dataset(
        data.measurements[order],
        obs_descriptors={key: np.array(values)[order] for key, values in data.obs_descriptors.items()},
    )
    turned = {name: select(model, NAMES[::-1]) for name, model in models().items()}
    for options in ({"dissimilarity": "correlation"}, {"dissimilarity": "crossnobis", "noise": "shrinkage_diag"}):
        first, second = searchlight(data, near, models(), **options), searchlight(shuffled, near, turned, **options)
        np.testing.assert_allclose(first.values, second.values, rtol=0, atol=1e-11)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers_give_the_same_bits(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brainrdl.searchlights.searching._PER_JOB", 30)
    data, near = measured(), ball()
    options: dict[str, Any] = {"dissimilarity": "crossnobis", "noise": "shrinkage_eye", "keep_rdms": True}
    alone = searchlight(data, near, models(), **options)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        together = searchlight(data, near, models(), **options)
    assert np.array_equal(alone.values, together.values)
    assert np.array_equal(alone.rdms.dissimilarities, together.rdms.dissimilarities)


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data, near = measured(), ball()
    whole = searchlight(data, near, models(), keep_rdms=True)
    monkeypatch.setattr("brainrdl.searchlights.kernels._BUFFER", 1)
    single = searchlight(data, near, models(), keep_rdms=True)
    np.testing.assert_allclose(whole.rdms.dissimilarities, single.rdms.dissimilarities, rtol=0, atol=1e-13)


# What cannot be used


def test_channels_that_are_nan_or_constant_are_left_out_and_counted() -> None:
    data, near = measured(), ball()
    values = np.array(data.measurements)
    values[3, 10], values[:, 20], values[0, 30] = np.nan, 7.0, np.inf
    broken = Dataset(values, obs_descriptors=data.obs_descriptors)
    found = searchlight(broken, near, models(), keep_rdms=True)
    assert found.left_out["channels"] == {"NaN or infinite in an observation": 2, "the same in all observations": 1}
    assert found.left_out["centres"] == {"the channel of the centre cannot be used": 3}
    assert found.scores["first"].isna().to_numpy().nonzero()[0].tolist() == [10, 20, 30]
    assert "2 channels: NaN or infinite in an observation" in found.notes
    beside = int(np.setdiff1d(near.channels_of(10), [10, 20, 30])[0])
    channels = np.setdiff1d(near.channels_of(beside), [10, 20, 30])
    expected = calc_rdm(Dataset(values[:, channels], obs_descriptors=data.obs_descriptors)).dissimilarities[0]
    row = found.rdms.rdm_descriptors["centre"].index(beside)
    np.testing.assert_allclose(found.rdms.dissimilarities[row], expected, atol=1e-12)


def test_channels_without_variance_of_the_noise_are_left_out_and_counted() -> None:
    data, near = measured(), ball()
    values = np.array(data.measurements)
    values[:, 60] = np.tile(np.arange(6) / 7, 4)
    exact = Dataset(values, obs_descriptors=data.obs_descriptors)
    for noise in ("diag", "shrinkage_diag", "shrinkage_eye"):
        found = searchlight(exact, near, models(), dissimilarity="mahalanobis", noise=noise)
        assert found.left_out["channels"] == {"no variance of the noise": 1}
        assert found.scores["first"].isna().to_numpy().nonzero()[0].tolist() == [60]
    assert not searchlight(exact, near, models()).left_out["channels"]


def test_small_spheres_are_left_out_and_counted() -> None:
    sizes = np.array([len(ball().channels_of(k)) for k in range(int(mask().sum()))])
    found = searchlight(measured(), ball(), models(), min_channels=20)
    assert found.left_out["centres"] == {"too few channels": int((sizes < 20).sum())}
    assert np.array_equal(found.scores["first"].isna(), sizes < 20)
    with pytest.raises(
        BrainrdlError, match=r"no centre is left: the largest neighbourhood has 33 channels.*min_channels=99"
    ):
        searchlight(measured(), ball(), models(), min_channels=99)


def test_a_pattern_that_is_constant_in_a_sphere_has_no_correlation() -> None:
    data, near = measured(1), ball()
    values = np.array(data.measurements)
    values[2, near.channels_of(40)] = 1.5
    flat = searchlight(Dataset(values, obs_descriptors=data.obs_descriptors), near, models())
    assert np.isnan(flat.scores["first"][40])
    assert list(flat.left_out["centres"]) == [
        "a condition has the same value in all channels, or does not agree between runs, so it has no correlation"
    ]
    assert flat.scores["first"].notna().sum() > 100


def test_a_covariance_of_more_channels_than_residuals_is_left_out() -> None:
    with pytest.raises(BrainrdlError, match=r"none of \d+ centres has an RDM .*noise covariance cannot be inverted"):
        searchlight(measured(2), ball(), models(), dissimilarity="mahalanobis", noise="full", min_channels=20)


# Channels by name


def test_voxels_are_found_by_their_place() -> None:
    data, near = measured(), ball()
    order = np.random.default_rng(3).permutation(data.n_channel)[:-2]
    places = np.stack(np.nonzero(mask()))[:, order]
    moved = Dataset(
        data.measurements[:, order],
        obs_descriptors=data.obs_descriptors,
        channel_descriptors=dict(zip("ijk", places, strict=True)),
    )
    found = searchlight(moved, near, models())
    assert found.left_out["channels"] == {"not in the data": 2}
    lacking = np.setdiff1d(np.arange(data.n_channel), order)
    touched = [k for k in range(data.n_channel) if np.isin(near.channels_of(k), lacking).any()]
    same = np.setdiff1d(np.arange(data.n_channel), touched)
    np.testing.assert_allclose(found.values[same], searchlight(data, near, models()).values[same], atol=1e-12)


def test_sensors_are_found_by_name_and_windows_keep_their_samples() -> None:
    generator = np.random.default_rng(4)
    positions = generator.random((8, 3))
    names = [f"MEG {k}" for k in range(8)]
    times = np.arange(12) / 100
    values = generator.normal(size=(len(NAMES), 8, 12))
    order = generator.permutation(8)
    data = TemporalDataset(
        values[:, order],
        obs_descriptors={"stimulus": NAMES},
        channel_descriptors={"channel": [names[k] for k in order]},
        time_descriptors={"time": times},
    )
    near = over_time(sensor_neighbourhoods(positions, 0.5, names=names), times, 0.02)
    found = searchlight(data, near, models(), keep_rdms=True)
    row = int(np.flatnonzero((near.centres.sensor == "MEG 5") & np.isclose(near.centres.time, 0.05))[0])
    close = np.flatnonzero(np.linalg.norm(positions - positions[5], axis=1) <= 0.5)
    part = values[:, close][:, :, 3:8].reshape(len(NAMES), -1)
    expected = calc_rdm(Dataset(part, obs_descriptors={"stimulus": NAMES})).dissimilarities[0]
    np.testing.assert_allclose(found.rdms.dissimilarities[row], expected, atol=1e-12)


# Recovery


def test_a_simulated_blob_is_found() -> None:
    generator = np.random.default_rng(7)
    model = from_array(np.abs(np.subtract.outer(np.arange(6), np.arange(6)))[np.triu_indices(6, 1)], NAMES)
    inside = np.ones((11, 11, 11), bool)
    near = volume_neighbourhoods(inside, 2.5, affine=MM)
    blob = np.linalg.norm(near.centres[["i", "j", "k"]] - [3, 6, 5], axis=1) < 2.5
    values = generator.normal(size=(6, len(blob)))
    values[:, blob] += np.outer(np.arange(6), generator.normal(size=int(blob.sum())))
    found = searchlight(values, near, {"line": model}, dissimilarity="euclidean", by=NAMES)
    peak = found.peaks("line", 1)
    assert np.linalg.norm(peak.loc[0, ["i", "j", "k"]].to_numpy(float) - [3, 6, 5]) < 2.5
    far = np.linalg.norm(near.centres[["i", "j", "k"]] - [3, 6, 5], axis=1) > 6
    assert found.scores["line"][blob].mean() > 0.8 > 0.3 > abs(found.scores["line"][far].mean())


# Refusals


def refused() -> Iterator[tuple[str, dict[str, Any], str]]:
    data = measured()
    other = from_array(np.arange(15.0), [f"other {k}" for k in range(6)])
    yield "conditions", {"models": {"m": other}}, r"model 'm' and the data do not have the same conditions.*common=True"
    yield (
        "runs",
        {"dissimilarity": "crossnobis", "runs": "runs"},
        r"^crossnobis distance .* is cross-validated over runs, and the observations have no descriptor 'runs'; "
        r"nearest: 'run' \(they have \['stimulus', 'run'\]\); give runs=",
    )
    yield (
        "a single run",
        {"dissimilarity": "correlation_cv", "runs": ["1"] * 24},
        "is cross-validated over runs, and all observations are of run '1'; give runs= a descriptor with several",
    )
    yield "noise", {"dissimilarity": "mahalanobis"}, "'mahalanobis' needs noise="
    yield "unknown", {"dissimilarity": "corelation"}, "nearest: 'correlation'"
    yield "comparator", {"comparator": "pearson"}, "nearest: 'corr'"
    yield "nothing", {"models": None}, "there is nothing to return"
    yield (
        "columns",
        {"data": data.measurements[:, :50], "by": NAMES * 4},
        r"the data have 50 channels .* but the neighbourhoods have \d+",
    )
    yield "names", {"data": data.measurements, "by": NAMES}, "by= has 6 values, but there are 24 observations"
    yield "descriptor", {"by": "stimuli"}, "no descriptor 'stimuli'; nearest: 'stimulus'"
    yield "jobs", {"n_jobs": 0}, "n_jobs=0 is not a number of workers"
    yield "text", {"data": [["a"]]}, "data must hold real numbers, got dtype <U1"
    yield "method", {"noise": "shrinkage"}, "noise normalisation 'shrinkage' is not known"


@pytest.mark.parametrize(("options", "message"), [case[1:] for case in refused()], ids=[case[0] for case in refused()])
def test_what_cannot_be_computed_is_refused(options: dict[str, Any], message: str) -> None:
    given = {"data": measured(), "neighbourhoods": ball(), "models": models()} | options
    with pytest.raises(BrainrdlError, match=message):
        searchlight(**given)


def test_common_conditions_are_compared_if_asked_for() -> None:
    data, near = measured(), ball()
    fewer = {name: select(model, sorted(NAMES)[:5]) for name, model in models().items()}
    found = searchlight(data, near, fewer, common=True)
    kept = [name for name in NAMES if name in sorted(NAMES)[:5]]
    expected = searchlight(data.subset_obs("stimulus", kept), near, fewer)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-12)
    assert found.settings["conditions"] == kept


def test_a_dissimilarity_of_another_shape_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"the dissimilarity gave shape .* expected"):
        searchlight(measured(), ball(), models(), dissimilarity=lambda x: x.sum(-1))


def test_a_cross_validated_correlation_names_what_is_missing_from_runs() -> None:
    data = measured()
    kept = [k for k, name in enumerate(data.obs_descriptors["stimulus"]) if name != NAMES[2] or k >= len(NAMES)]
    fewer = Dataset(
        data.measurements[kept],
        obs_descriptors={key: np.array(data.obs_descriptors[key])[kept] for key in ("stimulus", "run")},
        channel_descriptors=data.channel_descriptors,
    )
    expected = rf"run '{data.obs_descriptors['run'][0]}' lacks \['{NAMES[2]}'\]; leave out conditions or runs"
    with pytest.raises(BrainrdlError, match=expected):
        searchlight(fewer, ball(), models(), dissimilarity="correlation_cv")


def test_spheres_of_noise_have_no_cross_validated_correlation() -> None:
    data, near = measured(), ball()
    noise = np.random.default_rng(0).normal(size=data.measurements.shape)
    values = np.where(np.arange(near.n_channels) < near.n_channels // 2, 5 * data.measurements, 0) + noise
    found = searchlight(
        Dataset(values, obs_descriptors=data.obs_descriptors), near, models(), dissimilarity="correlation_cv"
    )
    in_runs = torch.tensor(values.reshape(4, len(NAMES), -1))
    reliable = [bool(is_reliable(in_runs[..., near.channels_of(k)]).all()) for k in range(len(near.centres))]
    large = found.states != SMALL
    assert 10 < sum(reliable) < len(reliable) - 10
    assert ((found.states == DONE) == (reliable & large)).all()
    assert np.isnan(found.values[found.states != DONE]).all()
    (reason,) = (why for why in found.left_out["centres"] if "does not agree between runs" in why)
    assert found.left_out["centres"][reason] == sum(~np.array(reliable) & large)


def test_noise_needs_repeated_conditions() -> None:
    with pytest.raises(BrainrdlError, match="each of the 6 conditions is observed once"):
        searchlight(measured(1), ball(), models(), dissimilarity="mahalanobis", noise="diag")
