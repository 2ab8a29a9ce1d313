"""Around each task, what Django does around each request: connections that are too old or broken are closed."""

# Django has no types.
# pyright: basic

from __future__ import annotations

from typing import Any, cast

from asgiref.sync import sync_to_async
from django.db import close_old_connections, reset_queries

from procrastinate.job_context import JobContext
from procrastinate.middleware import AsyncCallNext, SyncCallNext, TaskMiddleware
from procrastinate.worker import Worker, WorkerOptions


def close_db_connections(call_next: SyncCallNext, _context: JobContext, _worker: Worker) -> Any:
    """Clean up before and after a sync task, in its own thread."""
    close_old_connections()
    try:
        return call_next()
    finally:
        _clean_up()


async def close_db_connections_async(call_next: AsyncCallNext, _context: JobContext, _worker: Worker) -> Any:
    """Clean up before and after an async task, in the thread in which its ORM calls run."""
    await sync_to_async(close_old_connections, thread_sensitive=True)()
    try:
        return await call_next()
    finally:
        await sync_to_async(_clean_up, thread_sensitive=True)()


def _clean_up() -> None:
    close_old_connections()
    # With DEBUG, Django keeps the text of every query.
    reset_queries()


CLEANUP: list[TaskMiddleware] = [close_db_connections, close_db_connections_async]


def with_db_cleanup(worker_defaults: WorkerOptions | None) -> WorkerOptions:
    """Return the options of a worker with the clean-up around all other middleware; the given ones stay as they are."""
    options = dict(worker_defaults or {})
    own = [each for each in cast("list[Any]", options.get("task_middleware") or []) if each not in CLEANUP]
    return cast("WorkerOptions", {**options, "task_middleware": [*CLEANUP, *own]})
