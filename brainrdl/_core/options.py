"""Options as data: the fields of a TypedDict, each with its default, help text and allowed values.

An option is defined once, as a field such as ``steps: Annotated[int, Option(200, "Optimiser steps.", at_least=0)]``.
This definition gives the check of a value (`Option.check`), the defaults (`complete`), the signature and docstring of
functions that accept the option (`lists_options`), and the keys of a recipe. Editors and type checkers read the same
class through ``**options: Unpack[...]``. This module loads no scientific library.
"""

from __future__ import annotations

import inspect
import math
import pkgutil
import re
import textwrap
import types
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from brainrdl._core.errors import check_number, check_option, check_unique, check_whole, refuse

Kind = TypeVar("Kind")

Function = TypeVar("Function", bound=Callable[..., Any])

_UNIONS = (Union, types.UnionType)

_LISTS = (list, abc.Sequence)


@dataclass(frozen=True)
class Spelling:
    """How a front end names types, and whether it accepts functions and objects.

    Examples
    --------
    >>> PYTHON.words[int]
    'int'
    """

    words: Mapping[type, str]
    code: bool = False


PYTHON = Spelling(
    {bool: "bool", int: "int", float: "float", str: "str", Path: "path", types.NoneType: "None"}, code=True
)


@dataclass(frozen=True)
class Names:
    """Marks text that must be a name in a registry, which is loaded when the names are needed.

    Parameters
    ----------
    registry : str
        Place of the registry, ``"module:attribute"``.

    Examples
    --------
    >>> Names("brainrdl._core.constants:NOISE").known()
    ['diag', 'full', 'shrinkage_diag', 'shrinkage_eye']
    """

    registry: str

    def known(self) -> list[str]:
        return list(pkgutil.resolve_name(self.registry))


@dataclass(frozen=True)
class Option:
    """An option: its default, its effect and its allowed values.

    Parameters
    ----------
    default : object
        Value if the option is not given.
    help : str
        One or two sentences.
    in_python : str
        Addition for Python, where values may be functions and objects.
    at_least, above, below : float
        Bounds of a number, or of each number in a list.
    may_be_empty : bool
        Whether a list may be empty.
    fixed : bool
        Whether a run can only be resumed with the same value; False if it only affects how a run is computed or scored.
    kind : type
        Type of the value; set by `options_of` from the annotation.

    Examples
    --------
    >>> Option(0.1, "Learning rate.", above=0, kind=float).check(-1, "lr")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: lr must be a finite number above 0, got -1
    """

    default: Any
    help: str
    in_python: str = ""
    at_least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    may_be_empty: bool = False
    fixed: bool = True
    kind: Any = None

    def check(self, value: Any, name: str) -> Any:
        """Return `value` (a sequence as a list), or refuse it with `name` in the message."""
        kinds = members(self.kind)
        if value is None and types.NoneType in kinds:
            return value
        if any(_is_code(kind) and isinstance(value, get_origin(kind) or kind) for kind in kinds):
            return value
        kind, *others = [kind for kind in kinds if kind is not types.NoneType and not _is_code(kind)]
        if others:
            return self._checked_mapping(value, name)
        return self._checked_list(kind, value, name) if get_origin(kind) in _LISTS else self._checked(kind, value, name)

    def _checked_mapping(self, value: Any, name: str) -> Any:
        """Return a mapping as a dict, and a path as a Path."""
        if isinstance(value, str | Path):
            return Path(value)
        mapping = as_mapping(value, name)
        if mapping is None:
            refuse(f"{name} must be a mapping or a path, got {value!r}")
        return mapping

    def _checked_list(self, kind: Any, value: Any, name: str) -> list[Any]:
        listed = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(listed, Sequence) or isinstance(listed, str):
            refuse(f"{name} should be a list, got {value!r}; write [{value!r}]")
        if not listed and not self.may_be_empty:
            refuse(f"{name} is empty; give at least one")
        check_unique([str(one) for one in listed], name)
        (of,) = get_args(kind)
        return [self._checked(of, one, f"each of {name}" if of in (int, float) else f"{name}:") for one in listed]

    def _checked(self, kind: Any, value: Any, name: str) -> Any:
        if (known := _choices(kind)) is not None:
            check_option(value, known, name)
        elif kind is bool and not isinstance(value, bool):
            refuse(f"{name} must be True or False, got {value!r}")
        elif kind is int:
            check_whole(value, name, int(self.at_least), self.below)
        elif kind is float:
            check_number(value, name, at_least=self.at_least, above=self.above)
        return value

    def allowed(self, spelling: Spelling) -> str:
        """Describe the allowed values in words."""
        limits = [f"at least {self.at_least}"] if self.at_least > -math.inf else []
        limits += [f"above {self.above}"] if self.above > -math.inf else []
        limits += [f"below {self.below}"] if self.below < math.inf else []
        return words_for(self.kind, spelling, limits)


