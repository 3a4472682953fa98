"""Independent jobs (folds, seeds, students) one after another, or in worker processes by joblib.

The results are the same and in the same order. joblib starts the processes: on this computer by default, elsewhere if
`joblib.parallel_config` says so. What concerns training is done here: a worker has its share of the cores and its own
GPU, shows its warnings in the process that started it, ends its step when the run is asked to stop, and if it is
killed, its job is done again.
"""

from __future__ import annotations

import multiprocessing
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import uuid4

import torch

from brainrdl._core.errors import arg, refuse
from brainrdl._core.signals import Stopped, ask_to_stop, deferred, ignoring
from brainrdl.training.display import track
from brainrdl.training.distributed import n_processes

T = TypeVar("T")

_ATTEMPTS = 3  # times in a row that workers may end before any job is finished

_POLL = 0.1  # seconds between two looks at whether the run was asked to stop


def run_jobs(
    work: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int | None = None,
    what: str = "jobs",
    progress: bool = True,
    out: Path | None = None,
) -> list[T]:
    """Return ``work(*job)`` for each job, in the order of the jobs.

    Parameters
    ----------
    work : callable
        It and its results are copied between processes; functions defined anywhere, also lambdas, are possible. Each
        worker keeps one copy for all its jobs.
    jobs : sequence of tuple
        Arguments of each call.
    n_jobs : int, optional
        Number of worker processes, -1 for one per core; by default 1 (no other process) or as in
        ``joblib.parallel_config``.
    what : str
        Description for the progress bar.
    progress : bool
        Show a progress bar, which moves when a job ends.
    out : path, optional
        Run folder in which `work` keeps what is finished. With it, Ctrl-C, SIGTERM and SIGHUP let the workers of this
        computer finish their step and write their checkpoints.

    Returns
    -------
    list

    Raises
    ------
    BrainrdlError
        If `n_jobs` is 0, joblib was configured to use threads, or workers are killed again and again.
    KeyboardInterrupt
        If the run was asked to stop.

    Examples
    --------
    >>> run_jobs(lambda a, b: a + b, [(1, 2), (3, 4)], progress=False)
    [3, 7]
    """
    if count_workers(n_jobs, len(jobs)) == 1:
        return [work(*job) for job in track(jobs, what, progress)]
    found = track(_Workers.start(work, jobs, n_jobs, out).results(), what, progress, len(jobs))
    results = dict(found)
    return [results[number] for number in range(len(jobs))]


def count_workers(n_jobs: int | None, n: int) -> int:
    """Return the number of processes for `n` jobs, see `run_jobs`; 1 means that no other process is started.

    Raises
    ------
    BrainrdlError
        If `n_jobs` is 0, or above 1 in one of several processes that train together.

    Examples
    --------
    >>> count_workers(None, 15), count_workers(4, 3)
    (1, 3)
    """
    from joblib import effective_n_jobs

    if n_jobs == 0:
        refuse(f"{arg('n_jobs', 0)} is not a number of processes; use 1, 2, ..., or -1 for one per core")
    found = max(1, min(int(effective_n_jobs(n_jobs)), n))
    if found > 1 and n_processes() > 1:
        refuse(
            f"{arg('n_jobs', found)} would start processes in each of the {n_processes()} processes that train "
            f"together; leave out {arg('n_jobs')}, or start one process, without torchrun"
        )
    return found


