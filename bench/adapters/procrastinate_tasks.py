"""The tasks of both implementations."""

from __future__ import annotations

import asyncio

import procrastinate
from bench import adapter
from bench.tally import hit

connector = procrastinate.PsycopgConnector(conninfo=adapter.URL, min_size=1, max_size=20)
app = procrastinate.App(connector=connector)


@app.task(name="noop")
async def noop(i: int) -> None:
    hit(i)


@app.task(name="noop_sync")
def noop_sync(i: int) -> None:
    hit(i)


@app.task(name="nap")
async def nap(i: int) -> None:
    hit(i)
    await asyncio.sleep(0.001)
