"""A whole experiment as one YAML file, checked before any work starts.

Paths in a recipe are relative to the folder where the command is run. Environment variables (``$NAME``) and ``~`` are
expanded. A network named ``package.module:factory`` is imported, which runs its code: run only recipes that you trust.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from brainrdl._core import files as _files
from brainrdl._core.errors import BrainrdlError, about, refuse
from brainrdl.recipe.schema import Recipe, labelled_section, section_of

RECIPE = "recipe.yaml"

_LARGEST, _MOST_VALUES, _DEEPEST = 200_000, 5_000, 30  # letters, values and levels of a recipe

_MOST_FAULTS = 20  # in an error
_MARK = "# Written by brainrdl. SHA-256 of the lines below: "

_EXAMPLE = {
    "stimuli": {"folder": "images"},
    "teacher": {"rdms": "it.h5"},
    "student": {"model": "small_cnn", "layers": ["pool"]},
}


def load(path: Path | str, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path
        YAML file of the recipe.
    changes : sequence of str
        ``"section.key=value"``, with the value in YAML; applied before the check.

    Returns
    -------
    Recipe

    Raises
    ------
    BrainrdlError
        If the file is missing or is not YAML, or a key or value is wrong; the message gives the nearest valid key.

    Examples
    --------
    >>> import tempfile
    >>> from brainrdl.recipe import template
    >>> path = Path(tempfile.mkdtemp()) / "recipe.yaml"
    >>> _ = path.write_text(template())
    >>> load(path, ["fit.steps=5"]).fit.steps
    5
    """
    where = f"recipe {str(path)!r}"
    try:
        content = _parsed(_text_of(Path(path), where), where)
    except OSError as error:
        refuse(f"cannot read {where}: {error.strerror}; see 'brainrdl recipe --template'")
    except UnicodeDecodeError as error:
        refuse(f"{where} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8")
    if not isinstance(content, dict):
        refuse(f"{where} should contain sections (stimuli, teacher, student, ...), got {type(content).__name__}")
    for change in changes:
        _apply(content, change)
    return check(content, where)


