"""Multiple-arrangement data as Meadows (meadows-research.com) exports them, read by `rsatoolbox.io.meadows`.

Layout on disk, with the names that Meadows gives the files::

    Meadows_EXPERIMENT_v_VERSION_TASK_1D.mat              all participants of one task: rdmutv_NAME, stimuli_NAME
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_3_1D.mat     one participant, one task (the third): rdmutv, stimuli
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_tree.json    one participant, all tasks
    Meadows_EXPERIMENT_v_VERSION_PARTICIPANT_3_tree.json  one participant, one task

Dissimilarities are condensed, in the order of the stimuli. Stimuli are named without folders and image suffixes.
rsatoolbox uses the order of the first participant for all participants, and cuts names at their first point; here the
order of each participant is kept, and different stimuli are refused. If a ``.mat`` file was renamed, the task is not
known (nor, if there is only one participant, who it was).
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

_MOST_BYTES = 1 << 28  # JSON needs many times the size of its text in memory


class Meadows:
    """Reads the RDMs of multiple-arrangement tasks.

    Examples
    --------
    >>> READER.sniff(Path("Meadows_myExp_v_v1_arrangement_1D.mat"))
    True
    """

    name = "meadows"
    layout = (
        "Meadows_..._1D.mat or Meadows_..._tree.json, exports of multiple-arrangement tasks; for a .mat with another "
        "name, use reader='meadows'"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by the name that Meadows gives them.

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
            (n_rdms, n_pairs), distances in the unit of the arrangement, with pattern descriptor ``stimulus`` and, if
            known, rdm descriptors ``subject`` and ``task`` (``task_index`` if the file name has only that), and the
            descriptor ``experiment_name`` of the whole.

        Raises
        ------
        BrainrdlError
            If the file is empty or a renamed tree, contains no such task, tasks or participants have different stimuli,
            or an RDM is not valid.
        """
        from rsatoolbox.io.meadows import extract_filename_segments

        if not path.stat().st_size:
            refuse("the file is empty")
        about: dict[str, Any] = extract_filename_segments(str(path)) if _NAME.fullmatch(path.name) else {}
        if path.suffix == ".json" and not about:
            refuse(f"{path.name!r} is not a file name from Meadows; restore that name, it says what the file contains")
        rdms = _of_tree(path, about) if path.suffix == ".json" else _of_matrices(path, about)
        rdms.descriptors |= {key: about[key] for key in ("experiment_name",) if key in about}
        return rdms


def _of_matrices(path: Path, about: dict[str, Any]) -> RDMs:
    from scipy.io import whosmat

    check_tags(path)
    held = [key for key, _, _ in whosmat(str(path))]
    endings = [key.removeprefix("rdmutv") for key in held if key == "rdmutv" or key.startswith("rdmutv_")]
    if not endings or {f"stimuli{ending}" for ending in endings} - set(held):
        refuse(
            "there are no variables 'rdmutv' and 'stimuli', or 'rdmutv_NAME' and 'stimuli_NAME' for each participant, "
            f"but {held}; is the task a multiple arrangement?"
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

    if about["participant_scope"] == "multiple":
        refuse("JSON of Meadows is read only if it is the tree of one participant; download the 1D .mat of all of them")
    if path.stat().st_size > _MOST_BYTES:
        refuse(f"the file has {path.stat().st_size} bytes, but at most {_MOST_BYTES} are read; download the 1D .mat")
    try:
        if about["task_scope"] == "single":
            return _of_task(json.loads(path.read_text(encoding="utf-8")), about)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # rsatoolbox warns of tasks with other stimuli, and leaves them out
            pairs, stimuli, subjects, tasks, _ = load_rdms_comps_json(str(path), about)
    except UserWarning:
        refuse("the tasks have different stimuli, or the same in another order; download the 1D .mat of one task")
    except UnicodeDecodeError:
        refuse("the file is not UTF-8 text; download it again, or save it as UTF-8")
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, RecursionError) as error:
        refuse(f"the file is not a tree of tasks as Meadows writes it: {type(error).__name__}: {error}")
    if not tasks:
        refuse("none of the tasks is a multiple arrangement")
    return _rdms(np.asarray(pairs), stimuli, *set(subjects), task=list(tasks))


def _of_task(tree: Any, about: dict[str, Any]) -> RDMs:
    """Read the tree of one task, which is one of those in the tree of all tasks."""
    if tree["task"]["task_type"] != "multiarrange":
        refuse(f"the task is a {tree['task']['task_type']!r}, not a multiple arrangement")
    stimuli = [stimulus["name"] for stimulus in tree["stimuli"]]
    labels = {"task": str(tree["task"]["name"]), "task_index": str(about["task_index"])}
    return _rdms(np.asarray(tree["rdm"], float), stimuli, about["participant"], **labels)


def _rdms(pairs: np.ndarray, stimuli: Sequence[str], subject: str | None, **labels: str | list[str]) -> RDMs:
    """Make RDMs with the names of the conditions, and of the participant if known."""
    values = np.atleast_2d(np.squeeze(pairs))
    known = labels if subject is None else {"subject": subject, **labels}
    descriptors = {key: [label] * len(values) if isinstance(label, str) else label for key, label in known.items()}
    where = "the file" if subject is None else f"participant {subject!r}"
    if not all(isinstance(name, str) for name in stimuli):
        refuse(f"the stimuli of {where} must be texts")
    names = [stem(name) for name in stimuli]
    return from_array(values, names, measure="euclidean", descriptors=descriptors, where=where)


READER = Meadows()
