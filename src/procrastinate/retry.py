"""When a failed job runs again: pure decisions from the exception and the job."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Collection, Iterable
from typing import TypeAlias

import attrs
from typing_extensions import override

from procrastinate import exceptions, types
from procrastinate.jobs import Job, check_name, check_priority, lock_text


class RetryDecision:
    """What a strategy decided: when the job runs again, and what changes by then. None keeps what the job has."""

    def __init__(
        self,
        *,
        retry_at: datetime.datetime | None = None,
        retry_in: types.TimeDeltaParams | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
        should_retry: bool = True,
    ) -> None:
        """Decide.

        Args:
            retry_at: when the job is due again; None for now. Without a time zone it is local time.
            retry_in: the same, as a time from now: `{"minutes": 5}`.
            priority: a new priority.
            queue: a new queue.
            lock: a new lock.
            should_retry: False refuses the retry, as returning None instead of a decision does.

        Raises:
            ValueError: both times were given, or a name or number does not fit the database.
            TypeError: a value has the wrong type.
        """
        if retry_at is not None and retry_in is not None:
            raise ValueError("Cannot set both retry_at and retry_in")
        if retry_in is not None:
            retry_at = types.time_from_now(retry_in)
        # Not refused, as a job's `scheduled_at` is: it would cost the job its retry.
        self.retry_at = retry_at.astimezone() if retry_at is not None and retry_at.utcoffset() is None else retry_at
        self.priority = None if priority is None else check_priority(priority)
        self.queue = None if queue is None else check_name(queue, "queue")
        self.lock = lock_text(lock)
        self.should_retry = should_retry

    def __repr__(self) -> str:
        attributes = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"RetryDecision({attributes})"


class BaseRetryStrategy:
    """Decides whether and when a failed job runs again: inherit from it and implement `get_retry_decision`."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return the decision for a job that failed with `exception`, or None for no retry.

        `job.attempts` counts the runs before this one.
        """
        raise NotImplementedError("Missing implementation of 'get_retry_decision'.")

    def get_schedule_in(self, *, exception: BaseException, attempts: int) -> int | None:
        """Return the seconds until the next run, or None for no retry. Deprecated: use `get_retry_decision`."""
        raise NotImplementedError("Missing implementation of 'get_retry_decision'.")

    def get_retry_exception(self, exception: BaseException, job: Job) -> exceptions.JobRetry | None:
        """Return the decision of whichever method the strategy implements, in an exception, or None for no retry."""
        try:
            decision = self.get_retry_decision(exception=exception, job=job)
        except NotImplementedError as error:
            try:
                seconds = self.get_schedule_in(exception=exception, attempts=job.attempts)
            except NotImplementedError:
                raise error from None
            warnings.warn(
                "`get_schedule_in` is deprecated, use `get_retry_decision` instead.", DeprecationWarning, stacklevel=2
            )
            decision = None if seconds is None else RetryDecision(retry_in={"seconds": seconds})
        return exceptions.JobRetry(decision) if decision is not None and decision.should_retry else None

    def decide(self, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return the decision of `get_retry_exception`, without the exception."""
        retry = self.get_retry_exception(exception, job)
        return None if retry is None else retry.retry_decision


def _exception_types(value: Iterable[type[BaseException]] | None) -> Iterable[type[BaseException]] | None:
    if value is None:
        return None
    if isinstance(value, type):
        raise TypeError(f"retry_exceptions takes several types: write retry_exceptions=[{value.__name__}]")
    # A generator would be empty at the second look.
    types = value if isinstance(value, Collection) else tuple(value)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"retry_exceptions takes types of exceptions, not {each!r}")
    return types


@attrs.define(kw_only=True)
class RetryStrategy(BaseRetryStrategy):
    """Waits `wait + linear_wait * attempts + exponential_wait ** (attempts + 1)` seconds before the next run.

    Attributes:
        max_attempts: retries after which the job fails for good; None (or 0) for no limit.
        wait: seconds before each retry.
        linear_wait: seconds added for each earlier run.
        exponential_wait: base, in seconds, of an exponential back-off.
        retry_exceptions: retry only for these exception types; None (or none) for all.
    """

    max_attempts: int | None = None
    wait: float = 0
    linear_wait: float = 0
    exponential_wait: float = 0
    retry_exceptions: Iterable[type[BaseException]] | None = attrs.field(default=None, converter=_exception_types)

    @override
    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if self.max_attempts and job.attempts >= self.max_attempts:
            return None
        if self.retry_exceptions and not isinstance(exception, tuple(self.retry_exceptions)):
            return None
        return RetryDecision(retry_in={"seconds": self._seconds(job.attempts)})

    def _seconds(self, attempts: int) -> float:
        try:
            return self.wait + self.linear_wait * attempts + float(self.exponential_wait) ** (attempts + 1)
        except OverflowError:
            return float(datetime.timedelta.max.days) * 86400  # clamped to the end of the calendar


RetryValue: TypeAlias = bool | int | BaseRetryStrategy


def get_retry_strategy(retry: RetryValue) -> BaseRetryStrategy | None:
    """Return the strategy for a task's `retry` option: False or 0 for none, True for ever, a number of retries.

    Raises TypeError for anything else but a strategy.
    """
    if not retry:
        return None
    if retry is True:
        return RetryStrategy()
    if isinstance(retry, int):
        return RetryStrategy(max_attempts=retry)
    if not isinstance(retry, BaseRetryStrategy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"retry takes True, False, a number of retries or a strategy such as RetryStrategy(), not {retry!r}"
        )
    return retry
