"""Lists of file names: read whole, and refused where they were cut off within a name."""

from __future__ import annotations

import pytest

from brainrdl import BrainrdlError
from data_adapters._shared.text import read_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg\nb.JPEG\nairpla\n", ["a.jpg", "b.JPEG", "airpla"]),  # an ended line is complete
        ("a.jpg\r\nb.png\r\n\r\nc.JPG", ["a.jpg", "b.png", "c.JPG"]),
        ("a\nb.jpg\nc", ["a", "b.jpg", "c"]),
        ("airpla", ["airpla"]),
    ],
)
def test_a_complete_list_is_read(tmp_path, text, expected):
    (tmp_path / "names.txt").write_text(text)
    assert read_names(tmp_path / "names.txt") == expected


@pytest.mark.parametrize("last", ["airpla", "airplane.", "airplane.jp"])
def test_a_list_that_ends_within_a_name_is_refused(tmp_path, last):
    (tmp_path / "names.txt").write_text(f"a.jpg\nb.jpg\n{last}")
    with pytest.raises(BrainrdlError, match=rf"the last name, '{last}', does not end in \['.jpg'\] as the others do"):
        read_names(tmp_path / "names.txt")
