"""Conformance checks for anyone's plug-in: each runs one protocol's list and raises `BrainrdlError` with what failed.

A check returns nothing when all is well, so a plug-in's test is one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from brainrdl._checks import BrainrdlError, check_unique, quote, refuse
from brainrdl.dissimilarity import Dissimilarity, pair_indices, to_square
from brainrdl.readers import read

if TYPE_CHECKING:
    from brainrdl.readers import Reader
    from brainrdl.stimuli import Batch
    from brainrdl.teachers import Teacher


def check_dissimilarity(
    function: Dissimilarity, shape: Sequence[int] = (6, 20), device: torch.device | str = "cpu", seed: int = 0
) -> None:
    """Check a dissimilarity against the contract of `brainrdl.dissimilarity`.

    One value a pair, in row-major order; equivariant to the order of the conditions; leading dimensions independent;
    duplicate patterns at 0; finite gradients, also with duplicate and constant patterns; dtype and device kept.

    Parameters
    ----------
    function : callable (..., n_conditions, n_channels) -> (..., n_pairs)
        The dissimilarity.
    shape : sequence of int
        Shape of the patterns to try, at least 4 conditions; ``(n_runs, n_conditions, n_channels)`` for a crossnobis.
    device : torch.device or str
        Where to try it.
    seed : int
        Of the random patterns, which are all positive.

    Raises
    ------
    BrainrdlError
        If `function` breaks the contract; the message says which point and how.

    Examples
    --------
    >>> from brainrdl.dissimilarity import correlation
    >>> check_dissimilarity(correlation)
    >>> check_dissimilarity(lambda x: 1 - correlation(x))
    Traceback (most recent call last):
    brainrdl._checks.BrainrdlError: dissimilarity '<lambda>' does not put duplicate patterns at 0: got 1
    """
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(tuple(shape), generator=generator, dtype=torch.float64) + 0.1).to(device)
    n = x.shape[-2]
    if n < 4:
        refuse(f"check_dissimilarity needs at least 4 conditions to tell pair orders apart, got shape {tuple(shape)}")
    name = getattr(function, "__name__", type(function).__name__)
    _check_shape(function, name, x)
    _check_order(function, name, x, torch.randperm(n, generator=generator).to(device))
    _check_batch(function, name, x)
    _check_duplicates(function, name, x)
    _check_gradients(function, name, x)
    _check_dtype_and_device(function, name, x)


def _check_shape(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    n, pairs = x.shape[-2], function(x)
    expected = n * (n - 1) // 2
    if pairs.shape != (expected,):
        refuse(f"dissimilarity {name!r} must return shape ({expected},) for {n} conditions, got {tuple(pairs.shape)}")


def _check_order(function: Callable[[Tensor], Tensor], name: str, x: Tensor, order: Tensor) -> None:
    expected = to_square(function(x))[order][:, order]
    if not torch.allclose(to_square(function(x[..., order, :])), expected, rtol=1e-6, atol=1e-9):
        refuse(f"dissimilarity {name!r} does not follow the order of the conditions; order pairs as torch.triu_indices")


def _check_batch(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    both = function(torch.stack([x, x.flip(-2)]))
    expected = torch.stack([function(x), function(x.flip(-2))])
    if both.shape != expected.shape or not torch.allclose(both, expected, rtol=1e-6, atol=1e-9):
        refuse(
            f"dissimilarity {name!r} does not treat leading dimensions as independent; reduce over the last two only"
        )


def _check_duplicates(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    pairs = to_square(function(_with_duplicate(x)))
    if not pairs[0, -1].abs() <= 1e-6 * pairs.abs().max():
        refuse(f"dissimilarity {name!r} does not put duplicate patterns at 0: got {pairs[0, -1].item():.4g}")


def _check_gradients(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    hazards = {"random": x, "duplicate": _with_duplicate(x), "constant": _with_constant(x)}
    # In float32 duplicates are at 0 exactly, which is where a root has no finite gradient.
    for kind, patterns in [(kind, x.to(dtype)) for kind, x in hazards.items() for dtype in (x.dtype, torch.float32)]:
        leaf = patterns.clone().requires_grad_()
        pairs = function(leaf)
        if not pairs.requires_grad:
            refuse(f"dissimilarity {name!r} cuts the gradient; compute it with differentiable torch operations")
        (gradient,) = torch.autograd.grad(pairs.square().sum(), leaf)
        if not (pairs.isfinite().all() and gradient.isfinite().all()):
            refuse(f"dissimilarity {name!r} gives NaN or Inf, in value or gradient, with {kind} patterns; guard it")


def _check_dtype_and_device(function: Callable[[Tensor], Tensor], name: str, x: Tensor) -> None:
    for given, expected in {
        torch.float64: torch.float64,
        torch.float32: torch.float32,
        torch.bfloat16: torch.float32,
    }.items():
        pairs = function(x.to(given))
        if pairs.dtype != expected or pairs.device != x.device:
            came = f"{pairs.dtype} on {pairs.device}"
            refuse(f"dissimilarity {name!r} must return {expected} on {x.device} for {given} patterns, got {came}")


def _with_duplicate(x: Tensor) -> Tensor:
    return torch.cat([x[..., :-1, :], x[..., :1, :]], dim=-2)


def _with_constant(x: Tensor) -> Tensor:
    return torch.cat([x[..., :-1, :], torch.full_like(x[..., :1, :], 0.1)], dim=-2)


def check_reader(reader: Reader, path: str | Path, **options: Any) -> None:
    """Try the contract of `brainrdl.readers` on a reader, with one sound file of its layout.

    Parameters
    ----------
    reader : Reader
        Any object with ``name``, ``layout``, ``sniff`` and ``read``.
    path : str or Path
        A sound file, or folder of files, that it takes.
    **options
        Options that it needs to read it.

    Raises
    ------
    BrainrdlError
        If a point of the contract does not hold; the message says which, and what came.

    Examples
    --------
    >>> from brainrdl.readers import find_readers
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "rdm.npy"
    ...     np.save(file, np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]]))
    ...     check_reader(find_readers()["numpy"], file)
    """
    file = Path(path)
    _check_members(reader, "reader", ("name", "layout", "sniff", "read"), texts=("name", "layout"))
    content = _content(file)
    _check_sniff(reader, file)
    first = read(file, reader=reader, **options)
    if not _same_data(first, read(file, reader=reader, **options)):
        refuse(f"reader {reader.name!r} gives something else when it reads the same file again")
    if _content(file) != content:
        refuse(f"reader {reader.name!r} changed the file it read")
    _check_refusals(reader, file, options)


def _check_members(plug_in: object, what: str, members: Sequence[str], texts: Sequence[str]) -> None:
    for member in members:
        if not hasattr(plug_in, member):
            refuse(f"{type(plug_in).__name__} is no {what}: it has no {member!r}")
    for member in texts:
        value = getattr(plug_in, member)
        if not isinstance(value, str) or not value.strip():
            refuse(f"{member} of {what} {type(plug_in).__name__} must be a text that is not empty, got {value!r}")


def _check_sniff(reader: Reader, file: Path) -> None:
    """Try sniff on its own file, on a strange one, and on cut-off ones, where it may say either but not fail."""
    if reader.sniff(file) is not True:
        refuse(f"reader {reader.name!r} does not take {file.name!r}: sniff must give True")
    with TemporaryDirectory() as folder:
        strange = Path(folder, "strange.no_such_layout")
        strange.write_bytes(b"no layout begins like this")
        if reader.sniff(strange) is not False:
            refuse(f"reader {reader.name!r} takes a strange file: sniff must give False")
        for share in (0.0, 0.01, 0.5):
            damaged = _cut_off(file, Path(folder, str(share)), share)
            try:
                reader.sniff(damaged)
            except Exception as error:
                refuse(f"sniff of reader {reader.name!r} fails on a file cut off at {share:.0%}: {error!r}")


def _check_refusals(reader: Reader, file: Path, options: Mapping[str, Any]) -> None:
    """Try what must be refused: an unknown option, and an empty file."""
    with TemporaryDirectory() as folder:
        empty = _cut_off(file, Path(folder), 0.0)
        attempts = [
            (file, {**options, "no_such_option": 1}, "an option it does not know"),
            (empty, options, "an empty file"),
        ]
        for path, given, what in attempts:
            try:
                read(path, reader=reader, **given)
            except BrainrdlError:
                continue
            refuse(f"reader {reader.name!r} takes {what} without an error")


def _content(file: Path) -> dict[Path, bytes]:
    """Give the bytes of a file, or of all files in a folder, by relative path."""
    files = [path for path in sorted(file.rglob("*")) if path.is_file()] if file.is_dir() else [file]
    return {path.relative_to(file): path.read_bytes() for path in files}


def _cut_off(file: Path, folder: Path, share: float) -> Path:
    """Copy a file (or a folder of files) into `folder`, of each file only this share of its bytes."""
    for path, content in _content(file).items():
        copy = folder / file.name / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content[: int(share * len(content))])
    return folder / file.name


def _same_data(a: Any, b: Any) -> bool:
    """Compare two RDMs or Datasets (or lists of such), values and descriptors, NaN equal to NaN."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_data, a, b))
    kinds = ("dissimilarities", "measurements")
    values = [[getattr(data, kind) for kind in kinds if hasattr(data, kind)] for data in (a, b)]
    held = [{key: value for key, value in vars(data).items() if key.endswith("descriptors")} for data in (a, b)]
    equal = all(np.array_equal(one, other, equal_nan=True) for one, other in zip(*values, strict=True))
    return equal and repr(held[0]) == repr(held[1])


