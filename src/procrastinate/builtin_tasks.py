"""Tasks that every app has: housekeeping that users schedule themselves."""

from __future__ import annotations

from procrastinate.blueprints import Blueprint
from procrastinate.job_context import JobContext

# Added to every app as it is made. The tasks below defer through the latest of them; each keeps tasks of its own.
builtin = Blueprint()


@builtin.task(
    name="builtin:procrastinate.builtin_tasks.remove_old_jobs",
    # Names under which documents and older programs call it.
    aliases=[
        "procrastinate.builtin_tasks.remove_old_jobs",
        "procrastinate_builtin_tasks.remove_old_jobs",
        "builtin:procrastinate.builtin.remove_old_jobs",
    ],
    pass_context=True,
    queue="builtin",
)
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
