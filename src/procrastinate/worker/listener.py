"""Hears of new jobs and abort requests as they happen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence

from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.store.channels import channels_for
from procrastinate.worker.service import Service

logger = logging.getLogger(__name__)


class Listener(Service):
    """Subscribes to the channels of the worker's queues and passes on what arrives."""

    name = "listener"

    def __init__(
        self,
        connector: connector.BaseConnector,
        queues: Sequence[str] | None,
        on_ready: Callable[[int | None], None],
        on_scheduled: Callable[[], None],
        on_abort: Callable[[], None],
    ) -> None:
        """Call `on_ready` with the first of some jobs that became ready, or with None where one cannot know.

        `on_scheduled` is called for jobs that are due later, `on_abort` for requests to abort one.
        """
        self._connector = connector
        self._channels = channels_for(queues)
        self._on_ready = on_ready
        self._on_scheduled = on_scheduled
        self._on_abort = on_abort

    @override
    async def run(self) -> None:
        try:
            async with asyncio.timeout(connector.LISTEN_TIMEOUT) as patience:

                def listening() -> None:
                    patience.reschedule(None)
                    self._listening()

                await self._connector.listen_notify(self._receive, self._channels, listening)
        except TimeoutError as error:
            raise exceptions.ConnectionLost("LISTEN was not answered") from error

    def _listening(self) -> None:
        self.works()
        # Whatever was sent while nobody listened is found by looking.
        self._on_ready(None)
        self._on_scheduled()
        self._on_abort()

    async def _receive(self, *, channel: str, payload: str) -> None:
        try:
            notification = json.loads(payload)
            kind, job_id = notification["type"], notification.get("job_id")
        except (ValueError, TypeError, KeyError):
            logger.warning("A notification on %s could not be read: %.200r", channel, payload)
            return
        if kind == "abort_job_requested":
            self._on_abort()
        elif notification.get("scheduled"):
            self._on_scheduled()
        else:
            self._on_ready(job_id if isinstance(job_id, int) else None)
