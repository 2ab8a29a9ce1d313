"""Hears of new jobs and abort requests as they happen."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Sequence

from typing_extensions import override

from procrastinate import connector, exceptions
from procrastinate.store.channels import channels_for
from procrastinate.store.workers import ProveListening
from procrastinate.worker.service import Service, wait_for

logger = logging.getLogger(__name__)

# A notification takes milliseconds. If ours did not arrive after so many seconds, none will.
PROOF_PATIENCE = 5.0


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
        # The last one is for a notification to ourselves.
        self._own_channel = f"procrastinate_listener_v1#{secrets.token_hex(8)}"
        self._channels = [*channels_for(queues), self._own_channel]
        self._is_proven = asyncio.Event()
        self._on_ready = on_ready
        self._on_scheduled = on_scheduled
        self._on_abort = on_abort

    @override
    async def run(self) -> None:
        proof: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(connector.LISTEN_TIMEOUT) as patience:

                def listening() -> None:
                    nonlocal proof
                    patience.reschedule(None)
                    self._listening()
                    proof = asyncio.create_task(self._prove(), name="proof of listening")

                await self._connector.listen_notify(self._receive, self._channels, listening)
        except TimeoutError as error:
            raise exceptions.ConnectionLost("LISTEN was not answered") from error
        finally:
            if proof is not None:
                proof.cancel()

    async def _prove(self) -> None:
        """Warn if LISTEN was accepted and nothing comes of it: a pooler gave the session to somebody else."""
        try:
            await self._connector.run_async(ProveListening(channel=self._own_channel))
        except exceptions.ProcrastinateException:
            return  # another service will say so
        await wait_for(self._is_proven, PROOF_PATIENCE)
        if not self._is_proven.is_set():
            logger.warning(
                "Notifications do not arrive, so jobs are found by polling only. This happens behind a pooler in "
                "transaction mode, such as pgbouncer: set listen_notify=False there, or connect to the server directly",
                extra={"action": "listen_without_notifications"},
            )

    def _listening(self) -> None:
        self.works()
        # Whatever was sent while nobody listened is found by looking.
        self._on_ready(None)
        self._on_scheduled()
        self._on_abort()

    async def _receive(self, *, channel: str, payload: str) -> None:
        if channel == self._own_channel:
            self._is_proven.set()
            return
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
