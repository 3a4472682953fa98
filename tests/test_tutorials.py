"""The worked examples: each runs from an empty folder, and its page and notebook show the code of the script."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[1] / "docs"
REDUCED: dict[str, dict[str, Any]] = {  # parameters with which an example runs in seconds
    "fit_to_human_it": {"SIZE": 32, "STEPS": 2, "FOLDS": 3},
    "layers_and_regions": {"SIZE": 32},
    "beyond_reweighting": {"SIZE": 32, "STEPS": 2, "FOLDS": 3},
    "distil_a_network": {"TEACHER_STEPS": 2, "STEPS": 2, "SEEDS": (0,)},
    "task_and_brain": {"HIDDEN_STEPS": 2, "STEPS": 2, "WEIGHTS": (0, 0.3)},
    "from_bold_to_a_student": {"N_SUBJECTS": 3, "N_RUNS": 2, "STEPS": 2, "SEEDS": (0,)},
    "searchlight": {"N_SUBJECTS": 5, "SHAPE": (9, 10, 7)},
    "rdm_movie": {"N_SUBJECTS": 6, "N_IMAGES": 8, "N_SENSORS": 10, "N_REPEATS": 2},
    "take_a_model_away": {"HIDDEN_STEPS": 2, "STEPS": 2},
}
NEEDS = {"from_bold_to_a_student": "nilearn", "fit_to_human_it": "efficientnet_lite_pytorch"}
NEEDS |= dict.fromkeys(("layers_and_regions", "beyond_reweighting"), "efficientnet_lite_pytorch")


def _module() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("run_tutorials")
    finally:
        sys.path.remove(str(DOCS))


TUTORIALS = _module()


def _script(name: str) -> str:
    return TUTORIALS.path_of(name).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS.ORDER)
def test_an_example_runs_from_an_empty_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    if "datasets.load(" in _script(name):
        request.getfixturevalue("data_folder")  # skips without the public data
    monkeypatch.chdir(tmp_path)
    plt.close("all")
    outputs = [output for _, output in TUTORIALS.run(_script(name), REDUCED[name]) if output]
    assert plt.get_fignums(), "an example draws a figure"
    plt.close("all")
    assert any(output.value is not None or output.printed for output in outputs)


def test_every_script_is_in_the_overview_and_has_reduced_parameters() -> None:
    scripts = {path.stem for path in TUTORIALS.TUTORIALS.glob("*.py")}
    assert scripts == set(TUTORIALS.ORDER) == set(REDUCED)
    overview = (TUTORIALS.TUTORIALS / "index.md").read_text(encoding="utf-8")
    assert overview == TUTORIALS.overview(), "run: python docs/run_tutorials.py --overview"


@pytest.mark.parametrize("name", TUTORIALS.ORDER)
def test_a_page_shows_the_code_and_text_of_its_script(name: str) -> None:
    page = TUTORIALS.path_of(name).with_suffix(".md").read_text(encoding="utf-8")
    cells = TUTORIALS.cells(_script(name))
    shown = re.findall(r"^```python\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    assert shown == [cell.source for cell in cells if not cell.is_text], f"run: python docs/run_tutorials.py {name}"
    for text in (cell.source for cell in cells[1:] if cell.is_text):
        assert text in page, f"run: python docs/run_tutorials.py {name}"
    figures = re.findall(r"\]\((figures/[^)]+)\)", page)
    assert figures
    sizes = {figure: (TUTORIALS.TUTORIALS / figure).stat().st_size for figure in figures}
    assert max(sizes.values()) < 3e5, sizes


@pytest.mark.parametrize("name", TUTORIALS.ORDER)
def test_a_notebook_has_the_cells_of_its_script_and_no_link_to_another_page(name: str) -> None:
    made = json.loads(TUTORIALS.notebook(_script(name)))
    cells = TUTORIALS.cells(_script(name))
    assert [cell["cell_type"] for cell in made["cells"]] == ["markdown" if cell.is_text else "code" for cell in cells]
    code = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
    assert code == [cell.source for cell in cells if not cell.is_text]
    text = "".join("".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "markdown")
    assert ".md)" not in text
    assert len({cell["id"] for cell in made["cells"]}) == len(cells)


@pytest.mark.parametrize("script", ["x = 1\n", "# %%\nx = 1\n# %% [raw]\n", "# %% [markdown]\n# # Title\nx = 1\n"])
def test_a_script_with_a_cell_that_cannot_be_read_is_refused(script: str) -> None:
    with pytest.raises(ValueError, match=r"cell|begins with #"):
        TUTORIALS.cells(script)


def test_a_parameter_that_an_example_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match="STPS"):
        list(TUTORIALS.run('# %% [markdown]\n# # A\n# %% tags=["parameters"]\nSTEPS = 1\n', {"STPS": 2}))


def test_an_output_shows_what_was_printed_and_warned_and_the_last_value() -> None:
    script = "# %%\nimport warnings\nprint('seen')\nwarnings.warn('careful', UserWarning)\n1 + 1\n"
    ((_, output),) = TUTORIALS.run(script)
    assert (output.printed, output.value) == ("seen\nUserWarning: careful\n", 2)
