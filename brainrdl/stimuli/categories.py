"""Categories of stimuli: tables of labels, the order of categories, and groups that stay together."""

from __future__ import annotations

import csv
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import check_text, check_unique, nearest, quote, refuse
from brainrdl._core.files import nearest_in_folder
from brainrdl._core.given_values import as_text
from brainrdl._core.options import as_mapping
from brainrdl.dissimilarity.pairs import pair_indices
from brainrdl.rdms.naming import is_missing, named_as

if TYPE_CHECKING:
    import pandas as pd

Labels = Mapping[str, object] | Sequence[object] | str | Path


@dataclass(frozen=True, eq=False)
class Table:
    """Category of every name of the full set; read only when needed, because this may load every item of a data set."""

    names: Sequence[str]
    read: Callable[[], Sequence[object]]
    classes: Sequence[str] | None = None

    @cached_property
    def _coded(self) -> tuple[list[str], tuple[str, ...]]:
        words, categories = _categorise([plain_label(label) for label in self.read()], self.classes)
        check_text(categories, "the labels")
        return words, categories

    @property
    def categories(self) -> tuple[str, ...]:
        return self._coded[1]

    @cached_property
    def of(self) -> dict[str, str]:
        return dict(zip(self.names, self._coded[0], strict=True))

    @cached_property
    def index(self) -> dict[str, int]:
        code = {category: i for i, category in enumerate(self.categories)}
        return {name: code[category] for name, category in self.of.items()}


def plain_label(label: object) -> int | str:
    if isinstance(label, str):
        return str(label)
    try:
        return operator.index(label.item() if hasattr(label, "item") else label)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        refuse(f"a label must be a category name or a whole number, got {label!r}")


