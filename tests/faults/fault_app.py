"""The app of the fault suite's workers. Its tasks write down each of their runs, in a file that nothing can undo.

Everything comes from the environment: FAULTS_DSN, FAULTS_JOURNAL, FAULTS_OPTIONS (the worker's) and FAULTS_POOL (the
connector's), both JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import Iterator

import procrastinate

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ.get("FAULTS_DSN", ""), **json.loads(os.environ.get("FAULTS_POOL", "{}"))
    ),
    worker_defaults=json.loads(os.environ.get("FAULTS_OPTIONS", "{}")),
)


def write(event: str, context: procrastinate.JobContext) -> None:
    """Append a line; one `write` in append mode is whole or not there, whoever else writes or dies."""
    job = context.job
    entry = {"event": event, "job": job.id, "lock": job.lock, "attempt": job.attempts, "pid": os.getpid()}
    # The machine's own clock, the same for all processes and not to be set.
    line = json.dumps({**entry, "at": time.clock_gettime(time.CLOCK_MONOTONIC)}) + "\n"
    handle = os.open(os.environ["FAULTS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@contextlib.contextmanager
def written(context: procrastinate.JobContext) -> Iterator[None]:
    write("start", context)
    try:
        yield
    finally:
        write("end", context)


@app.task(name="work", pass_context=True)
async def work(context, seconds=0.0, **_):
    with written(context):
        await asyncio.sleep(seconds)


@app.task(name="work_in_thread", pass_context=True)
def work_in_thread(context, seconds=0.0):
    with written(context):
        time.sleep(seconds)


@app.task(name="block_the_loop", pass_context=True)
async def block_the_loop(context, seconds):
    with written(context):
        compute(seconds)


@app.task(name="compute_in_thread", pass_context=True)
def compute_in_thread(context, seconds):
    with written(context):
        compute(seconds)


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1_000))


@app.task(name="hold_the_gil", pass_context=True)
def hold_the_gil(context, seconds):
    with written(context):
        # A C call that does not let go of the interpreter's lock: no other thread of the process runs meanwhile.
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


@app.task(name="fail_first", pass_context=True, retry=procrastinate.RetryStrategy(max_attempts=10, wait=0))
async def fail_first(context, times, seconds=0.0):
    with written(context):
        await asyncio.sleep(seconds)
        if context.job.attempts < times:
            raise ValueError(f"attempt {context.job.attempts}, as planned")


@app.task(name="die", pass_context=True)
def die(context):
    write("start", context)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="wait_for_abort", pass_context=True)
async def wait_for_abort(context, seconds=60.0):
    with written(context):
        await asyncio.sleep(seconds)


@app.task(name="wait_for_abort_in_thread", pass_context=True)
def wait_for_abort_in_thread(context, seconds=60.0):
    with written(context):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if context.should_abort():
                raise procrastinate.exceptions.JobAborted
            time.sleep(0.01)


class Unspeakable(Exception):  # noqa: N818
    def __str__(self):
        raise RuntimeError("not even its message can be made")


class Unprintable:
    def __repr__(self):
        raise RuntimeError("not even it can be shown")


ENDS = {
    error.__name__: error
    for error in (
        *(SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError, StopIteration, StopAsyncIteration),
        *(asyncio.CancelledError, asyncio.TimeoutError, BaseException, ExceptionGroup, Unspeakable),
    )
}


def end_badly(kind):
    """Return what it returns, or raise what it raises."""
    match kind:
        case "ExceptionGroup":
            raise ExceptionGroup("several", [ValueError("one"), Unspeakable()])
        case "nul":
            raise ValueError("a NUL \x00 and a lone surrogate \udc80")
        case "unprintable result":
            return Unprintable()
        case "huge message":
            raise ValueError("x" * 50_000_000)
        case "endless recursion":
            return end_badly(kind)
        case _:
            error = ENDS[kind]
            raise error


@app.task(name="poison", pass_context=True)
async def poison(context, kind):
    with written(context):
        return end_badly(kind)


@app.task(name="poison_in_thread", pass_context=True)
def poison_in_thread(context, kind):
    with written(context):
        return end_badly(kind)


@app.task(name="close_the_executor", pass_context=True)
async def close_the_executor(context):
    with written(context):
        await asyncio.get_running_loop().shutdown_default_executor()


@app.task(name="cancel_everybody", pass_context=True)
async def cancel_everybody(context):
    with written(context):
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task() and "job" in task.get_name():
                task.cancel()


if "FAULTS_CRON" in os.environ:

    @app.periodic(cron=os.environ["FAULTS_CRON"])
    @app.task(name="tick", pass_context=True, queueing_lock=os.environ.get("FAULTS_QUEUEING_LOCK"))
    async def tick(context, timestamp):
        with written(context):
            await asyncio.sleep(float(os.environ.get("FAULTS_TICK_SECONDS", "0")))
