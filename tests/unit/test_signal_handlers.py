"""Stopping on signals: once, and then as before."""

import asyncio
import logging
import os
import signal
import threading

import pytest

from procrastinate import signals


@pytest.fixture
def caught():
    """What the handlers from before received."""
    numbers = []
    before = {number: signal.signal(number, lambda number, _: numbers.append(number)) for number in signals.SIGNALS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_first_signal_stops_and_second_goes_to_the_handler_from_before(caught, number):
    stops = []
    with signals.on_stop(lambda: stops.append(number)):
        os.kill(os.getpid(), number)
        assert (stops, caught) == ([number], [])
        os.kill(os.getpid(), number)
        assert (stops, caught) == ([number], [number])


@pytest.mark.parametrize("number", signals.SIGNALS)
def test_on_a_loop(caught, number):
    async def run():
        stopped = asyncio.Event()
        with signals.on_stop(stopped.set):
            os.kill(os.getpid(), number)
            await stopped.wait()
            assert caught == []
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert caught == [number]


def test_handlers_are_put_back_at_the_end(caught):
    with signals.on_stop(lambda: None):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    assert caught == [signal.SIGTERM]


def test_handlers_may_be_installed_apart(caught, caplog):
    caplog.set_level(logging.DEBUG, "procrastinate.signals")

    async def run():
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        before = [signal.getsignal(number) for number in signals.SIGNALS]
        signals.install(loop, stopped.set)
        os.kill(os.getpid(), signal.SIGTERM)
        await stopped.wait()
        signals.uninstall(loop, *before)
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert caught == [signal.SIGINT]
    assert [record.action for record in caplog.records] == ["install_signal_handlers", "uninstall_signal_handlers"]


def test_threads_handle_no_signals(caplog):
    def run():
        with signals.on_stop(lambda: None):
            pass

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert [record.action for record in caplog.records] == ["skip_signal_handlers"]
