"""Options as data: what is checked, completed, worded and listed from one declaration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol, TypedDict, runtime_checkable

import numpy as np
import pytest

from brainrdl import BrainrdlError
from brainrdl._core.options import (
    PYTHON,
    Names,
    Option,
    check_known,
    complete,
    for_files,
    free,
    lists_options,
    options_of,
    words_for,
)


@runtime_checkable
class Thing(Protocol):
    def act(self) -> None: ...


class Acts:
    def act(self) -> None:
        """Do nothing."""


class Drawing(TypedDict, total=False):
    size: Annotated[int, Option(10, "Side in pixels.", at_least=1, below=100)]
    colour: Annotated[Literal["red", "blue"] | Callable[..., Any], Option("red", "Colour.", "Or a function.")]
    width: Annotated[float | None, Option(None, "Width of lines.", above=0, fixed=False)]
    tools: Annotated[Sequence[Literal["pen", "brush"]], Option(("pen",), "What to draw with.", may_be_empty=True)]
    seeds: Annotated[Sequence[int], Option((0,), "Seeds.", at_least=0)]
    quick: Annotated[bool, Option(False, "Draw fast.")]
    thing: Annotated[int | Thing, Option(1, "A thing.", at_least=1)]
    measures: Annotated[Sequence[Annotated[str, Names("tests_of_options:KNOWN")]], Option((), "m", may_be_empty=True)]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("tests_of_options")
    module.KNOWN = {"corr": 1, "cosine": 2}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_of_options", module)


def test_defaults_are_added_and_sequences_become_lists() -> None:
    assert complete(Drawing, {"size": 3, "seeds": (1, 2)}) == {
        "size": 3, "colour": "red", "width": None, "tools": ["pen"], "seeds": [1, 2], "quick": False, "thing": 1,
        "measures": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"colour": print},
        {"colour": "blue"},
        {"width": 2},
        {"width": np.float64(0.5)},
        {"tools": []},
        {"seeds": np.arange(3)},
        {"thing": Acts()},
        {"measures": ["cosine"]},
    ],
)
def test_what_a_type_allows_is_accepted(given: dict[str, Any]) -> None:
    (name,) = given
    found = complete(Drawing, given)[name]  # type: ignore[literal-required]
    assert found == (list(given[name]) if isinstance(given[name], np.ndarray) else given[name])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size must be a whole number, at least 1 and below 100, got 0"),
        ({"size": 100}, "size must be a whole number, at least 1 and below 100, got 100"),
        ({"size": None}, "size must be a whole number, at least 1 and below 100, got None"),
        ({"size": True}, "size must be a whole number, at least 1 and below 100, got True"),
        ({"colour": "bleu"}, "colour 'bleu' is not known; nearest: 'blue'"),
        ({"colour": 3}, "colour 3 is not known"),
        ({"width": 0}, "width must be a finite number above 0, got 0"),
        ({"tools": "pen"}, r"tools should be a list, got 'pen'; write \['pen'\]"),
        ({"tools": ["pencil"]}, "tools: 'pencil' is not known; nearest: 'pen'"),
        ({"tools": ["pen", "pen"]}, r"names \['pen'\] occur more than once in tools"),
        ({"seeds": []}, "seeds is empty; give at least one"),
        ({"seeds": [0, -1]}, "each of seeds must be a whole number, at least 0, got -1"),
        ({"seeds": np.array(3)}, "seeds should be a list"),
        ({"quick": 1}, "quick must be True or False, got 1"),
        ({"thing": 1.5}, "thing must be a whole number, at least 1, got 1.5"),
        ({"measures": ["cor"]}, "measures: 'cor' is not known; nearest: 'corr'"),
    ],
)
def test_what_a_type_or_bound_does_not_allow_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BrainrdlError, match=message):
        complete(Drawing, given)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("size", "int, at least 1 and below 100"),
        ("colour", "{'red', 'blue'}, or callable"),
        ("width", "float, above 0, or None"),
        ("tools", "list of {'pen', 'brush'}"),
        ("seeds", "list of int, at least 0"),
        ("quick", "bool"),
        ("thing", "int, at least 1, or Thing"),
        ("measures", "list of {'corr', 'cosine'}"),
    ],
)
def test_what_is_allowed_is_said_in_words(name: str, words: str) -> None:
    assert options_of(Drawing)[name].allowed(PYTHON) == words


def test_mappings_are_said_in_words() -> None:
    assert words_for(dict[str, float] | None, PYTHON) == "mapping of str to float, or None"


def test_a_file_holds_no_functions() -> None:
    with pytest.raises(BrainrdlError, match=r"colour .* is not known"):
        for_files(options_of(Drawing)["colour"]).check(print, "colour")


def test_what_may_change_in_a_resumed_run_is_what_is_not_fixed() -> None:
    assert free(Drawing) == {"width"}


def test_a_decorated_function_lists_its_options_in_signature_and_docstring() -> None:
    @lists_options(Drawing)
    def draw(picture: str, *, fast: bool = False, **options: Any) -> None:
        """Draw.

        Parameters
        ----------
        picture : str
        **options
            See elsewhere.
            And there.

        Returns
        -------
        None
        """

    signature = inspect.signature(draw)
    assert list(signature.parameters) == ["picture", "fast", *options_of(Drawing)]
    assert signature.parameters["size"].default == 10
    told = inspect.getdoc(draw) or ""
    assert "picture : str\nsize : int, at least 1 and below 100, default 10\n    Side in pixels.\ncolour : " in told
    assert "    Colour. Or a function.\n" in told
    assert "elsewhere" not in told
    assert "And there" not in told
    assert "\n\nReturns\n-------\nNone" in told


def test_a_misspelled_option_is_refused_with_the_nearest_of_all_functions() -> None:
    @lists_options(Drawing)
    def draw(**options: Any) -> None: ...

    def paint(*, easel: str = "") -> None: ...

    check_known(["size", "easel"], draw, paint)
    with pytest.raises(BrainrdlError, match="option of draw or paint 'colur' is not known; nearest: 'colour'"):
        check_known(["colur"], draw, paint)
