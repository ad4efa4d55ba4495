"""A headless Chromium, driven through a pipe in the DevTools protocol: no other package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 90.0
"""Seconds that the browser may take for an answer, on a busy machine."""


def executable() -> str | None:
    """Where a Chromium is installed; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page in the browser, at a width in pixels and a colour scheme; what went wrong on it is in `problems`."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._number, self._session, self._buffer = 0, "", b""
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, file: Path, width: int, scheme: str, height: int = 900) -> None:
        """Show a file at a width, light or dark, and wait until it is loaded."""
        self._events.clear()
        mobile = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Page.navigate", url=file.resolve().as_uri())
        self._wait_for("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives on the page; promises are awaited."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def problems(self) -> list[str]:
        """Errors and warnings of the console since the page was opened, and requests that left the file."""
        told = []
        for event in self._events:
            kind, content = event["method"], event.get("params", {})
            if kind == "Log.entryAdded":
                told.append(content["entry"]["text"])
            elif kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                told.append(json.dumps(content))
            elif kind == "Network.requestWillBeSent":
                url = content["request"]["url"]
                told += [] if url.startswith(("file:", "data:")) else [url]
        return told

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._events.append(answer)

    def _wait_for(self, event: str) -> None:
        while not any(known.get("method") == event for known in self._events):
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a new browser, which ends with the block. The browser reads its file 3 and writes its file 4."""
    path = executable()
    assert path is not None
    read_there, write_here = os.pipe()
    read_here, write_there = os.pipe()

    def connect() -> None:
        ends = os.dup(read_there), os.dup(write_there)
        high = [os.dup2(end, 100 + position) for position, end in enumerate(ends)]
        for position, end in enumerate(high):
            os.dup2(end, 3 + position)

    words = [path, "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += ["--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        words,
        close_fds=False,
        preexec_fn=connect,  # noqa: PLW1509 - it calls dup2 alone
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_there)
    os.close(write_there)
    try:
        yield Page(write_here, read_here)
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(write_here)
        os.close(read_here)
