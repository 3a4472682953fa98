"""The package as a whole: its layers, its public names, its speed of import, and what library code may not do."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest

import brainrdl

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted([*(ROOT / "brainrdl").rglob("*.py"), *(ROOT / "data_adapters").rglob("*.py")])
MODULES = sorted(path.stem for path in (ROOT / "brainrdl").glob("[!_]*.py"))
PUBLIC = sorted(brainrdl._HOME)
HEAVY = ("torch", "torchvision", "rsatoolbox", "matplotlib", "nibabel", "pandas", "accelerate", "sklearn", "scipy")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def python(code: str) -> str:
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Layers


def test_imports_go_down_only() -> None:
    done = run(sys.executable, "-c", "from importlinter.cli import lint_imports as lint; exit(lint(no_cache=True))")
    assert done.returncode == 0, done.stdout + done.stderr


# Importing


def test_importing_brainrdl_loads_nothing_heavy() -> None:
    loaded = python("import brainrdl, sys; dir(brainrdl); print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("name", ["fit", "evaluate", "report"])
def test_a_function_stays_a_function_whatever_is_imported_first(name: str) -> None:
    everything = "; ".join(f"import brainrdl.{module}" for module in MODULES)
    assert python(f"{everything}; print(callable(brainrdl.{name}))").strip() == "True"


def test_no_public_name_is_also_the_name_of_a_module() -> None:
    homes = {name for name in brainrdl._HOME if (ROOT / "brainrdl" / f"{name}.py").exists()}
    assert not homes


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'brainrdl' has no attribute 'fitt'"):
        brainrdl.fitt  # noqa: B018
    assert not hasattr(brainrdl, "fitt")


def test_the_names_for_type_checkers_are_the_names_that_load() -> None:
    tree = ast.parse((ROOT / "brainrdl" / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: (node.module or "").removeprefix("brainrdl.") for node in imports for alias in node.names}
    assert {name: home for name, home in homes.items() if home != "brainrdl"} == brainrdl._HOME
    assert {*homes, "__version__"} == set(brainrdl.__all__)


@pytest.mark.parametrize("name", sorted({*brainrdl.__all__} - {*brainrdl._HOME, "__version__"}))
def test_a_public_name_without_a_home_is_a_module(name: str) -> None:
    assert getattr(brainrdl, name) is importlib.import_module(f"brainrdl.{name}")


def test_dir_lists_every_public_name() -> None:
    assert set(brainrdl.__all__) <= set(dir(brainrdl))


# Public names and their documentation


def defined(module: ModuleType) -> dict[str, object]:
    """Return the functions and classes that `module` offers as its own: defined in it, or in private modules for it."""
    listed = getattr(module, "__all__", ())
    things = {
        name: value for name, value in vars(module).items() if inspect.isfunction(value) or inspect.isclass(value)
    }
    return {
        name: value
        for name, value in things.items()
        if value.__module__ == module.__name__
        or (name in listed and value.__module__.rpartition(".")[2].startswith("_"))
    }


def test_what_private_modules_write_for_a_public_one_is_seen() -> None:
    assert {"rdm", "rdm_pair", "scores", "history"} <= set(defined(importlib.import_module("brainrdl.plot")))
    assert "RDMTeacher" not in defined(importlib.import_module("brainrdl.teachers"))  # its own module shows it


def is_protocol(value: object) -> bool:
    return inspect.isclass(value) and getattr(value, "_is_protocol", False)


def has_example(value: object) -> bool:
    return re.search(r"^Examples\n-{8}$", inspect.getdoc(value) or "", re.MULTILINE) is not None


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring_that_summarises_and_shows(name: str) -> None:
    value = getattr(brainrdl, name)
    assert (inspect.getdoc(value) or "").splitlines()[0].endswith(".")
    assert has_example(value), f"the docstring of brainrdl.{name} has no Examples section"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_in_the_reference(name: str) -> None:
    module = importlib.import_module(f"brainrdl.{brainrdl._HOME[name]}")
    assert getattr(module, name) is getattr(brainrdl, name)
    index = (ROOT / "docs/reference/index.md").read_text()
    assert f"`brainrdl.{name}`" in index


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_a_page_in_the_reference(name: str) -> None:
    page = (ROOT / "docs/reference" / f"{name}.md").read_text()
    assert f"\n::: brainrdl.{name}\n" in page
    assert f"({name}.md)" in (ROOT / "docs/reference/index.md").read_text()


def test_a_page_in_the_reference_has_a_module() -> None:
    pages = {path.stem for path in (ROOT / "docs/reference").glob("*.md")} - {"index", "errors"}
    assert pages == set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "cli"])
def test_everything_a_module_offers_is_documented_and_shown(name: str) -> None:
    module = importlib.import_module(f"brainrdl.{name}")
    offered = {thing: value for thing, value in defined(module).items() if not thing.startswith("_")}
    assert inspect.getdoc(module), f"brainrdl.{name} has no docstring"
    silent = [thing for thing, value in offered.items() if not vars(value).get("__doc__", value.__doc__)]
    # A protocol is a promise without code: `brainrdl.testing` has the running example of keeping it.
    unshown = [thing for thing, value in offered.items() if not (is_protocol(value) or has_example(value))]
    assert not silent, f"without a docstring: {silent}"
    assert not unshown, f"without an Examples section: {unshown}"


@pytest.mark.parametrize("name", MODULES)
def test_a_protocol_can_be_checked_at_run_time(name: str) -> None:
    things = defined(importlib.import_module(f"brainrdl.{name}"))
    protocols = {thing: value for thing, value in things.items() if is_protocol(value)}
    unchecked = [thing for thing, value in protocols.items() if not getattr(value, "_is_runtime_protocol", False)]
    assert not unchecked, f"`make shapes` cannot check {unchecked}: decorate with typing.runtime_checkable"


# Tests


def test_file_of(path: Path) -> Path:
    folder = ROOT / "tests" / ("adapters" if path.parent.name == "data_adapters" else "")
    return folder / f"test_{path.stem.strip('_')}.py"


test_file_of.__test__ = False  # a helper whose name only looks like a test


# A private module is part of the module that uses it and is tested there; `_checks` words the errors of all.
TESTED = [path for path in FILES if not path.stem.startswith("_") or path.stem == "_checks"]


@pytest.mark.parametrize("path", TESTED, ids=relative)
def test_a_module_has_a_test_file(path: Path) -> None:
    assert test_file_of(path).is_file(), f"{relative(test_file_of(path))} is missing"


# What library code may not do

_CALLS = {
    "print": "prints",
    "exit": "exits",
    "quit": "exits",
    "sys.exit": "exits",
    "os._exit": "exits",
    "yaml.load": "unpickles",
}
_PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_AT_THE_COMMAND_LINE = {"exits"}


def offences(source: str) -> Iterator[str]:
    """Yield what `source` does that library code may not, as ``"line 3: prints"``."""
    for node in ast.walk(ast.parse(source)):
        for offence in _offences_of(node):
            yield f"line {node.lineno}: {offence}"  # type: ignore[attr-defined]


def _offences_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Call):
        return _offences_of_call(ast.unparse(node.func), {kw.arg: ast.unparse(kw.value) for kw in node.keywords})
    if isinstance(node, ast.Import):
        return ["unpickles"] if _PICKLES & {alias.name.split(".")[0] for alias in node.names} else []
    if isinstance(node, ast.ImportFrom):
        errors_only = all(alias.name.endswith("Error") for alias in node.names)
        return ["unpickles"] if (node.module or "").split(".")[0] in _PICKLES and not errors_only else []
    if isinstance(node, ast.Raise) and node.exc and "SystemExit" in ast.unparse(node.exc):
        return ["exits"]
    # `python -O` drops an assert, and what it was to refuse comes in.
    return ["asserts"] if isinstance(node, ast.Assert) else []


def _offences_of_call(name: str, options: dict[str | None, str]) -> list[str]:
    found = [_CALLS[name]] if name in _CALLS else []
    if name == "torch.load" and options.get("weights_only") != "True":
        found.append("unpickles")
    if options.get("allow_pickle", "False") != "False":
        found.append("unpickles")
    return found


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_library_code_neither_prints_nor_exits_nor_unpickles_nor_asserts(path: Path) -> None:
    allowed = _AT_THE_COMMAND_LINE if path.stem in {"cli", "__main__"} else set()
    found = [offence for offence in offences(path.read_text()) if offence.split(": ")[1] not in allowed]
    assert not found, f"{relative(path)}: {found}"


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("print(1)", "prints"),
        ("import sys\nsys.exit(1)", "exits"),
        ("raise SystemExit(2)", "exits"),
        ("import pickle", "unpickles"),
        ("from joblib import load", "unpickles"),
        ("np.load(path, allow_pickle=True)", "unpickles"),
        ("torch.load(path)", "unpickles"),
        ("torch.load(path, weights_only=False)", "unpickles"),
        ("yaml.load(text)", "unpickles"),
        ("assert x > 0", "asserts"),
    ],
)
def test_an_offence_is_found(source: str, offence: str) -> None:
    assert [found.split(": ")[1] for found in offences(source)] == [offence]


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "console.print(1)",
        "np.load(path, allow_pickle=False)",
        "from pickle import UnpicklingError",
    ],
)
def test_what_is_allowed_is_no_offence(source: str) -> None:
    assert not list(offences(source))


# The distribution


def test_the_version_is_the_same_everywhere() -> None:
    assert brainrdl.__version__ == PROJECT["version"], "installed from an older pyproject.toml: run make install"
    assert f"\nversion: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


def test_every_reader_loads_under_its_own_name() -> None:
    installed = {entry.name: entry for entry in entry_points(group="brainrdl.readers")}
    declared = PROJECT["entry-points"]["brainrdl.readers"]
    assert {name: installed[name].value for name in declared} == declared
    assert {name: installed[name].load().name for name in declared} == {name: name for name in declared}


def test_every_adapter_is_declared_as_a_reader() -> None:
    declared = {value.split(":")[0] for value in PROJECT["entry-points"]["brainrdl.readers"].values()}
    assert declared == {f"data_adapters.{path.stem}" for path in (ROOT / "data_adapters").glob("[!_]*.py")}


def test_the_command_line_answers_help() -> None:
    done = run(str(Path(sys.executable).with_name("brainrdl")), "--help")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
