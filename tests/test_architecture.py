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

import pytest

import brainrdl

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted([*(ROOT / "brainrdl").rglob("*.py"), *(ROOT / "data_adapters").rglob("*.py")])
ROOMS = sorted(path.parent.name for path in (ROOT / "brainrdl").glob("*/__init__.py"))
OPEN_ROOMS = [room for room in ROOMS if (ROOT / "brainrdl" / room / "__init__.pyi").exists()]  # with public names
MODULES = sorted(path for path in FILES if path.parent.parent.name == "brainrdl" and path.stem != "__init__")
PUBLIC = sorted({*brainrdl.__all__} - {*ROOMS, "__version__"})
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
    rooms = "; ".join(f"dir(brainrdl.{room})" for room in OPEN_ROOMS)
    loaded = python(f"import brainrdl, sys; dir(brainrdl); {rooms}; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_errors_need_no_scientific_library() -> None:
    loaded = python("import brainrdl._core.errors, brainrdl._core.constants, sys; print(*sys.modules)").split()
    assert not {*HEAVY, "numpy"} & set(loaded)


def test_no_public_name_is_also_the_name_of_a_module_of_its_room() -> None:
    # Importing a module sets an attribute of that name on its package, and would take the function's place.
    doubles = [f"{path.parent.name}.{path.stem}" for path in MODULES if path.stem in names_of(path.parent.name)]
    assert not doubles


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No brainrdl attribute fitt"):
        brainrdl.fitt  # noqa: B018
    assert not hasattr(brainrdl, "fitt")


def test_dir_lists_every_public_name() -> None:
    assert set(brainrdl.__all__) <= set(dir(brainrdl))


# Rooms


def names_of(room: str) -> list[str]:
    """Give the public names of a room, as its stub lists them."""
    return importlib.import_module(f"brainrdl.{room}").__all__ if room in OPEN_ROOMS else []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_belongs_there(room: str) -> None:
    text = inspect.getdoc(importlib.import_module(f"brainrdl.{room}")) or ""
    assert text.splitlines()[0].endswith((".", "?")) or text.splitlines()[0].count("?") == 1
    assert len(text.splitlines()) >= 3, f"say in a few lines what belongs into brainrdl/{room}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_names_each_of_its_modules(room: str) -> None:
    text = inspect.getdoc(importlib.import_module(f"brainrdl.{room}")) or ""
    missing = [path.stem for path in MODULES if path.parent.name == room and path.stem not in text]
    assert not missing, f"brainrdl/{room}/__init__.py does not say what belongs into {missing}"


def test_the_folders_of_tests_are_the_rooms() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - {"laws", "parity", "end_to_end", "adapters", "hostile", "experiments"} == set(ROOMS)
    adapters = {path.parent.name for path in (ROOT / "tests/adapters").glob("*/test_*.py")}
    assert adapters <= {path.parent.name for path in (ROOT / "data_adapters").glob("*/__init__.py")}


@pytest.mark.parametrize("room", OPEN_ROOMS)
def test_every_public_function_of_a_room_occurs_in_its_tests(room: str) -> None:
    tests = [*(ROOT / "tests" / room).glob("*.py"), *(ROOT / "tests").glob("*/test_*.py")]
    text = "\n".join(path.read_text() for path in tests)
    functions = [name for name in names_of(room) if inspect.isfunction(getattr(getattr(brainrdl, room), name))]
    missing = [name for name in functions if not re.search(rf"\b{name}\b", text)]
    assert not missing


# Public names and their documentation


def is_protocol(value: object) -> bool:
    return inspect.isclass(value) and getattr(value, "_is_protocol", False)


def has_example(value: object) -> bool:
    return re.search(r"^Examples\n-{8}$", inspect.getdoc(value) or "", re.MULTILINE) is not None


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_of_brainrdl_has_a_docstring_that_summarises_and_shows(name: str) -> None:
    value = getattr(brainrdl, name)
    assert (inspect.getdoc(value) or "").splitlines()[0].endswith(".")
    assert has_example(value), f"the docstring of brainrdl.{name} has no Examples section"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_name_of_brainrdl_is_in_the_reference(name: str) -> None:
    assert f"`brainrdl.{name}`" in (ROOT / "docs/reference/index.md").read_text()


@pytest.mark.parametrize("room", OPEN_ROOMS)
def test_the_public_names_of_a_room_are_documented_and_shown(room: str) -> None:
    found = {name: getattr(importlib.import_module(f"brainrdl.{room}"), name) for name in names_of(room)}
    code = {name: value for name, value in found.items() if inspect.isfunction(value) or inspect.isclass(value)}
    assert not [name for name, value in code.items() if not vars(value).get("__doc__", value.__doc__)], "no docstring"
    # A protocol is a promise without code: `brainrdl.testing` has the running example of keeping it.
    protocols = {name for name, value in code.items() if is_protocol(value)}
    assert not [name for name in code.keys() - protocols if not has_example(code[name])], "no Examples section"
    # `make shapes` checks protocols at run time
    undecorated = [name for name in protocols if not getattr(code[name], "_is_runtime_protocol", False)]
    assert not undecorated, "decorate with runtime_checkable"


@pytest.mark.parametrize("room", OPEN_ROOMS)
def test_a_room_has_a_page_in_the_reference_with_its_modules(room: str) -> None:
    page = (ROOT / "docs/reference" / f"{room}.md").read_text()
    stub = (ROOT / "brainrdl" / room / "__init__.pyi").read_text()
    homes = sorted(set(re.findall(r"^from \.(\w+) import", stub, re.MULTILINE)))
    assert sorted(re.findall(rf"^::: brainrdl\.{room}\.(\w+)$", page, re.MULTILINE)) == homes
    assert "<!-- made: rooms -->" in (ROOT / "docs/reference/index.md").read_text()  # all of them, from the code


def test_a_page_in_the_reference_has_a_room() -> None:
    pages = {path.stem for path in (ROOT / "docs/reference").glob("*.md")} - {
        "index",
        "errors",
        "cli",
        "a_to_z",
        "recipe_keys",
    }
    assert pages == set(OPEN_ROOMS)


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
_HARMLESS = {"Parallel", "delayed", "effective_n_jobs", "cpu_count", "LokyBackend", "get_active_backend"}
_HARMLESS |= {"get_reusable_executor", "parallel_config"}  # of joblib: they run functions of ours in processes of ours
_AT_THE_COMMAND_LINE = {"exits"}


def offences(source: str) -> Iterator[str]:
    """Yield what `source` does that library code may not, as ``"line 3: prints"``."""
    for node in ast.walk(ast.parse(source)):
        for offence in _offences_of(node):
            yield f"line {node.lineno}: {offence}"  # type: ignore[attr-defined]


def _offences_of(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Call):
        options = {kw.arg: ast.unparse(kw.value) for kw in node.keywords if kw.arg in ("weights_only", "allow_pickle")}
        return _offences_of_call(ast.unparse(node.func), options)
    if isinstance(node, ast.Import):
        return ["unpickles"] if _PICKLES & {alias.name.split(".")[0] for alias in node.names} else []
    if isinstance(node, ast.ImportFrom):
        harmless = all(alias.name.endswith("Error") or alias.name in _HARMLESS for alias in node.names)
        return ["unpickles"] if (node.module or "").split(".")[0] in _PICKLES and not harmless else []
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


def _offences_in(path: Path) -> list[str]:
    allowed = _AT_THE_COMMAND_LINE if path.parent.name == "cli" else set()
    return [offence for offence in offences(path.read_text()) if offence.split(": ")[1] not in allowed]


def test_library_code_neither_prints_nor_exits_nor_unpickles_nor_asserts() -> None:
    assert len(FILES) > 300
    found = {relative(path): _offences_in(path) for path in FILES}
    assert not {path: offences for path, offences in found.items() if offences}


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
        "from joblib import Parallel, delayed",
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
    files = [path for path in (ROOT / "data_adapters").rglob("*.py") if "\nREADER = " in path.read_text()]
    assert declared == {f"data_adapters.{path.parent.name}.{path.stem}" for path in files}


def test_the_command_line_answers_help() -> None:
    done = run(str(Path(sys.executable).with_name("brainrdl")), "--help")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
