"""RDMs that stay in their file: the same numbers as in memory, little memory, and no file that has changed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from rsatoolbox.rdm import RDMs

from brainrdl import BrainrdlError, RDMTeacher, read
from brainrdl._core.files import write_rdms
from brainrdl.rdms.mapped import MappedPairs
from brainrdl.stimuli.named_images import Batch
from brainrdl.teachers.controls import PermutedTeacher
from brainrdl.teachers.joint_teacher import JointTeacher
from brainrdl.teachers.protocol import digest_of
from brainrdl.testing.rdm_teachers import check_teacher

N = 530  # more pairs than are read at once
NAMES = tuple(f"c{k:03}" for k in range(N))
SOME = tuple(np.random.default_rng(3).permutation(NAMES)[:520])
COMBINE = ["mean", "reliability", "sample", "all"]


def batch(names: tuple[str, ...], step: int = 0) -> Batch:
    return Batch(tuple(names), torch.zeros(len(names), 1, 2, 2), None, step)


@pytest.fixture(scope="module", params=["float32", "big-endian"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects with two sessions each, in two regions; pairs that nobody has measured are NaN."""
    rng = np.random.default_rng(0)
    shared = rng.random(N * (N - 1) // 2)
    kind = {"float32": "<f4", "big-endian": ">f8"}[request.param]
    values = (shared + 0.3 * rng.random((12, N * (N - 1) // 2))).astype(kind)
    values[:, ::1001] = np.nan
    described = {
        "subject": [f"s{k // 2 % 3}" for k in range(12)],
        "session": [k % 2 for k in range(12)],
        "roi": ["V1"] * 6 + ["IT"] * 6,
    }
    path = tmp_path_factory.mktemp("rdms") / "brain.h5"
    RDMs(values, "euclidean", {}, described, {"stimulus": list(NAMES)}).save(str(path), file_type="hdf5")
    return path


def both(file: Path, combine: str) -> tuple[RDMTeacher, RDMTeacher]:
    return tuple(
        RDMTeacher(read(file, memory_map=mapped), combine=combine, average_over="session", name="brain")
        for mapped in (False, True)
    )


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key].nan_to_num(-1), b[key].nan_to_num(-1)) for key in a)


@pytest.mark.slow
@pytest.mark.parametrize("combine", COMBINE)
def test_answers_are_those_of_the_same_rdms_in_memory_to_the_last_bit(file: Path, combine: str) -> None:
    held, mapped = both(file, combine)
    for one, other in (
        (held, mapped),
        (held.select(SOME), mapped.select(SOME)),
        (held.select(SOME, weigh_by=SOME[:50]), mapped.select(SOME, weigh_by=SOME[:50])),
        (held.only_subjects(["s2", "s0"]).select(SOME[::-1]), mapped.select(SOME[::-1]).only_subjects(["s2", "s0"])),
        (held.select(SOME).select(SOME[100:7:-1]), mapped.select(SOME).select(SOME[100:7:-1])),
    ):
        names = one.conditions[90:5:-1]
        assert same(one.rdms(batch(names, 4)), other.rdms(batch(names, 4)))
        assert digest_of(one) == digest_of(other)


def test_rdms_of_subjects_and_means_are_those_in_memory(file: Path) -> None:
    held, mapped = (teacher.select(SOME[:40]) for teacher in both(file, "mean"))
    for what in ("subject_rdms", "combined"):
        one, other = (getattr(teacher, what)("IT") for teacher in (held, mapped))
        np.testing.assert_array_equal(one.dissimilarities, other.dissimilarities)
        assert one.rdm_descriptors == other.rdm_descriptors


@pytest.mark.parametrize("combine", COMBINE)
def test_a_teacher_of_a_file_keeps_the_contract(file: Path, combine: str) -> None:
    check_teacher(both(file, combine)[1].select(SOME[:30]), batch(SOME[:12]))


def test_a_copy_in_another_process_reads_the_same_file_and_takes_no_pairs_with_it(file: Path) -> None:
    teacher = both(file, "all")[1]
    teacher.rdms(batch(SOME[:3]))
    sent = pickle.dumps(teacher)
    assert len(sent) < 200_000
    assert same(pickle.loads(sent).rdms(batch(SOME[:9])), teacher.rdms(batch(SOME[:9])))


def test_digests_of_shuffled_and_joint_teachers_follow_the_names_and_the_pairs(file: Path) -> None:
    held, mapped = both(file, "mean")
    assert digest_of(PermutedTeacher(held)) == digest_of(PermutedTeacher(mapped)) != digest_of(held)
    assert digest_of(PermutedTeacher(held, seed=1)) != digest_of(PermutedTeacher(held, seed=2))
    joint = [JointTeacher({"a": held, "b": one}) for one in (held, mapped, held.only_subjects(["s0"]))]
    assert digest_of(joint[0]) == digest_of(joint[1]) != digest_of(joint[2])


@pytest.mark.parametrize("change", ["written to", "replaced", "shortened", "deleted"])
def test_a_file_that_has_changed_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "brain.h5"
    rdms = RDMs(np.random.default_rng(0).random((1, 10)), None, {}, {}, {"stimulus": list("abcde")})
    write_rdms(path, rdms)
    teacher = RDMTeacher(read(path, memory_map=True))
    teacher.rdms(batch(("a", "b", "c")))
    if change == "written to":
        with h5py.File(path, "a") as opened:
            opened["dissimilarities"][0, 0] = 7.0
        os.utime(path, ns=(1, 1))  # some file systems count time in steps of seconds
    elif change == "replaced":
        write_rdms(tmp_path / "other.h5", rdms)
        (tmp_path / "other.h5").replace(path)
    elif change == "shortened":
        os.truncate(path, 100)
    else:
        path.unlink()
    with pytest.raises(BrainrdlError, match=r"brain\.h5.*(has changed|No such file)"):
        teacher.rdms(batch(("a", "b", "d")))


def test_subjects_who_know_different_pairs_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 10))
    values[0, 3] = np.nan
    write_rdms(tmp_path / "a.h5", RDMs(values, None, {}, {"subject": ["s", "t"]}, {"stimulus": list("abcde")}))
    found = read(tmp_path / "a.h5", memory_map=True)
    with pytest.raises(BrainrdlError, match=r"different pairs.*without memory_map.*combine='all'"):
        RDMTeacher(found)
    assert RDMTeacher(found, combine="all").rdms(batch(tuple("abcde")))["rdm"].shape == (2, 10)


