"""A process that defers jobs in one of several ways, told by its arguments; it prints what it did as JSON.

It says `ready` once its connections are there, and begins when a line comes on standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator

import procrastinate
from bench.processes import memory

SAMPLE = 20_000
BATCH = 5_000


def app(size: int = 4) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_DATABASE_URL"], min_size=size, max_size=size)
    return procrastinate.App(connector=connector)


def wait_for_start() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


async def lanes(jobs: int, count: int) -> dict[str, object]:
    """Defer one by one in so many coroutines, each with a connection."""
    async with app(count).open_async() as opened:
        deferrer = opened.configure_task("noop")

        async def lane(numbers: Iterator[int]) -> None:
            for number in numbers:
                await deferrer.defer_async(i=number)

        # Each connection's first statement takes longer.
        await asyncio.gather(*(lane(iter([-1])) for _ in range(count)))
        wait_for_start()
        started = time.monotonic()
        remaining = iter(range(jobs))
        await asyncio.gather(*(lane(remaining) for _ in range(count)))
        return {"started": started, "ended": time.monotonic()}


async def many(jobs: int) -> dict[str, object]:
    """Defer from a generator, and look at the memory now and then."""
    samples: list[float] = []

    async with app().open_async() as opened:
        deferrer = opened.configure_task("noop")

        def arguments():  # noqa: ANN202  a generator of dictionaries
            for number in range(jobs):
                if number % SAMPLE == 0:
                    samples.append(memory(os.getpid()))
                yield {"i": number}

        wait_for_start()
        started, cpu = time.monotonic(), time.process_time()
        await deferrer.defer_many_async(arguments())
        return {"started": started, "ended": time.monotonic(), "cpu": time.process_time() - cpu, "memory": samples}


def many_sync(jobs: int) -> dict[str, object]:
    """Do as `many`, with a sync client."""
    opened = app()
    with opened.open():
        deferrer = opened.configure_task("noop")
        wait_for_start()
        started, cpu = time.monotonic(), time.process_time()
        deferrer.defer_many({"i": number} for number in range(jobs))
        return {"started": started, "ended": time.monotonic(), "cpu": time.process_time() - cpu}


async def any_jobs(jobs: int) -> dict[str, object]:
    """Defer batches of jobs that could differ in everything."""
    async with app().open_async() as opened:
        pattern = opened.configure_task("noop")
        wait_for_start()
        started, cpu = time.monotonic(), time.process_time()
        for first in range(0, jobs, BATCH):
            batch = [pattern.make_new_job(i=number) for number in range(first, min(first + BATCH, jobs))]
            await opened.job_manager.batch_defer_jobs_async(batch)
        return {"started": started, "ended": time.monotonic(), "cpu": time.process_time() - cpu}


async def steadily(jobs: int, rate: float, every: float) -> dict[str, object]:
    """Offer so many jobs a second, in a batch each few milliseconds; note when each was sent."""
    async with app(1).open_async() as opened:
        deferrer = opened.configure_task("noop")
        wait_for_start()
        sent: list[int] = []
        started = time.monotonic()
        while len(sent) < jobs:
            due = min(jobs, int((time.monotonic() - started + every) * rate)) - len(sent)
            if due > 0:
                first = len(sent)
                sent += [time.monotonic_ns()] * due
                await deferrer.batch_defer_async(*({"i": number} for number in range(first, first + due)))
            await asyncio.sleep(max(0.0, started + len(sent) / rate - time.monotonic()))
        return {"started": started, "ended": time.monotonic(), "sent": sent}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["lanes", "many", "many-sync", "any", "steadily"])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=0.01)
    options = parser.parse_args()
    if options.way == "lanes":
        result = asyncio.run(lanes(options.jobs, options.count))
    elif options.way == "many":
        result = asyncio.run(many(options.jobs))
    elif options.way == "many-sync":
        result = many_sync(options.jobs)
    elif options.way == "any":
        result = asyncio.run(any_jobs(options.jobs))
    else:
        result = asyncio.run(steadily(options.jobs, options.rate, options.every))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
