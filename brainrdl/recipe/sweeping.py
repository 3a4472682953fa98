"""Run a recipe for each combination of some values: one run folder per point, one table, and a figure of the trade-off.

A sweep folder::

    sweep/
      sweep.json       keys and values
      points/NAME/     run folder of each point
      table.csv        one row per point: values, task accuracy, held-out score
      pareto.png, .pdf accuracy against score, if there is a task with validation images
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainrdl._core.errors import about, arg, check_option, check_unique, refuse
from brainrdl._core.files import atomic, read_safetensors, slug, write_csv, write_json
from brainrdl._core.rows import Against, Role
from brainrdl.evaluation.held_out import Evaluation
from brainrdl.evaluation.jobs import count_workers, run_jobs
from brainrdl.evaluation.plan import Split
from brainrdl.recipe.files import check, parse_value, set_key
from brainrdl.recipe.running import run
from brainrdl.recipe.schema import Recipe
from brainrdl.recipe.spelling import in_recipe
from brainrdl.runs.run_folder import WEIGHTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SWEEP, POINTS, TABLE, FIGURE = "sweep.json", "points", "table.csv", "pareto"

_SCORES = (
    "layer", "target", "comparator", "against", "score", "low", "high", "ceiling", "ceiling_lower", "ceiling_upper",
    "gain", "gain_low", "gain_high",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One combination of values.

    Attributes
    ----------
    values : mapping of key to value
        Keys as ``section.key``; lists and mappings as text.
    recipe : Recipe
        The recipe with these values.
    """

    values: Mapping[str, Any]
    recipe: Recipe

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return slug(*(f"{key}_{value}" for key, value in self.values.items()))


