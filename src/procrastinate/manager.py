"""The job manager: what can be asked about jobs and workers, one line for each verb and colour."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import time
import warnings
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import attrs

from procrastinate import connector, exceptions, jobs, types
from procrastinate.store import flows
from procrastinate.store.channels import channels_for as get_channel_for_queues
from procrastinate.store.jobs import (
    CancelJob,
    CountJobs,
    DeferAlike,
    DeferJob,
    DeferJobs,
    DeleteOldJobs,
    FinishJob,
    GetJobStatus,
    GetStalledJobs,
    ListJobs,
    ListJobsToAbort,
    RetryJob,
    RunJobNow,
)
from procrastinate.store.operation import Flow, Operation, run_flow, run_flow_async
from procrastinate.store.schedule import DeferPeriodicJob
from procrastinate.store.tables import CheckConnection
from procrastinate.store.workers import PruneStalledWorkers, RegisterWorker, UnregisterWorker, UpdateHeartbeat

__all__ = ["QUEUEING_LOCK_CONSTRAINT", "JobManager", "NotificationCallback", "get_channel_for_queues"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

QUEUEING_LOCK_CONSTRAINT = "procrastinate_jobs_queueing_lock_idx_v1"


class NotificationCallback(Protocol):
    """Called for each notification, decoded."""

    def __call__(self, *, channel: str, notification: jobs.Notification) -> Awaitable[None]:
        """Take a notification."""
        ...


class JobManager:
    """Defers, lists, cancels and retries jobs.

    Every verb raises AppNotOpen before the app is opened and ConnectorException if the database refuses. `connection`
    is the caller's own: the verb joins its transaction and never commits.
    """

    def __init__(self, connector: connector.BaseConnector) -> None:
        """Work on the database of `connector`."""
        self.connector = connector

    # Runners

    def _ask(self, operation: Operation[T], connection: Any = None) -> T:
        return self.connector.get_sync_connector().run(operation, connection)

    async def _ask_async(self, operation: Operation[T], connection: Any = None) -> T:
        return await self.connector.run_async(operation, connection)

    def _follow(self, flow: Flow[T], connection: Any = None) -> T:
        sync_connector = self.connector.get_sync_connector()
        return run_flow(flow, lambda operation: sync_connector.run(operation, connection))

    async def _follow_async(self, flow: Flow[T], connection: Any = None) -> T:
        return await run_flow_async(flow, lambda operation: self.connector.run_async(operation, connection))

    # Deferring

    def defer_job(self, job: jobs.Job, connection: Any = None) -> jobs.Job:
        """Insert a job and return it with its id. Raises AlreadyEnqueued if its queueing lock is taken."""
        return _with_ids([job], self._ask(DeferJob(job=job), connection))[0]

    async def defer_job_async(self, job: jobs.Job, connection: Any = None) -> jobs.Job:
        """Do as `defer_job`, asynchronously."""
        return _with_ids([job], await self._ask_async(DeferJob(job=job), connection))[0]

    def batch_defer_jobs(self, jobs: Iterable[jobs.Job], connection: Any = None) -> list[jobs.Job]:
        """Insert jobs, all or none, and return them with their ids, in the same order.

        Raises AlreadyEnqueued if the queueing lock of one is taken, by a waiting job or within the batch.
        """
        batch = list(jobs)
        return _with_ids(batch, self._ask(DeferJobs(jobs=batch), connection) if batch else [])

    async def batch_defer_jobs_async(self, jobs: Iterable[jobs.Job], connection: Any = None) -> list[jobs.Job]:
        """Do as `batch_defer_jobs`, asynchronously."""
        batch = list(jobs)
        return _with_ids(batch, await self._ask_async(DeferJobs(jobs=batch), connection) if batch else [])

    def defer_alike(self, job: jobs.Job, arguments: Sequence[Mapping[str, Any]], connection: Any = None) -> list[int]:
        """Insert a job like `job` for each of these keyword arguments, all or none; return their ids in order.

        It takes half the time of `batch_defer_jobs`. Raises AlreadyEnqueued if their queueing lock is taken, as it is
        for more than one of them.
        """
        return self._ask(_alike(job, arguments), connection) if arguments else []

    async def defer_alike_async(
        self, job: jobs.Job, arguments: Sequence[Mapping[str, Any]], connection: Any = None
    ) -> list[int]:
        """Do as `defer_alike`, asynchronously."""
        return await self._ask_async(_alike(job, arguments), connection) if arguments else []

    async def defer_periodic_job(self, job: jobs.Job, periodic_id: str, defer_timestamp: int) -> int | None:
        """Insert the job of a tick and return its id, or None if this or a later tick was deferred before.

        Raises InvalidTimestamp if the job's own `timestamp` is another one, AlreadyEnqueued if its queueing lock is
        taken.
        """
        timestamp = job.task_kwargs.get("timestamp")
        if timestamp != defer_timestamp:
            raise exceptions.InvalidTimestamp(f"The job's timestamp is {timestamp!r}, its tick is {defer_timestamp}")
        operation = DeferPeriodicJob(job=job, periodic_id=periodic_id, defer_timestamp=defer_timestamp)
        return await self._ask_async(operation)

    # Running

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> jobs.Job | None:
        """Claim the next job of these queues (None for all) for a worker, or return None if nothing is ready.

        Raises ConnectorException if the worker is not registered.
        """
        names = None if queues is None else list(queues)
        return await self._follow_async(flows.fetch_one(names, worker_id))

    async def finish_job(self, job: jobs.Job, status: jobs.Status, delete_job: bool, connection: Any = None) -> None:
        """End a waiting or running job as succeeded, failed or aborted, or delete it.

        Raises ConnectorException for another status, and if the job is over or unknown.
        """
        assert job.id is not None, "a job that was never deferred cannot be finished"  # noqa: S101
        await self.finish_job_by_id_async(job.id, status, delete_job, connection)

    async def finish_job_by_id_async(
        self, job_id: int, status: jobs.Status, delete_job: bool, connection: Any = None
    ) -> None:
        """Do as `finish_job`, by the job's id."""
        if status not in (jobs.Status.SUCCEEDED, jobs.Status.FAILED, jobs.Status.ABORTED):
            raise exceptions.ConnectorException(
                f'End status should be either "succeeded", "failed" or "aborted" (job id: {job_id})'
            )
        operation = FinishJob(job_id=job_id, status=status, delete=delete_job)
        refusal = f'Job was not found or not in "doing" or "todo" status (job id: {job_id})'
        await self._follow_async(flows.change(operation, refusal), connection)

    # Changing

    def cancel_job_by_id(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any = None
    ) -> bool:
        """Cancel a waiting job; return whether something was changed.

        Args:
            job_id: the job.
            abort: also ask it to stop if it runs.
            delete_job: delete it instead, if it waits.
            connection: the caller's own, or None.
        """
        flow = flows.change(CancelJob(job_id=job_id, abort=abort, delete=delete_job))
        return self._follow(flow, connection).changed

    async def cancel_job_by_id_async(
        self, job_id: int, abort: bool = False, delete_job: bool = False, connection: Any = None
    ) -> bool:
        """Do as `cancel_job_by_id`, asynchronously."""
        flow = flows.change(CancelJob(job_id=job_id, abort=abort, delete=delete_job))
        return (await self._follow_async(flow, connection)).changed

    def run_job_now_by_id(self, job_id: int, connection: Any = None) -> bool:
        """Have a job run that is scheduled for later, as soon as its lock allows; return whether it was."""
        return self._ask(RunJobNow(job_id=job_id), connection).changed

    async def run_job_now_by_id_async(self, job_id: int, connection: Any = None) -> bool:
        """Do as `run_job_now_by_id`, asynchronously."""
        return (await self._ask_async(RunJobNow(job_id=job_id), connection)).changed

    async def retry_job(
        self,
        job: jobs.Job,
        retry_at: datetime.datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> None:
        """Put a failed or running job back to wait, now or at a time. See `retry_job_by_id`."""
        assert job.id is not None, "a job that was never deferred cannot be retried"  # noqa: S101
        await self.retry_job_by_id_async(job.id, retry_at or types.utcnow(), priority, queue, lock, connection)

    def retry_job_by_id(
        self,
        job_id: int,
        retry_at: datetime.datetime,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> None:
        """Put a failed or running job back to wait; None keeps what it has. The run that goes on is fenced off.

        Raises ValueError for a naive time, ConnectorException if the job is unknown or neither failed nor running,
        AlreadyEnqueued if its queueing lock is taken.
        """
        self._follow(_retry(job_id, retry_at, priority, queue, lock), connection)

    async def retry_job_by_id_async(
        self,
        job_id: int,
        retry_at: datetime.datetime,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> None:
        """Do as `retry_job_by_id`, asynchronously."""
        await self._follow_async(_retry(job_id, retry_at, priority, queue, lock), connection)

    async def delete_old_jobs(
        self,
        nb_hours: float,
        queue: str | None = None,
        include_failed: bool | None = False,
        include_cancelled: bool | None = False,
        include_aborted: bool | None = False,
    ) -> None:
        """Delete succeeded jobs that ended more than `nb_hours` ago, and those of other final statuses if asked.

        It works in windows of ids, each a short statement of its own with a pause after it: claims go on beside it.
        """
        chosen = {
            jobs.Status.SUCCEEDED: True,
            jobs.Status.FAILED: include_failed,
            jobs.Status.CANCELLED: include_cancelled,
            jobs.Status.ABORTED: include_aborted,
        }
        statuses = [status.value for status, is_chosen in chosen.items() if is_chosen]
        window = DeleteOldJobs(nb_hours=nb_hours, queue=queue, statuses=statuses, after=0, window=flows.WINDOW)
        while True:
            started = time.monotonic()
            deleted = await self._ask_async(window)
            if deleted.last_id is None:
                return
            window = attrs.evolve(window, after=deleted.last_id)
            # Half of the time is left to the jobs that run meanwhile.
            await asyncio.sleep(time.monotonic() - started)

    # Reading

    def get_job_status(self, job_id: int, connection: Any = None) -> jobs.Status:
        """Return a job's status. Raises NoResult for an unknown id."""
        return self._ask(GetJobStatus(job_id=job_id), connection)

    async def get_job_status_async(self, job_id: int, connection: Any = None) -> jobs.Status:
        """Do as `get_job_status`, asynchronously."""
        return await self._ask_async(GetJobStatus(job_id=job_id), connection)

    async def get_stalled_jobs(
        self,
        nb_seconds: int | None = None,
        queue: str | None = None,
        task_name: str | None = None,
        seconds_since_heartbeat: float = 30,
        connection: Any = None,
    ) -> Iterable[jobs.Job]:
        """Return the running jobs whose worker gave no sign of life for `seconds_since_heartbeat`.

        `nb_seconds` (deprecated) asks for those instead whose run began longer ago.
        """
        if nb_seconds is not None:
            text = "`nb_seconds` is deprecated: a long job is not a stalled one. Use `seconds_since_heartbeat`."
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        operation = GetStalledJobs(
            queue=queue, task_name=task_name, seconds_since_heartbeat=seconds_since_heartbeat, nb_seconds=nb_seconds
        )
        return await self._ask_async(operation, connection)

    def list_jobs(
        self,
        id: int | None = None,  # noqa: A002  users know the name
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        queueing_lock: str | None = None,
        worker_id: int | None = None,
        connection: Any = None,
    ) -> list[jobs.Job]:
        """Return the jobs that meet all conditions, by id; None means any. Raises ValueError for an unknown status."""
        return self._ask(
            ListJobs(
                id=id,
                queue=queue,
                task=task,
                status=_status(status),
                lock=lock,
                queueing_lock=queueing_lock,
                worker_id=worker_id,
            ),
            connection,
        )

    async def list_jobs_async(
        self,
        id: int | None = None,  # noqa: A002  users know the name
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        queueing_lock: str | None = None,
        worker_id: int | None = None,
        connection: Any = None,
    ) -> list[jobs.Job]:
        """Do as `list_jobs`, asynchronously."""
        return await self._ask_async(
            ListJobs(
                id=id,
                queue=queue,
                task=task,
                status=_status(status),
                lock=lock,
                queueing_lock=queueing_lock,
                worker_id=worker_id,
            ),
            connection,
        )

    def list_queues(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> list[dict[str, Any]]:
        """Return the number of jobs by status for each queue; conditions as for `list_jobs`."""
        return self._ask(_count("queue", queue, task, status, lock), connection)

    async def list_queues_async(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> list[dict[str, Any]]:
        """Do as `list_queues`, asynchronously."""
        return await self._ask_async(_count("queue", queue, task, status, lock), connection)

    def list_tasks(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> list[dict[str, Any]]:
        """Return the number of jobs by status for each task; conditions as for `list_jobs`."""
        return self._ask(_count("task", queue, task, status, lock), connection)

    async def list_tasks_async(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> list[dict[str, Any]]:
        """Do as `list_tasks`, asynchronously."""
        return await self._ask_async(_count("task", queue, task, status, lock), connection)

    def list_locks(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> list[dict[str, Any]]:
        """Return the number of jobs by status for each lock; conditions as for `list_jobs`."""
        return self._ask(_count("lock", queue, task, status, lock), connection)

    async def list_locks_async(
        self,
        queue: str | None = None,
        task: str | None = None,
        status: str | jobs.Status | None = None,
        lock: str | None = None,
        connection: Any = None,
    ) -> list[dict[str, Any]]:
        """Do as `list_locks`, asynchronously."""
        return await self._ask_async(_count("lock", queue, task, status, lock), connection)

    async def list_jobs_to_abort_async(self, queue: str | None = None, connection: Any = None) -> list[int]:
        """Return the ids of the running jobs that somebody asked to abort."""
        return await self._ask_async(ListJobsToAbort(queue=queue), connection)

    def check_connection(self) -> bool:
        """Tell whether the database can be reached and has the table of jobs."""
        return self._ask(CheckConnection())

    async def check_connection_async(self) -> bool:
        """Do as `check_connection`, asynchronously."""
        return await self._ask_async(CheckConnection())

    # Workers

    async def register_worker(self) -> int:
        """Add a worker that is alive now, and return its id."""
        return await self._ask_async(RegisterWorker())

    async def unregister_worker(self, worker_id: int) -> None:
        """Remove a worker."""
        await self._ask_async(UnregisterWorker(worker_id=worker_id))

    async def update_heartbeat(self, worker_id: int) -> None:
        """Record that a worker is alive; nothing happens if it is unknown."""
        await self._ask_async(UpdateHeartbeat(worker_id=worker_id))

    async def prune_stalled_workers(self, seconds_since_heartbeat: float) -> list[int]:
        """Remove the workers that gave no sign of life for so many seconds, and return their ids."""
        return await self._ask_async(PruneStalledWorkers(seconds_since_heartbeat=seconds_since_heartbeat))

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Call `on_notification` for new jobs and abort requests of these queues, None for all, until cancelled."""

        async def receive(*, channel: str, payload: str) -> None:
            try:
                notification = json.loads(payload)
            except ValueError:
                logger.warning("A notification on %s could not be read: %.200r", channel, payload)  # anybody may send
                return
            await on_notification(channel=channel, notification=notification)

        await self.connector.listen_notify(receive, get_channel_for_queues(queues))


def _alike(job: jobs.Job, arguments: Sequence[Mapping[str, Any]]) -> Operation[list[int]]:
    if len(arguments) == 1:
        return DeferJob(job=job, arguments=arguments[0])
    return DeferAlike(job=job, arguments=arguments)


def _with_ids(batch: list[jobs.Job], ids: list[int]) -> list[jobs.Job]:
    todo = jobs.Status.TODO.value
    return [job.evolve(id=job_id, status=todo) for job, job_id in zip(batch, ids, strict=True)]


def _retry(
    job_id: int, retry_at: datetime.datetime, priority: int | None, queue: str | None, lock: str | None
) -> Flow[Any]:
    if retry_at.utcoffset() is None:
        raise ValueError(f"Timezone aware datetime is required (retry_at={retry_at!r})")
    operation = RetryJob(job_id=job_id, retry_at=retry_at, priority=priority, queue=queue, lock=lock)
    return flows.change(operation, f"Job was not found or has an invalid status to retry (job id: {job_id})")


def _count(
    by: Literal["queue", "task", "lock"],
    queue: str | None,
    task: str | None,
    status: str | jobs.Status | None,
    lock: str | None,
) -> CountJobs:
    return CountJobs(by=by, queue=queue, task=task, status=_status(status), lock=lock)


def _status(status: str | jobs.Status | None) -> str | None:
    if status is None or isinstance(status, jobs.Status):
        return None if status is None else status.value
    known = [status.value for status in jobs.Status]
    if status not in known:
        raise ValueError(f"There is no status {status!r}: it is one of {', '.join(known)}")
    return status
