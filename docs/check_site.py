"""Check the built site: markup that is shown as text, links inside the site, and, when asked, links to other sites.

python docs/check_site.py site                the first two; part of `make docs`
python docs/check_site.py site --external     also request every other address once; needs a network connection
python docs/check_site.py site --list         print the addresses instead
"""

from __future__ import annotations

import argparse
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

_MARKUP = re.compile(
    r"`|:(?:func|class|meth|mod|ref|doc|math|attr):|(?<!\d)\*\*|>>> |\.\. \w+::|^!!! |\w::(?=\s|$)|\]\(|<!--|:::|\{\{"
    r"|\[\w[^\]]*\]\[",
    re.MULTILINE,
)
_LEFT_OUT = frozenset({"pre", "code", "script", "style", "svg", "math"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_BLOCKS = frozenset({"p", "li", "td", "th", "h1", "h2", "h3", "h4", "h5", "dd", "dt", "figcaption", "summary"})


@dataclass
class Page(HTMLParser):
    """The prose inside a page's article, the anchors, and the links of the whole page."""

    text: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag in _BLOCKS:
            self.text.append("\n")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while tag in self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "article" in self.open and not _LEFT_OUT & set(self.open):
            self.text.append(data)


def read_page(path: Path) -> Page:
    """Parse an HTML file."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def leaks(page: Page) -> Iterator[str]:
    """Find markup in the prose of a page, each with the words around it."""
    text = "".join(page.text)
    for match in _MARKUP.finditer(text):
        yield " ".join(text[max(0, match.start() - 40) : match.end() + 40].split())


def is_external(link: str) -> bool:
    """Say whether a link leads to another site."""
    return bool(urlparse(link).scheme or link.startswith("//"))


def broken(name: Path, pages: dict[Path, Page], root: Path) -> Iterator[str]:
    """Find links of a page to files and anchors of the site that are not there."""
    for link in pages[name].links:
        if is_external(link) or not link or link.startswith("/"):  # the page 404.html has absolute links
            continue
        target, anchor = urldefrag(link)
        path = (name.parent / unquote(target)).resolve() if target else name
        path = path / "index.html" if path.is_dir() else path
        no_file = not path.is_relative_to(root) or not path.exists()
        if no_file or (anchor and path in pages and unquote(anchor) not in pages[path].anchors):
            yield link


def reply(address: str) -> str:
    """Request an address, and return what is wrong, or nothing."""
    asked = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(asked, timeout=20):
            return ""
    except urllib.error.HTTPError as error:  # publishers refuse programs with 403, which says nothing about the page
        return "" if error.code in (403, 405, 429) else str(error.code)
    except OSError as error:
        return str(error)


def main() -> int:
    """Print what is wrong; the exit status is 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="request every address of another site")
    parser.add_argument("--list", action="store_true", help="print every address of another site")
    asked = parser.parse_args()
    root = asked.site.resolve()
    pages = {path: read_page(path) for path in sorted(root.rglob("*.html"))}
    if not pages:
        print(f"no pages in {root}")
        return 1
    found = [f"{name.relative_to(root)}: markup: {leak}" for name, page in pages.items() for leak in leaks(page)]
    found += [
        f"{name.relative_to(root)}: no such target: {link}" for name in pages for link in broken(name, pages, root)
    ]
    addresses = sorted(
        {urldefrag(link)[0] for page in pages.values() for link in page.links if link.startswith("http")}
    )
    if asked.list:
        print("\n".join(addresses))
    if asked.external:
        found += [f"{address}: {wrong}" for address in addresses if (wrong := reply(address))]
    print(
        "\n".join(found) or f"{len(pages)} pages, {len(addresses)} addresses of other sites: nothing is wrong",
        file=sys.stderr,
    )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