@pytest.mark.parametrize("layout", [{"chunks": (1, 5)}, {"compression": "gzip"}])
def test_pairs_in_pieces_are_refused_with_advice(tmp_path: Path, layout: dict) -> None:
    path = tmp_path / "a.h5"
    write_rdms(path, RDMs(np.arange(10.0)[None], None, {}, {}, {"stimulus": list("abcde")}))
    with h5py.File(path, "a") as opened:
        values = opened["dissimilarities"][()]
        del opened["dissimilarities"]
        opened.create_dataset("dissimilarities", data=values, **layout)
    with pytest.raises(BrainrdlError, match=r"one piece without compression.*RDMs\.save"):
        read(path, memory_map=True)


def test_values_that_rsatoolbox_reads_are_those_that_stay_in_the_file(file: Path) -> None:
    mapped, held = read(file, memory_map=True), read(file)
    assert isinstance(mapped.dissimilarities, MappedPairs)
    assert (mapped.rdm_descriptors, mapped.pattern_descriptors) == (held.rdm_descriptors, held.pattern_descriptors)
    np.testing.assert_array_equal(mapped.dissimilarities, held.dissimilarities)
    assert mapped.dissimilarity_measure == held.dissimilarity_measure


PEAK = """
import resource, sys
import numpy as np, torch, rsatoolbox.rdm
from brainrdl import RDMTeacher, read
from brainrdl.stimuli import Batch

def data():  # memory of this process that no file backs
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024

read(sys.argv[2], memory_map=True)
room = 80e6  # bytes
resource.setrlimit(resource.RLIMIT_DATA, (int(data() + room),) * 2)
rdms = read(sys.argv[1], memory_map=sys.argv[3] == "mapped")
teacher = RDMTeacher(rdms, combine="reliability")
names = teacher.conditions
kept = teacher.select(names[::-4])
kept.digest()
for step in range(5):
    asked = kept.conditions[step::17][:64]
    kept.rdms(Batch(asked, torch.zeros(len(asked), 1, 1, 1), None, step))
print(rdms.dissimilarities.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of data")
@pytest.mark.parametrize("how", ["mapped", "in memory"])
def test_an_rdm_that_is_four_times_larger_than_the_memory_can_teach(tmp_path: Path, how: str) -> None:
    n = 6500
    values = np.random.default_rng(0).random((2, n * (n - 1) // 2))
    described = {"subject": list("ab")}
    for size, name in ((n, "large.h5"), (5, "small.h5")):
        part = values[:, : size * (size - 1) // 2]
        found = RDMs(part, None, {}, dict(described), {"stimulus": [f"c{k}" for k in range(size)]})
        found.save(str(tmp_path / name), file_type="hdf5")
    run = [sys.executable, "-c", PEAK, str(tmp_path / "large.h5"), str(tmp_path / "small.h5"), how]
    done = subprocess.run(run, capture_output=True, text=True)
    if how == "mapped":
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 4 * 80e6
    else:
        assert done.returncode != 0, "the limit of memory limits nothing"
