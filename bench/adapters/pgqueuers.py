"""`setting` is pgqueuer's batch size. Ended jobs always leave the table of jobs, and rows of a log remain."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import asyncpg
from pgqueuer import PgQueuer, Queries
from pgqueuer.db import AsyncpgDriver

from bench import adapter
from bench.tally import hit


class Queue:
    """pgqueuer."""

    loop = "uvloop"  # as its own command, where it is installed

    async def setup(self) -> None:
        connection = await asyncpg.connect(adapter.URL)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def open(self) -> None:
        self.connection = await asyncpg.connect(adapter.URL)
        self.queries = Queries(AsyncpgDriver(self.connection))

    async def close(self) -> None:
        await self.connection.close()

    async def one(self, number: int) -> None:
        await self.queries.enqueue("job", b'{"i":%d}' % number)

    async def bulk(self, numbers: range) -> None:
        for part in adapter.chunks(numbers):
            size = len(part)
            await self.queries.enqueue(["job"] * size, [b'{"i":%d}' % number for number in part], [0] * size)

    async def worker(self) -> None:
        queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(adapter.URL)))

        @queuer.entrypoint("job")
        async def run(job: Any) -> None:
            hit(json.loads(job.payload)["i"])

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, queuer.shutdown.set)
        await queuer.run(batch_size=int(self.options.setting))


if __name__ == "__main__":
    adapter.main(Queue)
