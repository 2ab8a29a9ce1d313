"""The application of the acceptance tests, imported by the processes that they start."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import procrastinate

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["PROCRASTINATE_TEST_DSN"],
        max_size=4,
        timeout=float(os.environ.get("PROCRASTINATE_TEST_POOL_TIMEOUT", "20")),
    )
)


@app.task(name="add", aliases=["plus"])
def add(a, b):
    return a + b


@app.task(name="anything")
async def anything(**kwargs):
    return kwargs


@app.task(name="pay", log_args=False)
def pay(card):
    raise ValueError(card)


@app.task(name="fail")
def fail():
    raise ValueError("on purpose")


@app.task(name="hold")
def hold(path):
    """Run until the file is there; another one tells that it has begun."""
    Path(f"{path}.begun").touch()
    while not Path(path).exists():
        time.sleep(0.01)


@app.task(name="hold_async")
async def hold_async(path):
    """Run until the file is there; another one tells that it has begun."""
    Path(f"{path}.begun").touch()  # noqa: ASYNC240  as below
    while not Path(path).exists():  # noqa: ASYNC240  another process makes it
        await asyncio.sleep(0.01)


@app.task(name="hold_or_retry", retry=True)
async def hold_or_retry(path):
    """Run until the file is there; again, if aborted by the end of the worker."""
    await hold_async(path)
