"""The command `procrastinate retry`."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import click

from procrastinate import exceptions, types
from procrastinate.cli import changes, filters, parameters

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
    context: click.Context, *, ids: tuple[int, ...], retry_at: datetime.datetime | None, **conditions: Any
) -> None:
    """Put jobs back to wait: those with these ids, or the failed ones that meet the conditions.

    With --status doing or by its id, also a job that is running, for instance on a machine that is gone: the run that
    may go on is fenced off, and its outcome ignored.
    """

    async def retry(app: App, job_id: int) -> bool:
        try:
            await app.job_manager.retry_job_by_id_async(job_id, retry_at or types.utcnow())
        except exceptions.ConnectorException:
            # Either the job may not be retried, or the database is at fault.
            if await _is_retriable(app, job_id):
                raise
            return False
        return True

    action = changes.Action(
        verb="retry", done="retried", outcome=_outcome, statuses=_RETRIABLE[:1], allowed=_RETRIABLE, change=retry
    )
    changes.apply(context, action, changes.select(action, ids, **conditions))


def _outcome(status: str | None) -> str:
    # Its run was given up, and somebody had asked to abort it.
    return "failed, for an abort was requested" if status == "failed" else "retried"


async def _is_retriable(app: App, job_id: int) -> bool:
    try:
        return (await app.job_manager.get_job_status_async(job_id)).value in _RETRIABLE
    except exceptions.NoResult:
        return False
