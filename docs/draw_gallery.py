"""Draw the gallery: ``python docs/draw_gallery.py [NAME ...]`` writes docs/gallery/NAME.png and docs/gallery.md.

Each entry is a file docs/gallery/NAME.py with its title as docstring and a function ``draw()`` that returns a
matplotlib Figure. An entry with a function ``film(path)`` also has docs/gallery/NAME.gif, which the page shows instead.
Files whose names begin with "_" hold what several entries need. Real data come from ``$BRAINRDL_DATA``.
"""

from __future__ import annotations

import argparse
import ast
import html
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

GALLERY = Path(__file__).parent / "gallery"

PAGE = GALLERY.with_suffix(".md")

DPI, PHONE = 170, 3.6  # of pictures; inches that are legible on a phone

# Sections of the page, with the words of which one is in the name of each of their entries
SECTIONS = {
    "RDMs": ("rdm",),
    "Maps of conditions": ("mds", "tsne", "umap"),
    "Pairs and conditions": ("pair", "influence"),
    "Scores": ("model", "scores", "trade"),
    "Training": ("training", "film"),
    "Time": ("time",),
    "Brains": ("searchlight", "brain"),
}

_HEAD = """# Gallery

Click on a picture to see the code that draws it. The pictures are drawn by `docs/draw_gallery.py`.
Data are real (human and monkey IT, the 92 images of [Kriegeskorte et al.,
2008](https://doi.org/10.1016/j.neuron.2008.10.043), and the subjects of [Cichy et al.,
2014](https://doi.org/10.1038/nn.3635)), except for maps of the brain and scores over time, which are simulated.
{thumbnails}
"""

_THUMBNAIL = """<a href="#{name}" style="display: block; font-size: .65rem; line-height: 1.3">
<img src="{picture}" alt="" style="display: block; width: 100%; height: 9rem; object-fit: contain; background: white">
{title}</a>"""

_GRID = """
<h2>{section}</h2>
<div style="display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem">
{cells}
</div>
"""

_ENTRY = """
## {title} {{ #{name} }}

![{title}](gallery/{picture}){wide}

{text}

```python
{code}```
"""


def entries() -> list[Path]:
    """List the files of the gallery, by section."""
    files = sorted(path for path in GALLERY.glob("*.py") if not path.name.startswith("_"))
    return sorted(files, key=lambda path: list(SECTIONS).index(section_of(path.stem)))


def section_of(name: str) -> str:
    """Return the last section of which a word is in the name."""
    found = [section for section, words in SECTIONS.items() if any(word in name for word in words)]
    if not found:
        raise SystemExit(f"docs/gallery/{name}.py belongs to no section: add a word of its name to SECTIONS")
    return found[-1]


def load(path: Path) -> ModuleType:
    """Import an entry; what several entries need is beside it."""
    if str(GALLERY) not in sys.path:
        sys.path.insert(0, str(GALLERY))
    spec = importlib.util.spec_from_file_location(f"gallery_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def picture_of(path: Path) -> str:
    """Name the picture of an entry: its film, if it has one."""
    has_film = any(isinstance(part, ast.FunctionDef) and part.name == "film" for part in _tree(path).body)
    return f"{path.stem}.gif" if has_film else f"{path.stem}.png"


def title_of(path: Path) -> str:
    """Return the first line of the docstring of an entry, without its stop."""
    return (ast.get_docstring(_tree(path)) or "").splitlines()[0].rstrip(".")


def _wide(path: Path) -> str:
    """Mark a picture that is wider than a phone: stylesheets/extra.css lets it scroll there."""
    from PIL import Image

    with Image.open(path.parent / picture_of(path)) as picture:
        return "{ .wide }" if picture.width > PHONE * DPI else ""


def _text_of(path: Path) -> str:
    draw = next(part for part in _tree(path).body if isinstance(part, ast.FunctionDef) and part.name == "draw")
    return ast.get_docstring(draw) or ""


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def page() -> str:
    """Write the page: thumbnails by section, then each picture with its code."""
    files = entries()
    grids = []
    for section in SECTIONS:
        cells = [
            _THUMBNAIL.format(name=path.stem, picture=picture_of(path), title=html.escape(title_of(path)))
            for path in files
            if section_of(path.stem) == section
        ]
        grids += [_GRID.format(section=section, cells="\n".join(cells))] if cells else []
    shown = [
        _ENTRY.format(
            title=title_of(path), name=path.stem, picture=picture_of(path), wide=_wide(path), text=_text_of(path),
            code=_code_of(path),
        )
        for path in files
    ]  # fmt: skip
    return _HEAD.format(thumbnails="".join(grids)) + "".join(shown)


def _code_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def draw(path: Path) -> None:
    """Write the picture of an entry, and its film."""
    import matplotlib.pyplot as plt

    module = load(path)
    module.draw().savefig(path.with_suffix(".png"), dpi=DPI, bbox_inches="tight", pad_inches=0.05)
    plt.close("all")
    if hasattr(module, "film"):
        module.film(path.with_suffix(".gif"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="entries to draw (default: all)")
    parser.add_argument("--page", action="store_true", help="write only the page")
    asked = parser.parse_args()
    for path in entries():
        if not asked.page and (not asked.names or path.stem in asked.names):
            print(path.stem)
            draw(path)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
