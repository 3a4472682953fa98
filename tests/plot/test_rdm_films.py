"""A film of RDMs: its frames, times and size, and what it shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rsatoolbox.rdm.rdms import RDMs

from brainrdl import BrainrdlError, plot
from brainrdl.plot.rdm_films import _Film
from brainrdl.rdms.by_name import select
from brainrdl.rdms.conversion import from_array

NAMES = list("abcdef")
GROUPS = dict(zip(NAMES, ["x", "y"] * 3, strict=True))
ROWS = np.random.default_rng(0).random((4, 15))


def student(steps: list[int]) -> RDMs:
    return from_array(ROWS[: len(steps)], NAMES, descriptors={"step": steps})


TEACHER = from_array(ROWS[3], NAMES)


def test_a_film_has_the_first_and_the_last_step_and_stays_longer_at_the_end(tmp_path: Path) -> None:
    path = plot.rdm_film(student([0, 5, 20]), TEACHER, tmp_path / "a.gif", GROUPS, seconds=2, n_frames=2, dpi=50)
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (2, (220, 120))
        times = []
        for frame in range(2):
            film.seek(frame)
            times.append(film.info["duration"])
    assert times == [1000, 3000]


def test_frames_show_ranks_in_the_order_of_categories_with_the_step() -> None:
    order = ["a", "c", "e", "b", "d", "f"]
    both = [select(one, order) for one in (student([0, 5, 20]), TEACHER)]
    history = pd.DataFrame({"step": [0, 10, 20], "validation_similarity": [0.0, 0.4, 0.6]})
    film = _Film(*both, GROUPS, "stimulus", ("net", "IT"), history, [0, 5, 20])
    film.frame(1, 50)
    shown = film.left.images[0].get_array()
    expected = select(student([0, 5, 20]), order).get_matrices()[1]
    assert np.argmax(shown) == np.argmax(expected)
    assert sorted(set(np.round(shown[np.triu_indices(6, 1)] * 14).astype(int))) == list(range(15))
    assert film.left.get_title(loc="left") == "net, step 5"
    assert film.dot.get_xydata().tolist() == [[5, 0.2]]


def test_a_pair_that_the_teacher_lacks_is_grey_in_both(tmp_path: Path) -> None:
    lacking = from_array(np.where(np.arange(15) == 3, np.nan, ROWS[3]), NAMES)
    film = _Film(student([0, 5]), lacking, None, "stimulus", ("net", "IT"), None, [0, 5])
    film.frame(0, 50)
    masks = [np.ma.getmaskarray(ax.images[0].get_array()) for ax in (film.left, film.right)]
    assert masks[0].sum() == 2
    np.testing.assert_array_equal(*masks)


@pytest.mark.slow
def test_a_film_of_92_conditions_is_smaller_than_a_megabyte(tmp_path: Path) -> None:
    rows, names = np.random.default_rng(1).random((25, 4186)), [f"image {k}" for k in range(92)]
    rdms = from_array(rows[:24], names, descriptors={"step": list(range(24))})
    path = plot.rdm_film(rdms, from_array(rows[24], names), tmp_path / "film.gif")
    assert path.stat().st_size < 1e6  # of noise, which no palette compresses


def test_what_cannot_be_a_film_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    with pytest.raises(BrainrdlError, match="no rdm descriptor 'step'"):
        plot.rdm_film(TEACHER, TEACHER, path)
    with pytest.raises(BrainrdlError, match="at least two steps, each once and in order; got the steps \\[5, 0\\]"):
        plot.rdm_film(student([5, 0]), TEACHER, path)
    with pytest.raises(BrainrdlError, match="teacher must be one RDM, got 2"):
        plot.rdm_film(student([0, 5]), student([0, 5]), path)
    with pytest.raises(BrainrdlError, match="are not in groups"):
        plot.rdm_film(student([0, 5]), TEACHER, path, {"a": "x"})
    with pytest.raises(BrainrdlError, match="none of the columns"):
        plot.rdm_film(student([0, 5]), TEACHER, path, history=pd.DataFrame({"step": [0], "loss": [1.0]}))
    assert not list(tmp_path.iterdir())
