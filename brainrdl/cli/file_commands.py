"""Commands about files and data sets: `brainrdl rdm`, `brainrdl doctor` and `brainrdl data`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from brainrdl._core.errors import about, check_option, quote, refuse
from brainrdl.cli.common import (
    AsJson,
    AverageOver,
    Names,
    Overwrite,
    Quiet,
    ReadOptions,
    SubjectBy,
    check_figure,
    check_new,
    check_source,
    console,
    print_json,
    print_table,
    read_options,
    save_figure,
    say_where,
)
from brainrdl.cli.completion import complete, data_sets, dissimilarities, networks, noise_methods
from brainrdl.cli.spelling import READER, Command

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs
RDM_EXAMPLES = (
    "Examples:\n\nbrainrdl rdm betas.nii.gz --read atlas=atlas.nii.gz --roi IT -d crossnobis --out it.h5\n\n"
    "brainrdl rdm --model resnet18 --layers layer1 layer4 --stimuli images/ --out resnet18.h5\n\n"
    "brainrdl rdm --run runs/it --stimuli other/ --out fitted.h5"
)

DOCTOR_EXAMPLES = (
    "Examples:\n\nbrainrdl doctor it.h5 --stimuli images/ --out it.png\n\n"
    "brainrdl doctor fmri.mat --read variable=IT_RDMs --names images/"
)

DATA_EXAMPLES = "Examples:\n\nbrainrdl data list\n\nbrainrdl data fetch kriegeskorte92\n\nbrainrdl data example"

_KEYWORDS = {  # of calc_rdm
    "--dissimilarity": "dissimilarity",
    "--noise-normalisation": "noise",
    "--noise-per": "noise_per",
    "--runs": "runs",
    "--window": "windows",
    "--stream": "out",
}

_NOT_OF_RUN = ("--weights", "--seed", "--pool", "--step")  # options of a network that a run has fixed

_HDF5, _TABLES = (".h5", ".hdf5"), (".csv", ".tsv")

Sources = Annotated[
    list[str],
    typer.Argument(
        help="File, folder, or pattern in quotes ('sub-*/betas.nii.gz'); with --model or --run, further --layers."
    ),
]

Dissimilarity = Annotated[
    str | None,
    typer.Option(
        "--dissimilarity",
        "-d",
        metavar="NAME",
        help="Dissimilarity; correlation by default.",
        autocompletion=complete(dissimilarities),
    ),
]

Noise = Annotated[
    str | None,
    typer.Option(
        "--noise-normalisation",
        metavar="METHOD",
        help="Whiten the channels with this estimate of their noise covariance.",
        autocompletion=complete(noise_methods),
    ),
]

NoisePer = Annotated[
    str | None,
    typer.Option(
        "--noise-per",
        metavar="WHAT",
        help="Estimate the noise in each 'run', or in each time 'window'; in all data together by default.",
    ),
]

Rois = Annotated[
    list[str],
    typer.Option(
        "--roi", metavar="NAME", help="Read only this region; can be given several times.", rich_help_panel=READER
    ),
]

Windows = Annotated[
    list[str],
    typer.Option(
        "--window",
        metavar="START:END",
        help="Compute an RDM of this time window, in seconds; can be given several times.",
    ),
]

DataSet = Annotated[str, typer.Argument(help="Name of the data set.", autocompletion=complete(data_sets))]

Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="FOLDER", help="Where to keep data sets; the user's cache folder by default."),
]

data = typer.Typer(
    help="Public data sets: list them, describe one, download one. Example files: write them.",
    epilog=DATA_EXAMPLES,
    no_args_is_help=True,
)


def rdm(
    sources: Sources = [],  # noqa: B006
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="RDM file to write: .h5 (rsatoolbox), .csv or .tsv.")
    ] = Path("rdms.h5"),
    dissimilarity: Dissimilarity = None,
    noise: Noise = None,
    noise_per: NoisePer = None,
    rois: Rois = [],  # noqa: B006
    condition_column: Annotated[
        str | None,
        typer.Option(
            "--condition-column",
            metavar="NAME",
            help="Column of the file's table that names the conditions.",
            rich_help_panel=READER,
        ),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(
            "--runs",
            metavar="NAME",
            help="Descriptor that holds the runs, for crossnobis and poisson_cv; 'run' by default.",
        ),
    ] = None,
    windows: Windows = [],  # noqa: B006
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Compute RDMs of this network's layers instead of a file.",
            autocompletion=complete(networks),
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="FOLDER",
            help="Compute RDMs of the fitted student of this run, with its readouts and its size of images.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="WEIGHTS",
            help="Weights of the network: DEFAULT, a name, or a file; random by default.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed for random weights; 0 by default.", min=0)] = None,
    layers: Annotated[list[str], typer.Option("--layers", metavar="NAME", help="Layers of the network.")] = [],  # noqa: B006
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            metavar="NAME",
            help="How outputs of the layers become patterns; `brainrdl layers` says what each way gives; flatten by "
            "default, or as the run was fitted whose weights are used.",
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            "--step", help="Call of layers that run several times in one pass: 0 is the first, -1 (default) the last."
        ),
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option("--stimuli", metavar="FOLDER", help="Folder of images to show to the network.")
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Write the RDM of measurements while it is computed, in single precision, so that it need not fit in "
            "memory: tens of thousands of conditions.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compute RDMs of measurements, of a network's layers, or of a fitted run, and write them to a file."""
    _check_out(out, overwrite)
    of_file = {
        "--noise-normalisation": noise, "--noise-per": noise_per, "--roi": rois, "--runs": runs,
        "--condition-column": condition_column, "--window": windows, "--names": names, "--read": options,
        "--stream": stream or None,
    }  # fmt: skip
    of_network = {
        "--weights": weights, "--seed": seed, "--layers": layers, "--pool": pool, "--step": step, "--stimuli": stimuli,
    }  # fmt: skip
    shown = not quiet and not as_json
    if run is not None:
        refuse_options(
            {**of_file, **{key: of_network[key] for key in _NOT_OF_RUN}, "--model": model},
            "--run computes RDMs of a fitted student",
        )
        found = _of_run(run, [*layers, *sources], stimuli, dissimilarity, shown)
    elif model is not None:
        refuse_options(of_file, "--model computes RDMs of a network")
        how = (pool, step), stimuli, dissimilarity or "correlation", shown
        found = _of_network(model, weights, seed or 0, [*layers, *sources], *how)
    else:
        refuse_options(of_network, "some options need --model or --run")
        words = read_options(options)
        short = {"condition_column": [condition_column] if condition_column else [], "roi": rois}
        refuse_options(
            {f"--read {key}": given for key, given in short.items() if key in words}, "an option is given twice"
        )
        words |= {key: given for key, given in short.items() if given}
        measured: dict[str, Any] = {
            "--dissimilarity": dissimilarity, "--noise-normalisation": noise, "--noise-per": noise_per, "--runs": runs,
            "--window": list(map(_window, windows)),
        }  # fmt: skip
        if stream and out.suffix.lower() not in _HDF5:
            refuse(f"--stream writes HDF5 files, and --out {str(out)!r} is not one; choose a name that ends in .h5")
        measured |= {"--stream": out if stream else None}
        measured = {key: value for key, value in measured.items() if value}
        found = _of_file(_only(sources), names, words, measured, shown)
    if not stream:
        _write(found, out)
    _tell(found, out, as_json)


