"""Retry decisions."""

import datetime

import pytest

from procrastinate import BaseRetryStrategy, Job, RetryDecision, RetryStrategy, retry


def failed(attempts=0):
    return Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", attempts=attempts)


def delay(strategy, attempts):
    before = datetime.datetime.now(tz=datetime.UTC)
    decision = strategy.get_retry_decision(exception=ValueError(), job=failed(attempts))
    return None if decision is None else pytest.approx((decision.retry_at - before).total_seconds(), abs=0.3)


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        (RetryStrategy(), [0, 0, 0]),
        (RetryStrategy(wait=3), [3, 3, 3]),
        (RetryStrategy(linear_wait=5), [0, 5, 10]),
        (RetryStrategy(exponential_wait=5), [5, 25, 125]),
        (RetryStrategy(exponential_wait=1), [1, 1, 1]),
        (RetryStrategy(wait=1, linear_wait=0.5), [1, 1.5, 2]),
        (RetryStrategy(max_attempts=2), [0, 0, None]),
        (RetryStrategy(max_attempts=0), [0, 0, 0]),
        (RetryStrategy(retry_exceptions=[LookupError]), [None, None, None]),
        (RetryStrategy(retry_exceptions={ValueError}), [0, 0, 0]),
    ],
)
def test_delays(strategy, delays):
    assert [delay(strategy, attempts) for attempts in range(3)] == delays


def test_exponential_waits_end_with_the_calendar():
    decision = RetryStrategy(exponential_wait=10).get_retry_decision(exception=ValueError(), job=failed(10_000))
    assert decision.retry_at.year == 9999


@pytest.mark.parametrize(
    ("value", "strategy"),
    [(False, None), (0, None), (True, RetryStrategy()), (1, RetryStrategy(max_attempts=1))],
)
def test_short_forms(value, strategy):
    assert retry.get_retry_strategy(value) == strategy


def test_decision_has_one_time():
    with pytest.raises(ValueError, match="Cannot set both retry_at and retry_in"):
        RetryDecision(retry_at=datetime.datetime.now(tz=datetime.UTC), retry_in={"seconds": 1})
    with pytest.raises(ValueError, match="aware"):
        RetryDecision(retry_at=datetime.datetime(2030, 1, 1))  # noqa: DTZ001  that is the point


def test_decision_can_refuse():
    class Refuses(BaseRetryStrategy):
        def get_retry_decision(self, *, exception, job):
            return RetryDecision(should_retry=False)

    assert Refuses().decide(ValueError(), failed()) is None
    assert Refuses().get_retry_exception(ValueError(), failed()) is None


def test_older_strategies():
    class Older(BaseRetryStrategy):
        def get_schedule_in(self, *, exception, attempts):
            return attempts

    with pytest.warns(DeprecationWarning, match="get_retry_decision"):
        assert Older().decide(ValueError(), failed(3)) is not None


def test_strategy_that_implements_nothing():
    with pytest.raises(NotImplementedError, match="get_retry_decision"):
        BaseRetryStrategy().decide(ValueError(), failed())


def test_task_carries_the_decision_as_an_exception(app):
    task = app.task(name="t", retry=1)(lambda: None)
    assert task.get_retry_exception(ValueError(), failed()).retry_decision.retry_at
    assert task.get_retry_exception(ValueError(), failed(1)) is None
    assert app.task(name="u")(lambda: None).get_retry_exception(ValueError(), failed()) is None
