"""Tasks that every app has: housekeeping that users schedule themselves."""

from __future__ import annotations

import weakref
from typing import Any

from typing_extensions import override

from procrastinate import exceptions, jobs
from procrastinate.blueprints import Blueprint
from procrastinate.job_context import JobContext
from procrastinate.tasks import Task

NAME = "builtin:procrastinate.builtin_tasks.remove_old_jobs"

# Names under which documents and older programs call it.
ALIASES = [
    "procrastinate.builtin_tasks.remove_old_jobs",
    "procrastinate_builtin_tasks.remove_old_jobs",
    "builtin:procrastinate.builtin.remove_old_jobs",
]


class _BuiltinBlueprint(Blueprint):
    """The home of the module's own task objects: they defer through the app that was made last."""

    _app: weakref.ReferenceType[Blueprint] | None = None

    @override
    def will_configure_task(self) -> None:
        self._latest().will_configure_task()

    @property
    @override
    def job_manager(self) -> jobs.JobDefererManager:
        return self._latest().job_manager

    def _latest(self) -> Blueprint:
        app = self._app() if self._app is not None else None
        if app is None:
            raise exceptions.UnboundTaskError
        return app

    def belongs_to(self, app: Blueprint) -> None:
        self._app = weakref.ref(app)


builtin = _BuiltinBlueprint()


@builtin.task(name=NAME, aliases=ALIASES, pass_context=True, queue="builtin")
async def remove_old_jobs(
    context: JobContext,
    *,
    max_hours: float,
    queue: str | None = None,
    remove_failed: bool | None = False,
    remove_cancelled: bool | None = False,
    remove_aborted: bool | None = False,
) -> None:
    """Delete jobs that ended more than `max_hours` ago: succeeded ones, and those of other statuses if asked.

    Args:
        context: of the job, or of the task that calls this one.
        max_hours: age in hours.
        queue: only jobs of this queue.
        remove_failed: also delete failed jobs.
        remove_cancelled: also delete cancelled jobs.
        remove_aborted: also delete aborted jobs.
    """
    await context.app.job_manager.delete_old_jobs(
        nb_hours=max_hours,
        queue=queue,
        include_failed=remove_failed,
        include_cancelled=remove_cancelled,
        include_aborted=remove_aborted,
    )


def add_to(app: Blueprint) -> None:
    """Give an app tasks of its own, bound to it for good, and let the module's task defer through it."""
    own: Task[..., Any] = Task(
        remove_old_jobs.func, blueprint=app, name=NAME, aliases=ALIASES, pass_context=True, queue="builtin"
    )
    app.register(own)
    builtin.belongs_to(app)
