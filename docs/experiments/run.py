"""Do what is missing of an experiment: ``python -m docs.experiments.run mnist --jobs 2``."""

from __future__ import annotations

import importlib
import sys

from docs.experiments.protocol import main

NAMES = ("mnist", "cifar100", "architectures", "small")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"give the name of an experiment: {', '.join(NAMES)}")
    main(importlib.import_module(f"docs.experiments.{sys.argv[1]}").EXPERIMENT, sys.argv[2:])
