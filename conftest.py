"""What every test and doctest stands on: no window, few threads, the same random numbers each time."""

from __future__ import annotations

import gc
import inspect
import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
# Tests start many processes: where bytecode may not be written, each of them compiles the whole package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    import torch

    several = "PYTEST_XDIST_WORKER" in os.environ  # one process per core
    torch.set_num_threads(1 if several else min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    # `torch.manual_seed` keeps the whole stack of its caller for each kind of device, which takes 5 ms a test.
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def pytest_collection_finish() -> None:
    """Let the garbage collector leave out what was imported, which it would look through again and again."""
    gc.collect()
    gc.freeze()


def typed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check types for `make shapes` as PEP 484 reads them: an int is a float."""
    from beartype import BeartypeConf, beartype

    return beartype(conf=BeartypeConf(is_pep484_tower=True))(function)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of refusals out of `make shapes`: there jaxtyping refuses a wrong shape before we can."""
    if not config.getoption("--jaxtyping-packages", default=None):
        return
    refusals = [item for item in items if "BrainrdlError" in _source(item)]
    config.hook.pytest_deselected(items=refusals)
    items[:] = [item for item in items if item not in refusals]


def _source(item: pytest.Item) -> str:
    if isinstance(item, pytest.Function):
        return inspect.getsource(item.function)
    examples = item.dtest.examples if isinstance(item, pytest.DoctestItem) else []
    return "".join(example.exc_msg or "" for example in examples)
