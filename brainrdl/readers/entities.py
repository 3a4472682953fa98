"""Entities in names of files and folders: whose they are, and of which session, run and hemisphere.

BIDS writes an entity as a key and a value, ``run-1``: `value_of` gives one of them, `entities_of` all of a file name.
Other names have ``run1``, ``Run_01``, ``session_2``, ``lh`` or ``left``: `values_in` finds these as well, if they are a
whole part of the path. The caller decides which of the values counts.
"""

from __future__ import annotations

import re

_START, _END = r"(?:^|(?<=[/\\_.]))", r"(?=[/\\_.-]|$)"

_IN_PATHS = {
    "sub": re.compile(_START + r"sub-([A-Za-z0-9]+)"),
    "ses": re.compile(_START + r"(?:ses-([A-Za-z0-9]+)|(?i:ses(?:s|sion)?)[-_]?(\d+))" + _END),
    "run": re.compile(_START + r"(?:run-([A-Za-z0-9]+)|(?i:run)[-_]?(\d+))" + _END),
    "hemi": re.compile(_START + r"(?:hemi-)?([LR]|(?i:[lr]h)|(?i:left|right))" + _END),
}

_RUN_IN_WORDS = re.compile(r"run(?:-|(?=\d)|[_ ](?=\d))([A-Za-z0-9]+)", re.IGNORECASE)


def value_of(name: str, key: str) -> str:
    """Give the first value of an entity as BIDS spells it; an empty text if the name has none.

    Examples
    --------
    >>> value_of("sub-01_run-1_betas.nii", "run"), value_of("trun-1_betas.nii", "run")
    ('1', '')
    """
    found = re.search(rf"(?<![A-Za-z0-9]){key}-([A-Za-z0-9]+)", name)
    return found[1] if found else ""


def values_in(path: str, key: str) -> list[str]:
    """List the values of ``sub``, ``ses``, ``run`` or ``hemi`` in a path, in their order and as they are spelled.

    Examples
    --------
    >>> values_in("sub-01/Run_1/lh.run-02.betas.gii", "run"), values_in("sub-01/lh.betas.gii", "hemi")
    (['1', '02'], ['lh'])
    """
    return [next(filter(None, found.groups()), "") for found in _IN_PATHS[key].finditer(path)]


def runs_in_words(path: str) -> list[str]:
    """List the values of ``run`` in a path, also those within a word or after a space.

    Examples
    --------
    >>> runs_in_words("task1run2/Run 3_bold.nii"), runs_in_words("trunk/run_bold.nii")
    (['2', '3'], [])
    """
    return _RUN_IN_WORDS.findall(path)


def without_entities(part: str) -> str:
    """Leave session, run and hemisphere out of a part of a path.

    Examples
    --------
    >>> without_entities("anna_run-1_lh.betas.gii")
    'anna.betas.gii'
    """
    for key in ("ses", "run", "hemi"):
        part = _IN_PATHS[key].sub("", part)
    return re.sub(r"[_.-]*([_.-])", r"\1", part).strip("_.-")


def entities_of(name: str) -> dict[str, str]:
    """Split the name of a BIDS file into its entities and its suffix.

    Examples
    --------
    >>> entities_of("sub-01_task-objects_desc-preproc_bold.nii.gz")
    {'sub': '01', 'task': 'objects', 'desc': 'preproc', 'suffix': 'bold'}
    """
    *pairs, last = name.split("_")
    parts = [pair.split("-", 1) for pair in pairs]
    return {**{part[0]: part[1] for part in parts if len(part) == 2}, "suffix": last.partition(".")[0]}
