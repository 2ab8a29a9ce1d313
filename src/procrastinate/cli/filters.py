"""Options that say which jobs are meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from procrastinate.cli import completion, parameters
from procrastinate.jobs import Status

_Command = TypeVar("_Command", bound=Callable[..., Any])

STATUSES: Final = [status.value for status in Status if status is not Status.ABORTING]


def _all_of(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def limit(default: int, what: str) -> Callable[[_Command], _Command]:
    """Return the option `--limit`."""
    return click.option("--limit", type=parameters.WholeNumber(1), default=default, help=f"At most so many {what}.")


confirmed = click.option(
    "-y", "--yes", "is_confirmed", is_flag=True, show_default=False, help="Do not ask whether to change so many jobs."
)
as_json = click.option("--json", "as_json", is_flag=True, show_default=False, help="Print one JSON array.")

_QUEUE = click.option("--queue", shell_complete=completion.queue_names, help="In this queue.")
_TASK = click.option("--task", shell_complete=completion.task_names, help="Of this task.")
_LOCK = click.option("--lock", help="With this lock.")

group_conditions = _all_of(
    _QUEUE, _TASK, click.option("--status", type=click.Choice(STATUSES), help="With this status."), _LOCK
)
"""The conditions of `queues`, `tasks` and `locks`."""

job_conditions = _all_of(
    _QUEUE,
    _TASK,
    click.option(
        "--status",
        "statuses",
        type=click.Choice(STATUSES),
        multiple=True,
        help="With this status; may be given more than once.",
    ),
    _LOCK,
    click.option("--queueing-lock", help="With this queueing lock."),
    click.option("--worker-id", type=parameters.WholeNumber(), metavar="ID", help="Run by this worker."),
)
"""The conditions of `jobs`, `retry` and `cancel`."""
