"""MATLAB's ``.mat`` files of any version: v4 to v7 (SciPy) and v7.3 (HDF5).

Layout on disk: any variable that is

- one RDM (n, n); a stack (n_rdms, n, n) or (n, n, n_rdms); condensed pairs in the order of ``squareform``, a vector or
  a matrix of (n_rdms, n_pairs) or (n_pairs, n_rdms). If both the first and the last axis could count the RDMs,
  ``axes=`` must name the right one;
- a cell array of such arrays;
- a struct or struct array with the field ``RDM`` or ``rdm`` (any of the above). All other fields with one text or
  number for each RDM (``name``, ``reprName``, ``layer``, ...) become rdm descriptors. Names like
  ``"hIT | BE | Session: 1"`` or ``"hIT | BE"``, as the RSA toolbox for MATLAB writes them, are also split into roi,
  subject and session.

If there are several such variables, ``variable=`` chooses one, or a field, ``"results.betas"``. Otherwise variables
with "rdm" in their names are preferred, and stacks of the same shape (``EVC_RDMs``, ``IT_RDMs``) are read as regions.
v7.3 stores all axes reversed, which is undone here. Struct arrays are in MATLAB's order, with the first index fastest.

The RDMs in a stack or cell array can be subjects, regions, points in time, models or searchlight centres, which the
file does not say. ``axes=`` does, by the names of all axes in their order: ``"subject,conditions,conditions"``,
``"conditions,conditions,roi,subject"``, ``"pairs,time"`` of condensed RDMs, or ``"roi,conditions,conditions"`` of a
cell array (n_rois, 1) of squares. Each axis except conditions and pairs becomes an rdm descriptor of that name, with
the values ``"1"``, ``"2"``, ..., or those of the variable in ``axis_variables={"roi": "results.roi_names"}``. Without
``axes=`` the RDMs of each variable are only counted, in the rdm descriptor ``index``.

Condensed pairs may also be in another order (``order="lower"``) or include the diagonal (``diagonal=True``); one half
of a square may be empty (0 or NaN).

Names of the conditions are in another variable, given by ``names_variable=``: a cell array of texts, a char matrix,
numbers, or a field of a struct or struct array (``"stimuli.name"``). Without it, each variable with one text for each
condition becomes a pattern descriptor with the name of the variable, which ``by=`` can choose. With ``patterns=True``
the variable holds patterns (n_conditions, n_channels) instead of RDMs; with runs, ``axes="conditions,channels,run"``,
in any order; of volumes, such as GLMsingle's ``modelmd``, ``axes="x,y,z,conditions"``, without the voxels that are
constant or not finite. Condensed RDMs need ``patterns=False`` if they could also be patterns: because they are called
patterns, features, betas or activations, or because there are as many of them as conditions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brainrdl._core.errors import BrainrdlError, check_option, quote, read_arg, refuse
from brainrdl.rdms.conversion import from_tensor
from brainrdl.readers.options import options_from
from data_adapters._shared.arrays import (
    LABELS,
    RdmLayout,
    by_axes,
    could_be_patterns,
    is_pairs,
    is_thingsvision,
    named_axes,
    own_axes,
    patterns,
)
from data_adapters._shared.matlab_files import Elements, MatFile, Shapes, Value, opened
from data_adapters._shared.measurements import condition_names

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.rdms import RDMs
# The RDMs of a variable: (labels, array) for each element of a struct array, (None, array) for a plain array.
Records = list[tuple[dict[str, str] | None, np.ndarray]]

_NAME = re.compile(r"(?P<roi>[^|]+?) *\| *(?P<subject>[^|]+?)(?: *\| *Session: *(?P<session>[^|]+))?")

_MORE_AXES = "axes='conditions,conditions,roi,subject'"

_RDM = ("RDM", "rdm")  # the field of a struct

_AFFIX = re.compile(r"^rdms?_|_rdms?$", re.IGNORECASE)

_NO_REGION = frozenset({"all", "average", "avg", "brain", "data", "group", "mean", "subj", "subject", "subjects"})


class Matlab:
    """Reads RDMs or patterns from MATLAB files, without running code in them.

    Examples
    --------
    >>> READER.sniff(Path("92_brainRDMs.mat"))
    True
    """

    name = "matlab"
    layout = (
        ".mat of any version: RDMs (n, n), (n_rdms, n, n), (n, n, n_rdms) or condensed, or structs with the fields RDM "
        "and name; patterns (n_conditions, n_channels) with patterns=True"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix, except exports of Meadows and activations of thingsvision.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.mat`` and the name does not begin with ``Meadows_``, nor is ``features.mat``.
        """
        other = path.name.startswith("Meadows_") or is_thingsvision(path)
        return path.suffix.lower() == ".mat" and not other

    @options_from(RdmLayout)
    def read(
        self,
        path: Path,
        *,
        variable: str | None = None,
        axes: str | None = None,
        axis_variables: dict[str, str] | None = None,
        names_variable: str | None = None,
        category_variable: str | None = None,
        run_variable: str | None = None,
        patterns: bool | None = None,
        **options: Any,
    ) -> RDMs | Dataset:
        """Read and check the RDMs, or the patterns.

        Parameters
        ----------
        path : Path
            The file.
        variable : str, optional
            The variable to read, or ``"variable.field"`` of a struct.
        axes : str, optional
            The axis that counts the RDMs (of patterns: the conditions), ``"first"`` or ``"last"``, if the shape does
            not show it; or the names of all axes, as described above.
        axis_variables : dict of str to str, optional
            The variables, or ``"variable.field"``, with a name for each position along an axis that `axes` names.
        names_variable, category_variable : str, optional
            The variable, or ``"variable.field"``, with a name, or a category, for each condition.
        run_variable : str, optional
            The variable with the run of each row of patterns.
        patterns : bool, optional
            Whether the variable holds patterns instead of RDMs. Rows are conditions, unless only the number of columns
            equals the number of names. By default RDMs, if it cannot be both.
        **options
            How RDMs are stored; see `RdmLayout`.

        Returns
        -------
        rsatoolbox.rdm.RDMs or rsatoolbox.data.Dataset
            RDMs (n_rdms, n_pairs) with rdm descriptors ``name``, ``roi``, ``subject``, ``session``, ... if known, or
            patterns (n_observations, n_channels), in the unit of the file. Conditions have pattern (of a Dataset:
            observation) descriptors ``stimulus`` and ``category`` if their variables are given.

        Raises
        ------
        BrainrdlError
            If the file is empty, is an export of Meadows or contains no RDM; if it is not clear which variable or axis
            is meant, or whether it contains patterns; if an RDM is not valid, or the names do not fit.
        """
        if not path.stat().st_size:
            refuse("the file is empty")
        if run_variable is not None and not patterns:
            refuse(
                f"{read_arg('run_variable', run_variable)} is only for patterns; use {read_arg('patterns', True)}, or "
                "leave it out for RDMs"
            )
        file = opened(path)
        if variable is None:
            _check_no_meadows(file.shapes)
        asked = {"stimulus": names_variable, "category": category_variable, "run": run_variable}
        columns = {key: _column(file, place) for key, place in asked.items() if place is not None}
        if names_variable is not None:
            condition_names(columns["stimulus"], f"variable {names_variable!r}")
        if patterns:
            return _patterns(file, variable, axes, columns)
        along = {axis: _column(file, place) for axis, place in (axis_variables or {}).items()}
        if along and named_axes(axes) is None:
            refuse(f"{read_arg('axis_variables')} names positions along axes; name the axes with {read_arg('axes')}")
        how = _How(axes, along, RdmLayout(**options))
        return _rdms(file, variable, how, columns, sure=patterns is not None)


