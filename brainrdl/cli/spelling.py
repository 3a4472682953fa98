"""How the command line spells the arguments that messages advise: ``names=`` is the option ``--names FILE``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

from brainrdl._core.errors import Argument, about
from brainrdl._core.progress import silenced

READER = "Options of the file's reader"  # the part of a help page, and the options that stand for those of `read`

_READ = "--read"


class Command(TyperCommand):
    """A command whose refusals spell arguments as its own options; --quiet and --json hide all progress."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        silent = bool(ctx.params.get("quiet") or ctx.params.get("as_json"))
        with about(spelling=self.spelled), silenced(silent):
            return super().invoke(ctx)

    def spelled(self, argument: Argument) -> str | None:
        """Spell an argument as an option of this command."""
        return _spelled(self.params, argument)


def _spelled(options: Sequence[Any], argument: Argument) -> str | None:
    for option in options:
        if argument.name in _names(option) and (argument.of == "read") == (option.rich_help_panel == READER):
            return _own(option, argument)
    read = next((option for option in options if _READ in option.opts), None)
    return None if read is None or argument.of != "read" else _of_reader(read, argument)


def _names(option: Any) -> set[str]:
    """Give the names of an option in Python: of the parameter, and as it is spelled."""
    if option.param_type_name != "option":
        return set()
    return {option.name, *(word.lstrip("-").replace("-", "_") for word in option.opts)}


def _own(option: Any, argument: Argument) -> str:
    called = max(option.opts, key=len)
    if option.is_flag or not argument.advised:
        return called
    if not argument.given:
        return f"{called} {option.metavar or option.name.upper()}"
    return " ".join(f"{called} {shlex.quote(word)}" for word in _words(argument.value))


def _of_reader(read: Any, argument: Argument) -> str:
    side = read.metavar.removesuffix("KEY=VALUE")
    if not argument.advised:
        return f"{_READ} {side}{argument.name}"
    words = _words(argument.value) if argument.given else ["VALUE"]
    return " ".join(f"{_READ} {side}{shlex.quote(f'{argument.name}={word}')}" for word in words)


def _words(value: Any) -> list[str]:
    """Write a value as words: a list as several, a mapping as ``key:value``, a window as ``start:end``."""
    if isinstance(value, list):
        return [word for one in value for word in _words(one)]
    if isinstance(value, dict):
        return [f"{key}:{one}" for key, one in value.items()]
    return [":".join(map(str, value)) if isinstance(value, tuple) else str(value)]
