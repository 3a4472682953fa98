"""What identifies a function or a callable object: its code, and the values that it uses.

The code of torch, of Python's own library and of brainrdl is not compared: their versions are in the provenance. Of an
object, attributes whose names begin with an underscore are not compared, so that it can count or remember something.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from brainrdl._core.files import digest_tensor, hash_words
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.feature_cache import digest_network
from brainrdl.runs.fingerprint import code_digest, code_of
from brainrdl.runs.provenance import describe

_KNOWN = {"torch", "brainrdl", "numpy", *sys.stdlib_module_names}  # packages whose code is not compared

_OF_EACH_MODULE = frozenset(vars(nn.Module()))


def identify_callable(value: object, outer: tuple[object, ...] = ()) -> Any:
    """Describe a value in JSON types; of functions, classes and objects also the code and the values that they use.

    Parameters
    ----------
    value : object
        A function, a method, a partial, a class, an object, or a value that one of them uses.
    outer : tuple of object
        What the value was found in: a function can call itself.

    Returns
    -------
    object

    Examples
    --------
    >>> identify_callable(partial(torch.optim.SGD, momentum=0.9))["keywords"]
    {'momentum': 0.9}
    """
    if any(value is one for one in outer):
        return describe(value)
    inside = (*outer, value)
    if isinstance(value, FunctionType):
        return _function(value, inside)
    if isinstance(value, MethodType):
        return {"method": identify_callable(value.__func__, inside), "of": identify_callable(value.__self__, inside)}
    if isinstance(value, partial):
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        return {"kind": "partial", **{name: identify_callable(part, inside) for name, part in parts.items()}}
    if isinstance(value, Mapping):
        return {str(key): identify_callable(item, inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identify_callable(item, inside) for item in value]
    if isinstance(value, np.ndarray):
        return digest_tensor(torch.from_numpy(value)) if value.dtype.kind in "biufc" else describe(value.tolist())
    if isinstance(value, type):
        return _with_code(describe(value), value)
    return _object(value, inside)


def _function(function: FunctionType, inside: tuple[object, ...]) -> Any:
    if not _is_own(function):
        return describe(function)
    names = function.__code__.co_freevars
    held = {name: _held(cell, inside) for name, cell in zip(names, function.__closure__ or (), strict=True)}
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    given = [identify_callable(value, inside) for value in defaults]
    about = {"function": describe(function), "code": code_digest(function)}
    return about | ({"holds": held} if held else {}) | ({"defaults": given} if given else {})


def _held(cell: CellType, inside: tuple[object, ...]) -> Any:
    try:
        return identify_callable(cell.cell_contents, inside)
    except ValueError:  # not assigned yet
        return None


def _object(value: object, inside: tuple[object, ...]) -> Any:
    identity = getattr(value, "identity", None)
    if identity is not None and not callable(identity):  # of a frozen network
        return describe(identity)
    about = digest_network(value) if isinstance(value, nn.Module) else describe(value)
    held = attributes_of(value, inside)
    return _with_code({"object": about, "holds": held} if held else about, type(value))


def attributes_of(value: object, outer: tuple[object, ...] = ()) -> dict[str, Any]:
    """Describe the public attributes of an object of a user's class; of a network, those that are not torch's.

    Examples
    --------
    >>> attributes_of(torch.nn.ReLU()), attributes_of("text")
    ({}, {})
    """
    if not _own_classes(type(value)):
        return {}
    of_torch = _OF_EACH_MODULE if isinstance(value, nn.Module) else frozenset()
    return {
        name: identify_callable(each, outer)
        for name, each in getattr(value, "__dict__", {}).items()
        if not name.startswith("_") and name not in of_torch
    }


def _with_code(about: Any, kind: type) -> Any:
    own = _own_classes(kind)
    return {"is": about, "code": hash_words(map(code_of, own))} if own else about


def _own_classes(kind: type) -> list[type]:
    return [one for one in kind.__mro__ if _is_own(one)]


def _is_own(value: Callable[..., Any]) -> bool:
    """Whether the code of a function or class is a user's, or of a package that is not known."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] not in _KNOWN


def identify_module(module: nn.Module) -> dict[str, Any]:
    """Describe a module that is trained: its structure, and the code and attributes of its parts, but no weights.

    Examples
    --------
    >>> identify_module(torch.nn.Linear(2, 1))
    {'structure': 'Linear(in_features=2, out_features=1, bias=True)'}
    """
    parts = dict(module.named_modules())
    own = sorted({code_of(kind) for part in parts.values() for kind in _own_classes(type(part))})
    held = {name: found for name, part in parts.items() if (found := attributes_of(part))}
    about: dict[str, Any] = {"structure": repr(module)}
    return about | ({"code": hash_words(own)} if own else {}) | ({"holds": held} if held else {})


def identify_loss(loss: RDMLoss) -> dict[str, Any]:
    """Describe the functions of an RDM loss, and the class of a loss of the user; empty if there are none.

    Examples
    --------
    >>> identify_loss(RDMLoss())
    {}
    """
    given = {field.name: getattr(loss, field.name) for field in fields(RDMLoss)}
    own = _own_classes(type(loss))
    return identify_callables(given) | ({"class": hash_words(map(code_of, own))} if own else {})


def identify_callables(values: Mapping[str, object]) -> dict[str, Any]:
    """Describe those values that are a user's functions, classes or callable objects, by name.

    Examples
    --------
    >>> identify_callables({"optimizer": "adam", "schedule": None})
    {}
    """
    found = {name: identify_callable(value) for name, value in values.items() if callable(value)}
    return {name: identity for name, identity in found.items() if identity != describe(values[name])}
