"""Pages of each kind, made from results, in a browser: tables, downloads, values of RDMs and the keyboard work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from brainrdl import Evaluation, Stimuli, rdms, report, rsa
from brainrdl._core.rows import Role
from brainrdl.evaluation.held_out import assemble
from brainrdl.evaluation.scores import HeldOut, TeacherRDMs
from brainrdl.inference import score_movie

pytestmark = pytest.mark.slow

N, N_PAIRS = 12, 66
NAMES = tuple(f"image {k:02d}" for k in range(N))
KINDS = ("evaluation", "rsa", "movie", "several")
WITH_RDMS = {"evaluation", "rsa"}


def cross_validated(seed: int) -> Evaluation:
    """Two folds of a student and the unfitted one; pairs between the folds are unknown."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(N_PAIRS, generator=generator)
    rows = [
        HeldOut(
            student=label, role=role, base="unfitted", layer="conv", target="IT", names=NAMES, fold=fold,
            pairs=truth + noise * torch.rand(N_PAIRS, generator=generator),
        ).only(NAMES[fold::2])
        for label, role, noise in (("fitted", Role.STUDENT, 0.3), ("unfitted", Role.UNFITTED, 2.0))
        for fold in (0, 1)
    ]  # fmt: skip
    subjects = truth + 0.5 * torch.rand(4, N_PAIRS, generator=generator)
    labels = {name: "animal" if k < N / 2 else "tool" for k, name in enumerate(NAMES)}
    teacher = {"IT": TeacherRDMs("IT", NAMES, tuple("abcd"), subjects)}
    return assemble(rows, teacher, ("spearman",), "dyadic", None, 0, labels=labels, settings={"teacher": "IT"})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pages")
    models = random.random((3, N_PAIRS))
    regions = {"subject": list("abcdef") * 2, "roi": ["EVC"] * 6 + ["IT"] * 6}
    measured = np.repeat(models[:2], 6, axis=0) + 0.5 * random.random((12, N_PAIRS))
    data = rdms.from_array(measured, NAMES, descriptors=regions)
    named = {name: rdms.from_array(one, NAMES) for name, one in zip("xyz", models, strict=True)}
    times = {"time": np.tile(np.arange(4) / 10, 6).tolist(), "subject": np.repeat(list("abcdef"), 4).tolist()}
    movie = rdms.from_array(models[0] + 0.5 * random.random((24, N_PAIRS)), NAMES, descriptors=times)
    layers = rdms.from_array(models, NAMES, descriptors={"layer": list("xyz")})
    sources: dict[str, Any] = {
        "evaluation": cross_validated(0), "rsa": rsa(named, data), "movie": score_movie(layers, movie),
        "several": {"one": cross_validated(0), "two": cross_validated(1)},
    }  # fmt: skip
    images = Stimuli.from_arrays(torch.rand(N, 3, 8, 8), list(NAMES))
    return {
        kind: report(source, folder / f"{kind}.html", stimuli=images, progress=False)
        for kind, source in sources.items()
    }


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_page_opens_without_errors_and_fits_the_window(
    browser: Any, pages: dict[str, Path], kind: str, width: int, dark: bool
) -> None:
    browser.open(pages[kind], width, dark=dark)
    assert browser.problems() == []
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("[...document.images].every((image) => image.naturalWidth > 0)")


CELLS = "[...document.querySelector('table.summary').tBodies[0].rows].map((row) => row.cells[{}].textContent)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_a_real_page_is_sorted_and_saved(
    browser: Any, pages: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    browser.open(pages[kind])
    heads = browser.run(
        "[...document.querySelectorAll('table.summary')[0].tHead.rows[0].cells].map((h) => h.innerText)"
    )
    (column,) = [k for k, head in enumerate(heads) if head.split()[0] == "score"]
    before = browser.run(CELLS.format(column))
    browser.click(f"table.summary thead th:nth-child({column + 1}) button")
    assert values(browser.run(CELLS.format(column))) == sorted(values(before))
    browser.press("Enter")  # the button has the focus
    assert values(browser.run(CELLS.format(column))) == sorted(values(before), reverse=True)
    file = browser.run("document.querySelector('a[download$=csv]').download")
    browser.download("a[download$=csv]", tmp_path)
    assert "score" in pd.read_csv(tmp_path / file)
    assert browser.problems() == []


def values(cells: list[str]) -> list[float]:
    return [float(cell.split()[0].replace("−", "-")) for cell in cells]


READING = "[...document.querySelectorAll('.reading .pair')].map((line) => line.textContent).filter(Boolean)"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", sorted(WITH_RDMS))
def test_pairs_of_a_real_page_are_read_with_pointer_and_keyboard(
    browser: Any, pages: dict[str, Path], kind: str, width: int
) -> None:
    browser.open(pages[kind], width)
    form = "narrow" if width == 390 else "wide"
    data = json.loads(browser.run("document.getElementById('matrices').textContent"))
    panel = data["figures"][0][form][-1]
    order, (left, top, wide, high) = data["orders"][panel["order"]], panel["box"]
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=3000, deviceScaleFactor=1, mobile=False)
    x, y = browser.run(
        f"""(() => {{
          const shown = [...document.querySelectorAll("[data-rdm] img")].find((one) => one.clientWidth > 0);
          const box = shown.getBoundingClientRect();
          return [box.x + box.width * ({left} + {wide} * 1.5 / {len(order)}),
                  box.y + box.height * ({top} + {high} * 0.5 / {len(order)})];
        }})()"""
    )
    browser.point(x, y)
    first, second, third = (data["names"][0][order[k]] for k in (0, 1, 2))
    assert browser.run(READING) == [f"{first} – {second}"]
    assert browser.run("document.querySelectorAll('.reading .thumbnail').length") == 2
    browser.run("document.querySelector('.cells').focus()")
    browser.press("ArrowRight")
    assert browser.run(READING) == [f"{first} – {third}"]
    browser.press("Escape")
    assert browser.run("getComputedStyle(document.querySelector('.reading')).display") == "none"
    assert browser.problems() == []
