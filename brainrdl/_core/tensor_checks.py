"""Checks of tensors: shapes, lengths and finite values, refused in the words of `brainrdl._core.errors`."""

from __future__ import annotations

import torch
from torch import Tensor

from brainrdl._core.errors import refuse


def check_same_length(a: Tensor, b: Tensor, what: str) -> None:
    """Refuse two tensors whose last dimension differs: broadcasting there would be silent and wrong.

    Raises
    ------
    BrainrdlError
        If the last dimensions differ; both shapes are quoted.
    """
    if a.shape[-1] != b.shape[-1]:
        refuse(f"{what} must have the same number of pairs, got shapes {tuple(a.shape)} and {tuple(b.shape)}")


def check_ndim(x: Tensor, at_least: int, what: str, expected: str) -> None:
    """Refuse a tensor with fewer dimensions than `at_least`; `expected` words the shape that is wanted.

    Raises
    ------
    BrainrdlError
        If ``x.ndim < at_least``; the shape is quoted.
    """
    if x.ndim < at_least:
        refuse(f"{what} must have shape {expected}, got {tuple(x.shape)}")


def check_finite(x: Tensor, where: str) -> None:
    """Refuse NaN or Inf in `where`.

    Raises
    ------
    BrainrdlError
        If any entry is not finite; the number of such entries is given.
    """
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        refuse(f"{bad} of {x.numel()} values are NaN or Inf in {where}; remove or repair them first")
