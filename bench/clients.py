"""Client processes: start some, let them begin together, and hear what they did."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from bench.ceilings import python
from bench.processes import Program
from bench.stand import Database, Stand


class Clients:
    """Processes of `bench.client` that are ready, and wait for the word."""

    def __init__(self, stand: Stand, database: Database, *commands: Sequence[str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._programs: list[Program] = [
            python(stand, database, "bench.client", *command, **pipes) for command in commands
        ]
        for program in self._programs:
            assert program.process.stdout is not None
            if program.process.stdout.readline() != "ready\n":
                self.stop()
                raise RuntimeError(f"a client failed\n{program.tail()}")

    def start(self) -> None:
        for program in self._programs:
            assert program.process.stdin is not None
            program.process.stdin.write("\n")
            program.process.stdin.flush()

    def results(self, timeout: float = 1_800.0) -> list[dict[str, Any]]:
        """Wait for all of them, and return what each says."""
        answers: list[dict[str, Any]] = []
        try:
            for program in self._programs:
                output, _ = program.process.communicate(timeout=timeout)
                if program.process.returncode:
                    raise RuntimeError(f"a client failed\n{program.tail()}")
                answers.append(json.loads(output.splitlines()[-1]))
        finally:
            self.stop()
        return answers

    def stop(self) -> None:
        for program in self._programs:
            program.stop()
