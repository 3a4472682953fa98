"""Write a fitted student as files that any program with torch can load: `export`.

The folder can be uploaded to the Hugging Face hub as it is. Nothing in it is a pickle, except that torch stores the
example images inside ``model.pt2`` (zeros) in the format of ``torch.save``.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_text, quote, refuse
from brainrdl._core.files import atomic, digest, digests_of, reason, write_json, write_safetensors
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.models.hooks import evaluating
from brainrdl.models.layers import Captured, read_layers
from brainrdl.models.readout import Readout, ReadoutHead, steps_of
from brainrdl.models.student import Student
from brainrdl.recipe.building import make_loss
from brainrdl.reporting.model_card import card_of
from brainrdl.runs.finished_fits import FitResult
from brainrdl.sharing import plain_model
from brainrdl.sharing.finished_runs import FinishedRun, load_run
from brainrdl.sharing.loading_script import SCRIPT, network_source, script_of
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import transform_text

CARD, CONFIG, STATE, PROGRAM, CODE = "README.md", "config.json", "model.safetensors", "model.pt2", "plain_model.py"

_FILES = (CARD, CONFIG, STATE, PROGRAM, CODE, SCRIPT)

_CLOSE = 1e-5  # relative difference of patterns that another order of sums may cause in float32

_SHOWN = 2  # images in the example of a program; with one, torch would fix their number


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes
    ----------
    folder : Path
        The folder.
    files : tuple of str
        Names of the files in it.
    loads_by : str
        How ``load.py`` gets the model: ``"constructor"`` of a package that builds the network, or ``"program"``.
    without_program : str
        Why there is no ``model.pt2``; empty if there is one.

    Examples
    --------
    >>> Exported(Path("shared"), ("README.md",), "constructor").without_program
    ''
    """

    folder: Path
    files: tuple[str, ...]
    loads_by: str
    without_program: str = ""


