"""Progress is shown on stderr, and only for slow work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

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


def test_silence_holds_for_all_work_inside_and_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    with progress.silenced(), progress.silenced(False):
        assert list(progress.track_slow(range(3), "files", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    assert list(progress.track_slow(range(3), "files", 3)) == [0, 1, 2]
    assert "files" in capsys.readouterr().err


def test_work_that_is_left_early_ends_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    for number in progress.track_slow(range(9), "searchlight", 9):
        if number == 2:
            break
    assert "searchlight" in capsys.readouterr().err


def test_a_log_gets_lines_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 3.0, 4.0, 14.0, 100.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.slow_progress("fit", 20, done=10) as advance:
        for done, more in ((11, ""), (12, "train 0.5"), (13, ""), (14, ""), (20, "")):
            advance(done, more)
    assert capsys.readouterr().err.splitlines() == [
        "fit: 12 of 20, train 0.5, about 12 s left",  # 2 in 3 s; a line only after 2 s, and then every 10 s
        "fit: 14 of 20, about 21 s left",
        "fit: 20 of 20, done",
    ]


def test_a_terminal_gets_a_bar_and_no_second_one_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=written, force_terminal=True, width=100))
    for _ in progress.track_slow(range(2), "folds", 2):
        assert list(progress.track_slow(range(3), "images", 3)) == [0, 1, 2]
    assert "folds" in written.getvalue()
    assert "2/2" in written.getvalue()
