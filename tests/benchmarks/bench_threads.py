"""`brainrdl demo` with the default threads and with one thread, on idle and on busy cores: median seconds and ratios.

A busy core is a process that counts in a loop. The runs take turns, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def busy(n_cores: int) -> Iterator[None]:
    """Keep `n_cores` cores busy."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_cores)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(one_thread: bool) -> float:
    """Time one demo, start and report included."""
    environment = {key: value for key, value in os.environ.items() if key not in (*THREADS, "OMP_WAIT_POLICY")}
    environment |= dict.fromkeys(THREADS, "1") if one_thread else {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "brainrdl", "demo", "--out", f"{folder}/demo", "--quiet"]
        started = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    """Print a row per number of busy cores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--busy", type=int, nargs="*", default=[0, 1, 2])
    asked = parser.parse_args()
    print("busy cores   default   one thread   ratio")
    for n_cores in asked.busy:
        with busy(n_cores):
            pairs = [(seconds(False), seconds(True)) for _ in range(asked.runs)]
        default, one = (median(times) for times in zip(*pairs, strict=True))
        print(f"{n_cores:>10} {default:>8.1f} s {one:>10.1f} s {default / one:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
