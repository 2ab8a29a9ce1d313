"""The command `procrastinate jobs`."""

from __future__ import annotations

import datetime
import json
import textwrap
from collections.abc import Iterator
from typing import Any

import attrs
import click

from procrastinate.cli import discretion, filters, loading, output, parameters
from procrastinate.jobs import Job
from procrastinate.store.inspection import FindJobs, JobFilter, JobRecord

_DEFAULT_LIMIT = 50
_LONGEST_ARGUMENTS = 60


@click.command("jobs")
@filters.job_conditions
@click.option("--id", type=parameters.WholeNumber(), metavar="ID", help="The job with this id.")
@click.option("--details", is_flag=True, show_default=False, help="Show all about each job, with what went wrong.")
@filters.limit(_DEFAULT_LIMIT, "jobs")
@filters.as_json
@click.pass_obj
def command(
    options: loading.GlobalOptions,
    *,
    statuses: tuple[str, ...],
    details: bool,
    limit: int,
    as_json: bool,
    **conditions: Any,
) -> None:
    """List the jobs that meet all conditions, newest first.

    `procrastinate jobs --id 12 --details` shows the arguments of a job, the log of its attempts and its latest error.
    """
    app = options.load_app()
    # One more than is shown tells whether there are more.
    operation = FindJobs(
        conditions=JobFilter(statuses=statuses or None, **conditions), limit=limit + 1, with_log=details
    )
    records = loading.run(app, lambda app: app.connector.run_async(operation))
    may_show = discretion.logs_args_of(app)
    shown = [
        attrs.evolve(record, job=record.job.evolve(log_args=may_show(record.job.task_name)))
        for record in records[:limit]
    ]
    if as_json:
        output.print_json([_as_json(record) for record in shown])
    elif details:
        click.echo("\n\n".join("\n".join(_as_block(record)) for record in shown), nl=bool(shown))
    else:
        output.print_table([_as_line(record) for record in shown])
    if len(records) > limit:
        output.print_stderr(f"There are more jobs: --limit shows more than {limit}.")


def _as_json(record: JobRecord) -> dict[str, Any]:
    history = attrs.asdict(record, recurse=False)
    if record.attempts_log is None:
        del history["attempts_log"]
    job = history.pop("job").asdict()
    if not record.job.log_args:
        job["task_kwargs"] = None
    return {**job, **history}


def _as_line(record: JobRecord) -> dict[str, Any]:
    job = record.job
    arguments = _arguments(job)
    if len(arguments) > _LONGEST_ARGUMENTS:
        arguments = f"{arguments[: _LONGEST_ARGUMENTS - 1]}…"
    return {
        "id": job.id,
        "status": job.status,
        "queue": job.queue,
        "task": job.task_name,
        "arguments": arguments,
        "priority": job.priority,
        "lock": job.lock,
        "attempts": job.attempts,
        "scheduled": job.scheduled_at,
        "created": record.created_at,
    }


def _arguments(job: Job, indent: int | None = None) -> str:
    return json.dumps(job.task_kwargs, ensure_ascii=False, indent=indent, default=str) if job.log_args else "…"


def _as_block(record: JobRecord) -> Iterator[str]:
    """Yield the lines of all that is known about a job."""
    job, log = record.job, record.attempts_log or []
    yield f"Job {job.id}: {output.printable(job.task_name)}"
    status = job.status or ""
    if record.waits_for is not None:
        status += f" (waits for its {record.waits_for})"
    if job.abort_requested:
        status += " (asked to abort)"
    fields = {
        "status": status,
        "queue": job.queue,
        "priority": job.priority,
        "lock": job.lock,
        "queueing lock": job.queueing_lock,
        "worker": job.worker_id,
        "attempts": job.attempts,
        "created": record.created_at,
        "scheduled": job.scheduled_at,
        "started": record.attempted_at,
        "ended": record.finalized_at,
    }
    for name, value in fields.items():
        if value is not None:
            yield f"  {name:<14}{output.cell(value)}"
    yield "  arguments"
    yield textwrap.indent(_printable_lines(_arguments(job, indent=2)), "    ")
    if log:
        yield "  attempts that went wrong"
        yield from (f"    {output.printable(_attempt(entry))}" for entry in log)
    errors = [entry for entry in log if entry.get("traceback")]
    if errors:
        yield "  latest error"
        yield textwrap.indent(_printable_lines(errors[-1]["traceback"]), "    ")


def _attempt(entry: dict[str, Any]) -> str:
    """Return an entry of the log of attempts on one line."""
    number = f"{entry['number']}." if "number" in entry else "-"
    error = ": ".join(str(entry[key]) for key in ("exception", "message") if entry.get(key))
    worker = f"worker {entry['worker_id']}" if entry.get("worker_id") is not None else ""
    moments = (datetime.datetime.fromisoformat(entry[key]) for key in ("started_at", "ended_at") if entry.get(key))
    times = " to ".join(map(output.moment, moments))
    parts = (number, times, worker, entry.get("event"), entry.get("reason"), error)
    return "  ".join(str(part) for part in parts if part)


def _printable_lines(text: str) -> str:
    return "\n".join(output.printable(line) for line in text.splitlines())
