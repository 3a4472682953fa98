"""Compare any two sets of RDMs, paired by condition name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from brainrdl._core.errors import check_option, refuse
from brainrdl._core.given_values import as_text
from brainrdl.evaluation.options import COMPARATORS
from brainrdl.inference.pairwise import comparison_of
from brainrdl.rdms import by_name, conversion
from brainrdl.similarity.registry import SIMILARITIES

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def compare(
    a: RDMs, b: RDMs, comparators: Sequence[str] = COMPARATORS, *, by: str = "stimulus", common: bool = False
) -> pd.DataFrame:
    """Compare every RDM of `a` with every RDM of `b`; conditions are paired by name.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        RDMs of the same conditions, in any order.
    comparators : sequence of str
        Names of `brainrdl.similarity.SIMILARITIES`.
    by : str
        Pattern descriptor that names the conditions.
    common : bool
        Compare on the common conditions; by default, RDMs of different conditions are refused.

    Returns
    -------
    pandas.DataFrame
        Columns a, b (names of the RDMs), comparator, similarity (NaN if it is undefined: too few pairs are known in
        both, or an RDM is constant on them), n_pairs (pairs known in both).

    Raises
    ------
    BrainrdlError
        If the conditions differ, a comparator is unknown, or `a` or `b` are not RDMs.

    Examples
    --------
    >>> from brainrdl import compare, rdms
    >>> a = rdms.from_array([0.1, 0.9, 0.8], ["cat", "dog", "car"])
    >>> b = rdms.from_array([0.9, 0.8, 0.1], ["car", "cat", "dog"])  # the same RDM in another order
    >>> compare(a, b, ["corr"]).similarity.round(6).tolist()
    [1.0]
    """
    for comparator in comparators:
        check_option(comparator, SIMILARITIES, "comparator")
    for rdms in (a, b):
        _check_rdms(rdms)
    a, b = by_name.align(a, b, by, common=common)
    rows_a, rows_b = (conversion.to_tensor(rdms, by=by, dtype=torch.float64) for rdms in (a, b))
    return pd.DataFrame(
        {
            "a": name_a,
            "b": name_b,
            "comparator": comparator,
            "similarity": float(comparison_of(comparator)(row_a, row_b)),
            "n_pairs": int((~(row_a + row_b).isnan()).sum()),
        }
        for name_a, row_a in zip(rdm_labels(a), rows_a, strict=True)
        for name_b, row_b in zip(rdm_labels(b), rows_b, strict=True)
        for comparator in comparators
    )


def _check_rdms(given: object) -> None:
    if isinstance(given, str | Path):
        refuse(f"compare expects RDMs, got the path {str(given)!r}; read it first: brainrdl.read({str(given)!r})")
    if not hasattr(given, "dissimilarities"):
        refuse(f"compare expects rsatoolbox RDMs, got {type(given).__name__}; see brainrdl.rdms.from_array")


def rdm_labels(rdms: RDMs) -> list[str]:
    """Short name of each RDM: its descriptors' values joined, or its number.

    Examples
    --------
    >>> from brainrdl import rdms
    >>> rdm_labels(rdms.from_array([[1, 2, 3], [3, 2, 1]], list("abc"), descriptors={"subject": ["s1", "s2"]}))
    ['s1', 's2']
    """
    described = {key: values for key, values in rdms.rdm_descriptors.items() if key != "index"}
    if "name" in described:
        described = {"name": described["name"]}
    rows = zip(*described.values(), strict=True) if described else ((str(k),) for k in range(rdms.n_rdm))
    return [" ".join(as_text(value) for value in row if str(value)) for row in rows]
