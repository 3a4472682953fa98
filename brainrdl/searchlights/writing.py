"""Maps as files: NIfTI for volumes, GIFTI for surfaces, MNE's source estimates for surfaces over time, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from brainrdl._core.errors import arg, quote, refuse
from brainrdl._core.files import atomic, slug, write_csv, write_json
from brainrdl.searchlights.neighbourhoods import Neighbourhoods

Values = npt.NDArray[np.float64]

_HEMISPHERES = {"CortexLeft": "lh", "CortexRight": "rh"}


def write_map(
    where: Neighbourhoods,
    labels: Sequence[str],
    values: Values,
    folder: Path,
    overwrite: bool,
    others: Mapping[str, Any],
) -> list[Path]:
    """Write one map per label, all values as a table, and other tables and facts.

    Parameters
    ----------
    where : Neighbourhoods
        The centres.
    labels : sequence of str
        Names of the maps.
    values : numpy.ndarray (n_centres, n_labels)
        NaN where there is no value.
    folder : Path
        Folder to write to.
    overwrite : bool
        Replace existing files.
    others : mapping of file name to table or facts
        ``.csv`` and ``.json`` files to write too; None is left out.

    Returns
    -------
    list of Path

    Raises
    ------
    BrainrdlError
        If files exist already, or cannot be written.
    """
    names = [slug(label) for label in labels]
    if len(set(names)) < len(names):
        refuse(f"the names {quote(labels)} give the same file names; rename the models")
    maps = {
        folder / f"{name}{suffix}": (write, values[:, column])
        for column, name in enumerate(names)
        for suffix, write in _formats(where).items()
    }
    table = folder / "scores.csv"
    rest = {folder / name: content for name, content in others.items() if content is not None}
    existing = [str(path) for path in (*maps, table, *rest) if path.exists()]
    if existing and not overwrite:
        refuse(f"{quote(existing)} exist already; replace with {arg('overwrite', True)}, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, (write, column) in maps.items():
        write(where, column, path)
    write_csv(table, where.centres.assign(**dict(zip(labels, values.T, strict=True))))
    for path, content in rest.items():
        write_json(path, content) if path.suffix == ".json" else write_csv(path, content)
    return [*maps, table, *rest]


def _formats(where: Neighbourhoods) -> dict[str, Any]:
    if where.kind == "volume":
        return {".nii.gz": _write_nifti}
    if where.kind == "surface" and where.times is None:
        return {".func.gii": _write_gifti}
    if where.kind == "surface" and where.space["structure"] in _HEMISPHERES:
        return {f"-{_HEMISPHERES[where.space['structure']]}.stc": _write_source_estimate}
    return {}


def image_of(where: Neighbourhoods, values: Values) -> Any:
    """Return values of centres as a NIfTI image, NaN elsewhere; with times, it has a fourth dimension.

    Raises
    ------
    BrainrdlError
        If the neighbourhoods are not a volume.
    """
    import nibabel

    if where.kind != "volume":
        refuse(f"only a volume can be an image; these neighbourhoods are of {where.kind}")
    shape, affine = where.space["shape"], where.space["affine"]
    voxels = tuple(where.centres[axis].to_numpy() for axis in "ijk")
    if where.times is None:
        volume = np.full(shape, np.nan, dtype=np.float32)
        volume[voxels] = values
        return nibabel.Nifti1Image(volume, affine)
    times = np.unique(where.centres["time"])
    series = np.full((*shape, len(times)), np.nan, dtype=np.float32)
    series[(*voxels, np.searchsorted(times, where.centres["time"]))] = values
    image = nibabel.Nifti1Image(series, affine)
    image.header["pixdim"][4] = times[1] - times[0] if len(times) > 1 else 0
    image.header["toffset"] = times[0]
    return image


def _write_nifti(where: Neighbourhoods, values: Values, path: Path) -> None:
    import nibabel

    with atomic(path) as part:
        whole = part.with_name(f"{part.stem}.nii.gz")  # nibabel compresses by the whole suffix
        nibabel.save(image_of(where, values), whole)
        whole.replace(part)


def _write_gifti(where: Neighbourhoods, values: Values, path: Path) -> None:
    import nibabel

    vertices = np.full(where.space["n_vertices"], np.nan, dtype=np.float32)
    vertices[where.centres["vertex"]] = values
    array = nibabel.gifti.GiftiDataArray(vertices, intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32")
    meta = nibabel.gifti.GiftiMetaData({"AnatomicalStructurePrimary": where.space["structure"]})
    image = nibabel.gifti.GiftiImage(darrays=[array], meta=meta if where.space["structure"] else None)
    with atomic(path) as part:
        part.write_bytes(image.to_bytes())


def _write_source_estimate(where: Neighbourhoods, values: Values, path: Path) -> None:
    """Write MNE's binary format (``.stc``, big-endian): start and step in ms, vertices, then values by time."""
    vertices, times = np.unique(where.centres["vertex"]), np.unique(where.centres["time"])
    series = np.full((len(times), len(vertices)), np.nan, dtype=">f4")
    at = np.searchsorted(times, where.centres["time"]), np.searchsorted(vertices, where.centres["vertex"])
    series[at] = values
    step = times[1] - times[0] if len(times) > 1 else 1.0
    with atomic(path) as part:
        part.write_bytes(
            np.array([1000 * times[0], 1000 * step], ">f4").tobytes()
            + np.array([len(vertices)], ">u4").tobytes()
            + vertices.astype(">u4").tobytes()
            + np.array([len(times)], ">u4").tobytes()
            + series.tobytes()
        )
