"""Headless Chromium, driven over its debugging pipe: one page, what it says, asks for and looks like.

    with Browser() as browser:
        page = browser.open("http://127.0.0.1:8080/status", width=360)
        assert page.value("document.title") == "argotun server: all is well"

Messages of the Chrome DevTools Protocol are JSON that ends with a zero byte.
"""

import base64
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from types import TracebackType
from typing import Any, Self

import gevent
from gevent import subprocess
from gevent.os import make_nonblocking, nb_read, nb_write

from tests.rig import PATIENCE

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "needs a Chromium: Debian's package chromium"


class Browser:
    """One process; its profile is a folder of its own and goes with it."""

    def __init__(self) -> None:
        assert PROGRAM is not None, MISSING
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._ids = count(1)
        self._profile = tempfile.mkdtemp(prefix="argotun-browser-")

    def __enter__(self) -> Self:
        theirs_in, self._out = _pipe()
        self._in, theirs_out = _pipe()

        def arrange() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        self._process = subprocess.Popen(
            [
                PROGRAM,
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--hide-scrollbars",
                "--disable-background-networking",
                f"--user-data-dir={self._profile}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=arrange,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        for mine in (self._in, self._out):
            make_nonblocking(mine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.call("Browser.close")
        except (OSError, EOFError):
            pass
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """One command and its result; AssertionError with the browser's words where it fails."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        self._send(message | ({"sessionId": session} if session else {}))
        while True:
            said = self.hear()
            if said.get("id") == number:
                assert "error" not in said, said["error"]
                result: dict[str, Any] = said["result"]
                return result

    def hear(self) -> dict[str, Any]:
        """The next message; events are kept in `events` too."""
        with gevent.Timeout(PATIENCE, AssertionError("the browser says nothing")):
            while b"\0" not in self._buffer:
                data = nb_read(self._in, 1 << 20)
                if not data:
                    raise EOFError("the browser has ended")
                self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        if "id" not in said:
            self.events.append(said)
        return said

    def open(
        self, url: str, *, width: int = 1400, height: int = 900, dark: bool = False, script: bool = True
    ) -> "Page":
        """A new page of this size, loaded; without `script` none of its own runs."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Emulation.setScriptExecutionDisabled", value=not script)
        page.call("Page.navigate", url=url)
        page.wait(lambda: page.said("Page.loadEventFired"), "the page")
        return page

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[nb_write(self._out, data) :]


class Page:
    """One page of a browser."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command for this page."""
        return self._browser.call(method, self._session, **parameters)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is, in the page; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def go(self, expression: str) -> None:
        """Do what leads to another page, and wait until that is loaded."""
        loaded = len(self.said("Page.loadEventFired"))
        self.value(f"{expression}; 0")
        self.wait(lambda: len(self.said("Page.loadEventFired")) > loaded, "the next page")

    def said(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all events of one kind."""
        return [
            event["params"]
            for event in self._browser.events
            if event["method"] == method and event.get("sessionId") == self._session
        ]

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Hear what the browser says until the condition holds."""
        with gevent.Timeout(PATIENCE, AssertionError(f"{what} did not come about")):
            while not condition():
                self._browser.hear()

    def problems(self) -> list[str]:
        """What the console would show: refused by the policy, errors of scripts, and the like."""
        logged = [each["entry"]["text"] for each in self.said("Log.entryAdded")]
        thrown = [str(each["exceptionDetails"]) for each in self.said("Runtime.exceptionThrown")]
        return logged + thrown

    def asked(self) -> list[str]:
        """Every URL that was asked for, and not held back by the page's own policy."""
        kept = {each["requestId"] for each in self.said("Network.loadingFailed") if each.get("blockedReason")}
        asked = [each for each in self.said("Network.requestWillBeSent") if each["requestId"] not in kept]
        return [each["request"]["url"] for each in asked if not each["request"]["url"].startswith("data:")]

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return base64.b64decode(image)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are none of the numbers that the browser wants."""
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]