@dataclass(frozen=True)
class _How:
    """What the user says about the RDMs: axes, the names along them, and the order of pairs."""

    axes: str | None
    along: Mapping[str, Sequence[str]]
    layout: RdmLayout


def _check_no_meadows(shapes: Shapes) -> None:
    found = [key for key in shapes if key.startswith("rdmutv") and key.replace("rdmutv", "stimuli", 1) in shapes]
    if found:
        refuse(
            f"variables {quote(found)}, with the stimuli of each, are an export of Meadows, where the order of stimuli "
            f"can differ between participants: use {read_arg('reader', 'meadows')} (or choose one with "
            f"{read_arg('variable')})"
        )


# Names, and patterns


def _column(file: MatFile, place: str) -> list[str]:
    """Return the texts of a variable, or of a field of a struct array."""
    struct, _, field = place.rpartition(".")
    value = file.load(struct or field, {field})
    field = field if struct else ""
    if field and isinstance(value, list):
        elements = [each.get(field) if isinstance(each, dict) else None for each in value]
    elif isinstance(value, np.ndarray) and sum(size != 1 for size in value.shape) < 2:
        elements = list(value.ravel())
    else:
        elements = value if isinstance(value, list) and not field else []
    if len(elements) == 1 and isinstance(elements[0], (list, np.ndarray)):  # a struct, not a struct array, with columns
        elements = list(np.ravel(elements[0]) if isinstance(elements[0], np.ndarray) else elements[0])
    column = [_text(each) for each in elements]
    if not column or None in column:
        refuse(
            f"{place!r} must hold one text or number for each condition: a cell array of texts (cellstr() makes it "
            "from strings), or the field of a struct array"
        )
    return [text for text in column if text is not None]