def words_for(kind: Any, spelling: Spelling, limits: Sequence[str] = ()) -> str:
    """Describe the values of a type in words.

    Parameters
    ----------
    kind : type
        Type as in an annotation.
    spelling : Spelling
        Words of the front end.
    limits : sequence of str
        Bounds of numbers.

    Examples
    --------
    >>> words_for(float | None, PYTHON, ["above 0"])
    'float, above 0, or None'
    """
    words = [_words(one, spelling, limits) for one in members(kind)]
    *first, last = [word for word in words if word]
    return f"{', '.join(first)}, or {last}" if first else last


def _words(kind: Any, spelling: Spelling, limits: Sequence[str]) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if (known := _choices(kind)) is not None:
        listed = ", ".join(map(repr if spelling.code else str, known))
        return f"{{{listed}}}" if len(known) > 1 else listed
    if origin in _LISTS:
        return f"list of {words_for(inner[0], spelling, limits).replace(', or', ' or')}"
    if origin in (dict, abc.Mapping):
        key, value = (words_for(one, spelling, limits) for one in inner)
        return f"mapping of {key} to {value}"
    if _is_code(kind):
        return _code_word(kind) if spelling.code else ""
    bounds = [" and ".join(limits)] if limits and kind in (int, float) else []
    return ", ".join([spelling.words.get(kind, "anything"), *bounds])


def _choices(kind: Any) -> list[Any] | None:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return next((mark.known() for mark in marks if isinstance(mark, Names)), None)


def _is_code(kind: Any) -> bool:
    """Whether values of a type are functions or objects, which cannot be written in a file."""
    return get_origin(kind) is abc.Callable or getattr(kind, "_is_protocol", False)


def _code_word(kind: Any) -> str:
    return "callable" if get_origin(kind) is abc.Callable else kind.__name__


