"""What `procrastinate retry` and `procrastinate cancel` share: change jobs by id, or all that meet conditions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import click

from procrastinate import exceptions
from procrastinate.cli import loading, output
from procrastinate.store.inspection import CountFoundJobs, FindJobs, JobFilter

if TYPE_CHECKING:
    from procrastinate.app import App

_PAGE = 500


class _Change(Protocol):
    """Changes a job and returns whether it did; raises an error that says why not where there is more to say."""

    def __call__(self, app: App, job_id: int, /) -> Coroutine[Any, Any, bool]: ...


@attrs.frozen(kw_only=True)
class Action:
    """Something to do with jobs.

    Attributes:
        verb: what it is called, such as `cancel`.
        done: what became of the jobs, such as `cancelled`.
        outcome: what became of one job, by the status that it has now, None if it was deleted.
        statuses: the statuses of the jobs that it is meant for, where none are asked for.
        allowed: the statuses for which it can be asked.
        change: does it to one job.
        hint: what else to say about other statuses.
    """

    verb: str
    done: str
    outcome: Callable[[str | None], str]
    statuses: Sequence[str]
    allowed: Sequence[str]
    change: _Change
    hint: str = ""


@attrs.frozen(kw_only=True)
class Selection:
    """Which jobs are meant: those with these ids, or those that meet the conditions; never both.

    Attributes:
        ids: ids of jobs.
        conditions: conditions on jobs.
        is_confirmed: nobody need be asked whether to change so many.
    """

    ids: Sequence[int]
    conditions: JobFilter
    is_confirmed: bool


def select(
    action: Action, ids: Sequence[int], *, statuses: Sequence[str], is_confirmed: bool, **conditions: Any
) -> Selection:
    """Make the selection of what was typed. Raises a usage error where it makes no sense."""
    is_filtered = bool(statuses) or any(value is not None for value in conditions.values())
    if ids and is_filtered:
        raise click.UsageError("Give either ids or conditions, not both.")
    if not ids and not is_filtered:
        raise click.UsageError(
            f"Say which jobs: give their ids, or conditions such as --queue, or --status {action.statuses[0]} for all."
        )
    for status in statuses:
        if status not in action.allowed:
            hint = f"{action.verb} is for jobs that are {' or '.join(action.allowed)}"
            raise click.UsageError(f"{hint}, not {status}.{action.hint and f' {action.hint}'}")
    chosen = JobFilter(statuses=statuses or action.statuses, **conditions)
    return Selection(ids=ids, conditions=chosen, is_confirmed=is_confirmed)


def apply(context: click.Context, action: Action, selection: Selection) -> None:
    """Change the jobs, and say what became of them."""
    app = context.ensure_object(loading.GlobalOptions).load_app()
    with loading.opened(app) as runner:
        if selection.ids:
            if not runner.run(_change_each(app, action, selection.ids)):
                context.exit(1)
            return
        counts = runner.run(app.connector.run_async(CountFoundJobs(conditions=selection.conditions)))
        if not counts:
            output.print_stderr("No job meets the conditions.")
            return
        total = sum(counts.values())
        by_status = ", ".join(f"{count} {status}" for status, count in counts.items())
        output.print_stderr(f"Jobs that meet the conditions: {total} ({by_status}).")
        if not selection.is_confirmed:
            _confirm(action, total)
        runner.run(_change_all(app, action, selection.conditions))


def _confirm(action: Action, total: int) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"Nobody is here to confirm, and nothing was changed: add --yes to {action.verb} them.")
    click.confirm(f"{action.verb.capitalize()} {output.plural(total)}?", abort=True, err=True)


async def _change_each(app: App, action: Action, ids: Sequence[int]) -> bool:
    """Change the jobs with these ids; return whether all of them were changed."""
    all_changed = True
    for job_id in dict.fromkeys(ids):
        refusal = await _refusal(app, action, job_id)
        after = await _status(app, job_id)
        if refusal is None:
            click.echo(f"Job {job_id}: {action.outcome(after)}")
        else:
            all_changed = False
            reason = "there is no such job" if after is None else f"it is {after}{refusal and f'; {refusal}'}"
            output.print_stderr(f"Job {job_id}: not {action.done}, {reason}")
    return all_changed


async def _change_all(app: App, action: Action, conditions: JobFilter) -> None:
    """Change the jobs that meet the conditions, page by page, newest first."""
    changed, before = 0, None
    refused: dict[str, int] = {}
    while True:
        page = await app.connector.run_async(FindJobs(conditions=conditions, limit=_PAGE, before=before))
        for record in page:
            assert record.job.id is not None  # noqa: S101  it comes from the database
            before = record.job.id
            refusal = await _refusal(app, action, before)
            if refusal is None:
                changed += 1
            else:
                reason = refusal or "changed in between"
                refused[reason] = refused.get(reason, 0) + 1
        if len(page) < _PAGE:
            break
    click.echo(f"{output.plural(changed)} {action.done}")
    for reason, count in refused.items():
        output.print_stderr(f"{output.plural(count)} not {action.done}: {reason}")


async def _refusal(app: App, action: Action, job_id: int) -> str | None:
    """Change a job; return None if that worked, else why not, as far as its status does not say it."""
    try:
        return None if await action.change(app, job_id) else ""
    except exceptions.AlreadyEnqueued as error:
        return str(error)


async def _status(app: App, job_id: int) -> str | None:
    try:
        return (await app.job_manager.get_job_status_async(job_id)).value
    except exceptions.NoResult:
        return None
