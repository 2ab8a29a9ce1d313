"""The command `procrastinate defer`."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from procrastinate import exceptions
from procrastinate.cli import loading, parameters

if TYPE_CHECKING:
    from procrastinate.app import App

_PREFIX = "PROCRASTINATE_DEFER_"
_NOT_AN_OBJECT = "Incorrect JSON_ARGS value expecting a valid json object (or dict)"


@click.command()
@click.argument("task")
@click.argument("words", metavar="[JSON | KEY=VALUE]...", nargs=-1)
@click.option(
    "--queue", envvar=f"{_PREFIX}QUEUE", show_envvar=True, show_default="the task's", help="Queue of the job."
)
@click.option(
    "--lock",
    envvar=f"{_PREFIX}LOCK",
    show_envvar=True,
    show_default="the task's",
    help="At most one job with this lock runs at a time.",
)
@click.option(
    "--queueing-lock",
    envvar=f"{_PREFIX}QUEUEING_LOCK",
    show_envvar=True,
    show_default="the task's",
    help="At most one job with this queueing lock waits at a time.",
)
@click.option(
    "--at",
    "schedule_at",
    type=parameters.Moment(),
    envvar=f"{_PREFIX}AT",
    show_envvar=True,
    help="Do not start before this date and time, in ISO format; without a time zone it is UTC.",
)
@click.option(
    "--in",
    "schedule_in",
    type=parameters.Seconds(),
    envvar=f"{_PREFIX}IN",
    show_envvar=True,
    help="Do not start before so many seconds from now; not together with --at.",
)
@click.option(
    "--priority",
    type=click.IntRange(-(2**31), 2**31 - 1),
    envvar=f"{_PREFIX}PRIORITY",
    show_envvar=True,
    show_default="the task's",
    metavar="INTEGER",
    help="Bigger runs earlier; may be negative.",
)
@click.option(
    "-i/ ",
    "--ignore-already-enqueued/--no-ignore-already-enqueued",
    "ignore_already_enqueued",
    type=parameters.Switch(),
    default=False,
    envvar=f"{_PREFIX}IGNORE_ALREADY_ENQUEUED",
    show_envvar=True,
    help="Succeed if a job with the same queueing lock waits already.",
)
@click.option(
    "--unknown/--no-unknown",
    "unknown",
    type=parameters.Switch(),
    default=False,
    envvar=f"{_PREFIX}UNKNOWN",
    show_envvar=True,
    help="Accept a task that the app does not know.",
)
@click.pass_obj
def defer(
    options: loading.GlobalOptions,
    *,
    task: str,
    words: tuple[str, ...],
    ignore_already_enqueued: bool,
    unknown: bool,
    schedule_at: datetime.datetime | None,
    schedule_in: float | None,
    **configuration: Any,
) -> None:
    """Defer a job and print its id.

    The task's arguments are a JSON object, or words such as `max_hours=72` whose values are JSON where possible and
    text otherwise; the last one wins. Without any, PROCRASTINATE_DEFER_JSON_ARGS is read.
    """
    if schedule_at is not None and schedule_in is not None:
        raise click.UsageError("Option --in is not allowed together with --at.")
    if schedule_in is not None:
        configuration["schedule_in"] = {"seconds": schedule_in}
    configuration["schedule_at"] = schedule_at
    app = options.load_app()
    arguments = parse_arguments(words or _words_of_environment(), app.connector.json_loads)

    async def insert(app: App) -> int | None:
        deferrer = app.configure_task(task, allow_unknown=unknown, task_kwargs=arguments, **configuration)
        call = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        click.echo(f"Launching a job: {task}({call})", err=True)
        try:
            return await deferrer.defer_async()
        except exceptions.AlreadyEnqueued as error:
            if not ignore_already_enqueued:
                raise
            click.echo(f"{error} (ignored)", err=True)
            return None

    job_id = loading.run(app, insert)
    if job_id is not None:
        click.echo(job_id)


def _words_of_environment() -> Iterable[str]:
    value = os.environ.get(f"{_PREFIX}JSON_ARGS", "").strip()
    return [value] if value else []


def parse_arguments(words: Iterable[str], loads: Callable[[Any], Any] | None = None) -> dict[str, Any]:
    """Read a task's keyword arguments from the words of a command line; later ones win.

    Args:
        words: JSON objects, or `key=value` with a value that is JSON or else text.
        loads: reads JSON in place of `json.loads`.

    Raises:
        click.ClickException: a word is neither.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        if not word.strip():
            continue
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            arguments[name] = _json_or_text(value, loads)
        else:
            arguments.update(_json_object(word, loads))
    return arguments


def _json_or_text(value: str, loads: Callable[[Any], Any] | None) -> Any:
    try:
        return _loads(value, loads)
    except (ValueError, RecursionError):
        return value


def _json_object(word: str, loads: Callable[[Any], Any] | None) -> dict[str, Any]:
    try:
        value = _loads(word, loads)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(f"{word!r} is neither KEY=VALUE nor JSON: {error}\n{_NOT_AN_OBJECT}") from error
    if not isinstance(value, dict):
        raise click.ClickException(f"{word!r} is not a JSON object.\n{_NOT_AN_OBJECT}")
    return cast("dict[str, Any]", value)


def _loads(text: str, loads: Callable[[Any], Any] | None) -> Any:
    return loads(text) if loads else json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too big")
    return number
