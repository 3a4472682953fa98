"""Options of readers: values of another type are refused, and words become values of the annotated type."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from brainrdl import BrainrdlError
from brainrdl.readers.options import checked, from_words, options_from
from brainrdl.readers.reading import find_readers

if TYPE_CHECKING:
    from rsatoolbox.data import Dataset


class Example:
    """A reader with options of every kind; what it returns only type checkers know."""

    def read(
        self,
        path: Path,
        *,
        t_r: float | None = None,
        decimate: int = 1,
        split: bool = False,
        similarity: bool | float | None = None,
        roi: str | Sequence[str] | None = None,
        run: str | int | Sequence[str | int] | None = None,
        sessions: Sequence[int] | None = None,
        mask: str | Path | None = None,
        confounds: str | Sequence[str] | None = "minimal",
        entities: dict[str, str | list[str]] | None = None,
        hidden: Dataset | None = None,
    ) -> Dataset:
        """Do nothing."""
        raise NotImplementedError


READ = Example().read


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("t_r", 2, 2.0),
        ("t_r", "2.5", 2.5),
        ("t_r", np.float32(2), 2.0),
        ("decimate", "3", 3),
        ("split", "False", False),
        ("similarity", "7", 7.0),
        ("similarity", "1", 1.0),
        ("similarity", "0", 0.0),
        ("similarity", "true", True),
        ("roi", ("V1", "IT"), ("V1", "IT")),
        ("run", np.int64(1), 1),
        ("run", "01", "01"),
        ("mask", Path("mask.nii"), Path("mask.nii")),
        ("entities", {"res": "2"}, {"res": "2"}),
        ("roi", None, None),
        ("hidden", "anything", "anything"),
    ],
)
def test_an_option_reaches_the_reader_with_the_annotated_type(option, value, expected):
    found = checked(READ, "example", {option: value})[option]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("t_r", "fast", r"option t_r of reader 'example' should be float \| None, got 'fast' \(str\)"),
        ("t_r", True, r"should be float \| None, got True \(bool\)"),
        ("decimate", 2.5, r"should be int, got 2.5 \(float\)"),
        ("roi", 1, r"should be str \| Sequence\[str\] \| None, got 1 \(int\)"),
        ("mask", np.ones(2), r"should be str \| Path \| None, got array\(\[1., 1.\]\) \(ndarray\)"),
        ("decimate", None, r"should be int, got None \(NoneType\)"),
        ("rois", "V1", "option rois of reader 'example' is not known; nearest: 'roi'"),
    ],
)
def test_an_option_of_another_name_or_type_is_refused(option, value, message):
    with pytest.raises(BrainrdlError, match=message):
        checked(READ, "example", {option: value})


@pytest.mark.parametrize(
    ("option", "words", "expected"),
    [
        ("t_r", ["2.5"], 2.5),
        ("t_r", ["none"], None),
        ("confounds", ["None"], None),
        ("confounds", ["trans_x", "trans_y"], ["trans_x", "trans_y"]),
        ("split", ["no"], False),
        ("sessions", ["12"], [12]),
        ("sessions", ["1", "2"], [1, 2]),
        ("roi", ["V1"], "V1"),
        ("run", ["01"], "01"),
        ("entities", ["res:2", "dir:AP", "dir:PA"], {"res": "2", "dir": ["AP", "PA"]}),
    ],
)
def test_words_of_a_command_line_become_options_of_the_annotated_type(option, words, expected):
    assert from_words(READ, "example", {option: words}) == {option: expected}


@pytest.mark.parametrize(
    ("option", "words", "message"),
    [
        ("t_r", ["1", "2"], r"should be float \| None, got \['1', '2'\] \(list\)"),
        ("decimate", ["None"], "should be int, got 'None'"),
        ("entities", ["res=2"], "'res=2' should be key:value"),
    ],
)
def test_words_that_do_not_fit_an_option_are_refused(option, words, message):
    with pytest.raises(BrainrdlError, match=message):
        from_words(READ, "example", {option: words})


def test_every_reader_accepts_its_own_defaults():
    for name, reader in find_readers().items():
        parameters = inspect.signature(reader.read).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
        assert checked(reader.read, name, defaults) == defaults


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Options of two readers.

    Parameters
    ----------
    mask : str or Path, optional
        Which voxels.

    t_r : float
        Seconds from volume to volume.

    Examples
    --------
    None.
    """

    mask: str | Path | None = None
    t_r: float = 2.0


@options_from(Shared)
def read_shared(path: Path, *, events: str | None = None, **options: object) -> Shared:
    """Read a series.

    Parameters
    ----------
    events : str, optional
        The events.
    **options
        See the dataclass.

    Returns
    -------
    Shared
    """
    return Shared(**options)


def test_options_of_a_dataclass_are_listed_and_checked_as_if_spelled_out():
    assert list(inspect.signature(read_shared).parameters) == ["path", "events", "mask", "t_r"]
    assert checked(read_shared, "example", {"t_r": "2.5"}) == {"t_r": 2.5}
    assert from_words(read_shared, "example", {"mask": ["none"], "t_r": ["1"]}) == {"mask": None, "t_r": 1.0}
    with pytest.raises(
        BrainrdlError, match=r"option t_R of reader 'example' is not known; nearest: 't_r' .*known: events, mask, t_r"
    ):
        checked(read_shared, "example", {"t_R": 1})
    with pytest.raises(BrainrdlError, match=r"option mask .* should be str \| Path \| None, got 1 \(int\)"):
        checked(read_shared, "example", {"mask": 1})


def test_help_explains_the_options_of_a_dataclass():
    parameters = read_shared.__doc__.split("----------\n")[1].split("\n\nReturns")[0]
    assert parameters.splitlines() == [
        "events : str, optional",
        "    The events.",
        "mask : str or Path, optional",
        "    Which voxels.",
        "",
        "t_r : float",
        "    Seconds from volume to volume.",
    ]


@pytest.mark.parametrize("name", ["bold", "bids"])
def test_a_reader_of_bold_series_explains_each_of_its_options(name):
    read = find_readers()[name].read
    explained = read.__doc__.split("Returns\n")[0]
    missing = [
        option for option in inspect.signature(read).parameters if not re.search(rf"\b{option}\b.* : ", explained)
    ]
    assert len(inspect.signature(read).parameters) > 15
    assert missing == []
