"""The worker: services with one life cycle, around an executor."""

from procrastinate.worker.settings import (
    ABORT_JOB_POLLING_INTERVAL,
    FETCH_JOB_POLLING_INTERVAL,
    WORKER_CONCURRENCY,
    WORKER_NAME,
    WorkerOptions,
    WorkerSettings,
)
from procrastinate.worker.worker import Worker

__all__ = [
    "ABORT_JOB_POLLING_INTERVAL",
    "FETCH_JOB_POLLING_INTERVAL",
    "WORKER_CONCURRENCY",
    "WORKER_NAME",
    "Worker",
    "WorkerOptions",
    "WorkerSettings",
]
