"""For the reference: of each module of a room, show the names that the room makes public, as its stub lists them."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import griffe


class PublicNames(griffe.Extension):
    """Mark all other names of the module as private: helpers that modules of brainrdl share."""

    def on_module(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        stub = Path(str(mod.filepath)).with_name("__init__.pyi")
        if mod.is_init_module or not stub.exists() or stub.parent.parent.name != "brainrdl":
            return
        entry = re.search(rf"^from \.{mod.name} import (\([^)]*\)|.*)$", stub.read_text(encoding="utf-8"), re.MULTILINE)
        public = set(re.findall(r"\bas (\w+)", entry[1])) if entry else set()
        for name, member in mod.members.items():
            member.public = name in public


class DefiningModules(griffe.Extension):
    """Name classes of other packages by the module that defines them, as the lists of names of their sites do."""

    def on_module(self, *, mod: griffe.Module, **kwargs: Any) -> None:
        for member in mod.members.values():
            if member.is_alias and member.target_path.startswith("rsatoolbox."):
                member.target_path = _where_defined(member.target_path)


def _where_defined(path: str) -> str:
    found = resolve_name(path)
    return f"{found.__module__}.{found.__qualname__}" if isinstance(found, type) else path
