"""The pages: their blocks run, their links lead somewhere, and the menu holds every page.

The ``python`` blocks of a page run in order in one namespace, and ``brainrdl ...`` in its ``bash`` blocks through the
command line, in an empty folder: a page makes the files that it needs, most pages with ``brainrdl data example``. No
part of brainrdl is replaced. A block under ``<!-- not run: reason -->`` is left out. A block under
``<!-- file: NAME -->`` is written to that file.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from brainrdl.cli import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ALL_PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GALLERY = DOCS / "gallery.md"  # made by docs/draw_gallery.py; tests/plot/test_gallery.py runs its code
TUTORIALS = DOCS / "tutorials"  # made by docs/run_tutorials.py; tests/test_tutorials.py runs the scripts
_NOT_RUN = {DOCS / "decisions", TUTORIALS}
PAGES = [page for page in ALL_PAGES if not _NOT_RUN & set(page.parents) and page != GALLERY]
_LONG = {  # pages whose blocks train for more than a few seconds
    *("concepts/held_out.md", "how_to/audio_and_video.md", "how_to/beyond_reweighting.md", "how_to/cluster.md"),
    *("how_to/fit_several_regions.md", "how_to/from_frrsa.md", "how_to/from_net2brain.md", "how_to/my_own_teacher.md"),
    *("how_to/plain_rsa.md", "how_to/report.md", "how_to/take_the_model_away.md", "how_to/task_weights.md"),
    *("choosing/layer.md", "concepts/noise_ceiling.md", "how_to/doctor.md", "how_to/my_own_rdm.md"),
    *("reading/fooling_yourself.md", "how_to/matlab.md", "how_to/raw_fmri.md", "how_to/with_a_task.md"),
    "quickstart.md",
}
_REAL_DATA = {DOCS / "quickstart.md"}
_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>\w*)")
_COMMENT = re.compile(r"<!-- (?P<what>not run|file): *(?P<told>.*?) *-->")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, first line in the page, text, and the comment on the line before."""

    language: str
    line: int
    text: str
    what: str
    told: str


def _blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    n = 0
    while n < len(lines):
        opened = _FENCE.match(lines[n])
        if not opened:
            n += 1
            continue
        comment = _COMMENT.search(lines[n - 1]) if n else None
        end = next(k for k in range(n + 1, len(lines)) if lines[k].strip() == opened["ticks"])
        body = "\n".join(line.removeprefix(opened["indent"]) for line in lines[n + 1 : end]) + "\n"
        yield Block(opened["language"], n + 1, body, *((comment["what"], comment["told"]) if comment else ("", "")))
        n = end + 1


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL))


def _is_run(block: Block) -> bool:
    return block.language in ("python", "bash") and block.what != "not run"


def _runs(page: Path) -> list[Block]:
    return [block for block in _blocks(page.read_text(encoding="utf-8")) if _is_run(block)]


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: a page has only the files that it makes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run_python(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    padded = "\n" * block.line + block.text  # so that a traceback names the line of the page
    exec(compile(padded, str(page), "exec"), namespace)


def _run_bash(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "brainrdl", f"only brainrdl is run here, mark the block as not run: {line}"
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert not ended.value.code, line


def _marked(page: Path) -> Any:
    return pytest.param(page, marks=pytest.mark.slow if _id(page).removeprefix("docs/") in _LONG else ())


@pytest.mark.parametrize("page", [_marked(page) for page in PAGES if _runs(page)], ids=_id)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if page in _REAL_DATA:
        request.getfixturevalue("data_folder")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in _blocks(page.read_text(encoding="utf-8")):
        if block.what == "file":
            (here / block.told).write_text(block.text, encoding="utf-8")
        if _is_run(block):
            _run_python(block, page, namespace) if block.language == "python" else _run_bash(block, monkeypatch)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    blocks = [(page, block) for page in PAGES for block in _blocks(page.read_text(encoding="utf-8"))]
    left_out = [f"{_id(page)}:{block.line} {block.told}" for page, block in blocks if block.what == "not run"]
    assert not [line for line in left_out if line.endswith(" ")]
    # Scripts of minutes or hours, and the code of other tools.
    others = ("docs/examples/", "docs/experiments/", "docs/how_to/from_")
    elsewhere = [line for line in left_out if not line.startswith(others)]
    assert len(elsewhere) <= 30, elsewhere  # downloads, clusters, data that are not ours to hand on
    assert sum(_is_run(block) for _, block in blocks) > 2 * len(left_out)


def test_the_readme_names_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"Version {version} (" in readme
    assert f"version = {{{version}}}" in readme


def test_the_description_on_a_package_index_has_no_link_into_the_repository() -> None:
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]
    text = readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for rule in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    targets = [match["target"] for match in _LINK.finditer(_without_code(text))]
    assert targets
    assert not [target for target in targets if not target.startswith(("https://", "#"))]
    assert [block.text for block in _blocks(text)] == [block.text for block in _blocks(readme)]


def test_relative_links_lead_to_files() -> None:
    assert len(ALL_PAGES) > 100
    assert not {_id(page): _missing(page) for page in ALL_PAGES if _missing(page)}


def _missing(page: Path) -> list[str]:
    targets = [match["target"] for match in _LINK.finditer(_without_code(page.read_text(encoding="utf-8")))]
    paths = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    paths = [re.sub(r"\.ipynb$", ".py", path) for path in paths]  # notebooks are made from scripts, with the site
    return [path for path in paths if not (page.parent / path).exists()]


def test_every_page_stands_in_the_menu_once() -> None:
    entries = sorted(_entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert entries == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def _entries(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [entry for part in (nav.values() if isinstance(nav, dict) else nav) for entry in _entries(part)]


def test_a_page_with_a_broken_block_is_noticed(
    here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    page = here / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\n\n```python\ny = x + z\n```\n")
    with pytest.raises(NameError, match="'z'") as caught:
        test_the_blocks_of_a_page_run_in_order(page, here, monkeypatch, request)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 8)
