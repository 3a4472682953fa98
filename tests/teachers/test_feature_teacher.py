"""FeatureTeacher: RDMs of given patterns, from arrays and files, computed for each batch."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm
from torch import nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli.named_images import Batch, Stimuli
from brainrdl.teachers.controls import control
from brainrdl.teachers.feature_teacher import FeatureTeacher
from brainrdl.testing.rdm_teachers import check_teacher

NAMES = tuple("abcdef")


def patterns(n: int = 6, n_channels: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, n_channels))


def dataset(values: np.ndarray, names: tuple[str, ...] = NAMES, **descriptors: str) -> Dataset:
    return Dataset(values, descriptors=descriptors, obs_descriptors={"stimulus": list(names)})


def batch(names: tuple[str, ...] = NAMES) -> Batch:
    return Batch(names, torch.zeros(len(names), 1, 2, 2), None)


def expected(values: np.ndarray, method: str = "correlation") -> torch.Tensor:
    return torch.from_numpy(calc_rdm(Dataset(values), method=method).dissimilarities).float()


def test_feature_teachers_keep_the_contract() -> None:
    check_teacher(FeatureTeacher(patterns(), names=NAMES), batch())
    both = {"V1": patterns(), "IT": patterns(n_channels=3, seed=1)}
    check_teacher(FeatureTeacher(both, names=NAMES, dissimilarity="euclidean"), batch())
    check_teacher(control("permuted", teacher=FeatureTeacher(both, names=NAMES), seed=1), batch())


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_rdms_are_those_of_rsatoolbox(method: str) -> None:
    found = FeatureTeacher(patterns(), names=NAMES, dissimilarity=method).rdms(batch(("f", "b", "a", "d")))
    torch.testing.assert_close(found["features"], expected(patterns()[[5, 1, 0, 3]], method))


def test_targets_are_matched_by_name_whatever_the_order_of_their_rows() -> None:
    shuffled = [3, 0, 5, 1, 2, 4]
    second = dataset(patterns(seed=1)[shuffled], tuple(NAMES[i] for i in shuffled), roi="IT")
    teacher = FeatureTeacher([dataset(patterns(), roi="V1"), second])
    assert teacher.targets == ("V1", "IT")
    torch.testing.assert_close(teacher.rdms(batch())["IT"], expected(patterns(seed=1)))


def test_tensors_of_any_precision_can_be_used() -> None:
    values = torch.from_numpy(patterns())
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        found = FeatureTeacher(values.to(kind), names=NAMES).rdms(batch())["features"]
        torch.testing.assert_close(found, expected(values.to(kind).double().numpy()), atol=1e-6, rtol=1e-5)


def test_a_large_offset_of_float64_features_is_no_loss_of_precision() -> None:
    found = FeatureTeacher(patterns() + 1e5, names=NAMES, dissimilarity="euclidean").rdms(batch())["features"]
    torch.testing.assert_close(found, expected(patterns(), "euclidean"), atol=1e-5, rtol=1e-5)


def test_positions_are_pooled_with_the_channels_first() -> None:
    maps = np.random.default_rng(0).random((6, 4, 3, 3))
    pooled = FeatureTeacher(maps, names=NAMES, pool="avgpool").rdms(batch())["features"]
    torch.testing.assert_close(pooled, expected(maps.mean((2, 3))))
    torch.testing.assert_close(
        FeatureTeacher(maps, names=NAMES).rdms(batch())["features"], expected(maps.reshape(6, -1))
    )


# Files


def test_npy_files_are_mapped_and_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "it.npy", patterns().astype(np.float32))
    teacher = FeatureTeacher(tmp_path / "it.npy", names=NAMES)
    assert isinstance(teacher._tables["features"].rows, np.memmap)
    assert teacher.name == "it"
    torch.testing.assert_close(teacher.rdms(batch())["features"], expected(patterns()), atol=1e-5, rtol=1e-5)


def test_files_are_read_by_the_readers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", patterns=patterns(), names=NAMES)
    np.save(tmp_path / "a.npy", patterns())
    dataset(patterns(), roi="IT").save(str(tmp_path / "a.h5"), file_type="hdf5")
    rows = "\n".join(f"{name},{','.join(map(str, row))}" for name, row in zip(NAMES, patterns(), strict=True))
    (tmp_path / "a.csv").write_text(f"stimulus,{','.join('uvwxy')}\n{rows}\n")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    for file, names in (("a.npz", None), ("a.h5", None), ("a.csv", None), ("a.npy", tmp_path / "names.txt")):
        found = FeatureTeacher(tmp_path / file, names=names).rdms(batch())
        torch.testing.assert_close(*found.values(), expected(patterns()), atol=1e-5, rtol=1e-5)
    both = FeatureTeacher({"V1": tmp_path / "a.npz", "IT": tmp_path / "a.h5"})
    torch.testing.assert_close(both.rdms(batch())["V1"], both.rdms(batch())["IT"])


def test_fifty_thousand_conditions_need_the_memory_of_a_batch(tmp_path: Path) -> None:
    names = [f"image {i}" for i in range(50_000)]
    mapped = np.lib.format.open_memmap(tmp_path / "f.npy", mode="w+", dtype=np.float32, shape=(50_000, 64))
    mapped[:] = np.random.default_rng(0).random((50_000, 64), dtype=np.float32)
    teacher = FeatureTeacher(tmp_path / "f.npy", names=names)
    teacher.rdms(batch(tuple(names[:128])))
    tracemalloc.start()
    teacher.rdms(batch(tuple(names[::400])))
    teacher.identity(names)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


# Members that the trainer uses


def test_select_keeps_order_and_forgets_the_rest() -> None:
    kept = FeatureTeacher(patterns(), names=NAMES).select("dba")
    assert kept.conditions == ("d", "b", "a")
    with pytest.raises(BrainrdlError, match=r"conditions \['c'\] are not in teacher 'features'"):
        kept.rdms(batch(("a", "b", "c")))
    with pytest.raises(BrainrdlError, match="kept of teacher 'features'"):
        FeatureTeacher(patterns(), names=NAMES).select("ab", weigh_by="c")


def test_identity_depends_on_the_patterns_of_the_names_alone() -> None:
    changed = patterns()
    changed[5] += 1
    one, other = FeatureTeacher(patterns(), names=NAMES), FeatureTeacher(changed, names=NAMES)
    assert one.identity("abc") == other.identity("abc")
    assert one.identity(NAMES) != other.identity(NAMES)
    assert one.identity("abc") != FeatureTeacher(patterns(), names=NAMES, dissimilarity="euclidean").identity("abc")


def test_a_student_is_fitted_to_features_of_several_targets() -> None:
    from brainrdl import Student, fit

    stimuli = Stimuli.from_arrays(torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0)), NAMES)
    torch.manual_seed(0)
    student = Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), {"1": "IT"})
    teacher = FeatureTeacher({"IT": patterns(), "V1": patterns(seed=1)}, names=NAMES)
    result = fit(student, teacher, stimuli, steps=60, lr=0.05, device="cpu", progress=False)
    reached = np.corrcoef(result.student.rdms(stimuli).dissimilarities[0], expected(patterns())[0])[0, 1]
    assert reached > 0.9


# Refusals


@pytest.mark.parametrize(
    ("features", "options", "words"),
    [
        (patterns(), {}, "an array has no names of conditions: give names=, one per row"),
        (patterns(), {"names": "abcde"}, "names= is .abcde., which is neither"),
        (patterns(), {"names": list("abcde")}, "5 names for 6 rows"),
        (patterns(), {"names": list("aabcde")}, r"more than one row for \['a'\].*average repetitions first"),
        (patterns(), {"names": NAMES, "variable": "x"}, r"options \['variable'\] are for the reader of a file"),
        (patterns(), {"names": NAMES, "pool": "avgpol"}, "pool 'avgpol' is not known"),
        (patterns(), {"names": NAMES, "dissimilarity": "crossnobis"}, "needs patterns of several runs"),
        (patterns()[:, 0], {"names": NAMES}, r"must be numbers \(n, n_channels\), got float64 of shape \(6,\)"),
        (np.array([["x"]]), {"names": ["a"]}, "features must hold real numbers, got dtype <U1"),
        ({}, {}, "there are no features"),
        ({"V1": patterns(), "IT": dataset(patterns(), tuple("abcdeg"))}, {"names": None}, "no names of conditions"),
        ([dataset(patterns()), dataset(patterns())], {}, "each must have a different one"),
        ({"IT": [dataset(patterns(), roi="a"), dataset(patterns(), roi="b")]}, {}, "should be one array"),
        (dataset(patterns()), {"by": "stimuli"}, "no observation descriptor 'stimuli'"),
    ],
)
def test_features_that_cannot_be_used_are_refused(features: object, options: dict, words: str) -> None:
    with pytest.raises(BrainrdlError, match=words):
        FeatureTeacher(features, **options)


def test_targets_with_different_conditions_are_refused() -> None:
    with pytest.raises(BrainrdlError, match=r"'V1' and 'IT' .* different conditions: \['f', 'g'\]"):
        FeatureTeacher({"V1": dataset(patterns()), "IT": dataset(patterns(), tuple("abcdeg"))})


def test_patterns_without_an_rdm_are_refused_when_they_are_asked_for() -> None:
    values = patterns()
    values[1], values[4, 0] = 2.0, np.nan
    teacher = FeatureTeacher(values, names=NAMES)
    with pytest.raises(BrainrdlError, match=r"condition 'b' has a constant pattern .* choose another target"):
        teacher.rdms(batch(("a", "b", "c", "d")))
    with pytest.raises(BrainrdlError, match="1 of 20 values are NaN or Inf in the patterns of target 'features'"):
        teacher.rdms(batch(("a", "e", "c", "d")))
    with pytest.raises(BrainrdlError, match="a"):
        teacher.rdms(batch(("a", "a", "c", "d")))


def test_damaged_and_pickled_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    for file in ("cut.npy", "objects.npy"):
        with pytest.raises(BrainrdlError, match=rf"{file}.*cannot be read as an array of numbers"):
            FeatureTeacher(tmp_path / file, names=["a"])
