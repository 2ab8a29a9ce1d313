"""What the admin can do to jobs, and how it tells what came of it."""

from __future__ import annotations

# Django has no types.
# pyright: basic
from collections.abc import Callable
from typing import Any

import attrs
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import Q

from procrastinate import exceptions, types
from procrastinate.contrib.django import procrastinate_app
from procrastinate.manager import JobManager

# Each job is a statement or two of its own; so many take some seconds.
MOST = 5_000


@attrs.frozen(kw_only=True)
class JobAction:
    """Something that people do to jobs.

    Attributes:
        name: the action's name, in URLs and permissions.
        label: on its button.
        description: in the list of actions.
        fits: which jobs it is for.
        change: does it to one job, and tells whether the job was changed.
        done: what was done, as in "2 jobs were …".
        refusal: why others are left as they are.
    """

    name: str
    label: str
    description: str
    fits: Q
    change: Callable[[JobManager, int], bool]
    done: str
    refusal: str

    @property
    def permission(self) -> str:
        """The permission that it takes."""
        return f"procrastinate.{self.name}_procrastinatejob"

    def is_allowed(self, request: Any) -> bool:
        """Tell whether the user may do it."""
        return request.user.has_perm(self.permission)

    def apply(self, request: Any, queryset: Any) -> None:
        """Do it to the jobs of a queryset that it is for, and say what happened."""
        manager = procrastinate_app.current_app.job_manager
        chosen = queryset.order_by().values_list("id", flat=True)
        fitting = list(chosen.filter(self.fits)[: MOST + 1])
        others = chosen.exclude(self.fits)[: MOST + 1].count()
        has_more = len(fitting) > MOST
        changed, taken = [], 0
        for job_id in fitting[:MOST]:
            try:
                if self.change(manager, job_id):
                    changed.append(job_id)
                else:
                    others += 1
            except exceptions.AlreadyEnqueued:
                taken += 1
            except exceptions.ConnectorException as error:
                if type(error) is not exceptions.ConnectorException:
                    raise
                others += 1  # it changed between the look and the deed
        self._record(request, queryset.model.objects.filter(id__in=changed))
        self._report(request, len(changed), others, taken, has_more=has_more)

    def _record(self, request: Any, jobs: Any) -> None:
        if jobs:
            LogEntry.objects.log_actions(request.user.pk, jobs, CHANGE, change_message=f"{self.label}.")

    def _report(self, request: Any, changed: int, others: int, taken: int, *, has_more: bool) -> None:
        if changed:
            messages.success(request, f"{_jobs(changed)} {self.done}.")
        if taken:
            text = "another job with the same queueing lock is waiting"
            messages.warning(
                request,
                f"{_jobs(taken)} left as it was: {text}."
                if taken == 1
                else f"{_jobs(taken)} left as they were: for each, {text}.",
            )
        if others:
            count = f"More than {_jobs(MOST)}" if others > MOST else _jobs(others)
            messages.warning(request, f"{count} left as {'it was' if others == 1 else 'they were'}: {self.refusal}.")
        if has_more:
            messages.warning(request, f"These were the first {MOST}: do it again for the rest.")


def _jobs(count: int) -> str:
    return "1 job was" if count == 1 else f"{count} jobs were"


RETRY = JobAction(
    name="retry",
    label="Retry",
    description="Retry Job (only failed jobs)",
    fits=Q(status="failed"),
    change=lambda manager, job_id: manager.retry_job_by_id(job_id, types.utcnow()) is None,
    done="put back to wait",
    refusal="only failed jobs can be retried; abort first what still runs",
)
CANCEL = JobAction(
    name="cancel",
    label="Cancel",
    description="Cancel Job (only 'todo' jobs)",
    fits=Q(status="todo"),
    change=lambda manager, job_id: manager.cancel_job_by_id(job_id),
    done="cancelled",
    refusal="only waiting jobs can be cancelled",
)
ABORT = JobAction(
    name="abort",
    label="Abort",
    description="Abort Job (includes 'todo' & 'doing' jobs)",
    fits=Q(status__in=("todo", "doing")),
    change=lambda manager, job_id: manager.cancel_job_by_id(job_id, abort=True),
    done="cancelled, or asked to stop if running",
    refusal="only waiting and running jobs can be aborted",
)
RUN_NOW = JobAction(
    name="run_now",
    label="Run now",
    description="Run Job now (only scheduled jobs)",
    fits=Q(status="todo", waits_for="time"),
    change=lambda manager, job_id: manager.run_job_now_by_id(job_id),
    done="made ready to run",
    refusal="only jobs that are scheduled for later can be run now",
)
ACTIONS = (RETRY, CANCEL, ABORT, RUN_NOW)