def check_teacher(teacher: Teacher, batch: Batch) -> None:
    """Try the contract of `brainrdl.teachers` on a teacher, with one batch of conditions it knows.

    Parameters
    ----------
    teacher : Teacher
        Any object with ``name``, ``targets`` and ``rdms(batch)``.
    batch : Batch
        At least 4 conditions it knows, with images if it computes from them.

    Raises
    ------
    BrainrdlError
        If a point of the contract does not hold; the message says which, and what came.

    Examples
    --------
    >>> from brainrdl.rdms import from_array
    >>> from brainrdl.stimuli import Batch
    >>> from brainrdl.teachers import RDMTeacher
    >>> teacher = RDMTeacher(from_array([[1.0, 2, 3, 4, 5, 6]], list("abcd")))
    >>> check_teacher(teacher, Batch(("a", "b", "c", "d"), torch.zeros(4, 1, 2, 2), None))
    """
    _check_members(teacher, "teacher", ("name", "targets", "rdms"), texts=("name",))
    _check_targets(teacher)
    where = f"teacher {teacher.name!r}"
    if len(batch.names) < 4:
        refuse(f"check_teacher needs a batch of at least 4 conditions, got {len(batch.names)}")
    answer = teacher.rdms(batch)
    _check_answer(answer, teacher, batch, where)
    # Copies: a teacher that writes into its last answer would otherwise agree with itself.
    answer = {target: pairs.clone() for target, pairs in answer.items()}
    _same(answer, teacher.rdms(batch), f"{where} gives another answer when asked the same again", exact=True)
    for order in (list(range(len(batch.names)))[::-1], [2, 0, 3], [3, 1, 0, 2]):
        expected = {target: _picked(pairs, order) for target, pairs in answer.items()}
        asked = [batch.names[index] for index in order]
        _same(expected, teacher.rdms(_part(batch, order)), f"{where} does not answer in the order asked, {asked}")
    _check_unknown(teacher, batch, where)


