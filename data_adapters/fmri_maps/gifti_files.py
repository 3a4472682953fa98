"""Checks of what a GIFTI file declares, before nibabel loads it."""

from __future__ import annotations

import base64
import math
import zlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ParserCreate

from nibabel.gifti.util import gifti_encoding_codes
from nibabel.nifti1 import data_type_codes

from brainrdl._core.errors import refuse
from data_adapters.fmri_maps.volumes import check_declared


def check_gifti(path: Path) -> None:
    """Refuse entities, links to other files, and arrays larger than they declare, before any is loaded."""
    declared: list[int] = []
    texts: list[str] = []
    current = {"encoding": "", "element": ""}

    def start(element: str, attributes: dict[str, str]) -> None:
        current["element"] = element
        texts.clear()
        if element == "DataArray":
            current["encoding"] = str(gifti_encoding_codes.label[attributes["Encoding"]])
            if current["encoding"] == "External":
                refuse(f"an array is in another file, {attributes.get('ExternalFileName')!r}; save it within this one")
            sizes = [int(attributes[f"Dim{axis}"]) for axis in range(int(attributes["Dimensionality"]))]
            if min(sizes, default=0) < 1:
                refuse(f"an array has the shape {sizes}")
            stored: Any = data_type_codes.dtype[attributes["DataType"]]
            declared.append(math.prod(sizes) * stored.itemsize)
            check_declared(sum(declared), path, packed=True)

    def end(element: str) -> None:
        if current["element"] == "Data" and current["encoding"] == "B64GZ" and declared:
            unpacked = zlib.decompressobj().decompress(base64.b64decode("".join(texts)), declared[-1] + 1)
            if len(unpacked) != declared[-1]:
                refuse(f"array {len(declared)} declares {declared[-1]} bytes, but decompresses to another number")
        current["element"] = ""

    def text(characters: str) -> None:
        if current["element"] == "Data":
            texts.append(characters)

    parser = ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.EntityDeclHandler = lambda *_: refuse("the file declares XML entities, which maps do not need")
    with path.open("rb") as file:
        parser.ParseFile(file)
