"""Terms from the distillation of networks: what they equal, what they train, and how they use the frozen network."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.dissimilarity.measures import euclidean
from brainrdl.distillation.frozen_network import FrozenNetwork, frozen
from brainrdl.distillation.transfer_losses import probabilistic_loss, relational_loss, similarity_preserving_loss
from brainrdl.distillation.transfer_terms import (
    Hints,
    KernelAlignment,
    KnowledgeDistillation,
    ProbabilisticTransfer,
    RelationalDistillation,
    SimilarityPreserving,
)
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.readout import Readout
from brainrdl.models.student import Student, StudentOutput
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.network_teacher import NetworkTeacher

NAMES = tuple("abcdefgh")
PATTERN_TERMS = (Hints, KernelAlignment, ProbabilisticTransfer, RelationalDistillation, SimilarityPreserving)


class Counted(nn.Module):
    """A network with dropout and batch normalisation that counts its passes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        logits: Tensor = self.head(self.body(images))
        return logits


def batch() -> Batch:
    return Batch(NAMES, torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)))


def student(seed: int = 1) -> Student:
    torch.manual_seed(seed)
    return Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, 3)), ["1", "2"])


def output(seed: int = 1) -> StudentOutput:
    found: StudentOutput = student(seed)(batch().images)
    return found


# Values


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_knowledge_distillation_is_the_divergence_of_softened_probabilities(temperature: float) -> None:
    network, ours = Counted().eval(), output().logits
    assert ours is not None
    theirs = network(batch().images).detach().numpy() / temperature
    log_ours = log_softmax(ours.detach().numpy() / temperature, axis=1)
    divergence = (softmax(theirs, axis=1) * (log_softmax(theirs, axis=1) - log_ours)).sum(1).mean()
    found = KnowledgeDistillation(network, temperature)(output(), batch(), 0)
    assert found.item() == pytest.approx(temperature**2 * divergence, rel=1e-5)


def test_at_a_high_temperature_the_gradient_is_that_of_half_the_squared_difference_of_centred_logits() -> None:
    ours = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    theirs = torch.randn(4, 5, dtype=torch.float64)
    term = KnowledgeDistillation(lambda _images: theirs, 1e4)
    shown = Batch(NAMES[:4], torch.zeros(4, 1, 1, 1))
    (found,) = torch.autograd.grad(term(StudentOutput({}, ours), shown, 0), ours)
    centred = (ours - ours.mean(1, keepdim=True) - theirs + theirs.mean(1, keepdim=True)).detach()
    torch.testing.assert_close(found, centred / (4 * 5), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        (RelationalDistillation, relational_loss),
        (SimilarityPreserving, similarity_preserving_loss),
        (ProbabilisticTransfer, probabilistic_loss),
    ],
)
def test_a_term_is_the_sum_of_the_losses_of_its_layers(
    kind: Callable[..., nn.Module], loss: Callable[[Tensor, Tensor], Tensor]
) -> None:
    network, ours = Counted().eval(), output()
    theirs = network(batch().images)
    expected = loss(ours.patterns["1"], theirs) + loss(ours.patterns["2"], theirs)
    torch.testing.assert_close(kind(network)(ours, batch(), 0), expected)


def test_kernel_alignment_is_one_minus_cka_of_the_patterns() -> None:
    network, ours = Counted().eval(), output()
    x, y = (z.detach().double().numpy() for z in (ours.patterns["1"], network(batch().images)))
    x, y = x - x.mean(0), y - y.mean(0)
    cka = np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    found = KernelAlignment(network, {"1": "output"})(ours, batch(), 0)
    assert found.item() == pytest.approx(1 - cka, rel=1e-4)


def test_kernel_alignment_is_the_rdm_loss_with_the_comparator_cka() -> None:
    network, ours = Counted().eval(), output()
    loss = RDMLoss(dissimilarity="euclidean", similarity="cka")
    expected = loss(ours.patterns["1"], euclidean(network(batch().images)))
    torch.testing.assert_close(KernelAlignment(network, {"1": "output"})(ours, batch(), 0), expected)


def test_hints_are_the_squared_error_of_a_linear_map() -> None:
    network, ours = Counted().eval(), output()
    term = Hints(network, {"1": "output"})
    term.prepare(ours, batch())
    weight, bias = (parameter.detach() for parameter in term.parameters())
    expected = (ours.patterns["1"] @ weight.T + bias - network(batch().images)).square().mean()
    torch.testing.assert_close(term(ours, batch(), 0), expected)


# Training


