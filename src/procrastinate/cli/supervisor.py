"""Several worker processes under one command: `procrastinate worker --processes 4`.

The supervisor runs its own command line again, once for each process. It never touches the database: it starts
workers, starts them again when they die, and passes signals on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

logger = logging.getLogger(__name__)

# In the environment of a worker process: the file descriptor that closes when the supervisor is gone.
LIFELINE: Final = "PROCRASTINATE_SUPERVISOR_FD"
# Likewise: which of the processes it is, from 0 on.
NUMBER: Final = "PROCRASTINATE_SUPERVISED_NUMBER"
# A worker that lived for so many seconds had started well; one that did not may never do.
SETTLED: Final = 5.0
LONGEST_PAUSE: Final = 30.0
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def is_supervised() -> bool:
    """Tell whether this process was started by a supervisor."""
    return LIFELINE in os.environ


def stop_with_supervisor() -> int:
    """Have this process receive SIGTERM when the supervisor dies, also of SIGKILL; return its number, from 0 on."""
    descriptor = int(os.environ.pop(LIFELINE))
    os.set_inheritable(descriptor, False)

    def watch() -> None:
        os.read(descriptor, 1)  # nothing is ever written: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="procrastinate lifeline", daemon=True).start()
    # A supervisor that was started before an upgrade gives none.
    return int(os.environ.pop(NUMBER, "0"))


def supervise(count: int) -> int:
    """Run this process's own command line in `count` processes until all have ended; return the exit code.

    It is the first code that is not 0. A process that dies is started again, after a pause that grows while its
    successors die young. When none has lived for some seconds yet, an error ends all: it would come again.
    """
    # The command as it was typed, with `-m` or `manage.py` and all.
    return asyncio.run(_Supervisor([sys.executable, *sys.orig_argv[1:]], count).run())


class _Supervisor:
    def __init__(self, command: Sequence[str], count: int) -> None:
        self._command = command
        self._count = count
        self._processes: set[asyncio.subprocess.Process] = set()
        self._stop = asyncio.Event()
        self._has_settled = False
        self._failure = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._pass_on, number)
        # The end for writing stays here alone, and is closed when this process ends, however that happens.
        lifeline, _ = os.pipe()
        codes = await asyncio.gather(*(self._keep_one(lifeline, number) for number in range(self._count)))
        # What ended all, rather than what became of the others.
        return self._failure or next((code for code in codes if code), 0)

    def _pass_on(self, number: int) -> None:
        if not self._stop.is_set():
            logger.info("Stopping %s worker processes", len(self._processes), extra={"action": "stopping_processes"})
        self._stop.set()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep_one(self, lifeline: int, number: int) -> int:
        pause = 0.0
        while True:
            started = time.monotonic()
            code = await self._run_one(lifeline, number)
            lived = time.monotonic() - started
            if self._stop.is_set() or code == 0:
                return code
            self._has_settled = self._has_settled or lived >= SETTLED
            if not self._has_settled:
                self._failure = code
                self._pass_on(signal.SIGTERM)
                return code
            pause = 0.0 if lived >= SETTLED else min(max(2 * pause, 1.0), LONGEST_PAUSE)
            logger.error(
                "A worker process ended with code %s after %.0f s; another one starts in %.0f s",
                code,
                lived,
                pause,
                extra={"action": "worker_process_ended", "code": code},
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stop.wait()
            if self._stop.is_set():
                return code

    async def _run_one(self, lifeline: int, number: int) -> int:
        # In a session of its own: Ctrl-C at a terminal would reach it once from there and once from here, and the
        # second time means at once.
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**os.environ, LIFELINE: str(lifeline), NUMBER: str(number)},
            pass_fds=[lifeline],
            start_new_session=True,
        )
        self._processes.add(process)
        try:
            code = await process.wait()
        finally:
            self._processes.discard(process)
        # As a shell does.
        return 128 - code if code < 0 else code
