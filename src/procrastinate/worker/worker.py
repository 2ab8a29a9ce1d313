"""The worker: puts its services together, and takes them through start, work and stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from procrastinate import connector, exceptions, jobs, observers, signals
from procrastinate.job_context import AbortReason, JobContext
from procrastinate.periodic import PeriodicRegistry, PeriodicSchedule
from procrastinate.store.flows import check_schema
from procrastinate.store.inspection import MeasureLag
from procrastinate.store.jobs import Verdict
from procrastinate.store.operation import run_flow_async
from procrastinate.store.workers import RegisterWorker, UnregisterWorker, UpdateHeartbeat
from procrastinate.tasks import Task
from procrastinate.worker.aborts import AbortPoller
from procrastinate.worker.completer import Completer
from procrastinate.worker.deadline import Deadline
from procrastinate.worker.executor import Executor
from procrastinate.worker.fetcher import Fetcher
from procrastinate.worker.health import Facts, HealthServer, Limits, RunningJob, ServiceHealth
from procrastinate.worker.housekeeping import Housekeeping
from procrastinate.worker.listener import Listener
from procrastinate.worker.opener import LockOpener
from procrastinate.worker.periodic import PeriodicDeferrer
from procrastinate.worker.presence import Presence
from procrastinate.worker.reaction import Reaction
from procrastinate.worker.service import Service, keep_running
from procrastinate.worker.settings import WorkerSettings
from procrastinate.worker.stager import Stager

# How long each step of a stop may take that waits for the database, in seconds.
STEP_TIMEOUT = 10.0
# Pause before a service that did not end is cancelled again, in seconds.
CANCEL_PAUSE = 1.0


class WorkerApp(Protocol):
    """What a worker needs of the app."""

    tasks: dict[str, Task[..., Any]]
    periodic_registry: PeriodicRegistry
    periodic_defaults: dict[str, Any]

    @property
    def connector(self) -> connector.BaseConnector: ...  # noqa: D102
    def logs_args_of(self, task_name: str) -> bool: ...  # noqa: D102


class Worker:
    """Runs jobs until it is stopped. It may be run again when it has ended."""

    def __init__(self, app: WorkerApp, queues: Iterable[str] | None = None, **options: Any) -> None:
        """Check the options, WorkerOptions all of them.

        Raises:
            TypeError: an option is unknown, or a middleware is no callable.
            ValueError: an option's value makes no sense.
            MiddlewareKindMismatch: a worker middleware is sync.
        """
        self.app = app
        self.settings = WorkerSettings.from_options({"queues": queues, **options})
        self.worker_id: int | None = None
        self.logger = logging.getLogger("procrastinate.worker")
        if self.settings.name != "worker":
            self.logger = self.logger.getChild(self.settings.name)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_requested = False
        self._stop_event: asyncio.Event | None = None
        self._life: _Life | None = None

    def __getattr__(self, name: str) -> Any:
        """Give the settings as attributes of the worker, under the names of the options."""
        if name == "worker_name":
            name = "name"
        if name != "settings" and name in WorkerSettings.__annotations__:
            return getattr(self.settings, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def find_task(self, task_name: str) -> Task[..., Any]:
        """Return the task of this name or alias. Raises TaskNotFound."""
        try:
            return self.app.tasks[task_name]
        except KeyError as error:
            raise exceptions.TaskNotFound(
                f"Task {task_name!r} is not known to this worker: import its module, for instance through the app's "
                "import_paths"
            ) from error

    def stop(self) -> None:
        """Ask the worker to end its running jobs and return. May be called from any thread, and more than once."""
        if not self._stop_requested:
            self.logger.info("Stop requested", extra=self.log_extra("stopping_worker"))
        self._stop_requested = True
        loop, event = self._loop, self._stop_event
        if loop is not None and event is not None:
            with contextlib.suppress(RuntimeError):  # the loop closed in between: nothing is left to stop
                loop.call_soon_threadsafe(event.set)

    async def run(self) -> None:
        """Work until stopped.

        Cancelled once, it ends its running jobs; cancelled again, it aborts them. Either way it raises CancelledError
        at the end.

        Raises:
            ConnectorException: the database cannot be reached, or has no tables, at the start.
            WorkerStopped: the database could not be reached for `database_timeout` seconds.
        """
        self._loop = asyncio.get_running_loop()
        self._stop_event = asyncio.Event()
        if self._stop_requested:
            self._stop_event.set()
        watch = signals.on_stop(self.stop) if self.settings.install_signal_handlers else contextlib.nullcontext()
        life = self._life = _Life(self, self._stop_event)
        try:
            with watch:
                await self._live(asyncio.create_task(life.live(), name="procrastinate worker"))
        finally:
            self._life = self._loop = self._stop_event = self.worker_id = None
            self._stop_requested = False

    async def _live(self, life: asyncio.Task[None]) -> None:
        cancellations = 0
        while not life.done():
            try:
                # Not awaited directly: a cancellation must reach the worker as a request, wherever it is just now.
                await asyncio.wait([life])
            except asyncio.CancelledError:
                cancellations += 1
                self.stop()
                if cancellations > 1 and self._life is not None:
                    self._life.abort_jobs()
        if cancellations:
            life.exception()
            raise asyncio.CancelledError
        life.result()

    def log_extra(self, action: str, job: jobs.Job | None = None) -> dict[str, Any]:
        """Return what the worker's log records carry."""
        worker = {
            "name": self.settings.name,
            "worker_id": self.worker_id,
            "job_id": job.id if job is not None else None,
            "queues": list(self.settings.queues) if self.settings.queues else None,
        }
        return {"action": action, "worker": worker} | ({"job": job.log_context()} if job is not None else {})

    def make_context(self, job: jobs.Job, started: float, abort_reason: Callable[[], AbortReason | None]) -> JobContext:
        """Return the context for a run of a job."""
        return JobContext(
            app=self.app,  # type: ignore[arg-type]  users get back the App that they gave
            worker_name=self.settings.name,
            worker_queues=self.settings.queues,
            job=job,
            start_timestamp=started,
            additional_context=self.settings.additional_context.copy(),
            abort_reason=abort_reason,
        )


