"""Parts of pages that are made from the code when the site is built, so that they cannot differ from it.

MkDocs calls `on_config` and `on_page_markdown` (`hooks` in mkdocs.yml). A line ``<!-- made: NAME -->`` of a page is
replaced by what `PARTS[NAME]` returns; ``<!-- made: NAME WORD -->`` passes a word on.
"""

from __future__ import annotations

import html
import importlib
import inspect
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any

import typer

ROOT = Path(__file__).parents[1]

# Lists of the names that other projects document, for links to their pages. They are downloaded, so only if asked for.
INVENTORIES = (
    "https://docs.python.org/3/objects.inv",
    "https://numpy.org/doc/stable/objects.inv",
    "https://pandas.pydata.org/docs/objects.inv",
    "https://docs.pytorch.org/docs/stable/objects.inv",
    "https://rsatoolbox.readthedocs.io/en/stable/objects.inv",
    "https://nipy.org/nibabel/objects.inv",
    "https://matplotlib.org/stable/objects.inv",
)

ROOMS = (  # in the order of an analysis
    *("readers", "rdms", "dissimilarity", "similarity", "stimuli", "datasets", "models", "teachers", "loss", "runs"),
    *("distillation", "training", "evaluation", "inference", "searchlights", "rdm_models", "analysis", "plot"),
    *("reporting", "doctor", "recipe", "sharing", "testing", "demo"),
)

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "arrays": "Arrays",
        "tables": "Tables",
        "fmri_maps": "fMRI maps",
        "fmri_bold": "BOLD series",
        "electrophysiology": "M/EEG and recordings from neurons",
        "behaviour": "Behaviour",
        "releases": "Public data sets as they are downloaded",
    }
)

_MARK = re.compile(r"^<!-- made: (?P<part>[\w-]+)(?: (?P<word>\S+))? -->$", re.MULTILINE)

_EXAMPLE = re.compile(r"brainrdl (?:(?!brainrdl ).)+", re.DOTALL)


def on_config(config: Any) -> Any:
    """Set the address of the repository, once pyproject.toml has one, and the inventories, if they are asked for."""
    address = _project().get("urls", {}).get("Repository")
    if address:
        config["repo_url"] = address
        config["repo_name"] = "repository"
    inventories = os.environ.get("BRAINRDL_DOCS_INVENTORIES", "")
    if inventories:
        handlers = config["plugins"]["mkdocstrings"].config["handlers"]
        handlers["python"]["inventories"] = INVENTORIES if inventories == "all" else inventories.split(",")
    return config


on_config.mkdocs_priority = 100  # type: ignore[attr-defined]  # before mkdocstrings reads its options


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Replace the marks of a page."""
    return _MARK.sub(lambda mark: PARTS[mark["part"]](*([mark["word"]] if mark["word"] else [])), markdown)


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _first_sentence(text: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join(inspect.cleandoc(text or "").split("\n\n")[0].split()).replace("``", "`")


def _cell(text: str) -> str:
    """Write a text in a cell of a table: on one line, without marks that Markdown would use, except for code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("``", "`"))
    return "".join(part if part.startswith("`") else re.sub(r"([*_|])", r"\\\1", part) for part in parts)


def readers() -> dict[str, tuple[str, Any]]:
    """Find each reader of this package by name: its module, and the reader."""
    places = _project()["entry-points"]["brainrdl.readers"]
    return {name: (place.partition(":")[0], resolve_name(place)) for name, place in sorted(places.items())}


def _title(name: str) -> str:
    page = ROOT / f"docs/reference/formats/{name}.md"
    return page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def formats() -> str:
    """List the readers by family: what each reads."""
    return "\n".join(line for family, heading in FAMILIES.items() for line in _family(family, heading))


def _family(family: str, heading: str) -> Iterator[str]:
    yield from (f"\n## {heading}\n", "| file | what is read |", "| --- | --- |")
    for name, (module, reader) in readers().items():
        if module.split(".")[1] == family:
            yield f"| [{_title(name)}]({name}.md) | {_cell(_linked(reader.layout))} |"


def _linked(layout: str) -> str:
    """Write file endings and options as code."""
    return re.sub(
        r"(?<![\w`/])(?<!\w\()(\.[a-z]\w*(?:\.\w+)*|\w+=(?:'[^']*'|\w+)?)(?![\w`/])",
        r"`\1`",
        html.escape(layout, False),
    )


def reader(name: str) -> str:
    """Show the layout that a reader expects and its options, from its docstrings."""
    module, made = readers()[name]
    method = f"{module}.{type(made).__name__}.read"
    return (
        f"What is recognised: {_linked(made.layout)}.\n\n"
        f'`brainrdl.read(path)` uses the reader `{name}` for these files; `brainrdl.read(path, reader="{name}")` also '
        "for files with other names. [Options](#options) are keyword arguments of `read`. On the command line, write "
        "`--read KEY=VALUE`; in a recipe, a key of `teacher.options`.\n\n"
        f"## What is read\n\n::: {module}\n    options:\n      members: []\n\n"
        f"## Options\n\n::: {method}\n    options:\n      show_root_full_path: false\n      heading_level: 3\n"
        "      show_source: false\n"
    )


def rooms() -> str:
    """Describe the rooms: the first sentence of each, and its public names."""
    return "\n".join(map(_room, ROOMS))


