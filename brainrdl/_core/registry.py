"""Functions by name, imported only when they are needed, so that listing names is fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import TypeVar, cast

T = TypeVar("T")


class Registry(MutableMapping[str, T]):
    """A mapping from names to functions of one module, which is imported when the first function is needed.

    Parameters
    ----------
    module : str
        Module that defines the functions.
    functions : mapping of str to str
        From the public name to the name of the function in `module`, or to "another.module:function".

    Examples
    --------
    >>> roots = Registry("math", {"square": "sqrt"})
    >>> list(roots), roots["square"](4.0)
    (['square'], 2.0)

    A function of your own is added as to a dict:

    >>> roots["none"] = abs
    >>> roots["none"](-4)
    4
    """

    def __init__(self, module: str, functions: Mapping[str, str]) -> None:
        self._module = module
        self._functions: dict[str, str | T] = dict(functions)

    def __getitem__(self, name: str) -> T:
        found = self._functions[name]
        if not isinstance(found, str):
            return found
        module, _, function = found.rpartition(":")
        return cast(T, getattr(import_module(module or self._module), function))

    def __setitem__(self, name: str, function: T) -> None:
        self._functions[name] = function

    def __delitem__(self, name: str) -> None:
        del self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __repr__(self) -> str:
        return f"Registry({self._module!r}, {list(self._functions)})"
