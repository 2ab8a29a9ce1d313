"""Switches one of our tricks off, or another one on, in a worker of the benchmark; the environment says which."""
# ruff: noqa: PLC0415  each imports what it changes, which may be missing

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from bench import adapter
from bench.tally import SWITCH_VARIABLE


def claim_what_is_free() -> None:
    """Claim no more than there are free slots."""
    from procrastinate.worker import executor

    executor.MOST_AHEAD = 0


def finish_one_by_one() -> None:
    """Record each outcome by itself, at once."""
    from procrastinate.worker import completer

    completer.BATCH, completer.MOST, completer.PATIENCE = 1, 1, 0.0


def small_batches() -> None:
    """Claim ahead and record at most 50 at a time."""
    from procrastinate.worker import completer, executor

    completer.BATCH, completer.MOST, executor.MOST_AHEAD = 50, 50, 50


def arrays_by_the_driver() -> None:
    """Have psycopg look at each element of the lists that it sends."""
    from procrastinate.connections import psycopg

    psycopg.with_plain_arrays = lambda parameters: parameters


def check_connections() -> None:
    """Ask each connection whether it works, by a round trip, whenever the pool lends it."""
    import psycopg_pool
    from procrastinate_tasks import connector

    connector._arguments["check"] = psycopg_pool.AsyncConnectionPool.check_connection  # noqa: SLF001  an experiment


def log_every_job() -> None:
    """Write two lines for each job, to nowhere."""
    logging.basicConfig(level=logging.INFO, handlers=[logging.FileHandler(os.devnull)], force=True)


def parse_with_orjson() -> None:
    """Read and write arguments with orjson."""
    import orjson
    from procrastinate_tasks import app

    import procrastinate

    app.connector = procrastinate.PsycopgConnector(
        conninfo=adapter.URL, json_loads=orjson.loads, json_dumps=lambda value: orjson.dumps(value).decode()
    )
    app.job_manager.connector = app.connector


def use_asyncpg() -> None:
    """Run the worker on asyncpg."""
    from procrastinate_tasks import app

    from procrastinate.contrib.asyncpg import AsyncpgConnector

    app.connector = AsyncpgConnector(adapter.URL)
    app.job_manager.connector = app.connector


def no_floors() -> None:
    """Begin each claim at the beginning, however slow that is."""
    from procrastinate.worker import floors

    floors.SLOW = float("inf")


def keep_plans() -> None:
    """Leave plans to PostgreSQL, which keeps them until the table is analyzed."""
    from procrastinate.connections import adapter as connections

    connections.PlanKeeping.must_forget = lambda *_: False


def look_after_each_job() -> None:
    """Claim at once whenever a job has ended, although the claim before found all there was."""
    from procrastinate.worker import fetcher

    fetcher.SECOND_LOOK = 0.0


SWITCHES: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        claim_what_is_free,
        finish_one_by_one,
        small_batches,
        arrays_by_the_driver,
        check_connections,
        log_every_job,
        parse_with_orjson,
        use_asyncpg,
        no_floors,
        keep_plans,
        look_after_each_job,
    )
}


def apply() -> None:
    """Turn the switch that the environment names."""
    if name := os.environ.get(SWITCH_VARIABLE):
        sys.stderr.write(f"switch: {name}\n")
        SWITCHES[name]()
