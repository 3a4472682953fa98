"""The same numbers give the same answer, in whatever type they come; the oracle is the call with float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import RDMs
from rsatoolbox.rdm.rdms import concat
from torch import nn

import brainrdl
from brainrdl import BrainrdlError, FeatureTeacher, RDMTeacher, Stimuli, Student, rdms
from brainrdl.dissimilarity.measures import cosine
from brainrdl.inference import corrected, latency, sign_flip_test
from brainrdl.searchlights import surface_neighbourhoods
from brainrdl.stimuli import Batch

NAMES = ["a", "b", "c", "d", "e", "f"]
WHOLE = np.random.default_rng(0).integers(0, 100, (6, 8))
TYPES: dict[str, Callable[[np.ndarray], Any]] = {
    "int8": lambda x: x.astype("i1"),
    "uint8": lambda x: x.astype("u1"),
    "int64": lambda x: x.astype("i8"),
    "float16": lambda x: x.astype("f2"),
    "big-endian": lambda x: x.astype(">f8"),
    "Fortran": np.asfortranarray,
    "flipped": lambda x: x[:, ::-1].astype(float).copy()[:, ::-1],
    "long": lambda x: x.astype(np.longdouble),
}
each_type = pytest.mark.parametrize("given", [TYPES[name](WHOLE) for name in TYPES], ids=list(TYPES))


def calculated(values: Any) -> np.ndarray:
    return brainrdl.calc_rdm(Dataset(values, obs_descriptors={"stimulus": NAMES}), "euclidean").dissimilarities


@each_type
def test_rdms_do_not_depend_on_the_type_of_the_measurements(given: Any) -> None:
    np.testing.assert_allclose(calculated(given), calculated(WHOLE.astype(float)), rtol=1e-12)


@each_type
def test_tests_over_subjects_do_not_depend_on_the_type_of_the_values(given: Any) -> None:
    found, expected = sign_flip_test(given), sign_flip_test(WHOLE.astype(float))
    np.testing.assert_array_equal(found.p, expected.p)
    np.testing.assert_allclose(found.value, expected.value)


@pytest.mark.parametrize("kind", ["i4", "u4", "i8", ">f8", "f8"])
def test_features_of_large_numbers_are_not_rounded(kind: str) -> None:
    teacher = FeatureTeacher((WHOLE + 2**25).astype(kind), names=NAMES, dissimilarity="euclidean")
    found = teacher.rdms(Batch(tuple(NAMES), torch.zeros(6, 1)))["features"]
    np.testing.assert_allclose(found.numpy(), calculated(WHOLE.astype(float)), rtol=1e-12)


def test_masked_values_are_unknown() -> None:
    held = np.array([[0.1, 0.2], [0.3, -9.0], [0.2, 0.1], [0.2, 0.3]])
    known = np.where(held == -9, np.nan, held)
    masked, table = np.ma.masked_values(held, -9.0), pd.DataFrame(known).convert_dtypes()
    for given in (masked, table):
        np.testing.assert_array_equal(sign_flip_test(given).value, sign_flip_test(known).value)
    measured = np.ma.array(WHOLE.astype(float), mask=np.eye(6, 8, dtype=bool))
    with pytest.raises(BrainrdlError, match="contain NaN or Inf"):
        calculated(measured)


@pytest.mark.parametrize("similarity", [True, 9])
def test_similarities_may_be_whole_numbers(similarity: bool | int, tmp_path: Path) -> None:
    counts = np.array([[9, 1, 2], [1, 9, 3], [2, 3, 9]])
    np.save(tmp_path / "counts.npy", counts)
    for found in (
        rdms.from_array(counts, list("abc"), similarity=similarity, diagonal=True),
        brainrdl.read(tmp_path / "counts.npy", names=list("abc"), similarity=similarity),
    ):
        assert found.dissimilarities.tolist() == [[8, 7, 6]]


def test_whole_numbers_are_the_same_subject_with_and_without_a_decimal_point() -> None:
    pairs = np.random.default_rng(0).random((2, 3, 6))
    sessions = [
        rdms.from_array(rows, list("abcd"), descriptors={"subject": subjects, "session": [session] * 3})
        for rows, subjects, session in zip(pairs, ([1, 2, 3], [1.0, 2.0, 3.0]), ("one", "two"), strict=True)
    ]
    teacher = RDMTeacher(concat(sessions), average_over="session")
    assert teacher.subjects == ("1", "2", "3")
    assert teacher.targets == ("rdm",)


@pytest.mark.parametrize("names", [[1.0, 2.0, 3.0], np.array([1.0, 2, 3]), torch.arange(1, 4), pd.Series([1.0, 2, 3])])
def test_whole_numbers_are_names_without_a_decimal_point(names: Any) -> None:
    assert rdms.from_array([0.1, 0.2, 0.3], names).pattern_descriptors["stimulus"] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_a_latency_may_be_at_the_end_of_its_window(kind: str) -> None:
    times = np.round(np.linspace(-0.1, 0.5, 61), 2).astype(kind)
    courses = np.exp(-((times - 0.2) ** 2) / 0.005) + 0.01 * np.random.default_rng(0).normal(size=(5, 61))
    assert latency(courses, times, "peak", window=(0.1, 0.2)).value == pytest.approx(0.2)


def test_inputs_of_another_type_than_the_weights_are_refused_with_a_remedy() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 5))
    shown = Stimuli.from_inputs(np.random.default_rng(0).random((6, 8)), NAMES)
    with pytest.raises(BrainrdlError, match=r"dtype.*; give the inputs the type of .* inputs.astype\(np.float32\)"):
        Student(network, ["1"]).rdms(shown, NAMES)
    assert Student(network.double(), ["1"]).rdms(shown, NAMES).n_cond == 6


def test_small_differences_of_raw_signals_are_kept_in_single_precision() -> None:
    random = np.random.default_rng(0)
    raw = 1e4 + 2000 * random.normal(size=500) + 10 * random.normal(size=(30, 500))
    names = tuple(map(str, range(30)))
    opposite = raw * np.where(np.arange(30) % 2, 1, -1)[:, None]  # two tight groups
    for given in (raw.astype("f4"), raw.round().astype("i2"), opposite.astype("f4")):
        found = FeatureTeacher(given, names=names, dissimilarity="cosine").rdms(Batch(names, torch.zeros(30, 1)))
        exact = cosine(torch.tensor(given.astype(float)))
        torch.testing.assert_close(found["features"][0].double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", [int, float])
def test_long_numbers_stay_different_subjects(kind: type) -> None:
    subjects = [2**52, 2**52 + 1] if kind is float else [20240101123456789, 20240101123456790]
    given = rdms.from_array(np.random.default_rng(0).random((2, 6)), list("abcd"), descriptors={"subject": subjects})
    assert len(RDMTeacher(given).subjects) == 2
    assert rdms.groups(given).subjects[0] == str(subjects[0])


def test_object_columns_of_numbers_are_numbers() -> None:
    table = pd.DataFrame({"a": [1, None, 3], "b": [0.5, 1, 2]}, dtype=object)
    np.testing.assert_array_equal(sign_flip_test(table).value, [2, 3.5 / 3])
    assert corrected([0.01, None, 0.03], "none")[0] == 0.01


def test_numbers_are_looked_up_as_they_are_named() -> None:
    given = rdms.from_array([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], descriptors={"subject": [1.0]})
    assert rdms.select(given, [3.0, 1.0, 2.0]).dissimilarities.tolist() == [[0.2, 0.3, 0.1]]
    assert rdms.alignment([1.0, 2.0], rdms.names(given)).common == ("1", "2")
    assert RDMTeacher(given).only_subjects([1.0]).subjects == ("1",)
    measured = Dataset(
        np.random.default_rng(0).normal(size=(6, 4)),
        obs_descriptors={"stimulus": ["a", "b", "c"] * 2, "run": [1.0] * 3 + [2.0] * 3},
    )
    precision = {1.0: np.eye(4), 2: np.eye(4)}
    found = brainrdl.calc_rdm(measured, "crossnobis", noise=precision)
    np.testing.assert_allclose(
        found.dissimilarities, brainrdl.calc_rdm(measured, "crossnobis", noise=np.eye(4)).dissimilarities
    )


def test_masked_rdms_and_inputs_are_unknown() -> None:
    pairs = np.ma.masked_equal(np.array([[0.1, -9.0, 0.3, 0.4, 0.5, 0.6]]), -9.0)
    given = RDMs(pairs, pattern_descriptors={"stimulus": list("abcd")})
    answer = RDMTeacher(given).rdms(Batch(tuple("abcd"), torch.zeros(4, 1)))["rdm"]
    assert answer.isnan().sum() == rdms.to_table(given)["dissimilarity"].isna().sum() == 1
    assert brainrdl.compare(given, given, ["corr"])["n_pairs"].tolist() == [5]
    with pytest.raises(BrainrdlError, match="NaN or Inf"):
        Stimuli.from_inputs(np.ma.masked_less(WHOLE.astype(float), 5), NAMES)


def test_a_mask_of_whole_numbers_is_not_taken_for_vertices() -> None:
    points = np.random.default_rng(0).normal(size=(12, 3))
    faces = np.array([[k, (k + 1) % 12, (k + 2) % 12] for k in range(12)])
    mask = np.arange(12) < 6
    assert len(surface_neighbourhoods((points, faces), rings=1, centres=mask).centres) == 6
    with pytest.raises(BrainrdlError, match=r"10 of 12 centres are repeated; for a mask .*astype\(bool\)"):
        surface_neighbourhoods((points, faces), rings=1, centres=mask.astype(int))
