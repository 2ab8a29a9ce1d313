"""What becomes of a job whose run ended: pure decisions, from values to values."""

from __future__ import annotations

import asyncio
import datetime
import traceback
from typing import Any

import attrs

from procrastinate import exceptions, jobs, retry
from procrastinate.job_context import AbortReason
from procrastinate.store.jobs import Verdict

# The log of attempts is for people: the message and the end of the traceback, where the error is.
LONGEST_MESSAGE = 1_000
LONGEST_TRACEBACK = 4_000


@attrs.frozen(kw_only=True)
class FailedRun:
    """A run that ended in anything but plain success.

    Attributes:
        claim: the job, with the token under which it ran.
        started_at: when it started.
        ended_at: when it ended.
        error: what the task raised.
        abort_reason: why it was asked to stop, or None.
    """

    claim: jobs.Claim
    started_at: datetime.datetime
    ended_at: datetime.datetime
    error: BaseException
    abort_reason: AbortReason | None


def success(claim: jobs.Claim, delete_jobs: jobs.DeleteJobCondition) -> Verdict:
    """Return what becomes of a job whose task returned."""
    is_deleted = delete_jobs is not jobs.DeleteJobCondition.NEVER
    return Verdict(claim=claim, status=jobs.Status.SUCCEEDED, delete=is_deleted)


def decide(run: FailedRun, strategy: retry.BaseRetryStrategy | None, delete_jobs: jobs.DeleteJobCondition) -> Verdict:
    """Return what becomes of a job whose task raised.

    `JobAborted` and cancellation end as aborted, everything else as failed; the strategy may retry, but never after an
    abort that a user asked for.
    """
    is_abort = isinstance(run.error, exceptions.JobAborted | asyncio.CancelledError)
    decision, reason = (None, None)
    if _may_retry(run):
        decision, reason = _ask(strategy, run)
    if decision is not None:
        retry_at = decision.retry_at or run.ended_at
        return Verdict(
            claim=run.claim,
            status=jobs.Status.TODO,
            retry_at=retry_at,
            priority=decision.priority,
            queue=decision.queue,
            lock=decision.lock,
            report=report(run, "deferred_for_retry", retry_at=retry_at.isoformat()),
        )
    status = jobs.Status.ABORTED if is_abort else jobs.Status.FAILED
    return Verdict(
        claim=run.claim,
        status=status,
        delete=delete_jobs is jobs.DeleteJobCondition.ALWAYS,
        report=report(run, status.value, final=True, reason=reason),
    )


def _may_retry(run: FailedRun) -> bool:
    if run.abort_reason is AbortReason.USER_REQUEST:
        return False
    # A task that aborts itself wants no other run; one that gives way to a shutdown does.
    return not isinstance(run.error, exceptions.JobAborted) or run.abort_reason is AbortReason.SHUTDOWN


def _ask(strategy: retry.BaseRetryStrategy | None, run: FailedRun) -> tuple[retry.RetryDecision | None, str | None]:
    if strategy is None:
        return None, None
    try:
        return strategy.decide(run.error, run.claim.job), None
    except Exception as error:  # noqa: BLE001  user code; the job must end all the same
        return None, f"the retry strategy failed: {_described(error, run.claim.job)}"


def report(run: FailedRun, event: str, **details: Any) -> dict[str, Any]:
    """Return the entry for the log of attempts; without the error's message if the arguments are not to be logged."""
    job = run.claim.job
    message = describe(run.error) if job.log_args else None
    trace = _traceback(run.error) if job.log_args else bare_traceback(run.error)
    entry: dict[str, Any] = {
        "number": job.attempts + 1,
        "event": event,
        "scheduled_at": job.scheduled_at.isoformat() if job.scheduled_at else None,
        "started_at": run.started_at.isoformat(),
        "ended_at": run.ended_at.isoformat(),
        "worker_id": job.worker_id,
        "exception": type(run.error).__qualname__,
        "message": None if message is None else storable(message)[:LONGEST_MESSAGE],
        "traceback": storable(trace)[-LONGEST_TRACEBACK:],
        **details,
    }
    return {name: value for name, value in entry.items() if value is not None}


def describe(error: BaseException) -> str:
    """Return the error's message, also of one whose own `__str__` fails."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001  user code
        return f"<the message could not be made: {type(failure).__name__}>"


def _described(error: BaseException, job: jobs.Job) -> str:
    return describe(error) if job.log_args else type(error).__qualname__


def bare_traceback(error: BaseException) -> str:
    """Return the error's traceback and those of its causes with nothing but places and types: no values, no messages.

    What stands in the files is shown, as in any traceback.
    """
    parts: list[str] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = "".join(traceback.format_tb(cause.__traceback__))
        parts.append(
            f"Traceback (most recent call last):\n{frames}{type(cause).__module__}.{type(cause).__qualname__}\n"
        )
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nwhich led to\n\n".join(reversed(parts))


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  user code in __str__ or __cause__
        return "".join(traceback.format_tb(error.__traceback__))


def storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot store in jsonb: NUL characters and lone surrogates."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
