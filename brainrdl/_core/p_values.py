"""How p-values are written for people: on pages, in printed tables and in sentences. Files keep the numbers."""

from __future__ import annotations

SMALLEST = 0.001


def p_value(p: float, missing: str = "–") -> str:
    """Write a p-value with three digits and no zero before the point; no p-value is 0.

    Examples
    --------
    >>> [p_value(p) for p in (0.0, 0.0012, 0.03, 1.0, float("nan"))]
    ['< .001', '.001', '.030', '1.000', '–']
    """
    if p != p:
        return missing
    return f"< {SMALLEST:.3f}".replace("0.", ".") if p < SMALLEST else f"{p:.3f}".removeprefix("0")


def p_equals(p: float) -> str:
    """Write a p-value with its sign, for a sentence.

    Examples
    --------
    >>> [f"p {p_equals(p)}" for p in (0.0, 0.03)]
    ['p < .001', 'p = .030']
    """
    return p_value(p) if p < SMALLEST else f"= {p_value(p)}"


def is_p(column: object) -> bool:
    """Whether the column of a table has p-values, by its name.

    Examples
    --------
    >>> [name for name in ("p", "p_corrected", "corrected p", "power", "map", "n_pairs") if is_p(name)]
    ['p', 'p_corrected', 'corrected p']
    """
    return "p" in str(column).replace("_", " ").split()