def _text(value: Any) -> str | None:
    """Return a text or a single number as a text."""
    if isinstance(value, str):
        return value
    if np.size(value) != 1 or not np.isrealobj(value) or value is None or isinstance(value, (list, dict)):
        return None
    number = float(np.asarray(value).item())
    return str(int(number)) if number.is_integer() else str(number)


def _patterns(file: MatFile, variable: str | None, axes: str | None, columns: Mapping[str, list[str]]) -> Dataset:
    shapes = file.shapes
    named = named_axes(axes)
    arrays = {key: shape for key, shape in shapes.items() if isinstance(shape, tuple)}
    possible = [
        key for key, shape in arrays.items() if (len(shape) == len(named) if named else len(_squeezed(shape)) == 2)
    ]
    possible = possible or [key for key, shape in arrays.items() if len(_squeezed(shape)) > 2]  # to name its axes
    if variable is None and len(possible) != 1:
        listed = _listed({name: shapes[name] for name in possible} or shapes)
        refuse(f"choose the variable of the patterns with {read_arg('variable')}: {listed}{_of_structs(shapes)}")
    key = variable or possible[0]
    array = file.load(key, ())
    where = f"variable {key!r}"
    if not isinstance(array, np.ndarray):
        refuse(f"{where} must hold real patterns (n_conditions, n_channels), got a MATLAB {file.shape(key)}")
    dataset = patterns(array, where, names=columns.get("stimulus"), runs=columns.get("run"), axes=axes)
    _add_category(dataset.obs_descriptors, columns, dataset.n_obs)
    return dataset


def _add_category(descriptors: dict[str, Any], columns: Mapping[str, list[str]], count: int) -> None:
    if "category" in columns:
        if len(columns["category"]) != count:
            refuse(f"{len(columns['category'])} categories were given for {count} conditions")
        descriptors["category"] = columns["category"]


# RDMs


def _rdms(file: MatFile, variable: str | None, how: _How, columns: Mapping[str, list[str]], sure: bool) -> RDMs:
    axes = how.axes
    shapes = file.shapes if variable is None else {variable: file.shape(variable)}
    records = {key: _records(file, key, shape, variable, axes) for key, shape in shapes.items()}
    keys = _chosen({key: found for key, found in records.items() if found}, shapes, variable, axes)
    if not sure and axes is None:
        for key in keys:
            _check_no_patterns(key, records[key], columns.get("stimulus"))
    rdms = _joined(
        [_read(key, records[key], how, several=len(keys) > 1) for key in keys], keys, columns.get("stimulus")
    )
    _add_category(rdms.pattern_descriptors, columns, rdms.n_cond)
    rdms.pattern_descriptors = _texts(file, rdms.n_cond) | rdms.pattern_descriptors
    return rdms


