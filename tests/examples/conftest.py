"""The examples, started as their users start them: by their command, with a database of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).parents[2]
# Three programs start one after the other, each with two frameworks to import, while other tests take the cores.
LIMIT = 60
# What both web servers write when the page is there.
ADDRESS = re.compile(r"Running on (http://[\w.:]+)", re.IGNORECASE)


class Example:
    """A running example with a page."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        self.wait_until(lambda: ADDRESS.search(log.read_text()))
        self.url = ADDRESS.search(log.read_text())[1]

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def request(self, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        """GET, or POST if there is a body; return the status and the text."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def order(self, **form: Any) -> tuple[int, Any]:
        status, text = self.request("/orders", {"customer": "Ada", "item": "tea", **form})
        return status, json.loads(text)

    def rows(self) -> list[dict[str, Any]]:
        return json.loads(self.request("/orders")[1])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(LIMIT)


def as_url(conninfo: str) -> str:
    """Return a URL, which libpq and SQLAlchemy both take."""
    return sa.URL.create("postgresql", query=conninfo_to_dict(conninfo)).render_as_string(hide_password=False)


@pytest.fixture
def url(procrastinate_postgres: str) -> sa.URL:
    """A fresh database with the tables of procrastinate, for SQLAlchemy."""
    return sa.make_url(as_url(procrastinate_postgres)).set(drivername="postgresql+psycopg")


@pytest.fixture
def start(empty_database: str, tmp_path: Path) -> Iterator[Callable[..., Example]]:
    """Starts an example with a page: `start("fastapi", "--separate-worker")`."""
    with contextlib.ExitStack() as at_the_end:

        def start(name: str, *options: str) -> Example:
            log = tmp_path / "log"
            environment = {**os.environ, "DATABASE_URL": as_url(empty_database)}
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"examples.{name}", "--port", "0", *options],
                    cwd=ROOT,
                    env=environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            at_the_end.callback(process.wait, LIMIT)
            at_the_end.callback(process.terminate)
            return Example(process, log)

        yield start
