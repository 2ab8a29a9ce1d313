"""Behind pgbouncer in transaction mode."""

from __future__ import annotations

import pwd
import shutil
import socket
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from faults.judge import Rules
from faults.stage import Process, Stage
from faults.suite import Impossible, scenario


def _bouncer(stage: Stage, pool_size: int = 4) -> tuple[Process, str]:
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        raise Impossible("pgbouncer is not installed (apt-get install pgbouncer)")
    server = conninfo_to_dict(stage.conninfo)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = stage.folder / "bouncer"
    folder.mkdir()
    (folder / "users").write_text('"postgres" ""\n')
    (folder / "bouncer.ini").write_text(
        f"""[databases]
* = host={server["host"]} port={server["port"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
logfile = {folder}/log
"""
    )
    for path in (stage.folder, folder, *folder.iterdir()):
        path.chmod(0o777)
    owner = pwd.getpwuid(Path(str(server["host"])).stat().st_uid).pw_name
    process = stage.start([program, "-u", owner, str(folder / "bouncer.ini")], {})
    conninfo = f"postgresql://postgres@127.0.0.1:{port}/{server['dbname']}"

    def answers() -> bool:
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            return False
        return True

    stage.until(answers, "pgbouncer answers")
    return process, conninfo


UNPREPARED = {"kwargs": {"prepare_threshold": None}, "max_size": 8}


@scenario("Behind pgbouncer in transaction mode: everything but LISTEN works, with kills", trials=2)
def behind_pgbouncer(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True, statuses=frozenset({"succeeded", "aborted"}))
    process, conninfo = _bouncer(stage)
    stage.processes.remove(process)
    try:
        options = {"listen_notify": False, "concurrency": 4, "max_rescues": 100}
        crew = [stage.worker(conninfo, pool=UNPREPARED, **options) for _ in range(3)]
        stage.defer("work", 300, seconds=0.02, each=lambda n: {"lock": f"L{n % 7}" if n % 2 else None})
        stage.defer("fail_first", 20, times=2)
        (endless,) = stage.defer("wait_for_abort", each=lambda n: {"priority": 9})
        stage.until(lambda: stage.count(f"id = {endless} and status = 'doing'"), "it runs")
        for _ in range(2):
            stage.until(lambda: stage.runs(crew[0]) or stage.left == 1, "the victim runs something")
            stage.rescues(stage.kill(crew[0]))
            crew[0] = stage.worker(conninfo, pool=UNPREPARED, **options)
        stage.app_call(lambda app: app.job_manager.cancel_job_by_id_async(endless, abort=True))
        stage.settle()
        stage.stop_workers()
    finally:
        process.popen.kill()
        process.popen.wait()


@scenario("LISTEN through pgbouncer is noticed, and said", trials=1)
def listen_behind_pgbouncer(stage: Stage) -> None:
    process, conninfo = _bouncer(stage)
    stage.processes.remove(process)
    try:
        worker = stage.worker(conninfo, pool=UNPREPARED)
        stage.defer("work", 5)
        stage.settle(20)
        stage.until(lambda: worker.count("pooler"), "the log warns of LISTEN through a pooler", 20)
        stage.stop_workers()
    finally:
        process.popen.kill()
        process.popen.wait()
