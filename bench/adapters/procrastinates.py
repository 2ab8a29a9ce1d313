"""This implementation, and version 3 of the other one: whichever is installed.

`setting` is the concurrency; `variant` is "sync" for a client that blocks, or the only queue that a worker serves.
"""

from __future__ import annotations


from procrastinate_tasks import app

from bench import adapter


class Procrastinate:
    async def setup(self):
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def open(self):
        await app.open_async()
        self.task = app.tasks[self.options.task]

    async def close(self):
        await app.close_async()

    async def one(self, number):
        await self.task.defer_async(i=number)

    async def bulk(self, numbers):
        for part in adapter.chunks(numbers):
            await self.task.batch_defer_async(*({"i": number} for number in part))

    async def worker(self):
        async with app.open_async():
            await app.run_worker_async(
                queues=[self.options.variant] if self.options.variant else None,
                concurrency=int(self.options.setting),
                delete_jobs="never" if self.options.keep else "successful",
            )


class SyncProcrastinate:
    def open(self):
        app.open()
        self.task = app.tasks[self.options.task]

    def close(self):
        app.close()

    def one(self, number):
        self.task.defer(i=number)

    def bulk(self, numbers):
        for part in adapter.chunks(numbers):
            self.task.batch_defer(*({"i": number} for number in part))


if __name__ == "__main__":
    adapter.main(SyncProcrastinate if adapter.parse().variant == "sync" else Procrastinate)
