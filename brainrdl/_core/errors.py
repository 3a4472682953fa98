"""Errors and checks with consistent wording.

Each helper says what was expected, what was given (quoted), where, and what to do; for a wrong name it adds the nearest
known one. Every mistake of a user raises a `BrainrdlError`; any other exception is a bug in brainrdl.

An argument is written ``names=`` in Python, ``--names FILE`` on the command line and ``teacher.names`` in a recipe.
Therefore a message marks each argument that it advises (`arg`, `read_arg`) or is about (`named`, `read_named`), and the
error writes it when it is shown: as in Python, or as in the front end that the error passed through (`about`).
"""

from __future__ import annotations

import ast
import difflib
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NoReturn
from unicodedata import normalize

_SHOWN = 5

_SYNONYMS = {"pearson": "corr", "kendall": "tau-a"}  # common names that look like the names of other comparators

_BEGIN, _BETWEEN, _END = "\ue000\ue001\ue002"  # repr() escapes these, so no quoted value can contain a marker


@dataclass(frozen=True)
class Argument:
    """An argument inside a message.

    Attributes
    ----------
    name : str
        Name in Python.
    given : str
        The value, as Python writes it; empty if the message gives no value.
    of : str
        Owner of the argument, if several have one with this name: "teacher", "student", "loss"; "read" is
        `brainrdl.read`, with the options that it passes to the reader of the file.
    advised : bool
        Whether the message advises the argument, or is about it.
    python : str
        Text for Python, if it is not ``name=``: for example a method.
    """

    name: str
    given: str = ""
    of: str = ""
    advised: bool = True
    python: str = ""

    @property
    def value(self) -> Any:
        """The value itself, or its text if it is more than a literal."""
        try:
            return ast.literal_eval(self.given)
        except (ValueError, SyntaxError):
            return self.given

    def __str__(self) -> str:
        """Return the marker that represents the argument in a message."""
        return _BEGIN + _BETWEEN.join((self.name, self.given, self.of, "a" * self.advised, self.python)) + _END


Spelling = Callable[[Argument], str | None]  # None: unknown, so it is written as in Python


def in_python(argument: Argument) -> str:
    """Write an argument as in Python.

    Examples
    --------
    >>> in_python(Argument("axes", "'first'")), in_python(Argument("axes")), in_python(Argument("axes", advised=False))
    ("axes='first'", 'axes=', 'axes')
    """
    return argument.python or (f"{argument.name}={argument.given}" if argument.advised else argument.name)


class BrainrdlError(ValueError):
    """An input that brainrdl refuses; the message says what was given, where, and what to do.

    Parameters
    ----------
    message : str
        Text of the error, which may mark arguments, see `arg` and `named`.
    place : str, optional
        Subject of the message, for example ``"file 'it.h5'"``; it is put before the message.

    Attributes
    ----------
    message : str
        The message with its markers.
    place : str
        Subject of the message.
    spellings : tuple of callable
        How ``str(error)`` writes the marked arguments: one function per front end that the error passed through, the
        innermost first. An argument that none of them knows is written as in Python.

    Examples
    --------
    >>> raise BrainrdlError("layer 'layer9' is not in the model; nearest: 'layer4'")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: layer 'layer9' is not in the model; nearest: 'layer4'
    >>> from brainrdl._core.errors import arg
    >>> error = BrainrdlError(f"name the conditions with {arg('names')}", place="file 'it.npy'")
    >>> str(error)
    "file 'it.npy': name the conditions with names="
    >>> error.render(lambda argument: f"--{argument.name} FILE"), error.advised
    ("file 'it.npy': name the conditions with --names FILE", ('names',))
    """

    __module__ = "brainrdl"  # the name that users import it by, in tracebacks

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.message, self.place = message, place
        self.spellings: tuple[Spelling, ...] = ()

    @property
    def marked(self) -> str:
        """Subject and message, with the markers; see `spell`."""
        return f"{self.place}: {self.message}" if self.place else self.message

    @property
    def argument(self) -> str | None:
        """Name of the argument that the message is about, or None."""
        return next((argument.name for argument in _arguments(self.message) if not argument.advised), None)

    @property
    def advised(self) -> tuple[str, ...]:
        """Names of the arguments that the message advises."""
        return tuple(argument.name for argument in _arguments(self.message) if argument.advised)

    def render(self, *spellings: Spelling) -> str:
        """Return the message, with each argument as in the first of `spellings` that knows it, else as in Python."""
        return spell(self.marked, *spellings)

    def __str__(self) -> str:
        """Return the message as in the front end that the error passed through."""
        return self.render(*self.spellings)

    def __repr__(self) -> str:
        """Return the class name and the message without markers."""
        return f"{type(self).__name__}({str(self)!r})"


class DivergedError(BrainrdlError):
    """A fit whose loss or patterns became NaN or Inf, or whose learning rate is too large; the message gives the step.

    A search over learning rates may catch it, and count such a fit as a failure rather than as a wrong input.

    Examples
    --------
    >>> issubclass(DivergedError, BrainrdlError)
    True
    """

    __module__ = "brainrdl"