def export(
    run: FinishedRun | FitResult | Path | str,
    out: Path | str,
    *,
    stimuli: Stimuli | None = None,
    network: str | None = None,
    licence: str = "unknown",
    scores: Evaluation | Path | str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write the fitted student as a plain torch module with its weights, a program, a script that loads it, and a card.

    Parameters
    ----------
    run : path, FinishedRun or FitResult
        Run folder of a recipe, see `load_run`; or the result of `fit`.
    out : path
        Folder to write, which must be new or empty.
    stimuli : Stimuli, optional
        Needed for a `FitResult`, which does not know them: images that the student was fitted to, with their transform.
    network : str, optional
        For a `FitResult`: name of its network, as in `brainrdl.models.build`, if it has one.
    licence : str
        Identifier of the licence of the model, as the Hugging Face hub lists them, for example ``"mit"``.
    scores : Evaluation or path, optional
        Scores on other images, from `evaluate_run_elsewhere`, to be added to the card.
    overwrite : bool
        Replace the files of an earlier export in `out`.

    Returns
    -------
    Exported

    Raises
    ------
    BrainrdlError
        As in `load_run`; also if `out` is in use, the network can be loaded neither by a constructor nor as a program,
        or the plain module does not give the student's patterns.

    Notes
    -----
    Files: ``README.md`` (model card), ``config.json`` (layers, readouts, transform), ``model.safetensors`` (weights of
    network and readouts), ``plain_model.py`` (the module that they belong to, in torch alone), ``model.pt2`` (the whole
    as a program of `torch.export`, if torch can convert the network), ``load.py``. A network of torchvision or timm is
    built by its constructor; another can be loaded only as the program, or by code of yours.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), ["1"])
    >>> images = Stimuli.from_arrays(torch.rand(6, 1, 4, 4), list("abcdef"))
    >>> fitted = FitResult(student, pd.DataFrame({"step": [0]}), best_step=0)
    >>> done = export(fitted, Path(tempfile.mkdtemp()) / "shared", stimuli=images)
    >>> done.loads_by, sorted(done.files)[:3]
    ('program', ['README.md', 'config.json', 'load.py'])
    """
    folder = _free(Path(out), overwrite)
    check_text([licence], "the licence")
    source = _source_of(run, stimuli, network)
    student, images = source.student, source.images
    model, layers = plain_copy(student, images)
    constructed = network_source(source.network, partial(_gives_the_same, model, layers, images))
    program, problem = _program(model, images)
    if constructed is None and program is None:
        refuse(
            f"the network cannot be taken away: no package is known that builds it, and torch.export cannot convert it "
            f"({problem}); use brainrdl.models.fitted_student with your own code and the weights of the run"
        )
    config = {
        **_versions(),
        "network": constructed,
        "layers": layers,
        "targets": student.match,
        "dissimilarity": source.dissimilarity,
        "images": dict(zip(("channels", "height", "width"), images.shape[1:], strict=True)),
        "transform": transform_text(source.transform),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        refuse(f"cannot make folder {str(folder)!r}: {reason(error)}; choose another")
    write_json(folder / CONFIG, config)
    write_safetensors(folder / STATE, model.state_dict(), {"layers": list(layers)})
    _write(folder / CODE, inspect.getsource(plain_model))
    _write(folder / SCRIPT, script_of(constructed, source.transform))
    if program is None:
        (folder / PROGRAM).unlink(missing_ok=True)
    else:
        with atomic(folder / PROGRAM) as part:
            torch.export.save(program, part)
    files = tuple(name for name in _FILES if name not in (CARD, *([PROGRAM] if program is None else [])))
    facts = {
        "licence": licence,
        "loads_by": "constructor" if constructed else "program",
        "without_program": problem,
        "files": digests_of(folder, files),
        "weights": digest(model.state_dict()),
        "config": config,
    }
    elsewhere = Evaluation.load(scores) if isinstance(scores, Path | str) else scores
    _write(folder / CARD, card_of(source.run, facts, name=folder.resolve().name, fit=source.fit, elsewhere=elsewhere))
    return Exported(folder, (CARD, *files), str(facts["loads_by"]), problem)


def plain_copy(student: Student, images: Tensor) -> tuple[plain_model.Model, dict[str, dict[str, Any]]]:
    """Copy a student as a plain torch module on the CPU, in eval mode, and describe its layers.

    Parameters
    ----------
    student : Student
        Calibrated student; not changed.
    images : Tensor, shape (n, c, h, w)
        A few images as the network expects them, which show how outputs are pooled.

    Returns
    -------
    tuple of Model and dict
        The module, whose patterns are those of the student, and what `Model` needs to be made again.

    Raises
    ------
    BrainrdlError
        If the student is not calibrated, or the module does not give the patterns of the student.

    Examples
    --------
    >>> student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), ["1"])
    >>> plain_copy(student, torch.rand(2, 1, 4, 4))[1]
    {'1': {'parts': [{'module': '1', 'step': -1, 'pool': 'flatten'}]}}
    """
    student = copy.deepcopy(student).cpu()
    with evaluating(student):
        outputs, _ = read_layers(student.model, student.parts, images, steps_of(student.readout_heads()))
        expected = student(images).patterns
    layers = {head.layer: _layer_of(head, outputs) for head in student.readout_heads()}
    model = plain_model.Model(student.model, layers)
    for pattern, head in zip(model.patterns, student.readout_heads(), strict=True):
        pattern.load_state_dict({name: value for name, value in head.state_dict().items() if value is not None})
    model.requires_grad_(True)
    model.eval()
    with torch.no_grad():
        found = model(images)
    differ = [layer for layer in layers if not _close(found[layer], expected[layer])]
    if differ:
        refuse(f"the plain module gives other patterns than the student for layers {quote(differ)}; please report this")
    return model, layers


def _close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool(
        (found - expected).abs().max() <= _CLOSE * expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    )


def _gives_the_same(
    model: plain_model.Model, layers: dict[str, dict[str, Any]], images: Tensor, network: nn.Module
) -> bool:
    """Whether a network that was built anew takes the weights of the model, and gives its patterns."""
    again = plain_model.Model(network, layers).eval()
    try:
        again.load_state_dict(model.state_dict())
        with torch.no_grad():
            found, expected = again(images), model(images)
    except (RuntimeError, AttributeError):  # parameters that differ, or a layer that does not exist
        return False
    return all(_close(found[layer], expected[layer]) for layer in layers)


def _layer_of(head: ReadoutHead, outputs: Captured) -> dict[str, Any]:
    readout = head.readout
    parts = [{"module": part, "step": readout.step, **_pooling(outputs, part, readout)} for part in head.parts]
    known = head.mean if head.mean is not None else head.weight
    sizes: dict[str, Any] = {} if known is None else {"n_channels": known.shape[-1]}
    sizes |= {"standardise": True} if head.mean is not None else {}
    if head.readout.projection == "diagonal":
        return {"parts": parts, **sizes, "weighted": True}
    return {"parts": parts, **sizes} | ({} if head.weight is None else {"n_projected": head.weight.shape[0]})


def _pooling(outputs: Captured, part: str, readout: Readout) -> dict[str, Any]:
    """Say how the output of a module is pooled, with the dimensions that the types of the modules tell now."""
    output, pool = outputs.at(part, readout.step), readout.pool
    if output.is_complex():
        refuse(f"layer {part!r} gives complex numbers, which cannot be exported; read out another layer")
    if pool == "flatten" or output.ndim < 3:
        return {"pool": "flatten"}
    if pool == "cls":
        return {"pool": "token"}
    axes, last = outputs.axes(part, readout.step), output.ndim - 1
    if pool == "patches":
        return {"pool": "mean", "over": [1], "skip": axes.prefix}
    channels = {"avgpool_first": 1, "avgpool_last": last, "mean": last}.get(pool, axes.channels)
    over = [d for d in range(1, output.ndim) if d != channels]
    if pool.startswith("grid:"):
        skip = axes.prefix if output.ndim == 3 and channels == 2 else 0
        return {"pool": "grid", "over": over, "skip": skip, "cells": int(pool.removeprefix("grid:"))}
    return {"pool": "mean", "over": over}


def _program(model: plain_model.Model, images: Tensor) -> tuple[torch.export.ExportedProgram | None, str]:
    """Convert the module for any number of images; None and the reason if torch cannot, or computes something else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            any_number = ({0: torch.export.Dim("n")},)
            program = torch.export.export(model, (torch.zeros_like(images),), dynamic_shapes=any_number)
            more = torch.cat([images, images[:1]])
            with torch.no_grad():
                found, expected = program.module()(more), model(more)
    except Exception as error:  # torch raises errors of many kinds about code that it cannot follow
        return None, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    differ = [layer for layer in expected if not _close(found[layer], expected[layer])]
    return (None, f"the program gives other patterns for layers {quote(differ)}") if differ else (program, "")


