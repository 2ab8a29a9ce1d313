"""Who is told of a worker's events."""

from __future__ import annotations

import logging

import pytest

from procrastinate import observers
from procrastinate.worker.settings import WorkerSettings

EVENT = observers.ServiceRecovered(service="fetcher")


def test_all_are_told_in_their_order():
    heard = []
    observers.telling([lambda event: heard.append((1, event)), lambda event: heard.append((2, event))])(EVENT)
    assert heard == [(1, EVENT), (2, EVENT)]


def test_an_observer_that_fails(caplog):
    heard = []

    def broken(event):
        raise ValueError("on purpose")

    observers.telling([broken, heard.append])(EVENT)
    assert heard == [EVENT]
    [record] = caplog.records
    assert (record.levelno, record.action, record.event) == (logging.ERROR, "observer_failed", "ServiceRecovered")
    assert "on purpose" in caplog.text


def test_nobody():
    assert observers.telling([]) is observers.nobody
    observers.nobody(EVENT)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"observers": ["print"]}, TypeError),
        ({"health_port": "8080"}, TypeError),
        ({"health_port": True}, TypeError),
        ({"health_port": -1}, ValueError),
        ({"health_port": 65_536}, ValueError),
    ],
)
def test_wrong_options(options, error):
    with pytest.raises(error):
        WorkerSettings.from_options(options)
