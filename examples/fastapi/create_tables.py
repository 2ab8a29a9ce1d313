"""Creates the tables that are missing: `python -m examples.fastapi.create_tables`. In earnest, migrations would."""

from __future__ import annotations

import asyncio

from examples.fastapi.shop import Base, engine, jobs


async def main() -> None:
    """Create the tables of the shop and of procrastinate."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with jobs.open_async():
        await jobs.schema_manager.upgrade_async()
    await engine.dispose()


asyncio.run(main())