def _categorise(labels: Sequence[int | str], classes: Sequence[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """Return category names and their order: that of the data set for numbered classes, otherwise alphabetical.

    The order must be that of the logits of a network that was trained on these classes.
    """
    numbers = [label for label in labels if isinstance(label, int)]
    if len(numbers) < len(labels) or min(numbers) < 0:
        words = [str(label) for label in labels]
        return words, _in_order(words, classes)
    if classes is None:
        width = len(str(max(numbers)))  # leading zeros, so that alphabetical order is numerical order
        words = [str(label).zfill(width) for label in numbers]
        return words, _in_order(words, None)
    if max(numbers) >= len(classes):
        refuse(f"label {max(numbers)} has no name: there are {len(classes)} classes {quote(classes)}")
    return [classes[label] for label in numbers], tuple(classes)


def _in_order(words: Sequence[str], classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        return tuple(sorted(set(words)))
    unknown = sorted(set(words) - set(classes))
    if unknown:
        refuse(f"labels {quote(unknown)} are not among the classes {quote(classes)}{nearest(unknown[0], classes)}")
    return tuple(classes)


def label_table(labels: Labels, names: tuple[str, ...], where: str) -> Table:
    if isinstance(labels, str | Path):
        labels, where = _read_labels(Path(labels), "label", ("category", "label")), f"label table {str(labels)!r}"
    elif isinstance(labels, Mapping) or set(as_mapping(labels, "labels") or ()) & set(names):
        labels, where = as_mapping(labels, "labels") or {}, "the label table"
    else:
        labels = _label_mapping(labels, names, where)
    labels = named_as(labels, names)
    missing = [name for name in names if name not in labels]
    if missing:
        close = nearest(missing[0], [str(name) for name in labels if name not in names])
        refuse(f"{quote(missing)} have no label in {where} ({len(labels)} names){close}")
    known = frozenset(names)
    unknown = [name for name in labels if name not in known]
    if unknown:
        refuse(f"{where} has labels for {quote(unknown)}, which are not stimuli; remove those rows")
    values = [labels[name] for name in names]
    table = Table(names, lambda: values)
    empty = [name for name, category in table.of.items() if not category.strip()]
    if empty:
        refuse(f"{quote(empty)} have an empty label in {where}")
    return table


def _label_mapping(labels: Sequence[object], names: tuple[str, ...], where: str) -> dict[str, object]:
    if len(labels) != len(names):
        refuse(f"{len(labels)} labels for {len(names)} images in {where}; give one label per image")
    return dict(zip(names, labels, strict=True))


def groups_of(
    groups: Mapping[str, object] | pd.Series | str | Path | None, names: Sequence[str]
) -> dict[str, str] | None:
    """Return the group of each name that has one, or None if there are no groups.

    Parameters
    ----------
    groups : mapping of name to group, pandas.Series, str, Path, or None
        Groups (of a Series, its index has the names), or the path of a CSV table with the columns ``stimulus`` and
        ``group``.
    names : sequence of str
        Stimuli. Those that are not listed are groups of one. If these are the names of image files
        (``stimuli/face.png``), the groups may list them without folder and ending (``face``), or the reverse.

    Returns
    -------
    dict of str to str, or None
        In the order of `names`.

    Raises
    ------
    BrainrdlError
        If the table cannot be read, the name of a group is missing, or some stimuli have no group while the groups of
        unknown stimuli are given (the message gives the nearest names).

    Examples
    --------
    >>> groups_of({"cat 2": "cat", "cat 1": "cat"}, ["cat 1", "cat 2", "dog"])
    {'cat 1': 'cat', 'cat 2': 'cat'}
    """
    if groups is None:
        return None
    where, table = "groups=", as_mapping(groups, "groups")
    if isinstance(groups, str | Path):
        where = f"group table {str(groups)!r}"
        table = _read_labels(Path(groups), "group", ("group", "object"))
    if table is None:
        refuse(f"groups must be a mapping or a path, got {groups!r}")
    groups = named_as({as_text(name): group for name, group in table.items()}, names)
    lacking = [name for name in names if name not in groups]
    unknown = [str(name) for name in groups if name not in set(names)]
    if lacking and unknown:
        refuse(
            f"{where} has groups of {quote(unknown)}, which are not stimuli, and none of {quote(lacking)}"
            f"{nearest(unknown[0], lacking)}; correct the names"
        )
    listed = [name for name in names if name in groups]
    blank = [name for name in listed if is_missing(groups[name])]
    if blank:
        refuse(f"{quote(blank)} have no group in {where}; name it, or leave out stimuli that belong to no group")
    return {name: as_text(groups[name]).strip() for name in listed}


def group_numbers(names: Sequence[str], groups: Mapping[str, str]) -> list[int]:
    """Return the number of the group of each name, in order of first appearance; a name without a group is alone.

    Examples
    --------
    >>> group_numbers(["a1", "b", "a2", "a"], {"a1": "a", "a2": "a"})
    [0, 1, 0, 2]
    """
    number: dict[tuple[bool, str], int] = {}
    return [number.setdefault((name in groups, groups.get(name, name)), len(number)) for name in names]


def _read_labels(path: Path, kind: str, columns_of_values: tuple[str, str]) -> dict[str, object]:
    """Read a CSV table with the columns name (or stimulus) and one of the others."""
    where = f"{kind} table {str(path)!r}"
    if not path.is_file():
        refuse(f"{where} does not exist{nearest_in_folder(path)}; check the path")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets write a byte-order mark
    except UnicodeDecodeError:
        refuse(f"{where} is not UTF-8 text; save it as CSV (UTF-8)")
    header = lines[0] if lines else ""
    rows = list(csv.DictReader(lines, delimiter=max(",;\t", key=header.count), restval=""))
    columns = tuple(rows[0]) if rows else ()
    name = _column(columns, ("name", "stimulus"), where)
    category = _column(columns, columns_of_values, where)
    check_unique([row[name] for row in rows], where)
    return {row[name]: row[category] for row in rows}


def _column(columns: Collection[str], wanted: tuple[str, str], where: str) -> str:
    found = [column for column in wanted if column in columns]
    if not found:
        refuse(f"{where} needs a column {wanted[0]!r} (or {wanted[1]!r}); its columns are {quote(columns)}")
    return found[0]


def different_category(names: Sequence[str], labels: Mapping[str, str]) -> Float[Tensor, " n_pairs"]:
    """Category model of an RDM: 0 for a pair within a category, 1 for a pair between two categories.

    Parameters
    ----------
    names : sequence of str
        Conditions.
    labels : mapping of name to category
        A category for each of `names`.

    Returns
    -------
    Tensor, shape (n_pairs,)
        Float64; pairs in row-major upper-triangle order of `names`.

    Examples
    --------
    >>> different_category(["cat", "dog", "car"], {"cat": "animal", "dog": "animal", "car": "thing"}).tolist()
    [0.0, 1.0, 1.0]
    """
    number = {category: index for index, category in enumerate({labels[name] for name in names})}
    category = torch.tensor([number[labels[name]] for name in names])
    first, second = category[pair_indices(len(names))]
    different: Tensor = first != second
    return different.double()
