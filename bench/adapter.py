"""What the adapters in Python have in common: the command line. Only the standard library is needed.

An adapter calls `main` with an object that has, each sync or async:

    setup()             create the tables in an empty database
    open(), close()     the client that defers
    one(number)         defer a job and return when it is stored
    bulk(numbers)       defer jobs in the queue's own best way
    worker()            run a worker until SIGTERM

and, as `loop`, "uvloop" if the queue's own command uses that. What the command line said is its `options`.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

URL = os.environ.get("BENCH_DATABASE_URL", "")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("operation", choices=["setup", "one", "bulk", "latency", "worker"])
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--setting", default="10", help="concurrency or batch; the adapter says which")
    parser.add_argument("--keep", type=int, default=1, help="whether ended jobs stay")
    parser.add_argument("--task", default="noop")
    parser.add_argument("--variant", default="")
    parser.add_argument("--every", type=float, default=0.02, help="seconds between two jobs whose latency is measured")
    return parser.parse_args()


def main(make: Callable[[], Any]) -> None:
    """Do what the command line says."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    options = parse()
    queue = make()
    queue.options = options
    call = getattr(queue, options.operation) if options.operation in {"setup", "worker"} else None
    if call is not None and not inspect.iscoroutinefunction(call):
        call()
    elif call is not None:
        _run(queue, call())
    elif inspect.iscoroutinefunction(queue.one):
        print(json.dumps(_run(queue, _defer_async(queue, options))))
    else:
        print(json.dumps(_defer(queue, options)))


def _run(queue: Any, coroutine: Coroutine[Any, Any, Any]) -> Any:
    if getattr(queue, "loop", None) == "uvloop":
        import uvloop  # noqa: PLC0415  only some of the environments have it

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)


class _Clock:
    """Times the deferring, and spaces the jobs whose latency is measured."""

    def __init__(self, every: float) -> None:
        self.sent: list[int] = []
        self._every = int(every * 1e9)
        self._cpu = time.process_time()
        self._start = time.monotonic_ns()

    def pause(self, number: int) -> float:
        return max(0.0, (self._start + number * self._every - time.monotonic_ns()) / 1e9)

    def send(self) -> None:
        self.sent.append(time.monotonic_ns())

    def result(self) -> dict[str, Any]:
        seconds = (time.monotonic_ns() - self._start) / 1e9
        return {"seconds": seconds, "cpu": time.process_time() - self._cpu, "sent": self.sent}


async def _maybe(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _defer_async(queue: Any, options: argparse.Namespace) -> dict[str, Any]:
    await _maybe(queue.open())
    clock = _Clock(options.every)
    if options.operation == "one":
        for number in range(options.jobs):
            await queue.one(number)
    elif options.operation == "bulk":
        await queue.bulk(range(options.jobs))
    else:
        for number in range(options.jobs):
            await asyncio.sleep(clock.pause(number))
            clock.send()
            await queue.one(number)
    result = clock.result()
    await _maybe(queue.close())
    return result


def _defer(queue: Any, options: argparse.Namespace) -> dict[str, Any]:
    queue.open()
    clock = _Clock(options.every)
    if options.operation == "one":
        for number in range(options.jobs):
            queue.one(number)
    elif options.operation == "bulk":
        queue.bulk(range(options.jobs))
    else:
        for number in range(options.jobs):
            time.sleep(clock.pause(number))
            clock.send()
            queue.one(number)
    result = clock.result()
    queue.close()
    return result


def chunks(numbers: range, size: int = 1_000) -> Iterable[range]:
    """Cut the numbers into ranges of a size that suits bulk calls."""
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


async def in_flight(one: Callable[[int], Awaitable[Any]], numbers: range, limit: int) -> None:
    """Defer one by one, so many at a time: for queues without a bulk call."""
    remaining = iter(numbers)

    async def lane() -> None:
        for number in remaining:
            await one(number)

    await asyncio.gather(*(lane() for _ in range(limit)))
