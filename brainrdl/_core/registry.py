"""Functions by name, imported only when they are asked for, so that the names cost nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar, cast

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to functions of one module, which is imported when the first function is needed.

    Parameters
    ----------
    module : str
        Where the functions are defined.
    functions : mapping of str to str
        The name of each function in `module`, by the name that users give.

    Examples
    --------
    >>> roots = Registry("math", {"square": "sqrt"})
    >>> list(roots), roots["square"](4.0)
    (['square'], 2.0)
    """

    def __init__(self, module: str, functions: Mapping[str, str]) -> None:
        self._module, self._functions = module, dict(functions)

    def __getitem__(self, name: str) -> T:
        return cast(T, getattr(import_module(self._module), self._functions[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"Registry({self._module!r}, {list(self._functions)})"