def _check_targets(teacher: Teacher) -> None:
    targets = teacher.targets
    if isinstance(targets, str) or not targets or not all(isinstance(target, str) for target in targets):
        refuse(f"targets of teacher {teacher.name!r} must be a tuple of at least one name, got {targets!r}")
    check_unique(targets, f"the targets of teacher {teacher.name!r}")


def _check_answer(answer: Mapping[str, Tensor], teacher: Teacher, batch: Batch, where: str) -> None:
    if set(answer) != set(teacher.targets):
        refuse(f"{where} answers for {quote(answer)}, its targets are {quote(teacher.targets)}")
    n_pairs = len(batch.names) * (len(batch.names) - 1) // 2
    for target, pairs in answer.items():
        at = f"answer of {where} for target {target!r}"
        if pairs.ndim != 2 or pairs.shape[0] < 1 or pairs.shape[1] != n_pairs:
            refuse(f"{at} must have shape (n_rdms, {n_pairs}) with n_rdms >= 1, got {tuple(pairs.shape)}")
        if not pairs.is_floating_point():
            refuse(f"{at} must be floating point, got {pairs.dtype}")
        if pairs.device != batch.images.device:
            refuse(f"{at} is on {pairs.device}, the batch's images are on {batch.images.device}")
        if pairs.requires_grad:
            refuse(f"{at} carries a gradient; a teacher is frozen: compute under torch.no_grad()")
        if bool(pairs.isinf().any()) or bool(pairs.isnan().all()):
            refuse(f"{at} holds Inf, or nothing but NaN")


def _check_unknown(teacher: Teacher, batch: Batch, where: str) -> None:
    """Ask for a name that cannot be there; only a teacher that lists its conditions answers by name."""
    if not hasattr(teacher, "conditions"):
        return
    strange = replace(batch, names=("a name no teacher knows", *batch.names[1:]))
    try:
        teacher.rdms(strange)
    except (ValueError, KeyError):
        return
    refuse(f"{where} answers for a condition it does not know; unknown names must be an error")


def _part(batch: Batch, order: list[int]) -> Batch:
    labels = None if batch.labels is None else batch.labels[order]
    return replace(batch, names=tuple(batch.names[index] for index in order), images=batch.images[order], labels=labels)


def _picked(pairs: Tensor, order: list[int]) -> Tensor:
    chosen = torch.tensor(order, device=pairs.device)
    first, second = chosen[pair_indices(len(order), pairs.device)]
    return to_square(pairs)[:, first, second]


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], problem: str, exact: bool = False) -> None:
    """Refuse answers that differ; across batches by more than float32 sums in another order can."""
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-4, "atol": 1e-5}
    for target, pairs in a.items():
        other = b[target]
        if pairs.shape != other.shape or not torch.allclose(pairs, other, equal_nan=True, **tolerance):
            refuse(f"{problem}: target {target!r} differs")
