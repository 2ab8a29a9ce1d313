"""Tells over HTTP how a worker is, from a thread of its own, so that a blocked event loop can be told of as well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import attrs

from procrastinate import metadata

logger = logging.getLogger(__name__)

# A loop that does not answer for so many seconds claims nothing meanwhile.
LONGEST_BLOCK = 5.0
# Between two questions to the worker's loop.
PULSE_INTERVAL = 0.5
# The lag is asked of the database, at most so often however many requests come, and not waited for longer.
LAG_INTERVAL = 5.0
LAG_TIMEOUT = 2.0
# What one client may cost: whoever is slow, or sends more, is cut off.
PATIENCE = 5.0
LONGEST_REQUEST = 8_192
MOST_CONNECTIONS = 64
MOST_JOBS_SHOWN = 100

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@attrs.frozen(kw_only=True)
class ServiceHealth:
    """How a service of the worker is; `vital` ones are those without which no job is run."""

    name: str
    failures: int
    failing_for: float
    vital: bool


@attrs.frozen(kw_only=True)
class RunningJob:
    """A job under way."""

    job_id: int | None
    task_name: str
    seconds: float


@attrs.frozen(kw_only=True)
class Facts:
    """What a worker knows of itself. All times are ages in seconds; None for never, or not yet.

    Attributes:
        worker: what identifies it: id, name, queues, concurrency.
        is_registered: whether it has begun.
        is_stopping: whether it claims nothing more.
        failure: the error for which it ends, or None.
        heartbeat_age: since its latest sign of life reached the database.
        fetch_age: since the database last answered a claim, with jobs or without.
        claim_age: since it last claimed a job.
        services: its services.
        running: its jobs.
        outcomes: ended jobs that are not recorded yet.
    """

    worker: Mapping[str, Any]
    is_registered: bool
    is_stopping: bool
    failure: str | None
    heartbeat_age: float | None
    fetch_age: float | None
    claim_age: float | None
    services: Sequence[ServiceHealth]
    running: Sequence[RunningJob]
    outcomes: int


@attrs.frozen(kw_only=True)
class Limits:
    """What is still healthy, in seconds.

    Attributes:
        block: how long the loop may be blocked before the worker counts as not alive, None for ever. A shorter block is
            a task's affair: to kill the worker for it would only run its jobs twice.
        heartbeat: the age of a sign of life after which others take the worker for dead.
    """

    block: float | None
    heartbeat: float


@attrs.frozen(kw_only=True)
class Verdict:
    """Whether a worker is alive and ready; if not, why."""

    not_alive: Sequence[str]
    not_ready: Sequence[str]

    @property
    def is_alive(self) -> bool:
        """Whether it need not be started anew."""
        return not self.not_alive

    @property
    def is_ready(self) -> bool:
        """Whether it claims jobs."""
        return not self.not_ready


def judge(facts: Facts, blocked: float, limits: Limits) -> Verdict:
    """Decide whether a worker is alive and ready, its loop having been silent for `blocked` seconds."""
    silence = f"the event loop has been blocked for {blocked:.0f} s"
    not_alive = [silence] if limits.block is not None and blocked > limits.block else []
    not_ready: list[str] = []
    if facts.is_stopping:
        not_ready.append("it is stopping" + (f": {facts.failure}" if facts.failure else ""))
    elif not facts.is_registered or facts.fetch_age is None:
        not_ready.append("it is starting")
    if blocked > LONGEST_BLOCK:
        not_ready.append(silence)
    if facts.heartbeat_age is not None and facts.heartbeat_age > limits.heartbeat:
        not_ready.append(f"the latest sign of life is {facts.heartbeat_age:.0f} s old")
    not_ready += [
        f"service {service.name} has been failing for {service.failing_for:.0f} s"
        for service in facts.services
        if service.vital and service.failures
    ]
    return Verdict(not_alive=not_alive, not_ready=[*not_alive, *(each for each in not_ready if each not in not_alive)])


class HealthServer:
    """Answers GET on /livez, /readyz and /healthz with JSON: 200 if all is well, else 503. One request a connection."""

    def __init__(
        self,
        host: str,
        port: int,
        limits: Limits,
        get_facts: Callable[[], Facts],
        measure_lag: Callable[[], Awaitable[Mapping[str, float]]],
    ) -> None:
        """Serve on `host` and `port`, 0 for any port.

        `get_facts` is called in the server's thread; `measure_lag`, on the worker's loop, returns by queue for how many
        seconds a ready job has been waiting.
        """
        self._host = host
        self.port = port
        self._limits = limits
        self._get_facts = get_facts
        self._measure_lag = measure_lag
        self._worker_loop = asyncio.get_running_loop()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started: futures.Future[None] = futures.Future()
        self._ended: futures.Future[None] = futures.Future()
        # When the worker's loop was asked for a sign that it has not given yet, on the monotonic clock.
        self._asked_at: float | None = None
        self._connections = 0
        self._version = metadata.extract_metadata()["version"]
        self._lag: Mapping[str, float] | None = None
        self._lag_until = 0.0
        self._measuring = asyncio.Lock()

    async def start(self) -> None:
        """Listen. Raises OSError if that cannot be."""
        threading.Thread(target=self._run, name="procrastinate health", daemon=True).start()
        await asyncio.wrap_future(self._started)
        logger.info(
            "Health endpoint on http://%s:%s/healthz",
            self._host,
            self.port,
            extra={"action": "health_endpoint_started", "port": self.port},
        )

    async def stop(self) -> None:
        """Close the port, and cut off who is connected."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                loop.call_soon_threadsafe(stop.set)
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=PATIENCE)

    # In the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                logger.exception("The health endpoint failed", extra={"action": "health_endpoint_failed"})
        finally:
            self._ended.set_result(None)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self._connected, self._host, self.port, limit=LONGEST_REQUEST)
        except OSError as error:
            raise OSError(
                f"The health endpoint cannot listen on {self._host}, port {self.port}: {error.strerror or error}. Set "
                "health_port to a port that is free, or 0 for any"
            ) from None
        self.port = server.sockets[0].getsockname()[1]
        self._started.set_result(None)
        try:
            while not self._stop.is_set():
                self._ask_the_loop()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PULSE_INTERVAL):
                        await self._stop.wait()
        finally:
            server.close()

    def _ask_the_loop(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            with contextlib.suppress(RuntimeError):  # it is closed
                self._worker_loop.call_soon_threadsafe(self._loop_answered)

    def _loop_answered(self) -> None:
        self._asked_at = None

    @property
    def _blocked(self) -> float:
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MOST_CONNECTIONS:
                async with asyncio.timeout(PATIENCE):
                    writer.write(await self._answer(reader))
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # it is slow, or gone
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _response(431, {"error": f"a request has at most {LONGEST_REQUEST} bytes"})
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004  method, target, version
            return _response(400, {"error": "this is no HTTP request"})
        method, target, _ = words
        if method not in {"GET", "HEAD"}:
            return _response(405, {"error": "only GET and HEAD are allowed"})
        try:
            status, content = await self._look(target.partition("?")[0])
        except Exception:
            logger.exception("The health of the worker could not be told", extra={"action": "health_endpoint_failed"})
            status, content = 500, {"error": "the worker's health could not be told; its log says why"}
        return _response(status, content, has_body=method == "GET")

    async def _look(self, path: str) -> tuple[int, Mapping[str, Any]]:
        facts, blocked = self._get_facts(), self._blocked
        verdict = judge(facts, blocked, self._limits)
        match path:
            case "/livez":
                return _code(verdict.is_alive), {"alive": verdict.is_alive, "problems": verdict.not_alive}
            case "/readyz":
                return _code(verdict.is_ready), {"ready": verdict.is_ready, "problems": verdict.not_ready}
            case "/healthz":
                lag = await self._current_lag()
                report = {"version": self._version, **_report(facts, verdict, blocked, lag)}
                return _code(verdict.is_ready), report
            case _:
                return 404, {"error": "there are /livez, /readyz and /healthz"}

    async def _current_lag(self) -> Mapping[str, float] | None:
        async with self._measuring:
            if time.monotonic() >= self._lag_until:
                answer = asyncio.run_coroutine_threadsafe(self._lag_on_the_loop(), self._worker_loop)
                try:
                    self._lag = await asyncio.wait_for(asyncio.wrap_future(answer), LAG_TIMEOUT)
                except Exception:  # noqa: BLE001  the loop is blocked, or the database away
                    self._lag = None
                self._lag_until = time.monotonic() + LAG_INTERVAL
        return self._lag

    async def _lag_on_the_loop(self) -> Mapping[str, float]:
        return await self._measure_lag()


def _code(is_well: bool) -> int:
    return 200 if is_well else 503


def _report(facts: Facts, verdict: Verdict, blocked: float, lag: Mapping[str, float] | None) -> dict[str, Any]:
    running = sorted(facts.running, key=lambda job: -job.seconds)
    return {
        "alive": verdict.is_alive,
        "ready": verdict.is_ready,
        "problems": verdict.not_ready,
        "worker": facts.worker,
        "stopping": facts.is_stopping,
        "loop_blocked_seconds": blocked,
        "heartbeat_age_seconds": facts.heartbeat_age,
        "last_fetch_age_seconds": facts.fetch_age,
        "last_claim_age_seconds": facts.claim_age,
        "queue_lag_seconds": lag,
        "services": [
            {"name": each.name, "failures": each.failures, "failing_seconds": each.failing_for}
            for each in facts.services
        ],
        "running": len(running),
        "running_jobs": [
            {"id": job.job_id, "task": job.task_name, "seconds": job.seconds} for job in running[:MOST_JOBS_SHOWN]
        ],
        "outcomes_to_record": facts.outcomes,
    }


def _response(status: int, content: Mapping[str, Any], *, has_body: bool = True) -> bytes:
    body = json.dumps(content).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (body if has_body else b"")
