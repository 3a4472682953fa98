"""What identifies a function or a callable object: its code, and the values that it uses.

The code of torch, of Python's own library and of brainrdl is not compared: their versions are in the provenance. Of an
object, attributes whose names begin with an underscore are not compared, so that it can count or remember something.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache, lru_cache, partial
from pathlib import PurePath
from re import Pattern
from types import BuiltinMethodType, CellType, FunctionType, MethodType, MethodWrapperType, ModuleType, NoneType
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import torch
from torch import nn

from brainrdl._core.files import digest_tensor, hash_words
from brainrdl.loss.rdm_loss import RDMLoss
from brainrdl.models.feature_cache import digest_network
from brainrdl.runs.fingerprint import code_digest, code_of
from brainrdl.runs.provenance import describe

_KNOWN = {"torch", "brainrdl", "numpy", *sys.stdlib_module_names}  # packages whose code is not compared

_CACHED = type(cache(len))

# Values of which the text says all, and is the same in each process.
_TEXT = (
    PurePath, torch.dtype, torch.device, np.dtype, complex, bytes, bytearray, range, slice, date, time, timedelta,
    Decimal, Fraction, UUID, np.longdouble, np.clongdouble, np.complexfloating, np.datetime64, np.timedelta64,
)  # fmt: skip

_BUILT_IN = (BuiltinMethodType, MethodWrapperType)

_CONTAINERS = (Mapping, list, tuple, deque, set, frozenset)

_OF_EACH_MODULE = frozenset(vars(nn.Module()))

_Seen = dict[int, object]  # by `id`; the objects themselves are kept, so that no other one gets the same id


def identify_callable(value: object, seen: _Seen | None = None) -> Any:
    """Describe a value in JSON types; of functions, classes and objects also the code and the values that they use.

    Parameters
    ----------
    value : object
        A function, a method, a partial, a class, an object, or a value that one of them uses.
    seen : dict of id to object, optional
        The objects that are described already, or contain this one; of them only the position is returned.

    Returns
    -------
    object

    Examples
    --------
    >>> identify_callable(partial(torch.optim.SGD, momentum=0.9))["keywords"]
    {'momentum': 0.9}
    """
    seen = {} if seen is None else seen
    if id(value) in seen:
        return {"again": list(seen).index(id(value))}
    if isinstance(value, Enum):
        return [describe(type(value)), value.name]
    if isinstance(value, _CONTAINERS):
        return _container(value, seen)
    if isinstance(value, _TEXT):
        return repr(value)
    if isinstance(value, np.ndarray):
        return _array(value, seen)
    if isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        return {"is": describe(type(value)), "values": _table_digest(value)}
    if isinstance(value, type):
        return _with_code(describe(value), value)
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, Pattern):
        return {"pattern": value.pattern, "flags": value.flags}
    return _used(value, seen)


def _container(value: Any, seen: _Seen) -> Any:
    """Describe what a container holds; equal ones are equal whether they are one object or not."""
    seen[id(value)] = value
    if isinstance(value, Mapping):
        found: Any = {str(key): identify_callable(item, seen) for key, item in value.items()}
    elif isinstance(value, set | frozenset):
        found = sorted((identify_callable(item, seen) for item in sorted(value, key=repr)), key=repr)
    else:
        found = [identify_callable(item, seen) for item in value]
    del seen[id(value)]
    return found


def _array(value: np.ndarray, seen: _Seen) -> Any:
    if value.dtype.kind not in "biufc" or value.dtype in (np.longdouble, np.clongdouble):
        return {"shape": list(value.shape), "values": identify_callable(value.ravel().tolist(), seen)}
    plain = np.array(value, order="C", dtype=value.dtype.newbyteorder("="))  # torch refuses other strides and bytes
    return digest_tensor(torch.from_numpy(plain))


def _table_digest(value: pd.DataFrame | pd.Series | pd.Index) -> str:
    table = value if isinstance(value, pd.DataFrame) else value.to_frame()
    return hash_words([table.to_csv(), *map(str, table.dtypes)])


def _used(value: object, seen: _Seen) -> Any:
    """Describe a function, or an object that has attributes."""
    if isinstance(value, FunctionType):
        seen[id(value)] = value
        return _function(value, seen)
    if isinstance(value, MethodType):
        return {"method": identify_callable(value.__func__, seen), "of": identify_callable(value.__self__, seen)}
    if isinstance(value, _BUILT_IN) and not isinstance(value.__self__, ModuleType | NoneType):
        return {"method": describe(value), "of": identify_callable(value.__self__, seen)}
    if isinstance(value, partial):
        parts = {"func": value.func, "args": value.args, "keywords": value.keywords}
        return {"kind": "partial", **{name: identify_callable(part, seen) for name, part in parts.items()}}
    if isinstance(value, _CACHED):
        return {"cached": identify_callable(value.__wrapped__, seen)}
    return _object(value, seen)


def _function(function: FunctionType, seen: _Seen) -> Any:
    if not _is_own(function):
        return describe(function)
    names = function.__code__.co_freevars
    held = {name: _held(cell, seen) for name, cell in zip(names, function.__closure__ or (), strict=True)}
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    given = [identify_callable(value, seen) for value in defaults]
    about = {"function": describe(function), "code": code_digest(function)}
    return about | ({"holds": held} if held else {}) | ({"defaults": given} if given else {})


def _held(cell: CellType, seen: _Seen) -> Any:
    try:
        contents = cell.cell_contents
    except ValueError:  # not assigned yet
        return None
    return identify_callable(contents, seen)


def _object(value: object, seen: _Seen) -> Any:
    if type(value).__module__.partition(".")[0] == "brainrdl":
        identity = getattr(value, "identity", None)
        if identity is not None and not callable(identity):  # of a frozen network
            return describe(identity)
    if _own_classes(type(value)):
        seen[id(value)] = value
    about = digest_network(value) if isinstance(value, nn.Module) else describe(value)
    held = attributes_of(value, seen)
    return _with_code({"object": about, "holds": held} if held else about, type(value))


def attributes_of(value: object, seen: _Seen | None = None) -> dict[str, Any]:
    """Describe the public attributes of an object of a user's class; of a network, those that are not torch's.

    Examples
    --------
    >>> attributes_of(torch.nn.ReLU()), attributes_of("text")
    ({}, {})
    """
    if not _own_classes(type(value)):
        return {}
    of_torch = _OF_EACH_MODULE if isinstance(value, nn.Module) else frozenset()
    seen = {} if seen is None else seen
    return {
        name: identify_callable(each, seen)
        for name, each in (_in_slots(value) | getattr(value, "__dict__", {})).items()
        if not name.startswith("_") and name not in of_torch
    }


def _in_slots(value: object) -> dict[str, Any]:
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for own in slots for name in ([own] if isinstance(own, str) else own)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _with_code(about: Any, kind: type) -> Any:
    own = _own_classes(kind)
    return {"is": about, "code": hash_words(map(_code_of_class, own))} if own else about


_code_of_class = lru_cache(maxsize=256)(code_of)  # many objects can be of one class


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
    own = sorted({_code_of_class(kind) for part in parts.values() for kind in _own_classes(type(part))})
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
    return identify_callables(given) | ({"class": hash_words(map(_code_of_class, own))} if own else {})


def identify_callables(values: Mapping[str, object]) -> dict[str, Any]:
    """Describe those values that are a user's functions, classes or callable objects, by name.

    Examples
    --------
    >>> identify_callables({"optimizer": "adam", "schedule": None})
    {}
    """
    found = {name: identify_callable(value) for name, value in values.items() if callable(value)}
    return {name: identity for name, identity in found.items() if identity != describe(values[name])}
