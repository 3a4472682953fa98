"""NetworkTeacher: a frozen network's RDMs, its cache, and its random twin."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.stimuli.transforms import default_transform
from brainrdl.teachers.network_teacher import NetworkTeacher
from brainrdl.teachers.protocol import view_of
from brainrdl.testing.rdm_teachers import check_teacher

pytestmark = pytest.mark.usefixtures("without_probe")  # the images that a network sees are counted

NAMES = tuple(f"s{i}" for i in range(6))


class Counted(nn.Module):
    """A small network that counts the images it sees; the count is shared with every copy."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm, self.drop = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.fc = nn.Linear(3 * 36, 8)
        self.seen: list[Tensor] = _Shared()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.fc(self.drop(self.norm(self.conv(x))).flatten(1))  # type: ignore[no-any-return]

    @property
    def n_seen(self) -> int:
        return sum(len(x) for x in self.seen)


class _Shared(list[Tensor]):
    def __deepcopy__(self, memo: object) -> _Shared:
        return self


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def batch(names: tuple[str, ...] = NAMES) -> Batch:
    return Batch(names, images()[[NAMES.index(name) for name in names]], None)


def stimuli() -> Stimuli:
    return Stimuli.from_arrays(images(), NAMES)


# Answers


def test_network_teachers_keep_the_contract() -> None:
    check_teacher(NetworkTeacher(Counted(), ["conv", "fc"]), batch())
    check_teacher(NetworkTeacher(Counted(), ["conv", "fc"], stimuli=stimuli(), cache=True, pool="avgpool"), batch())


def test_the_answer_is_rsatoolboxs_rdm_of_the_layers() -> None:
    model = Counted().eval()
    answer = NetworkTeacher(model, ["conv", "fc"]).rdms(batch())
    for layer, patterns in {"conv": model.conv(images()).flatten(1), "fc": model(images())}.items():
        expected = calc_rdm(Dataset(patterns.detach().double().numpy()), method="correlation").dissimilarities
        np.testing.assert_allclose(answer[layer].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_group_of_layers_is_one_target() -> None:
    teacher = NetworkTeacher(Counted(), ["conv+fc"], pool="avgpool")
    assert teacher.targets == ("conv+fc",)
    assert teacher.patterns(batch())["conv+fc"].shape == (6, 11)


def test_the_teacher_computes_in_eval_float32_and_without_gradient() -> None:
    teacher = NetworkTeacher(Counted().train(), ["fc"])
    first = teacher.rdms(batch())["fc"]
    # Dropout, or statistics of the batch, would give another answer.
    assert torch.equal(teacher.rdms(batch())["fc"], first)
    assert not first.requires_grad
    assert first.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(teacher.rdms(batch())["fc"], first)


def test_half_precision_networks_and_images_are_computed_in_float32() -> None:
    teacher = NetworkTeacher(Counted().half(), ["fc"])
    answer = teacher.rdms(Batch(NAMES, images().half(), None))["fc"]
    assert answer.dtype == torch.float32


def test_images_with_gradient_get_an_answer_without() -> None:
    asked = Batch(NAMES, images().requires_grad_(), None)
    assert not NetworkTeacher(Counted(), ["fc"]).rdms(asked)["fc"].requires_grad


def test_training_the_network_as_a_student_does_not_move_its_teacher() -> None:
    model = Counted().train()
    teacher = NetworkTeacher(model, ["fc"])
    before = teacher.rdms(batch())["fc"]
    with torch.no_grad():
        model.fc.weight.zero_()
    assert torch.equal(teacher.rdms(batch())["fc"], before)
    assert model.training
    assert model.fc.weight.requires_grad


def test_own_stimuli_are_found_by_name_and_not_by_the_batchs_images() -> None:
    teacher = NetworkTeacher(Counted(), ["fc"], stimuli=stimuli())
    assert teacher.conditions == NAMES
    noise = Batch(("s4", "s0", "s1"), torch.rand(3, 3, 2, 2), None)
    expected = NetworkTeacher(Counted(), ["fc"]).rdms(batch(("s4", "s0", "s1")))
    torch.testing.assert_close(teacher.rdms(noise), expected)


def test_a_teacher_of_the_batchs_images_lists_no_conditions() -> None:
    assert not hasattr(NetworkTeacher(Counted(), ["fc"]), "conditions")


def test_large_batches_pass_in_parts() -> None:
    model = Counted()
    names = tuple(map(str, range(600)))
    patterns = NetworkTeacher(model, ["fc"]).patterns(Batch(names, torch.rand(600, 1, 8, 8), None))
    assert patterns["fc"].shape == (600, 8)
    assert max(len(x) for x in model.seen) <= 256


def test_a_named_model_brings_its_name_and_transform() -> None:
    pictures = Stimuli.from_arrays((images()[:, 0] * 255).byte().numpy(), NAMES)
    teacher = NetworkTeacher("lenet", ["conv1"], stimuli=pictures)
    assert teacher.name == "lenet"
    from brainrdl.models.networks import build

    assert teacher._stimuli is not None
    assert repr(teacher._stimuli.transform) == repr(build("lenet").transform)
    own = pictures.with_transform(default_transform(28, ([0.0], [0.5]), channels=1))
    kept = NetworkTeacher("lenet", ["conv1"], stimuli=own)._stimuli
    assert kept is not None
    assert kept.transform is own.transform


def test_any_dissimilarity_can_be_taken() -> None:
    teacher = NetworkTeacher(Counted(), ["fc"], dissimilarity="euclidean")
    expected = calc_rdm(Dataset(teacher.patterns(batch())["fc"].numpy()), method="euclidean").dissimilarities
    np.testing.assert_allclose(teacher.rdms(batch())["fc"].numpy(), expected, rtol=1e-4)


# Refusals


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"layers \['conv1'\] are not in the model .*nearest: 'conv'"):
        NetworkTeacher(Counted(), ["conv1"])
    with pytest.raises(BrainrdlError, match="teacher's layers must be a list of names, got the single string 'fc'"):
        NetworkTeacher(Counted(), "fc")
    with pytest.raises(BrainrdlError, match="pool 'avg' is not known; nearest: 'avgpool'"):
        NetworkTeacher(Counted(), ["fc"], pool="avg")
    with pytest.raises(BrainrdlError, match="weights 'DEFAULT' are for a model given by name"):
        NetworkTeacher(Counted(), ["fc"], weights="DEFAULT")
    with pytest.raises(BrainrdlError, match="dissimilarity 'corelation' is not known; nearest: 'correlation'"):
        NetworkTeacher(Counted(), ["fc"], dissimilarity="corelation")


