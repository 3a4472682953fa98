"""GIFTI and CIFTI maps: values on the vertices of the cortex, and on voxels below it.

Layout on disk::

    .func.gii, .shape.gii   GIFTI, one hemisphere: an array (n_vertices,) for each map, or the columns of one array
    .dscalar.nii            CIFTI: maps x grayordinates, that is vertices of both hemispheres and voxels
    .dtseries.nii           the same, without names of the maps
    lh.betas.mgz, .mgh      FreeSurfer, one hemisphere: (n_vertices, 1, 1, n_maps)
    betas.tsv               table of the maps, one row per map in their order, as for NIfTI; without it the names of
                            the maps are the conditions; with it they must be in the order of the table
    mask=                   .gii or .dscalar.nii: one map of 0 and one other value
    atlas=                  .label.gii, .dlabel.nii, FreeSurfer's .annot (without unknown and medial wall), or another
                            map of whole numbers, 0 or less outside all regions: also .mgz, or its .nii from mri_convert
    lh.V1.label             FreeSurfer's list of vertices, as a mask or as an atlas of one region
    labels=                 the regions' names, as for NIfTI, if the atlas holds none

Mask and atlas are matched by structure and vertex (or voxel), not by position in the file, so that a ``.dlabel.nii`` of
the cortex fits maps of the whole brain. The structure of a GIFTI file is stated in the file (``CortexLeft``), or in its
name (``hemi-L``, ``lh.``, ``.L.``). Channels that are NaN, infinite or do not vary within a run are left out as for
NIfTI. Of CIFTI files only the grayordinates asked for are kept in memory. A series (``..._bold.func.gii``) is refused:
it needs a first-level model. Parcels (``.pscalar.nii``) and compressed ``.gii.gz`` must be converted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from brainrdl._core.errors import check_option, quote, read_arg, refuse
from brainrdl.readers.entities import values_in
from data_adapters._shared.text import read_text
from data_adapters._shared.text_tables import blaming, existing
from data_adapters.fmri_maps.annot import read_annot
from data_adapters.fmri_maps.gifti_files import check_gifti
from data_adapters.fmri_maps.maps import dataset_of, entities_in_names, neighbour, observations_of
from data_adapters.fmri_maps.regions import as_labels, as_mask, find_regions, read_label_table
from data_adapters.fmri_maps.volumes import (
    is_cifti,
    is_mgh,
    is_surface,
    open_volumes,
    read_header,
    read_values,
    same_places,
)

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
_OURS = re.compile(r"(?<!\.label)(?<!\.surf)\.gii$|\.d(scalar|tseries)\.nii$", re.IGNORECASE)

_SERIES = re.compile(r"(^|_)bold(\.func|\.dtseries)?\.(gii|nii)$", re.IGNORECASE)

_MESH = frozenset({1008, 1009})  # intent codes of points and triangles

_CORTEX = {"L": "CORTEX_LEFT", "lh": "CORTEX_LEFT", "R": "CORTEX_RIGHT", "rh": "CORTEX_RIGHT"}

_BLOCK = 2**22  # bytes of a CIFTI file that are in memory at a time


class Surfaces:
    """Reads maps on the cortex as measurements, one Dataset per region.

    Examples
    --------
    >>> [READER.sniff(Path(name)) for name in ("lh.betas.func.gii", "betas.dscalar.nii", "lh.white.surf.gii")]
    [True, True, False]
    """

    name = "surfaces"
    layout = (
        ".func.gii, .shape.gii, .dscalar.nii, .dtseries.nii or .mgz: maps on vertices or grayordinates; with mask= or "
        "atlas= (.label.gii, .dlabel.nii, .annot, .mgz, .label; and roi=), and conditions in the maps' names or in "
        "table="
    )

    def sniff(self, path: Path) -> bool:
        """Take files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether it is a GIFTI file (neither mesh nor labels), a dense CIFTI file of scalars or series, or a map of
            FreeSurfer on a surface.
        """
        if path.is_dir() or path.name.startswith("."):
            return False
        return bool(_OURS.search(path.name)) or (is_mgh(path) and is_surface(path))

    def read(
        self,
        path: Path,
        *,
        mask: str | Path | None = None,
        atlas: str | Path | None = None,
        labels: str | Path | None = None,
        roi: str | Sequence[str] | None = None,
        structure: str | Sequence[str] | None = None,
        table: str | Path | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
    ) -> Dataset | list[Dataset]:
        """Read the vertices (and voxels) of the mask, or of each region.

        Parameters
        ----------
        path : Path
            The file.
        mask : str or Path, optional
            Map of the channels to read; by default all.
        atlas : str or Path, optional
            Map of the regions' numbers.
        labels : str or Path, optional
            Names of the regions; by default those in the atlas, the table next to it, or their numbers.
        roi : str or sequence of str, optional
            Regions to read: a list of Datasets for a list of names, one Dataset for a name; by default all.
        structure : str or sequence of str, optional
            Structures to read, for example ``"CORTEX_LEFT"``; by default all.
        table : str or Path, optional
            Conditions and runs; by default the ``.tsv`` file of the same name, if there is one.
        condition_column, run_column : str, optional
            Columns of the table, if they have other names.

        Returns
        -------
        rsatoolbox.data.Dataset or list of Dataset
            A list if there is an atlas, except for a single name in `roi`. Observation descriptors ``stimulus`` and
            ``run``, channel descriptors ``structure``, ``vertex`` and, if there are voxels, ``i``, ``j``, ``k`` (-1
            if a channel has none), and the descriptors ``roi``, ``subject``, ``session`` as far as they are known.

        Raises
        ------
        BrainrdlError
            If the file is damaged, is a mesh, or links to another; mask or atlas are on another surface or hold other
            values; the table does not fit; a structure or region is unknown, or no channel of it is left.
        """
        if _SERIES.search(path.name):
            refuse("it is a series of volumes, not maps of conditions: fit a first-level model, and read its betas")
        maps = _opened(path)
        here = _within(maps, structure)
        inside = here if mask is None else here & _mask(maps, mask)
        numbers, names = _atlas(maps, atlas, labels)
        regions = find_regions(inside, None if numbers is None else np.where(here, numbers, 0), names, roi)
        channels = np.unique(np.concatenate([found for _, found in regions]))
        own = maps.names if all(maps.names) else None
        found = neighbour(path) if table is None else table
        n_maps = len(maps.names)
        known = entities_in_names([path.name] * n_maps) | ({"stimulus": own} if own else {})
        kept, observed = observations_of(n_maps, known, found, condition_column, run_column)
        values, places = maps.values(channels), _places(maps, channels)
        values = values if len(kept) == n_maps else values[kept]
        parts = [(name, np.searchsorted(channels, found)) for name, found in regions]
        datasets = [dataset_of(values, name, part, observed, places, path, n_maps - len(kept)) for name, part in parts]
        return datasets[0] if atlas is None or isinstance(roi, str) else datasets


# Files


@dataclass(frozen=True)
class _Maps:
    """Maps, where their channels are, and how to get their values."""

    names: list[str]  # of the maps, empty if a map has none
    labels: dict[int, str]  # of an atlas
    structure: np.ndarray  # of each channel, empty if unknown
    vertex: np.ndarray  # of each channel, -1 for a voxel
    voxel: np.ndarray  # (n_channels, 3), -1 for a vertex
    sizes: Mapping[str, int]  # number of vertices of each structure's surface
    volume: tuple[Any, np.ndarray] | None  # shape and affine
    values: Callable[[np.ndarray], np.ndarray]  # sorted channels -> (n_maps, n_channels)


def _opened(path: Path) -> _Maps:
    if not path.stat().st_size:
        refuse("the file is empty")
    kinds = {".gii": _gifti, ".annot": _annot, ".label": _label}
    if path.suffix.lower() in kinds:
        return kinds[path.suffix.lower()](path)
    return _flat(path) if is_mgh(path) or not is_cifti(path) else _cifti(path)


def _flat(path: Path) -> _Maps:
    """Open maps on a hemisphere that are stored as a volume, as FreeSurfer does: a voxel for each vertex."""
    volumes = open_volumes(path)
    values = read_values(volumes, np.arange(volumes.n_voxels))
    return _surface([""] * volumes.n, {}, _one_of(_called(path)), values)


def _label(path: Path) -> _Maps:
    """Open FreeSurfer's list of the vertices of a region; how many vertices the surface has is not in it."""
    try:
        first, count, *rows = [line.split() for line in read_text(path).splitlines() if line.strip()]
        vertices = np.array([int(row[0]) for row in rows])
    except (ValueError, IndexError):
        refuse("it is not a list of vertices as FreeSurfer writes it: a comment, their number, and one per line")
    if (
        first[0][:1] != "#"
        or count != [str(len(vertices))]
        or len(set(vertices.tolist())) < len(vertices)
        or min(vertices) < 0
    ):
        refuse(f"it declares {' '.join(count)} vertices, but lists {len(vertices)}: is it cut off or damaged?")
    n, name = len(vertices), re.sub(r"^[lr]h\.", "", path.stem, flags=re.IGNORECASE)
    structure = np.full(n, _one_of(_called(path)))
    ones = np.ones((1, n), np.float32)
    return _Maps(
        [""], {1: name}, structure, vertices, np.full((n, 3), -1), {}, None, lambda channels: ones[:, channels]
    )


