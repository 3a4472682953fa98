"""Fit a neural network's representations to brain RDMs, and learn on held-out stimuli how close it got.

Each room of the package is one step of the analysis. The public names load the first time they are used, so that
``import brainrdl`` (and the shell's completion) is quick and loads neither torch nor rsatoolbox.

Examples
--------
>>> import brainrdl
>>> brainrdl.dissimilarity.n_conditions_of(6)  # six pairs: four conditions
4
"""

import os
from importlib.metadata import version

from lazy_loader import attach_stub

# Threads that wait for one another should sleep, not spin: a spinning thread takes the core from the one it waits for
# when another process keeps a core busy. OpenMP reads this once, when torch loads; a value set by the user is kept.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_load, _names, _listed = attach_stub(__name__, __file__)
__all__ = [*_listed, "__version__"]


def __getattr__(name: str) -> object:
    return version(__name__) if name == "__version__" else _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
