"""The reference: the public names of a room, and the parts of pages that are made from the code."""

from __future__ import annotations

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml

from brainrdl.cli.app import app
from brainrdl.recipe.schema import Recipe, section_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def _script(name: str) -> ModuleType:
    """Load a script of the documentation, which is not part of a package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    return _script("made_parts")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return _script("check_site")


def test_the_reference_shows_the_names_in_the_stub_and_no_others() -> None:
    griffe = pytest.importorskip("griffe", reason="griffe is not installed (make docs installs it)")
    extensions = griffe.load_extensions(str(DOCS / "public_names.py"))
    catalogue = griffe.load("brainrdl.datasets.catalogue", search_paths=[str(ROOT)], extensions=extensions)
    shown = {name for name, member in catalogue.members.items() if member.is_public}
    assert shown == {"DataFile", "DataInfo", "cache_folder", "info", "names"}
    assert "known_sets" in catalogue.members


def test_classes_of_rsatoolbox_have_the_names_of_its_site() -> None:
    griffe = pytest.importorskip("griffe", reason="griffe is not installed (make docs installs it)")
    extensions = griffe.load_extensions(str(DOCS / "public_names.py"))
    module = griffe.load("brainrdl.evaluation.comparison", search_paths=[str(ROOT)], extensions=extensions)
    assert module["RDMs"].target_path == "rsatoolbox.rdm.rdms.RDMs"


def test_docstrings_are_shown_as_markdown() -> None:
    pytest.importorskip("griffe", reason="griffe is not installed (make docs installs it)")
    as_markdown = _script("docstring_text").as_markdown
    assert as_markdown("A layout::\n\n    a.nii   maps\n            of one run\n") == (
        "A layout:\n\n|  |  |\n| --- | --- |\n| `a.nii` | maps of one run |\n"
    )
    assert as_markdown("A file::\n\n    ,cat,dog   names\n    cat,0,1\n    dog,1,0\n").startswith(
        "A file:\n\n    ,cat,dog"
    )
    assert as_markdown("An `RDMTeacher`, a `name`.") == (
        "An [`RDMTeacher`][brainrdl.teachers.rdm_teacher.RDMTeacher], a `name`."
    )
    assert as_markdown(">>> '::'") == ">>> '::'"


def test_parameters_that_are_described_together_keep_their_own_defaults() -> None:
    griffe = pytest.importorskip("griffe", reason="griffe is not installed (make docs installs it)")
    extensions = griffe.load_extensions(str(DOCS / "docstring_text.py"))
    module = griffe.load(
        "brainrdl.analysis.plain_rsa", search_paths=[str(ROOT)], extensions=extensions, docstring_parser="numpy"
    )
    sections = {section.kind.value: section.value for section in module["rsa"].docstring.parsed}
    shown = {one.name: str(one.default) for one in sections["parameters"]}
    assert (shown["by"], shown["names"], shown["average_over"]) == ("'stimulus'", "None", "()")


def test_the_first_page_shows_the_version_of_the_package(parts: ModuleType) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"Version {version}" in parts.on_page_markdown((DOCS / "index.md").read_text(encoding="utf-8"))


def test_every_reader_has_a_page(parts: ModuleType) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    pages = {page.stem: page for page in (DOCS / "reference/formats").glob("*.md") if page.stem != "index"}
    assert set(pages) == set(declared["brainrdl.readers"])
    assert [name for name, page in pages.items() if f"<!-- made: reader {name} -->" not in page.read_text()] == []
    index = parts.formats()
    assert [name for name in pages if f"({name}.md)" not in index] == []


def test_the_page_of_a_reader_shows_its_layout_and_the_options_of_read(parts: ModuleType) -> None:
    page = parts.on_page_markdown("# NIfTI\n\n<!-- made: reader nifti -->\n")
    assert "`.nii.gz`" in page
    assert "::: data_adapters.fmri_maps.nifti\n" in page
    assert "::: data_adapters.fmri_maps.nifti.Nifti.read\n" in page


def test_the_reference_lists_every_key_of_a_recipe_with_its_default(parts: ModuleType) -> None:
    rows = parts.recipe_keys()
    keys = {
        f"{name}.{key}"
        for name, field in Recipe.model_fields.items()
        for key in section_of(field.annotation).model_fields
    }
    assert set(re.findall(r'id="([\w.]+)"', rows)) == keys
    assert "| number, above 0 | `0.001` |" in next(row for row in rows.splitlines() if 'id="fit.lr"' in row)
    assert "| required |" in next(row for row in rows.splitlines() if 'id="student.model"' in row)


def test_the_reference_lists_every_command_with_its_options_and_an_example(parts: ModuleType) -> None:
    text = parts.commands()
    described = dict(re.findall(r"^## (brainrdl [^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    group = typer.main.get_command(app)
    assert {name.split()[1] for name in described} == set(group.commands)
    assert [name for name, shown in described.items() if f"```bash\n{name}" not in shown] == []
    fit = described["brainrdl fit"]
    assert [
        option
        for parameter in group.commands["fit"].params
        for option in parameter.opts
        if option.startswith("-") and f"`{option}" not in fit
    ] == []
    assert "brainrdl sweep recipe.yaml fit.rdm_weight=0,1 student.layers=[conv1],[conv2] --set fit.steps=20" in text


def test_every_room_is_in_the_reference_with_its_public_names(parts: ModuleType) -> None:
    assert set(parts.ROOMS) == {stub.parent.name for stub in (ROOT / "brainrdl").glob("*/__init__.pyi")}
    assert "[`RDMTeacher`][brainrdl.teachers.rdm_teacher.RDMTeacher]" in parts.rooms()


def test_the_index_lists_names_with_what_they_are(parts: ModuleType) -> None:
    pytest.importorskip("griffe", reason="griffe is not installed (make docs installs it)")
    rows = parts.a_to_z().splitlines()
    (row,) = [row for row in rows if row.startswith("| [`spearman`]")]
    assert row.startswith("| [`spearman`][brainrdl.similarity.comparators.spearman] | [similarity](similarity.md) | ")
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_menu_has_at_most_eight_entries_at_the_top() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert len(menu) <= 8


def test_the_check_of_the_site_finds_markup_and_links_that_lead_nowhere(site: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(
        '<article><h1 id="a">A</h1><p>Layout:: a <code>**options</code>, `b` &amp; 2**3</p>'
        '<a href="#a">x</a><a href="#b">x</a><a href="no.html">x</a><a href="https://example.org/x">x</a></article>'
    )
    read = site.read_page(page)
    assert [leak.count("::") + leak.count("`b`") for leak in site.leaks(read)] == [2, 2, 2]
    assert list(site.broken(page, {page: read}, tmp_path)) == ["#b", "no.html"]
