"""An RDM that is written while it is computed: the numbers are those in memory, and the pairs need no memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.rdm import load_rdm

from brainrdl import BrainrdlError, RDMTeacher, calc_rdm, read
from brainrdl._core import progress
from brainrdl.dissimilarity.blockwise import IN_BLOCKS, dissimilarity_blocks
from brainrdl.dissimilarity.measures import DISSIMILARITIES, Mahalanobis

N, CHANNELS = 1500, 7  # more pairs than are computed at once
NAMES = [f"Käse {k}" for k in range(N)]


def data(n_observations: int = N, seed: int = 0) -> Dataset:
    measured = np.random.default_rng(seed).poisson(4, (n_observations, CHANNELS)).astype(float)
    order = np.random.default_rng(1).permutation(n_observations)
    columns = {"stimulus": [NAMES[k % N] for k in order], "animate": [bool(k % N % 2) for k in order]}
    return Dataset(measured, descriptors={"roi": "IT", "subject": "s1"}, obs_descriptors=columns)


@pytest.mark.parametrize(
    ("measure", "noise"),
    [
        *((name, None) for name in IN_BLOCKS if name != "mahalanobis"),
        ("mahalanobis", "shrinkage_eye"),
        ("mahalanobis", "diag"),
        ("correlation", "full"),
    ],
)
def test_the_file_holds_what_is_computed_in_memory(tmp_path: Path, measure: str, noise: str | None) -> None:
    given = data(2 * N if noise else N)
    held, written = calc_rdm(given, measure, noise=noise), calc_rdm(given, measure, noise=noise, out=tmp_path / "a.h5")
    again = read(tmp_path / "a.h5")
    for found in (written, again, load_rdm(str(tmp_path / "a.h5"))):
        np.testing.assert_array_equal(found.dissimilarities, held.dissimilarities.astype(np.float32))
    for found in (written, again):
        assert found.dissimilarity_measure == held.dissimilarity_measure
        assert found.rdm_descriptors == held.rdm_descriptors
        assert {key: list(column) for key, column in found.pattern_descriptors.items()} == held.pattern_descriptors


@pytest.mark.parametrize("name", IN_BLOCKS)
def test_blocks_are_those_of_the_dissimilarity(name: str) -> None:
    x = torch.rand(N, CHANNELS, dtype=torch.float64)
    precision = torch.diag(torch.rand(CHANNELS, dtype=torch.float64) + 1)
    measure = Mahalanobis(precision) if name == "mahalanobis" else DISSIMILARITIES[name]
    blocks = list(dissimilarity_blocks(x, name, precision if name == "mahalanobis" else None))
    assert len(blocks) > 1
    assert [part.start for part, _ in blocks] == [0, *(part.stop for part, _ in blocks[:-1])]
    torch.testing.assert_close(torch.cat([found for _, found in blocks]), measure(x), rtol=1e-11, atol=1e-13)


def test_an_rdm_teaches_from_the_file_that_was_just_written(tmp_path: Path) -> None:
    teacher = RDMTeacher(calc_rdm(data(), out=tmp_path / "a.h5"))
    assert (teacher.targets, teacher.subjects, len(teacher.conditions)) == (("IT",), ("s1",), N)


def test_progress_counts_the_pairs_that_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    monkeypatch.setattr(progress, "_BETWEEN", 0.0)
    calc_rdm(data(), out=tmp_path / "a.h5")
    n_pairs, lines = N * (N - 1) // 2, capsys.readouterr().err.splitlines()
    done = [int(line.removeprefix("pairs of conditions: ").split(" of ")[0]) for line in lines]
    assert len(done) > 1
    assert done == sorted(done)
    assert lines[-1] == f"pairs of conditions: {n_pairs} of {n_pairs}, done"
    calc_rdm(data(), out=tmp_path / "b.h5", progress=False)
    assert capsys.readouterr().err == ""


def test_what_cannot_be_written_while_it_is_computed_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    movie = TemporalDataset(np.ones((4, 3, 2)), obs_descriptors={"stimulus": list("abcd")})
    for given, options, message in (
        ([data(), data()], {}, "one dataset without time"),
        (movie, {}, "one dataset without time"),
        (data(), {"dissimilarity": "crossnobis"}, "got 'crossnobis'"),
        (data(), {"dissimilarity": len}, "got <built-in function len>"),
        (data(), {"noise": "diag", "noise_per": "run"}, "one noise precision for all data"),
        (data(), {"dissimilarity": "mahalanobis"}, "'mahalanobis' needs noise="),
        (data(), {"dissimilarity": "poisson", "noise": "diag"}, "whitened counts are not counts"),
        (data(2), {}, "there are 2 conditions"),
    ):
        with pytest.raises(BrainrdlError, match=message):
            calc_rdm(given, out=out, **options)
    assert not list(tmp_path.iterdir())


def test_a_constant_rdm_is_refused(tmp_path: Path) -> None:
    flat = Dataset(np.eye(4), obs_descriptors={"stimulus": list("abcd")})
    with pytest.raises(BrainrdlError, match="is constant"):
        calc_rdm(flat, "euclidean", out=tmp_path / "a.h5")


PEAK = """
import resource, sys
import numpy as np, rsatoolbox.data, rsatoolbox.rdm, scipy.sparse, h5py, torch
from brainrdl import calc_rdm

def data():  # memory of this process that no file backs
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024

def dataset(n):
    names = [f"c{k}" for k in range(n)]
    return rsatoolbox.data.Dataset(np.random.default_rng(0).random((n, 16)), obs_descriptors={"stimulus": names})

given = dataset(13_000)
calc_rdm(dataset(2500), out=sys.argv[1] + "/small.h5")
resource.setrlimit(resource.RLIMIT_DATA, (int(data() + 120e6),) * 2)
calc_rdm(given, out=sys.argv[1] + "/large.h5" if sys.argv[2] == "written" else None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of data")
@pytest.mark.parametrize("how", ["written", pytest.param("in memory", marks=pytest.mark.slow)])
def test_the_pairs_need_no_memory(tmp_path: Path, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path), how], capture_output=True, text=True)
    if how == "written":
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "large.h5").stat().st_size > 2.5 * 120e6
    else:
        assert done.returncode != 0, "the limit of memory limits nothing"
