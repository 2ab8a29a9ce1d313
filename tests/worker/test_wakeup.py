"""The alarm clock of the worker's services."""

import asyncio

from procrastinate.worker.service import Wakeup

NEVER = 1_000


async def test_the_first_alarm_counts() -> None:
    wakeup = Wakeup()
    for after in (NEVER, 0.01, NEVER):
        wakeup.ring(after=after)
    async with asyncio.timeout(30):
        await wakeup.wait(None)
    assert not wakeup.is_rung


async def test_an_alarm_rings_although_nobody_waits_yet() -> None:
    wakeup = Wakeup()
    wakeup.ring(after=0.01)
    await asyncio.sleep(0.02)  # timers end in the order of their times
    assert wakeup.is_rung
    await wakeup.wait(NEVER)
    assert not wakeup.is_rung


async def test_whoever_woke_turns_the_alarm_off() -> None:
    """It has looked by then, so there is nothing left to be woken for; the next alarm is a new one."""
    wakeup = Wakeup()
    wakeup.ring(after=0.01)
    wakeup.ring()
    await wakeup.wait(NEVER)
    await asyncio.sleep(0.02)
    assert not wakeup.is_rung
    wakeup.ring(after=0.01)
    async with asyncio.timeout(30):
        await wakeup.wait(None)
