"""How soon does brainrdl answer? ``python tests/benchmarks/bench_startup.py`` prints a Markdown table of ratios.

Whole processes, in turn with a bare ``import torch``, so that a busy machine slows both equally.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 7
CASES = {
    "`import brainrdl`": "import brainrdl",
    "`brainrdl --help`": "import sys; sys.argv = ['brainrdl', '--help']; from brainrdl.cli.app import main; main()",
}


def seconds(code: str) -> float:
    """Wall time of a process that runs `code`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    print("| process | s (median) | ratio to `import torch` (median of pairs) |\n|---|---|---|")
    for name, code in CASES.items():
        pairs = [(seconds(code), seconds("import torch")) for _ in range(ROUNDS)]
        ours = statistics.median(one for one, _ in pairs)
        print(f"| {name} | {ours:.2f} | {statistics.median(one / torch for one, torch in pairs):.2f} |")


if __name__ == "__main__":
    main()
