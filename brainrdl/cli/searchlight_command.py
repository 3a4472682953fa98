"""The command `brainrdl searchlight`: maps of one subject, or of several with a group test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainrdl._core.errors import about, quote, refuse
from brainrdl.cli.common import (
    AsJson,
    Names,
    Overwrite,
    Quiet,
    ReadOptions,
    check_files,
    check_new,
    print_json,
    print_table,
    read_options,
    say,
    say_where,
)
from brainrdl.cli.completion import comparators, complete, dissimilarities, noise_methods
from brainrdl.cli.rdm_files import read_rdms
from brainrdl.cli.spelling import READER

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from brainrdl.searchlights.maps import SearchlightMap
    from brainrdl.searchlights.neighbourhoods import Neighbourhoods
EXAMPLES = (
    "Examples:\n\nbrainrdl searchlight betas.nii.gz --mask brain.nii.gz --radius 8 --model it.h5 --out runs/searchlight"
    "\n\nbrainrdl searchlight sub-*/betas.nii.gz --mask mni.nii.gz --radius 8 --model it.h5 --model pixels.h5 "
    "-d crossnobis --noise-normalisation shrinkage_eye --jobs -1 --out runs/group\n\n"
    "brainrdl searchlight betas.func.gii --surface lh.midthickness.surf.gii --radius 10 --model it.h5 --out runs/left"
)


def searchlight(
    sources: Annotated[
        list[str], typer.Argument(help="File or folder of measurements of a subject; several subjects are tested.")
    ],
    models: Annotated[
        list[Path],
        typer.Option("--model", "-m", metavar="FILE", help="File of model RDMs; can be given several times."),
    ],
    radius: Annotated[
        float, typer.Option("--radius", "-r", metavar="MM", help="Radius of the spheres, or along the surface, in mm.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for maps and tables.")],
    mask: Annotated[
        Path | None,
        typer.Option("--mask", metavar="FILE", help="Volume: voxels to use, on the grid of the measurements."),
    ] = None,
    surface: Annotated[
        Path | None,
        typer.Option("--surface", metavar="FILE", help="Surface of the vertices: GIFTI, or FreeSurfer's lh.white."),
    ] = None,
    centres: Annotated[
        Path | None,
        typer.Option("--centres", metavar="FILE", help="Volume: centres of spheres, in the mask; all by default."),
    ] = None,
    dissimilarity: Annotated[
        str,
        typer.Option(
            "--dissimilarity", "-d", metavar="NAME", help="Dissimilarity.", autocompletion=complete(dissimilarities)
        ),
    ] = "correlation",
    noise: Annotated[
        str | None,
        typer.Option(
            "--noise-normalisation",
            metavar="METHOD",
            help="Whiten the channels of each sphere with this estimate of their noise covariance.",
            autocompletion=complete(noise_methods),
        ),
    ] = None,
    comparator: Annotated[
        str,
        typer.Option(
            "--comparator", "-c", metavar="NAME", help="RDM comparator.", autocompletion=complete(comparators)
        ),
    ] = "corr",
    runs: Annotated[
        str, typer.Option("--runs", metavar="NAME", help="Descriptor that holds the runs, for crossnobis.")
    ] = "run",
    condition_column: Annotated[
        str | None,
        typer.Option(
            "--condition-column",
            metavar="NAME",
            help="Column of the file's table that names the conditions.",
            rich_help_panel=READER,
        ),
    ] = None,
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    common: Annotated[
        bool, typer.Option("--common", help="Compare on the conditions that models and measurements have in common.")
    ] = False,
    min_channels: Annotated[
        int, typer.Option("--min-channels", help="Leave out centres with fewer channels.", min=1)
    ] = 5,
    p_threshold: Annotated[
        float, typer.Option("--p-threshold", help="Several subjects: centres with a p below this form clusters.")
    ] = 0.001,
    permutations: Annotated[
        int, typer.Option("--permutations", help="Several subjects: number of random flips of signs.", min=1)
    ] = 5000,
    n_jobs: Annotated[int, typer.Option("--jobs", "-j", help="Number of processes; -1 for one per core.")] = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare the RDM around every place of a brain with model RDMs, and write maps and a table of peaks."""
    if not overwrite and out.is_dir() and any(out.iterdir()):
        check_new([out], overwrite)
    if duplicates := [source for source, count in Counter(sources).items() if count > 1]:
        refuse(f"{quote(duplicates)} are given more than once; give one file or folder per subject")
    _check_places(mask, surface, centres)
    check_files(*sources, *models, mask, surface, centres)
    from brainrdl import searchlight as search
    from brainrdl.searchlights.group_maps import group_test

    where = _neighbourhoods(mask, surface, centres, radius)
    words = read_options(options) | ({"condition_column": [condition_column]} if condition_column else {})
    rdms = _models(models)
    how: dict[str, Any] = {
        "dissimilarity": dissimilarity, "comparator": comparator, "noise": noise, "runs": runs, "common": common,
        "min_channels": min_channels, "n_jobs": n_jobs, "progress": not quiet,
    }  # fmt: skip
    maps = []
    for source in sources:
        with about(repr(source)):
            maps.append(search(_measurements(source, mask, names, words), where, rdms, **how))
    folders = [out] if len(maps) == 1 else [out / label for label in _labels(sources, maps)]
    for source, found, folder in zip(sources, maps, folders, strict=True):
        found.save(folder, overwrite=overwrite)
        if not as_json:
            for note in found.notes:
                say(f"{source}: left out: {note}")
    if len(maps) == 1:
        table = _peaks(maps[0])
    else:
        group = group_test(maps, p_threshold=p_threshold, n_permutations=permutations)
        group.save(out, overwrite=overwrite)
        table = group.clusters
        for note in [] if as_json else group.notes:
            say(f"group: left out: {note}")
    print_json(table) if as_json else _tell(table, out, len(maps))