def sweep(
    recipe: Recipe,
    values: Mapping[str, Sequence[Any]],
    out: Path | str,
    *,
    against: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Run a recipe with each combination of some values, and compare task accuracy and held-out score.

    Parameters
    ----------
    recipe : Recipe
        A checked recipe with held-out stimuli (`folds` or `held_out`), see `load`.
    values : mapping of key to sequence
        Values of each key, for example ``{"fit.rdm_weight": [0, 0.1, 1, 10]}``. All combinations are run.
    out : path
        Folder of the sweep. Each point has a run folder in ``points/``, as `run` writes it.
    against : {"subjects", "mean"}, optional
        Score in the table: with single subjects' RDMs, or with their mean RDM; by default with single subjects, if
        there are several. Other scores are in the run folders.
    resume : bool
        Continue a sweep, also with more values; finished fits are not repeated.
    overwrite : bool
        Replace points that exist.
    progress : bool
        Show progress bars.
    n_jobs : int, optional
        Number of points that run at the same time, each in another process, as in `cross_validate`; by default 1. The
        results are the same.

    Returns
    -------
    DataFrame
        One row per point (and layer and target, if there are several): the values; accuracy and task_loss of the task's
        validation images at the chosen step, mean over folds and seeds, with standard deviations (accuracy_sd,
        task_loss_sd) and their number (n_fits); score of the first comparator with its 95% interval (low, high) and
        ceilings, as in `Evaluation.summary`; and the folder of the point. Accuracies are NaN without validation images.

    Raises
    ------
    BrainrdlError
        For an unknown key or a wrong value, before anything runs; also if nothing is held out, the folder exists, and
        as in `run`.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> example["evaluation"] = {"folds": 5}
    >>> sweep(check(example), {"fit.rdm_wieght": [0, 1]}, "runs/sweep")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: sweep over fit.rdm_wieght, value 0: unknown key fit.rdm_wieght; nearest: 'rdm_weight'
    """
    with about(spelling=in_recipe()):
        found = points(recipe, values)
        if against is not None:
            check_option(against, [known.value for known in Against], "against")
        folder = _checked(Path(out), resume, overwrite)
        several = count_workers(n_jobs, len(found)) > 1
        work = _Work(folder, against, resume, overwrite, progress and not several, several)
        jobs = [(point,) for point in found]
        with _begun(folder, values):
            if several:
                tables = run_jobs(work, jobs, n_jobs=n_jobs, what="sweep", progress=progress, out=folder)
            else:
                tables = [work(point) for (point,) in jobs]
        table = pd.concat(tables, ignore_index=True)
        write_csv(folder / TABLE, table)
        if table["accuracy"].notna().any():
            _save(_drawn(table, list(values)), folder)
    return table


def points(recipe: Recipe, values: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return all combinations of `values`, each with its checked recipe.

    Parameters
    ----------
    recipe : Recipe
    values : mapping of key to sequence
        As in `sweep`.

    Raises
    ------
    BrainrdlError
        For an unknown key, a wrong value, a key without values, equal points, or recipes that hold out nothing.

    Examples
    --------
    >>> from brainrdl.recipe import check
    >>> student = {"model": "small_cnn", "layers": ["pool"]}
    >>> example = {"stimuli": {"folder": "images"}, "teacher": {"rdms": "it.h5"}, "student": student}
    >>> example["evaluation"] = {"folds": 5}
    >>> found = points(check(example), {"fit.lr": [0.1, 0.2], "fit.steps": [5]})
    >>> [point.name for point in found]
    ['fit.lr_0.1-fit.steps_5', 'fit.lr_0.2-fit.steps_5']
    """
    for key, listed in values.items():
        if isinstance(listed, str) or not len(listed):
            refuse(f"a sweep over {key} needs a list of values, got {listed!r}")
    if not values:
        refuse("a sweep needs a key and its values, for example fit.rdm_weight=0,0.1,1,10")
    combinations = itertools.product(*values.values())
    found = [_point(recipe, dict(zip(values, combined, strict=True))) for combined in combinations]
    check_unique([point.name for point in found], "the points of the sweep")
    return found


def parse_values(words: Sequence[str]) -> dict[str, list[Any]]:
    """Read keys and values as they are written on the command line: ``"fit.rdm_weight=0,.1,1"``; values are YAML.

    Raises
    ------
    BrainrdlError
        If a word has no ``=``, is not YAML, or a key occurs twice.

    Examples
    --------
    >>> parse_values(["fit.rdm_weight=0,.1,1", "student.layers=[conv1],[conv2]"])
    {'fit.rdm_weight': [0, 0.1, 1], 'student.layers': [['conv1'], ['conv2']]}
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        key, given, listed = word.partition("=")
        if not given or "." not in key:
            refuse(f"a sweep expects section.key=value,value,..., got {word!r}")
        if key in found:
            refuse(f"key {key} is given twice; write all its values after one '='")
        found[key] = parse_value(f"[{listed}]", f"sweep {word!r}")
    return found


def _point(recipe: Recipe, values: Mapping[str, Any]) -> Point:
    what = "sweep over " + ", ".join(f"{key}, value {value!r}" for key, value in values.items())
    content = recipe.model_dump(mode="json")
    for key, value in values.items():
        set_key(content, key, value, what)
    made = check(content, what)
    if made.evaluation.folds is None and made.evaluation.held_out is None:
        refuse("a sweep compares scores on held-out stimuli: set evaluation.folds or evaluation.held_out")
    read = made.model_dump(mode="json")  # in which 1e-3 is a number
    return Point({key: _cell(_at(read, key)) for key in values}, made)


def _at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def _cell(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{one}" for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "null" if value is None else value


def _checked(folder: Path, resume: bool, overwrite: bool) -> Path:
    """Refuse a folder of something else, and one that exists unless asked to use it."""
    if folder.is_file():
        refuse(f"sweep folder {str(folder)!r} is a file; choose another")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / SWEEP).exists():
            refuse(f"{str(folder)!r} holds no {SWEEP}, so it is not the folder of a sweep; choose another")
        if not (resume or overwrite):
            refuse(
                f"sweep folder {str(folder)!r} exists; resume or overwrite it with {arg('resume', True)} or "
                f"{arg('overwrite', True)}, or choose another"
            )
    return folder


@contextmanager
def _begun(folder: Path, values: Mapping[str, Sequence[Any]]) -> Iterator[None]:
    """Write what is varied, and delete it if no point has begun when the block ends."""
    path, ran = folder / SWEEP, folder / POINTS
    ours = not path.exists()
    write_json(path, {"values": {key: list(listed) for key, listed in values.items()}})
    try:
        yield
    finally:
        if ours and not (ran.is_dir() and any(ran.iterdir())):
            path.unlink()
            for empty in (ran, folder):
                with suppress(OSError):
                    empty.rmdir()


@dataclass(frozen=True)
class _Work:
    """Runs one point and returns its rows of the table."""

    folder: Path
    against: str | None
    resume: bool
    overwrite: bool
    progress: bool
    several: bool  # points run at the same time, so that each has one process

    def __call__(self, point: Point) -> pd.DataFrame:
        recipe, out = point.recipe, self.folder / POINTS / point.name
        if self.several:
            recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"n_jobs": 1})})
        with about(f"point {point.name}"):
            evaluation = run(
                recipe, out, resume=self.resume, overwrite=self.overwrite and out.exists(), progress=self.progress
            )
        if not isinstance(evaluation, Evaluation):
            refuse(f"point {point.name} has no held-out scores")
        rows = _scored(evaluation.summary, recipe.evaluation.comparators[0], self.against)
        fitted = evaluation.histories[evaluation.histories["role"] == Role.STUDENT.value]
        measured = measure_task(fitted, out)
        own = {**point.values, **measured}
        made = pd.DataFrame([{**own, **{column: row.get(column, float("nan")) for column in _SCORES}} for row in rows])
        return made.assign(folder=str(out.relative_to(self.folder)))


def _scored(summary: pd.DataFrame, comparator: str, against: str | None) -> list[dict[str, Any]]:
    """Return the rows of the fitted student: one per layer and target."""
    several = summary["n_subjects"].max() > 1
    wanted = against or (Against.SUBJECTS if several else Against.MEAN).value
    chosen = summary["role"].eq(Role.STUDENT.value) & summary["comparator"].eq(comparator)
    rows = summary[chosen & summary["against"].eq(wanted)]
    if rows.empty:
        refuse(f"there is no score with {comparator} against {wanted!r}")
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def measure_task(histories: pd.DataFrame, folder: Path) -> dict[str, float]:
    """Return accuracy and loss of the task on its validation images, at the chosen step of each fit of a run.

    Parameters
    ----------
    histories : DataFrame
        `Evaluation.histories`, or the rows of some students.
    folder : Path
        Run folder, in which the fits have stored their chosen step.

    Returns
    -------
    dict
        accuracy, accuracy_sd, task_loss, task_loss_sd: mean and standard deviation over fits; n_fits. NaN if there are
        no validation images.

    Examples
    --------
    >>> measure_task(pd.DataFrame(columns=["inner"]), Path("runs/it"))["n_fits"]
    0
    """
    rows = pd.DataFrame(
        _chosen(histories[histories["inner"] == -1], folder),
        columns=["validation_accuracy", "validation_task_loss"],
        dtype=float,
    )
    found: dict[str, float] = {}
    for column in rows:
        short = str(column).removeprefix("validation_")
        found |= {short: float(rows[column].mean()), f"{short}_sd": float(rows[column].std())}
    return {**found, "n_fits": len(rows)}


def _chosen(history: pd.DataFrame, folder: Path) -> Iterator[pd.Series]:
    """Yield the row of the history whose weights each fit has kept."""
    if history.empty:
        return
    for _, part in history.groupby(["student", "seed", "fold", "left_out"]):
        first = part.iloc[0]
        split = Split(int(first["seed"]), int(first["fold"]), (), (), str(first["left_out"]))
        stored = read_safetensors(folder / "fits" / split.slug(str(first["student"])) / WEIGHTS)[1]
        yield part[part["step"] == int(stored["best_step"])].iloc[-1]


def readable(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return the table of a sweep with few columns and rounded numbers, to be shown.

    Parameters
    ----------
    table : DataFrame
        As returned by `sweep`.
    keys : sequence of str
        Keys of the recipe that were varied.

    Examples
    --------
    >>> row = {"fit.lr": 1e-4, "layer": "conv", "target": "IT", "accuracy": 0.5, "accuracy_sd": 0.1, "score": 0.3,
    ...        "low": 0.1, "high": 0.5, "ceiling": 0.6}
    >>> readable(pd.DataFrame([row]), ["fit.lr"]).to_dict("records")
    [{'fit.lr': '0.0001', 'accuracy': '0.500 ± 0.100', 'score': '0.300', '95% interval': '0.10 to 0.50',
      'ceiling': '0.600'}]
    """
    parts = [*keys, *(column for column in ("layer", "target") if table[column].nunique() > 1)]
    shown = pd.DataFrame({part: [f"{v:g}" if isinstance(v, float) else str(v) for v in table[part]] for part in parts})
    rows = table.to_dict("records")
    if table["accuracy"].notna().any():
        shown["accuracy"] = [f"{row['accuracy']:.3f}" + _plus_minus(row["accuracy_sd"]) for row in rows]
    shown["score"] = [f"{row['score']:.3f}" for row in rows]
    shown["95% interval"] = [_interval(row["low"], row["high"]) for row in rows]
    shown["ceiling"] = [f"{row['ceiling']:.3f}" for row in rows]
    return shown


def _plus_minus(sd: float) -> str:
    return "" if sd != sd else f" ± {sd:.3f}"


def _interval(low: float, high: float) -> str:
    return "" if low != low else f"{low:.2f} to {high:.2f}"


def _drawn(table: pd.DataFrame, keys: list[str]) -> Figure:
    from matplotlib.figure import Figure

    from brainrdl.plot.trade_offs import pareto

    groups = table["layer"].str.cat(table["target"], sep=", ")
    by = "layer, target" if groups.nunique() > 1 else None
    figure = Figure(figsize=(5.6, 4.2), layout="compressed")
    pareto(table.assign(**{"layer, target": groups}), keys, figure.subplots(), by=by)
    return figure


def _save(figure: Figure, folder: Path) -> None:
    for suffix in ("png", "pdf"):
        with atomic(folder / f"{FIGURE}.{suffix}") as part:
            figure.savefig(part, dpi=200, bbox_inches="tight")
