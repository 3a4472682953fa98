"""Options of readers: checked against the annotations of ``read``, and made from the words of a command line."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from brainrdl._core.errors import nearest, read_named, refuse

Read = TypeVar("Read", bound=Callable[..., Any])

_NONE = frozenset({"none", "null"})


def checked(read: Callable[..., Any], reader: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse options that ``read`` has no keyword argument for, and values of another type than annotated.

    Numbers may be given as text, unless the option accepts text, because command lines and recipes hold text.

    Parameters
    ----------
    read : callable
        The reader's method.
    reader : str
        Its name, for messages.
    options : mapping
        The options that it would be called with.

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


def options_from(shared: type) -> Callable[[Read], Read]:
    """Let a ``read`` that ends in ``**options`` list the fields of a dataclass as keyword arguments.

    They are then checked as if they were spelled out, and ``help`` explains them.

    Parameters
    ----------
    shared : type
        The dataclass. Its numpydoc docstring explains the fields under Parameters.

    Returns
    -------
    callable
        Decorator of ``read``.

    Examples
    --------
    >>> @dataclasses.dataclass
    ... class Shared:
    ...     t_r: float = 2.0
    >>> @options_from(Shared)
    ... def read(path, *, events=None, **options): ...
    >>> inspect.signature(read)
    <Signature (path, *, events=None, t_r: float = 2.0)>
    """

    def decorate(read: Read) -> Read:
        signature, types_of = inspect.signature(read), typing.get_type_hints(shared)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        listed = [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types_of[field.name]
            )
            for field in dataclasses.fields(shared)
        ]
        read.__signature__ = signature.replace(parameters=[*own, *listed])  # type: ignore[attr-defined]
        read.__doc__ = _with_explanations(inspect.getdoc(read) or "", inspect.getdoc(shared) or "")
        return read

    return decorate


def _with_explanations(doc: str, shared: str) -> str:
    """Put the parameters that the docstring of the dataclass explains in the place of ``**options``."""
    parameters = re.search(r"Parameters\n-+\n(.*?)(\n\n[^\n]+\n-+\n|\Z)", shared, re.DOTALL)
    explained = parameters[1] if parameters else ""
    return re.sub(r"(?m)^\*\*options.*\n(?: +\S.*\n)*", lambda _: f"{explained}\n", doc, count=1)


def from_words(read: Callable[..., Any], reader: str, words: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Make options from the words of a command line: an option given twice is a list, ``None`` is None.

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
                known = f"{nearest(option, parameters)} (known: {', '.join(parameters) or 'none'})"
                refuse(f"option {read_named(option)} of reader {reader!r} is not known{known}")
    return {name: _with_type(read, parameter) for name, parameter in parameters.items()}


def _with_type(read: Callable[..., Any], parameter: inspect.Parameter) -> inspect.Parameter:
    """Resolve an annotation that is a text; one that only type checkers can resolve allows anything."""
    holder: Any = types.SimpleNamespace(__annotations__={"value": parameter.annotation})
    try:
        found = typing.get_type_hints(holder, getattr(read, "__globals__", {}))["value"]
    except NameError:
        found = Any
    return parameter.replace(annotation=Any if found is parameter.empty else found)


def _checked(parameter: inspect.Parameter | None, reader: str, name: str, value: Any) -> Any:
    """Convert the value to the annotated type; refuse a value of another type."""
    if parameter is None:
        return value
    found, fits = _fitted(parameter.annotation, value)
    # pydantic would turn True into 1.0
    if not fits or (isinstance(value, bool) and not isinstance(found, bool)):
        refuse(
            f"option {read_named(name)} of reader {reader!r} should be {_type_name(parameter.annotation)}, got "
            f"{value!r} ({type(value).__name__})"
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
    """Make a mapping from ``key:value`` words; a key given twice holds a list."""
    found: dict[str, list[str]] = {}
    for word in words:
        key, colon, value = word.partition(":")
        if not colon:
            refuse(f"{word!r} should be key:value")
        found.setdefault(key, []).append(value)
    return {key: values[0] if len(values) == 1 else values for key, values in found.items()}


def _fitted(annotation: Any, value: Any) -> tuple[Any, bool]:
    """Convert a value to a type, and say whether that is possible; a text is a number rather than true or false."""
    if isinstance(value, str) and {bool, float} <= set(typing.get_args(annotation)):
        try:
            return float(value), True
        except ValueError:
            pass
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value), True
    except ValidationError:
        return value, False


def _type_name(annotation: Any) -> str:
    return (
        annotation.__name__
        if isinstance(annotation, type)
        else re.sub(r"\b(collections\.abc|pathlib|typing)\.", "", str(annotation))
    )