def _check_places(mask: Path | None, surface: Path | None, centres: Path | None) -> None:
    if (mask is None) == (surface is None):
        refuse("say where the channels are: --mask FILE for voxels, or --surface FILE for vertices")
    if centres is not None and surface is not None:
        refuse("--centres is for volumes; leave it out with --surface")


def _neighbourhoods(mask: Path | None, surface: Path | None, centres: Path | None, radius: float) -> Neighbourhoods:
    from brainrdl.searchlights.neighbourhoods import surface_neighbourhoods, volume_neighbourhoods

    if surface is None:
        return volume_neighbourhoods(mask, radius, centres=centres)
    return surface_neighbourhoods(surface, radius=radius)


def _models(paths: Sequence[Path]) -> dict[str, RDMs]:
    """Read model RDMs; each file is named by its stem, or by its path if stems are equal."""
    stems = [path.name.partition(".")[0] for path in paths]
    labels = stems if len(set(stems)) == len(stems) else list(map(str, paths))
    return {label: read_rdms(path, None, {}) for label, path in zip(labels, paths, strict=True)}


def _measurements(source: str, mask: Path | None, names: Path | None, words: Mapping[str, Sequence[str]]) -> Any:
    import inspect

    from rsatoolbox.rdm import RDMs

    from brainrdl import read
    from brainrdl.readers.reading import options_of, reader_of

    reader = words.get("reader", [None])[-1]
    masked = mask is not None and "mask" in inspect.signature(reader_of(source, reader).read).parameters
    found: Any = read(source, names=names, **options_of(source, {**words, **({"mask": [str(mask)]} if masked else {})}))
    if isinstance(found, RDMs):
        refuse("it holds RDMs, not measurements; give the measurements, and RDMs with --model FILE")
    if isinstance(found, list):
        refuse(f"it holds {len(found)} data sets (regions or subjects); give one per file")
    return found


def _labels(sources: Sequence[str], maps: Sequence[SearchlightMap]) -> list[str]:
    """Name subjects as their data sets do, otherwise by number."""
    subjects = [str(found.settings.get("subject", "")) for found in maps]
    if all(subjects) and len(set(subjects)) == len(subjects):
        return [f"sub-{subject}" for subject in subjects]
    return [f"subject-{number:02d}" for number in range(1, len(sources) + 1)]


def _peaks(found: SearchlightMap) -> pd.DataFrame:
    import pandas as pd

    peaks = [found.peaks(model).rename(columns={model: "score"}) for model in found.models]
    return pd.concat([part.assign(model=model) for part, model in zip(peaks, found.models, strict=True)])


def _tell(table: pd.DataFrame, out: Path, n_subjects: int) -> None:
    if len(table):
        say("highest peaks" if n_subjects == 1 else f"clusters of {n_subjects} subjects (mean score above 0)")
        print_table(table)
    else:
        say(f"no centre is beyond the threshold in {n_subjects} subjects")
    say_where("maps", out)
