"""`setting` is the queue's concurrency. Ended jobs stay until its pruner comes."""

from __future__ import annotations

import logging
from typing import Any

from chancy import Chancy, Job, Queue, Worker

from bench import adapter
from bench.tally import hit

quiet = logging.getLogger("quiet")
quiet.setLevel(logging.WARNING)


async def noop(*, i: int) -> None:
    hit(i)


def client() -> Any:
    return Chancy(adapter.URL, log=quiet, min_connection_pool_size=2, max_connection_pool_size=10)


class Chancies:
    """chancy."""

    def queue(self) -> Any:
        executor = Chancy.Executor.Async
        concurrency = int(self.options.setting)
        return Queue("default", executor=executor, concurrency=concurrency, polling_interval=1, eager_polling=True)

    async def setup(self) -> None:
        async with client() as chancy:
            await chancy.migrate()
            await chancy.declare(self.queue(), upsert=True)

    async def open(self) -> None:
        self.chancy = await client().__aenter__()
        # Workers import the function by its module.
        import chancys  # noqa: PLC0415  itself, under the name that it has there

        self.pattern = Job.from_func(chancys.noop)

    async def close(self) -> None:
        await self.chancy.__aexit__(None, None, None)

    async def one(self, number: int) -> None:
        await self.chancy.push(self.pattern.with_kwargs(i=number))

    async def bulk(self, numbers: range) -> None:
        jobs = [self.pattern.with_kwargs(i=number) for number in numbers]
        async for _ in self.chancy.push_many(jobs, batch_size=1_000):
            pass

    async def worker(self) -> None:
        async with client() as chancy:
            await chancy.declare(self.queue(), upsert=True)
            worker = Worker(chancy)
            worker.send_outgoing_interval = 0.1  # to be set before the start; by default 1 s
            async with worker:
                await worker.wait_for_shutdown()


if __name__ == "__main__":
    adapter.main(Chancies)
