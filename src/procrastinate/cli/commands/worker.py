"""The command `procrastinate worker`."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from procrastinate.cli import completion, loading, output, parameters, summary, supervisor

if TYPE_CHECKING:
    from procrastinate.app import App

_PREFIX = "PROCRASTINATE_WORKER_"


@click.command("worker")
@click.argument("queue_names", metavar="[QUEUE]...", nargs=-1, shell_complete=completion.queue_names)
@click.option("-n", "--name", envvar=f"{_PREFIX}NAME", show_envvar=True, help="Name of the worker, for logs.")
@click.option(
    "-q",
    "--queues",
    type=parameters.Queues(),
    metavar="A,B,…",
    shell_complete=completion.queue_names,
    envvar=f"{_PREFIX}QUEUES",
    show_envvar=True,
    help="Queues to serve, separated by commas; empty for all. Joined with those given as arguments.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(min=1),
    envvar=f"{_PREFIX}CONCURRENCY",
    show_envvar=True,
    help="How many jobs run at a time.",
)
@click.option(
    "-p",
    "--fetch-job-polling-interval",
    type=parameters.Seconds(0, is_open=True),
    envvar=f"{_PREFIX}FETCH_JOB_POLLING_INTERVAL",
    show_envvar=True,
    help="Longest idle time between two looks for jobs.",
)
@click.option(
    "-a",
    "--abort-job-polling-interval",
    type=parameters.Seconds(0),
    envvar=f"{_PREFIX}ABORT_JOB_POLLING_INTERVAL",
    show_envvar=True,
    help="Time between two looks for abort requests, while jobs run.",
)
@click.option(
    "--shutdown-graceful-timeout",
    type=parameters.Seconds(0),
    envvar=f"{_PREFIX}SHUTDOWN_GRACEFUL_TIMEOUT",
    show_envvar=True,
    help="Time for running jobs to end after a stop, before they are aborted.",
)
@click.option(
    "-w/ ",
    "--wait/--one-shot",
    "wait",
    type=parameters.Switch(),
    default=None,
    envvar=f"{_PREFIX}WAIT",
    show_envvar=True,
    help="Wait for further jobs, or end once none is left.",
)
@click.option(
    "-l/ ",
    "--listen-notify/--no-listen-notify",
    "listen_notify",
    type=parameters.Switch(),
    default=None,
    envvar=f"{_PREFIX}LISTEN_NOTIFY",
    show_envvar=True,
    help="Learn of new jobs and abort requests at once, on a connection of its own.",
)
@click.option(
    "--delete-jobs",
    type=click.Choice(["never", "successful", "always"]),
    envvar=f"{_PREFIX}DELETE_JOBS",
    show_envvar=True,
    help="Which finished jobs to delete.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65_535),
    envvar=f"{_PREFIX}HEALTH_PORT",
    show_envvar=True,
    metavar="PORT",
    help="Answer HTTP requests for the worker's health there: GET /livez, /readyz, /healthz. 0 for any free port. With "
    "--processes, this is the first one's, and the next ones have the ports that follow.",
)
@click.option(
    "--health-host",
    envvar=f"{_PREFIX}HEALTH_HOST",
    show_envvar=True,
    metavar="ADDRESS",
    help="Address for --health-port, by default 127.0.0.1; whoever reaches it may ask.",
)
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    envvar=f"{_PREFIX}PROCESSES",
    show_envvar=True,
    help="Worker processes, each with these options; one that dies is started again.",
)
@click.pass_context
def command(context: click.Context, *, queue_names: tuple[str, ...], processes: int, **options: Any) -> None:
    """Run jobs of these queues, or of all.

    What is not given here comes from the app's `worker_defaults`. The first SIGINT or SIGTERM lets running jobs end,
    the second ends the process at once.
    """
    given = {name: value for name, value in options.items() if value is not None}
    queues = _queues(context, queue_names, given.pop("queues", None))
    if queues is not None:
        given["queues"] = list(queues) or None
    global_options = context.ensure_object(loading.GlobalOptions)
    app = global_options.load_app()
    number = 0
    if supervisor.is_supervised():
        number = supervisor.stop_with_supervisor()
        port = given.get("health_port", app.worker_defaults.get("health_port"))
        if port:
            given["health_port"] = port + number
    elif processes > 1:
        context.exit(supervisor.supervise(processes))
    _announce(app, given)
    _end_at_second_interrupt()

    async def run(app: App) -> None:
        # What is the same for all processes is said once.
        if number == 0 and global_options.logging is not None and global_options.logging.is_for_people:
            await summary.print_summary(app, global_options.app_name, given)
        await app.run_worker_async(**given)

    loading.run(app, run)


async def worker_(app: App, **kwargs: Any) -> None:
    """Say so on standard error, and run a worker of an open app; the options are those of `App.run_worker`."""
    _announce(app, kwargs)
    await app.run_worker_async(**kwargs)


def _announce(app: App, options: Mapping[str, Any]) -> None:
    queues: Iterable[str] | None = options.get("queues", app.worker_defaults.get("queues"))
    output.print_stderr(f"Launching a worker on {', '.join(queues) if queues else 'all queues'}")


def _queues(context: click.Context, typed: tuple[str, ...], option: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Return the queues asked for: empty for all, None if nothing was said."""
    if not typed:
        return option
    if context.get_parameter_source("queues") is click.core.ParameterSource.COMMANDLINE:
        return (*typed, *(option or ()))
    # What is typed goes before the environment.
    return typed


def _end_at_second_interrupt() -> None:
    """Leave Ctrl-C to the system wherever the worker does not handle it.

    The worker restores what it found. Python's own handler would only raise an exception, and the event loop then
    waits for the running jobs once more.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