def test_names_that_cannot_be_answered_are_refused() -> None:
    own = NetworkTeacher(Counted(), ["fc"], stimuli=stimuli(), name="net")
    with pytest.raises(BrainrdlError, match=r"\['s9'\] are not in teacher 'net' \(6 conditions\); nearest: 's"):
        own.rdms(Batch(("s0", "s9", "s1"), images()[:3], None))
    with pytest.raises(BrainrdlError, match="got 2 images for 3 conditions; give one image per condition"):
        NetworkTeacher(Counted(), ["fc"]).rdms(Batch(("s0", "s1", "s2"), images()[:2], None))
    with pytest.raises(BrainrdlError, match=r"\['s0'\] occur more than once"):
        own.rdms(Batch(("s0", "s0", "s1"), images()[:3], None))


@pytest.mark.parametrize(
    ("dissimilarity", "value", "kind"), [("correlation", 0.3, "constant"), ("cosine", 0.0, "zero")]
)
def test_a_pattern_without_dissimilarities_is_refused_by_name(dissimilarity: str, value: float, kind: str) -> None:
    x = images()
    x[4] = value
    teacher = NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"], dissimilarity=dissimilarity, name="net")
    with pytest.raises(
        BrainrdlError, match=rf"condition 's4' has a {kind} pattern at layer '0' of teacher 'net' \(1 of 6 do\)"
    ):
        teacher.rdms(Batch(NAMES, x, None))


def test_a_constant_pattern_has_euclidean_dissimilarities() -> None:
    x = images()
    x[4] = 0.3
    teacher = NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"], dissimilarity="euclidean")
    assert teacher.rdms(Batch(NAMES, x, None))["0"].isfinite().all()


def test_dissimilarities_that_are_not_finite_are_refused() -> None:
    x = images()
    x[2, 0, 0, 0] = torch.inf
    teacher = NetworkTeacher(nn.Sequential(nn.Flatten()), ["0"], dissimilarity="euclidean", name="net")
    with pytest.raises(BrainrdlError, match="NaN or Inf in dissimilarities at layer '0' of teacher 'net'"):
        teacher.rdms(Batch(NAMES, x, None))


# Cache


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_the_second_pass_does_not_run_the_network(kind: str, own: bool, tmp_path: Path) -> None:
    model = Counted()
    teacher = NetworkTeacher(
        model, ["conv", "fc"], cache=tmp_path if kind == "folder" else True, stimuli=stimuli() if own else None
    )
    first = teacher.rdms(batch())
    assert model.n_seen == 6
    again = teacher.rdms(batch())
    assert model.n_seen == 6
    torch.testing.assert_close(again, first, rtol=0, atol=0)


