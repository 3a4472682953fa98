"""RDMLoss: what it is equal to, what it leaves out, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.measures import correlation
from brainrdl.loss.matching import match_layers
from brainrdl.loss.pair_sampling import random_pairs
from brainrdl.loss.rdm_loss import Decay, RDMLoss, check_rdm_loss, differentiable_names
from brainrdl.similarity.registry import SIMILARITIES

N, N_PAIRS = 8, 28
few = settings(max_examples=25, deadline=None)


def patterns(seed: int = 0, n: int = N, n_channels: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_channels, generator=generator, dtype=torch.float64, requires_grad=True)


def pairs(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(loss: RDMLoss, teacher: Tensor, x: Tensor | None = None) -> Tensor:
    x = patterns() if x is None else x
    (found,) = torch.autograd.grad(loss(x, teacher), x)
    return found


# What it equals


def test_the_loss_is_one_minus_scipys_pearson_correlation_of_correlation_distances() -> None:
    x, teacher = patterns(), pairs(N_PAIRS)
    expected = 1 - pearsonr(pdist(x.detach().numpy(), "correlation"), teacher.numpy()).statistic
    assert RDMLoss()(x, teacher).item() == pytest.approx(expected, abs=1e-12)


def test_the_loss_is_zero_where_the_student_has_the_teachers_rdm() -> None:
    x = patterns()
    assert RDMLoss()(x, correlation(x).detach()).item() == pytest.approx(0, abs=1e-12)


def test_mse_is_the_mean_squared_difference_of_dissimilarities() -> None:
    x, teacher = patterns(), pairs(N_PAIRS)
    expected = np.mean((pdist(x.detach().numpy(), "correlation") - teacher.numpy()) ** 2)
    assert RDMLoss(form="mse", scale="none")(x, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_scaled_mse_divides_each_rdm_by_its_mean_so_that_units_cancel() -> None:
    x, teacher = patterns(), pairs(N_PAIRS)
    loss = RDMLoss(dissimilarity="euclidean", form="mse")
    rdm = pdist(x.detach().numpy(), "sqeuclidean")
    expected = np.mean((rdm / rdm.mean() - teacher.numpy() / teacher.mean().item()) ** 2)
    assert loss(x, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert loss(5 * x, 1e6 * teacher).item() == pytest.approx(expected, rel=1e-12)


def test_rdl2016_is_the_papers_formula_on_random_pairs_with_a_decaying_weight() -> None:
    x, teacher, step = patterns(), pairs(N_PAIRS), 30
    i, j = torch.triu_indices(N, N, 1)
    chosen = random_pairs(N_PAIRS, 10, seed=4, step=step)
    squared_distance = ((x[i] - x[j]) ** 2).sum(-1) / x.shape[1]
    expected = 0.5 ** (step / 20) * ((squared_distance - teacher)[chosen] ** 2).mean()
    found = RDMLoss.rdl2016(n_pairs=10, half_life=20, seed=4)(x, teacher, step)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))


def test_rdl2016_accepts_other_parameters_too() -> None:
    loss = RDMLoss.rdl2016(layer_weights={"fc": 2.0})
    assert (loss.form, loss.scale, loss.schedule, loss.n_pairs, loss.layer_weights) == (
        "mse",
        "none",
        None,
        None,
        {"fc": 2},
    )


def test_random_pairs_change_from_step_to_step_and_come_back_with_the_step() -> None:
    loss, x, teacher = RDMLoss(n_pairs=10), patterns(), pairs(N_PAIRS)
    first, second, again = (loss(x, teacher, step).item() for step in (0, 1, 0))
    assert first == again != second


@pytest.mark.parametrize("form", ["similarity", "mse"])
def test_several_teacher_rdms_are_averaged(form: str) -> None:
    loss = RDMLoss(form=form)  # type: ignore[arg-type]
    x, teacher = patterns(), pairs(3, N_PAIRS)
    teacher[0, :20] = torch.nan  # what a subject does not know takes nothing from its say
    singly = torch.stack([loss(x, rdm) for rdm in teacher]).mean()
    torch.testing.assert_close(loss(x, teacher), singly)


@few
@given(st.permutations(range(N)), st.sampled_from(["similarity", "mse"]))
def test_the_order_of_the_conditions_does_not_matter(order: list[int], form: str) -> None:
    loss, x, other = RDMLoss(form=form), patterns(), patterns(seed=9)  # type: ignore[arg-type]
    torch.testing.assert_close(loss(x[order], correlation(other[order]).detach()), loss(x, correlation(other).detach()))


# NaN, and gradients


@pytest.mark.parametrize("form", ["similarity", "mse"])
@pytest.mark.parametrize("scale", ["none", "mean"])
def test_pairs_the_teacher_lacks_are_left_out_and_gradients_stay_finite(form: str, scale: str) -> None:
    loss = RDMLoss(form=form, scale=scale)  # type: ignore[arg-type]
    x, teacher = patterns(), pairs(N_PAIRS)
    known = torch.arange(N_PAIRS) % 3 > 0
    holed = teacher.masked_fill(~known, torch.nan)
    rdm = correlation(x)[known]
    if form == "similarity":
        expected = 1 - torch.corrcoef(torch.stack([rdm, teacher[known]]))[0, 1]
    else:
        student, target = (r / r.mean() if scale == "mean" else r for r in (rdm, teacher[known]))
        expected = (student - target).square().mean()
    torch.testing.assert_close(loss(x, holed), expected)
    torch.testing.assert_close(gradient(loss, holed), torch.autograd.grad(expected, x)[0])


@pytest.mark.parametrize("form", ["similarity", "mse"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_pattern_is_not_hidden_among_the_pairs_that_are_left_out(form: str, value: float) -> None:
    x = patterns().detach().clone()
    x[2, 3] = value
    assert math.isnan(RDMLoss(form=form)(x, pairs(N_PAIRS)))  # type: ignore[arg-type]


@pytest.mark.parametrize("dissimilarity", ["correlation", "euclidean"])
@pytest.mark.parametrize("form", ["similarity", "mse"])
def test_gradients_are_finite_where_all_patterns_are_equal(dissimilarity: str, form: str) -> None:
    loss = RDMLoss(dissimilarity=dissimilarity, form=form)  # type: ignore[arg-type]
    x = torch.ones(N, 12, requires_grad=True)
    assert gradient(loss, pairs(N_PAIRS), x).isfinite().all()


@pytest.mark.parametrize("form", ["similarity", "mse"])
@pytest.mark.parametrize("scale", ["none", "mean"])
def test_the_gradient_is_the_numerical_one(form: str, scale: str) -> None:
    loss = RDMLoss(form=form, scale=scale)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda x: loss(x, pairs(2, N_PAIRS)), (patterns(),))


@pytest.mark.parametrize("similarity", differentiable_names())
def test_every_differentiable_similarity_can_be_descended(similarity: str) -> None:
    loss, x, teacher = RDMLoss(similarity=similarity), patterns(), pairs(N_PAIRS)
    before = loss(x, teacher)
    lower = x - 1e-3 * torch.nn.functional.normalize(gradient(loss, teacher, x), dim=None)  # type: ignore[arg-type]
    assert loss(lower, teacher) < before


def test_a_teacher_in_another_precision_is_converted_to_the_students() -> None:
    assert RDMLoss()(patterns().float(), pairs(N_PAIRS)).dtype == torch.float32


# Layers and targets


def test_layers_are_matched_as_match_says() -> None:
    x, y, teacher = patterns(0), patterns(2), {"V1": pairs(N_PAIRS), "IT": pairs(N_PAIRS, seed=3)}
    found = RDMLoss(match={"a": "IT", "b": "V1"}).terms({"a": x, "b": y}, teacher)
    assert list(found) == ["a", "b"]
    torch.testing.assert_close(found["a"], RDMLoss()(x, teacher["IT"]))
    torch.testing.assert_close(found["b"], RDMLoss()(y, teacher["V1"]))


def test_the_loss_is_the_weighted_sum_of_the_layers_terms_times_the_schedule() -> None:
    student, teacher = {"a": patterns(0), "b": patterns(2)}, {"IT": pairs(N_PAIRS)}
    loss = RDMLoss(layer_weights={"b": 0.25}, schedule=Decay(half_life=10))
    terms = loss.terms(student, teacher)
    torch.testing.assert_close(loss(student, teacher, step=20), 0.25 * (terms["a"] + 0.25 * terms["b"]))


def test_a_decay_halves_with_each_half_life() -> None:
    assert [Decay(10)(step) for step in (0, 10, 30)] == [1, 0.5, 0.125]


def test_equal_names_are_matched_by_default() -> None:
    assert match_layers(["a", "b"], ["b", "c", "a"]) == {"a": {"a": 1.0}, "b": {"b": 1.0}}


def test_the_teachers_only_target_is_used_for_every_layer() -> None:
    assert match_layers(["a", "b"], ["IT"]) == {"a": {"IT": 1.0}, "b": {"IT": 1.0}}


def test_it_can_be_used_in_any_training_loop() -> None:
    layer, images, teacher = nn.Linear(12, 12).double(), patterns().detach(), correlation(patterns(seed=5)).detach()
    optimizer, loss = torch.optim.Adam(layer.parameters(), lr=1e-2), RDMLoss()
    for _step in range(150):
        optimizer.zero_grad()
        total = loss(layer(images), teacher)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert total < 0.02


def test_a_loss_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RDMLoss().form = "mse"  # type: ignore[misc]


# Refusals


@pytest.mark.parametrize("similarity", sorted(set(SIMILARITIES) - set(differentiable_names())))
def test_a_similarity_without_gradient_is_refused_with_those_that_have_one(similarity: str) -> None:
    with pytest.raises(
        BrainrdlError, match=rf"similarity '{similarity}' has no gradient; train with one of \['cosine'"
    ):
        RDMLoss(similarity=similarity)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "msee"}, "loss form 'msee' is not known; nearest: 'mse'"),
        ({"scale": "meen"}, "scale 'meen' is not known; nearest: 'mean'"),
        ({"similarity": "cor"}, "similarity 'cor' is not known; nearest: 'corr'"),
        ({"dissimilarity": "euclid"}, "dissimilarity 'euclid' is not known; nearest: 'euclidean'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(options: dict[str, str], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        RDMLoss(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("half_life", [0, -1, math.nan])
def test_a_half_life_that_is_not_positive_is_refused(half_life: float) -> None:
    with pytest.raises(BrainrdlError, match="half_life must be a positive number of steps, got"):
        Decay(half_life)


def test_fewer_than_two_random_pairs_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="n_pairs must be at least 2, got 1"):
        RDMLoss(n_pairs=1)(patterns(), pairs(N_PAIRS))


def test_another_number_of_conditions_is_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"student and teacher RDMs of one batch must have the same number of pairs"
    ):
        RDMLoss()(patterns(), pairs(1))


def test_a_layer_without_target_is_refused_with_the_nearest() -> None:
    message = (
        r"layer 'IT1' is matched with target 'IT1', which is not among .* \['IT', 'V1'\]; nearest: 'IT'; give match="
    )
    with pytest.raises(BrainrdlError, match=message):
        RDMLoss()({"IT1": patterns()}, {"IT": pairs(N_PAIRS), "V1": pairs(N_PAIRS)})


def test_a_layer_matched_with_a_region_that_the_rdms_do_not_name_is_refused_with_the_match_that_works() -> None:
    message = (
        r"layer 'a' is matched with target 'IT', but the RDMs have no descriptor 'roi', so their only target is 'rdm': "
        r"match \{'a': 'rdm', 'b': 'rdm'\}, or give the layers as a list"
    )
    with pytest.raises(BrainrdlError, match=message):
        match_layers(["a", "b"], ["rdm"], {"a": "IT", "b": "IT"})
    assert match_layers(["a", "b"], ["rdm"], {"a": "rdm", "b": "rdm"}) == match_layers(["a", "b"], ["rdm"])


def test_a_layer_that_match_leaves_out_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="layer 'b' is matched with target None"):
        match_layers(["a", "b"], ["IT"], {"a": "IT"})


def test_a_match_of_an_unknown_layer_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="matched layer 'conv9' is not known; nearest: 'conv1'"):
        match_layers(["conv1"], ["IT"], {"conv1": "IT", "conv9": "IT"})


def test_a_weight_of_an_unknown_layer_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="layer of layer_weights 'conv9' is not known; nearest: 'conv1'"):
        RDMLoss(layer_weights={"conv9": 1.0})({"conv1": patterns()}, pairs(N_PAIRS))


# The kernel of the default loss


def _both_ways(kind: str, x: torch.Tensor, rdms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from brainrdl.dissimilarity.registry import DISSIMILARITIES
    from brainrdl.loss.correlation_kernel import direction_of, rdm_correlations
    from brainrdl.similarity.comparators import corr

    return rdm_correlations([x], direction_of(rdms), kind)[0], corr(DISSIMILARITIES[kind](x), rdms).mean()


@pytest.mark.parametrize("kind", ["euclidean", "correlation", "cosine"])
def test_the_kernel_of_the_default_loss_equals_dissimilarity_then_correlation(kind: str) -> None:
    x = torch.randn(9, 30, dtype=torch.float64, requires_grad=True)
    teacher = torch.rand(3, 36, dtype=torch.float64)
    quick, plain = _both_ways(kind, x, teacher)
    torch.testing.assert_close(quick, plain, atol=1e-12, rtol=1e-10)
    quick_gradient, plain_gradient = (torch.autograd.grad(3 * r, x)[0] for r in (quick, plain))
    torch.testing.assert_close(quick_gradient, plain_gradient, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", ["euclidean", "correlation", "cosine"])
def test_the_kernel_handles_the_hazards_as_the_plain_way_does(kind: str) -> None:
    hazards = {
        "duplicates": torch.randn(3, 20).repeat(3, 1),
        "constant": torch.randn(9, 20) * (torch.arange(9) > 3)[:, None],
        "offset": torch.randn(9, 20) + 1000,
        "collapsed": torch.ones(9, 20),
        "half": torch.randn(9, 20).half(),
    }
    if kind == "cosine":
        del hazards["offset"]  # cosine distances of 1e-6 are rounding, in both ways
    for what, patterns in hazards.items():
        x = patterns.clone().requires_grad_()
        quick, plain = _both_ways(kind, x, torch.rand(1, 36) * 1e-26)
        torch.testing.assert_close(quick, plain, atol=2e-4, rtol=1e-3, msg=f"{what}: {quick} {plain}")
        (gradient,) = torch.autograd.grad(quick.sum(), x)
        assert gradient.isfinite().all(), what


def test_a_constant_teacher_has_no_correlation_and_no_gradient() -> None:
    x = torch.randn(6, 20, requires_grad=True)
    loss = RDMLoss()(x, torch.full((15,), 0.3))
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.item() == 1.0
    assert not gradient.any()


@pytest.mark.parametrize("kind", ["euclidean", "correlation", "cosine"])
def test_layers_that_are_computed_together_have_the_terms_and_gradients_of_each_alone(kind: str) -> None:
    layers = {"a": patterns(0), "b": patterns(1, n_channels=3), "c": patterns(2), "d": patterns(3, n_channels=40)}
    teacher = {"V1": pairs(2, N_PAIRS), "IT": pairs(N_PAIRS, seed=2)}
    match = {"a": "IT", "b": "V1", "c": "IT", "d": "IT"}
    loss = RDMLoss(kind, match=match, layer_weights={"d": 0.5})
    alone = {name: RDMLoss(kind)(x, teacher[match[name]]) for name, x in layers.items()}
    terms = loss.terms(layers, teacher)
    assert list(terms) == list(layers)
    torch.testing.assert_close(terms, alone)
    expected = alone["a"] + alone["b"] + alone["c"] + 0.5 * alone["d"]
    torch.testing.assert_close(loss(layers, teacher), expected)
    torch.testing.assert_close(replace(loss, layer_weights=None)(layers, teacher), expected + 0.5 * alone["d"])
    found = torch.autograd.grad(loss(layers, teacher), list(layers.values()))
    torch.testing.assert_close(found, torch.autograd.grad(expected, list(layers.values())))


def test_a_constant_layer_has_no_influence_on_a_layer_computed_with_it() -> None:
    x, flat, teacher = patterns(), torch.ones(N, 4, dtype=torch.float64, requires_grad=True), pairs(N_PAIRS)
    terms = RDMLoss().terms({"a": x, "flat": flat}, teacher)
    torch.testing.assert_close(terms["a"], RDMLoss()(x, teacher))
    assert terms["flat"].item() == 1
    slope = torch.autograd.grad(sum(terms.values()), (x, flat))
    torch.testing.assert_close(slope, (gradient(RDMLoss(), teacher), torch.zeros_like(flat)))


def test_layers_of_another_precision_are_computed_in_the_highest() -> None:
    x, teacher = patterns(), pairs(N_PAIRS)
    single = x.detach().float().requires_grad_()
    terms = RDMLoss().terms({"a": x, "b": single}, teacher)
    torch.testing.assert_close(terms["b"], terms["a"], rtol=1e-5, atol=0)
    assert torch.autograd.grad(terms["b"], single)[0].dtype == torch.float32


def test_a_teacher_rdm_that_is_changed_in_place_is_read_again() -> None:
    x, teacher = patterns(), pairs(N_PAIRS)
    RDMLoss()(x, teacher)
    teacher.copy_(pairs(N_PAIRS, seed=7))
    torch.testing.assert_close(RDMLoss()(x, teacher), RDMLoss()(x, pairs(N_PAIRS, seed=7)))
    teacher[3] = math.nan
    torch.testing.assert_close(RDMLoss()(x, teacher), RDMLoss()(x, teacher.clone()))


@pytest.mark.parametrize("made_in_inference_mode", [False, True])
def test_a_teacher_rdm_that_was_used_in_inference_mode_can_be_trained_on(made_in_inference_mode: bool) -> None:
    with torch.inference_mode(made_in_inference_mode):
        teacher = pairs(N_PAIRS)
    with torch.inference_mode():
        RDMLoss()(patterns().detach(), teacher)
    assert gradient(RDMLoss(), teacher).isfinite().all()


# What is accepted as the loss of a fit


class Doubled(RDMLoss):
    """A user's own loss."""

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        return 2 * super().__call__(*args, **options)


