"""Rows of a score table: the role of an RDM, and what it was compared with."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Source of a scored RDM. Tables contain the value; figures and sentences use the `label`.

    The order is that of the rows in figures and tables. `fitted` roles are the result; partial correlations hold
    `model` roles constant.

    Examples
    --------
    >>> Role("unfitted").label, Role.ENSEMBLE.fitted, [role.value for role in Role if role.model]
    ('unfitted control', True, ['category', 'model'])
    """

    label: str
    fitted: bool
    model: bool

    STUDENT = "student", "student", True, False
    ENSEMBLE = "ensemble", "student", True, False
    FITTED = "fitted model", "fitted model", True, False
    UNFITTED = "unfitted", "unfitted control", False, False
    REWEIGHTED = "reweighted", "reweighted control", False, False
    PERMUTED = "permuted", "permuted control", False, False
    PERMUTED_WITHIN_CLASS = "permuted_within_class", "control permuted within categories", False, False
    RANDOM = "random", "random-network control", False, False
    SPECTRUM = "spectrum", "control of equal spectrum", False, False
    CATEGORY = "category", "category model", False, True
    MODEL = "model", "model", False, True

    def __new__(cls, value: str, label: str = "", fitted: bool = False, model: bool = False) -> Role:
        role = str.__new__(cls, value)
        role._value_ = value
        role.label, role.fitted, role.model = label, fitted, model
        return role


class Against(StrEnum):
    """What an RDM was compared with, and the name of the ceiling for this comparison (`ceiling`, `legend`).

    Examples
    --------
    >>> Against("mean").label, Against.MEAN.ceiling
    ("the subjects' mean RDM", 'ceiling for the mean RDM')
    """

    label: str
    ceiling: str
    legend: str

    SUBJECTS = "subjects", "single subjects' RDMs", "noise ceiling", "noise ceiling (leave one subject out)"
    MEAN = "mean", "the subjects' mean RDM", "ceiling for the mean RDM", "ceiling for the mean RDM"

    def __new__(cls, value: str, label: str = "", ceiling: str = "", legend: str = "") -> Against:
        against = str.__new__(cls, value)
        against._value_ = value
        against.label, against.ceiling, against.legend = label, ceiling, legend
        return against