def members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union of types.

    Examples
    --------
    >>> members(int | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    if get_origin(kind) is Annotated and not any(isinstance(mark, Names) for mark in kind.__metadata__):
        return members(get_args(kind)[0])
    return tuple(one for part in get_args(kind) for one in members(part)) if get_origin(kind) in _UNIONS else (kind,)


def options_of(kind: type) -> dict[str, Option]:
    """Return the options of a TypedDict, by name.

    Examples
    --------
    >>> from brainrdl.training.options import FitOptions
    >>> options_of(FitOptions)["steps"].default
    200
    """
    return dict(_options_of(kind))


@cache
def _options_of(kind: type) -> dict[str, Option]:
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        allowed, *marks = get_args(hint)
        (option,) = [mark for mark in marks if isinstance(mark, Option)]
        found[name] = replace(option, kind=allowed)
    return found


def for_files(option: Option) -> Option:
    """Return the option for files: without functions and objects.

    Examples
    --------
    >>> for_files(Option("a", "...", kind=Literal["a", "b"] | Callable[..., int])).kind
    typing.Literal['a', 'b']
    """
    return replace(option, kind=Union[tuple(one for one in members(option.kind) if not _is_code(one))])  # noqa: UP007


def as_mapping(value: object, name: str) -> dict[Any, Any] | None:
    """Return a mapping, or a pandas Series by its index, as a dict; None for anything else.

    Raises
    ------
    BrainrdlError
        If a Series has two values for one name.

    Examples
    --------
    >>> import pandas as pd
    >>> as_mapping(pd.Series(["cat", "dog"], index=["a", "b"]), "groups")
    {'a': 'cat', 'b': 'dog'}
    >>> as_mapping(["cat"], "groups") is None
    True
    """
    if isinstance(value, Mapping):
        return dict(value)
    if (
        type(value).__module__.partition(".")[0] != "pandas"
        or not hasattr(value, "items")
        or not hasattr(value, "name")
    ):
        return None
    pairs = list(value.items())
    check_unique([str(key) for key, _ in pairs], f"the index of {name}")
    return dict(pairs)


def complete(kind: type[Kind], given: Mapping[str, Any]) -> Kind:
    """Check the given options of `kind`, and add the defaults of the others.

    Raises
    ------
    BrainrdlError
        If a value is of another type, out of bounds, or not among the known names.

    Examples
    --------
    >>> from brainrdl.training.options import FitOptions
    >>> complete(FitOptions, {"steps": 5})["lr"]
    0.001
    """
    found = {name: option.check(given.get(name, option.default), name) for name, option in options_of(kind).items()}
    return cast(Kind, found)


def free(kind: type) -> set[str]:
    """Return the options that may differ when a run is resumed, because they only affect computing or scoring.

    Examples
    --------
    >>> from brainrdl.training.options import FitOptions
    >>> sorted(free(FitOptions))
    ['device', 'workers']
    """
    return {name for name, option in options_of(kind).items() if not option.fixed}


def check_known(names: Iterable[str], *functions: Callable[..., Any]) -> None:
    """Refuse names that are not an argument of any of the functions.

    Raises
    ------
    BrainrdlError
        If a name is unknown; the message gives the nearest names.

    Examples
    --------
    >>> def draw(*, size=3): ...
    >>> check_known(["sise"], draw)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: option of draw 'sise' is not known; nearest: 'size' (known: size)
    """
    parameters = [one for function in functions for one in inspect.signature(function).parameters.values()]
    known = list(dict.fromkeys(one.name for one in parameters if one.kind is one.KEYWORD_ONLY))
    for name in names:
        check_option(name, known, f"option of {' or '.join(function.__name__ for function in functions)}")


def lists_options(kind: type) -> Callable[[Function], Function]:
    """Decorate a function or class that accepts ``**options`` of `kind`: signature and docstring then list each option.

    In the docstring they replace the description of ``**options``.

    Examples
    --------
    >>> from brainrdl.training.options import FitOptions
    >>> @lists_options(FitOptions)
    ... def train(network, **options): ...
    >>> inspect.signature(train).parameters["steps"].default
    200
    """

    def listing(function: Function) -> Function:
        options = options_of(kind)
        *spelled, _ = inspect.signature(function).parameters.values()
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.kind)
            for name, option in options.items()
        ]
        signature = inspect.signature(function).replace(parameters=[*spelled, *more])
        function.__signature__ = signature  # type: ignore[attr-defined]
        if function.__doc__:  # there is none under `python -OO`
            function.__doc__ = _ENTRY.sub(lambda found: _described(options, found["margin"]), function.__doc__)
        return function

    return listing


_ENTRY = re.compile(r"^(?P<margin> *)\*\*options\b.*\n(?:(?P=margin) +\S.*\n)*", re.MULTILINE)


def _described(options: Mapping[str, Option], margin: str) -> str:
    """Describe options in numpydoc format."""
    entries = []
    for name, option in options.items():
        help_lines = textwrap.indent(textwrap.fill(f"{option.help} {option.in_python}".strip(), 112), margin + "    ")
        entries.append(f"{margin}{name} : {option.allowed(PYTHON)}, default {option.default!r}\n{help_lines}\n")
    return "".join(entries)
