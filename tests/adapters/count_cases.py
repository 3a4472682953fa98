"""Count what the readers' tests give each reader, and what comes of it: docs/developers/readers_tested.md.

Run it as ``python tests/adapters/count_cases.py``: it runs the tests of this folder once and prints a Markdown table. A
fuzz case is an input that hypothesis made; a refusal is counted by the line of code that raised it.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from brainrdl.readers.reading import Reader, find_readers

FOLDER = Path(__file__).parent


class Counts:
    """How often each reader was asked, by kind of test, and where it refused."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, bool]] = Counter()
        self.refused: Counter[tuple[str, bool]] = Counter()
        self.places: dict[str, set[tuple[str, int | None]]] = defaultdict(set)

    def pytest_sessionstart(self) -> None:
        """Watch every reader."""
        for reader in find_readers().values():
            self.watch(reader)

    def watch(self, reader: Reader) -> None:
        """Count the calls of a reader's ``read``."""
        import hypothesis  # not earlier: pytest wants to load it first

        kind: Any = type(reader)
        read = kind.read

        @functools.wraps(read)
        def counted(*args: Any, **options: Any) -> Any:
            key = (reader.name, hypothesis.currently_in_test_context())
            self.asked[key] += 1
            try:
                return read(*args, **options)
            except Exception as error:
                self.refused[key] += 1
                frames = traceback.extract_tb(error.__traceback__)
                ours = [frame for frame in frames if "/data_adapters/" in frame.filename]
                self.places[reader.name].add((ours[-1].filename, ours[-1].lineno))
                raise

        kind.read = counted

    def table(self) -> str:
        """Write the counts as Markdown."""
        rows = [
            "| reader | fuzz cases | of them refused | other inputs | places that refused |",
            "| --- |" + " ---: |" * 4,
        ]
        for name in find_readers():
            fuzzed, others = (name, True), (name, False)
            numbers = (self.asked[fuzzed], self.refused[fuzzed], self.asked[others], len(self.places[name]))
            rows.append(f"| {name} | " + " | ".join(map(str, numbers)) + " |")
        return "\n".join(rows)


def main() -> int:
    """Run the tests and print the table."""
    counts = Counts()
    status = pytest.main(
        [
            "-q",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
            "-p",
            "no:xdist",
            "-p",
            "no:cacheprovider",
            str(FOLDER),
        ],
        [counts],
    )
    print(counts.table())
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
