"""Multiple-arrangement data as Meadows (meadows-research.com) exports them, read by `rsatoolbox.io.meadows`.

Layout on disk, with the names that Meadows gives the files::

    Meadows_EXPERIMENT_v_VERSION_TASK_1D.mat              all participants of one task: rdmutv_NAME, stimuli_NAME
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_3_1D.mat     one participant, one task (the third): rdmutv, stimuli
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_tree.json    one participant, all tasks

Dissimilarities are condensed, in the order of the stimuli, which are named without folders and the suffixes of images.
rsatoolbox takes the order of the first participant for all, and names end at their first point; here each one's own
order is kept, and different stimuli are refused. A ``.mat`` under another name says no task (and, of one participant,
not who).
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.errors import refuse
from brainrdl.rdms.by_name import concat
from brainrdl.rdms.conversion import from_array
from data_adapters._shared.arrays import stem
from data_adapters._shared.mat5_tags import check_tags

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs
_NAME = re.compile(r"Meadows_[^.]+_v_[^.]+_[^_.]+_[^_.]+\.(mat|json)")

_MOST_BYTES = 1 << 28  # as text, JSON takes many times its size in memory


class Meadows:
    """Reads the RDMs of multiple-arrangement tasks.

    Examples
    --------
    >>> READER.sniff(Path("Meadows_myExp_v_v1_arrangement_1D.mat"))
    True
    """

    name = "meadows"
    layout = (
        "Meadows_..._1D.mat or Meadows_..._tree.json, exports of multiple-arrangement tasks; a .mat under another name "
        "with reader='meadows'"
    )

    def sniff(self, path: Path) -> bool:
        """Take files by the name that Meadows gives them.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the name begins with ``Meadows_`` and the suffix is ``.mat`` or ``.json``.
        """
        return path.name.startswith("Meadows_") and path.suffix in {".mat", ".json"}

    def read(self, path: Path) -> RDMs:
        """Read and check the RDMs.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        rsatoolbox.rdm.RDMs
            With pattern descriptor ``stimulus`` and, as far as known, rdm descriptors ``subject`` and ``task``
            (``task_index`` where the file's name has only that).

        Raises
        ------
        BrainrdlError
            If the file is empty or a renamed tree, holds no such task, its tasks or participants arranged different
            stimuli, or an RDM is not sound.
        """
        from rsatoolbox.io.meadows import extract_filename_segments

        if not path.stat().st_size:
            refuse("the file is empty")
        about: dict[str, Any] = extract_filename_segments(str(path)) if _NAME.fullmatch(path.name) else {}
        if path.suffix != ".json":
            return _of_matrices(path, about)
        if not about:
            refuse(f"{path.name!r} is not a name that Meadows gives; restore it, it says what the file holds")
        return _of_tree(path, about)


def _of_matrices(path: Path, about: dict[str, Any]) -> RDMs:
    from scipy.io import whosmat

    check_tags(path)
    held = [key for key, _, _ in whosmat(str(path))]
    endings = [key.removeprefix("rdmutv") for key in held if key == "rdmutv" or key.startswith("rdmutv_")]
    if not endings or {f"stimuli{ending}" for ending in endings} - set(held):
        refuse(
            "there are no variables 'rdmutv' and 'stimuli', or 'rdmutv_NAME' and 'stimuli_NAME' for each participant, "
            f"but {held}; was it a multiple arrangement?"
        )
    known = {"task": about.get("task_name"), "task_index": about.get("task_index")}
    labels = {key: str(value) for key, value in known.items() if value is not None}
    return concat([_one_of_many(path, ending, about.get("participant"), labels) for ending in endings])


def _one_of_many(path: Path, ending: str, participant: str | None, labels: Mapping[str, str]) -> RDMs:
    from scipy.io import loadmat

    pairs, stimuli = f"rdmutv{ending}", f"stimuli{ending}"
    mine = loadmat(str(path), variable_names=[pairs, stimuli])
    return _rdms(mine[pairs], mine[stimuli], ending[1:].replace("_", "-") or participant, **labels)


def _of_tree(path: Path, about: dict[str, Any]) -> RDMs:
    from rsatoolbox.io.meadows import load_rdms_comps_json

    if about["participant_scope"] == "multiple" or about["task_scope"] == "single":
        refuse("of Meadows' JSON only the tree of one participant is read; download the 1D .mat of all participants")
    if path.stat().st_size > _MOST_BYTES:
        refuse(f"the file has {path.stat().st_size} bytes, at most {_MOST_BYTES} are read; download the 1D .mat")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns of tasks with other stimuli, and leaves them out
            pairs, stimuli, subjects, tasks, _ = load_rdms_comps_json(str(path), about)
    except UserWarning:
        refuse("its tasks arranged different stimuli, or the same in another order; download the 1D .mat of one task")
    except UnicodeDecodeError:
        refuse("the file is not UTF-8 text; download it again, or save it as UTF-8")
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
        refuse(f"it is no tree of tasks as Meadows writes them: {type(error).__name__}: {error}")
    if not tasks:
        refuse("none of its tasks is a multiple arrangement")
    return _rdms(np.asarray(pairs), stimuli, *set(subjects), task=list(tasks))


def _rdms(pairs: np.ndarray, stimuli: Sequence[str], subject: str | None, **labels: str | list[str]) -> RDMs:
    """Name the conditions, and say whose RDMs they are, if known."""
    values = np.atleast_2d(np.squeeze(pairs))
    known = labels if subject is None else {"subject": subject, **labels}
    descriptors = {key: [label] * len(values) if isinstance(label, str) else label for key, label in known.items()}
    where = "the file" if subject is None else f"participant {subject!r}"
    if not all(isinstance(name, str) for name in stimuli):
        refuse(f"the stimuli of {where} are no texts")
    names = [stem(name) for name in stimuli]
    return from_array(values, names, measure="euclidean", descriptors=descriptors, where=where)


READER = Meadows()
