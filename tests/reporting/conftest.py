"""A headless Chromium for the tests of pages, driven over a pipe with its DevTools protocol, which needs no package."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")

_KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "PageDown": 34,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def found() -> str | None:
    """Return the path of an installed browser."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One tab: what it shows, what scripts find in it, and what it writes to its console."""

    def __init__(self, write: Callable[[bytes], Any], read: Callable[[], bytes]) -> None:
        self._write, self._read = write, read
        self._last, self._waiting = 0, b""
        self._whole = {"Browser.setDownloadBehavior"}  # what concerns the browser, not the tab
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session and method not in self._whole:
            message["sessionId"] = self._session
        self._write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            more = self._read()
            if not more:
                raise RuntimeError("the browser has ended")
            self._waiting += more
        one, _, self._waiting = self._waiting.partition(b"\0")
        return dict(json.loads(one))

    def open(self, page: Path, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """Open a page in a window of this size, in which the reader prefers light or dark colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        preferred = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[preferred])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """Return the value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key, as a reader does."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        typed = {"type": "keyDown", "text": "\r"} if key == "Enter" else {"type": "rawKeyDown"}
        self.call("Input.dispatchKeyEvent", **named, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def point(self, x: float, y: float) -> None:
        """Move the pointer to a position in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def problems(self) -> list[str]:
        """List errors and warnings of the console, and requests to anything but the page itself."""
        self.run("1")  # what was written before arrives before this answer
        listed = []
        for event in self.events:
            told, method = event.get("params", {}), event.get("method")
            if method == "Runtime.exceptionThrown" or (
                method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning")
            ):
                listed.append(json.dumps(told))
            if method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
                listed.append(json.dumps(told["args"]))
            if method == "Network.requestWillBeSent" and not told["request"]["url"].startswith(("file:", "data:")):
                listed.append(told["request"]["url"])
        return listed

    def click(self, query: str) -> None:
        """Click on the first element of a query."""
        self.run(f"document.querySelector({json.dumps(query)}).scrollIntoView()")
        x, y = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(query)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def download(self, query: str, folder: Path) -> None:
        """Click on a link, and wait until its file is in the folder."""
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True
        )  # fmt: skip
        self.click(query)
        while not any(event.get("params", {}).get("state") == "completed" for event in self.events):
            self.events.append(self._next())

    def screenshot(self, path: Path) -> None:
        """Save an image of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        """Save the page as PDF."""
        printed = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))


def _pipe() -> tuple[int, int]:
    """Make a pipe whose ends are not 3 or 4, which the browser reads and writes."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser with one tab; skips where none is installed."""
    program = found()
    if program is None:
        pytest.skip(f"no browser to open the pages in: none of {NAMES} is installed")
    with started(program) as one:
        yield one


@contextmanager
def started(program: str) -> Iterator[Browser]:
    """Start a browser, and end it."""
    to_browser, from_browser = _pipe(), _pipe()

    def as_expected() -> None:
        os.dup2(to_browser[0], 3)
        os.dup2(from_browser[1], 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
             f"--user-data-dir={profile}", "--no-first-run", "--disable-background-networking"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=as_expected,
        )  # fmt: skip
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            with (
                os.fdopen(to_browser[1], "wb", buffering=0) as out,
                os.fdopen(from_browser[0], "rb", buffering=0) as back,
            ):
                yield Browser(out.write, lambda: back.read(65536))
        finally:
            process.terminate()
            process.wait(timeout=20)
