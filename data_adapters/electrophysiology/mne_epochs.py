"""M/EEG epochs and evoked responses in MNE-Python's FIF files, and epochs of EEGLAB.

Layout on disk: ``*-epo.fif`` as ``mne.Epochs.save`` writes it, also in parts (``-epo-1.fif``), or ``*-ave.fif`` as
``mne.write_evokeds`` writes it; also compressed (``.fif.gz``). A file consists of tags with a kind, a type and a size,
in blocks. They hold numbers, texts and JSON, not pickles.

EEGLAB: ``.set`` with epochs, also with its ``.fdt``, saved in MATLAB's format before v7.3. Continuous recordings
(``.set``, BrainVision's ``.vhdr``, ``.edf``, ...) are refused with the lines of MNE-Python that cut them into epochs.

Each epoch is an observation, named by its event (``event_id``; hierarchical names such as ``face/famous`` are not
split) or by a column of the metadata. In an evoked file, each response is an observation, named by its comment.
Channels are the data channels without bad channels. Projectors stored in the file are applied, as is MNE's default.
"""

from __future__ import annotations

import gzip
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import h5py
import numpy as np

from brainrdl._core.errors import check_option, quote, read_arg, refuse
from brainrdl._core.packed import check_unpacked
from data_adapters._shared.mat5_tags import check_tags
from data_adapters._shared.measurements import condition_names, dataset

if TYPE_CHECKING:
    from rsatoolbox.data.dataset import Dataset
# Kinds of tags, and of blocks: MNE's constants FIFF_* and FIFFB_*.
_BLOCK, _OTHER_FILE, _FIRST, _LAST, _COUNT = 104, 118, 208, 209, 228

_EPOCHS, _EVOKED = 373, 104

_AT_ONCE = 32  # number of epochs read together

_CONTINUOUS = frozenset({".vhdr", ".edf", ".bdf", ".gdf", ".cnt"})

_UNNAMED = frozenset({"", "No comment", "Unknown"})


class MneEpochs:
    """Reads epochs and evoked responses with MNE-Python.

    Examples
    --------
    >>> READER.sniff(Path("sub-01_task-faces-epo.fif"))
    True
    """

    name = "mne"
    layout = (
        "MNE-Python's FIF: epochs (-epo.fif) or evoked responses (-ave.fif), also compressed (.fif.gz); epochs of "
        "EEGLAB (.set)"
    )

    def sniff(self, path: Path) -> bool:
        """Recognise files by their suffix.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        bool
            Whether the suffix is ``.fif``, ``.fif.gz``, ``.set``, or one of continuous recordings, such as ``.vhdr``.
        """
        return path.name.lower().endswith((".fif", ".fif.gz", ".set")) or path.suffix.lower() in _CONTINUOUS

    def read(
        self,
        path: Path,
        *,
        picks: str | Sequence[str] | None = None,
        condition_column: str | None = None,
        run_column: str | None = None,
        tmin: float | None = None,
        tmax: float | None = None,
        decimate: int = 1,
    ) -> Dataset:
        """Read the requested channels and times, and nothing else, into memory.

        Parameters
        ----------
        path : Path
            The file.
        picks : str or sequence of str, optional
            Types (``"eeg"``, ``["mag", "grad"]``) or names of channels (default: all data channels, if they have the
            same type). ``"data"`` reads all types together, although their units differ. Bad channels are left out
            unless picked by name.
        condition_column : str, optional
            Column of the epochs' metadata that names the condition of every epoch, instead of the events.
        run_column : str, optional
            Column of the epochs' metadata that names the runs.
        tmin, tmax : float, optional
            First and last time to read, in seconds, both included.
        decimate : int
            Keep only every `decimate`-th time point, counted from time 0. MNE warns if the data were not low-pass
            filtered for it.

        Returns
        -------
        rsatoolbox.data.TemporalDataset
            (n_trials, n_channels, n_times) in V, T or T/m; channel descriptors ``channel`` and ``type``; time in
            seconds.

        Raises
        ------
        BrainrdlError
            If MNE is not installed; if the file is empty, incomplete, damaged or contains neither epochs nor evoked
            responses; if channels have several types and `picks` is not given, or an option does not fit.
        """
        if path.suffix.lower() in _CONTINUOUS:
            _refuse_continuous(path)
        is_set = path.suffix.lower() == ".set"
        blocks = set() if is_set else _blocks(path)
        if not isinstance(decimate, int) or decimate < 1:
            refuse(f"decimate must be a whole number of at least 1, got {decimate!r}")
        if is_set or _EPOCHS in blocks:
            epochs = _eeglab(_mne(), path) if is_set else _fif(_mne(), path)
            return _epochs(_mne(), epochs, picks, condition_column, run_column, tmin, tmax, decimate)
        if _EVOKED not in blocks:
            _refuse_continuous(path)
        if condition_column is not None or run_column is not None:
            refuse(
                f"evoked responses have no metadata; leave {read_arg('condition_column')} and {read_arg('run_column')} "
                "out"
            )
        return _evokeds(_mne(), path, picks, tmin, tmax, decimate)


