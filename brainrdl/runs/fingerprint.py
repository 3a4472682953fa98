"""What identifies a run: its settings and the digests of its data. A run can only be resumed with the same ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

from torch import nn

from brainrdl._core import files as _files
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.feature_cache import held_by
from brainrdl.models.student import Student
from brainrdl.models.trained_on import TrainedOn
from brainrdl.runs import provenance
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import transform_text
from brainrdl.teachers.protocol import Teacher, digest_of, identity_of


def settings_of(
    student: Student,
    teacher: Teacher | None,
    stimuli: Stimuli,
    loss: RDMLoss,
    train: Sequence[str],
    validation: Sequence[str],
) -> dict[str, Any]:
    """Return what identifies a run in addition to its options; it can only be resumed with the same."""
    return {
        "image_shape": list(stimuli.images((*train, *stimuli.names)[:1]).shape[1:]),
        **student_settings(student),
        **source_settings(teacher, stimuli, (*train, *validation)),
        "loss": provenance.describe(loss),
        "train": list(train),
        "validation": list(validation),
    }


def images_of(settings: Mapping[str, Any]) -> TrainedOn | None:
    """Return the images of a run from its settings; None if they do not say.

    Examples
    --------
    >>> images_of({"image_shape": [1, 8, 8], "transform": None})
    TrainedOn(shape=(1, 8, 8), transform=None)
    """
    shape = settings.get("image_shape")
    return None if shape is None else TrainedOn(tuple(shape), settings["transform"])


def source_settings(teacher: Teacher | None, stimuli: Stimuli, names: Sequence[str]) -> dict[str, Any]:
    """Return how RDMs and images are made, in addition to their content; a run can only be resumed with the same.

    Parameters
    ----------
    teacher : Teacher or None
    stimuli : Stimuli
    names : sequence of str
        Conditions of the run.

    Returns
    -------
    dict
        Transform of the stimuli, and the teacher's name, targets and, if it has one, identity (see
        `brainrdl.teachers`).

    Examples
    --------
    >>> import torch
    >>> source_settings(None, Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"]), ["a"])
    {'transform': None, 'teacher': None}
    """
    source: dict[str, Any] = {"transform": transform_text(stimuli.transform)}
    if stimuli.augmentation is not None:
        source["augmentation"] = transform_text(stimuli.augmentation)
    if teacher is None:
        return source | {"teacher": None}
    known = provenance.describe(identity_of(teacher, names))
    return source | {"teacher": teacher.name, "targets": list(teacher.targets), "teacher_identity": known}


def student_settings(student: Student) -> dict[str, Any]:
    """Return which network is fitted and how it is read out; a run can only be resumed with the same.

    Returns
    -------
    dict
        The network's class, number of parameters, digest of its code and of its initial weights, layers, readouts,
        and which part is trained.

    Examples
    --------
    >>> import torch
    >>> settings = student_settings(Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"]))
    >>> settings["network"], settings["n_parameters"], settings["trainable"]
    ('torch.nn.modules.container.Sequential', 15, 'all')
    """
    return {
        "network": provenance.describe(type(student.model)),
        "n_parameters": sum(parameter.numel() for parameter in student.model.parameters()),
        "network_code": _code_digest(student.model),
        "layers": list(student.layers),
        "readouts": {head.layer: provenance.describe(head.readout) for head in student.readout_heads()},
        "projection_seeds": {
            head.layer: head.seed for head in student.readout_heads() if isinstance(head.readout.projection, int)
        },
        "trainable": student.trainable,
        "batchnorm": student.batchnorm,
        "initial_weights": _files.digest(student.state_dict()),
    }


def _code_digest(model: nn.Module) -> str:
    """Digest of what a network computes with its weights: its modules, and the code of those that are not torch's."""
    kinds = {provenance.describe(type(module)): type(module) for module in model.modules()}
    own = [kind for name, kind in sorted(kinds.items()) if not name.startswith("torch.")]
    return _files.hash_words([repr(model), *held_by(model), *map(code_of, own)])


def code_digest(function: Callable[..., Any]) -> str:
    """Digest of the code of a Python function.

    Examples
    --------
    >>> code_digest(lambda x: x + 1) == code_digest(lambda x: x + 2)
    False
    """
    return _files.hash_words([code_of(function)])


def code_of(of: Callable[..., Any]) -> str:
    """Return the source of a class or function.

    Examples
    --------
    >>> code_of(provenance.describe).splitlines()[0]
    'def describe(value: Any) -> Any:'
    """
    try:
        facts = repr(_facts_of(of.__code__)) if getattr(of, "__name__", "") == "<lambda>" else ""
        return inspect.getsource(of) + facts  # a line may hold several lambdas
    except (OSError, TypeError):  # defined at a prompt
        functions = [of] if inspect.isfunction(of) else [each for each in vars(of).values() if inspect.isfunction(each)]
        return repr([_facts_of(each.__code__) for each in functions])


def _facts_of(code: CodeType) -> list[object]:
    constants = [_facts_of(each) if isinstance(each, CodeType) else _in_order(each) for each in code.co_consts]
    return [code.co_name, code.co_code, code.co_names, constants]


def _in_order(constant: object) -> object:
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant


def hashes_of(teacher: Teacher | None, stimuli: Stimuli, names: Sequence[str], labels: bool) -> dict[str, str]:
    """Digests of the images of `names`, by name, of every subject's RDMs and, if asked for, of the categories.

    A run can only be resumed with the same data.
    """
    hashes = {"stimuli": _files.hash_words(f"{name} {digest}" for name, digest in stimuli.digests(names).items())}
    return hashes | hash_teacher(teacher) | (hash_labels(stimuli, names) if labels else {})


def hash_task(stimuli: Stimuli | None, names: tuple[Sequence[str], Sequence[str]] | None) -> dict[str, str]:
    """Digests of the images of a task and of their labels; empty if the task has no images of its own.

    Parameters
    ----------
    stimuli : Stimuli or None
        The task's own images.
    names : tuple of names for training and for validation, or None

    Returns
    -------
    dict
        ``{"task_stimuli": SHA-256, "task_labels": SHA-256}``, or empty.

    Examples
    --------
    >>> hash_task(None, None)
    {}
    """
    if stimuli is None or names is None:
        return {}
    found = hashes_of(None, stimuli, (*names[0], *names[1]), labels=True)
    views = {"transform": stimuli.transform, "augmentation": stimuli.augmentation}
    found |= {what: transform_text(view) or "" for what, view in views.items() if view is not None}
    return {f"task_{what}": digest for what, digest in found.items()}


def hash_labels(stimuli: Stimuli, names: Sequence[str]) -> dict[str, str]:
    """Digest of the categories of `names` and of the list of all categories, whose order numbers the logits.

    Parameters
    ----------
    stimuli : Stimuli
    names : sequence of str

    Returns
    -------
    dict
        ``{"labels": SHA-256}``, or empty.

    Examples
    --------
    >>> import torch
    >>> hash_labels(Stimuli.from_arrays(torch.zeros(2, 1, 4, 4), ["a", "b"]), ["a"])
    {}
    """
    labels = stimuli.labels
    if labels is None:
        return {}
    own = (str(labels[name]) for name in names)
    return {"labels": _files.hash_words([*stimuli.categories, "", *own])}


def hash_teacher(teacher: Teacher | None) -> dict[str, str]:
    """Digest of all subjects' names and RDMs, for the hashes of a run; empty for a teacher that does not store RDMs.

    Parameters
    ----------
    teacher : Teacher or None

    Returns
    -------
    dict
        ``{"teacher": SHA-256}``, or empty.

    Examples
    --------
    >>> hash_teacher(None)
    {}
    """
    found = None if teacher is None else digest_of(teacher)
    return {} if found is None else {"teacher": found}
