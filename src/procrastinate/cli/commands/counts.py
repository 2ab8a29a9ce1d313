"""The commands `procrastinate queues`, `tasks` and `locks`: how many jobs there are, by status."""

from __future__ import annotations

from typing import Any, Literal

import click

from procrastinate.cli import filters, loading, output
from procrastinate.store.jobs import CountJobs

_DEFAULT_LIMIT = 200


def _command(name: str, by: Literal["queue", "task", "lock"], description: str) -> click.Command:
    @click.command(name, help=description)
    @filters.group_conditions
    @filters.limit(_DEFAULT_LIMIT, name)
    @filters.as_json
    @click.pass_obj
    def command(options: loading.GlobalOptions, *, limit: int, as_json: bool, **conditions: Any) -> None:
        app = options.load_app()
        # One more than is shown tells whether there are more.
        counts = loading.run(app, lambda app: app.connector.run_async(CountJobs(by=by, limit=limit + 1, **conditions)))
        shown = counts[:limit]
        if as_json:
            output.print_json(shown)
        else:
            renamed = [{by: line["name"], "jobs": line["jobs_count"], **_statuses(line)} for line in shown]
            output.print_table(renamed)
        if len(counts) > limit:
            output.print_stderr(f"There are more {name}: --limit shows more than {limit}.")

    return command


def _statuses(line: dict[str, Any]) -> dict[str, int]:
    return {status: line[status] for status in filters.STATUSES}


queues = _command("queues", "queue", "Count jobs by queue and status. It reads the whole table.")
tasks = _command("tasks", "task", "Count jobs by task and status. It reads the whole table.")
locks = _command("locks", "lock", "Count the jobs that have a lock, by lock and status. It reads the whole table.")