def _mne() -> Any:
    try:
        import mne
    except ImportError as error:
        refuse(f"reading FIF files needs MNE-Python ({error}); pip install 'brainrdl[meg]'")
    return mne


def _blocks(path: Path, seen: frozenset[Path] = frozenset()) -> set[int]:
    """Read all tags of a file and its parts, check them, and return the kinds of blocks.

    MNE does not check sizes and pointers: with a pointer back it would read forever, and it creates the times of an
    evoked response before it compares their number with the data.
    """
    if not path.is_file():
        refuse(f"part {path.name!r} of the recording is missing; it must be in the folder of the first part")
    if not path.stat().st_size:
        refuse("the file is empty")
    try:
        with _opened(path) as file:
            return _blocks_in(file, path, seen)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        refuse(f"the compressed file is incomplete or damaged: {error}")


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _blocks_in(file: BinaryIO, path: Path, seen: frozenset[Path]) -> set[int]:
    size = file.seek(0, 2)
    check_unpacked(size, path.stat().st_size, f"file {path.name!r}")
    blocks: set[int] = set()
    position = first = 0
    while position >= 0:
        kind, n_bytes, following = _tag(file, position, size)
        if kind in (_BLOCK, _FIRST, _LAST, _COUNT) and n_bytes == 4:
            value = struct.unpack(">i", file.read(4))[0]
            blocks |= {value} if kind == _BLOCK else set()
            first = value if kind == _FIRST else first
            if (kind == _LAST and value - first > size) or (kind == _COUNT and value > size):
                refuse(f"the file is damaged: {size} bytes cannot hold the time points {first} to {value}")
        if kind == _OTHER_FILE:
            part = path.parent / _beside(file.read(n_bytes).decode("latin-1"))
            blocks |= set() if part in seen else _blocks(part, seen | {path})
        position = position + 16 + n_bytes if following == 0 else following
    return blocks


def _tag(file: BinaryIO, position: int, size: int) -> tuple[int, int, int]:
    """Read the kind and size of a tag, and the position of the next tag (0: right after it, -1: there is none)."""
    file.seek(position)
    head = file.read(16)
    if len(head) < 16:
        refuse(f"the file ends at byte {size}, within a tag: it is incomplete")
    kind, _, n_bytes, following = struct.unpack(">iIii", head)
    if position == 0 and (kind, n_bytes) != (100, 20):
        refuse("the file does not begin like a FIF file")
    if n_bytes < 0 or position + 16 + n_bytes > size or (0 < following <= position):
        refuse(f"the file is incomplete or damaged: the tag at byte {position} does not fit into its {size} bytes")
    return kind, n_bytes, following


def _beside(name: str) -> str:
    if name != Path(name).name or "\\" in name:
        refuse(f"the next part of the recording is {name!r}; parts must be in the folder of the first part")
    return name


def _refuse_continuous(path: Path) -> NoReturn:
    refuse(
        "the file has neither epochs nor evoked responses, as a continuous recording; cut it into epochs with "
        f"MNE-Python and read these: raw = mne.io.read_raw({path.name!r}); events, names = "
        "mne.events_from_annotations(raw); mne.Epochs(raw, events, names).save('epochs-epo.fif')"
    )