def test_only_stimuli_not_seen_before_pass_the_network_and_the_order_is_kept() -> None:
    model = Counted()
    teacher = NetworkTeacher(model, ["fc"], cache=True)
    teacher.rdms(batch(("s1", "s3", "s5")))
    answer = teacher.rdms(batch(("s4", "s3", "s0", "s1")))
    assert model.n_seen == 5
    torch.testing.assert_close(answer, NetworkTeacher(Counted(), ["fc"]).rdms(batch(("s4", "s3", "s0", "s1"))))


def test_without_a_cache_the_network_runs_each_time() -> None:
    model = Counted()
    teacher = NetworkTeacher(model, ["fc"])
    teacher.rdms(batch()), teacher.rdms(batch())
    assert model.n_seen == 12


def test_a_folder_serves_the_next_teacher_and_another_dissimilarity(tmp_path: Path) -> None:
    NetworkTeacher(Counted(), ["fc"], cache=tmp_path, stimuli=stimuli()).rdms(batch())
    model = Counted()
    NetworkTeacher(model, ["fc"], cache=tmp_path, stimuli=stimuli(), dissimilarity="euclidean").rdms(batch())
    assert model.n_seen == 0


def test_a_change_of_weights_misses_the_cache(tmp_path: Path) -> None:
    NetworkTeacher(Counted(), ["fc"], cache=tmp_path, stimuli=stimuli()).rdms(batch())
    model = Counted()
    with torch.no_grad():
        model.fc.bias[0] += 1
    answer = NetworkTeacher(model, ["fc"], cache=tmp_path, stimuli=stimuli()).rdms(batch())
    assert model.n_seen == 6
    torch.testing.assert_close(answer, NetworkTeacher(model, ["fc"]).rdms(batch()))


def test_another_layer_pool_image_or_transform_misses_the_cache(tmp_path: Path) -> None:
    pixels = (images()[:, 0] * 255).byte().numpy()
    shown = Stimuli.from_arrays(pixels, NAMES, transform=default_transform(8, "none", channels=1))
    NetworkTeacher(Counted(), ["conv"], cache=tmp_path, stimuli=shown).rdms(batch())

    def seen(layer: str = "conv", pool: str = "flatten", stimuli: Stimuli = shown) -> int:
        model = Counted()
        NetworkTeacher(model, [layer], cache=tmp_path, stimuli=stimuli, pool=pool).rdms(batch())
        return model.n_seen

    assert seen() == 0
    assert seen(layer="fc") == 6
    assert seen(pool="avgpool") == 6
    assert seen(stimuli=Stimuli.from_arrays(255 - pixels, NAMES, transform=shown.transform)) == 6
    assert seen(stimuli=shown.with_transform(default_transform(8, ([0.5], [0.5]), channels=1))) == 6


def test_transforms_that_print_alike_do_not_share_patterns() -> None:
    from torchvision import transforms

    def through(scale: float) -> Stimuli:
        steps = [transforms.Grayscale(), transforms.ToTensor(), transforms.Lambda(lambda x: x**scale)]
        return Stimuli.from_arrays((images()[:, 0] * 255).byte().numpy(), NAMES, transform=transforms.Compose(steps))

    one, two = through(1.0), through(2.0)
    assert repr(one.transform) == repr(two.transform)
    store = NetworkTeacher(Counted(), ["fc"], cache=True, stimuli=one)
    first = store.rdms(batch())
    store._stimuli = two
    assert not torch.allclose(store.rdms(batch())["fc"], first["fc"])


def test_images_are_not_loaded_if_all_patterns_are_stored(tmp_path: Path) -> None:
    first = NetworkTeacher(Counted(), ["fc"], cache=tmp_path, stimuli=stimuli()).rdms(batch())

    class Unloaded:
        transform = None
        names, digests = NAMES, stimuli().digests

        def check_repeatable(self) -> None:
            pass

    teacher = NetworkTeacher(Counted(), ["fc"], cache=tmp_path, stimuli=Unloaded())  # type: ignore[arg-type]
    torch.testing.assert_close(teacher.rdms(batch()), first, rtol=0, atol=0)


@pytest.mark.parametrize("cache", ["memory", "folder"])
def test_half_precision_gives_the_same_answer_before_and_after_storing(cache: str, tmp_path: Path) -> None:
    options = {"cache": True if cache == "memory" else tmp_path, "cache_precision": "float16"}
    teacher = NetworkTeacher(Counted(), ["fc"], stimuli=stimuli(), **options)  # type: ignore[arg-type]
    first, again = teacher.rdms(batch()), teacher.rdms(batch())
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    exact = NetworkTeacher(Counted(), ["fc"], stimuli=stimuli())
    torch.testing.assert_close(first, exact.rdms(batch()), rtol=1e-2, atol=1e-3)
    assert not torch.equal(first["fc"], exact.rdms(batch())["fc"])
    assert teacher.identity(NAMES) != exact.identity(NAMES)


