"""An option of `fit` is written once: a line added to a copy of its module shows up wherever options are read."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import brainrdl
from brainrdl import recipe
from brainrdl._core.options import PYTHON, options_of
from brainrdl.evaluation.options import CrossValidationOptions
from brainrdl.recipe.schema import FitSection
from brainrdl.training.optimizers import OPTIMIZERS, SCHEDULES
from brainrdl.training.options import OPTIMISER_WORDS, FitOptions, TrainingOptions

ROOT = Path(__file__).resolve().parents[2]
FIRST = "    rdm_weight: Annotated["
ADDED = '    dummy: Annotated[int, Option(7, "An option to test with.", at_least=3)]\n'

SCRIPT = """
import inspect, json, pydoc, sys
import torch
from brainrdl import BrainrdlError, RDMTeacher, Stimuli, Student, cross_validate, fit, rdms, recipe
from brainrdl.reporting.methods import facts_of
from brainrdl.reporting.run import Run

def refusal(call, *args, **options):
    try:
        call(*args, **options)
    except BrainrdlError as error:
        return str(error)

names = list("abcdef")
student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), ["1"])
case = (student, RDMTeacher(rdms.from_array(torch.rand(1, 15).numpy(), names)),
        Stimuli.from_arrays(torch.rand(6, 1, 2, 2), names))
quiet = {"steps": 1, "device": "cpu", "progress": False}
content = {"stimuli": {"folder": "a"}, "teacher": {"rdms": "b"}, "student": {"model": "small_cnn", "layers": ["pool"]}}
settings = fit(*case, dummy=5, **quiet).settings
try:
    import griffe
except ImportError:
    reference = None
else:
    extensions = griffe.load_extensions(sys.argv[1])
    shown = griffe.load("brainrdl.training.loop", search_paths=["."], extensions=extensions)["fit"]
    reference = [shown.docstring.value, [parameter.name for parameter in shown.parameters]]
print(json.dumps({
    "help": pydoc.render_doc(fit),
    "help of cross_validate": pydoc.render_doc(cross_validate),
    "default": inspect.signature(fit).parameters["dummy"].default,
    "settings": settings["dummy"],
    "settings by default": fit(*case, **quiet).settings["dummy"],
    "facts": dict(facts_of(Run(settings=settings)))["Fitting"],
    "recipe": recipe.check({**content, "fit": {"dummy": 5}}).fit.model_dump()["dummy"],
    "dump": recipe.dump(recipe.check(content)),
    "template": recipe.template(),
    "refused": refusal(fit, *case, dummy=1, **quiet),
    "refused in a recipe": refusal(recipe.check, {**content, "fit": {"dummy": 1}}),
    "reference": reference,
}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a copy of the package shows of an option that one line was added for."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "brainrdl", folder / "brainrdl")  # with the bytecode, to compile one module only
    source = folder / "brainrdl/training/options.py"
    text = source.read_text()
    assert text.count(FIRST) == 1
    source.write_text(text.replace(FIRST, ADDED + FIRST))
    command = (sys.executable, "-c", SCRIPT, str(ROOT / "docs/listed_options.py"))
    clean = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=clean, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_new_option_is_in_help_and_signature(seen: dict[str, Any]) -> None:
    for text in (seen["help"], seen["help of cross_validate"]):
        assert "dummy: int = 7" in text
        assert "dummy : int, at least 3, default 7\n        An option to test with.\n" in text.replace("\n     |", "\n")
    assert seen["default"] == 7


@pytest.mark.slow
def test_a_new_option_is_in_settings_and_report(seen: dict[str, Any]) -> None:
    assert (seen["settings"], seen["settings by default"]) == (5, 7)
    assert "dummy 5" in seen["facts"].split(", ")


@pytest.mark.slow
def test_a_new_option_is_in_recipes_and_their_template(seen: dict[str, Any]) -> None:
    assert seen["recipe"] == 5
    assert "\n  dummy: 7\n" in seen["dump"]
    assert "  # An option to test with.\n  #   whole number, at least 3 (default: 7)\n  #dummy: 7\n" in seen["template"]


@pytest.mark.slow
def test_a_new_option_is_checked_with_the_same_words_in_python_and_recipes(seen: dict[str, Any]) -> None:
    assert seen["refused"] == "dummy must be a whole number, at least 3, got 1"
    assert seen["refused in a recipe"] == "recipe: fit.dummy must be a whole number, at least 3, got 1"


@pytest.mark.slow
def test_a_new_option_is_in_the_reference(seen: dict[str, Any]) -> None:
    if seen["reference"] is None:
        pytest.skip("griffe is not installed (make docs installs it)")
    text, parameters = seen["reference"]
    assert "dummy : int, at least 3, default 7\n    An option to test with.\n" in text
    assert "dummy" in parameters


@pytest.mark.parametrize(
    ("function", "kind"), [(brainrdl.fit, FitOptions), (brainrdl.cross_validate, CrossValidationOptions)]
)
def test_at_most_fifteen_parameters_are_spelled_out_and_all_are_listed(function: Any, kind: type) -> None:
    listed, options = inspect.signature(function).parameters, options_of(kind)
    assert len(listed) - len(options) == function.__code__.co_argcount + function.__code__.co_kwonlyargcount <= 15
    assert {name: listed[name].default for name in options} == {name: one.default for name, one in options.items()}
    for name, option in options.items():
        assert f"\n{name} : " in inspect.getdoc(function)
        assert option.help.split(".")[0].split()[-1] in inspect.getdoc(function)
    assert "**options" not in inspect.getdoc(function)


def test_every_option_of_a_fit_is_in_recipes_and_their_template_with_its_help_and_default() -> None:
    template, section = recipe.template(), FitSection.model_fields
    for name, option in options_of(TrainingOptions).items():
        assert section[name].get_default() == option.default
        assert re.search(rf"^  #?{name}: ", template, re.MULTILINE)
        assert option.help.split()[0] in template


def test_options_load_nothing_heavy() -> None:
    code = "import sys, brainrdl.evaluation.options, brainrdl.training.options; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert not {"torch", "numpy", "pandas", "pydantic", "rsatoolbox"} & set(done.stdout.split())
    assert "brainrdl.evaluation.options" in done.stdout.split(), done.stderr


@pytest.mark.parametrize(("option", "registry"), [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)])
def test_the_names_that_an_option_lists_are_those_there_are(option: str, registry: dict[str, Any]) -> None:
    allowed = options_of(TrainingOptions)[option].allowed(PYTHON)
    assert re.findall(r"'(\w+)'", allowed) == list(registry)


def test_the_report_has_words_for_every_optimiser() -> None:
    assert set(OPTIMISER_WORDS) == set(OPTIMIZERS)