def _one_of(called: set[str]) -> str:
    return "".join(called if len(called) == 1 else ())


def _annot(path: Path) -> _Maps:
    """Open FreeSurfer's annotation of a hemisphere, which is the one that its name says."""
    numbers, names = read_annot(path)
    return _surface([""], names, _one_of(_called(path)), numbers[None])


def _called(path: Path) -> set[str]:
    """Give the cortex that a file's name says; ``left`` and ``right`` may also be words of the experiment."""
    return {_CORTEX[side] for side in values_in(path.name, "hemi") if side in _CORTEX}


def _gifti(path: Path) -> _Maps:
    check_gifti(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Actual # of data arrays")
        image = nib.GiftiImage.from_filename(path)
    if not image.darrays or _MESH & {array.intent for array in image.darrays}:
        refuse("the file holds a mesh, expected maps" if image.darrays else "the file holds no map")
    stacks = [_rows(array.data) for array in image.darrays]
    if len({stack.shape[1] for stack in stacks}) > 1:
        refuse(f"the maps have different numbers of vertices: {[stack.shape[1] for stack in stacks]}")
    stacked = np.concatenate(stacks)
    values = stacked.astype(np.float32 if np.can_cast(stacked.dtype, np.float32) else np.float64)
    names = [
        (array.meta.get("Name") or "") if len(stack) == 1 else ""
        for array, stack in zip(image.darrays, stacks, strict=True)
        for _ in stack
    ]
    labels = {key: label or "" for key, label in image.labeltable.get_labels_as_dict().items()}
    return _surface(names, labels, _structure(image, path), values)


def _surface(names: list[str], labels: dict[int, str], structure: str, values: np.ndarray) -> _Maps:
    n = values.shape[1]
    return _Maps(
        names,
        labels,
        np.full(n, structure),
        np.arange(n),
        np.full((n, 3), -1),
        {structure: n},
        None,
        lambda channels: values[:, channels],
    )


def _rows(array: np.ndarray) -> np.ndarray:
    """Bring a map, or maps in columns, to (n_maps, n_vertices)."""
    if array.dtype.kind not in "iuf" or array.ndim not in (1, 2) or (array.ndim == 2 and len(array) < array.shape[1]):
        refuse(f"an array of {array.dtype} has shape {array.shape}, expected (n_vertices,) or (n_vertices, n_maps)")
    return array.reshape(len(array), -1).T


def _structure(image: nib.GiftiImage, path: Path) -> str:
    """Name the structure as CIFTI does: as the file says, or else its name."""
    said = [meta.get("AnatomicalStructurePrimary") for meta in (image.meta, *(array.meta for array in image.darrays))]
    spelled = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", each).upper() for each in said if each}
    called = _called(path)
    if len(spelled) > 1 or (spelled and len(called) == 1 and spelled != called):
        refuse(f"the file says that it is on {quote(sorted(spelled))}, but its name says {quote(sorted(called))}")
    return "".join(spelled) or _one_of(called)


def _cifti(path: Path) -> _Maps:
    header = read_header(path)
    shape = header.get_data_shape()[4:]
    if header.get_data_dtype().kind not in "iuf":
        refuse(f"the file holds {header.get_data_dtype()} numbers, expected real ones")
    with path.open("rb") as file:
        if b"<!ENTITY" in file.read(header.get_data_offset()).replace(b"\0", b""):  # in UTF-16 as well
            refuse("the file declares XML entities, which maps do not need")
    # not nibabel's image of CIFTI: it allocates memory for what the XML declares before that can be checked
    image = nib.Nifti2Image.from_filename(path)
    xml = next((each.get_content() for each in image.header.extensions if each.get_code() == 32), None)
    if xml is None or len(shape) != 2:
        refuse(
            f"the file is not a CIFTI-2 matrix: its shape is {image.shape}" + ("" if xml else ", and it holds no XML")
        )
    mappings = [xml.matrix.get_index_map(axis) for axis in xml.matrix.mapped_indices]
    kinds = [mapping.indices_map_to_data_type.removeprefix("CIFTI_INDEX_TYPE_") for mapping in mappings]
    if len(kinds) != 2 or kinds[0] not in {"SCALARS", "SERIES", "LABELS"} or kinds[1] != "BRAIN_MODELS":
        refuse(f"the file holds {' x '.join(kinds)}, expected SCALARS, SERIES or LABELS x BRAIN_MODELS")
    named = list(mappings[0].named_maps)
    n_maps = mappings[0].number_of_series_points if kinds[0] == "SERIES" else len(named)
    if n_maps != shape[0]:
        refuse(f"the XML declares {n_maps} maps, but the header {shape[0]}")
    _check_models(list(mappings[1].brain_models), shape[1])
    axis = xml.get_axis(1)
    return _Maps(
        [(each.map_name or "").strip() for each in named] or [""] * shape[0],
        {key: label.label for each in named[:1] for key, label in (each.label_table or {}).items()},
        np.array([_plain(name) for name in axis.name]),
        axis.vertex,
        axis.voxel,
        {_plain(name): size for name, size in axis.nvertices.items()},
        None if axis.volume_shape is None else (tuple(axis.volume_shape), np.asarray(axis.affine)),
        lambda channels: _columns(image.dataobj, channels),
    )


def _plain(structure: str) -> str:
    return str(structure).removeprefix("CIFTI_STRUCTURE_")


def _check_models(models: list[Any], n_channels: int) -> None:
    """Refuse brain models that do not cover the channels in order, before memory is allocated for them."""
    start = 0
    for model in models:
        indices = model.voxel_indices_ijk if model.vertex_indices is None else model.vertex_indices
        if model.index_offset != start or indices is None or len(indices) != model.index_count:
            refuse(
                f"{_plain(model.brain_structure)} declares {model.index_count} channels from {model.index_offset}, "
                f"but lists {0 if indices is None else len(indices)} from {start}"
            )
        if (
            model.vertex_indices is not None
            and not 0 <= min(indices) <= max(indices) < model.surface_number_of_vertices
        ):
            refuse(f"{_plain(model.brain_structure)} lists vertices beyond its {model.surface_number_of_vertices}")
        start += len(indices)
    if start != n_channels:
        refuse(f"the brain models have {start} channels, but the maps {n_channels}")


def _columns(stored: Any, channels: np.ndarray) -> np.ndarray:
    """Read some grayordinates of (1, 1, 1, 1, n_maps, n_channels), one block at a time."""
    n_maps, dtype = stored.shape[4], np.asarray(stored[..., :1]).dtype
    values = np.empty((n_maps, channels.size), np.float32 if np.can_cast(dtype, np.float32) else np.float64)
    step = max(1, _BLOCK // (n_maps * dtype.itemsize))
    for start in range(channels[0], channels[-1] + 1, step):
        first, last = np.searchsorted(channels, (start, start + step))
        if first < last:
            values[:, first:last] = stored[0, 0, 0, 0, :, start : start + step][:, channels[first:last] - start]
    return values


# Masks, atlases, structures


def _within(maps: _Maps, structure: str | Sequence[str] | None) -> np.ndarray:
    """Give which channels are in the structures asked for."""
    if structure is None:
        return np.ones(maps.structure.size, bool)
    held = sorted(set(maps.structure.tolist()))
    asked = [_plain(name) for name in ([structure] if isinstance(structure, str) else structure)]
    return np.isin(maps.structure, [check_option(name, held, "structure") for name in asked])


def _atlas(
    maps: _Maps, path: str | Path | None, table: str | Path | None
) -> tuple[np.ndarray | None, dict[int, str] | None]:
    """Give each channel's number, and the regions' names, if there are any."""
    if path is None:
        if table is not None:
            refuse(
                f"{read_arg('labels')} is {str(table)!r}, which names the regions of an atlas; give "
                f"{read_arg('atlas')} as well"
            )
        return None, None
    if table is not None and Path(path).suffix.lower() == ".annot":
        refuse(f"{read_arg('labels')} is {str(table)!r}, but an .annot holds the names of its regions; leave it out")
    with blaming("atlas=", existing(path, "atlas")):
        atlas = _opened(Path(path))
        numbers = as_labels(_onto(maps, atlas, "atlas"))
    found = neighbour(Path(path)) if table is None and not atlas.labels else table
    if found is None:
        return numbers, atlas.labels or None
    return numbers, read_label_table(found, int(numbers.max()))


def _mask(maps: _Maps, path: str | Path) -> np.ndarray:
    with blaming("mask=", existing(path, "mask")):
        return as_mask(_onto(maps, _opened(Path(path)), "mask"))


def _onto(maps: _Maps, other: _Maps, what: str) -> np.ndarray:
    """Give the value of a mask or atlas at each channel of the maps, 0 if it has none there."""
    if len(other.names) != 1:
        refuse(f"the {what} holds {len(other.names)} maps ({quote(other.names)}), expected one")
    structures = [set(each.structure.tolist()) for each in (maps, other)]
    if "" in structures[0] | structures[1] and len(structures[0] | structures[1]) <= 2:
        maps, other = _unnamed(maps), _unnamed(other)
    elif not structures[0] & structures[1]:
        refuse(f"the {what} is on {quote(sorted(structures[1]))}, but the maps on {quote(sorted(structures[0]))}")
    _check_space(maps, other, what)
    for structure in () if other.sizes else maps.sizes:  # a list of vertices
        furthest = max(other.vertex[other.structure == structure], default=0)
        if furthest >= maps.sizes[structure]:
            refuse(
                f"the {what} lists vertex {furthest}, but the maps have {maps.sizes[structure]} vertices on "
                f"{structure or 'their surface'}; resample it to the same surface (mri_label2label)"
            )
    values = other.values(np.arange(other.structure.size))[0]
    at = dict(zip(_keys(other), values.tolist(), strict=True))
    return np.array([at.get(key, 0.0) for key in _keys(maps)])


def _unnamed(maps: _Maps) -> _Maps:
    """Remove the name of the only structure, because the other file does not name its structure."""
    sizes = dict.fromkeys([""] if maps.sizes else [], next(iter(maps.sizes.values()), 0))
    return replace(maps, structure=np.full(maps.structure.size, ""), sizes=sizes)


def _check_space(maps: _Maps, other: _Maps, what: str) -> None:
    for structure in sorted(set(maps.sizes) & set(other.sizes)):
        if maps.sizes[structure] != other.sizes[structure]:
            refuse(
                f"the {what} has {other.sizes[structure]} vertices on {structure or 'its surface'}, but the maps "
                f"have {maps.sizes[structure]}; resample it to the same surface"
            )
    if maps.volume and other.volume and not _same_grid(*maps.volume, *other.volume):
        refuse(f"the {what} has voxels on another grid than the maps: {other.volume}, but {maps.volume} is expected")


def _same_grid(shape: Any, affine: np.ndarray, other_shape: Any, other_affine: np.ndarray) -> bool:
    return shape == other_shape and same_places(shape, affine, other_affine)


def _keys(maps: _Maps) -> list[tuple[Any, ...]]:
    return list(zip(maps.structure.tolist(), maps.vertex.tolist(), *maps.voxel.T.tolist(), strict=True))


def _places(maps: _Maps, channels: np.ndarray) -> dict[str, np.ndarray]:
    """Give the channel descriptors."""
    voxels = dict(zip("ijk", maps.voxel[channels].T, strict=True)) if maps.volume else {}
    return {"structure": maps.structure[channels], "vertex": maps.vertex[channels], **voxels}


READER = Surfaces()
