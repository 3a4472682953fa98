"""Each conformance check passes what brainrdl brings and fails what breaks the contract.

See also test_dissimilarity.py, test_teachers.py and test_readers.py, where every point of a contract is broken once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from brainrdl import BrainrdlError, RDMTeacher, rdms
from brainrdl.dissimilarity.measures import euclidean, traits_of
from brainrdl.dissimilarity.registry import DISSIMILARITIES
from brainrdl.readers.reading import find_readers
from brainrdl.stimuli.named_images import Batch
from brainrdl.testing.dissimilarities import check_dissimilarity
from brainrdl.testing.file_readers import check_reader
from brainrdl.testing.rdm_teachers import check_teacher

NAMES = tuple("abcdef")
OF_PATTERNS = {
    name
    for name in DISSIMILARITIES
    if name != "mahalanobis" and not traits_of(name).cross_validated and traits_of(name).differentiable
}


def _teacher() -> RDMTeacher:
    return RDMTeacher(rdms.from_array(np.random.default_rng(0).random((1, 15)), NAMES))


def _batch() -> Batch:
    return Batch(NAMES, torch.rand(6, 1, 4, 4))


@pytest.mark.parametrize("name", sorted(OF_PATTERNS))
def test_dissimilarities_of_brainrdl_conform(name: str) -> None:
    check_dissimilarity(DISSIMILARITIES[name])


def test_dissimilarity_in_another_pair_order_is_caught() -> None:
    with pytest.raises(BrainrdlError):
        check_dissimilarity(lambda x: euclidean(x).flip(-1))


def test_dissimilarity_whose_gradient_is_not_finite_at_duplicates_is_caught() -> None:
    with pytest.raises(BrainrdlError, match="NaN or Inf, in value or gradient, with duplicate"):
        check_dissimilarity(lambda x: euclidean(x).sqrt())


def test_teacher_of_brainrdl_conforms() -> None:
    check_teacher(_teacher(), _batch())


def test_teacher_that_answers_by_position_is_caught() -> None:
    class ByPosition:
        name, targets = "by position", ("rdm",)

        def rdms(self, batch: Batch) -> dict[str, torch.Tensor]:
            n = len(batch.names)
            return {"rdm": torch.arange(n * (n - 1) / 2)[None]}

    with pytest.raises(BrainrdlError, match="by position"):
        check_teacher(ByPosition(), _batch())


def test_reader_of_brainrdl_conforms_and_one_that_takes_every_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "rdms.npz"
    np.savez(path, rdms=np.random.default_rng(0).random((2, 15)), names=NAMES)
    reader = find_readers()["numpy"]
    check_reader(reader, path)

    class Greedy:
        name, layout = "greedy", "anything"
        read = staticmethod(reader.read)

        def sniff(self, path: Path) -> bool:
            return True

    with pytest.raises(BrainrdlError, match="greedy"):
        check_reader(Greedy(), path)
