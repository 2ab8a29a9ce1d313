"""The command `procrastinate retry`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import click

from procrastinate import types
from procrastinate.cli import changes, filters, parameters
from procrastinate.store import flows
from procrastinate.store.jobs import RetryJob
from procrastinate.store.operation import run_flow_async

if TYPE_CHECKING:
    from procrastinate.app import App

_RETRIABLE = ("failed", "doing")


@click.command("retry")
@click.argument("ids", metavar="[ID]...", type=parameters.WholeNumber(), nargs=-1)
@filters.job_conditions
@click.option("--at", "retry_at", type=parameters.Moment(), help="Not before this date and time, in ISO format.")
@filters.confirmed
@click.pass_context
def command(
    context: click.Context,
    *,
    ids: tuple[int, ...],
    retry_at: datetime.datetime | None,
    statuses: tuple[str, ...],
    **conditions: Any,
) -> None:
    """Put jobs back to wait: those with these ids, or the failed ones that meet the conditions.

    With --status doing or by its id, also a job that is running, for instance on a machine that is gone: the run that
    may go on is fenced off, and its outcome ignored.
    """
    # What is failed when the conditions are looked at may run when its turn comes, for somebody else retried it.
    only_failed = not ids and "doing" not in statuses

    async def retry(app: App, job_id: int) -> bool:
        operation = RetryJob(
            job_id=job_id,
            retry_at=retry_at or types.utcnow(),
            priority=None,
            queue=None,
            lock=None,
            only_failed=only_failed,
        )
        return (await run_flow_async(flows.change(operation), app.connector.run_async)).changed

    action = changes.Action(
        verb="retry", done="retried", outcome=_outcome, statuses=_RETRIABLE[:1], allowed=_RETRIABLE, change=retry
    )
    changes.apply(context, action, changes.select(action, ids, statuses=statuses, **conditions))


def _outcome(status: str | None) -> str:
    # Its run was given up, and somebody had asked to abort it.
    return "failed, for an abort was requested" if status == "failed" else "retried"
