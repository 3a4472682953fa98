"""Teachers: permuting names, controls, and the contract that anyone's teacher can be tried on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.rdms.conversion import from_array
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.controls import PermutedTeacher, control, same_spectrum
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import Teacher
from brainrdl.teachers.rdm_teacher import RDMTeacher
from brainrdl.testing.rdm_teachers import check_teacher

NAMES = tuple("abcdef")
LABELS = dict(zip(NAMES, ["animal", "thing"] * 3, strict=True))


def images() -> Tensor:
    return torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def batch(names: tuple[str, ...] = NAMES) -> Batch:
    chosen = [NAMES.index(name) for name in names]
    return Batch(names, images()[chosen], torch.tensor(chosen))


def stimuli(labels: dict[str, str] | None = LABELS) -> Stimuli:
    return Stimuli.from_arrays(images(), NAMES, labels=labels)


def brain() -> RDMTeacher:
    pairs = np.random.default_rng(0).random((2, 15))
    return RDMTeacher(from_array(pairs, NAMES, descriptors={"roi": ["V1", "IT"]}), name="brain")


def network(**options: object) -> NetworkTeacher:
    torch.manual_seed(0)
    return NetworkTeacher(nn.Sequential(nn.Flatten(), nn.Linear(16, 5)), ["1"], name="net", **options)  # type: ignore[arg-type]


# Permuted


def test_permuting_within_class_keeps_the_dissimilarities_of_each_block() -> None:
    teacher = brain()
    permuted = control("permuted_within_class", teacher=teacher, stimuli=stimuli(), seed=3)
    check_teacher(permuted, batch())
    before, after = (one.rdms(batch())["V1"][0] for one in (teacher, permuted))
    assert not torch.equal(before, after)
    i, j = torch.triu_indices(6, 6, 1)
    kinds = [tuple(sorted((LABELS[NAMES[a]], LABELS[NAMES[b]]))) for a, b in zip(i, j, strict=True)]
    for kind in set(kinds):
        block = torch.tensor([one == kind for one in kinds])
        assert sorted(before[block].tolist()) == sorted(after[block].tolist())
    assert permuted.name == "permuted within class brain (seed 3)"


def test_classes_that_permute_nothing_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="each of the 6 classes has only one name"):
        PermutedTeacher(brain(), within={name: name for name in NAMES})
    with pytest.raises(BrainrdlError, match=r"\['f'\] have none"):
        PermutedTeacher(brain(), within=dict.fromkeys("abcde", "x"))
    with pytest.raises(BrainrdlError, match="'permuted_within_class' needs labels"):
        control("permuted_within_class", teacher=brain(), stimuli=stimuli(labels=None))


# Spectrum


def spectrum(pairs: np.ndarray) -> np.ndarray:
    centring = np.eye(6) - 1 / 6
    return np.linalg.eigvalsh(-centring @ squareform(pairs) @ centring / 2)


def people() -> RDMTeacher:
    pairs = np.random.default_rng(0).random((6, 15))
    described = {"roi": ["V1", "IT"] * 3, "subject": ["x", "x", "y", "y", "z", "z"]}
    return RDMTeacher(from_array(pairs, NAMES, descriptors=described), name="people")


def test_random_rdms_have_the_spectrum_of_the_teacher_and_other_dimensions() -> None:
    teacher, random = people(), control("spectrum", teacher=people(), seed=1)
    check_teacher(random, batch())
    assert random.targets == teacher.targets
    for target in teacher.targets:
        before, after = (one.subject_rdms(target).dissimilarities for one in (teacher, random))  # type: ignore[attr-defined]
        for a, b in zip(before, after, strict=True):
            np.testing.assert_allclose(spectrum(a), spectrum(b), atol=1e-6)
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.9
        mean = spectrum(random.rdms(batch())[target][0].double().numpy())
        np.testing.assert_allclose(mean, spectrum(before.mean(0)), atol=1e-6)


def test_euclidean_rdms_stay_euclidean() -> None:
    points = np.random.default_rng(0).normal(size=(6, 2))
    pairs = pdist(points, "sqeuclidean")
    random = control("spectrum", teacher=RDMTeacher(from_array(pairs, NAMES)), seed=1).rdms(batch())["rdm"][0]
    assert random.min() >= 0
    np.testing.assert_allclose(spectrum(random.double().numpy())[:-2], 0, atol=1e-5)


def test_rotations_follow_the_seed() -> None:
    first, same, other = (control("spectrum", teacher=people(), seed=seed).rdms(batch())["V1"] for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_a_network_gives_its_spectrum() -> None:
    random = control("spectrum", teacher=network(), stimuli=stimuli(), conditions=NAMES, seed=1)
    before = network().rdms(batch())["1"][0].double().numpy()
    np.testing.assert_allclose(spectrum(random.rdms(batch())["1"][0].double().numpy()), spectrum(before), atol=1e-6)
    with pytest.raises(BrainrdlError, match="uses images: give stimuli="):
        control("spectrum", teacher=network(), conditions=NAMES)


def test_spectra_need_all_pairs_and_a_teacher() -> None:
    pairs = np.random.default_rng(0).random(15)
    pairs[3] = np.nan
    with pytest.raises(BrainrdlError, match="needs all pairs, but target 'rdm'"):
        same_spectrum(RDMTeacher(from_array(pairs, NAMES)))
    with pytest.raises(BrainrdlError, match="needs at least 3 conditions, got 2"):
        same_spectrum(people(), NAMES[:2])
    with pytest.raises(BrainrdlError, match="'spectrum' is made from a teacher"):
        control("spectrum")


def test_permuted_teachers_keep_the_contract() -> None:
    check_teacher(PermutedTeacher(brain(), seed=1), batch())
    check_teacher(PermutedTeacher(network(stimuli=stimuli()), seed=1), batch())


def test_permuting_moves_conditions_and_not_single_pairs() -> None:
    teacher, permuted = brain(), PermutedTeacher(brain(), seed=1)
    asked = tuple(permuted._asked[name] for name in NAMES)
    assert sorted(asked) == sorted(NAMES)
    assert asked != NAMES
    torch.testing.assert_close(permuted.rdms(batch()), teacher.rdms(batch(asked)))
    assert permuted.name == "permuted brain (seed 1)"
    assert permuted.targets == teacher.targets


def test_permutations_follow_the_seed() -> None:
    answers = [PermutedTeacher(brain(), seed=seed).rdms(batch())["V1"] for seed in (1, 1, 2)]
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


def test_only_the_conditions_given_are_shuffled_among_themselves() -> None:
    permuted = PermutedTeacher(brain(), NAMES[:4], seed=1)
    assert permuted.conditions == NAMES[:4]
    assert set(permuted._asked.values()) == set(NAMES[:4])
    with pytest.raises(BrainrdlError, match=r"conditions \['e'\] are not in teacher 'permuted brain"):
        permuted.rdms(batch(("a", "b", "e")))


def test_a_teacher_of_the_batchs_images_sees_those_of_the_other_names() -> None:
    own, from_batch = network(stimuli=stimuli()), network()
    expected = PermutedTeacher(own, seed=1).rdms(batch())
    torch.testing.assert_close(PermutedTeacher(from_batch, NAMES, seed=1).rdms(batch()), expected)


def test_images_that_are_not_in_the_batch_are_refused_rather_than_mistaken() -> None:
    permuted = PermutedTeacher(network(), NAMES, seed=1)
    with pytest.raises(BrainrdlError, match="got 0 images for 3 conditions; give one image per condition"):
        permuted.rdms(batch(("a", "b", "c")))


def test_what_cannot_be_permuted_is_refused() -> None:
    with pytest.raises(BrainrdlError, match="teacher 'net' lists no conditions: give the names"):
        PermutedTeacher(network())
    with pytest.raises(BrainrdlError, match=r"conditions \['z'\] are not in teacher 'brain'"):
        PermutedTeacher(brain(), ["a", "z"])
    with pytest.raises(BrainrdlError, match=r"\['a'\] occur more than once in the conditions to permute"):
        PermutedTeacher(brain(), ["a", "b", "a"])


# Controls


def test_controls_keep_the_contract() -> None:
    net = network(stimuli=stimuli())
    for kind in ("permuted", "random", "category", "pixels"):
        check_teacher(control(kind, teacher=net, stimuli=stimuli(), seed=3), batch())


def test_the_permuted_control_is_a_permuted_teacher() -> None:
    made = control("permuted", teacher=brain(), conditions=NAMES[:4], seed=2)
    expected = PermutedTeacher(brain(), NAMES[:4], seed=2).rdms(batch(NAMES[:4]))
    torch.testing.assert_close(made.rdms(batch(NAMES[:4])), expected)


def test_the_random_control_is_the_network_re_initialised() -> None:
    made = control("random", teacher=network(), seed=2)
    torch.testing.assert_close(made.rdms(batch()), network().reinitialised(2).rdms(batch()))
    assert not torch.allclose(made.rdms(batch())["1"], network().rdms(batch())["1"])


def test_the_category_control_is_0_within_and_1_between() -> None:
    answer = control("category", stimuli=stimuli(), conditions=("c", "a", "b")).rdms(batch(("a", "b", "c")))
    assert answer["category"].tolist() == [[1.0, 0.0, 1.0]]


def test_the_pixel_control_is_the_correlation_distance_of_images() -> None:
    answer = control("pixels", stimuli=stimuli()).rdms(batch())["pixels"][0]
    expected = 1 - np.corrcoef(images().flatten(1).double())[np.triu_indices(6, 1)]
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["category", "pixels"])
def test_controls_from_stimuli_answer_under_the_teachers_targets(kind: str) -> None:
    made = control(kind, teacher=brain(), stimuli=stimuli())
    assert made.targets == ("V1", "IT")
    assert made.name == kind
    answer = made.rdms(batch())
    assert torch.equal(answer["V1"], answer["IT"])


def test_controls_that_lack_something_are_refused() -> None:
    with pytest.raises(BrainrdlError, match="control 'permute' is not known; nearest: 'permuted'"):
        control("permute", teacher=brain())
    with pytest.raises(BrainrdlError, match="control 'permuted' is made from a teacher: give teacher="):
        control("permuted")
    with pytest.raises(BrainrdlError, match=r"control 'random' re-initialises a network: .* got RDMTeacher\('brain'"):
        control("random", teacher=brain())
    with pytest.raises(BrainrdlError, match="control 'category' is made from the stimuli: give stimuli="):
        control("category", teacher=brain())
    with pytest.raises(BrainrdlError, match=r"conditions \['z'\] are not in the stimuli"):
        control("pixels", stimuli=stimuli(), conditions=["a", "b", "z"])


def test_a_category_control_without_labels_is_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"control 'category' needs labels and the stimuli have none; add them with"
    ):
        control("category", stimuli=stimuli(labels=None))


def test_a_category_control_of_one_category_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"but the 3 conditions are all of one category, 'animal'; choose other"):
        control("category", stimuli=stimuli(), conditions=("a", "c", "e"))
    own = dict(zip(NAMES, "uvwxyz", strict=True))
    with pytest.raises(BrainrdlError, match=r"the 6 conditions are all of different categories; choose other"):
        control("category", stimuli=stimuli(labels=own))


def test_a_constant_image_is_refused_in_the_pixel_control() -> None:
    grey = images()
    grey[2] = 0.5
    with pytest.raises(BrainrdlError, match="condition 'c' has a constant pattern at layer '0' of teacher 'pixels'"):
        control("pixels", stimuli=Stimuli.from_arrays(grey, NAMES))


# The contract


class Good:
    name, targets, conditions = "good", ("t",), NAMES
    answers = 0

    def rdms(self, batch: Batch) -> dict[str, Tensor]:
        number = torch.tensor([float(NAMES.index(name)) ** 1.5 for name in batch.names])
        first, second = torch.triu_indices(len(number), len(number), 1)
        return {"t": (number[first] - number[second]).abs()[None]}


def _after(change: Callable[[Good, Batch, Tensor], Tensor]) -> type[Good]:
    """Make a teacher whose answer is changed by a function of (teacher, batch, pairs)."""

    class Broken(Good):
        name = "broken"

        def rdms(self, batch: Batch) -> dict[str, Tensor]:
            self.answers += 1
            return {"t": change(self, batch, super().rdms(batch)["t"])}

    return Broken


def _sorted_names(self: Good, batch: Batch, pairs: Tensor) -> Tensor:
    return Good().rdms(Batch(tuple(sorted(batch.names)), batch.images, None))["t"]


def _attribute(**attributes: object) -> type[Good]:
    return type("Broken", (Good,), {"name": "broken", **attributes})


def _lenient(self: Good, batch: Batch) -> dict[str, Tensor]:
    known = tuple(name for name in batch.names if name in NAMES)
    return Good().rdms(Batch(known, batch.images, None))


def test_a_user_defined_teacher_keeps_the_contract() -> None:
    check_teacher(Good(), batch())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (_attribute(name=" "), "name of teacher Broken must be a non-empty text, got ' '"),
        (_attribute(targets="t"), "must be a tuple of at least one name, got 't'"),
        (_attribute(targets=()), "must be a tuple of at least one name"),
        (_attribute(targets=("t", "t")), "occur more than once in the targets"),
        (_attribute(targets=("t", "u")), r"answers for \['t'\], but its targets are \['t', 'u'\]"),
        (_attribute(rdms=_lenient), "answers for an unknown condition"),
        (_after(lambda self, batch, pairs: pairs[0]), r"must have shape \(n_rdms, 15\) .* got \(15,\)"),
        (_after(lambda self, batch, pairs: pairs[:, 1:]), r"got \(1, 14\)"),
        (_after(lambda self, batch, pairs: pairs[:0]), r"got \(0, 15\)"),
        (_after(lambda self, batch, pairs: pairs.long()), "must be floating point, got torch.int64"),
        (_after(lambda self, batch, pairs: pairs.to("meta")), "is on meta, but the batch's images are on cpu"),
        (_after(lambda self, batch, pairs: pairs.requires_grad_()), "has a gradient"),
        (_after(lambda self, batch, pairs: pairs / 0), "contains Inf, or only NaN"),
        (_after(lambda self, batch, pairs: pairs * torch.nan), "contains Inf, or only NaN"),
        (_after(lambda self, batch, pairs: pairs + self.answers), "gives a different answer to the same batch"),
        (_after(_sorted_names), r"does not answer in the order of the names, \['f', 'e', 'd', 'c', 'b', 'a'\]"),
        (_after(lambda self, batch, pairs: pairs / pairs.max()), r"in the order of the names, \['c', 'a', 'd'\]"),
    ],
)
def test_the_error_names_what_a_broken_teacher_breaks(broken: type[Good], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        check_teacher(broken(), batch())


def test_the_error_names_a_member_that_a_teacher_lacks() -> None:
    class Nameless:
        targets = ("t",)

    with pytest.raises(BrainrdlError, match="Nameless is not a teacher: it has no 'name'"):
        check_teacher(Nameless(), batch())  # type: ignore[arg-type]


def test_the_check_needs_enough_conditions() -> None:
    with pytest.raises(BrainrdlError, match="needs a batch of at least 4 conditions, got 3"):
        check_teacher(Good(), batch(("a", "b", "c")))


def test_built_in_teachers_are_teachers_to_the_type_checker() -> None:
    several: list[Teacher] = [brain(), network(), PermutedTeacher(brain()), Good()]
    assert all(teacher.targets for teacher in several)
