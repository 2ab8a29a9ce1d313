"""Deferring one job at a time, and the layers below it down to a bare INSERT and commit, all on one connection.

`python -m bench.layers sync|async JOBS` takes them in turns of a hundred jobs, in another order each time: what another
connection, another process or another moment costs is more than what a layer does. It prints the median of each layer's
turns as JSON, in seconds for a job, by the clock and of the client's processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias

import psycopg_pool

import procrastinate
from bench.bare import INSERT
from procrastinate import jobs
from procrastinate.connections import Rendering
from procrastinate.connections.psycopg import AsyncPsycopgAdapter, PsycopgAdapter
from procrastinate.store.jobs import DeferJob

# From the inside out: each does what the one before it does, and something more.
LAYERS = BARE, STATEMENT, OPERATION, POOL, WHOLE = "bare", "statement", "operation", "pool", "whole"
TURN = 100

PATTERN = jobs.Job(queue="default", task_name="noop", lock=None, queueing_lock=None)

Layer: TypeAlias = Callable[[int], Coroutine[Any, Any, Any]]


def turns(jobs: int) -> list[str]:
    """Return the layers in the order in which they get their turns, each for so many jobs in all."""
    return [layer for _ in range(jobs // TURN) for layer in random.sample(LAYERS, len(LAYERS))]


def operation(number: int) -> DeferJob:
    return DeferJob(job=PATTERN, arguments={"i": number})


class Clock:
    """Takes the time of turns."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {layer: [] for layer in LAYERS}
        self._cpu: dict[str, list[float]] = {layer: [] for layer in LAYERS}

    @contextlib.contextmanager
    def turn(self, layer: str) -> Generator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self._seconds[layer].append((time.perf_counter() - start) / TURN)
        self._cpu[layer].append((time.process_time() - cpu) / TURN)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return seconds and processor seconds of a job, layer by layer."""
        return {
            layer: {"seconds": statistics.median(self._seconds[layer]), "cpu": statistics.median(self._cpu[layer])}
            for layer in LAYERS
        }


def sync(jobs: int) -> dict[str, dict[str, float]]:
    """Take turns with sync calls."""
    with psycopg_pool.ConnectionPool(os.environ["BENCH_DATABASE_URL"], min_size=1, max_size=1) as pool:
        app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())
        app.open(pool)
        noop = app.task(name="noop")(_noop)
        connection = pool.getconn()
        pool.putconn(connection)
        rendering, adapter = Rendering(), PsycopgAdapter(connection)
        statement = rendering.statement(operation(0), is_alone=True)
        layers: dict[str, Callable[[int], Any]] = {
            BARE: lambda number: connection.execute(INSERT, {"args": json.dumps({"i": number})}).fetchall(),
            STATEMENT: lambda _: connection.execute(statement.text.encode(), statement.parameters).fetchall(),
            OPERATION: lambda number: adapter.run(operation(number), rendering),
            POOL: lambda number: app.connector.run(operation(number)),
            WHOLE: lambda number: noop.defer(i=number),
        }
        clock = Clock()
        for layer in turns(jobs):
            connection.autocommit = layer in {BARE, STATEMENT, OPERATION}
            call = layers[layer]
            with clock.turn(layer):
                for number in range(TURN):
                    call(number)
            connection.autocommit = False
        return clock.summary()


async def unsync(jobs: int) -> dict[str, dict[str, float]]:
    """Take turns with async calls."""
    async with psycopg_pool.AsyncConnectionPool(os.environ["BENCH_DATABASE_URL"], min_size=1, max_size=1) as pool:
        app = procrastinate.App(connector=procrastinate.PsycopgConnector())
        await app.open_async(pool)
        noop = app.task(name="noop")(_noop)
        connection = await pool.getconn()
        await pool.putconn(connection)
        rendering, adapter = Rendering(), AsyncPsycopgAdapter(connection)
        statement = rendering.statement(operation(0), is_alone=True)

        async def bare(number: int) -> None:
            cursor = await connection.execute(INSERT, {"args": json.dumps({"i": number})})
            await cursor.fetchall()

        async def same_statement(_: int) -> None:
            cursor = await connection.execute(statement.text.encode(), statement.parameters)
            await cursor.fetchall()

        layers: dict[str, Layer] = {
            BARE: bare,
            STATEMENT: same_statement,
            OPERATION: lambda number: adapter.run(operation(number), rendering),
            POOL: lambda number: app.connector.run_async(operation(number)),
            WHOLE: lambda number: noop.defer_async(i=number),
        }
        clock = Clock()
        for layer in turns(jobs):
            await connection.set_autocommit(layer in {BARE, STATEMENT, OPERATION})
            call = layers[layer]
            with clock.turn(layer):
                for number in range(TURN):
                    await call(number)
            await connection.set_autocommit(False)
        return clock.summary()


def _noop(i: int) -> None:
    """Take the arguments that are deferred."""


def main(colour: str, jobs: str) -> None:
    took = sync(int(jobs)) if colour == "sync" else asyncio.run(unsync(int(jobs)))
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
