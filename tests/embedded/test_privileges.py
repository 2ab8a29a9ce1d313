"""As root and as an ordinary user; on disks that refuse."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import psycopg
import pytest

from procrastinate import embedded
from procrastinate.embedded import FAST_SETTINGS, PostgresServer, find_binaries
from procrastinate.exceptions import EmbeddedPostgresError
from tests.embedded.conftest import script

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

REPORT_FAILURE = """
try:
    PostgresServer(**arguments).start().stop()
except EmbeddedPostgresError as error:
    print(error)
"""

REPORT_STATUS_FAILURE = """
try:
    print(PostgresServer(**arguments).is_running)
except EmbeddedPostgresError as error:
    print(error)
"""


def modes(path):
    return [stat.S_IMODE(parent.stat().st_mode) for parent in (path, *path.parents)]


def run_as_user(code, arguments):
    """Run as nobody if we are root, else as ourselves."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    command = script(code, arguments, user.pw_uid, user.pw_gid)
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def own_folder(folder):
    """A folder of the user of `run_as_user`."""
    path = folder / "own"
    path.mkdir(mode=0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def test_ordinary_user(own_folder, postgres_version):
    code = """
    assert os.geteuid() != 0
    for listen in ("socket", "loopback"):
        with PostgresServer(listen=listen, **arguments) as server:
            psycopg.connect(server.conninfo).close()
            assert os.stat(server.data_dir / "pgdata").st_uid == os.geteuid()
    assert not server.is_running
    """
    arguments = {"data_dir": str(own_folder / "kept"), "version": postgres_version, "settings": dict(FAST_SETTINGS)}
    run_as_user(code, arguments)


@needs_root
def test_root_drops_its_rights_and_changes_nothing_outside(folder, postgres_version):
    before, users = modes(folder), Path("/etc/passwd").read_bytes()
    with PostgresServer(version=postgres_version, settings=FAST_SETTINGS, temporary_root=folder) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        psycopg.connect(server.conninfo).close()
        assert modes(folder) == before
        # The folder itself stays root's: the server's user cannot put links where root writes.
        assert server.data_dir.stat().st_uid == 0
    assert modes(folder) == before
    assert Path("/etc/passwd").read_bytes() == users


@needs_root
def test_root_uses_the_cluster_of_a_user_as_that_user(own_folder, postgres_version):
    arguments = {"data_dir": str(own_folder), "version": postgres_version, "settings": dict(FAST_SETTINGS)}
    with PostgresServer(**arguments) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid == own_folder.stat().st_uid
    # Nothing that root left behind keeps the user out.
    run_as_user("with PostgresServer(**arguments) as server: psycopg.connect(server.conninfo).close()", arguments)


@needs_root
def test_unreachable_data_dir_says_what_to_do(folder, postgres_version):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedPostgresError, match=r"cannot enter .*choose a data_dir"):
        PostgresServer(closed / "kept", version=postgres_version).start()
    assert modes(closed)[0] == 0o700


@needs_root
def test_unreachable_binaries_are_copied(folder, postgres_version):
    original = find_binaries(version=postgres_version).folder
    if original.is_relative_to("/usr"):
        pytest.skip("the distribution's PostgreSQL works only where it is installed")
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    embedded._copy_installation(original.parent, closed)
    closed.chmod(0o700)
    bin_dir = closed / original.parent.parent.name / original.parent.name / "bin"
    with PostgresServer(bin_dir=bin_dir, settings=FAST_SETTINGS, temporary_root=folder) as server:
        assert Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(server.data_dir)
        with psycopg.connect(server.conninfo, autocommit=True) as connection:
            # Written in a loadable library, and with a time zone file: everything it needs came along.
            connection.execute("do $$ begin perform now() at time zone 'Europe/Paris'; end $$")
    assert modes(closed)[0] == 0o700


@needs_root
def test_default_folder_of_root_is_not_in_its_closed_home(monkeypatch):
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert embedded.default_data_dir() == Path("/var/lib/procrastinate/postgres")


def test_default_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    assert embedded.default_data_dir() == Path("/somewhere/procrastinate/postgres")


def test_unwritable_folder_says_so(folder, own_folder):
    own_folder.chmod(0o500)
    output = run_as_user(REPORT_FAILURE, {"data_dir": str(own_folder / "kept")})
    assert "Permission denied" in output
    assert "Choose a data_dir" in output
    assert list(own_folder.iterdir()) == []


@needs_root
def test_folder_of_another_user_says_so(folder, postgres_version):
    with PostgresServer(folder / "kept", version=postgres_version, settings=FAST_SETTINGS):
        output = run_as_user(REPORT_FAILURE, {"data_dir": str(folder / "kept")})
        assert "belongs to another user (root)" in output
        output = run_as_user(REPORT_STATUS_FAILURE, {"data_dir": str(folder / "kept")})
        assert "Permission denied" in output


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
@pytest.mark.parametrize(
    ("mount_options", "reason"),
    [("size=12m,mode=755", "No space left on device"), ("ro,mode=755", "Read-only file system")],
)
def test_disk_that_refuses(folder, postgres_version, mount_options, reason):
    disk = folder / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o "$0" none "$1" || exit 77; shift; exec "$@"'
    command = script(REPORT_FAILURE, {"data_dir": str(disk / "kept"), "version": postgres_version})
    in_namespace = ["unshare", "--mount", "/bin/sh", "-c", mount, mount_options, str(disk), *command]
    result = subprocess.run(in_namespace, check=False, capture_output=True, text=True, timeout=50)
    if "unshare" in result.stderr or result.returncode == 77:
        pytest.skip("may not mount")
    assert result.returncode == 0, result.stderr
    assert reason in result.stdout
    assert "data_dir" in result.stdout
