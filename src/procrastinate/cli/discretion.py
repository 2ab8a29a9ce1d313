"""Whose arguments may be shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from procrastinate.cli import loading, output

if TYPE_CHECKING:
    from procrastinate.app import App


def logs_args_of(app: App) -> Callable[[str], bool]:
    """Return a function that tells of a task's name whether its arguments may be shown.

    The tasks say so, so their modules are imported. If that fails, no arguments are shown: one must be able to look at
    jobs all the same, for instance at those that failed because of it.
    """
    try:
        app.perform_import_paths()
    except Exception as error:  # noqa: BLE001  whatever the user's modules raise
        reason = ": ".join(loading.messages(error, with_types=True))
        output.print_stderr(f"No arguments are shown: the tasks, which say whose may be, cannot be imported ({reason})")
        return lambda _: False
    return app.logs_args_of
