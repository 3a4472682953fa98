"""Keys of a recipe for arguments in messages: ``steps=`` is the key ``fit.steps``."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import yaml

from brainrdl._core.errors import Argument, Spelling
from brainrdl.readers.reading import read
from brainrdl.recipe.schema import Recipe, section_of

_OTHER_NAMES = {"match": "student.layers: {layer: target}"}  # arguments with another name in a recipe


def in_recipe(section: str = "") -> Spelling:
    """Return a function that writes arguments as keys of a recipe.

    Parameters
    ----------
    section : str, optional
        Section to search first, because several sections have, for example, ``layers``; or a part of a section
        (``teacher.several.human``).

    Returns
    -------
    callable
        Function from an argument to its key in the recipe (with the value, if the message gives one), or to None.

    Examples
    --------
    >>> spelled = in_recipe()
    >>> spelled(Argument("steps")), spelled(Argument("axes", "'first'", of="read")), spelled(Argument("out"))
    ('fit.steps', 'teacher.options.axes: first', None)
    >>> in_recipe("student")(Argument("pool", "'avgpool'"))
    'student.pool: avgpool'
    """
    return partial(_spelled, section)


def _spelled(section: str, argument: Argument) -> str | None:
    key = _key(argument, section)
    return key and key + (f": {_in_yaml(argument.value)}" if argument.given else "")


def _key(argument: Argument, section: str) -> str | None:
    sections = {name: section_of(field.annotation) for name, field in Recipe.model_fields.items()}
    keys = {name: section.model_fields for name, section in sections.items() if section is not None}
    within = section.partition(".")[0]  # of teacher.several.human
    if argument.of == "read":
        own = argument.name in keys["teacher"] and argument.name in inspect.signature(read).parameters
        place = section if within == "teacher" else "teacher"
        return f"{place}.{argument.name}" if own else f"{place}.options.{argument.name}"
    found = [name for name in keys if argument.name in keys[name]]
    for wanted in (argument.of, within, "fit"):
        if wanted in found:
            return f"{section if wanted == within else wanted}.{argument.name}"
    return f"{found[0]}.{argument.name}" if len(found) == 1 else _OTHER_NAMES.get(argument.name)


def _in_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("\n").removesuffix("\n...")
