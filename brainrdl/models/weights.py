"""Weights of networks from files, never unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from brainrdl._core.errors import nearest, quote, refuse
from brainrdl._core.tensor_checks import check_finite

_SAFE_SUFFIX = ".safetensors"

_TORCH_SUFFIXES = (".pt", ".pth", ".th")

SUFFIXES = (_SAFE_SUFFIX, *_TORCH_SUFFIXES)

_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts keep the weights

# Weight files


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a weight file into `module`; every name and shape must fit, else nothing is changed.

    Parameters
    ----------
    module : nn.Module
        Changed in place.
    path : str or Path
        A ``.safetensors`` file, or ``.pt``, ``.pth``, ``.th`` with a state dict, also under ``"state_dict"``, or from
        ``DataParallel`` or ``torch.compile``. Of a run's ``weights.safetensors``, a whole student, the network is
        taken, and a warning says so where there are read-outs beside it.

    Raises
    ------
    BrainrdlError
        If the file is missing, of another kind, damaged, or holds pickled objects (nothing of it is run); if names are
        missing or unexpected or shapes differ (they are quoted); if a value is not finite.

    Examples
    --------
    >>> load_weights(nn.Linear(2, 3), "weights.pkl")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: weight file 'weights.pkl' is none of .safetensors, .pt, .pth, .th; others ...
    """
    path = Path(path)
    state = _without_prefix(_state_dict(_read(path), path))
    if not set(state) <= set(module.state_dict()):
        state = _network_of(state, path)
    _check_state(module, state, path)
    module.load_state_dict(state)


def _read(path: Path) -> object:
    if path.suffix not in SUFFIXES:
        refuse(f"weight file {path.name!r} is none of {', '.join(SUFFIXES)}; others may hold code and are not opened")
    if not path.is_file():
        refuse(f"weight file {str(path)!r} does not exist")
    try:
        return _read_safetensors(path) if path.suffix == _SAFE_SUFFIX else _read_torch(path)
    except UnpicklingError as error:
        refuse(pickled(str(path), error))
    except Exception as error:  # damaged files raise nearly anything: EOFError, KeyError, SafetensorError
        refuse(f"weight file {str(path)!r} cannot be read ({_first_line(error)}); is it damaged?")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _read_torch(path: Path) -> object:
    with warnings.catch_warnings():  # on a bare pickle torch warns before it refuses; the refusal says it all
        warnings.simplefilter("ignore", UserWarning)
        return torch.load(path, "cpu", weights_only=True)


def pickled(source: str, error: Exception) -> str:
    return (
        f"weight file {source!r} holds more than tensors, and could run code if it were opened; it was not "
        f"({_reason(error)}). Save the state dict alone, best as .safetensors"
    )


def _reason(error: Exception) -> str:
    """Name what torch refused: its message has one line with the object, amid advice on how to load it all the same."""
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
    refuse(f"weight file {str(path)!r} must hold a state dict (name -> tensor), it holds {holds}")


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what (Distributed)DataParallel ("module.") and torch.compile ("_orig_mod.") put before every name."""
    for prefix in ("module.", "_orig_mod.", "module."):  # either may wrap the other
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _network_of(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take the network out of a student's state, as runs keep it, and leave any other as it is."""
    network = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    others = [name for name in state if not name.startswith("model.")]
    if not network or not all(name.startswith("heads.") for name in others):
        return state
    if others:
        warnings.warn(
            f"weight file {str(path)!r} holds a fitted student: its network is taken, its read-out (z-scores, "
            "projection) is not",
            stacklevel=2,
        )
    return network


def _check_state(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    own = module.state_dict()
    # Files written before PyTorch 0.4.1 lack these counters, and load_state_dict fills them in.
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
                f"{type(module).__name__} needs {tuple(own[name].shape)}; has it another number of classes?"
            )
        check_finite(value, f"weight {name!r} of {str(path)!r}")
