"""Multiple-arrangement data as Meadows (meadows-research.com) exports them, read by `rsatoolbox.io.meadows`.

Layout on disk, with the names that Meadows gives the files::

    Meadows_EXPERIMENT_v_VERSION_TASK_1D.mat              all participants of one task: rdmutv_NAME, stimuli_NAME
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_3_1D.mat     one participant, one task (the third): rdmutv, stimuli
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_tree.json    one participant, all tasks

Dissimilarities are condensed, in the order of the stimuli, which are named without their suffixes. rsatoolbox takes the
order of the first participant for all; here each one's own order is kept, and different stimuli are refused.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._checks import refuse
from brainrdl.rdms import concat, from_array
from data_adapters._mat5 import check_tags

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
    layout = "Meadows_..._1D.mat or Meadows_..._tree.json, exports of multiple-arrangement tasks under their own names"

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
            With pattern descriptor ``stimulus`` and rdm descriptors ``subject`` and ``task`` (``task_index`` where the
            file's name has only that).

        Raises
        ------
        BrainrdlError
            If the file is empty or was renamed, holds no such task, its tasks or participants arranged different
            stimuli, or an RDM is not sound.
        """
        from rsatoolbox.io.meadows import extract_filename_segments

        if not path.stat().st_size:
            refuse("the file is empty")
        if not _NAME.fullmatch(path.name):
            refuse(f"{path.name!r} is not a name that Meadows gives; restore it, it says what the file holds")
        about: dict[str, Any] = extract_filename_segments(str(path))
        return _of_tree(path, about) if about["filetype"] == "json" else _of_matrices(path, about)


def _of_matrices(path: Path, about: dict[str, Any]) -> RDMs:
    from rsatoolbox.io.meadows import load_rdms_comps_mat
    from scipy.io import whosmat

    check_tags(path)
    held = [key for key, _, _ in whosmat(str(path))]
    if about["participant_scope"] == "single":
        if not {"rdmutv", "stimuli"} <= set(held):
            refuse(f"there are no variables 'rdmutv' and 'stimuli', but {held}; was it a multiple arrangement?")
        pairs, stimuli, _, _, _ = load_rdms_comps_mat(str(path), about)
        return _rdms(np.asarray(pairs), stimuli, about["participant"], task_index=str(about["task_index"]))
    subjects = [key.removeprefix("rdmutv_") for key in held if key.startswith("rdmutv_")]
    if not subjects or {f"stimuli_{subject}" for subject in subjects} - set(held):
        refuse(f"there is no pair of variables 'rdmutv_NAME' and 'stimuli_NAME', but {held}")
    return concat([_one_of_many(path, subject, about["task_name"]) for subject in subjects])


def _one_of_many(path: Path, subject: str, task: str) -> RDMs:
    from scipy.io import loadmat

    mine = loadmat(str(path), variable_names=[f"rdmutv_{subject}", f"stimuli_{subject}"])
    return _rdms(mine[f"rdmutv_{subject}"], mine[f"stimuli_{subject}"], subject.replace("_", "-"), task=task)


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


def _rdms(pairs: np.ndarray, stimuli: Sequence[str], subject: str, **labels: str | list[str]) -> RDMs:
    """Name the conditions as rsatoolbox does, and say whose RDMs they are."""
    values = np.atleast_2d(np.squeeze(pairs))
    columns = {key: [label] * len(values) if isinstance(label, str) else label for key, label in labels.items()}
    if not all(isinstance(name, str) for name in stimuli):
        refuse(f"the stimuli of participant {subject!r} are no texts")
    names = [name.strip().split(".")[0] for name in stimuli]
    descriptors = {"subject": [subject] * len(values), **columns}
    return from_array(values, names, measure="euclidean", descriptors=descriptors, where=f"participant {subject!r}")


READER = Meadows()
