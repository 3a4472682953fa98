"""A whole experiment as one YAML file, checked before any work starts.

Paths in a recipe are relative to the folder where the command is run. Environment variables (``$NAME``) and ``~`` are
expanded. A network named ``package.module:factory`` is imported, which runs its code: run only recipes that you trust.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from brainrdl._core import files as _files
from brainrdl._core.errors import about, refuse
from brainrdl.recipe.schema import Recipe

RECIPE = "recipe.yaml"

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
        content = _parsed(Path(path).read_text(encoding="utf-8"), where)
    except OSError as error:
        refuse(f"cannot read {where}: {error.strerror}; see 'brainrdl recipe --template'")
    except UnicodeDecodeError as error:
        refuse(f"{where} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8")
    if not isinstance(content, dict):
        refuse(f"{where} should contain sections (stimuli, teacher, student, ...), got {type(content).__name__}")
    for change in changes:
        _apply(content, change)
    return check(content, where)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that refuses duplicate keys, of which one value would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            before = first.setdefault(str(key.value), key)
            if before is not key:
                refuse(f"key {key.value!r} occurs twice, in {_line(before)} and in {_line(key)}; keep one of them")
        return super().construct_mapping(node, deep)


def _line(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"line {mark.line + 1} ({(mark.buffer or '').splitlines()[mark.line].strip()!r})"


def _parsed(text: str, where: str) -> Any:
    try:
        with about(where):
            return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        tab = "; indent with spaces, not with tabs" if r"'\t'" in str(error) else ""
        reported = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        refuse(f"{where} is not YAML: {reported}{tab}")


def _apply(content: dict[str, Any], change: str) -> None:
    key, found, value = change.partition("=")
    if not found:
        refuse(f"--set expects section.key=value, got {change!r}")
    parsed = _parsed(value, f"--set {change!r}: {value!r}")
    *sections, last = key.strip().split(".")
    for section in sections:
        if content.get(section) is None:
            content[section] = {}
        content = content[section]
        if not isinstance(content, dict):
            refuse(f"--set {change!r}: {section!r} is {content!r}, not a section")
    content[last] = parsed


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
        refuse(f"{where}: " + "; ".join(_worded(place, faults) for place, faults in places.items()))


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
    given = "" if fault["type"] == "value_error" else f", got {fault['input']!r}"
    return f"{place}: {' or '.join(messages).replace(' or should be', ' or')}{given}"


def _keys_at(place: Sequence[str | int]) -> list[str]:
    model: Any = Recipe
    for part in place:
        model = model.model_fields[part].annotation
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
