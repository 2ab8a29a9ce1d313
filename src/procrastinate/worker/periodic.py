"""Defers the jobs of periodic tasks, tick by tick."""

from __future__ import annotations

import asyncio
import logging
import time

from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.periodic import MARGIN, PeriodicSchedule, PeriodicTask
from procrastinate.store.schedule import DeferPeriodicJob
from procrastinate.worker.service import Service

logger = logging.getLogger(__name__)


class PeriodicDeferrer(Service):
    """Defers what is due, then sleeps until the next tick. The database decides which worker defers a tick."""

    name = "periodic deferrer"

    def __init__(self, connector: connector.BaseConnector, schedule: PeriodicSchedule) -> None:
        """Defer the tasks of `schedule` on `connector`."""
        self._connector = connector
        self._schedule = schedule

    @override
    async def run(self) -> None:
        while True:
            now = time.time()
            for periodic_task, timestamp in self._schedule.due(now):
                await self._defer(periodic_task, timestamp)
            seconds = self._schedule.seconds_until_next(now)
            if seconds is None:
                message = "No periodic task found, periodic deferrer will not run."
                logger.info(message, extra={"action": "periodic_deferrer_no_task"})
                return
            logger.debug("Waiting %.1f s for the next periodic tick", seconds, extra={"action": "wait_next_tick"})
            await asyncio.sleep(max(now + seconds + MARGIN - time.time(), 0))

    async def _defer(self, periodic_task: PeriodicTask, timestamp: int) -> None:
        name = periodic_task.task.name
        extra = {"task": name, "periodic_id": periodic_task.periodic_id, "defer_timestamp": timestamp}
        try:
            job = self._schedule.make_job(periodic_task, timestamp)
            operation = DeferPeriodicJob(job=job, periodic_id=periodic_task.periodic_id, defer_timestamp=timestamp)
            job_id = await self._connector.run_async(operation)
        except exceptions.AlreadyEnqueued as error:
            action = "skip_periodic_task_queueing_lock"
            logger.debug(
                "Periodic task %s is skipped at %s: %s", name, timestamp, error, extra={**extra, "action": action}
            )
        except exceptions.LockNotAvailable as error:
            # Somebody's open transaction holds the queueing lock: this tick is tried again with the next.
            logger.warning(
                "Periodic task %s is delayed: %s", name, error, extra={**extra, "action": "periodic_delayed"}
            )
            return
        except (TypeError, ValueError, exceptions.InvalidData, exceptions.UnboundTaskError):
            # One wrong schedule must not stop the others.
            action = "periodic_task_error"
            logger.exception("Periodic task %s cannot be deferred", name, extra={**extra, "action": action})
        else:
            self.works()
            if job_id is None:
                action = "periodic_task_already_deferred"
                logger.debug(
                    "Periodic task %s was deferred already for %s", name, timestamp, extra={**extra, "action": action}
                )
            else:
                action = "periodic_task_deferred"
                logger.info("Periodic task %s deferred as job %s", name, job_id, extra={**extra, "action": action})
        self._schedule.record(periodic_task, timestamp)
