"""What every page is made of: the answer, figures, tables, methods and caveats; and how they become one HTML file.

The page loads nothing: figures, style and script are embedded, and its content security policy allows no other script
and no other source.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainrdl._core.files import atomic
from brainrdl._core.progress import track_slow
from brainrdl.reporting.bibliography import bibtex
from brainrdl.reporting.drawings import Drawing
from brainrdl.reporting.hover import Store, boxes_of
from brainrdl.reporting.tables import Table
from brainrdl.similarity.traits import Reference
from brainrdl.stimuli.named_images import Stimuli

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"

_PIXELS_PER_INCH = 100  # of the page; images have twice as many


@dataclass(frozen=True)
class Block:
    """A section of the page: a heading, figures, tables, and tables that are folded away; `kind` is a CSS class."""

    heading: str
    figures: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()
    kind: str = ""


@dataclass(frozen=True)
class Page:
    """The content of a page, in the order in which it is shown.

    Attributes
    ----------
    question : str
        What the page answers.
    answer : sequence of str
        The result in words, one paragraph each.
    blocks : sequence of Block
        Figures and tables.
    methods : sequence of str
        Draft of a methods section, one paragraph each.
    references : sequence of Reference
        What the methods cite.
    caveats : sequence of str
        What the page cannot show.
    facts, provenance : sequence of (term, value)
    settings : mapping of heading to JSON
        Folded away.
    versions : mapping of package to version
    title : str, optional
        By default the question.
    simulated : bool
        Whether to announce simulated data.
    """

    question: str
    answer: Sequence[str]
    blocks: Sequence[Block]
    methods: Sequence[str]
    references: Sequence[Reference]
    caveats: Sequence[str]
    facts: Sequence[tuple[str, str]] = ()
    provenance: Sequence[tuple[str, str]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    title: str | None = None
    simulated: bool = False


def write_page(page: Page, path: Path, stimuli: Stimuli | None = None, *, progress: bool = True) -> Path:
    """Write a page completely or not at all; `stimuli` gives the thumbnails of pairs."""
    text = render(page, stimuli, progress=progress)
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def render(page: Page, stimuli: Stimuli | None = None, *, progress: bool = True) -> str:
    from markupsafe import Markup

    store = Store(stimuli)
    blocks = _embedded(page.blocks, store, progress)
    entries = bibtex(page.references, page.versions)
    return filled(
        "page.html.j2", page=page, blocks=blocks, matrices=Markup(store.text()), bibtex=entries,
        bibtex_file=base64.b64encode(entries.encode()).decode(), date=datetime.now(UTC).date().isoformat(),
    )  # fmt: skip


def filled(template: str, **content: Any) -> str:
    """Fill a template of the room, with the style and the script of all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("brainrdl.reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"script": Markup(script), "style": Markup(_own("page.css")), "script_digest": digest}
    return environment.get_template(template).render(**own, **content)


@cache
def _own(name: str) -> str:
    return files("brainrdl.reporting").joinpath(name).read_text(encoding="utf-8")


def _embedded(blocks: Sequence[Block], store: Store, progress: bool) -> list[dict[str, Any]]:
    """Replace the figures of each block by images; the slow part of a page."""
    places = [(number, drawing) for number, block in enumerate(blocks) for drawing in block.figures]
    shown = list(track_slow(((n, embed(drawing, store)) for n, drawing in places), "figures", len(places), progress))
    return [vars(block) | {"figures": [one for n, one in shown if n == k]} for k, block in enumerate(blocks)]


def embed(drawing: Drawing, store: Store | None = None) -> dict[str, Any]:
    """Draw the figure, its form for phones, and the values of its matrices into the page."""
    narrow = _image(drawing.narrow) if drawing.narrow else None
    image, number = _image(drawing.figure), None
    if drawing.hover and store is not None:
        forms = (boxes_of(figure) if figure else [] for figure in (drawing.figure, drawing.narrow))
        number = store.add(drawing.hover, *forms)
    return {**image, "alt": drawing.alt, "caption": drawing.caption, "narrow": narrow, "rdm": number}


def _image(figure: Figure) -> dict[str, Any]:
    """Draw a figure as PNG; one with images has 256 colours, which makes it three times smaller."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    figure.set_dpi(2 * _PIXELS_PER_INCH)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").resize((2 * width, 2 * height))
    if any(ax.images for ax in figure.axes):
        picture = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(buffer, "PNG", compress_level=6)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": source, "width": width, "height": height}