@dataclass
class _Workers:
    """Does jobs in processes and yields their results as they come."""

    task: _Task
    waiting: dict[int, tuple[Any, ...]]
    n_workers: int
    local: bool
    out: Path | None
    shown: set[tuple[type, str]] = field(default_factory=set)  # warnings

    @classmethod
    def start(cls, work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], n_jobs: int | None, out: Any) -> _Workers:
        from joblib import cpu_count
        from joblib.parallel import LokyBackend, get_active_backend

        backend, _ = get_active_backend()
        if getattr(backend, "uses_threads", False):
            refuse(
                f"joblib is configured to use {type(backend).__name__}, but threads of one process share torch's "
                "random numbers; use processes, for example parallel_config(backend='loky')"
            )
        n_workers = count_workers(n_jobs, len(jobs))
        local = isinstance(backend, LokyBackend)
        threads = max(1, min(torch.get_num_threads(), cpu_count() // n_workers)) if local else None
        return cls(_Task(work, threads), dict(enumerate(jobs)), n_workers, local, out)

    def results(self) -> Iterator[tuple[int, Any]]:
        """Yield number and result of each job; do the jobs of killed workers again."""
        n, attempts = len(self.waiting), 0
        with TemporaryDirectory(prefix="brainrdl-") as folder, self._stopping(Path(folder) / "stop") as asked:
            while self.waiting:
                before = len(self.waiting)
                yield from self._attempt()
                if asked:
                    raise Stopped(
                        asked[0],
                        f"{n - len(self.waiting)} of {n} jobs are in {str(self.out)!r}; continue with resume=True",
                    )
                attempts = attempts + 1 if len(self.waiting) == before else 0
                if self.waiting:
                    self._again(attempts)

    def _attempt(self) -> Iterator[tuple[int, Any]]:
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=self.n_workers, return_as="generator_unordered", batch_size=1)
        calls = [delayed(self.task)(number, job) for number, job in self.waiting.items()]
        try:
            for outcome in parallel(calls):
                self._warn(outcome.told)
                if outcome.done:
                    del self.waiting[outcome.number]
                    yield outcome.number, outcome.result
        except BrokenProcessPool:  # a worker was killed, and joblib ended the others: the rest is done again
            return
        finally:
            if self.local:
                _end_workers()

    def _again(self, attempts: int) -> None:
        if attempts == _ATTEMPTS:
            refuse(
                f"worker processes were killed {attempts} times before any of {len(self.waiting)} jobs was finished, "
                f"perhaps because the memory does not suffice for {self.n_workers}; use fewer with {arg('n_jobs')}"
            )
        warnings.warn(
            f"a worker process was killed; {len(self.waiting)} jobs that are not finished are done again", stacklevel=2
        )

    @contextmanager
    def _stopping(self, stop: Path) -> Iterator[Sequence[int]]:
        """Note signals, and let the workers know of them by a file; only if there is something to keep."""
        if self.out is None or not self.local:
            yield ()
            return
        self.task.stop = stop
        with deferred(stop.touch) as asked:
            yield asked

    def _warn(self, told: Sequence[warnings.WarningMessage]) -> None:
        for one in told:
            if (key := (one.category, str(one.message))) not in self.shown:
                self.shown.add(key)
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


@dataclass(frozen=True)
class _Outcome:
    number: int
    done: bool  # False if the worker was asked to stop before
    result: Any
    told: list[warnings.WarningMessage]


@dataclass(eq=False)  # joblib's Dask backend needs a hash
class _Task:
    """What a worker does for a job."""

    work: Callable[..., Any]
    threads: int | None  # None: as the worker was started
    stop: Path | None = None  # if this file appears, the run is asked to stop
    token: str = field(default_factory=lambda: uuid4().hex)

    def __call__(self, number: int, job: tuple[Any, ...]) -> _Outcome:
        if self.token not in _KEPT:
            _KEPT.clear()
            _KEPT[self.token] = self.work
            self._settle()
        work = _KEPT[self.token]
        heeding = _heeding(self.stop) if self.stop else nullcontext()
        with _ONE_AT_A_TIME, warnings.catch_warnings(record=True) as told, heeding:
            warnings.simplefilter("default")
            try:
                if not (self.stop and self.stop.exists()):
                    return _Outcome(number, True, work(*job), told)
            except KeyboardInterrupt:
                if not self.stop:
                    raise
        return _Outcome(number, False, None, told)

    def _settle(self) -> None:
        """Give this process its share of the computer."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
            if torch.cuda.device_count() > 1:
                torch.cuda.set_device(_place() % torch.cuda.device_count())
        if self.stop:
            ignoring()  # the process that started this one passes on what it is asked


_ONE_AT_A_TIME = threading.Lock()  # a worker of a cluster may have several threads, which share torch's random numbers

_KEPT: dict[str, Callable[..., Any]] = {}  # of the present call; with it stays what it has computed for other jobs


def _place() -> int:
    """Return the number of this worker among those that were started."""
    found = re.search(r"(\d+)$", multiprocessing.current_process().name)
    return int(found[1]) - 1 if found else 0


@contextmanager
def _heeding(stop: Path) -> Iterator[None]:
    """Ask what runs in the block to stop when the file appears."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL):
            if stop.exists():
                ask_to_stop()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _end_workers() -> None:
    """End joblib's processes, which it would keep for later calls, with their copies of images and their GPU memory."""
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True).shutdown(wait=True)
