"""The store of the peers that need Redis: a server of its own, and the little of its protocol that is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

URL_VARIABLE = "BENCH_REDIS_URL"


def program() -> str | None:
    """Return the path of Debian's server, None if it is not installed."""
    return shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")


def redis_url() -> str:
    return os.environ[URL_VARIABLE]


@contextlib.contextmanager
def running_redis() -> Iterator[None]:
    """Start a server on a free port of this machine, if there is one, and name it in the environment."""
    path = program()
    if path is None:
        yield
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="procrastinate-bench-redis-") as folder:
        command = [path, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--appendonly", "no"]
        with Path(folder, "log").open("w") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        os.environ[URL_VARIABLE] = f"redis://127.0.0.1:{port}/0"
        try:
            _wait(port)
            yield
        finally:
            server.terminate()
            server.wait(10)
            del os.environ[URL_VARIABLE]


def _wait(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


class RedisStore:
    """What a peer keeps there."""

    def __init__(self, peer: str, url: str) -> None:
        self.peer, self.url = peer, url

    def flush(self) -> None:
        self._ask("FLUSHALL")

    def unfinished(self, jobs: int, *, keep: bool) -> int:
        """Return how many jobs have not ended, as the keys of each peer show it."""
        if self.peer == "celery":
            waiting = self._ask("LLEN", "celery") + self._ask("HLEN", "unacked")
            return waiting + (jobs - self._ask("DBSIZE", database=1) if keep else 0)
        if self.peer == "dramatiq":
            return self._ask("HLEN", "dramatiq:default.msgs")
        group = self._ask("XINFO", "GROUPS", "taskiq")[0]
        facts = dict(zip(group[::2], group[1::2], strict=True))
        return facts["pending"] + (facts.get("lag") or 0)

    def _ask(self, *words: str, database: int = 0) -> Any:
        address = urlsplit(self.url)
        with socket.create_connection((address.hostname, address.port)) as client, client.makefile("rb") as answers:
            client.sendall(_command("SELECT", str(database)) + _command(*words))
            _read(answers)
            return _read(answers)


def _command(*words: str) -> bytes:
    parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()


def _read(answers: Any) -> Any:
    line = answers.readline().rstrip().decode()
    kind, rest = line[:1], line[1:]
    if kind == "-":
        raise RuntimeError(f"Redis: {rest}")
    if kind == ":":
        return int(rest)
    if kind == "$":
        return None if rest == "-1" else answers.read(int(rest) + 2)[:-2].decode()
    if kind == "*":
        return [_read(answers) for _ in range(int(rest))]
    return rest