def _arguments(message: str) -> list[Argument]:
    return [_argument(part.partition(_END)[0]) for part in message.split(_BEGIN)[1:]]


def _argument(marker: str) -> Argument:
    name, given, of, advised, python = marker.split(_BETWEEN)
    return Argument(name, given, of, bool(advised), python)


def spell(text: str, *spellings: Spelling) -> str:
    """Replace the markers in a text by the first of `spellings` that knows the argument, else as in Python.

    Examples
    --------
    >>> spell(f"name the conditions with {arg('names')}")
    'name the conditions with names='
    """
    spelled, *parts = text.split(_BEGIN)
    for part in parts:
        marker, _, rest = part.partition(_END)
        argument = _argument(marker)
        spelled += next(filter(None, (spelling(argument) for spelling in spellings)), in_python(argument)) + rest
    return spelled


_NOTHING = object()


def arg(name: str, value: object = _NOTHING, *, of: str = "", python: str = "") -> str:
    """Mark an argument that a message advises, with its value if only one is possible.

    Parameters
    ----------
    name : str
        Name in Python.
    value : optional
        Advised value.
    of, python : str
        As in `Argument`.

    Examples
    --------
    >>> refuse(f"set {arg('rdm_weight', 0)}, or add labels with {arg('labels', python='stimuli.with_labels(...)')}")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: set rdm_weight=0, or add labels with stimuli.with_labels(...)
    """
    return str(Argument(name, _written(value), of, python=python))


def read_arg(name: str, value: object = _NOTHING) -> str:
    """Mark an argument of `brainrdl.read` that a message advises: its own, or an option of the file's reader.

    Examples
    --------
    >>> refuse(f"use {read_arg('axes', 'first')}")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: use axes='first'
    """
    return arg(name, value, of="read")


def named(name: str) -> str:
    """Mark an argument that a message is about.

    Examples
    --------
    >>> refuse(f"{named('target')} 'V2' is not known")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: target 'V2' is not known
    """
    return str(Argument(name, advised=False))


def read_named(name: str) -> str:
    """Mark an argument of `brainrdl.read` that a message is about.

    Examples
    --------
    >>> refuse(f"the reader has no option {read_named('axis')}")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: the reader has no option axis
    """
    return str(Argument(name, of="read", advised=False))


def _written(value: object) -> str:
    return "" if value is _NOTHING else repr(value)


def refuse(message: str, place: str = "") -> NoReturn:
    """Raise `BrainrdlError` with `message`, with `place` in front.

    Raises
    ------
    BrainrdlError
        Always.
    """
    raise BrainrdlError(message, place)


@contextmanager
def about(place: str = "", spelling: Spelling | None = None) -> Iterator[None]:
    """Add to an error inside the block its subject, unless it has one, and how its arguments are written.

    Parameters
    ----------
    place : str
        Subject of the error, for example ``"file 'it.h5'"``.
    spelling : callable, optional
        Function from an `Argument` to its text in a front end, or to None.

    Raises
    ------
    BrainrdlError
        The error of the block.

    Examples
    --------
    >>> with about("file 'it.h5'", lambda argument: f"teacher.{argument.name}"):
    ...     refuse(f"choose a descriptor with {arg('by')}")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: file 'it.h5': choose a descriptor with teacher.by
    """
    try:
        yield
    except BrainrdlError as error:
        error.place = error.place or place
        error.spellings += (spelling,) if spelling else ()
        raise


def quote(names: Iterable[object]) -> str:
    """List names for a message: the first five quoted, the rest counted.

    Examples
    --------
    >>> quote(["a", "b"])
    "['a', 'b']"
    >>> quote("abcdefg")
    "['a', 'b', 'c', 'd', 'e', and 2 more]"
    """
    listed = [repr(name) for name in names]
    more = [f"and {len(listed) - _SHOWN} more"] if len(listed) > _SHOWN else []
    return "[" + ", ".join(listed[:_SHOWN] + more) + "]"


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the known names that are most similar to `name`: ``"; nearest: 'a', 'b'"``, or an empty text.

    Examples
    --------
    >>> nearest("layer9", ["layer1", "fc"])
    "; nearest: 'layer1'"
    >>> nearest("zzz", ["layer1", "fc"])
    ''
    >>> nearest("pearson", ["spearman", "corr"])
    "; nearest: 'corr'"
    """
    options, synonym = list(known), _SYNONYMS.get(str(name).lower())
    close = [synonym] if synonym in options else difflib.get_close_matches(str(name), options, n=3, cutoff=0.5)
    return "; nearest: " + ", ".join(map(repr, close)) if close else ""


def check_option(value: str, options: Collection[str], what: str) -> str:
    """Return `value` if it is one of `options`; otherwise the error gives the nearest and all known names.

    Parameters
    ----------
    value : str
        Value to check.
    options : collection of str
        Allowed values.
    what : str
        Name of the argument, or a description of the value.

    Raises
    ------
    BrainrdlError
        If `value` is not in `options`.

    Examples
    --------
    >>> check_option("corr", ["corr", "cosine"], "similarity")
    'corr'
    """
    if value not in options:
        known = ", ".join(map(str, options))
        refuse(f"{_subject(what)} {value!r} is not known{nearest(value, options)} (known: {known})")
    return value


def _subject(what: str) -> str:
    """Mark the name of an argument; other words stay as they are."""
    return named(what) if what.isidentifier() else what


def check_whole(value: object, what: str, at_least: int, below: float = math.inf) -> None:
    """Refuse a value that is not a whole number, is less than `at_least`, or is not below `below`.

    NumPy's whole numbers are accepted; True and False are not.

    Raises
    ------
    BrainrdlError
        If `value` is of another type or out of bounds.

    Examples
    --------
    >>> check_whole(2.5, "steps", 0)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: steps must be a whole number, at least 0, got 2.5
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not at_least <= int(value) < below:
        limit = f" and below {below}" if below < math.inf else ""
        refuse(f"{_subject(what)} must be a whole number, at least {at_least}{limit}, got {value!r}")


