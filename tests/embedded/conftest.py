"""Folders that a server's user can reach, and processes that own a server and can be killed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procrastinate.embedded import FAST_SETTINGS, PostgresServer
from procrastinate.exceptions import EmbeddedPostgresError

_PRELUDE = """
import codecs, json, os, sys
import psycopg
from procrastinate.embedded import FAST_SETTINGS, PostgresServer
from procrastinate.exceptions import EmbeddedPostgresError

uid, gid, arguments = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
# Loaded before the rights go: the interpreter itself may live where only root can read.
codecs.lookup("ascii"), codecs.lookup("idna")
if uid != os.geteuid():
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
"""

_OWNER = """
server = PostgresServer(**arguments).start()
print(json.dumps({
    "conninfo": server.conninfo,
    "server_pid": server.pid,
    "watcher_pid": server._membership._watcher.pid,
    "data_dir": str(server.data_dir),
}), flush=True)
sys.stdin.readline()
server.stop()
"""


@dataclasses.dataclass
class Owner:
    """Another process that uses a server."""

    process: subprocess.Popen[str]
    conninfo: str
    server_pid: int
    watcher_pid: int
    data_dir: Path

    def leave(self) -> None:
        self.process.communicate("\n", timeout=30)

    def kill(self, *, with_watcher: bool) -> None:
        if with_watcher:
            os.kill(self.watcher_pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


def script(code: str, arguments: object = None, uid: int | None = None, gid: int | None = None) -> list[str]:
    """The command that runs this code, as another user if asked."""
    identity = [str(os.geteuid() if uid is None else uid), str(os.getegid() if gid is None else gid)]
    return [sys.executable, "-c", _PRELUDE + textwrap.dedent(code), *identity, json.dumps(arguments)]


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def _reachable_folder() -> Path:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="embedded-", dir=memory if os.access(memory, os.W_OK) else None))
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def prepared_cluster(postgres_version: int) -> Iterator[Path]:
    """A stopped cluster, to be copied: that takes a tenth of the time of making one."""
    root = _reachable_folder()
    with PostgresServer(root / "kept", version=postgres_version, settings=FAST_SETTINGS):
        pass
    yield root / "kept"
    shutil.rmtree(root)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can enter, unlike pytest's own, with nothing running in it at the end."""
    root = _reachable_folder()
    yield root
    for mark in root.glob("**/procrastinate.json"):
        with contextlib.suppress(EmbeddedPostgresError):
            PostgresServer(mark.parent).shut_down()
    shutil.rmtree(root)


@pytest.fixture
def kept(folder: Path, prepared_cluster: Path) -> Path:
    """The folder of a kept cluster that has been used and stopped before."""
    subprocess.run(["cp", "-a", prepared_cluster, folder / "kept"], check=True)
    return folder / "kept"


@pytest.fixture
def new_server(kept: Path, postgres_version: int) -> Callable[..., PostgresServer]:
    """Makes servers of the tested version on the cluster `kept`, or with arguments of the test's own."""

    def make(**arguments) -> PostgresServer:
        defaults = {"data_dir": kept, "version": postgres_version, "settings": FAST_SETTINGS}
        return PostgresServer(**{**defaults, **arguments})

    return make


@pytest.fixture
def start_owner(kept: Path, postgres_version: int) -> Iterator[Callable[..., Owner]]:
    """Starts processes that use the same kept cluster."""
    owners: list[Owner] = []

    def start(**arguments) -> Owner:
        defaults = {"data_dir": str(kept), "version": postgres_version, "settings": dict(FAST_SETTINGS)}
        process = subprocess.Popen(
            script(_OWNER, {**defaults, **arguments}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        report = json.loads(process.stdout.readline())
        owners.append(Owner(process, **{**report, "data_dir": Path(report["data_dir"])}))
        return owners[-1]

    yield start
    for owner in owners:
        if owner.process.poll() is None:
            owner.leave()
