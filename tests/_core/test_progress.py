"""Progress is shown on stderr, and only for slow work."""

from __future__ import annotations

import pytest

from brainrdl._core import progress


def test_quick_work_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track_slow(range(3), "searchlight", 3)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_slow_work_shows_progress_on_stderr_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    assert list(progress.track_slow(range(3), "searchlight", 3)) == [0, 1, 2]
    shown = capsys.readouterr()
    assert "searchlight" in shown.err
    assert shown.out == ""
    assert list(progress.track_slow(range(3), "searchlight", 3, shown=False)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_work_that_is_left_early_ends_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    for number in progress.track_slow(range(9), "searchlight", 9):
        if number == 2:
            break
    assert "searchlight" in capsys.readouterr().err