def _text_of(path: Path, where: str) -> str:
    if "\0" in str(path) or (path.exists() and not path.is_file()):
        refuse(f"{where} is not a file; see 'brainrdl recipe --template'")
    if (size := path.stat().st_size) > _LARGEST:
        refuse(f"{where} has {size:,} bytes, but a recipe has at most {_LARGEST:,}; put long lists into files")
    return path.read_text(encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that refuses duplicate keys, of which one value would be lost silently, and bombs."""

    depth = n_values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth, self.n_values = self.depth + 1, self.n_values + 1
        if self.depth > _DEEPEST:
            refuse(f"{_line_of(self.get_mark())} is nested in more than {_DEEPEST} levels")
        if self.n_values > _MOST_VALUES:
            refuse(f"there are more than {_MOST_VALUES:,} keys and values; put long lists into files")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            before = first.setdefault(str(key.value), key)
            if before is not key:
                name = _short(key.value)
                refuse(f"key {name} occurs twice, in {_line(before)} and in {_line(key)}; keep one of them")
        return super().construct_mapping(node, deep)


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the letters of a node with all that its aliases repeat; refuse too many, and a node within itself."""
    if id(node) not in known:
        known[id(node)] = _LARGEST + 1  # until it is counted, which a node within itself never is
        parts = [node.value] if isinstance(node, yaml.ScalarNode) else node.value
        flat = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(len(part) if isinstance(part, str) else _count(part, known) for part in flat)
        if known[id(node)] > _LARGEST:
            refuse(f"the aliases in {_line(node)} repeat more than {_LARGEST:,} letters, or a value contains itself")
    return known[id(node)]


def _line(node: yaml.Node) -> str:
    return _line_of(node.start_mark)


def _line_of(mark: yaml.Mark) -> str:
    lines = (mark.buffer or "").rstrip("\0").splitlines()
    return f"line {mark.line + 1}" + (f" ({_short(lines[mark.line].strip())})" if mark.line < len(lines) else "")


def _short(value: Any, most: int = 100) -> str:
    """Quote a value in an error; of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} letters)"


def _parsed(text: str, where: str) -> Any:
    try:
        with about(where):
            return _Loader(text).get_single_data()
    except BrainrdlError:
        raise
    except yaml.YAMLError as error:
        tab = "; indent with spaces, not with tabs" if r"'\t'" in str(error) else ""
        reported = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        refuse(f"{where} is not YAML: {reported}{tab}")
    except Exception as error:  # YAML's own constructors fail in their own ways: of dates, of binary data
        refuse(f"{where} holds a value that is not what its tag or form says: {type(error).__name__}: {error}")


def _apply(content: dict[str, Any], change: str) -> None:
    key, found, value = change.partition("=")
    if not found:
        refuse(f"--set expects section.key=value, got {change!r}")
    set_key(content, key.strip(), parse_value(value, f"--set {change!r}"), f"--set {change!r}")


def parse_value(text: str, what: str) -> Any:
    """Read a value of a recipe, which is YAML; `what` names it in errors.

    Examples
    --------
    >>> parse_value("[0, .1, avgpool]", "--set ...")
    [0, 0.1, 'avgpool']
    """
    return _parsed(text, f"{what}: {text!r}")


def set_key(content: dict[str, Any], key: str, value: Any, what: str) -> None:
    """Set a key ``section.key`` in the content of a recipe; `what` names the change in errors.

    Raises
    ------
    BrainrdlError
        If a part of the key is not a section.

    Examples
    --------
    >>> content = {"fit": {"steps": 5}}
    >>> set_key(content, "fit.lr", 0.1, "--set fit.lr=0.1")
    >>> content
    {'fit': {'steps': 5, 'lr': 0.1}}
    """
    *sections, last = key.split(".")
    for section in sections:
        if content.get(section) is None:
            content[section] = {}
        content = content[section]
        if not isinstance(content, dict):
            refuse(f"{what}: {section!r} is {content!r}, not a section")
    content[last] = value


def check(content: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Check the content of a recipe.

    Parameters
    ----------
    content : mapping
        The sections of the recipe, as read from YAML.
    where : str
        Name of the recipe in errors.

    Returns
    -------
    Recipe

    Raises
    ------
    BrainrdlError
        As in `load`; the message lists every error with its place.

    Examples
    --------
    >>> check({"stimuli": {"foldr": "images"}})
    Traceback (most recent call last):
    brainrdl.BrainrdlError: recipe: unknown key stimuli.foldr; nearest: 'folder'; teacher is missing; ...
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        places: dict[str, list[Mapping[str, Any]]] = {}  # a value of several allowed types has an error for each
        for fault in error.errors():
            places.setdefault(_place(fault["loc"]), []).append(dict(fault))
        worded = [_worded(place, faults) for place, faults in itertools.islice(places.items(), _MOST_FAULTS)]
        more = [f"and {len(places) - _MOST_FAULTS} more"] if len(places) > _MOST_FAULTS else []
        refuse(f"{where}: " + "; ".join(worded + more))


_SHOULD = {
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
    "string_type": "should be text",
    "list_type": "should be a list",
    "dict_type": "should be a mapping",
    "path_type": "should be a path",
    "model_type": "should be a section of keys",
}

_TYPE = re.compile(r"int|float|str|.*[\[(].*")  # what pydantic adds to a place for each allowed type of a value


def _place(loc: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in loc if isinstance(part, int) or not _TYPE.fullmatch(part))


def _worded(place: str, faults: Sequence[Mapping[str, Any]]) -> str:
    fault = faults[0]
    if fault["type"] == "missing":
        return f"{place} is missing"
    if fault["type"] == "extra_forbidden":
        keys = _keys_at(fault["loc"][:-1])
        close = difflib.get_close_matches(str(fault["loc"][-1]), keys, 1, 0.5)
        return f"unknown key {place}" + (f"; nearest: {close[0]!r}" if close else f" (known: {', '.join(keys)})")
    messages = [
        _SHOULD.get(fault["type"], fault["msg"].removeprefix("Value error, ").replace("Input should", "should"))
        for fault in faults
    ]
    if messages[0].startswith((place, f"each of {place}")):  # the message of an option already names its place
        return messages[0]
    given = "" if fault["type"] == "value_error" else f", got {_short(fault['input'])}"
    return f"{place}: {' or '.join(messages).replace(' or should be', ' or')}{given}"


def _keys_at(place: Sequence[str | int]) -> list[str]:
    model: Any = Recipe
    parts = iter(place)
    for part in parts:
        kind = model.model_fields[part].annotation
        model = section_of(kind)
        if model is None:  # sections by label
            model = labelled_section(kind)
            next(parts, None)
    return list(model.model_fields)


def dump(recipe: Recipe) -> str:
    """Return a recipe as YAML text that includes every default.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe.

    Returns
    -------
    str
        YAML text, from which `load` reads the same recipe.

    Examples
    --------
    >>> "inner_folds: 0" in dump(check(_EXAMPLE))
    True
    """
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def save(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, atomically, with the SHA-256 of its lines in the first one; see `load_saved`.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe.
    path : Path
        File to write.

    Raises
    ------
    BrainrdlError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / RECIPE
    >>> save(check(_EXAMPLE), path)
    >>> load(path) == check(_EXAMPLE)
    True
    """
    text = dump(recipe)
    with _files.atomic(path) as part:
        part.write_text(f"{_MARK}{_files.hash_words([text])}\n{text}", encoding="utf-8")


def load_saved(path: Path) -> Recipe:
    """Read the recipe of a run, which must be as `save` wrote it.

    Raises
    ------
    BrainrdlError
        As in `load`; also if the recipe has changed since the run began.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / RECIPE
    >>> save(check(_EXAMPLE), path)
    >>> _ = path.write_text(path.read_text().replace("steps: 200", "steps: 300"))
    >>> load_saved(path)
    Traceback (most recent call last):
    brainrdl.BrainrdlError: recipe '.../recipe.yaml' has changed since the run began; ...
    """
    found = load(path)
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    if first.startswith(_MARK) and first != f"{_MARK}{_files.hash_words([rest])}":
        refuse(
            f"recipe {str(path)!r} has changed since the run began; restore it from a copy, or begin another run (to "
            "use it as a new recipe, copy it to another folder)"
        )
    return found
