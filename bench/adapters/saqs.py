"""saq on PostgreSQL. `setting` is the concurrency; kept is a `ttl` of 600 s, its default."""

from __future__ import annotations

from saq import Queue, Worker

from bench import adapter
from bench.tally import hit


async def noop(context, *, i):
    hit(i)


def queue():
    return Queue.from_url(adapter.URL, min_size=4, max_size=20)


class Saq:
    async def setup(self):
        empty = queue()
        await empty.connect()
        await empty.disconnect()

    async def open(self):
        self.queue = queue()
        await self.queue.connect()

    async def close(self):
        await self.queue.disconnect()

    async def one(self, number):
        await self.queue.enqueue("noop", i=number, ttl=600 if self.options.keep else -1)

    async def bulk(self, numbers):
        await adapter.in_flight(self.one, numbers, 20)

    async def worker(self):
        served = queue()
        await served.connect()
        await Worker(served, [noop], concurrency=int(self.options.setting)).start()
        await served.disconnect()


if __name__ == "__main__":
    adapter.main(Saq)
