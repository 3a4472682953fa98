"""The state of a run that can be resumed: model, best model, optimiser and random state in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl._core.errors import refuse
from brainrdl._core.files import read_safetensors, write_safetensors
from brainrdl.models.student import Student

_DATA = {
    "hashes.stimuli": "the images",
    "hashes.teacher": "the teacher's RDMs",
    "hashes.labels": "the stimuli's labels",
    "hashes.task_stream": "the first images of the task's stream",
    "network_code": "the network's modules, or their code,",
    ".code": "the functions of the run, or their code,",
}

_SHOWN = 80  # characters of a setting in an error: a list of conditions may be long

_ATTRIBUTES = (
    "if a function or an object changes this as it is used, keep it in an attribute whose name begins with an "
    "underscore, which is not compared; "
)

_PLAIN_STATE = (
    "step", "seconds", "history", "best_step", "best_score", "looks_since_best", "stopped", "places", "remembered",
)  # fmt: skip


@dataclass
class State:
    """What a run has done and seen so far.

    Examples
    --------
    >>> from brainrdl import Student
    >>> state = State(step=10)
    >>> state.remember(0.5, Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"]))
    >>> state.best_step, state.best_score
    (10, 0.5)
    """

    step: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(
        default_factory=list
    )  # total, RDM, task, terms: of each step since the last evaluation
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_step: int = 0
    best_score: float = -float("inf")
    looks_since_best: int = 0
    stopped: bool = False  # by a callback
    places: dict[str, dict[str, Any]] = field(default_factory=dict)  # in streams of images without names
    remembered: tuple[str, ...] = ()  # conditions of earlier steps that the RDM loss uses
    memory: dict[str, Tensor] = field(default_factory=dict)  # their patterns by layer

    def remember(self, score: float, student: Student) -> None:
        """Keep a copy of the student if `score` is the best so far."""
        self.looks_since_best += 1
        if self.best is None or score > self.best_score:
            self.best = {key: value.detach().clone() for key, value in student.state_dict().items()}
            self.best_score, self.best_step, self.looks_since_best = score, self.step, 0


def save_checkpoint(
    path: Path,
    state: State,
    student: Student,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    settings: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
    others: nn.Module | None = None,
) -> None:
    """Write everything that resuming a run needs to one safetensors file, atomically.

    Parameters
    ----------
    path : Path
        File to write.
    state : State
        Progress so far.
    student : Student
        Model with its current weights.
    optimizer : torch.optim.Optimizer
    scheduler : torch.optim.lr_scheduler.LRScheduler
    settings : mapping
        Settings of the run; it can only be resumed with the same settings.
    scaler : torch.amp.GradScaler, optional
        Loss scaler of fp16.
    others : torch.nn.Module, optional
        Modules that are trained beside the student; parameters that are not trained are not stored.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from brainrdl import Student
    >>> student = Student(torch.nn.Sequential(torch.nn.Linear(4, 3)), ["0"])
    >>> optimizer = torch.optim.Adam(student.parameters())
    >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "checkpoint.safetensors"
    >>> save_checkpoint(path, State(step=7), student, optimizer, scheduler, {"lr": 1e-3})
    >>> load_checkpoint(path, student, optimizer, scheduler, {"lr": 1e-3}).step
    7
    """
    moments, groups = _optimizer_parts(optimizer)
    tensors = {
        **{f"model/{key}": value for key, value in student.state_dict().items()},
        **{f"best/{key}": value for key, value in (state.best or {}).items()},
        **{f"optimizer/{key}": value for key, value in moments.items()},
        **{f"others/{key}": value for key, value in _moving(others).items()},
        **{f"memory/{layer}": rows for layer, rows in state.memory.items()},
        **_random_states(),
    }
    losses = torch.stack(state.losses).tolist() if state.losses else []
    facts = {
        "state": {name: getattr(state, name) for name in _PLAIN_STATE} | {"losses": losses},
        "groups": groups,
        "scheduler": _plain(scheduler.state_dict()),
        "scaler": scaler.state_dict() if scaler else {},
        "settings": settings,
    }
    write_safetensors(path, tensors, facts)


def load_checkpoint(
    path: Path,
    student: Student,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    settings: Mapping[str, Any],
    scaler: torch.amp.GradScaler | None = None,
    others: nn.Module | None = None,
) -> State:
    """Restore model, optimiser, schedule and random state; return the rest. Parameters as in `save_checkpoint`.

    Raises
    ------
    BrainrdlError
        If the file is truncated, has changed since it was written, is not a checkpoint, or was written with other
        settings (the first difference is quoted).

    Examples
    --------
    >>> load_checkpoint("no/checkpoint.safetensors", None, None, None, {})
    Traceback (most recent call last):
    brainrdl.BrainrdlError: there is no file 'no/checkpoint.safetensors'
    """
    tensors, facts = read_safetensors(path)
    if "state" not in facts:
        refuse(f"{str(path)!r} is not a checkpoint of brainrdl")
    check_same_settings(settings, facts["settings"], str(path))
    student.load_state_dict(_under("model/", tensors))
    _restore_optimizer(optimizer, _under("optimizer/", tensors), facts["groups"])
    scheduler.load_state_dict(scheduler.state_dict() | facts["scheduler"])
    if scaler and facts["scaler"]:
        scaler.load_state_dict(facts["scaler"])
    for key, value in _moving(others).items():
        value.copy_(tensors[f"others/{key}"])
    _restore_random_states(tensors)
    losses = list(torch.tensor(facts["state"]["losses"], device=student.device))
    memory = {layer: rows.to(student.device) for layer, rows in _under("memory/", tensors).items()}
    lists = {"losses": losses, "remembered": tuple(facts["state"]["remembered"])}
    return State(**facts["state"] | lists, best=_under("best/", tensors) or None, memory=memory)


def _moving(module: nn.Module | None) -> dict[str, Tensor]:
    """Parameters that are trained, and buffers of modules that are."""
    if module is None:
        return {}
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    return {name: value.detach() for name, value in [*trained.items(), *module.named_buffers()]}


def _optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = optimizer.state_dict()
    slots = ((index, key, value) for index, slot in content["state"].items() for key, value in slot.items())
    moments = {f"{index}/{key}": torch.as_tensor(value) for index, key, value in slots if value is not None}
    return moments, {"param_groups": content["param_groups"]}


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, moments: Mapping[str, Tensor], groups: Mapping[str, Any]
) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, key = name.split("/", 1)
        slots.setdefault(int(index), {})[key] = value
    param_groups = [_with_tuples(group) for group in groups["param_groups"]]
    optimizer.load_state_dict({"state": slots, "param_groups": param_groups})


def _with_tuples(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) and key != "params" else value for key, value in group.items()}


def _plain(content: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (int, float, str, bool, list, type(None))
    return {key: value for key, value in content.items() if isinstance(value, kinds) and key != "lr_lambdas"}


def _random_states() -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["random/cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(tensors: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def check_same_settings(asked: Mapping[str, Any], stored: Mapping[str, Any], where: str) -> None:
    """Refuse to resume with settings that differ from the stored ones, and name the first difference.

    Raises
    ------
    BrainrdlError
        If a value differs.

    Examples
    --------
    >>> check_same_settings({"lr": 0.1}, {"lr": 0.2}, "run/checkpoint.safetensors")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: 'run/checkpoint.safetensors' was written with lr=0.2, now lr=0.1; resume with ...
    """
    then, now = _flat(stored), _flat(json.loads(json.dumps(asked, default=str)))
    for key in [*then, *now]:
        if now.get(key) != then.get(key) and json.dumps(now.get(key)) != json.dumps(then.get(key)):  # NaN equals NaN
            written = f"{where!r} was written with {key}={_brief(then.get(key))}, now {key}={_brief(now.get(key))}"
            data = next((what for end, what in _DATA.items() if key.endswith(end)), None)
            if data:
                refuse(f"{data} have changed since the run began: {written}; restore them, or start another run")
            hint = _same_path(then.get(key), now.get(key)) + (_ATTRIBUTES if ".holds." in key else "")
            refuse(f"{written}; {hint}resume with the settings of the run, or start another")


def _same_path(then: Any, now: Any) -> str:
    if not isinstance(then, str) or not isinstance(now, str) or Path(then).name != Path(now).name:
        return ""
    return "if both are the same file, write its path as the run did; "


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
