"""What can go wrong with a connection: the rules of the fault proxy."""

from __future__ import annotations

import asyncio
import random
import time

import attrs

from faults.link import TO_CLIENT, TO_SERVER, Link


@attrs.define(kw_only=True, eq=False)
class Fault:
    """A rule; the kinds of faults derive from it.

    Attributes:
        kinds: the kinds of connections that it strikes ("listen", "heartbeat", "pool"); None for all.
        at: the phase whose statement it waits for; None for at once. A connection that was struck stays so.
        times: how many connections it strikes; None for all.
    """

    kinds: tuple[str, ...] | None = None
    at: str | None = None
    times: int | None = None
    struck: set[Link] = attrs.field(factory=set, init=False, repr=False)
    gone: asyncio.Event = attrs.field(factory=asyncio.Event, init=False, repr=False)

    def strikes(self, link: Link) -> bool:
        if link in self.struck:
            return True
        if self.kinds is not None and link.kind not in self.kinds:
            return False
        if self.at is not None and not link.is_in(self.at):
            return False
        if self.times is not None and len(self.struck) >= self.times:
            return False
        self.struck.add(link)
        return True

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        return message


@attrs.define(kw_only=True, eq=False)
class Latency(Fault):
    """Delay each message, by `seconds` and up to `jitter` more. Order is kept."""

    seconds: float
    jitter: float = 0.0
    passed: dict[tuple[Link, str], float] = attrs.field(factory=dict, init=False, repr=False)

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        # What comes together travels together: an answer of many messages is one journey.
        if time.monotonic() - self.passed.get((link, direction), 0) > self.seconds / 10:
            await asyncio.sleep(self.seconds + random.uniform(0, self.jitter))
        self.passed[link, direction] = time.monotonic()
        return message


@attrs.define(kw_only=True, eq=False)
class Throttle(Fault):
    """Let only so many bytes pass each second, in each direction."""

    bytes_per_second: int

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        await asyncio.sleep(len(message) / self.bytes_per_second)
        return message


@attrs.define(kw_only=True, eq=False)
class Freeze(Fault):
    """Half-open: keep the connection, acknowledge what the kernel acknowledges, but pass nothing on.

    `directions` may be one of them only. When the rule is removed, what was held goes on.
    """

    directions: tuple[str, ...] = (TO_SERVER, TO_CLIENT)

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        if direction in self.directions:
            await self.gone.wait()
        return message


@attrs.define(kw_only=True, eq=False)
class Reset(Fault):
    """End connections with RST, on both sides."""

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        link.cut(reset=True)
        return b""


@attrs.define(kw_only=True, eq=False)
class CutAfterBytes(Fault):
    """Pass so many bytes on in one direction, in the middle of a message if it comes to that, and cut."""

    count: int
    direction: str = TO_CLIENT
    passed: dict[Link, int] = attrs.field(factory=dict, init=False, repr=False)

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        if direction != self.direction:
            return message
        passed = self.passed.get(link, 0)
        self.passed[link] = passed + len(message)
        if self.passed[link] < self.count:
            return message
        link.send(direction, message[: self.count - passed])
        link.cut()
        return b""


@attrs.define(kw_only=True, eq=False)
class SwallowAnswer(Fault):
    """The ambiguous commit: the server commits, the client never hears of it, the connection is cut.

    Strikes when the transaction of the statement `at` has ended: at its own answer, or at that to COMMIT.
    """

    held: dict[Link, list[bytes]] = attrs.field(factory=dict, init=False, repr=False)

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        if direction == TO_SERVER:
            return message
        held = self.held.setdefault(link, [])
        held.append(message)
        if message[:1] != b"Z":
            return b""
        if message[5:6] == b"I":  # no longer in a transaction
            link.cut()
            return b""
        del self.held[link]
        return b"".join(held)


@attrs.define(kw_only=True, eq=False)
class Refuse(Fault):
    """End every new connection before it has said anything; open ones go on."""


@attrs.define(kw_only=True, eq=False)
class Hang(Fault):
    """Accept new connections and never answer them; open ones go on."""


@attrs.define(kw_only=True, eq=False)
class DropNotifications(Fault):
    """Lose what NOTIFY sent, and nothing else."""

    async def treat(self, link: Link, direction: str, message: bytes) -> bytes:
        return b"" if direction == TO_CLIENT and message[:1] == b"A" else message
