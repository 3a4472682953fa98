"""Readout: pooling, standardising, projecting, and saving what was calibrated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.models import pooling, readout as readout_module
from brainrdl.models.axes import Axes
from brainrdl.models.pooling import pool_patterns
from brainrdl.models.pools import check_pool
from brainrdl.models.readout import Readout, ReadoutHead, check_groups, readouts_of


def test_flatten_keeps_every_unit_in_torch_order() -> None:
    x = torch.rand(2, 3, 4, 5)
    assert torch.equal(pool_patterns(x), x.flatten(1))


def test_flatten_makes_one_channel_of_one_number_an_image() -> None:
    assert pool_patterns(torch.rand(6)).shape == (6, 1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_avgpool_averages_everything_after_the_channels(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    torch.testing.assert_close(pool_patterns(x, "avgpool", Axes(1)), x.mean(dim=tuple(range(2, len(shape)))))


def test_avgpool_averages_a_transformers_tokens() -> None:
    x = torch.rand(2, 7, 3)
    torch.testing.assert_close(pool_patterns(x, "avgpool", Axes(2)), x.mean(dim=1))


def test_avgpool_leaves_vectors_alone() -> None:
    x = torch.rand(2, 7)
    assert torch.equal(pool_patterns(x, "avgpool"), x)


@pytest.mark.parametrize("cells", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(7, 6), (12, 24)])  # cells of different, and of equal sizes
def test_grid_cells_are_those_of_adaptive_average_pooling(cells: int, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    expected = nn.functional.adaptive_avg_pool2d(x, cells).flatten(1)
    torch.testing.assert_close(pool_patterns(x, f"grid:{cells}", Axes(1)), expected)
    last = pool_patterns(x.movedim(1, -1), f"grid:{cells}", Axes(3)).unflatten(1, (cells, cells, 3))
    torch.testing.assert_close(last.movedim(-1, 1).flatten(1), expected)


def test_grids_pool_time_points_volumes_and_patches() -> None:
    x = torch.rand(2, 3, 9)
    torch.testing.assert_close(pool_patterns(x, "grid:4", Axes(1)), nn.functional.adaptive_avg_pool1d(x, 4).flatten(1))
    volume = torch.rand(2, 3, 5, 6, 7)
    torch.testing.assert_close(
        pool_patterns(volume, "grid:2", Axes(1)), nn.functional.adaptive_avg_pool3d(volume, 2).flatten(1)
    )
    tokens = torch.rand(2, 1 + 36, 5)
    maps = tokens[:, 1:].unflatten(1, (6, 6)).movedim(-1, 1)
    pooled = pool_patterns(tokens, "grid:2", Axes(2, prefix=1)).unflatten(1, (2, 2, 5)).movedim(-1, 1)
    torch.testing.assert_close(pooled, nn.functional.adaptive_avg_pool2d(maps, 2))


@pytest.mark.parametrize("pool", ["avgpool", "grid:2", "grid:3"])
def test_whole_numbers_are_averaged_as_numbers(pool: str) -> None:
    x = torch.arange(150).view(2, 3, 5, 5)
    torch.testing.assert_close(pool_patterns(x, pool, Axes(1)), pool_patterns(x.float(), pool, Axes(1)))


def test_a_dimension_with_fewer_positions_than_cells_is_kept() -> None:
    x = torch.rand(2, 3, 2, 8)
    assert pool_patterns(x, "grid:4", Axes(1)).shape == (2, 3 * 2 * 4)
    assert torch.equal(pool_patterns(x, "grid:9", Axes(1)), x.flatten(1))
    assert pool_patterns(torch.rand(2, 3, 0, 8), "grid:4", Axes(1)).shape == (2, 0)
    thirds = torch.rand(2, 3, 2, 9)
    torch.testing.assert_close(
        pool_patterns(thirds, "grid:4", Axes(1)), nn.functional.adaptive_avg_pool2d(thirds, (2, 4)).flatten(1)
    )
    pairs = x.unflatten(3, (4, 2)).mean(4).flatten(1)
    torch.testing.assert_close(pool_patterns(x, "grid:4", Axes(1)), pairs)


@pytest.mark.parametrize(
    ("shape", "axes", "problem"),
    [
        ((3, 4, 4), Axes(), "which dimension holds the channels is not known"),
        ((10, 5), Axes(2), "how many of its 10 tokens are class tokens is not known"),
        ((10, 5), Axes(2, prefix=0), "its 10 patches do not form a square"),
    ],
)
def test_grids_of_unknown_positions_are_refused(shape: tuple[int, ...], axes: Axes, problem: str) -> None:
    with pytest.raises(BrainrdlError, match=rf"cannot be pooled by 'grid:2': {problem}"):
        pool_patterns(torch.rand(2, *shape), "grid:2", axes)


def test_an_unknown_pool_is_refused_with_the_nearest() -> None:
    with pytest.raises(BrainrdlError, match="pool 'flaten' is not known; nearest: 'flatten'"):
        Readout(pool="flaten")
    for wrong in ("grid", "grid:0", "grid:", "grid:4x4", 4):
        with pytest.raises(BrainrdlError, match=rf"pool {wrong!r} is not known"):
            check_pool(wrong)  # type: ignore[arg-type]
    assert check_pool("grid:12") == "grid:12"
    with pytest.raises(BrainrdlError, match="pool 'maxpool' is not known"):
        pool_patterns(torch.rand(2, 3), "maxpool")


@pytest.mark.parametrize("projection", [0, -1, True, 2.0, "round"])
def test_a_projection_that_is_not_a_number_of_channels_is_refused(projection: object) -> None:
    with pytest.raises(BrainrdlError, match="projection must be a positive int, 'square', 'diagonal' or None, got"):
        Readout(projection=projection)  # type: ignore[arg-type]


def test_a_group_is_concatenated_in_the_order_written() -> None:
    head = ReadoutHead("b+a", Readout("avgpool_first"))
    a, b = torch.rand(4, 2, 3, 3), torch.rand(4, 5)
    assert torch.equal(head({"a": a, "b": b}), torch.cat([b, a.flatten(2).mean(2)], dim=1))


def test_standardised_calibration_patterns_have_mean_0_and_std_1() -> None:
    head = ReadoutHead("a", Readout(standardise=True))
    x = torch.rand(50, 7) * 5 + 3
    head.calibrate(x)
    z = head({"a": x})
    torch.testing.assert_close(z.mean(0), torch.zeros(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(7))


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1])
def test_a_constant_channel_becomes_0_and_not_noise(value: float) -> None:
    head = ReadoutHead("a", Readout(standardise=True))
    x = torch.rand(50, 2)
    x[:, 1] = value
    head.calibrate(x)
    assert head.std is not None
    assert head.std[1] == 1
    assert head({"a": x})[:, 1].abs().max() < 1e-3


def test_a_channel_that_only_rounding_moves_counts_as_constant() -> None:
    head = ReadoutHead("a", Readout(standardise=True))
    x = torch.full((50, 1), 1000.1)
    x[::2] = torch.nextafter(x[::2], torch.tensor(torch.inf))
    head.calibrate(x)
    assert head({"a": x}).abs().max() < 1e-3


def test_a_square_projection_starts_as_the_identity() -> None:
    head = ReadoutHead("a", Readout(projection="square"))
    x = torch.rand(5, 7)
    head.calibrate(x)
    assert torch.equal(head({"a": x}), x)


def test_a_projection_to_k_channels_starts_orthonormal_and_follows_the_seed() -> None:
    heads = [ReadoutHead("a", Readout(projection=3), seed=seed) for seed in (1, 1, 2)]
    for head in heads:
        head.calibrate(torch.rand(5, 7))
    first, same, other = (head.weight for head in heads)
    assert first is not None
    assert same is not None
    assert other is not None
    torch.testing.assert_close(first @ first.T, torch.eye(3))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_wide_projection_keeps_euclidean_dissimilarities_on_average() -> None:
    # Not a seed used below: the first rows of that projection would be made of x itself.
    x = torch.randn(2, 400, generator=torch.Generator().manual_seed(1000))
    ratios = []
    for seed in range(30):
        head = ReadoutHead("a", Readout(projection=50), seed=seed)
        head.calibrate(x)
        y = head({"a": x})
        ratios.append(((y[0] - y[1]).square().mean() / (x[0] - x[1]).square().mean()).item())
    assert sum(ratios) / len(ratios) == pytest.approx(1, abs=0.1)


def test_standardising_comes_before_projecting() -> None:
    head = ReadoutHead("a", Readout(standardise=True, projection=2))
    x = torch.rand(9, 4)
    head.calibrate(x)
    assert head.weight is not None
    z = (x - x.mean(0)) / x.std(0, correction=0)
    torch.testing.assert_close(head({"a": x}), z @ head.weight.T)


def test_calibrating_again_keeps_a_learned_projection() -> None:
    head = ReadoutHead("a", Readout(projection=2))
    head.calibrate(torch.rand(9, 4))
    before = head.weight
    head.calibrate(torch.rand(9, 4))
    assert head.weight is before


def test_an_uncalibrated_head_is_refused_with_what_to_do() -> None:
    for readout in (Readout(standardise=True), Readout(projection=2)):
        with pytest.raises(BrainrdlError, match=r"layer 'a' .* is not calibrated; call student.calibrate\(images"):
            ReadoutHead("a", readout)({"a": torch.rand(3, 4)})


def test_standardising_needs_two_images() -> None:
    with pytest.raises(BrainrdlError, match="calibrate with at least 2, got 1"):
        ReadoutHead("a", Readout(standardise=True)).calibrate(torch.rand(1, 4))


@pytest.mark.parametrize("readout", [Readout(standardise=True), Readout(projection=2)])
def test_another_number_of_channels_than_calibrated_is_refused(readout: Readout) -> None:
    head = ReadoutHead("a", readout)
    head.calibrate(torch.rand(9, 4))
    with pytest.raises(BrainrdlError, match="calibrated with 4 channels and now gives 5; use images of the same size"):
        head({"a": torch.rand(9, 5)})


def test_a_square_projection_too_large_for_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readout_module, "_LARGEST_SQUARE", 3)
    with pytest.raises(BrainrdlError, match="layer 'a' has 4 channels: projection='square' would need"):
        ReadoutHead("a", Readout(projection="square")).calibrate(torch.rand(9, 4))


def test_a_diagonal_projection_weights_channels_and_cannot_invert_them() -> None:
    head = ReadoutHead("a", Readout(projection="diagonal"))
    x = torch.rand(9, 4)
    head.calibrate(x)
    assert torch.equal(head({"a": x}), x)
    assert head.weight is not None
    with torch.no_grad():
        head.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 0.5]))
    torch.testing.assert_close(head({"a": x}), x * torch.tensor([1.0, 2.0, 0.0, 0.5]))
    fresh = ReadoutHead("a", Readout(projection="diagonal"))
    fresh.load_state_dict(head.state_dict())
    assert torch.equal(fresh({"a": x}), head({"a": x}))
    with pytest.raises(BrainrdlError, match="calibrated with 4 channels and now gives 5"):
        head({"a": torch.rand(9, 5)})


def test_reweighting_finds_the_channels_that_matter() -> None:
    """Simulated: 92 conditions and 100 channels, of which 10 make the teacher's RDM; 46 conditions are held out."""
    from brainrdl import FeatureTeacher, RDMLoss, Stimuli, Student, fit

    generator = torch.Generator().manual_seed(0)
    channels = torch.randn(92, 100, generator=generator)
    names = [f"s{i:02d}" for i in range(92)]
    matter = torch.randperm(100, generator=generator)[:10]
    teacher = FeatureTeacher(channels[:, matter], names=names, dissimilarity="euclidean")
    stimuli = Stimuli.from_arrays(channels[:, None, None], names)
    student = Student(
        nn.Sequential(nn.Flatten()), ["0"], readout=Readout(projection="diagonal"), trainable="projection"
    )

    def score(of: Student) -> float:
        pairs = (of.rdms(stimuli, names[46:], "euclidean").dissimilarities[0], teacher.rdms(held_out)["features"][0])
        return float(torch.corrcoef(torch.stack([torch.as_tensor(each).float() for each in pairs]))[0, 1])

    held_out = stimuli.batch(names[46:])
    student.calibrate(stimuli.images(names[:46]))
    before = score(student)
    loss = RDMLoss(dissimilarity="euclidean")
    result = fit(
        student, teacher, stimuli, train=names[:46], loss=loss, steps=300, lr=0.05, device="cpu", progress=False
    )
    weights = result.student.readout_heads()[0].channel_weights
    assert weights is not None
    assert set(weights.argsort(descending=True)[:10].tolist()) == set(matter.tolist())
    assert before < 0.4
    assert score(result.student) > 0.95