def test_no_loss_is_the_default_loss_and_a_loss_is_kept() -> None:
    mine = RDMLoss(similarity="cosine")
    assert check_rdm_loss(None) == RDMLoss()
    assert check_rdm_loss(mine) is mine


def test_a_subclass_is_a_loss_and_keeps_its_class_when_layers_are_matched() -> None:
    matched = replace(check_rdm_loss(Doubled()), match={"conv": "IT"})
    x, teacher = patterns(), pairs(N_PAIRS)
    found = matched({"conv": x}, {"IT": teacher})
    torch.testing.assert_close(found, 2 * RDMLoss()(x, teacher))


@pytest.mark.parametrize(
    ("loss", "advice"),
    [
        ("cosine", r"'cosine'; write loss=RDMLoss\(similarity='cosine'\)"),
        ("euclidean", r"write loss=RDMLoss\(dissimilarity='euclidean'\)"),
        ("mse", r"got 'mse'; write loss=RDMLoss\(similarity=\.\.\., dissimilarity="),
        (RDMLoss, r"got RDMLoss; write loss=RDMLoss\(\)"),
        (nn.CrossEntropyLoss(), r"got CrossEntropyLoss\(\); a loss of logits and labels belongs in task=Task"),
        (nn.MSELoss, r"got MSELoss; a loss of logits"),
        (lambda patterns, rdms, step: 0, r"terms=\{name: Term\(function\)\}; your own .* subclass of RDMLoss"),
        (False, r"got False; write loss=RDMLoss"),
        ({"similarity": "corr"}, r"got \{'similarity': 'corr'\}; write"),
    ],
)
def test_another_loss_is_refused_with_the_place_where_it_belongs(loss: object, advice: str) -> None:
    with pytest.raises(BrainrdlError, match=rf"^loss must be an RDMLoss, .*{advice}"):
        check_rdm_loss(loss)


