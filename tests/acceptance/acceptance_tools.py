"""Real processes against a real database."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import click.testing
import psycopg

from procrastinate.cli import cli

HERE = Path(__file__).parent
CONSOLE_SCRIPT = Path(sysconfig.get_path("scripts"), "procrastinate")
LIMIT = 40


def wait_until(condition: Callable[[], object], seconds: float = 20, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {seconds} s: {what or condition}"
        time.sleep(0.02)


class Commands:
    """Runs `procrastinate …` with the application of these tests, in a folder of the test's own."""

    def __init__(self, folder: Path, dsn: str | None) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PROCRASTINATE_", "COVERAGE"))
        }
        self.environment |= {"PROCRASTINATE_APP": "acceptance_app.app", "PYTHONPATH": str(HERE)}
        # The terminal's width decides where help is wrapped.
        self.environment["COLUMNS"] = "200"
        if dsn is not None:
            self.environment["PROCRASTINATE_TEST_DSN"] = dsn
        self._processes: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the console script to its end."""
        return self._run(str(CONSOLE_SCRIPT), *arguments, **variables)

    def python(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python to its end."""
        return self._run(sys.executable, *arguments, **variables)

    def _run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: str, **variables: str) -> Running:
        """Start the console script; it ends with the test at the latest."""
        path = self.folder / f"stderr-{len(self._processes)}"
        with path.open("w") as stderr:
            process = subprocess.Popen(
                [str(CONSOLE_SCRIPT), *arguments],
                cwd=self.folder,
                env={**self.environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
        self._processes.append(process)
        return Running(process, path)

    def kill_all(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class Running:
    """A process that was started, and what it wrote to standard error."""

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self.process = process
        self._path = path

    @property
    def stderr(self) -> str:
        return self._path.read_text()

    def wait_for(self, text: str) -> None:
        def said() -> bool:
            found = text in self.stderr
            assert found or self.process.poll() is None, self.stderr
            return found

        wait_until(said, what=f"{text!r} in {self._path}")

    def end(self, seconds: float = 15) -> int:
        """Wait for the end, and return the exit code."""
        return self.process.wait(seconds)


class Table:
    """What the database says of the jobs."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def column(self, name: str, where: str = "true") -> list:
        rows = self.connection.execute(f"select {name} from procrastinate_jobs where {where} order by id")
        return [row[0] for row in rows]

    def insert(self, **values: object) -> int:
        """Insert a job that is as the test wants it, and return its id."""
        row = {"queue_name": "q", "task_name": "t", **values}
        columns, marks = ", ".join(row), ", ".join(["%s"] * len(row))
        statement = f"insert into procrastinate_jobs ({columns}) values ({marks}) returning id"
        return self.connection.execute(statement, list(row.values())).fetchone()[0]

    def status(self, job_id: int | str) -> str | None:
        return next(iter(self.column("status", f"id = {int(job_id)}")), None)

    def wait_for_status(self, job_id: int | str, status: str) -> None:
        wait_until(lambda: self.status(job_id) == status, what=f"job {job_id} {status}")


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class InProcess:
    """Runs commands without a process of their own, for the many ways to write the same: many times faster.

    Logging is not set up as it is in a process of its own.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def run(self, *arguments: str, **variables: str) -> Result:
        """Run the command line to its end."""
        defaults = {"PROCRASTINATE_APP": "acceptance_app.app", "PROCRASTINATE_TEST_DSN": self.dsn}
        # The application reads its variables when it is imported.
        sys.modules.pop("acceptance_app", None)
        result = click.testing.CliRunner().invoke(
            cli, arguments, env={**defaults, **variables}, prog_name="procrastinate"
        )
        return Result(result.exit_code, result.stdout, result.stderr)
