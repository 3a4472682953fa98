"""How long do the code blocks of a page take? ``python tests/benchmarks/bench_pages.py [PAGE ...]`` prints a table.

By default the pages are README.md and the quickstart. Blocks run in order in an empty folder, those in Python in one
process, each command in a process of its own. Processor time, including imports.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?P<comment><!-- [^\n]*-->)?\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
_FILE = re.compile(r"<!-- file: (?P<name>\S+) -->")


def run_commands(text: str) -> float:
    """Run the ``brainrdl`` commands of a block; return their processor time in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for words in filter(None, (shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines())):
        subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_python(text: str, namespace: dict[str, Any]) -> float:
    """Run a block; return its processor time in seconds."""
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        exec(text, namespace)
    return time.process_time() - started


def measure(page: Path) -> None:
    """Run a page in an empty folder, and print a row for each block."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
            comment, text = block["comment"] or "", block["text"]
            if named := _FILE.match(comment):
                Path(named["name"]).write_text(text, encoding="utf-8")
            if "not run" in comment or block["language"] not in ("python", "bash"):
                continue
            seconds = run_python(text, namespace) if block["language"] == "python" else run_commands(text)
            print(f"| {page.name} | `{text.strip().splitlines()[-1][:60]}` | {seconds:.0f} |", flush=True)
        os.chdir(ROOT)


def main() -> None:
    """Print the table."""
    pages = [Path(name).resolve() for name in sys.argv[1:]] or [ROOT / "README.md", ROOT / "docs/quickstart.md"]
    print("| page | last line of the block | s |\n|---|---|---:|")
    for page in pages:
        measure(page)


if __name__ == "__main__":
    main()