@dataclass(frozen=True)
class _Source:
    """What is exported: the student, a few of its images, and the result that the card describes."""

    student: Student
    network: str | None
    transform: Callable[..., Any] | None
    images: Tensor
    dissimilarity: str
    run: FitResult | Path
    fit: Path | None


def _source_of(run: FinishedRun | FitResult | Path | str, stimuli: Stimuli | None, network: str | None) -> _Source:
    if isinstance(run, FitResult):
        if stimuli is None:
            refuse(f"a FitResult does not hold its images; give some with their transform, {arg('stimuli')}")
        images = _two(stimuli.images(stimuli.names[:_SHOWN]))
        measure = run.settings.get("loss", {}).get("dissimilarity", "")
        return _Source(run.student, network, stimuli.transform, images, str(measure), run, None)
    if not isinstance(run, FinishedRun | Path | str):
        refuse(f"export needs a run folder or a FitResult, got {type(run).__name__}")
    if stimuli is not None or network is not None:
        refuse(f"the recipe of a run says its images and network; leave out {arg('stimuli')} and {arg('network')}")
    found = run if isinstance(run, FinishedRun) else load_run(run)
    measure = str(make_loss(found.recipe).dissimilarity)
    name, transform = found.recipe.student.model, found.transform
    return _Source(found.student, name, transform, _example(found), measure, found.folder, found.fit)


def _example(run: FinishedRun) -> Tensor:
    """Make images of noise in the size of the transform; without a transform, the images of the run are needed."""
    if run.transform is None:
        return _two(run.stimuli().images(run.seen[:_SHOWN]))
    noise = torch.randint(256, (_SHOWN, 3, 256, 256), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Stimuli.from_arrays(noise, ["a", "b"], transform=run.transform).images()


def _two(images: Tensor) -> Tensor:
    return images if len(images) >= _SHOWN else images.expand(_SHOWN, *images.shape[1:])


def _free(folder: Path, overwrite: bool) -> Path:
    """Refuse a folder that holds anything but an earlier export that is to be replaced."""
    if folder.is_file():
        refuse(f"{str(folder)!r} is a file; choose another folder for the export")
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and not overwrite:
        refuse(f"{str(folder)!r} is not empty; replace with {arg('overwrite', True)}, or choose another folder")
    if found and CONFIG not in found:
        refuse(f"{str(folder)!r} holds no {CONFIG}, so it is not an earlier export, and is not overwritten")
    return folder


def _versions() -> dict[str, str]:
    from brainrdl import __version__

    return {"format": "brainrdl export 1", "brainrdl": __version__, "torch": str(torch.__version__)}


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
