"""Checks of tensors: shapes, lengths and finite values."""

from __future__ import annotations

import torch
from torch import Tensor

from brainrdl._core.errors import refuse


def check_same_length(a: Tensor, b: Tensor, what: str) -> None:
    """Refuse two tensors whose last dimensions differ, because broadcasting would give wrong results silently.

    Raises
    ------
    BrainrdlError
        If the last dimensions differ; the message quotes both shapes.
    """
    if a.shape[-1] != b.shape[-1]:
        refuse(f"{what} must have the same number of pairs, got shapes {tuple(a.shape)} and {tuple(b.shape)}")


def check_ndim(x: Tensor, at_least: int, what: str, expected: str) -> None:
    """Refuse a tensor with fewer dimensions than `at_least`; `expected` describes the expected shape.

    Raises
    ------
    BrainrdlError
        If ``x.ndim < at_least``; the message quotes the shape.
    """
    if x.ndim < at_least:
        refuse(f"{what} must have shape {expected}, got {tuple(x.shape)}")


def check_finite(x: Tensor, where: str) -> None:
    """Refuse NaN or Inf in `where`.

    Raises
    ------
    BrainrdlError
        If any entry is not finite; the message gives their number.
    """
    bad = int((~torch.isfinite(x)).sum())
    if bad:
        refuse(f"{bad} of {x.numel()} values are NaN or Inf in {where}; remove or repair them first")
