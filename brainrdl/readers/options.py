"""Options of readers: checked against the annotations of the reader's ``read``, and made of a command line's words."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from brainrdl._core.errors import nearest, read_named, refuse

_NONE = frozenset({"none", "null"})


def checked(read: Callable[..., Any], reader: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse options that ``read`` has no keyword argument for, or of another type than it is annotated with.

    Numbers may be given as text where no text is taken, because command lines and recipes hold text.

    Parameters
    ----------
    read : callable
        The reader's method.
    reader : str
        Its name, for messages.
    options : mapping
        What it would be called with.

    Returns
    -------
    dict
        The options, numbers as numbers.

    Raises
    ------
    BrainrdlError
        With the option, the value, and what it should be.

    Examples
    --------
    >>> def read(path, *, t_r: float | None = None): ...
    >>> checked(read, "bold", {"t_r": "2.5"})
    {'t_r': 2.5}
    >>> checked(read, "bold", {"t_r": [2]})
    Traceback (most recent call last):
    brainrdl.BrainrdlError: option t_r of reader 'bold' should be float | None, got [2] (list)
    """
    parameters = _parameters(read, reader, options)
    return {name: _checked(parameters.get(name), reader, name, value) for name, value in options.items()}


def from_words(read: Callable[..., Any], reader: str, words: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Make options of the words that a command line gives: a word given twice is a list, ``None`` is None.

    Mappings are given as ``key:value``.

    Examples
    --------
    >>> def read(path, *, roi: str | Sequence[str] | None = None, entities: dict[str, str] | None = None): ...
    >>> from_words(read, "bids", {"roi": ["V1", "IT"], "entities": ["res:2"]})
    {'roi': ['V1', 'IT'], 'entities': {'res': '2'}}
    """
    parameters = _parameters(read, reader, words)
    return {name: _from_words(parameters.get(name), reader, name, list(given)) for name, given in words.items()}


def _parameters(read: Callable[..., Any], reader: str, options: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(list(inspect.signature(read).parameters.items())[1:])
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for option in options:
            if option not in parameters:
                known = f"{nearest(option, parameters)} (known: {', '.join(parameters)})"
                refuse(f"option {read_named(option)} of reader {reader!r} is not known{known}")
    return {name: _with_type(read, parameter) for name, parameter in parameters.items()}


def _with_type(read: Callable[..., Any], parameter: inspect.Parameter) -> inspect.Parameter:
    """Resolve an annotation that stands as text; one that only type checkers can resolve allows anything."""
    holder: Any = types.SimpleNamespace(__annotations__={"value": parameter.annotation})
    try:
        found = typing.get_type_hints(holder, getattr(read, "__globals__", {}))["value"]
    except NameError:
        found = Any
    return parameter.replace(annotation=Any if found is parameter.empty else found)


def _checked(parameter: inspect.Parameter | None, reader: str, name: str, value: Any) -> Any:
    """Give the value as the annotation has it; refuse one that is of another type."""
    if parameter is None:
        return value
    found, fits = _fitted(parameter.annotation, value)
    # pydantic would turn True into 1.0
    if not fits or (isinstance(value, bool) and not isinstance(found, bool)):
        refuse(
            f"option {read_named(name)} of reader {reader!r} should be {_told(parameter.annotation)}, got {value!r} "
            f"({type(value).__name__})"
        )
    return found


def _from_words(parameter: inspect.Parameter | None, reader: str, name: str, words: list[str]) -> Any:
    one: Any = words[0] if len(words) == 1 else words
    if parameter is None:
        return one
    members = (parameter.annotation, *typing.get_args(parameter.annotation))
    if isinstance(one, str) and one.lower() in _NONE and type(None) in members:
        return None
    if any(typing.get_origin(member) in (dict, Mapping) for member in members):
        return _mapping(words)
    alone = isinstance(one, str) and _fitted(parameter.annotation, one)[1]
    listed, fits = _fitted(parameter.annotation, words)
    return listed if fits and not alone else _checked(parameter, reader, name, one)


def _mapping(words: Sequence[str]) -> dict[str, Any]:
    """Make a mapping of ``key:value`` words; a key given twice holds a list."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, colon, value = word.partition(":")
        if not colon:
            refuse(f"{word!r} should be key:value")
        found.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _fitted(annotation: Any, value: Any) -> tuple[Any, bool]:
    """Bring a value to a type, and say whether that is possible; a text is a number rather than a truth."""
    if isinstance(value, str) and {bool, float} <= set(typing.get_args(annotation)):
        try:
            return float(value), True
        except ValueError:
            pass
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value), True
    except ValidationError:
        return value, False


def _told(annotation: Any) -> str:
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else re.sub(r"\b(collections\.abc|pathlib|typing)\.", "", str(annotation))
    )
