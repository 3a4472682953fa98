"""A damaged file ends in the right data or in a refusal that names the file and the reader, never in another error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from rsatoolbox.data import Dataset
from scipy.io import savemat

from brainrdl import BrainrdlError, read
from brainrdl.rdms.conversion import from_array
from brainrdl.testing.file_readers import _same_data

CONDITIONS = ["cat", "dog", "car", "tree"]
READERS = {
    "rdms.h5": "rsatoolbox",
    "data.h5": "rsatoolbox",
    "rdm.npy": "numpy",
    "rdm.npz": "numpy",
    "square.csv": "csv",
    "long.tsv": "csv",
    "v5.mat": "matlab",
    "v7.mat": "matlab",
    "v73.mat": "matlab",
}


@pytest.fixture
def sound_files(tmp_path, stack, matlab73):
    """One sound file of every layout."""
    from_array(stack, CONDITIONS, measure="correlation", descriptors={"roi": ["V1", "IT"]}).save(
        str(tmp_path / "rdms.h5")
    )
    Dataset(stack[0], obs_descriptors={"stimulus": CONDITIONS}).save(str(tmp_path / "data.h5"))
    np.save(tmp_path / "rdm.npy", stack)
    np.savez_compressed(tmp_path / "rdm.npz", rdms=stack, names=CONDITIONS)
    rows = [",".join([name, *map(str, row)]) for name, row in zip(CONDITIONS, stack[0], strict=True)]
    (tmp_path / "square.csv").write_text("\n".join([",".join(["", *CONDITIONS]), *rows]))
    pairs = [f"{CONDITIONS[i]}\t{CONDITIONS[j]}\t{stack[0, i, j]}" for i, j in zip(*np.triu_indices(4, 1), strict=True)]
    (tmp_path / "long.tsv").write_text("\n".join(["a\tb\tdissimilarity", *pairs]))
    variables = {"EVC_RDMs": stack, "IT_RDMs": stack}
    savemat(tmp_path / "v5.mat", variables)
    savemat(tmp_path / "v7.mat", variables, do_compression=True)
    matlab73(tmp_path / "v73.mat", RDMs=[{"RDM": square, "name": "hIT | BE"} for square in stack])
    return tmp_path


def result_of(path, reader):
    """Read a damaged file: the data, or None for a refusal that names the file and the reader."""
    try:
        return read(path, reader=reader)
    except BrainrdlError as error:
        message = str(error)
    assert str(path) in message
    assert f"reader '{reader}'" in message or "is a pickle" in message
    return None


FUZZ = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize(("name", "reader"), READERS.items())
def test_sound_files_are_read(sound_files, name, reader):
    assert result_of(sound_files / name, reader) is not None


@pytest.mark.parametrize(("name", "reader"), READERS.items())
@FUZZ
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_gives_the_whole_data_or_a_refusal(sound_files, name, reader, part):
    content = (sound_files / name).read_bytes()
    whole = read(sound_files / name, reader=reader)
    cut = sound_files / f"cut_{name}"
    cut.write_bytes(content[: int(part * len(content))])
    found = result_of(cut, reader)
    # a long table holds nothing that says how long it should be
    assert found is None or name == "long.tsv" or _same_data(found, whole)


@pytest.mark.parametrize(("name", "reader"), READERS.items())
@FUZZ
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=8))
def test_a_file_with_flipped_bits_gives_data_or_a_refusal(sound_files, name, reader, flips):
    content = bytearray((sound_files / name).read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    flipped = sound_files / f"flipped_{name}"
    flipped.write_bytes(content)
    found = result_of(flipped, reader)
    assert found is None or hasattr(found, "dissimilarities") or hasattr(found, "measurements")


@pytest.mark.parametrize(("name", "reader"), READERS.items())
def test_an_empty_file_is_refused(sound_files, name, reader):
    (sound_files / name).write_bytes(b"")
    assert result_of(sound_files / name, reader) is None
    with pytest.raises(BrainrdlError, match=f"reader '{reader}'.*the file is empty"):
        read(sound_files / name)