# Brains of which no pair is known


UNKNOWN = torch.full((1, 15), torch.nan)


@pytest.mark.parametrize(
    "options", [{}, {"dissimilarity": "euclidean", "form": "mse"}, {"similarity": "cosine"}, {"n_pairs": 8}]
)
def test_a_brain_without_pairs_changes_neither_the_loss_nor_its_gradient(options: dict[str, Any]) -> None:
    patterns, known = torch.randn(6, 5, requires_grad=True), torch.rand(2, 15)
    found = []
    for brains in (known, torch.cat([known, UNKNOWN])):
        loss = RDMLoss(**options)(patterns, brains)
        found.append((loss.detach(), *torch.autograd.grad(loss, patterns)))
    torch.testing.assert_close(*found)


def test_the_other_targets_of_a_layer_get_the_weight_of_one_without_pairs() -> None:
    patterns, known = {"a": torch.randn(6, 5), "b": torch.randn(6, 4)}, torch.rand(2, 15)
    targets = {"V1": known[:1], "IT": known[1:], "V4": UNKNOWN}
    match = {"a": {"V1": 1.0, "IT": 3.0, "V4": 4.0}, "b": "V4"}
    terms = RDMLoss(match=match)(patterns, targets), RDMLoss(match=match).terms(patterns, targets)
    expected = 0.25 * RDMLoss()(patterns["a"], known[0]) + 0.75 * RDMLoss()(patterns["a"], known[1])
    torch.testing.assert_close(terms[0], expected)
    torch.testing.assert_close(terms[1]["a"], expected)
    assert terms[1]["b"].isnan()
    torch.testing.assert_close(RDMLoss(match=match, layer_weights={"b": 9.0})(patterns, targets), expected)


def test_a_loss_without_any_pair_is_nan() -> None:
    patterns = torch.randn(6, 5, requires_grad=True)
    assert RDMLoss()(patterns, UNKNOWN).isnan()
    assert RDMLoss(schedule=Decay(10.0), form="mse")(patterns, UNKNOWN, step=3).requires_grad