def _texts(file: MatFile, count: int) -> dict[str, list[str]]:
    """Give the variables with one text for each condition: only the user knows which of them names the conditions.

    One that is called "stimulus" would do so without being asked for.
    """
    texts = {key for key, shape in file.shapes.items() if shape in {"cell", "char"} and key != "stimulus"}
    found: dict[str, Any] = {}
    for key in sorted(texts):
        with suppress(BrainrdlError):  # nobody asked for this variable
            if count in file.sizes(key):
                found[key] = file.load(key, ())
    return {
        key: list(value)
        for key, value in found.items()
        if isinstance(value, list) and len(value) == count and all(isinstance(text, str) for text in value)
    }


def _check_no_patterns(key: str, records: Records, names: Sequence[str] | None) -> None:
    """Refuse to guess whether a matrix holds condensed RDMs or patterns."""
    shape = _squeezed(records[0][1].shape)
    if len(records) > 1 or records[0][0] is not None or len(shape) != 2 or shape[0] == shape[1]:
        return
    turned = {"first": shape, "last": shape[::-1]}
    sides = [turned[axis] for axis in _axes(shape)]
    if any(could_be_patterns(key, *side, None if names is None else len(names)) for side in sides):
        refuse(
            f"variable {key!r} of shape {shape} could hold patterns (n_conditions, n_channels) or condensed RDMs: use "
            f"{read_arg('patterns', True)} or {read_arg('patterns', False)}"
        )


def _records(file: MatFile, key: str, shape: tuple[int, ...] | str, variable: str | None, axes: str | None) -> Records:
    """Return the arrays of a variable that could be RDMs."""
    if isinstance(shape, tuple):
        # an array that cannot be RDMs is only named in an error, unless it was requested: then it is read and refused
        return [(None, _array(file.load(key, ())))] if variable or _fits(shape, axes) else []
    value = file.load(key, None) if shape in {"struct", "cell"} else None
    if not isinstance(value, list):
        return []
    elements = [each if isinstance(each, dict) else {"RDM": each} for each in value]
    found = [each.get("RDM", each.get("rdm")) for each in elements]
    arrays = [array for array in found if isinstance(array, np.ndarray)]
    if len(arrays) < len(found):
        return []
    if shape == "struct" and elements:
        return list(zip(_labels_of(elements), arrays, strict=True))
    counted = _stacked(arrays, value.shape, axes) if isinstance(value, Elements) else None
    return [(None, array) for array in arrays] if counted is None else [(None, counted)]


