"""The application of the benchmark: a task that does nothing, and a connector with a clock."""

from __future__ import annotations

import collections
import os
import time
from typing import Any, TypeVar

import attrs

import procrastinate
from bench.settings import DATABASE_VARIABLE
from procrastinate.store import jobs as job_operations
from procrastinate.store.operation import Operation

T = TypeVar("T")


@attrs.define
class Calls:
    """How often an operation was sent, and the time until its answers were there."""

    count: int = 0
    seconds: float = 0.0
    items: int = 0


class TimedConnector(procrastinate.PsycopgConnector):
    """Notes when the first claim began and when the last ends of runs were recorded."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first_fetch = 0.0
        self.last_end = 0.0
        self.calls: collections.defaultdict[str, Calls] = collections.defaultdict(Calls)

    async def run_async(self, operation: Operation[T], connection: Any = None) -> T:
        start = time.perf_counter()
        answer = await super().run_async(operation, connection)
        end = time.perf_counter()
        calls = self.calls[operation.name]
        calls.count += 1
        calls.seconds += end - start
        if isinstance(operation, job_operations.FetchJobs):
            self.first_fetch = self.first_fetch or start
            calls.items += len(answer.claims)  # type: ignore[attr-defined]
        elif isinstance(operation, job_operations.FinishJobs | job_operations.DeleteJobs):
            self.last_end = end
            calls.items += len(operation.verdicts)
        return answer


connector = TimedConnector(conninfo=os.environ.get(DATABASE_VARIABLE, ""))
app = procrastinate.App(connector=connector)


@app.task(name="noop")
async def noop(*, number: int) -> None:
    """Do nothing."""
