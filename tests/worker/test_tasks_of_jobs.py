"""Each coroutine runs in an asyncio task, from its first line on; in one of its own once it waits for anything."""

from __future__ import annotations

import asyncio
import contextvars

import procrastinate
from procrastinate import testing

seen = contextvars.ContextVar("seen", default=0)


async def statuses_after_a_run(app: procrastinate.App) -> list[str]:
    await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False, concurrency=3)
    return [job.status for job in await app.job_manager.list_jobs_async()]


async def test_task_and_context_are_the_job_s_own() -> None:
    app = procrastinate.App(connector=testing.InMemoryConnector())
    tasks, before, after = [], [], []

    @app.task(name="task")
    async def task(number: int) -> None:
        current = asyncio.current_task()
        assert current is not None
        before.append(seen.get())
        seen.set(number)
        assert current.get_name() == f"process job task[{number}]"
        if number % 2:
            tasks.append(current)
            await asyncio.sleep(0)
            await asyncio.to_thread(lambda: after.append((number, seen.get())))
            assert asyncio.current_task() is current
            assert current.get_name() == f"process job task[{number}]"
            assert seen.get() == number

    async with app.open_async():
        await task.batch_defer_async(*({"number": number} for number in range(1, 101)))
        assert await statuses_after_a_run(app) == ["succeeded"] * 100
    assert len(set(tasks)) == 50
    assert sorted(after) == [(number, number) for number in range(1, 101, 2)]
    assert before == [0] * 100
    assert seen.get() == 0


async def test_a_job_that_cancels_its_task_and_ends_harms_no_other() -> None:
    app = procrastinate.App(connector=testing.InMemoryConnector())

    @app.task(name="task")
    async def task(number: int) -> None:
        current = asyncio.current_task()
        assert current is not None
        if number % 3 == 0:
            current.cancel()
        elif number % 3 == 1:
            await asyncio.sleep(0)

    async with app.open_async():
        await task.batch_defer_async(*({"number": number} for number in range(30)))
        async with asyncio.timeout(20):
            assert await statuses_after_a_run(app) == ["succeeded"] * 30


async def test_jobs_start_although_their_task_is_cancelled_before_it_begins() -> None:
    """Somebody who cancels all tasks in sight may hit the one that is to start the next jobs."""
    app = procrastinate.App(connector=testing.InMemoryConnector())
    loop = asyncio.get_running_loop()

    def cancel_starters() -> None:
        for other in asyncio.all_tasks():
            if "_run_waiting" in repr(other.get_coro()):
                other.cancel()

    @app.task(name="task")
    async def task() -> None:
        loop.call_soon(cancel_starters)
        await asyncio.sleep(0)

    async with app.open_async():
        await task.batch_defer_async({}, {}, {}, {}, {}, {})
        async with asyncio.timeout(20):
            assert set(await statuses_after_a_run(app)) == {"aborted"}


async def test_a_timeout_on_the_first_line() -> None:
    app = procrastinate.App(connector=testing.InMemoryConnector())

    @app.task(name="task")
    async def task() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async with app.open_async():
        await task.defer_async()
        assert await statuses_after_a_run(app) == ["failed"]


async def test_a_job_that_cancels_itself_and_those_that_have_not_begun() -> None:
    app = procrastinate.App(connector=testing.InMemoryConnector())

    @app.task(name="task")
    async def task() -> None:
        for other in asyncio.all_tasks():
            if other.get_name().startswith("process job"):
                other.cancel()
        await asyncio.Event().wait()

    async with app.open_async():
        await task.batch_defer_async({}, {}, {})
        async with asyncio.timeout(20):
            assert await statuses_after_a_run(app) == ["aborted"] * 3
