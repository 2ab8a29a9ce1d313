"""When a worker counts as alive, and as ready."""

from __future__ import annotations

import pytest

from procrastinate.worker.health import Facts, Limits, ServiceHealth, judge

LIMITS = Limits(block=300, heartbeat=30)


def facts(**changes) -> Facts:
    plain = {
        "worker": {},
        "is_registered": True,
        "is_stopping": False,
        "failure": None,
        "heartbeat_age": 1.0,
        "fetch_age": 1.0,
        "claim_age": None,
        "services": [],
        "running": [],
        "outcomes": 0,
    }
    return Facts(**{**plain, **changes})


def service(name: str = "fetcher", failures: int = 3, vital: bool = True) -> ServiceHealth:
    return ServiceHealth(name=name, failures=failures, failing_for=12.0, vital=vital)


def test_all_is_well():
    verdict = judge(facts(services=[service(failures=0)]), 0, LIMITS)
    assert (verdict.is_alive, verdict.is_ready) == (True, True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"is_registered": False}, "it is starting"),
        ({"fetch_age": None}, "it is starting"),
        ({"is_stopping": True}, "it is stopping"),
        ({"is_stopping": True, "failure": "no tables"}, "it is stopping: no tables"),
        ({"heartbeat_age": 31.0}, "the latest sign of life is 31 s old"),
        ({"services": [service()]}, "service fetcher has been failing for 12 s"),
    ],
)
def test_alive_but_not_ready(changes, problem):
    verdict = judge(facts(**changes), 0, LIMITS)
    assert verdict.is_alive
    assert verdict.not_ready == [problem]


def test_a_service_that_can_be_missed():
    assert judge(facts(services=[service("listener", vital=False)]), 0, LIMITS).is_ready


@pytest.mark.parametrize(("seconds", "alive", "ready"), [(4, True, True), (6, True, False), (301, False, False)])
def test_a_blocked_loop(seconds, alive, ready):
    verdict = judge(facts(), seconds, LIMITS)
    assert (verdict.is_alive, verdict.is_ready) == (alive, ready)
    expected = [] if ready else [f"the event loop has been blocked for {seconds} s"]
    assert verdict.not_ready == expected


def test_a_loop_that_may_be_blocked_for_ever():
    assert judge(facts(), 10**6, Limits(block=None, heartbeat=30)).is_alive
