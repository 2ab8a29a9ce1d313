"""A Redis stream. `setting` is how many tasks run at a time; kept stores results."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench import adapter
from bench.tally import hit

options = adapter.parse()
broker = RedisStreamBroker(adapter.URL, consumer_id="0", xread_count=1_000)
if options.keep:
    broker = broker.with_result_backend(RedisAsyncResultBackend(adapter.URL, result_ex_time=600))


@broker.task(task_name="noop")
async def noop(i: int) -> None:
    hit(i)


class Taskiq:
    """taskiq."""

    loop = "uvloop"  # as its own command, where it is installed

    async def setup(self) -> None:
        await broker.startup()
        await broker.shutdown()

    async def open(self) -> None:
        await broker.startup()

    async def close(self) -> None:
        await broker.shutdown()

    async def one(self, number: int) -> None:
        await noop.kiq(number)

    async def bulk(self, numbers: range) -> None:
        await adapter.in_flight(self.one, numbers, 20)

    async def worker(self) -> None:
        await broker.startup()
        size = int(options.setting)
        receiver = asyncio.create_task(run_receiver_task(broker, max_async_tasks=size, max_prefetch=size))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, receiver.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await receiver
        await broker.shutdown()


if __name__ == "__main__":
    adapter.main(Taskiq)
