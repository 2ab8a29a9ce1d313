"""The command `procrastinate cancel`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from procrastinate.cli import changes, filters, parameters

if TYPE_CHECKING:
    from procrastinate.app import App


@click.command("cancel")
@click.argument("ids", metavar="[ID]...", type=parameters.WholeNumber(), nargs=-1)
@filters.job_conditions
@click.option("--abort", is_flag=True, show_default=False, help="Also ask jobs to stop that run already.")
@click.option("--delete", is_flag=True, show_default=False, help="Delete waiting jobs instead of keeping them.")
@filters.confirmed
@click.pass_context
def command(context: click.Context, *, ids: tuple[int, ...], abort: bool, delete: bool, **conditions: Any) -> None:
    """Cancel waiting jobs: those with these ids, or all that meet the conditions."""

    async def cancel(app: App, job_id: int) -> bool:
        return await app.job_manager.cancel_job_by_id_async(job_id, abort=abort, delete_job=delete)

    statuses = ["todo", "doing"] if abort else ["todo"]
    action = changes.Action(
        verb="cancel",
        done=("deleted" if delete else "cancelled") + (" or asked to abort" if abort else ""),
        outcome=_outcome,
        statuses=statuses,
        allowed=statuses,
        change=cancel,
        hint="" if abort else "For jobs that run, add --abort.",
    )
    changes.apply(context, action, changes.select(action, ids, **conditions))


def _outcome(status: str | None) -> str:
    match status:
        case None:
            return "deleted"
        case "cancelled":
            return "cancelled"
        case _:
            return "asked to abort"