def _fif(mne: Any, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MNE 1.13's use of pandas, for metadata
        return mne.read_epochs(path, preload=False, verbose="error")


def _eeglab(mne: Any, path: Path) -> Any:
    """Read the epochs of EEGLAB, each with one event, which names it."""
    if not path.stat().st_size:
        refuse("the file is empty")
    if h5py.is_hdf5(path):
        refuse("it is in MATLAB's format v7.3; save it in EEGLAB without this option (pop_saveset with version '6')")
    check_tags(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "At least one epoch has multiple events")
            warnings.filterwarnings("error", "The EEGLAB file contains no event information")
            return mne.read_epochs_eeglab(path, verbose="warning")
    except RuntimeWarning as warning:
        refuse(
            f"{str(warning).split('. ')[0]}, so it is not known which condition an epoch has; keep the one event that "
            "defines the epoch in EEG.epoch and save the file again"
        )
    except ValueError as error:
        if "trials less than 2" in str(error):
            _refuse_continuous(path)
        raise


def _epochs(
    mne: Any,
    epochs: Any,
    picks: str | Sequence[str] | None,
    condition: str | None,
    run: str | None,
    tmin: float | None,
    tmax: float | None,
    decimate: int,
) -> Dataset:
    channels = _channels(mne, epochs.info, picks)
    if decimate > 1:  # MNE warns about the low-pass filter even if nothing is left out
        epochs.decimate(decimate)
    if not len(epochs):
        refuse("the file has no epochs: all were dropped")
    keep = _times(epochs.times, epochs.info["sfreq"], tmin, tmax)
    where = [epochs.ch_names.index(name) for name in channels["channel"]]
    values = np.empty((len(epochs), len(where), int(keep.sum())))
    for first in range(0, len(epochs), _AT_ONCE):
        item = slice(first, first + _AT_ONCE)
        block = epochs.get_data(where, item=item, copy=False, verbose="error")
        values[item] = _real(block)[..., keep]
    made = dataset(
        values,
        conditions=_events(epochs) if condition is None else _column(epochs, condition, "condition_column"),
        runs=None if run is None else _column(epochs, run, "run_column"),
        channels=channels,
        times=epochs.times[keep],
    )
    made.obs_descriptors |= {
        key: column for key, column in _metadata(epochs).items() if key not in made.obs_descriptors
    }
    return made


def _metadata(epochs: Any) -> dict[str, list[Any]]:
    """Give the columns of the metadata, in their types."""
    if epochs.metadata is None:
        return {}
    return {str(name): epochs.metadata[name].tolist() for name in epochs.metadata.columns if str(name) != "index"}


def _evokeds(
    mne: Any, path: Path, picks: str | Sequence[str] | None, tmin: float | None, tmax: float | None, decimate: int
) -> Dataset:
    evokeds = mne.read_evokeds(path, verbose="error")
    if decimate > 1:
        evokeds = [each.decimate(decimate) for each in evokeds]
    first = evokeds[0]
    for each in evokeds:
        if each.kind != "average":
            refuse(f"response {each.comment!r} is a {each.kind}, not an average; save only averages")
        if each.ch_names != first.ch_names or not np.array_equal(each.times, first.times):
            refuse(f"responses {first.comment!r} and {each.comment!r} differ in channels or times; save each alone")
    channels = _channels(mne, first.info, picks)
    keep = _times(first.times, first.info["sfreq"], tmin, tmax)
    where = [first.ch_names.index(name) for name in channels["channel"]]
    names = [each.comment for each in evokeds]
    return dataset(
        np.stack([_real(each.get_data())[where][:, keep] for each in evokeds]),
        conditions=None if _UNNAMED & set(names) else names,
        channels=channels,
        times=first.times[keep],
    )


def _channels(mne: Any, info: Any, picks: str | Sequence[str] | None) -> dict[str, list[str]]:
    """Return names and types of the requested channels; by default all good data channels, if they have one type."""
    # MNE can pick by type only in loaded data: here, a single time point of zeros.
    sample = mne.EvokedArray(np.zeros((info["nchan"], 1)), info, verbose="error")
    try:
        chosen = sample.copy().pick("data" if picks is None else picks, exclude="bads", verbose="error")
    except ValueError as error:
        known = quote(dict.fromkeys(sample.get_channel_types()))
        refuse(f"picks={picks!r} does not fit: {error}; channels have the types {known}, {quote(info['bads'])} are bad")
    types = chosen.get_channel_types()
    if picks is None and len(set(types)) > 1:
        listed = ", ".join(f"{name} ({count})" for name, count in Counter(types).items())
        refuse(
            f"the channels have types with different units, {listed}; choose with {read_arg('picks')}, or read all "
            f"with {read_arg('picks', 'data')}"
        )
    return {"channel": list(chosen.ch_names), "type": types}


def _times(times: np.ndarray, rate: float, tmin: float | None, tmax: float | None) -> np.ndarray:
    """Mark the time points from tmin to tmax, with a tolerance of a thousandth of the sampling step."""
    slack = 1e-3 / rate
    low, high = times[0] if tmin is None else tmin, times[-1] if tmax is None else tmax
    keep = (times >= low - slack) & (times <= high + slack)
    if low < times[0] - 0.5 / rate or high > times[-1] + 0.5 / rate or not keep.any():
        refuse(
            f"{read_arg('tmin', tmin)}, {read_arg('tmax', tmax)} extend beyond the data, from {times[0]:.6g} to "
            f"{times[-1]:.6g} s"
        )
    return keep


def _real(values: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(values):
        refuse("the values are complex; save their power or phase as real numbers")
    return values


def _events(epochs: Any) -> list[str]:
    """Name each epoch by its event."""
    names: dict[int, str] = {}
    for name, code in epochs.event_id.items():
        if names.setdefault(code, name) != name:
            refuse(
                f"events {names[code]!r} and {name!r} have the same code, {code}; use {read_arg('condition_column')}"
            )
    return [names[code] for code in epochs.events[:, 2]]


def _column(epochs: Any, column: str, option: str) -> list[str]:
    if epochs.metadata is None:
        refuse(f"{option}={column!r}: these epochs have no metadata")
    check_option(column, [str(name) for name in epochs.metadata.columns], option)
    return condition_names(epochs.metadata[column].tolist(), f"column {column!r} of the metadata")


READER = MneEpochs()
