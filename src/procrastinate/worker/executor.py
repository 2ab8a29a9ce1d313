"""Runs jobs: coroutines on the loop, plain functions in threads."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from procrastinate import coroutines, exceptions, jobs, middleware, observers
from procrastinate.job_context import AbortReason, JobContext, JobResult
from procrastinate.store.jobs import Verdict
from procrastinate.tasks import Task
from procrastinate.types import from_timestamp
from procrastinate.worker import verdicts
from procrastinate.worker.settings import WorkerSettings

# The worker claims ahead what it will start within so many seconds at its pace, but never more than so many jobs: a
# worker with one-second jobs holds none that it does not run, a worker with no-op jobs thousands.
HORIZON = 0.05
# Where claims take long, as many as start during so many of them: half are left when the next claim begins, and it may
# take longer than the one before.
CLAIMS = 6
# But nothing that would wait for much longer: another worker may have time.
LONGEST_HORIZON = 0.2
MOST_AHEAD = 4_000
# Where they collide with their locks, it claims ever less ahead, but no less than this many.
LEAST_AHEAD = 250
# A suspect starts when nothing else runs, and nothing starts beside it, for so many seconds each.
QUARANTINE = 10.0
# Jobs that may end, one after another, before the event loop gets its turn.
TURN = 100


@attrs.define(eq=False)
class Running:
    """A job under way.

    Attributes:
        claim: the job, with the token under which it runs.
        task: its task, once found.
        started: when, in seconds since the epoch.
        future: the asyncio task that waits with it, once it waits for anything.
        abort_reason: why it was asked to stop, or None.
        extra: what its log records carry, once made.
    """

    claim: jobs.Claim
    task: Task[..., Any] | None
    started: float
    future: asyncio.Task[None] | None = None
    abort_reason: AbortReason | None = None
    extra: Mapping[str, Any] | None = None


class Executor:
    """Starts claimed jobs as slots become free, and turns each end into a verdict."""

    def __init__(
        self,
        settings: WorkerSettings,
        find_task: Callable[[str], Task[..., Any]],
        logs_args_of: Callable[[str], bool],
        make_context: Callable[[jobs.Job, float, Callable[[], AbortReason | None]], JobContext],
        worker: Any,
        logger: logging.Logger,
        log_extra: Callable[..., Mapping[str, Any]],
        on_end: Callable[[Verdict], None],
    ) -> None:
        """Run up to `settings.concurrency` jobs at a time and report each end to `on_end`."""
        self._settings = settings
        self._find_task = find_task
        self._logs_args_of = logs_args_of
        self._make_context = make_context
        self._worker = worker
        self._logger = logger
        self._log_extra = log_extra
        self._on_end = on_end
        # Whom to tell of events; None if nobody observes, so that the events of each job are not even made.
        self.tell: Callable[[observers.Event], None] | None = None
        self._waiting: collections.deque[tuple[float, jobs.Claim]] = collections.deque()
        self._running: dict[jobs.Key, Running] = {}
        self._suspects: set[jobs.Key] = set()
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="procrastinate")
        # Of which each job gets a copy: most start where another one ends, whose variables are not for them.
        self._context = contextvars.copy_context()
        # How many jobs have started since the latest claim; when that was, and how many seconds it took; and how many
        # jobs started in a second before it.
        self._started = 0
        self._claimed_at = time.monotonic()
        self._claim_took = 0.0
        self._pace = 0.0
        self._refill_level = 0
        self._most_ahead = MOST_AHEAD
        # The tasks that start jobs: one, or as many as there are slots while jobs wait for something themselves.
        self._starters: set[asyncio.Task[None]] = set()
        self._last_one_waits = False
        self._is_closed = False

    # What the fetcher asks

    @property
    def waits(self) -> bool:
        """Whether a claimed job waits for a slot."""
        return bool(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        return not self._running and not self._waiting

    @property
    def running(self) -> list[Running]:
        """The jobs under way."""
        return list(self._running.values())

    @property
    def free_slots(self) -> int:
        """How many claims could start at once."""
        return max(self._settings.concurrency - len(self._running) - len(self._waiting), 0)

    def wanted(self) -> int:
        """Return how many jobs to claim now; zero while enough wait here."""
        if self._suspects:
            return 0  # what is claimed now would die with it
        free = self._settings.concurrency - len(self._running)
        # The claim counts, although jobs start beside it, or the first ten would seem to start within no time at all.
        pace = self._started / (time.monotonic() - self._claimed_at + max(self._claim_took, 1e-3))
        horizon = min(max(HORIZON, CLAIMS * self._claim_took), LONGEST_HORIZON)
        ahead = min(int(max(self._pace, pace) * horizon), self._most_ahead)
        room = free + ahead - len(self._waiting)
        # In big steps: a claim of one costs nearly as much as a claim of a hundred.
        self._refill_level = (free + ahead) // 2
        return room if len(self._waiting) <= self._refill_level and room > 0 else 0

    def claimed(self, count: int, *, seconds: float, busy_locks: int) -> None:
        """Learn from a claim of so many jobs, which took so long and parked others behind so many locks.

        The pace is what was started since the claim before: how long jobs run says little on a machine that is shared
        with others. Thirty-two workers on two cores took themselves for as fast as if each had two of its own, and gave
        back what they had claimed, again and again.

        What is claimed ahead holds its lock while it waits here. So with many locks in use, most of them are held by
        this worker itself; to park a job and to wake it costs more than to run it.
        """
        now = time.monotonic()
        self._pace = self._started / max(now - self._claimed_at, 1e-6)
        self._started, self._claimed_at, self._claim_took = 0, now, seconds
        if busy_locks > count / 10:
            self._most_ahead = max(self._most_ahead // 2, LEAST_AHEAD)
        else:
            self._most_ahead = min(self._most_ahead + LEAST_AHEAD // 2, MOST_AHEAD)

    @property
    def keys(self) -> set[jobs.Key]:
        """The claims that run or wait here."""
        claims = [running.claim for running in self._running.values()] + [claim for _, claim in self._waiting]
        return {claim.key for claim in claims}

    @property
    def runs_low(self) -> bool:
        """Whether it is time to claim more."""
        return len(self._waiting) <= self._refill_level

    def submit(self, claims: Sequence[jobs.Claim]) -> None:
        """Take claimed jobs, to be started in this order."""
        now = time.monotonic()
        discreet = {name for name in {claim.job.task_name for claim in claims} if not self._logs_args_of(name)}
        if discreet:
            claims = [_without_log_args(claim) if claim.job.task_name in discreet else claim for claim in claims]
        self._waiting.extend((now, claim) for claim in claims)
        self._suspects.update(claim.key for claim in claims if claim.is_suspect)
        # Those that were cancelled before they could begin, by somebody who cancels whatever task there is.
        self._starters.difference_update([starter for starter in self._starters if starter.done()])
        self._start_some()

    def take_back(self, patience: float) -> list[jobs.Claim]:
        """Return the jobs that wait for a slot, if the first of them has waited for so many seconds.

        With any patience at all, a suspect stays that waits for the others to end.
        """
        if not self._waiting or time.monotonic() - self._waiting[0][0] < patience:
            return []
        if patience and self._must_wait(*self._waiting[0]):
            return []  # it was claimed alone
        claims = [claim for _, claim in self._waiting]
        self._waiting.clear()
        self._suspects.difference_update(claim.key for claim in claims)
        return claims

    # Aborting

    def abort(self, job_id: int, reason: AbortReason) -> None:
        """Ask a job of this worker to stop; nothing happens if it is not here or was asked before.

        A coroutine is cancelled. A function in a thread must look at `context.should_abort()`.
        """
        for entry in [each for each in self._waiting if each[1].job.id == job_id]:
            self._waiting.remove(entry)
            self._end(Running(entry[1], None, time.time(), abort_reason=reason), exceptions.JobAborted(), None)
        # Two runs, if the job was retried by hand while it ran; the outcome of the first is refused.
        for running in [each for each in self._running.values() if each.claim.job.id == job_id]:
            if running.abort_reason is None:
                self._abort(running, reason)

    def _abort(self, running: Running, reason: AbortReason) -> None:
        running.abort_reason = reason
        call = running.claim.job.call_string
        self._logger.info("Aborting job %s", call, extra=self._log_extra("abort_job", running.claim.job))
        # Without a task it has not begun: nothing runs in a thread yet.
        if running.future is not None and (running.task is None or running.task.is_async):
            running.future.cancel()

    async def wait_until_idle(self, seconds: float | None) -> bool:
        """Wait for the running jobs to end, at most so long; return whether all did."""
        futures = [running.future for running in self._running.values() if running.future is not None]
        if futures:
            await asyncio.wait(futures, timeout=seconds)
        return not self._running

    def close(self) -> None:
        """Let go of the threads, without waiting for them."""
        self._is_closed = True
        self._threads.shutdown(wait=False)

    # Running

    def _start_some(self) -> None:
        """Have one of those that wait started, if there is a slot. A task that is at it takes the others too."""
        count = len(self._starters)
        if count and (not self._last_one_waits or count >= len(self._waiting)):
            return
        if len(self._running) + count < self._settings.concurrency and self._has_next():
            loop = asyncio.get_running_loop()
            # Not by the loop, whose factory may run it at once: within itself, as often as there are slots. And not in
            # the context of the job that is just ending here.
            self._starters.add(asyncio.Task(self._run_waiting(), loop=loop, context=self._context))

    async def _run_waiting(self) -> None:
        """Run the jobs that wait, one after another, until one of them waits itself: this task is its own from then on.

        So most jobs that do little never need the loop; a task for each took them 2 µs longer, out of 5.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for the type checker
        rest: Awaitable[None] | None = None
        count = 0
        try:
            # A job that has cancelled its task and ended must not have cancelled the next one.
            while rest is None and not task.cancelling() and self._has_next():
                running = self._take_next()
                task.set_name(f"process job {running.claim.job.task_name}[{running.claim.job.id}]")
                rest = coroutines.start(self._run(running), self._context.copy())
                self._last_one_waits = rest is not None
                count += 1
                if rest is not None:
                    running.future = task
                elif count % TURN == 0:
                    await asyncio.sleep(0)
        finally:
            self._starters.discard(task)
            # Where one waits, the next will: by two each time, many slots are taken after few turns of the loop.
            self._start_some()
            self._start_some()
        if rest is not None:
            await rest

    def _has_next(self) -> bool:
        """Tell whether the first claim that waits may start now."""
        if not self._waiting or len(self._running) >= self._settings.concurrency or self._is_closed:
            return False
        if self._suspects and self._must_wait(*self._waiting[0]):
            asyncio.get_running_loop().call_later(QUARANTINE, self._start_some)
            return False
        return True

    def _take_next(self) -> Running:
        _, claim = self._waiting.popleft()
        self._started += 1
        running = self._running[claim.key] = Running(claim, None, time.time())
        if claim.is_suspect:
            asyncio.get_running_loop().call_later(QUARANTINE, self._end_quarantine, claim.key)
        return running

    def _must_wait(self, since: float, claim: jobs.Claim) -> bool:
        """Tell whether the first claim that waits must not start although a slot is free."""
        if not claim.is_suspect:
            return bool(self._suspects & self._running.keys())
        return bool(self._running) and time.monotonic() - since < QUARANTINE

    def _end_quarantine(self, key: jobs.Key) -> None:
        self._suspects.discard(key)
        if not self._is_closed:
            self._start_some()

    async def _run(self, running: Running) -> None:
        job = running.claim.job
        result, error = None, None
        try:
            running.task = task = self._find_task(job.task_name)
            if self._logger.isEnabledFor(logging.INFO):
                self._log_start(running)
            if self.tell is not None:
                self.tell(observers.JobStarted(job=job))
            result = await self._call(task, running)
        except BaseException as raised:  # noqa: BLE001  a job may raise anything; the worker goes on
            error = raised
        self._end(running, error, result)

    def _call(self, task: Task[..., Any], running: Running) -> Awaitable[Any]:
        job = running.claim.job
        settings = self._settings
        wrapped = bool(settings.worker_middleware or settings.task_middleware or task.task_middleware)
        if not wrapped and not task.pass_context:
            if task.is_async:
                return task.func(**job.task_kwargs)
            return self._call_in_thread(functools.partial(task.func, **job.task_kwargs))
        context = self._make_context(job, running.started, lambda: running.abort_reason)
        arguments = (context,) if task.pass_context else ()
        bare = functools.partial(task.func, *arguments, **job.task_kwargs)
        if not wrapped:
            return self._bare_call(task, bare)
        around = [each for each in settings.task_middleware if middleware.is_async_middleware(each) == task.is_async]
        if len(around) < len(settings.task_middleware):
            self._log_debug("skip_middleware", "Task middleware of the other kind is skipped for job %s", job)
        call = middleware.compose([*around, *task.task_middleware], bare, context, self._worker)
        whole = functools.partial(self._bare_call, task, call)
        return middleware.compose(settings.worker_middleware, whole, context, self._worker)()

    def _bare_call(self, task: Task[..., Any], call: Callable[[], Any]) -> Awaitable[Any]:
        return call() if task.is_async else self._call_in_thread(call)

    async def _call_in_thread(self, call: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, lambda: context.run(_captured, call))
        result, error = await future
        if error is not None:
            raise error
        return await result if inspect.isawaitable(result) else result

    def _end(self, running: Running, error: BaseException | None, result: Any) -> None:
        job, key = running.claim.job, running.claim.key
        self._running.pop(key, None)
        self._suspects.discard(key)
        ended = time.time()
        verdict = self._judge(running, error, ended)
        self._on_end(verdict)
        if self.tell is not None:
            seconds = ended - running.started
            self.tell(observers.JobEnded(job=job, status=verdict.status, seconds=seconds, error=error))
        if error is not None or self._logger.isEnabledFor(logging.INFO):
            self._log_end(running, verdict, error, ended, result)
            self._log_debug("finish_task", "The outcome of job %s goes to the database", job)
        self._start_some()

    def _log_debug(self, action: str, message: str, job: jobs.Job) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug(message, job.call_string, extra=self._log_extra(action, job))

    def _judge(self, running: Running, error: BaseException | None, ended: float) -> Verdict:
        if error is None:
            return verdicts.success(running.claim, self._settings.delete_jobs)
        run = verdicts.FailedRun(
            claim=running.claim,
            started_at=from_timestamp(running.started),
            ended_at=from_timestamp(ended),
            error=error,
            abort_reason=running.abort_reason,
        )
        strategy = running.task.retry_strategy if running.task is not None else None
        return verdicts.decide(run, strategy, self._settings.delete_jobs)

    def _log_start(self, running: Running) -> None:
        self._log_debug("loaded_job_info", "Loaded job info of %s", running.claim.job)
        extra = self._extra_of(running, "start_job")
        self._logger.info("Starting job %s", extra["job"]["call_string"], extra=extra)

    def _extra_of(self, running: Running, action: str) -> dict[str, Any]:
        if running.extra is None:
            running.extra = self._log_extra(action, running.claim.job)
        return {**running.extra, "action": action}

    def _log_end(
        self, running: Running, verdict: Verdict, error: BaseException | None, ended: float, result: Any
    ) -> None:
        try:
            self._log_outcome(running, verdict, error, ended, result)
        except Exception:
            # A result or argument whose own repr fails; the job has ended all the same.
            job = running.claim.job
            self._logger.exception("The end of job %s could not be logged", job.id, exc_info=job.log_args)

    def _log_outcome(
        self, running: Running, verdict: Verdict, error: BaseException | None, ended: float, result: Any
    ) -> None:
        action, title, level = _outcome(verdict, error)
        if not self._logger.isEnabledFor(level):
            return
        job = running.claim.job
        extra = self._extra_of(running, action)
        if isinstance(error, exceptions.TaskNotFound):
            self._logger.error("%s", error, extra={**extra, "action": "task_not_found"})
        if not job.log_args:
            # What a task returns tells of its arguments. So do an error's message and the frames of its traceback,
            # which some handlers read the variables from: the record gets neither.
            suffix, result = "" if error is None else f"\n{verdicts.bare_traceback(error)}".rstrip(), None
        else:
            suffix = f" - Result: {result}"[:250] if result else ""
        outcome = JobResult(start_timestamp=running.started, end_timestamp=ended, result=result)
        self._logger.log(
            level,
            "Job %s ended with status: %s, lasted %.3f s%s",
            extra["job"]["call_string"],
            title,
            ended - running.started,
            suffix,
            extra={**extra, **outcome.as_dict()},
            exc_info=error if job.log_args else None,
        )


def _without_log_args(claim: jobs.Claim) -> jobs.Claim:
    return attrs.evolve(claim, job=claim.job.evolve(log_args=False))


def _captured(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Call, and return the result and the error: a StopIteration could not pass through a future."""
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001  raised again on the loop
        return None, error


def _outcome(verdict: Verdict, error: BaseException | None) -> tuple[str, str, int]:
    is_abort = isinstance(error, exceptions.JobAborted | asyncio.CancelledError)
    match verdict.status:
        case jobs.Status.SUCCEEDED:
            return "job_success", "Success", logging.INFO
        case jobs.Status.TODO:
            action, title = ("job_aborted_retry", "Aborted") if is_abort else ("job_error_retry", "Error")
            return action, f"{title}, to retry", logging.INFO
        case jobs.Status.ABORTED:
            return "job_aborted", "Aborted", logging.INFO
        case _:
            return "job_error", "Error", logging.ERROR
