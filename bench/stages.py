"""Where the time of a single job goes: a worker and a deferrer that note when they pass each stage.

`python -m bench.stages worker` runs until SIGTERM, `python -m bench.stages deferrer JOBS EVERY` defers a job every so
many seconds. Each prints its notes as JSON: the stages, each with its moments in nanoseconds of the monotonic clock.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import time
from typing import Any

import procrastinate
from procrastinate.connections import psycopg as driver
from procrastinate.store.postgres import Statement
from procrastinate.worker import fetcher

SENT, ASKED, HEARD, CLAIMED, ANSWERED, STARTED = "sent", "asked", "heard", "claimed", "answered", "started"

notes: collections.defaultdict[str, list[int]] = collections.defaultdict(list)


def note(stage: str) -> None:
    notes[stage].append(time.monotonic_ns())


class NotingAdapter(driver.AsyncPsycopgAdapter):
    """Notes when a statement of a kind is handed to the driver, and when it was answered."""

    async def execute(self, statement: Statement) -> Any:
        if "insert into procrastinate_jobs" in statement.text:
            note(ASKED)
        is_claim = "set status = 'doing'" in statement.text
        if is_claim:
            note(CLAIMED)
        answer = await super().execute(statement)
        if is_claim:
            note(ANSWERED)
        return answer


class NotingFetcher(fetcher.Fetcher):
    """Notes when a notification was heard."""

    def notified(self, job_id: int | None = None) -> None:
        note(HEARD)
        super().notified(job_id)


driver.AsyncPsycopgAdapter = NotingAdapter
connector = procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"], min_size=1, max_size=4)
app = procrastinate.App(connector=connector)


@app.task(name="noop")
async def noop(i: int) -> None:  # noqa: ARG001  as the other tasks of the benchmark
    note(STARTED)


async def work() -> None:
    from procrastinate.worker import worker  # noqa: PLC0415  what is changed is looked up there

    worker.Fetcher = NotingFetcher
    async with app.open_async():
        await app.run_worker_async(concurrency=10)


async def defer(jobs: int, every: float) -> None:
    async with app.open_async():
        start = time.monotonic()
        for number in range(jobs):
            await asyncio.sleep(max(0.0, start + number * every - time.monotonic()))
            note(SENT)
            await noop.defer_async(i=number)


def main(what: str, *arguments: str) -> None:
    asyncio.run(work() if what == "worker" else defer(int(arguments[0]), float(arguments[1])))
    print(json.dumps(notes))


if __name__ == "__main__":
    main(*sys.argv[1:])
