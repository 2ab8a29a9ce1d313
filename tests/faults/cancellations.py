"""`python -m faults.cancellations COUNT`: workers that are cancelled at a moment of their life, each at a later one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

from faults.fault_app import app, work

DICE = random.Random(0)


async def main(count: int) -> None:
    """Run so many workers."""
    async with app.open_async():
        for number in range(count):
            await work.batch_defer_async(*[{"seconds": 0.01}] * 5)
            worker = asyncio.create_task(
                app.run_worker_async(install_signal_handlers=False, concurrency=3, shutdown_graceful_timeout=1)
            )
            # Step by step at first, through everything that happens at the start; then anywhere.
            for _ in range(number):
                await asyncio.sleep(0)
            if number % 2:
                await asyncio.sleep(DICE.uniform(0, 0.1))
            worker.cancel()
            if number % 3 == 0:
                await asyncio.sleep(DICE.uniform(0, 0.05))
                worker.cancel()
            async with asyncio.timeout(20):
                with contextlib.suppress(asyncio.CancelledError):
                    await worker


asyncio.run(main(int(sys.argv[1])))