def _labels_of(elements: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Give the fields of a struct array that label each element with a text or a number, texts first."""
    columns = {field: [each.get(field) for each in elements] for field in elements[0] if field not in _RDM}
    columns = dict(sorted(columns.items(), key=lambda item: not all(isinstance(each, str) for each in item[1])))
    texts = {field: [_text(each) for each in column] for field, column in columns.items()}
    kept = {
        field.lower() if field.lower() in LABELS else field: column
        for field, column in texts.items()
        if None not in column and any(column)
    }
    return [{field: column[place] or "" for field, column in kept.items()} for place in range(len(elements))]


def _stacked(arrays: Sequence[np.ndarray], shape: tuple[int, ...], axes: str | None) -> np.ndarray | None:
    """Join the arrays of a cell array whose axes are named too; None if they are not, or the arrays differ in shape."""
    named, shapes = named_axes(axes), {_squeezed(array.shape) for array in arrays}
    sizes = _squeezed(shape)
    if named is None or len(shapes) > 1 or len(named) != len(sizes) + len(min(shapes)):
        return None
    joined = np.stack([array.reshape(min(shapes)) for array in arrays], axis=-1)
    return np.moveaxis(
        joined.reshape(*min(shapes), *sizes, order="F"), range(len(min(shapes))), range(-len(min(shapes)), 0)
    )


def _array(value: Value) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.empty(0)


def _chosen(variables: Mapping[str, Records], shapes: Shapes, variable: str | None, axes: str | None) -> list[str]:
    """Decide which variables to read: the requested one, the only possible one, or all stacks of one shape."""
    if variable is not None:
        if variable not in variables:
            refuse(
                f"variable {variable!r} must hold an RDM: it is a MATLAB {shapes[variable]} without numbers (n, n)"
                f"{_of_structs(shapes)}"
            )
        return [variable]
    possible = [key for key, records in variables.items() if all(_fits(array.shape, axes) for _, array in records)]
    # a vector of 105 numbers may be an RDM of 15 conditions or anything else: used only if nothing is more certain
    sure = [key for key in possible if _is_sure(variables[key])]
    called = [key for key in possible if "rdm" in key.lower()]
    keys = [key for key in sure if key in called] or [*called, *sure] or possible
    sizes = {tuple(array.shape for _, array in variables[key]) for key in keys}
    plain = all(label is None for key in keys for label, _ in variables[key])
    listed = _listed({key: shapes[key] for key in keys} or shapes)
    if not keys:
        refuse(
            "no variable is an RDM, a stack of RDMs, or a struct with the field RDM (if one holds patterns, use "
            f"patterns=True; if one has more axes, name them: {_MORE_AXES}); the variables are: {listed or 'none'}"
            f"{_of_structs(shapes)}"
        )
    if len(keys) > 1 and not (plain and len(sizes) == 1):
        refuse(f"several variables could be the RDMs, choose one with {read_arg('variable')}: {listed}")
    return keys


def _of_structs(shapes: Shapes) -> str:
    structs = [key for key, shape in shapes.items() if shape == "struct"]
    return f"; a field of a struct is given as {read_arg('variable', f'{structs[0]}.field')}" if structs else ""


def _fits(shape: Sequence[int], axes: str | None) -> bool:
    """Return whether an array could be RDMs, judged from its shape and the names of its axes."""
    named = named_axes(axes)
    if named is None:
        return bool(_axes(shape))
    shape = _fitting(shape, named)
    if "pairs" in named:
        return len(shape) == len(named) and is_pairs(shape[named.index("pairs")])
    sides = {size for size, name in zip(shape, named, strict=False) if name == "conditions"}
    return len(shape) == len(named) and len(sides) == 1


def _fitting(shape: Sequence[int], named: Sequence[str]) -> tuple[int, ...]:
    """Leave out axes of size 1, which MATLAB adds up to two axes and leaves out at the end, to fit the names."""
    squeezed = _squeezed(shape)
    if len(shape) > len(named) == len(squeezed):
        return squeezed
    return (*shape, *[1] * (len(named) - len(shape)))


def _is_sure(records: Records) -> bool:
    return all(
        label is not None or len(set(_squeezed(array.shape))) < len(_squeezed(array.shape)) for label, array in records
    )


def _listed(shapes: Shapes) -> str:
    return ", ".join(f"{key} {shape if isinstance(shape, tuple) else f'({shape})'}" for key, shape in shapes.items())


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _axes(shape: Sequence[int]) -> list[str]:
    """Return the axes that can count the RDMs, ``"first"``, ``"last"``, or both; for a single RDM, ``"first"``."""
    sizes = _squeezed(shape)
    if len(sizes) == 1 or (len(sizes) == 2 and sizes[0] != sizes[1]):
        possible = [("first", is_pairs(sizes[-1])), ("last", len(sizes) == 2 and is_pairs(sizes[0]))]
    elif len(sizes) in (2, 3):
        possible = [("first", sizes[-1] == sizes[-2] >= 3), ("last", len(sizes) == 3 and sizes[0] == sizes[1] >= 3)]
    else:
        possible = []
    return [axis for axis, fits in possible if fits]


def _read(key: str, records: Records, how: _How, several: bool) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Return the pairs (n_rdms, n_pairs) and descriptors of one variable."""
    called = [", ".join(map(repr, (labels or {}).values())) for labels, _ in records]
    named = [
        (f"variable {key!r}" + (f", {label}" if label else ""), array)
        for label, (_, array) in zip(called, records, strict=True)
    ]
    blocks = [_pairs(array, how, where) for where, array in named]
    if len({pairs.shape[1] for pairs, _ in blocks}) != 1:
        refuse(f"the RDMs of variable {key!r} have different numbers of pairs: {[p.shape[1] for p, _ in blocks]}")
    pairs = np.concatenate([pairs for pairs, _ in blocks])
    counted = {axis: [number for _, numbers in blocks for number in numbers[axis]] for axis in blocks[0][1]}
    if records[0][0] is None:
        region = _region(key, len(pairs), several)
        if counted:  # the time of RDM_time is an axis, not a region
            return pairs, {label: rois for label, rois in region.items() if rois[0] not in counted} | counted
        # counted in each variable, so that subject_by="index" finds the same subject in EVC_RDMs and IT_RDMs
        return pairs, region | ({"index": list(range(len(pairs)))} if several else {})
    labels = [labels or {} for (labels, _), (block, _) in zip(records, blocks, strict=True) for _ in block]
    return pairs, _split({field: [each[field] for each in labels] for field in labels[0]}) | counted


def _pairs(array: np.ndarray, how: _How, where: str) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Return the pairs (n_rdms, n_pairs) of an array, and the numbers along its named axes."""
    if np.iscomplexobj(array):
        refuse(f"{where} holds complex numbers, but dissimilarities are real; save its real(...) or abs(...)")
    named = named_axes(how.axes)
    if named is None:
        return how.layout.rdms(_stack(array, how.axes, where), None, where).dissimilarities, {}
    own = own_axes(named)
    shaped = array.reshape(_fitting(array.shape, named))
    stack, counted = by_axes(shaped, named, own, where, how.along)
    return how.layout.rdms(stack, None, where, condensed=own == ("pairs",)).dissimilarities, counted


def _stack(array: np.ndarray, axes: str | None, where: str) -> np.ndarray:
    """Move the axis of RDMs to the front."""
    possible = _axes(array.shape)
    if not possible:
        remedy = f"; name its axes: {_MORE_AXES}" if array.ndim > 2 else ""
        refuse(f"{where} must be an RDM, a stack of RDMs or condensed RDMs, got shape {array.shape}{remedy}")
    if axes is None and len(possible) > 1:
        refuse(
            f"{where} has shape {array.shape}, so either axis could count the RDMs: use {read_arg('axes', 'first')} "
            f"or {read_arg('axes', 'last')}"
        )
    chosen = possible[0] if axes is None else check_option(axes, possible, f"axes of {where} with shape {array.shape}")
    squeezed = array.reshape(_squeezed(array.shape))
    return np.moveaxis(squeezed, -1, 0) if chosen == "last" else squeezed


def _split(labels: dict[str, list[str]]) -> dict[str, list[str]]:
    """Keep the labels, and split the names if all follow one pattern."""
    names = labels.get("name", [])
    matches = [match for match in map(_NAME.fullmatch, names) if match]
    parts = [{part: text for part, text in match.groupdict().items() if text} for match in matches]
    same = len(parts) == len(names) and len({frozenset(part) for part in parts}) == 1
    return ({part: [each[part] for each in parts] for part in parts[0]} if same else {}) | labels


def _region(key: str, n_rdms: int, several: bool) -> dict[str, list[str]]:
    """Use what the name of a variable says besides RDM as the region; if there are several variables, their names."""
    name = key.rpartition(".")[2]
    roi = _AFFIX.sub("", name)
    says = roi != name and roi.lower() not in _NO_REGION
    return {"roi": [roi] * n_rdms} if several or says else {}


def _joined(
    blocks: list[tuple[np.ndarray, dict[str, list[Any]]]], keys: list[str], names: Sequence[str] | None
) -> RDMs:
    """Join the variables, which have the same descriptors."""
    pairs = np.concatenate([block for block, _ in blocks])
    descriptors = {name: [value for _, columns in blocks for value in columns[name]] for name in blocks[0][1]}
    if "roi" in descriptors and len(set(descriptors["roi"])) < len(keys):  # A_RDM and A_RDMs: keep the whole names
        descriptors["roi"] = [key for key, (block, _) in zip(keys, blocks, strict=True) for _ in block]
    return from_tensor(torch.from_numpy(pairs), names, descriptors=descriptors)


READER = Matlab()