def doctor(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="File, folder, or pattern in quotes.")],
    stimuli: Annotated[
        Path | None,
        typer.Option("--stimuli", metavar="FOLDER", help="Folder of stimuli to match with the conditions by name."),
    ] = None,
    names: Names = None,
    options: ReadOptions = [],  # noqa: B006
    target_by: Annotated[
        list[str],
        typer.Option(
            "--target-by",
            metavar="NAME",
            help="RDM descriptor that distinguishes targets, such as roi; can be given several times. By default, all "
            "in which the RDMs differ, except the subject.",
        ),
    ] = [],  # noqa: B006
    subject_by: SubjectBy = "subject",
    average_over: AverageOver = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw the content into this image file.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Check a file before using it as a teacher; the exit status is 1 if it cannot be used."""
    if out is not None:
        check_figure(out, overwrite)
    with about(repr(path)):
        check_source(path)
        from brainrdl.doctor.auditing import audit
        from brainrdl.readers.reading import options_of

        read = options_of(path, read_options(options))
        how: dict[str, Any] = {"subject_by": subject_by, "average_over": average_over}
        found = audit(path, stimuli=stimuli, names=names, target_by=target_by or None, **how, **read)
    if isinstance(context.command, Command):
        found = found.spelled(context.command.spelled)
    typer.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
    if out is not None:
        save_figure(found.figure(), out, as_json)
    if not found.can_teach:
        raise typer.Exit(1)


@data.command("list", cls=Command, epilog="Example: brainrdl data list")
def list_(folder: Folder = None, as_json: AsJson = False) -> None:
    """List the data sets."""
    import pandas as pd

    from brainrdl.datasets import catalogue, download

    infos = [catalogue.info(name) for name in catalogue.names()]
    table = pd.DataFrame(
        {
            "name": [info.name for info in infos],
            "content": [info.title for info in infos],
            "MB": [f"{info.size / 1e6:.1f}" for info in infos],
            "here": [download.kept(info.name, folder) for info in infos],
        }
    )
    print_json(table) if as_json else print_table(table)


@data.command("info", cls=Command, epilog="Example: brainrdl data info haxby2001")
def info(name: DataSet, as_json: AsJson = False) -> None:
    """Describe a data set: its content, its licence, and what to cite."""
    from dataclasses import asdict

    from brainrdl.datasets import catalogue

    found = catalogue.info(name)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    facts = {
        "title": found.title,
        "version": found.version,
        "licence": found.licence,
        "cite": found.citation + (f", doi {found.doi}" if found.doi else ""),
        "page": found.page,
        "download": f"{found.size / 1e6:.1f} MB in {len(found.files)} file{'s' * (len(found.files) > 1)}",
    }
    for key, value in facts.items():
        if value:
            console.print(f"{key:<10}{value}", markup=False, highlight=False, soft_wrap=True)


@data.command("fetch", cls=Command, epilog="Example: brainrdl data fetch kriegeskorte92")
def fetch(name: DataSet, folder: Folder = None, quiet: Quiet = False) -> None:
    """Download a data set into the cache, unless it is there already, and print its folder."""
    from brainrdl.datasets import catalogue, download

    found, wanted = catalogue.info(name), download.missing(name, folder)
    size = sum(file.download_size or file.size for file in wanted)
    if wanted and not quiet:
        console.print(f"{name}: {size / 1e6:.1f} MB; licence: {found.licence}", markup=False, highlight=False)
    say_where(name, download.fetch(name, folder, progress=not quiet))


@data.command("example", cls=Command, epilog="Example: brainrdl data example first_steps")
def example(
    folder: Annotated[Path, typer.Argument(help="Where to write them; made if it does not exist.")] = Path(),
) -> None:
    """Write the example files that the documentation uses: pictures, RDMs in several formats, fMRI maps.

    All of them are made up. Files that exist already are left as they are.
    """
    from brainrdl.datasets.example_files import write_example_files

    written = write_example_files(folder)
    say_where(f"{len(written)} new example files and folders", folder.resolve())


def _check_out(out: Path, overwrite: bool) -> None:
    if out.suffix.lower() not in (*_HDF5, *_TABLES) or out.is_dir():
        refuse(f"--out {str(out)!r} is not an RDM file; choose a name that ends in {', '.join((*_HDF5, *_TABLES))}")
    check_new([out], overwrite)


def _window(text: str) -> tuple[float, float]:
    start, _, end = text.partition(":")
    try:
        window = float(start), float(end)
    except ValueError:
        refuse(f"--window {text!r} should be START:END in seconds, for example 0.05:0.15")
    if not window[0] <= window[1]:
        refuse(f"--window {text!r} ends before it starts")
    return window


def refuse_options(given: Mapping[str, Any], why: str) -> None:
    """Refuse options that would have no effect."""
    if useless := [option for option, value in given.items() if value not in (None, [])]:
        refuse(f"{why}; leave out {quote(useless)}")


def _only(sources: Sequence[str]) -> str:
    if len(sources) != 1:
        refuse(f"give one file, folder or pattern in quotes, or --model; got {list(sources) or 'nothing'}")
    return sources[0]


def _of_file(
    source: str, names: Path | None, words: Mapping[str, Sequence[str]], measured: dict[str, Any], progress: bool
) -> RDMs:
    """Compute RDMs of the measurements in a file; RDMs that it contains already are left as they are."""
    with about(repr(source)):
        check_source(source)
        from rsatoolbox.rdm import RDMs

        from brainrdl import calc_rdm, read
        from brainrdl.readers.reading import options_of

        options = options_of(source, words)
        by = options.pop("by", "stimulus")
        found: Any = read(source, names=names, by=by, **options)
        if isinstance(found, RDMs):
            refuse_options(measured, f"{source!r} contains RDMs already, which are written unchanged")
            return found
        how: dict[str, Any] = {_KEYWORDS[option]: value for option, value in measured.items()}
        return calc_rdm(found, by=by, progress=progress, **how)


def _of_network(
    model: str,
    weights: str | None,
    seed: int,
    layers: Sequence[str],
    how: tuple[str | None, int | None],
    stimuli: Path | None,
    dissimilarity: str,
    progress: bool,
) -> RDMs:
    import torch

    from brainrdl import Stimuli
    from brainrdl.dissimilarity.measures import traits_of
    from brainrdl.models.fitted import build_fitted, reader
    from brainrdl.models.readout import asked_readout

    if traits_of(dissimilarity).cross_validated:
        refuse(
            f"--dissimilarity {dissimilarity} is cross-validated over runs, and a network has no runs; choose another"
        )
    if stimuli is None or not layers:
        refuse(f"--model {model} needs --layers and --stimuli; `brainrdl layers {model}` lists its layers")
    torch.manual_seed(seed)
    network, fitted = build_fitted(model, weights)
    student = reader(network.module, list(layers), asked_readout(*how), fitted)
    found = student.rdms(Stimuli.from_folder(stimuli, network.transform), None, dissimilarity, progress)
    found.rdm_descriptors |= {
        "model": [model] * found.n_rdm,
        "weights": [weights or f"random, seed {seed}"] * found.n_rdm,
    }
    return found


def _of_run(run: Path, layers: Sequence[str], stimuli: Path | None, dissimilarity: str | None, progress: bool) -> RDMs:
    """Compute RDMs of the student of a run; by default those that were fitted, with the dissimilarity of its loss."""
    from brainrdl import Stimuli
    from brainrdl.dissimilarity.measures import traits_of
    from brainrdl.recipe.building import make_loss
    from brainrdl.sharing.finished_runs import load_run

    if dissimilarity is not None and traits_of(dissimilarity).cross_validated:
        refuse(
            f"--dissimilarity {dissimilarity} is cross-validated over runs, and a network has no runs; choose another"
        )
    if stimuli is None:
        refuse(f"--run {str(run)!r} needs images; give their folder with --stimuli")
    fitted = load_run(run)
    for layer in layers:
        check_option(layer, fitted.student.layers, "--layers: layer of the run")
    measure = make_loss(fitted.recipe).dissimilarity if dissimilarity is None else dissimilarity
    found = fitted.student.rdms(Stimuli.from_folder(stimuli, fitted.transform), None, measure, progress)
    chosen = [row for row, layer in enumerate(found.rdm_descriptors["layer"]) if not layers or layer in layers]
    found = found[chosen]
    weights = {"model": fitted.recipe.student.model, "weights": str(fitted.fit)}
    found.rdm_descriptors |= {key: [value] * found.n_rdm for key, value in weights.items()}
    return found


def _write(found: RDMs, out: Path) -> None:
    from brainrdl._core.files import write_csv, write_rdms
    from brainrdl.rdms.conversion import to_table

    if out.suffix.lower() in _HDF5:
        write_rdms(out, found)
    else:
        write_csv(out, to_table(found), sep="\t" if out.suffix.lower() == ".tsv" else ",")


def _tell(found: RDMs, out: Path, as_json: bool) -> None:
    described = {key: list(map(str, column)) for key, column in found.rdm_descriptors.items() if key != "index"}
    if as_json:
        facts = {"file": str(out), "n_rdms": found.n_rdm, "n_conditions": found.n_cond}
        typer.echo(json.dumps(facts | {"dissimilarity": found.dissimilarity_measure} | described, indent=2))
        return
    of = "; ".join(f"{key}: {', '.join(dict.fromkeys(column))}" for key, column in described.items())
    measure = found.dissimilarity_measure or "unchanged"
    console.print(
        f"{found.n_rdm} RDM{'s' * (found.n_rdm > 1)} of {found.n_cond} conditions, {measure}{of and f' ({of})'}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    say_where("file", out)
