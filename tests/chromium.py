"""Headless Chromium, driven over pipes by the DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium")

START = """
import fcntl, os, sys
to_read, to_write = (fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3])
os.dup2(to_read, 3), os.dup2(to_write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The protocol reads from file 3 and writes to file 4."""


class Browser:
    """One page in a browser of its own.

    Attributes:
        errors: what the console has reported: exceptions, errors, warnings, refused loads.
    """

    def __init__(self, profile: Path) -> None:
        self.errors: list[str] = []
        self._last, self._left, self._session = 0, b"", None
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        options += ["--no-first-run", "--disable-background-networking", "--hide-scrollbars"]
        words = [str(PROGRAM), *options, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(to_read), str(to_write), *words],
            pass_fds=(to_read, to_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            found = self._next()
            if found.get("id") == self._last:
                assert "error" not in found, found
                return found["result"]

    def open(self, path: Path, width: int, scheme: str = "light", height: int = 900) -> None:
        """Open a file in a window of some width, in the scheme 'light' or 'dark'."""
        self.resize(width, height)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=media)
        self.send("Page.navigate", url=path.absolute().as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() "
            ": addEventListener('load', () => done()))"
        )
        self.settle()

    def resize(self, width: int, height: int) -> None:
        """Give the window another size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)

    def settle(self) -> None:
        """Wait until figures have taken their size."""
        self.evaluate("new Promise(done => setTimeout(done, 150))")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Write the whole page as a PNG."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _next(self) -> dict[str, Any]:
        """Return the next message; note errors of the console."""
        while b"\0" not in self._left:
            data = os.read(self._read, 2**16)
            assert data, "the browser has ended"
            self._left += data
        line, self._left = self._left.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        given = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(given["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled":
            if given["type"] in ("error", "warning", "assert"):
                self.errors.append(str(given["args"]))
        elif message.get("method") == "Log.entryAdded":
            if given["entry"]["level"] in ("error", "warning"):
                self.errors.append(str(given["entry"]))
        return message
