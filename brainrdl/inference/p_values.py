"""How p-values are written for people: on pages, in printed tables and in sentences. Files keep the numbers."""

from __future__ import annotations

SMALLEST = 0.001


def format_p(p: float, missing: str = "–") -> str:
    """Write a p-value with three decimal places, as reports, printed tables and our pages do; no p-value is 0.

    Parameters
    ----------
    p
        A p-value, 0 to 1, or NaN.
    missing
        The text for NaN.

    Returns
    -------
    str
        For example ``0.030``, or ``< 0.001`` for smaller values.

    Examples
    --------
    >>> from brainrdl.inference import format_p
    >>> [format_p(p) for p in (0.0, 0.0012, 0.03, 1.0, float("nan"))]
    ['< 0.001', '0.001', '0.030', '1.000', '–']
    """
    if p != p:
        return missing
    return f"< {SMALLEST:.3f}" if p < SMALLEST else f"{p:.3f}"


def p_equals(p: float) -> str:
    """Write a p-value with its sign, for a sentence.

    Examples
    --------
    >>> [f"p {p_equals(p)}" for p in (0.0, 0.03)]
    ['p < 0.001', 'p = 0.030']
    """
    return format_p(p) if p < SMALLEST else f"= {format_p(p)}"


def is_p(column: object) -> bool:
    """Whether the column of a table has p-values, by its name.

    Examples
    --------
    >>> [name for name in ("p", "p_corrected", "corrected p", "power", "map", "n_pairs") if is_p(name)]
    ['p', 'p_corrected', 'corrected p']
    """
    return "p" in str(column).replace("_", " ").split()
