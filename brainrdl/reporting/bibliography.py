"""References as BibTeX entries."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from brainrdl.similarity.traits import Reference

_ENTRY = re.compile(r"(?P<authors>.+?) \((?P<year>\d{4})\)\. (?P<title>.+?)\. (?P<source>.+)\.$")

_SOURCE = re.compile(r"(?P<journal>.+?),? (?P<volume>\d+)(?:\((?P<number>\d+)\))?(?:[:,] ?(?P<pages>[\w-]+))?$")

_SPECIAL = str.maketrans({letter: f"\\{letter}" for letter in "&%$#_{}"})


def bibtex(references: Sequence[Reference], versions: Mapping[str, str] | None = None) -> str:
    """Write references as BibTeX entries, with one for brainrdl itself.

    Parameters
    ----------
    references : sequence of Reference
    versions : mapping of package to version, optional
        With the version of brainrdl.

    Returns
    -------
    str
        Entries that biber and BibTeX with UTF-8 read. What the entry of a reference does not state is left out.

    Examples
    --------
    >>> from brainrdl.similarity.traits import Reference
    >>> doe = Reference("Doe, 2031", "Doe, J. (2031). Agreement. Journal of RDMs 3(2):1-9.", "10.1000/agreement")
    >>> print(bibtex([doe], {"brainrdl": "1.0"}).split("@")[1].strip())
    article{doe2031,
      author = {Doe, J.},
      title = {{Agreement}},
      year = {2031},
      journal = {Journal of RDMs},
      volume = {3},
      number = {2},
      pages = {1--9},
      doi = {10.1000/agreement},
    }
    """
    keys: list[str] = []
    for reference in references:
        key = _key(reference)
        keys.append(key if key not in keys else f"{key}{len(keys)}")
    entries = [_entry(key, reference) for key, reference in zip(keys, references, strict=True)]
    return "\n\n".join([*entries, _software(versions or {})]) + "\n"


def _key(reference: Reference) -> str:
    first, year = re.match(r"[^,&]+", reference.cited), re.search(r"\d{4}", reference.cited)
    words = f"{first.group() if first else ''}{year.group() if year else ''}"
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
    return re.sub(r"\W|et al", "", plain).lower()


def _entry(key: str, reference: Reference) -> str:
    found = _ENTRY.match(reference.entry)
    if found is None:
        return _written("misc", key, {"title": _escaped(reference.entry), "doi": reference.doi})
    source = _SOURCE.match(found["source"])
    fields: dict[str, str | None] = {
        "author": _authors(found["authors"]), "title": f"{{{_escaped(found['title'])}}}", "year": found["year"],
    }  # fmt: skip
    if source is None:
        return _written("inproceedings", key, fields | {"booktitle": _escaped(found["source"]), "doi": reference.doi})
    pages = (source["pages"] or "").replace("-", "--") or None
    fields |= {"journal": _escaped(source["journal"]), "volume": source["volume"], "number": source["number"]}
    return _written("article", key, fields | {"pages": pages, "doi": reference.doi})


def _authors(text: str) -> str:
    """Separate authors with "and": they are written as "Last, F. M., Last, F. & Last, F."."""
    people = re.split(r"(?<=\.)(?:, (?:& )?| & )(?=[^\W\d_][^,]*, )", text)
    return _escaped(" and ".join(person.strip(" ,&") for person in people))


def _escaped(text: str) -> str:
    return text.translate(_SPECIAL)


def _written(kind: str, key: str, fields: Mapping[str, str | None]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _software(versions: Mapping[str, str]) -> str:
    fields = {
        "author": "{the brainrdl developers}",
        "title": "{brainrdl: representational distance learning with brain RDMs}",
        "version": versions.get("brainrdl"),
    }
    return _written("software", "brainrdl", fields)
