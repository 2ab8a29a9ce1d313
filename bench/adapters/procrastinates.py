"""This implementation, and version 3 of the other one: whichever is installed.

`setting` is the concurrency; `variant` is "sync" for a client that blocks, or the only queue that a worker serves.
"""

from __future__ import annotations

import switches
from procrastinate_tasks import app

from bench import adapter


class Procrastinate:
    """On the event loop."""

    async def setup(self) -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        await app.open_async()
        self.task = app.tasks[self.options.task]

    async def close(self) -> None:
        await app.close_async()

    async def one(self, number: int) -> None:
        await self.task.defer_async(i=number)

    async def bulk(self, numbers: range) -> None:
        for part in adapter.chunks(numbers):
            await self.task.batch_defer_async(*({"i": number} for number in part))

    async def worker(self) -> None:
        switches.apply()
        async with app.open_async():
            await app.run_worker_async(
                queues=[self.options.variant] if self.options.variant else None,
                concurrency=int(self.options.setting),
                delete_jobs="never" if self.options.keep else "successful",
            )


class SyncProcrastinate:
    """A client that blocks."""

    def open(self) -> None:
        app.open()
        self.task = app.tasks[self.options.task]

    def close(self) -> None:
        app.close()

    def one(self, number: int) -> None:
        self.task.defer(i=number)

    def bulk(self, numbers: range) -> None:
        for part in adapter.chunks(numbers):
            self.task.batch_defer(*({"i": number} for number in part))


if __name__ == "__main__":
    adapter.main(SyncProcrastinate if adapter.parse().variant == "sync" else Procrastinate)
