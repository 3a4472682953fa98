"""Weights of networks from files, never unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError, nearest, quote, refuse
from brainrdl._core.files import read_safetensors
from brainrdl._core.tensor_checks import check_finite
from brainrdl.models.readout import Readout, unpack_readouts
from brainrdl.models.trained_on import check_network

_SAFE_SUFFIX = ".safetensors"

_TORCH_SUFFIXES = (".pt", ".pth", ".th")

SUFFIXES = (_SAFE_SUFFIX, *_TORCH_SUFFIXES)

# Prefixes of the network and of the readouts in a student's state; key of the file's header that describes a student.
NETWORK, HEADS, STUDENT = "model.", "heads.", "student"

_READOUTS = "_extra_state"  # torch's name of what `Student.get_extra_state` returns

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts keep the weights

# Weight files


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a weight file into `module`; if a name or shape does not fit, the module is not changed.

    Parameters
    ----------
    module : nn.Module
        Network, changed in place.
    path : str or Path
        A ``.safetensors`` file, or ``.pt``, ``.pth``, ``.th`` with a state dict, also under ``"state_dict"`` or from
        ``DataParallel`` or ``torch.compile``. A run's ``weights.safetensors``, which stores a student, is read if its
        layers were read out as they are (``"flatten"``, not standardised, not projected).

    Raises
    ------
    BrainrdlError
        If the file contains a student with other readouts, which would be lost (see `fitted_student`); if it is
        missing, of another kind, damaged, or contains pickled objects (none of which is run); if names are missing or
        unexpected or shapes differ (the message quotes them); if a value is not finite; if a run trained another
        network.

    Examples
    --------
    >>> load_weights(nn.Linear(2, 3), "weights.pkl")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: weight file 'weights.pkl' is not one of .safetensors, .pt, .pth, .th; others ...
    """
    path = Path(path)
    state = _without_prefix(_state_dict(_read(path), path))
    found = read_student(path)
    if not set(state) <= set(module.state_dict()) or found is not None:
        state = _network_of(state, path)
    load_state(module, state, path, found[1] if found else None)


def load_state(
    module: nn.Module, state: Mapping[str, Tensor], path: Path, told: Mapping[str, Any] | None = None
) -> None:
    """Load parameters and buffers that were read from `path` into `module`, or refuse them as `load_weights` does.

    Parameters
    ----------
    module : nn.Module
    state : mapping of str to Tensor
    path : Path
        For messages.
    told : mapping, optional
        The description of the student whose network it is; the network must be the one that was trained.
    """
    _check_state(module, state, path)
    before = {name: value.clone() for name, value in module.state_dict().items()} if told else {}
    module.load_state_dict(state)
    try:
        check_network(module, told or {}, f"weight file {str(path)!r}")
    except BrainrdlError:
        module.load_state_dict(before)
        raise


def read_student(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the state of a student and its description from a file that a run wrote; None for any other file.

    Examples
    --------
    >>> read_student(Path("weights.pth")) is None
    True
    """
    if path.suffix != _SAFE_SUFFIX or not path.is_file():
        return None
    state, facts = read_safetensors(path)
    return (_state_dict(state, path), facts[STUDENT]) if STUDENT in facts else None


def _read(path: Path) -> object:
    if path.suffix not in SUFFIXES:
        refuse(
            f"weight file {path.name!r} is not one of {', '.join(SUFFIXES)}; others may contain code and are not opened"
        )
    if not path.is_file():
        refuse(f"weight file {str(path)!r} does not exist")
    try:
        return read_safetensors(path)[0] if path.suffix == _SAFE_SUFFIX else _read_torch(path)
    except UnpicklingError as error:
        refuse(pickled(str(path), error))
    except Exception as error:  # damaged files raise many errors, such as EOFError, KeyError, SafetensorError
        refuse(f"weight file {str(path)!r} cannot be read ({_first_line(error)}); is it damaged?")


def _read_torch(path: Path) -> object:
    with warnings.catch_warnings():  # for a bare pickle torch warns before it refuses; the error is enough
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, "cpu", weights_only=True)


def pickled(source: str, error: Exception) -> str:
    return (
        f"weight file {source!r} contains more than tensors and could run code, so it was not opened "
        f"({_reason(error)}). Save only the state dict, preferably as .safetensors"
    )


def _reason(error: Exception) -> str:
    """Return the line of torch's message that names the refused object; other lines advise how to load it anyway."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line.split(". ")[0] for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    if isinstance(loaded, Mapping):
        inner = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
        if inner and all(isinstance(value, Tensor) for value in inner.values()):
            return dict(inner)
    holds = quote(loaded) if isinstance(loaded, Mapping) else type(loaded).__name__
    refuse(f"weight file {str(path)!r} must contain a state dict (name -> tensor), but contains {holds}")


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that (Distributed)DataParallel ("module.") and torch.compile ("_orig_mod.") add."""
    for prefix in ("module.", "_orig_mod.", "module."):  # either may wrap the other
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _network_of(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the network's part of a student's state without readouts to lose; any other state is unchanged."""
    network = {name.removeprefix(NETWORK): value for name, value in state.items() if name.startswith(NETWORK)}
    others = [name for name in state if not name.startswith(NETWORK)]
    if not network or not all(name.startswith((HEADS, _READOUTS)) for name in others):
        return state
    if _READOUTS not in state:
        refuse(
            f"names in weight file {str(path)!r} begin with {NETWORK!r}, as those of a student, but how its layers "
            "were read out (pooling, z-scores, projection) is not in the file, and the network alone gives other "
            f"patterns. If it is a network, remove {NETWORK!r} from the names"
        )
    changed = [layer for layer, readout in unpack_readouts(state[_READOUTS]).items() if readout != Readout()]
    if changed:
        refuse(
            f"weight file {str(path)!r} contains a fitted student, whose layers {quote(changed)} were read out in "
            "their own way (pooling, z-scores, projection); the network alone gives other patterns. Read the student "
            "with brainrdl.models.fitted_student(model, weights), whose attribute `model` is the network, from "
            "weights.safetensors of a run or of brainrdl.runs.save_weights"
        )
    return network


def _check_state(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    # Files written before PyTorch 0.4.1 lack these counters; load_state_dict adds them.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        close = nearest(missing[0], unexpected) if missing else nearest(unexpected[0], own)
        refuse(
            f"weight file {str(path)!r} does not fit {type(module).__name__}: missing {quote(missing)}, "
            f"unexpected {quote(unexpected)}{close}"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            refuse(
                f"weight {name!r} in {str(path)!r} has shape {tuple(value.shape)}, "
                f"{type(module).__name__} needs {tuple(own[name].shape)}; check the number of classes"
            )
        check_finite(value, f"weight {name!r} of {str(path)!r}")
