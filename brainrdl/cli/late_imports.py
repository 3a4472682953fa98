"""Parts of libraries that the command line loads only when they are used, because it hardly ever uses them.

``import rsatoolbox`` also loads its figures, and with them Matplotlib, scikit-learn and scikit-image, and NetworkX for
its geodesic distances: half of its time.
Such a module is found as always, and loaded when one of its names is first used; nothing else about it is different.
Only a process of the command line does this: a program that imports brainrdl keeps Python's own order of imports.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

LATE = frozenset({"rsatoolbox.vis", "networkx"})

_LOADING = threading.RLock()


class _LateModule(ModuleType):
    """A module that is loaded when a name is asked for that it does not have yet.

    Unlike those of `importlib.util.LazyLoader`, it says where its file is without being loaded: torch asks all modules.
    """

    def __getattr__(self, name: str) -> Any:
        asked_of_all = name.startswith("__") and name not in ("__all__", "__version__")
        found = {} if asked_of_all or self.__spec__ is None else self._loaded(self.__spec__)
        if name in found:
            return found[name]
        if "__getattr__" in found:
            return found["__getattr__"](name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def _loaded(self, spec: ModuleSpec) -> dict[str, Any]:
        with _LOADING:  # another thread must not see half of the names
            if isinstance(spec.loader, _LateLoader):
                spec.loader = self.__loader__ = spec.loader.usual
                spec.loader.exec_module(self)
        return vars(self)


class _LateLoader(Loader):
    def __init__(self, usual: Loader) -> None:
        self.usual = usual

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave it to the first use."""


class LateFinder:
    """Find the modules `LATE`, to be loaded when they are first used."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module as Python does, if it is one of `LATE`."""
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


def load_late() -> None:
    """Load the modules `LATE` in this process when they are first used."""
    if LateFinder not in sys.meta_path:
        sys.meta_path.insert(0, LateFinder)
