"""`python -m faults.one_shots COUNT`: workers with wait=False, one after the other; each must run its job and end."""

from __future__ import annotations

import asyncio
import sys

from faults.fault_app import app, work


async def main(count: int) -> None:
    """Run so many workers."""
    async with app.open_async():
        for _ in range(count):
            await work.defer_async()
            async with asyncio.timeout(20):
                await app.run_worker_async(wait=False, install_signal_handlers=False)


asyncio.run(main(int(sys.argv[1])))
