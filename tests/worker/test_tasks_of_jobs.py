"""Each coroutine runs in an asyncio task of its own, from its first line on."""

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
    tasks, before = [], []

    @app.task(name="task")
    async def task(number: int) -> None:
        current = asyncio.current_task()
        assert current is not None
        tasks.append(current)
        before.append(seen.get())
        seen.set(number)
        assert current.get_name() == f"process job task[{number}]"

    async with app.open_async():
        await task.batch_defer_async(*({"number": number} for number in range(1, 51)))
        assert await statuses_after_a_run(app) == ["succeeded"] * 50
    assert len(set(tasks)) == 50
    assert before == [0] * 50
    assert seen.get() == 0


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
    """Before Python 3.12 the others only begin in the loop's next turn; then they never do, and are recorded."""
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
