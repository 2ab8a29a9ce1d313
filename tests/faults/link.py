"""One connection through the fault proxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

# What a statement of each phase contains. A test compares them with the statements themselves.
PHASES = {
    "claim": "set status = 'doing'",
    "finish": "v.status::procrastinate_job_status",
    "heartbeat": "set last_heartbeat = now()",
    "register": "insert into procrastinate_workers (name, queues)",
    "unregister": "delete from procrastinate_workers",
    "listen": "listen ",
}
# Connections are called after the first of these that they send; the rest belong to the pool.
KINDS = ("listen", "heartbeat")

TO_SERVER, TO_CLIENT = "to server", "to client"


class Link:
    """One connection of a client, and ours to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        """Start as a connection of the pool that has sent nothing."""
        self.kind = "pool"
        self.statement = ""
        self._prepared: dict[bytes, str] = {}
        self._writers = {TO_CLIENT: client, TO_SERVER: server}

    def observe(self, message: bytes) -> None:
        """Note what the client sends: `Query`, `Parse`, or `Bind` of a statement parsed before."""
        if message[:1] == b"Q":
            self._sends(message[5:-1].decode("utf-8", "replace"))
        elif message[:1] == b"P":
            name, text, *_ = message[5:].split(b"\0", 2)
            self._prepared[name] = text.decode("utf-8", "replace")
            self._sends(self._prepared[name])
        elif message[:1] == b"B":
            _, name, *_ = message[5:].split(b"\0", 2)
            self._sends(self._prepared.get(name, ""))

    def _sends(self, statement: str) -> None:
        self.statement = statement
        for kind in KINDS:
            if self.kind == "pool" and self.is_in(kind):
                self.kind = kind

    def is_in(self, phase: str) -> bool:
        """Tell whether the statement that was sent last is that of a phase."""
        return PHASES[phase] in self.statement.lower()

    def send(self, direction: str, data: bytes) -> None:
        """Pass bytes on."""
        if data and not self._writers[direction].is_closing():
            self._writers[direction].write(data)

    async def drain(self, direction: str) -> None:
        """Wait until the other side has room."""
        await self._writers[direction].drain()

    def cut(self, *, reset: bool = False) -> None:
        """End both sides; after `reset` without a goodbye."""
        for writer in self._writers.values():
            if reset:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            else:
                writer.close()
