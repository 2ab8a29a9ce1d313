"""A headless Chromium, spoken to over a pipe in its DevTools protocol: no driver and no further package is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 30


def find_browser():
    """The path of a Chromium, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a browser."""

    def __init__(self, path, profile, width=1280, height=900):
        """Start the program at `path`; it keeps its files in the folder `profile`."""
        to_browser, self._writer = os.pipe()
        self._reader, from_browser = os.pipe()
        options = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --no-first-run"
        command = (
            f'exec "{path}" {options} --user-data-dir="{profile}" --window-size={width},{height} '
            f"about:blank 3<&{to_browser} 4>&{from_browser}"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=[to_browser, from_browser],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._events = []
        self._number = 0
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def close(self):
        # With the processes of its own.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._writer)
        os.close(self._reader)

    def call(self, method, **parameters):
        """Call a method of the protocol; return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer.get("method"))

    def _receive(self):
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._reader], [], [], deadline - time.monotonic())
            assert ready, "the browser is silent"
            read = os.read(self._reader, 2**20)
            assert read, "the browser has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _wait_for_page(self):
        while "Page.loadEventFired" not in self._events:
            self._events.append(self._receive().get("method"))

    def open(self, url):
        """Go to a page, and wait until it is there."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        self._wait_for_page()

    def evaluate(self, script):
        """Run a script in the page; return its value."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, selector, *, opens_page=False):
        """Click with the mouse on an element; wait for the page that it opens."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"{found}.getBoundingClientRect().toJSON()")
        place = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self._events.clear()
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
        if opens_page:
            self._wait_for_page()

    def text(self, selector="body"):
        """The text that the reader sees."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def screenshot(self, path):
        """Save a picture of the page."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
