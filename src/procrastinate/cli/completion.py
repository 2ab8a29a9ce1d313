"""What a shell completes, where an app is configured. Nothing here may fail or print: the user is typing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from procrastinate.cli import loading

if TYPE_CHECKING:
    from procrastinate.app import App


def task_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name or alias of a task."""
    app = _app(context)
    return _items(app.tasks if app else (), incomplete)


def queue_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a queue that some task has, the last one of a list with commas."""
    app = _app(context)
    before, comma, last = incomplete.rpartition(",")
    names = {task.queue for task in app.tasks.values()} if app else set[str]()
    return [CompletionItem(before + comma + item.value) for item in _items(names, last)]


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _app(context: click.Context) -> App | None:
    path = context.find_root().params.get("app_path")
    silence = io.StringIO()
    with (
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
        # SystemExit too: some modules exit where a variable is missing.
        contextlib.suppress(Exception, SystemExit),
    ):
        app = context.obj.load_app() if context.obj else loading.load_app(path)
        app.perform_import_paths()
        return app
    return None