def test_a_fresh_head_loads_what_another_calibrated() -> None:
    fitted, fresh = (ReadoutHead("a", Readout(standardise=True, projection=2), seed=seed) for seed in (1, 2))
    fitted.calibrate(torch.rand(9, 4))
    fresh.load_state_dict(fitted.state_dict())
    x = torch.rand(3, 4)
    assert torch.equal(fresh({"a": x}), fitted({"a": x}))
    assert fresh.weight is not None
    assert fresh.weight.requires_grad


def test_a_head_does_not_load_numbers_that_its_readout_does_not_use() -> None:
    fitted = ReadoutHead("a", Readout(standardise=True))
    fitted.calibrate(torch.rand(9, 4))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ReadoutHead("a", Readout()).load_state_dict(fitted.state_dict())


def test_readouts_are_the_same_for_all_layers_or_differ() -> None:
    pooled = Readout("avgpool")
    assert readouts_of(["a", "b"], pooled) == {"a": pooled, "b": pooled}
    assert readouts_of(["a", "b"], {"b": pooled}) == {"a": Readout(), "b": pooled}
    with pytest.raises(BrainrdlError, match="readout's layer 'conv3' is not known; nearest: 'conv2'"):
        readouts_of(["conv2"], {"conv3": pooled})


def test_modules_of_several_groups_are_listed_once() -> None:
    model = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())
    assert check_groups(model, ["0+1", "1+2", "1"], "the layers") == ("0", "1", "2")


def test_layers_that_cannot_be_read_are_refused() -> None:
    model = nn.ModuleDict({"conv1": nn.ReLU()})
    with pytest.raises(BrainrdlError, match=r"layers \['conv9'\] are not in the model .*nearest: 'conv1'"):
        check_groups(model, ["conv1+conv9"], "the layers")
    with pytest.raises(BrainrdlError, match="the layers must be a list of names, got the single string 'conv1'"):
        check_groups(model, "conv1", "the layers")
    with pytest.raises(BrainrdlError, match=r"\['conv1'\] occur more than once in the layers"):
        check_groups(model, ["conv1", "conv1"], "the layers")
    with pytest.raises(BrainrdlError, match="no layers were given"):
        check_groups(model, [], "the layers")


@pytest.mark.parametrize("size", [(7, 6), (12, 24), (2, 9)])
def test_a_grid_is_the_same_without_torchs_pooling(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 3, *size)
    pooled = pool_patterns(x, "grid:4", Axes(1))
    monkeypatch.setattr(pooling, "_pooled_maps", lambda maps, cells: None)  # as for such maps on a GPU
    torch.testing.assert_close(pool_patterns(x, "grid:4", Axes(1)), pooled)
