"""The command `procrastinate defer`."""

from __future__ import annotations

import datetime
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from procrastinate import exceptions, jobs
from procrastinate.cli import completion, loading, output, parameters

if TYPE_CHECKING:
    from procrastinate.app import App

_PREFIX = "PROCRASTINATE_DEFER_"
_NOT_AN_OBJECT = "Incorrect JSON_ARGS value expecting a valid json object (or dict)"


@click.command("defer")
@click.argument("task", shell_complete=completion.task_names)
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
def command(
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
    configuration["task_kwargs"] = load_json_args(words or _words_of_environment(), app.connector.json_loads)
    # Before the app is opened: what is wrong shows at once, also if the database cannot be reached.
    deferrer = configure_task(app, task, configuration, unknown)
    loading.run(app, lambda _: _insert(deferrer, task, ignore_already_enqueued))


async def defer(
    app: App,
    task: str,
    json_args: str | Iterable[str] | None,
    ignore_already_enqueued: bool = False,
    unknown: bool = False,
    **configure_kwargs: Any,
) -> None:
    """Defer a job of an open app, print its call to standard error and its id to standard output.

    Args:
        app: the app.
        task: the name or an alias of the task.
        json_args: the task's arguments, as for `load_json_args`.
        ignore_already_enqueued: do nothing if a job with the same queueing lock waits.
        unknown: accept a task that the app does not know.
        **configure_kwargs: options of `App.configure_task`.

    Raises:
        click.ClickException: `json_args` cannot be read.
        TaskNotFound: the task is unknown.
        AlreadyEnqueued: a job with the same queueing lock waits.
    """
    task_kwargs = load_json_args(json_args, app.connector.json_loads)
    deferrer = configure_task(app, task, {**configure_kwargs, "task_kwargs": task_kwargs}, unknown)
    await _insert(deferrer, task, ignore_already_enqueued)


def configure_task(
    app: App, task_name: str, configure_kwargs: Mapping[str, Any], allow_unknown: bool
) -> jobs.JobDeferrer:
    """Return a deferrer for jobs of a task. Raises TaskNotFound if it is unknown and may not be."""
    return app.configure_task(task_name, allow_unknown=allow_unknown, **configure_kwargs)


async def _insert(deferrer: jobs.JobDeferrer, task: str, ignore_already_enqueued: bool) -> None:
    job = deferrer.job
    call = ", ".join(f"{name}={value!r}" for name, value in job.task_kwargs.items()) if job.log_args else "…"
    output.print_stderr(f"Launching a job: {task}({call})")
    try:
        click.echo(await deferrer.defer_async())
    except exceptions.AlreadyEnqueued as error:
        if not ignore_already_enqueued:
            raise
        output.print_stderr(f"{error} (ignored)")


def _words_of_environment() -> str:
    return os.environ.get(f"{_PREFIX}JSON_ARGS", "")


def load_json_args(
    json_args: str | Iterable[str] | None, json_loads: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """Read a task's keyword arguments from the words of a command line; later ones win.

    Args:
        json_args: JSON objects, or `key=value` with a value that is JSON or else text; one word or several.
        json_loads: reads JSON in place of `json.loads`.

    Raises:
        click.ClickException: a word is neither.
    """
    arguments: dict[str, Any] = {}
    for word in [json_args] if isinstance(json_args, str) else json_args or ():
        if not word.strip():
            continue
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            arguments[name] = _json_or_text(value, json_loads)
        else:
            arguments.update(_json_object(word, json_loads))
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
