"""How long does the cache of a teacher's patterns take? Against one safetensors file per pattern, as it was before."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from brainrdl._core.files import read_safetensors, write_safetensors
from brainrdl.models.feature_cache import ShardStore, key_of

N_PATTERNS, N_CHANNELS, N_CHUNK = 10_000, 512, 256


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def chunks(keys: list[str], rows: Tensor) -> list[tuple[list[str], Tensor]]:
    return [(keys[start : start + N_CHUNK], rows[start : start + N_CHUNK]) for start in range(0, len(keys), N_CHUNK)]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows, keys = torch.randn(N_PATTERNS, N_CHANNELS), [key_of([str(n)]) for n in range(N_PATTERNS)]
    print("| store | write (s) | first read (s) | later read (s) | files | MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in ("a file per pattern", "float32", "float16"):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if name == "a file per pattern":
                paths = [place / key[:2] / f"{key}.safetensors" for key in keys]

                def write(paths: list[Path] = paths) -> None:
                    for path, row in zip(paths, rows, strict=True):
                        write_safetensors(path, {"pattern": row}, {"key": path.stem}, durable=False)

                def read(paths: list[Path] = paths) -> Tensor:
                    return torch.stack([read_safetensors(path)[0]["pattern"] for path in paths])
            else:
                writer, reader = ShardStore(place, name), ShardStore(place, name)

                def write(store: ShardStore = writer) -> None:
                    for some, part in chunks(keys, rows):
                        store.put("fc", some, part)

                def read(store: ShardStore = reader) -> Tensor:
                    found = [store.get("fc", some) for some, _ in chunks(keys, rows)]
                    return torch.cat([torch.stack(list(one.values())) for one in found])

            times = [seconds(write), seconds(read), min(seconds(read) for _ in range(3))]
            files = [path for path in place.rglob("*") if path.is_file()]
            size = sum(path.stat().st_size for path in files) / 1e6
            print(f"| {name} | {' | '.join(f'{one:.2f}' for one in times)} | {len(files)} | {size:.0f} |")


if __name__ == "__main__":
    main()
