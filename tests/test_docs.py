"""The pages: their blocks run, their links lead somewhere, and the menu holds every page.

The ``python`` blocks of a page run in order in one namespace, and ``brainrdl ...`` in its ``bash`` blocks through the
command line, in a folder that holds `inputs`. No part of brainrdl is replaced. A block under
``<!-- not run: reason -->`` is left out; one under ``<!-- file: NAME -->`` is written to that file.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rsatoolbox.rdm import RDMs

from brainrdl import rdms
from brainrdl.cli import app
from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.stimuli.named_images import Stimuli
from brainrdl.stimuli.transforms import default_transform

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ALL_PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GALLERY = DOCS / "gallery.md"  # made by docs/draw_gallery.py; tests/plot/test_gallery.py runs its code
PAGES = [page for page in ALL_PAGES if DOCS / "decisions" not in page.parents and page != GALLERY]
_LONG = {  # pages whose blocks train for more than a few seconds
    *("concepts/held_out.md", "how_to/audio_and_video.md", "how_to/fit_several_regions.md", "how_to/plain_rsa.md"),
    *("how_to/take_the_model_away.md", "how_to/with_a_task.md"),
}
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


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty small images, their categories, and RDMs of three simulated subjects, in files of all kinds."""
    folder = tmp_path_factory.mktemp("inputs")
    names = [f"{category}_{k}" for category in ("body", "face", "house", "tool") for k in range(1, 6)]
    _write_images(folder / "images", names)
    _write_images(folder / "labelled", labelled := [f"{name}_more" for name in names], seed=2)
    for table, listed in (("labels.csv", names), ("labelled.csv", labelled)):
        rows = "".join(f"{name},{name.split('_')[0]}\n" for name in listed)
        (folder / table).write_text(f"stimulus,category\n{rows}")
    others = [f"{category}_{k}" for category in ("lamp", "tree") for k in range(1, 5)]
    _write_images(folder / "other", others, seed=1)
    seen = Stimuli.from_folder(folder / "other", default_transform(8, "none")).images().flatten(1)
    simulate_subjects(seen, others, n_subjects=4, n_voxels=40, noise=0.5, roi="IT", seed=1).save(
        str(folder / "other.h5"), file_type="hdf5"
    )
    patterns = Stimuli.from_folder(folder / "images", default_transform(8, "none")).images().flatten(1)
    it, v1 = (
        simulate_subjects(patterns[:, half], names, n_subjects=3, n_voxels=40, noise=0.5, roi=roi)
        for roi, half in (("IT", slice(0, None, 2)), ("V1", slice(1, None, 2)))
    )
    it.save(str(folder / "it.h5"), file_type="hdf5")
    RDMs(it.get_vectors(), pattern_descriptors={"conds": names}).save(str(folder / "measured.h5"), file_type="hdf5")
    rdms.concat([v1, it]).save(str(folder / "regions.h5"), file_type="hdf5")
    _write_other_formats(folder, it, names)
    return folder


def _write_images(folder: Path, names: list[str], seed: int = 0) -> None:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    categories = dict.fromkeys(name.split("_")[0] for name in names)
    tint = {category: rng.integers(0, 128, (8, 8, 3)) for category in categories}
    for name in names:
        pixels = tint[name.split("_")[0]] + rng.integers(0, 128, (8, 8, 3))
        Image.fromarray(pixels.astype(np.uint8)).resize((64, 64)).save(folder / f"{name}.png")


def _write_other_formats(folder: Path, it: Any, names: list[str]) -> None:
    from scipy.io import savemat

    squares = it.get_matrices()
    for name in ("it.npy", "other.npy"):
        np.save(folder / name, squares)
    np.savez(folder / "it.npz", rdms=squares, names=names, subjects=["s1", "s2", "s3"], roi="IT")
    savemat(folder / "it.mat", {"IT_RDMs": squares})
    (folder / "names.txt").write_text("\n".join(names) + "\n")
    for onsets in ("face.txt", "house.txt"):
        (folder / onsets).write_text("10 8 1\n50 8 1\n")
    np.save(folder / "train_90.npy", np.stack([np.arange(20), np.roll(range(20), 1), np.roll(range(20), 2)], 1))
    shutil.copy(folder / "names.txt", folder / "things_concepts.txt")
    rows = [",".join(map(str, [name, *row])) for name, row in zip(names, squares[0], strict=True)]
    (folder / "it.csv").write_text("\n".join([",".join(["", *names]), *rows]) + "\n")
    i, j = np.triu_indices(len(names), 1)
    long = [
        f"{names[a]},{names[b]},{squares[s, a, b]},s{s + 1},IT" for s in range(3) for a, b in zip(i, j, strict=True)
    ]
    (folder / "pairs.csv").write_text("\n".join(["a,b,dissimilarity,subject,roi", *long]) + "\n")


@pytest.fixture
def here(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the inputs."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
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
def test_the_blocks_of_a_page_run_in_order(page: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    elsewhere = [line for line in left_out if not line.startswith(("docs/examples/", "docs/experiments/"))]  # minutes
    assert len(elsewhere) <= 30, elsewhere  # downloads, clusters, data that are not ours to hand on
    assert sum(_is_run(block) for _, block in blocks) > 2 * len(left_out)


def test_the_description_on_a_package_index_has_no_link_into_the_repository() -> None:
    hooks = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]
    text = readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for rule in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    targets = [match["target"] for match in _LINK.finditer(_without_code(text))]
    assert targets
    assert not [target for target in targets if not target.startswith(("https://", "#"))]
    assert [block.text for block in _blocks(text)] == [block.text for block in _blocks(readme)]


@pytest.mark.parametrize("page", ALL_PAGES, ids=_id)
def test_relative_links_lead_to_files(page: Path) -> None:
    targets = [match["target"] for match in _LINK.finditer(_without_code(page.read_text(encoding="utf-8")))]
    paths = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    missing = [path for path in paths if not (page.parent / path).exists()]
    assert not missing


def test_every_page_stands_in_the_menu_once() -> None:
    entries = sorted(_entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert entries == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def _entries(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [entry for part in (nav.values() if isinstance(nav, dict) else nav) for entry in _entries(part)]


def test_a_page_with_a_broken_block_is_noticed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = here / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\n\n```python\ny = x + z\n```\n")
    with pytest.raises(NameError, match="'z'") as caught:
        test_the_blocks_of_a_page_run_in_order(page, here, monkeypatch)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 8)
