"""RDMs of thousands of conditions need little memory beside their values; measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

PREPARE = """
import numpy as np, pandas, rsatoolbox.data, rsatoolbox.rdm, scipy.sparse, torch
from brainrdl import RDMTeacher, calc_rdm
from brainrdl.rdms import select
from brainrdl.rdms.by_name import joined_rdms
from brainrdl.stimuli import Batch

def peak():
    # the peak of this program; ru_maxrss of a new process begins at the peak of the process that started it
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

n, n_subjects = 3000, 8
names = [f"c{k}" for k in range(n)]
rng = np.random.default_rng(0)
"""
SUBJECTS = """
values = rng.random((n_subjects, n * (n - 1) // 2), dtype=np.float64)
subjects = {"subject": [f"s{k}" for k in range(n_subjects)]}
rdms = joined_rdms(values, measure=None, rdm_descriptors=subjects, pattern_descriptors={"stimulus": names})
"""


def peak_of(*code: str) -> float:
    """Run code in another process, and return what it prints last."""
    done = subprocess.run([sys.executable, "-c", "\n".join([PREPARE, *code])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.parametrize(
    ("combine", "gaps"),
    [
        ("reliability", True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [("mean", False), ("mean", True), ("all", False)]),
    ],
)
def test_a_teacher_needs_at_most_twice_the_float32_size_of_its_rdms(combine: str, gaps: bool) -> None:
    ratio = peak_of(
        SUBJECTS,
        "values[np.arange(8), np.arange(8)] = np.nan" if gaps else "",
        "before = peak()",
        f"teacher = RDMTeacher(rdms, combine={combine!r})",
        "teacher.rdms(Batch(tuple(names[:100]), torch.zeros(100, 1, 1, 1), None, step=0))",
        "print((peak() - before) / (values.size * 4))",
    )
    assert ratio <= 2


@pytest.mark.slow
def test_an_rdm_needs_at_most_two_and_a_half_times_its_size_to_be_computed() -> None:
    ratio = peak_of(
        "n = 6000",
        "names = [f'c{k}' for k in range(n)]",
        "data = rsatoolbox.data.Dataset(rng.normal(size=(n, 64)), obs_descriptors={'stimulus': names})",
        "before = peak()",
        "rdms = calc_rdm(data)",
        "print((peak() - before) / rdms.dissimilarities.nbytes)",
    )
    assert ratio <= 2.5


@pytest.mark.slow
def test_a_selection_needs_little_more_than_its_values() -> None:
    ratio = peak_of(
        SUBJECTS,
        "before = peak()",
        "chosen = select(rdms, names[::-1])",
        "print((peak() - before) / chosen.dissimilarities.nbytes)",
    )
    assert ratio <= 1.5
