"""A TCP proxy in front of PostgreSQL that knows its message framing, and breaks connections in every way we know.

Faults are rules that can be added and removed while connections are open. Each names the connections that it is for, by
what they were seen to do, and, if it is to strike at one moment only, the statement that it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from faults.link import TO_CLIENT, TO_SERVER, Link
from faults.wire_faults import Fault, Hang, Refuse

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102


class FaultProxy:
    """Listens on a port of 127.0.0.1 while the `with` block lasts, on a thread of its own."""

    def __init__(self, conninfo: str) -> None:
        """Stand before the server of `conninfo`."""
        self.server_conninfo = conninfo
        self._faults: list[Fault] = []
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self.port = 0
        self.accepted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def conninfo(self) -> str:
        """Return how to connect through the proxy."""
        return make_conninfo(self.server_conninfo, host="127.0.0.1", port=self.port)

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of the connections that are open."""
        return sorted(link.kind for link in self._links)

    def add(self, fault: Fault) -> Fault:
        """Put a rule in force, for open connections and for new ones."""
        self._loop.call_soon_threadsafe(self._faults.append, fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take a rule out of force; what it held goes on."""

        def remove() -> None:
            with contextlib.suppress(ValueError):
                self._faults.remove(fault)
            fault.gone.set()

        self._loop.call_soon_threadsafe(remove)

    @contextlib.contextmanager
    def having(self, fault: Fault) -> Iterator[Fault]:
        """Have a rule in force for a while."""
        self.add(fault)
        try:
            yield fault
        finally:
            self.remove(fault)

    def cut(self, *, reset: bool = False, only: Callable[[Link], bool] = lambda _: True) -> None:
        """End the open connections now; new ones are welcome."""

        async def cut() -> None:
            for link in filter(only, list(self._links)):
                link.cut(reset=reset)

        self._call(cut())

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=2**26)

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.cut(reset=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _in_force(self, kind: type[Fault]) -> Fault | None:
        return next((fault for fault in self._faults if isinstance(fault, kind)), None)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Cancelled only at the end of the proxy; the streams would log that as an error.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            try:
                if self._in_force(Refuse):
                    return
                if hang := self._in_force(Hang):
                    await hang.gone.wait()
                    return
                await self._serve(reader, writer)
            finally:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        startup = await self._read(reader, has_type=False)
        while (code := struct.unpack("!i", startup[4:8])[0]) in {_SSL, _GSS}:
            writer.write(b"N")
            startup = await self._read(reader, has_type=False)
        server_reader, server_writer = await self._connect()
        server_writer.write(startup)
        if code == _CANCEL:
            server_writer.close()
            return
        link = Link(writer, server_writer)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(link, reader, TO_SERVER)),
            asyncio.ensure_future(self._pump(link, server_reader, TO_CLIENT)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._links.discard(link)
            server_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        settings = conninfo_to_dict(self.server_conninfo)
        host, port = str(settings["host"]), int(settings.get("port") or 5432)
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}", limit=2**26)
        return await asyncio.open_connection(host, port, limit=2**26)

    async def _pump(self, link: Link, reader: asyncio.StreamReader, direction: str) -> None:
        while True:
            message = await self._read(reader)
            if direction == TO_SERVER:
                link.observe(message)
            for fault in list(self._faults):
                if fault.strikes(link):
                    message = await fault.treat(link, direction, message)
            link.send(direction, message)
            await link.drain(direction)

    async def _read(self, reader: asyncio.StreamReader, *, has_type: bool = True) -> bytes:
        head = await reader.readexactly(5 if has_type else 4)
        (length,) = struct.unpack("!i", head[-4:])
        return head + await reader.readexactly(length - 4)
