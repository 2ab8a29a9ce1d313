"""The app that the worker processes of the tests run. Its database is named by the environment."""

import asyncio
import os
import signal
import time

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ.get("SAMPLE_DSN", "")))


@app.task
async def quick() -> None:
    """End at once."""


@app.task
async def sleep(seconds: float) -> None:
    """Run for a while, on the loop."""
    await asyncio.sleep(seconds)


@app.task
def block(seconds: float) -> None:
    """Run for a while, in a thread."""
    time.sleep(seconds)


@app.task
async def block_the_loop(seconds: float) -> None:
    """Hold the event loop for a while, as no coroutine should."""
    time.sleep(seconds)  # noqa: ASYNC251


@app.task
async def kill_the_worker() -> None:
    """End the process without a word."""
    os.kill(os.getpid(), signal.SIGKILL)