class _Life:
    """One run of a worker, from registration to removal."""

    def __init__(self, worker: Worker, stop_event: asyncio.Event) -> None:
        self._worker = worker
        self._settings = worker.settings
        self._app_connector = worker.app.connector
        self._connector = Deadline(worker.app.connector, self._settings.statement_timeout)
        self._stop_event = stop_event
        self._loop = asyncio.get_running_loop()
        self._logger = worker.logger
        self._failure: BaseException | None = None
        self._services: dict[Service, asyncio.Task[None]] = {}
        self._executor: Executor | None = None
        self._presence: Presence | None = None
        self._vital: Sequence[Service] = ()
        self._tell = observers.telling(worker.settings.observers)

    async def live(self) -> None:
        settings = self._settings
        if settings.health_port is None:
            await self._live()
            return
        limits = Limits(block=settings.database_timeout, heartbeat=settings.stalled_worker_timeout)
        server = HealthServer(settings.health_host, settings.health_port, limits, self._get_facts, self._measure_lag)
        await server.start()
        try:
            await self._live()
        finally:
            await server.stop()

    async def _live(self) -> None:
        settings = self._settings
        await run_flow_async(check_schema(), self._connector.run_async)
        worker_id = await self._connector.run_async(RegisterWorker(worker_name=settings.name, queues=settings.queues))
        self._worker.worker_id = worker_id
        presence = self._presence = Presence(
            self._connector_apart,
            UpdateHeartbeat(worker_id=worker_id, revive=True, queues=settings.queues),
            settings.update_heartbeat_interval,
            self._tell_from_thread,
        )
        presence.start()
        where = f"queues {', '.join(settings.queues)}" if settings.queues else "all queues"
        self._logger.info("Starting worker on %s", where, extra=self._worker.log_extra("start_worker"))
        try:
            await self._work(worker_id, presence)
        finally:
            await presence.stop(STEP_TIMEOUT)
            await self._bounded(self._connector.run_async(UnregisterWorker(worker_id=worker_id)), "unregister")
        self._logger.info("Stopped worker on %s", where, extra=self._worker.log_extra("stop_worker"))
        if self._failure is not None:
            raise self._failure

    def _connector_apart(self) -> connector.BaseConnector:
        """Return a connector for a thread."""
        return self._app_connector.side_connector() or self._app_connector.get_sync_connector()

    async def _work(self, worker_id: int, presence: Presence) -> None:
        settings = self._settings
        executor = self._executor = Executor(
            settings=settings,
            find_task=self._worker.find_task,
            logs_args_of=self._worker.app.logs_args_of,
            make_context=self._worker.make_context,
            worker=self._worker,
            logger=self._logger,
            log_extra=self._worker.log_extra,
            on_end=self._job_ended,
        )
        executor.tell = None if self._tell is observers.nobody else self._tell
        opener = self._opener = LockOpener(self._connector, self._look_for_jobs)
        completer = self._completer = Completer(self._connector, worker_id, self, lambda: executor.is_idle)
        stager = self._stager = Stager(
            self._connector,
            # A listener hears of every new schedule: only what another worker left undone is found by polling.
            settings.fetch_job_polling_interval * (2 if settings.listen_notify else 1),
            self._look_for_jobs,
        )
        fetcher = self._fetcher = Fetcher(
            connector=self._connector,
            worker_id=worker_id,
            settings=settings,
            workload=executor,
            may_fetch=lambda: not completer.is_full,
            all_written=lambda: not completer.count and opener.is_idle and stager.is_idle,
            known=lambda: executor.keys | completer.keys,
            on_parked=opener.request,
            reaction=Reaction(lambda: presence.beat),
        )
        aborts = AbortPoller(
            self._connector,
            worker_id,
            settings.abort_job_polling_interval,
            lambda: not executor.is_idle,
            self._abort_requested,
        )
        housekeeping = Housekeeping(
            self._connector,
            worker_id,
            settings,
            lambda: time.monotonic() - presence.last_success > settings.stalled_worker_timeout / 2,
            opener.request,
            self._look_for_jobs,
        )
        schedule = PeriodicSchedule(self._worker.app.periodic_registry, **self._worker.app.periodic_defaults)
        until_drained: list[Service] = [completer, opener, aborts]
        if settings.listen_notify:
            queues = settings.queues
            until_drained.append(Listener(self._connector, queues, fetcher.notified, stager.wake, aborts.wake))
        for service in [*until_drained, fetcher, stager, housekeeping, PeriodicDeferrer(self._connector, schedule)]:
            self._start(service)
        self._vital = [fetcher, completer]
        watchdog = asyncio.create_task(self._watch(presence, self._vital), name="watchdog")
        try:
            await self._stop_event.wait()
            fetcher.stop()
            await self._end([service for service in self._services if service not in [*until_drained, fetcher]])
            await self._drain(fetcher, completer, opener)
        finally:
            watchdog.cancel()
            await self._end(list(self._services))
            executor.close()

    async def _drain(self, fetcher: Fetcher, completer: Completer, opener: LockOpener) -> None:
        executor = self._executor
        assert executor is not None  # noqa: S101  made before anything could stop
        # A claim under way must be answered, or its jobs would have no one.
        await asyncio.wait([self._services[fetcher]], timeout=STEP_TIMEOUT)
        await self._bounded(fetcher.give_back_all(), "give claimed jobs back")
        now = time.time()
        for running in executor.running:
            self._logger.info(
                "Waiting for job to finish: worker: %s (started %.3f s ago)",
                running.claim.job.call_string,
                now - running.started,
                extra=self._worker.log_extra("ending_job", running.claim.job),
            )
        if not await executor.wait_until_idle(self._settings.shutdown_graceful_timeout):
            self._logger.info(
                "%s jobs still running after graceful timeout. Aborting them",
                len(executor.running),
                extra=self._worker.log_extra("aborting_jobs"),
            )
            self.abort_jobs()
            await executor.wait_until_idle(None)
        await completer.drain(STEP_TIMEOUT)
        await opener.drain(STEP_TIMEOUT)

    def abort_jobs(self) -> None:
        """Abort all running jobs, for the shutdown."""
        if self._executor is not None:
            for running in self._executor.running:
                self._executor.abort(running.claim.job.id or 0, AbortReason.SHUTDOWN)

    # Between the services

    def _job_ended(self, verdict: Verdict) -> None:
        self._completer.add(verdict)
        if self._executor is None or self._executor.runs_low:
            self._fetcher.wake()

    def lock_freed(self, lock: str) -> None:
        """Open the line behind a lock. Called by the completer."""
        self._opener.request([lock])

    def job_waits_again(self, *, is_due: bool) -> None:
        """Look at the jobs, or at the schedule, again. Called by the completer."""
        if is_due:
            self._fetcher.look()
        else:
            self._stager.wake()

    def has_room(self) -> None:
        """Claim again: the outcomes no longer pile up. Called by the completer."""
        self._fetcher.wake()

    def _look_for_jobs(self, job_id: int | None = None) -> None:
        self._fetcher.look(job_id)

    def _abort_requested(self, job_id: int) -> None:
        if self._executor is not None:
            self._executor.abort(job_id, AbortReason.USER_REQUEST)

    # For those who watch

    def _tell_from_thread(self, event: observers.Event) -> None:
        if self._tell is not observers.nobody:
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                self._loop.call_soon_threadsafe(self._tell, event)

    async def _measure_lag(self) -> Mapping[str, float]:
        return await self._connector.run_async(MeasureLag(queues=self._settings.queues))

    def _get_facts(self) -> Facts:
        """Return what is known; called in the thread of the health endpoint."""
        now, settings = time.monotonic(), self._settings
        fetcher = next((service for service in list(self._services) if isinstance(service, Fetcher)), None)
        running = self._executor.running if self._executor is not None else []
        return Facts(
            worker={
                "id": self._worker.worker_id,
                "name": settings.name,
                "queues": settings.queues,
                "concurrency": settings.concurrency,
            },
            is_registered=self._worker.worker_id is not None,
            is_stopping=self._stop_event.is_set(),
            failure=None if self._failure is None else str(self._failure),
            heartbeat_age=None if self._presence is None else now - self._presence.last_success,
            fetch_age=_age(now, fetcher.last_success if fetcher is not None else None),
            claim_age=_age(now, fetcher.last_claim if fetcher is not None else None),
            services=[
                ServiceHealth(
                    name=service.name,
                    failures=service.failures,
                    failing_for=now - service.failing_since if service.failures else 0.0,
                    vital=service in self._vital,
                )
                for service in list(self._services)
            ],
            running=[
                RunningJob(
                    job_id=each.claim.job.id, task_name=each.claim.job.task_name, seconds=time.time() - each.started
                )
                for each in running
            ],
            outcomes=self._completer.count if self._vital else 0,
        )

    # The services' life

    def _start(self, service: Service) -> None:
        service.tell = self._tell
        task = asyncio.create_task(keep_running(service), name=service.name)
        self._services[service] = task
        task.add_done_callback(lambda done: self._service_ended(service, done))

    def _service_ended(self, service: Service, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._fail(error)
        elif isinstance(service, Fetcher):
            self._stop_event.set()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._logger.error("Stopping worker: %s", error, extra=self._worker.log_extra("worker_failed"))
            self._failure = error
        self._stop_event.set()

    async def _watch(self, presence: Presence, vital: Sequence[Service]) -> None:
        timeout = self._settings.database_timeout
        while timeout is not None:
            now = time.monotonic()
            silences = [now - service.failing_since for service in vital if service.failures]
            silence = max(now - presence.last_success - self._settings.update_heartbeat_interval, *silences, 0)
            if silence > timeout:
                self._tell(observers.WatchdogFired(seconds=silence))
                self._fail(exceptions.WorkerStopped(f"The database could not be reached for {silence:.0f} s"))
                return
            await asyncio.sleep(1 + timeout / 10)

    async def _end(self, services: Iterable[Service]) -> None:
        pending = {self._services[service] for service in services}
        deadline = time.monotonic() + STEP_TIMEOUT
        while pending and time.monotonic() < deadline:
            # Again and again: before Python 3.12, asyncio.wait_for, on which drivers build, swallows a cancellation
            # that arrives together with the answer. The pause lets a service close what it has open.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_PAUSE)
        if pending:
            names = ", ".join(task.get_name() for task in pending)
            action = self._worker.log_extra("cancel_tasks_failed")
            self._logger.error("These services did not end in time: %s", names, extra=action)

    async def _bounded(self, step: Coroutine[Any, Any, Any], what: str) -> None:
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                await step
        except Exception as error:  # noqa: BLE001  a stop must come to its end; other workers mend what is left
            self._logger.warning("Could not %s: %s", what, error, extra=self._worker.log_extra("stop_step_failed"))


def _age(now: float, moment: float | None) -> float | None:
    return None if moment is None else now - moment
