"""What a worker says of itself on a terminal when it starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs

import procrastinate
from procrastinate import exceptions
from procrastinate.cli import log_settings, output

if TYPE_CHECKING:
    from procrastinate.app import App

# Asked of the server, so that it is where we are, whatever driver, pooler and variables brought us there.
_WHERE = """
select current_database()::text as name, current_user::text as user, host(inet_server_addr()) as host,
  inet_server_port() as port, split_part(current_setting('server_version'), ' ', 1) as version
"""


async def print_summary(app: App, app_name: str, options: Mapping[str, Any]) -> None:
    """Print to standard error what a worker of an open app will do.

    Args:
        app: the app.
        app_name: what to call it.
        options: what `App.run_worker` is given.
    """
    lines = {
        "procrastinate": procrastinate.__version__,
        "app": app_name,
        "database": await _database(app),
        **_settings(app, options),
        "tasks": _tasks(app),
        "to stop": "Ctrl-C lets running jobs end, a second one ends the process at once",
    }
    if log_settings.is_rich(sys.stderr):
        _draw(lines)
    else:
        for name, text in lines.items():
            output.print_stderr(f"  {name:<14}{text}")


async def _database(app: App) -> str:
    try:
        found = await app.connector.execute_query_one_async(_WHERE)
    except exceptions.ConnectorException:
        # In memory, or the worker is about to tell what is wrong.
        return type(app.connector).__name__
    place = f"at {found['host']}:{found['port']}" if found["host"] else "on a Unix socket"
    return output.printable(f"{found['name']} {place}, as {found['user']} (PostgreSQL {found['version']})")


def _settings(app: App, options: Mapping[str, Any]) -> dict[str, str]:
    # Here, not at the top: the help needs no worker.
    from procrastinate.worker.settings import WorkerSettings  # noqa: PLC0415

    defaults = WorkerSettings()
    settings = WorkerSettings.from_options({**app.worker_defaults, **options})
    lines = {
        "queues": ", ".join(settings.queues) if settings.queues else "all",
        "concurrency": str(settings.concurrency),
    }
    others = {
        name: value
        for name, value in attrs.asdict(settings, recurse=False).items()
        if name not in lines and value != getattr(defaults, name)
    }
    if others:
        lines["options"] = ", ".join(f"{name}={_shown(value)}" for name, value in others.items())
    return lines


def _shown(value: Any) -> str:
    """Return an option's value, for people; what a context holds is nobody's business."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: …" for key in cast("Mapping[str, Any]", value)) + "}"
    if isinstance(value, list):
        names = [getattr(item, "__name__", type(item).__name__) for item in cast("list[Any]", value)]
        return f"[{', '.join(names)}]"
    return str(getattr(value, "value", value))


def _tasks(app: App) -> str:
    app.perform_import_paths()
    # Aliases stand for the same task; the builtin ones are in every app.
    count = len({id(task) for task in app.tasks.values() if not task.name.startswith("builtin:")})
    periodic = len(app.periodic_registry.periodic_tasks)
    return f"{count}{f', {periodic} periodic' if periodic else ''}"


def _draw(lines: Mapping[str, str]) -> None:
    from rich.console import Console  # noqa: PLC0415  an extra
    from rich.table import Table  # noqa: PLC0415  an extra
    from rich.text import Text  # noqa: PLC0415  an extra

    table = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        table.add_row(Text(f"  {name}", style="bold cyan"), Text(text))
    Console(stderr=True).print(table)
