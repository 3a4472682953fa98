"""The reference shows the public names of a room, and no helper that its modules share."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_reference_shows_the_names_in_the_stub_and_no_others() -> None:
    griffe = pytest.importorskip("griffe", reason="griffe is not installed (make docs installs it)")
    extensions = griffe.load_extensions(str(ROOT / "docs/public_names.py"))
    catalogue = griffe.load("brainrdl.datasets.catalogue", search_paths=[str(ROOT)], extensions=extensions)
    shown = {name for name, member in catalogue.members.items() if member.is_public}
    assert shown == {"DataFile", "DataInfo", "cache_folder", "info", "names"}
    assert "known_sets" in catalogue.members
