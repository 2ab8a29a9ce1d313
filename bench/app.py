"""The application for the command line and for timed runs, with a connector that has a clock."""

from __future__ import annotations

import asyncio
import atexit
import collections
import json
import os
import time
from pathlib import Path
from typing import Any, TypeVar

import attrs

import procrastinate
from bench.adapters import switches
from bench.tally import CALLS_VARIABLE, hit
from procrastinate.store import jobs as job_operations
from procrastinate.store.operation import Operation

T = TypeVar("T")

NAP = 0.001


@attrs.define
class Calls:
    """How often an operation was sent, and the time until its answers were there."""

    count: int = 0
    seconds: float = 0.0
    items: int = 0


class TimedConnector(procrastinate.PsycopgConnector):
    """Notes how long each kind of operation took, and each claim that found something."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first_fetch = 0.0
        self.last_end = 0.0
        self.calls: collections.defaultdict[str, Calls] = collections.defaultdict(Calls)
        self.claims: list[tuple[float, float, int]] = []

    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        start = time.perf_counter()
        answer = await super().run_async(operation, connection)
        end = time.perf_counter()
        calls = self.calls[operation.name]
        calls.count += 1
        calls.seconds += end - start
        if isinstance(operation, job_operations.FetchJobs):
            self.first_fetch = self.first_fetch or start
            found = len(answer.claims)  # type: ignore[attr-defined]
            calls.items += found
            if found:
                self.claims.append((time.monotonic(), end - start, found))
        elif isinstance(operation, job_operations.FinishJobs | job_operations.DeleteJobs):
            self.last_end = end
            calls.items += len(operation.verdicts)
        return answer

    def save(self, path: str) -> None:
        """Write the claims to a file: when each ended, how long it took in seconds, and how many jobs it found."""
        Path(path).write_text(json.dumps(self.claims))


switches.apply()
# Timing costs a little: only where it is asked for.
_calls_path = os.environ.get(CALLS_VARIABLE)
connector = (TimedConnector if _calls_path else procrastinate.PsycopgConnector)(
    conninfo=os.environ.get("BENCH_DATABASE_URL", "")
)
if isinstance(connector, TimedConnector) and _calls_path:
    atexit.register(connector.save, _calls_path)
app = procrastinate.App(connector=connector)


@app.task(name="noop")
async def noop(i: int) -> None:
    """Count itself."""
    hit(i)


@app.task(name="nap")
async def nap(i: int) -> None:
    """Count itself, and wait for a millisecond."""
    hit(i)
    await asyncio.sleep(NAP)
