"""The command `procrastinate workers`."""

from __future__ import annotations

from typing import Any

import click

from procrastinate.cli import filters, loading, output, parameters
from procrastinate.store.inspection import ListWorkers, WorkerRecord

_DEFAULT_LIMIT = 200


@click.command("workers")
@click.option(
    "--stalled-after",
    type=parameters.Seconds(0),
    default=30.0,
    help="Silence, in seconds, after which a worker counts as stalled.",
)
@filters.limit(_DEFAULT_LIMIT, "workers")
@filters.as_json
@click.pass_obj
def command(options: loading.GlobalOptions, *, stalled_after: float, limit: int, as_json: bool) -> None:
    """List workers: when they started, their latest sign of life, and how many jobs they run."""
    app = options.load_app()
    # One more than is shown tells whether there are more.
    workers = loading.run(app, lambda app: app.connector.run_async(ListWorkers(limit=limit + 1)))
    shown = workers[:limit]
    if as_json:
        output.print_json([_as_json(worker, stalled_after) for worker in shown])
    else:
        output.print_table([_as_line(worker, stalled_after) for worker in shown])
    if len(workers) > limit:
        output.print_stderr(f"There are more workers: --limit shows more than {limit}.")


def _status(worker: WorkerRecord, stalled_after: float) -> str:
    return "stalled" if worker.silence > stalled_after else "alive"


def _as_line(worker: WorkerRecord, stalled_after: float) -> dict[str, Any]:
    return {
        "id": worker.id,
        "name": worker.name,
        "queues": "all" if worker.queues is None else ", ".join(worker.queues),
        "status": _status(worker, stalled_after),
        "running": worker.running,
        "heartbeat": f"{output.duration(worker.silence)} ago",
        "started": worker.started_at,
    }


def _as_json(worker: WorkerRecord, stalled_after: float) -> dict[str, Any]:
    return {
        "id": worker.id,
        "name": worker.name,
        "queues": worker.queues,
        "status": _status(worker, stalled_after),
        "running_jobs": worker.running,
        "started_at": worker.started_at,
        "last_heartbeat": worker.last_heartbeat,
        "seconds_since_heartbeat": worker.silence,
    }
