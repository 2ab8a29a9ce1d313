"""The command line on a terminal, with somebody who reads and types."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time

from acceptance_tools import CONSOLE_SCRIPT, Commands

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A process on a terminal of its own.

    Attributes:
        raw: what it printed, as the terminal got it.
        screen: the same without colors and the like.
    """

    def __init__(self, commands: Commands, *arguments: str, **variables: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**commands.environment, "TERM": "xterm-256color", "COLUMNS": "100", **variables}
        if "NO_COLOR" not in variables:
            environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [str(CONSOLE_SCRIPT), *arguments],
            cwd=commands.folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""

    @property
    def screen(self) -> str:
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def wait_for(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            assert self._read(), f"it ended without {text!r}: {self.screen}"

    def interrupt_until(self, text: str, seconds: float = 20) -> None:
        """Press Ctrl-C as a person does: again, if nothing happens.

        Between two waits for a key, readline takes note of a signal only at the next key.
        """
        deadline = time.monotonic() + seconds
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            self.process.send_signal(signal.SIGINT)
            for _ in range(5):
                assert self._read(), f"it ended without {text!r}: {self.screen}"

    def end(self, seconds: float = 20) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, self.screen
        return self.process.wait(seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        """Read what is there; return whether more may come."""
        if not select.select([self._ours], [], [], 0.1)[0]:
            return True
        try:
            printed = os.read(self._ours, 65536)
        except OSError:  # how Linux tells that the other side is closed
            return False
        self.raw += printed.decode("utf-8", "replace")
        return bool(printed)