def check_number(value: object, what: str, *, at_least: float = -math.inf, above: float = -math.inf) -> None:
    """Refuse a value that is not a finite number, is less than `at_least`, or is not above `above`.

    Raises
    ------
    BrainrdlError
        If `value` is of another type, NaN, Inf or out of bounds.

    Examples
    --------
    >>> check_number("1e-3", "lr", above=0)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: lr must be a finite number above 0, got '1e-3'
    """
    known = isinstance(value, Real) and not isinstance(value, bool)
    if not known or not math.isfinite(value) or value < at_least or value <= above:  # type: ignore[arg-type,operator]
        limit = f"above {above}" if above > -math.inf else f"of at least {at_least}"
        refuse(f"{_subject(what)} must be a finite number {limit}, got {value!r}")


def check_unique(names: Sequence[str], where: str) -> None:
    """Refuse duplicate names in `where` (for example ``"stimulus folder 'faces'"``).

    Raises
    ------
    BrainrdlError
        If a name occurs more than once.
    """
    if len(set(names)) < len(names):
        duplicates = [name for name, count in Counter(names).items() if count > 1]
        refuse(
            f"names {quote(duplicates)} occur more than once in {where}; names must be unique: rename or remove the "
            "duplicates"
        )


def check_text(names: Iterable[str], where: str) -> None:
    r"""Refuse names that cannot be written to a file, and different names that look the same.

    Names that differ only in white space ("s1" and "s1 "), or in how an accent is encoded, are most likely one name:
    if they counted as two subjects or conditions, means and ceilings would be wrong. All names that are stored with a
    result are checked here before anything is fitted: of conditions, categories, subjects, targets, layers, students
    and models.

    Raises
    ------
    BrainrdlError
        If a name cannot be written as UTF-8, or contains NUL, at which other programs cut it; if two names differ only
        in white space or in the encoding of their letters.

    Examples
    --------
    >>> check_text(["cat", "b\udce4r"], "the stimuli")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: names ['b\udce4r'] of the stimuli are not valid Unicode; rename them (if they are names ...
    """
    listed = list(names)
    for reason, broken in (
        ("are not valid Unicode", [name for name in listed if name.encode("utf-8", "ignore").decode() != name]),
        ("contain the character NUL", [name for name in listed if "\0" in name]),
    ):
        if broken:
            refuse(f"names {quote(broken)} of {where} {reason}; rename them (if they are names of files, the files)")
    same: dict[str, list[str]] = {}
    for name in dict.fromkeys(listed):
        same.setdefault(" ".join(normalize("NFC", name).split()), []).append(name)
    twins = [twin for names_alike in same.values() if len(names_alike) > 1 for twin in names_alike]
    if twins:
        refuse(
            f"names {quote(twins)} of {where} differ only in white space or in how their letters are encoded; give "
            "them one name if they are the same, or names that look different"
        )


def check_conditions(asked: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse names of `asked` that are not in `known`, the conditions of `where`.

    Raises
    ------
    BrainrdlError
        If a name is unknown; the message gives the missing and the nearest names.

    Examples
    --------
    >>> check_conditions(["face_07"], ["face_70"], "teacher 'V1'")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: conditions ['face_07'] are not in teacher 'V1' (1 conditions); nearest: 'face_70'
    """
    # this runs in each training step: the names of a large set are not copied
    asked, members = tuple(asked), known if isinstance(known, Mapping | Set) else frozenset(known)
    if not all(map(members.__contains__, asked)):
        missing = [name for name in asked if name not in members]
        close = nearest(missing[0], [name for name in known if name not in asked])
        refuse(f"conditions {quote(missing)} are not in {where} ({len(members)} conditions){close}")