def _room(room: str) -> str:
    says = _first_sentence(importlib.import_module(f"brainrdl.{room}").__doc__)
    linked = ", ".join(_link(name, path) for name, path in sorted(_public(room), key=_alphabetical))
    return f"### {room}\n\n{says} [More about {room}]({room}.md)\n\n{linked}\n"


def _link(name: str, path: str) -> str:
    return f"[`{name}`][{path}]"


def _alphabetical(entry: tuple[str, str]) -> tuple[str, str]:
    return entry[0].lower(), entry[1]


def _public(room: str) -> list[tuple[str, str]]:
    """Read the public names of a room from its stub: each name, and the full path where it is defined."""
    stub = ROOT / f"brainrdl/{room}/__init__.pyi"
    text = stub.read_text(encoding="utf-8") if stub.exists() else ""
    entries = re.findall(r"^from \.(\w+) import (\([^)]*\)|.*)$", text, re.MULTILINE)
    return [
        (name, f"brainrdl.{room}.{module}.{name}")
        for module, names in entries
        for name in re.findall(r"\bas (\w+)", names)
    ]


def a_to_z() -> str:
    """List every public name, by letter."""
    import griffe

    names = sorted((entry for room in ROOMS for entry in _public(room)), key=_alphabetical)
    package = griffe.load("brainrdl", search_paths=[str(ROOT)])
    letters = dict.fromkeys(name[0].upper() for name, _ in names)
    return "\n".join(
        line
        for letter in letters
        for line in (
            *(f"\n## {letter}\n", "| name | room | what it is |", "| --- | --- | --- |"),
            *(_entry(package, *entry) for entry in names if entry[0][0].upper() == letter),
        )
    )


def _entry(package: Any, name: str, path: str) -> str:
    documented = package[path.removeprefix("brainrdl.")].docstring
    says = _cell(_first_sentence(documented.value if documented else ""))
    room = path.split(".")[1]
    return f"| {_link(name, path)} | [{room}]({room}.md) | {says} |"


def recipe_keys() -> str:
    """List every key of a recipe: its allowed values, its default, and what it does."""
    from brainrdl.recipe.schema import Recipe, section_of

    sections = ((name, section_of(field.annotation)) for name, field in Recipe.model_fields.items())
    return "\n".join(line for name, section in sections for line in _section(name, section))


def _section(name: str, section: Any) -> Iterator[str]:
    yield from (f"\n## {name}\n", _first_sentence(section.__doc__) + "\n")
    yield from ("| key | what it does | values | default |", "| --- | --- | --- | --- |")
    for key, field in section.model_fields.items():
        says, values = _cell(str(field.description)), _cell(_values(field))
        yield f'| <a id="{name}.{key}"></a>`{key}` | {says} | {values} | {_default(field)} |'


def _values(field: Any) -> str:
    from brainrdl.recipe.starter import allowed

    return re.sub(
        r"\{([^}]*)\}", lambda found: ", ".join(f"`{one.strip()}`" for one in found[1].split(",")), allowed(field)
    )


def _default(field: Any) -> str:
    from brainrdl.recipe.starter import as_yaml

    return "required" if field.is_required() else f"`{as_yaml(field.get_default(call_default_factory=True))}`"


def commands() -> str:
    """Describe every command: usage, arguments, options, and the examples of its help."""
    from brainrdl.cli.app import app

    top = typer.main.get_command(app)
    return "\n".join(line for name, command in _commands(top) for line in _command(name, command))


def _commands(group: Any, before: str = "brainrdl") -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    yield from (f"\n## {name}\n", inspect.cleandoc(command.help or ""), "")
    examples = _examples(command.epilog or "")
    if examples:
        yield from ("```bash", *examples, "```", "")
    given = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    yield from ("| argument or option | what it does | default |", "| --- | --- | --- |")
    yield from map(_parameter, given)


def _examples(epilog: str) -> list[str]:
    return [" ".join(found.split()).replace("\\[", "[") for found in _EXAMPLE.findall(epilog)]


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        called = f"`{(parameter.metavar or parameter.name).upper()}{' ...' if parameter.nargs == -1 else ''}`"
    else:
        value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
        called = ", ".join(f"`{word}{value if word.startswith('--') else ''}`" for word in reversed(parameter.opts))
    return f"| {called} | {_cell(_plain(parameter.help or ''))} | {_given_default(parameter)} |"


def _plain(text: str) -> str:
    return html.escape(text.replace("\\[", "["), quote=False)


def _given_default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default in (None, False, [], ()) or callable(default):
        return ""
    return f"`{' '.join(map(str, default)) if isinstance(default, list | tuple) else default}`"


def changelog() -> str:
    """Return the changelog without its heading, with links from where the page is."""
    return _file_of_root("CHANGELOG.md", "")


def contributing() -> str:
    """Return the guide for contributors without its heading, with links from where the page is."""
    return _file_of_root("CONTRIBUTING.md", "../")


def _file_of_root(name: str, up: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8").partition("\n")[2].replace("](docs/", f"]({up}")


def version() -> str:
    """Say which version the pages describe."""
    return f"*Version {_project()['version']}* · [changelog](changelog.md) · {_project()['license']} licence"


PARTS = MappingProxyType(
    {
        "a-to-z": a_to_z,
        "changelog": changelog,
        "commands": commands,
        "contributing": contributing,
        "formats": formats,
        "reader": reader,
        "recipe-keys": recipe_keys,
        "rooms": rooms,
        "version": version,
    }
)