def test_patterns_that_will_not_fit_are_refused_before_any_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=6 * 8 * 4 - 1)  # of 6 patterns of 8 channels
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    teacher = NetworkTeacher(Counted(), ["fc"], cache=tmp_path, stimuli=stimuli())
    with pytest.raises(BrainrdlError, match=r"the patterns need .* GiB, but the disk of cache folder"):
        teacher.rdms(batch(("s0", "s1", "s2")))
    assert list(tmp_path.iterdir()) == []


# View


def test_the_view_is_clean_where_patterns_are_stored_and_otherwise_free() -> None:
    assert view_of(NetworkTeacher(Counted(), ["fc"])) == "same"
    assert view_of(NetworkTeacher(Counted(), ["fc"], view="clean")) == "clean"
    assert view_of(NetworkTeacher(Counted(), ["fc"], cache=True)) == "clean"
    assert view_of(NetworkTeacher(Counted(), ["fc"], stimuli=stimuli())) == "clean"
    for options in ({"cache": True}, {"stimuli": stimuli()}):
        with pytest.raises(BrainrdlError, match="view='same' shows a teacher the student's images"):
            NetworkTeacher(Counted(), ["fc"], view="same", **options)  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match="view 'augmented' is not known"):
        NetworkTeacher(Counted(), ["fc"], view="augmented")


# Re-initialised


def test_a_reinitialised_teacher_has_other_weights_by_seed_and_nothing_of_the_old() -> None:
    teacher = NetworkTeacher(Counted(), ["conv", "fc"], stimuli=stimuli())
    one, same, other = teacher.reinitialised(1), teacher.reinitialised(1), teacher.reinitialised(2)
    answers = [each.rdms(batch())["fc"] for each in (teacher, one, same, other)]
    assert torch.equal(answers[1], answers[2])
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[3])
    assert one.targets == teacher.targets
    assert one.name == "random Counted (seed 1)"
    check_teacher(one, batch())


def test_reinitialising_leaves_the_teacher_and_torchs_generator_alone() -> None:
    teacher = NetworkTeacher(Counted(), ["fc"])
    before, state = teacher.rdms(batch())["fc"], torch.get_rng_state()
    teacher.reinitialised(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(teacher.rdms(batch())["fc"], before)


def test_a_reinitialised_teacher_does_not_read_the_old_ones_cache() -> None:
    teacher = NetworkTeacher(Counted(), ["fc"], cache=True)
    teacher.rdms(batch())
    uncached = NetworkTeacher(Counted(), ["fc"]).reinitialised(1).rdms(batch())
    torch.testing.assert_close(teacher.reinitialised(1).rdms(batch()), uncached)


def test_parameters_no_module_can_reset_are_drawn_anew() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.arange(64.0))
            self.attend = nn.MultiheadAttention(8, 2)
            self.norm = nn.BatchNorm1d(64)
            nn.init.constant_(self.norm.running_mean, 9.0)  # type: ignore[arg-type]

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x.flatten(1) * self.token)  # type: ignore[no-any-return]

    before = Tokens()
    after = NetworkTeacher(copy.deepcopy(before), ["norm"]).reinitialised()._student.model
    assert not torch.isclose(after.token, before.token).any()  # type: ignore[arg-type]
    assert not torch.equal(after.attend.in_proj_weight, before.attend.in_proj_weight)  # type: ignore[union-attr,arg-type]
    assert after.norm.running_mean.abs().sum() == 0  # type: ignore[union-attr,operator]


def test_a_deep_random_network_still_tells_stimuli_apart() -> None:
    layers: list[nn.Module] = []
    for _ in range(20):
        layers += [nn.Linear(64, 64), nn.ReLU()]
    teacher = NetworkTeacher(nn.Sequential(nn.Flatten(), *layers), ["40"]).reinitialised(0)
    # torch's own initialisation, whose biases drown the image, leaves at most 1e-7 here: rounding.
    assert teacher.rdms(batch())["40"].max() > 1e-4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_the_network_runs_where_the_images_are() -> None:
    teacher = NetworkTeacher(Counted(), ["fc"], cache=True)
    there = teacher.rdms(Batch(NAMES, images().cuda(), None))["fc"]
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), NetworkTeacher(Counted(), ["fc"]).rdms(batch())["fc"], rtol=1e-3, atol=1e-4)
    assert teacher.rdms(batch())["fc"].device.type == "cpu"