@pytest.mark.parametrize("kind", [KnowledgeDistillation, *PATTERN_TERMS])
def test_training_on_a_term_brings_the_student_closer_to_the_network(kind: Callable[..., Any]) -> None:
    network, pupil, shown = Counted(), student(), batch()
    term = kind(network)
    if hasattr(term, "prepare"):
        term.prepare(pupil(shown.images), shown)
    before = [parameter.clone() for parameter in network.parameters()]
    optimizer = torch.optim.Adam([*pupil.trainable_parameters(), *term.parameters()], lr=0.01)
    losses = []
    for step in range(60):
        loss = term(pupil(shown.images), shown, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(one, two) for one, two in zip(before, network.parameters(), strict=True))


def test_only_hints_have_parameters_and_none_of_them_are_those_of_the_network() -> None:
    for kind in (KnowledgeDistillation, *PATTERN_TERMS):
        assert not list(kind(Counted()).state_dict())
    term = Hints(Counted())
    term.prepare(output(), batch())
    assert {name: tuple(value.shape) for name, value in term.state_dict().items()} == {
        "maps.0.weight": (3, 9), "maps.0.bias": (3,), "maps.1.weight": (3, 9), "maps.1.bias": (3,),
    }  # fmt: skip


def test_the_maps_of_hints_depend_on_the_seed_alone() -> None:
    def weights(seed: int) -> Tensor:
        torch.rand(3)
        term = Hints(Counted(), seed=seed)
        term.prepare(output(), batch())
        return next(term.parameters()).detach()

    state = torch.get_rng_state()
    term = Hints(frozen(lambda images: images), {"1": "output"})
    term.prepare(StudentOutput({"1": torch.zeros(8, 9)}, None), batch())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_second_preparation_keeps_the_trained_maps() -> None:
    term = Hints(Counted())
    term.prepare(output(), batch())
    kept = next(term.parameters())
    term.prepare(output(), batch())
    assert next(term.parameters()) is kept
    assert len(list(term.parameters())) == 4


# The frozen network


def test_terms_of_one_network_share_its_pass_on_a_batch() -> None:
    network, shown = Counted(), batch()
    terms = [kind(network) for kind in (KnowledgeDistillation, ProbabilisticTransfer, SimilarityPreserving)]
    for term in terms:
        term(output(), shown, 0)
    assert network.passes == 1
    terms[0](output(), batch(), 1)
    assert network.passes == 2


def test_the_network_runs_in_eval_mode_without_gradient_and_keeps_its_own_mode() -> None:
    network = Counted().train()
    network.body[2].eval()
    mean = network.body[2].running_mean.clone()
    answer = FrozenNetwork(network)(batch())
    torch.testing.assert_close(answer.patterns["output"], copy.deepcopy(network).eval()(batch().images).detach())
    assert not answer.patterns["output"].requires_grad
    assert (network.training, network.body[2].training, network.body[3].training) == (True, False, True)
    assert torch.equal(network.body[2].running_mean, mean)


def test_the_answer_does_not_depend_on_autocast() -> None:
    network = Counted()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = FrozenNetwork(network)(batch()).patterns["output"]
    assert torch.equal(found, FrozenNetwork(network)(batch()).patterns["output"])


def test_a_network_that_is_trained_is_refused() -> None:
    pupil, shown = student(), batch()
    term = KnowledgeDistillation(pupil.model)
    term(pupil(shown.images), shown, 0)
    with torch.no_grad():
        pupil.trainable_parameters()[0].add_(1)
    with pytest.raises(BrainrdlError, match=r"'Sequential'\) changed after the term was made, .* copy.deepcopy"):
        term(pupil(shown.images), batch(), 1)


def test_a_new_term_sees_the_weights_that_the_network_has_now() -> None:
    network = Counted()
    first = KnowledgeDistillation(network)
    with torch.no_grad():
        network.head.weight.mul_(2)
    second = KnowledgeDistillation(network)
    assert second.network is not first.network
    torch.testing.assert_close(second.network.logits(batch()), network.eval()(batch().images))


def test_moving_a_network_is_no_change() -> None:
    network = Counted()
    term = FrozenNetwork(network)
    network.double().float()
    assert term(batch()).logits is not None


def test_answers_are_forgotten_with_their_batch_and_networks_with_their_terms() -> None:
    network, shown = Counted(), batch()
    term = KnowledgeDistillation(network)
    answer = weakref.ref(term.network(shown).patterns["output"])
    gone = weakref.ref(network)
    del shown
    gc.collect()
    assert answer() is None
    del term, network
    gc.collect()
    assert gone() is None


def test_copies_of_terms_share_a_copy_of_the_network() -> None:
    network = Counted()
    terms = {"kd": KnowledgeDistillation(network), "pkt": ProbabilisticTransfer(network)}
    for how in (copy.deepcopy, lambda terms: pickle.loads(pickle.dumps(terms))):
        copied = how(terms)
        assert copied["kd"].network is copied["pkt"].network
        assert (copied["kd"].network.network is network) == (how is copy.deepcopy)
        torch.testing.assert_close(copied["kd"](output(), batch(), 0), terms["kd"](output(), batch(), 0))


