"""Names of the ways to pool, see `brainrdl.models.pooling`; they are known without torch."""

from __future__ import annotations

import re

from brainrdl._core.errors import check_option

POOLS = ("flatten", "avgpool", "avgpool_first", "avgpool_last", "mean", "patches", "cls", "grid:N")
"""How outputs of a layer can become patterns."""

EXAMPLE = "grid:4"  # of "grid:N", in lists of ways

_GRID = re.compile(r"grid:([1-9][0-9]{0,3})")


def check_pool(pool: str) -> str:
    """Return the name of a way to pool: one of `POOLS`, with a number in the place of N.

    Raises
    ------
    BrainrdlError
        If it is none of these.

    Examples
    --------
    >>> check_pool("grid:4")
    'grid:4'
    >>> check_pool("grid")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: pool 'grid' is not known; nearest: 'grid:4'...
    """
    return pool if n_cells(pool) else check_option(pool, (*POOLS[:-1], EXAMPLE), "pool")


def n_cells(pool: str) -> int:
    """Return the number of cells along each dimension; 0 for a pool without a grid.

    Examples
    --------
    >>> n_cells("grid:4"), n_cells("avgpool")
    (4, 0)
    """
    found = _GRID.fullmatch(pool) if isinstance(pool, str) else None
    return int(found[1]) if found else 0
