"""saq on PostgreSQL. `setting` is the concurrency; kept is a `ttl` of 600 s, its default."""

from __future__ import annotations

from typing import Any

from saq import Queue, Worker

from bench import adapter
from bench.tally import hit


async def noop(_context: Any, *, i: int) -> None:
    hit(i)


def queue() -> Any:
    return Queue.from_url(adapter.URL, min_size=4, max_size=20)


class Saq:
    """saq."""

    async def setup(self) -> None:
        empty = queue()
        await empty.connect()
        await empty.disconnect()

    async def open(self) -> None:
        self.queue = queue()
        await self.queue.connect()

    async def close(self) -> None:
        await self.queue.disconnect()

    async def one(self, number: int) -> None:
        await self.queue.enqueue("noop", i=number, ttl=600 if self.options.keep else -1)

    async def bulk(self, numbers: range) -> None:
        await adapter.in_flight(self.one, numbers, 20)

    async def worker(self) -> None:
        served = queue()
        await served.connect()
        await Worker(served, [noop], concurrency=int(self.options.setting)).start()
        await served.disconnect()


if __name__ == "__main__":
    adapter.main(Saq)
