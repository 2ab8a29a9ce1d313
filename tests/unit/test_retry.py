"""Retry decisions."""

import copy
import datetime
import pickle
import time
import zoneinfo

import pytest

from procrastinate import BaseRetryStrategy, Job, RetryDecision, RetryStrategy, exceptions, retry


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
    [(False, None), (None, None), (0, None), (True, RetryStrategy()), (1, RetryStrategy(max_attempts=1))],
)
def test_short_forms(value, strategy):
    assert retry.get_retry_strategy(value) == strategy


def test_decision_has_one_time():
    with pytest.raises(ValueError, match="Cannot set both retry_at and retry_in"):
        RetryDecision(retry_at=datetime.datetime.now(tz=datetime.UTC), retry_in={"seconds": 1})


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_naive_time_is_local(monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        retry_at = RetryDecision(retry_at=datetime.datetime(2030, 1, 1, 12)).retry_at  # noqa: DTZ001  that is the point
    finally:
        monkeypatch.undo()
        time.tzset()
    assert retry_at == datetime.datetime(2030, 1, 1, 12, tzinfo=zoneinfo.ZoneInfo(zone))


def test_decision_keeps_what_it_does_not_say():
    decision = RetryDecision()
    assert (decision.retry_at, decision.priority, decision.queue, decision.lock) == (None, None, None, None)
    assert decision.should_retry


def test_decision_takes_what_the_database_takes():
    assert RetryDecision(lock=5).lock == "5"
    assert RetryDecision(priority=0).priority == 0
    assert RetryDecision(retry_in={"days": 10**9}).retry_at.year == 9999
    with pytest.raises(ValueError, match="2147483647"):
        RetryDecision(priority=2**31)
    with pytest.raises(ValueError, match="128"):
        RetryDecision(queue="q" * 129)
    with pytest.raises(TypeError):
        RetryDecision(retry_in={"fortnights": 1})


def test_decision_can_refuse():
    class Refuses(BaseRetryStrategy):
        def get_retry_decision(self, *, exception, job):
            return RetryDecision(should_retry=False)

    assert Refuses().decide(ValueError(), failed()) is None
    assert Refuses().get_retry_exception(ValueError(), failed()) is None


def test_strategy_that_makes_the_exception_itself():
    class Own(BaseRetryStrategy):
        def get_retry_exception(self, exception, job):
            return exceptions.JobRetry(RetryDecision(priority=7))

    assert Own().decide(ValueError(), failed()).priority == 7


def test_older_strategies():
    class Older(BaseRetryStrategy):
        def get_schedule_in(self, *, exception, attempts):
            return attempts

    with pytest.warns(DeprecationWarning, match="get_retry_decision"):
        assert Older().decide(ValueError(), failed(3)) is not None


def test_older_strategy_that_refuses():
    class Older(BaseRetryStrategy):
        def get_schedule_in(self, *, exception, attempts):
            return None

    with pytest.warns(DeprecationWarning, match="get_retry_decision"):
        assert Older().get_retry_exception(ValueError(), failed()) is None


def test_strategy_that_implements_nothing():
    with pytest.raises(NotImplementedError, match=r"Missing implementation of 'get_retry_decision'\.") as raised:
        BaseRetryStrategy().decide(ValueError(), failed())
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_types_of_exceptions_may_come_from_a_generator():
    strategy = RetryStrategy(retry_exceptions=(each for each in [ValueError]))
    for _ in range(2):
        assert strategy.get_retry_decision(exception=ValueError(), job=failed())
        assert not strategy.get_retry_decision(exception=KeyError(), job=failed())


def test_base_exceptions_are_retried():
    class Custom(BaseException):
        pass

    assert RetryStrategy().get_retry_decision(exception=Custom(), job=failed())
    assert RetryStrategy(retry_exceptions=[Custom]).get_retry_decision(exception=Custom(), job=failed())


@pytest.mark.parametrize("value", [ValueError, ["ValueError"], [int]])
def test_wrong_types_of_exceptions(value):
    with pytest.raises(TypeError, match="retry_exceptions takes"):
        RetryStrategy(retry_exceptions=value)


@pytest.mark.parametrize("value", ["3", RetryStrategy, 2.5])
def test_what_is_no_strategy(app, value):
    with pytest.raises(TypeError, match="retry takes"):
        app.task(name="t", retry=value)(lambda: None)


def test_strategies_are_values():
    strategy = RetryStrategy(max_attempts=2, retry_exceptions=[ValueError])
    for twin in (copy.copy(strategy), copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert twin == strategy
    strategy.wait = 5
    assert strategy != RetryStrategy(max_attempts=2, retry_exceptions=[ValueError])


def test_promises_of_the_guide(app):
    task = app.task(name="t", retry=RetryStrategy(max_attempts=1))(lambda: None)
    assert task.retry.get_retry_decision(exception=ValueError(), job=failed())
    assert task.retry.get_retry_decision(exception=ValueError(), job=failed(1)) is None


def test_task_carries_the_decision_as_an_exception(app):
    task = app.task(name="t", retry=1)(lambda: None)
    assert task.get_retry_exception(ValueError(), failed()).retry_decision.retry_at
    assert task.get_retry_exception(ValueError(), failed(1)) is None
    assert app.task(name="u")(lambda: None).get_retry_exception(ValueError(), failed()) is None
