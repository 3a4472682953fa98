"""References as BibTeX: entries that parse, with all authors, and nothing that is not in the reference."""

from __future__ import annotations

import re

import pytest

from brainrdl.reporting.bibliography import bibtex
from brainrdl.reporting.methods import _KANIUTH, _METHOD, INTERVAL_METHODS
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Reference

CITED = [one.reference for one in SIMILARITIES.values() if one.reference]
ALL = list({one.doi: one for one in (*_METHOD, *INTERVAL_METHODS.values(), _KANIUTH, *CITED)}.values())


def fields_of(text: str) -> list[dict[str, str]]:
    entries = re.findall(r"@(\w+)\{([\w-]+),\n(.*?)\n\}", text, flags=re.DOTALL)
    return [
        {"kind": kind, "key": key, **dict(re.findall(r"^  (\w+) = \{(.*)\},$", body, flags=re.MULTILINE))}
        for kind, key, body in entries
    ]


def test_all_references_of_the_package_become_entries_with_their_own_keys() -> None:
    entries = fields_of(bibtex(ALL, {"brainrdl": "1.0"}))
    assert len(entries) == len(ALL) + 1
    assert len({entry["key"] for entry in entries}) == len(entries)
    for entry, reference in zip(entries, ALL, strict=False):
        assert entry["doi"] == reference.doi
        assert entry["kind"] in ("article", "inproceedings")
        people = entry["author"].split(" and ")
        assert all(re.fullmatch(r"[^,]+, .+\.", person) for person in people), entry["author"]
        assert reference.entry.startswith(people[0])
        assert entry["year"] in reference.cited
        assert entry["title"].strip("{}") in reference.entry
    assert entries[-1]["version"] == "1.0"


@pytest.mark.parametrize(
    ("doi", "expected"),
    [
        ("10.1371/journal.pcbi.1003553", {"volume": "10", "number": "4", "pages": "e1003553"}),
        ("10.1093/pan/mpv018", {"journal": "Political Analysis", "volume": "23", "pages": "564--577"}),
        ("10.51628/001c.27664", {"volume": "5", "number": "3"}),
    ],
)
def test_volume_number_and_pages_are_read(doi: str, expected: dict[str, str]) -> None:
    (entry,) = [one for one in fields_of(bibtex(ALL)) if one.get("doi") == doi]
    assert {key: entry.get(key) for key in expected} == expected
    assert entry.get("pages") == expected.get("pages")


def test_an_entry_of_another_form_is_kept_whole_and_escaped() -> None:
    (entry, _) = fields_of(bibtex([Reference("Doe", "50% of R&D_1", "10.1/x")]))
    assert entry == {"kind": "misc", "key": "doe", "title": r"50\% of R\&D\_1", "doi": "10.1/x"}