@pytest.mark.parametrize(
    "answer",
    [
        lambda logits: {"logits": logits, "loss": torch.zeros(())},
        lambda logits: SimpleNamespace(logits=logits),
        lambda logits: StudentOutput({"fc": logits + 1}, logits),
        lambda logits: logits,
    ],
)
def test_logits_are_found_in_what_networks_return(answer: Callable[[Tensor], object]) -> None:
    logits = torch.rand(8, 3)
    found = frozen(lambda _images: answer(logits)).logits(batch())
    assert torch.equal(found, logits)


def test_layers_of_a_network_are_read_by_a_student_or_a_network_teacher() -> None:
    network = Counted()
    readers = [
        Student(network, ["body", "head"], trainable="none"),
        NetworkTeacher(network, ["body", "head"]),
        NetworkTeacher(network, ["body", "head"], cache=True),
    ]
    found = [SimilarityPreserving(reader, {"1": "head", "2": "body"})(output(), batch(), 0) for reader in readers]
    torch.testing.assert_close(found[1:], found[:1] * 2)


def test_a_network_teacher_of_the_last_layer_gives_logits() -> None:
    network = Counted()
    by_layer = KnowledgeDistillation(NetworkTeacher(network, ["head"]))(output(), batch(), 0)
    torch.testing.assert_close(by_layer, KnowledgeDistillation(network)(output(), batch(), 0))


def test_a_network_teacher_with_its_own_images_is_asked_by_name() -> None:
    shown, network = batch(), Counted()
    own = Stimuli.from_arrays(shown.images, NAMES)
    teacher = NetworkTeacher(network, ["head"], stimuli=own)
    without_images = Batch(NAMES, torch.zeros(8, 1, 4, 4))
    found = SimilarityPreserving(teacher)(output(), without_images, 0)
    torch.testing.assert_close(found, SimilarityPreserving(network)(output(), shown, 0))


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KnowledgeDistillation("resnet18"), r"got 'resnet18'; build a network by name with brainrdl.models"),
        (lambda: KnowledgeDistillation(Counted(), temperature=0), "temperature must be a finite number above 0"),
        (lambda: RelationalDistillation(Counted(), distance=-1), "distance must be a finite number of at least 0"),
        (lambda: RelationalDistillation(Counted(), distance=0, angle=0), "is always 0"),
    ],
)
def test_a_term_that_cannot_work_is_refused_when_it_is_made(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        make()


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            lambda: KnowledgeDistillation(nn.Flatten()),
            r"logits of shape \(8, 3\) and FrozenNetwork\('Flatten'\) \(8, 16",
        ),
        (lambda: SimilarityPreserving(Counted(), {"9": "output"}), "student layer '9' is not known"),
        (lambda: SimilarityPreserving(Counted(), {"1": "head"}), r"target 'head', which is not among .*\['output'\]"),
        (lambda: SimilarityPreserving(lambda images: images[:3]), r"one row for each of 8 images, got shapes .*\(3, 1"),
        (lambda: SimilarityPreserving(lambda images: "text"), r"one row for each of 8 images, got str"),
        (
            lambda: KnowledgeDistillation(NetworkTeacher(Counted(), ["body", "head"])),
            r"\['body', 'head'\] and no logits",
        ),
        (lambda: Hints(Counted()), r"no map for layer '1'; call prepare\(output, batch\)"),
    ],
)
def test_a_term_that_does_not_fit_the_student_is_refused(term: Callable[[], Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        term()(output(), batch(), 0)


def test_distillation_needs_logits_of_the_student() -> None:
    with pytest.raises(BrainrdlError, match="needs logits from the student"):
        KnowledgeDistillation(Counted())(output()._replace(logits=None), batch(), 0)


def test_a_term_prints_its_options() -> None:
    assert (
        repr(KnowledgeDistillation(Counted(), 2.0))
        == "KnowledgeDistillation(FrozenNetwork('Counted'), temperature=2.0)"
    )
    teacher = NetworkTeacher(Counted(), ["head"], name="big")
    assert repr(Hints(teacher, {"1": "head"})).startswith("Hints(\n  FrozenNetwork('big'), match={'1': 'head'}")


def test_a_readout_makes_patterns_of_both_networks_small() -> None:
    pupil = Student(nn.Sequential(nn.Conv2d(1, 5, 3)), ["0"], readout=Readout("avgpool"))
    other = Student(nn.Sequential(nn.Conv2d(1, 7, 2)), ["0"], readout=Readout("avgpool"), trainable="none")
    term = Hints(other)
    term.prepare(pupil(batch().images), batch())
    assert [tuple(parameter.shape) for parameter in term.parameters()] == [(7, 5), (7,)]
