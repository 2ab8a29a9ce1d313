"""The queues that are measured: ours, and others, each in an environment of its own and only ever used from outside.

An adapter is a program that does the same few things with one queue: set up, defer, run a worker. See `adapter.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.processes import Program
from bench.stand import CACHE, ROOT, Database, Stand, insert_jobs, with_root
from bench.tally import SWITCH_VARIABLE, Tally

ADAPTERS = Path(__file__).parent / "adapters"
NODE = "node@22.23.3"
PSYCOPG = ("psycopg[binary,pool]==3.3.9", "psycopg-pool==3.3.3")
REDIS = ("redis==8.1.0", "hiredis==3.5.0")


class Unavailable(Exception):  # noqa: N818  a reason, not an error: the report says it
    """A contender cannot be measured here."""


@attrs.frozen
class Contender:
    """A queue, and how to reach its adapter.

    Attributes:
        name: in reports.
        adapter: the adapter's file.
        unfinished: SQL that counts the jobs that have not ended; None if the store is Redis.
        setting: the concurrency or batch at which it was fastest; what the number means, its adapter says.
        latency_setting: the same for single jobs.
        jobs: how many jobs make a drain of some seconds.
        packages: what to install, pinned; none if it is ours.
        is_node: installed by npm, not by pip.
        variant: passed on to the adapter.
        keeps: whether ended jobs can be kept, and whether they can be deleted at once.
        switch: what is switched off or on in our worker; see `adapters/switches.py`.
    """

    name: str
    adapter: str
    unfinished: str | None
    setting: str
    jobs: int
    packages: tuple[str, ...] = ()
    is_node: bool = False
    variant: str = ""
    latency_setting: str = "10"
    keeps: tuple[bool, ...] = (True, False)
    switch: str = ""

    @property
    def is_ours(self) -> bool:
        return not self.packages

    @property
    def folder(self) -> Path:
        return CACHE / "peers" / self.name

    @property
    def version(self) -> str:
        return self.packages[0] if self.packages else "this one"

    def command(self, operation: str, **options: Any) -> list[str | Path]:
        if self.is_ours:
            program: Path | str = sys.executable
        else:
            program = self.folder / ("node_modules/.bin/node" if self.is_node else "bin/python")
        arguments = {"variant": self.variant, **options}
        given = [(f"--{name}", str(value)) for name, value in arguments.items() if value != ""]
        return [program, ADAPTERS / self.adapter, operation, *(word for pair in given for word in pair)]

    def environment(self, url: str, tally: Tally | None = None) -> dict[str, str]:
        """Return what the adapter's process needs to know."""
        return {
            "BENCH_DATABASE_URL": url,
            "BENCH_PEER_FOLDER": str(self.folder),
            SWITCH_VARIABLE: self.switch,
            # Theirs without a path to our sources.
            **(with_root() if self.is_ours else {"PYTHONPATH": str(ROOT)}),
            **(tally.environment() if tally else {}),
        }

    def call(self, stand: Stand, url: str, operation: str, timeout: float = 300.0, **options: Any) -> dict[str, Any]:
        """Have the adapter do something, and return what it says about it."""
        program = Program(
            self.command(operation, **options),
            self.environment(url),
            stand.logs / f"{self.name}.log",
            cwd=stand.shared,
            stdout=subprocess.PIPE,
        )
        try:
            output, _ = program.process.communicate(timeout=timeout)
        finally:
            program.stop()
        if program.process.returncode:
            raise RuntimeError(f"{self.name}: {operation} failed\n{program.tail()}")
        lines = output.decode().splitlines()
        return json.loads(lines[-1]) if lines else {}

    def worker(self, stand: Stand, url: str, tally: Tally, *, setting: str, keep: bool) -> Program:
        """Start a worker."""
        return Program(
            self.command("worker", setting=setting, keep=int(keep)),
            self.environment(url, tally),
            stand.logs / f"{self.name}.log",
            cwd=stand.shared,
        )

    def fill(self, stand: Stand, database: Database, jobs: int, *, keep: bool, task: str) -> None:
        """Defer the jobs that a drain runs."""
        if self.is_ours:
            insert_jobs(database, jobs, task=task)
        else:
            self.call(stand, database.url, "bulk", jobs=jobs, keep=int(keep), task=task)

    def install(self) -> None:
        """Install the packages, unless they are there. Raises Unavailable if that does not work."""
        mark = self.folder / "installed.json"
        wanted = [*self.packages, *([NODE] if self.is_node else [])]
        if not wanted or (mark.exists() and json.loads(mark.read_text()) == wanted):
            return
        print(f"Installing {', '.join(wanted)} …", file=sys.stderr, flush=True)
        if self.is_node:
            if shutil.which("npm") is None:
                raise Unavailable("npm is not installed")
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "package.json").write_text('{"private": true, "type": "module"}\n')
            _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *wanted], self.folder)
        else:
            if not (self.folder / "bin" / "python").exists():
                venv.create(self.folder, with_pip=True, clear=True)
            _run([self.folder / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted], self.folder)
        mark.write_text(json.dumps(wanted))


def _run(command: Sequence[str | Path], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise Unavailable((result.stderr.strip().splitlines() or ["the installation failed"])[-1][:300])


OURS = Contender(
    "procrastinate",
    "procrastinates.py",
    "select count(*) from procrastinate_jobs where status = 'doing'",
    setting="10",
    jobs=50_000,
)
INCUMBENT = Contender(
    "incumbent",
    "procrastinates.py",
    "select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
    setting="30",
    jobs=2_000,
    packages=("procrastinate==3.10.0", *PSYCOPG),
)
PGQUEUER = Contender(
    "pgqueuer",
    "pgqueuers.py",
    "select count(*) from pgqueuer",
    setting="1000",
    latency_setting="1000",
    jobs=50_000,
    packages=("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
    keeps=(False,),
)
GRAPHILE = Contender(
    "graphile-worker",
    "graphile.mjs",
    "select count(*) from graphile_worker._private_jobs",
    setting="24:1000",
    latency_setting="24:1000",
    jobs=150_000,
    packages=("graphile-worker@0.18.0",),
    is_node=True,
    keeps=(False,),
)
PGBOSS = Contender(
    "pg-boss",
    "pgboss.mjs",
    "select count(*) from pgboss.job where state < 'completed' and name = 'job'",
    setting="4:1000",
    latency_setting="1:10",
    jobs=100_000,
    packages=("pg-boss@12.38.0",),
    is_node=True,
    keeps=(True,),
)
CHANCY = Contender(
    "chancy",
    "chancys.py",
    "select count(*) from chancy_jobs where state not in ('succeeded', 'failed')",
    setting="1000",
    latency_setting="1000",
    jobs=15_000,
    packages=("chancy==0.26.0", *PSYCOPG),
    keeps=(True,),
)
SAQ = Contender(
    "saq",
    "saqs.py",
    "select count(*) from saq_jobs where status in ('new', 'queued', 'active')",
    setting="100",
    latency_setting="100",
    jobs=2_500,
    packages=("saq[postgres,redis,hiredis]==0.26.4", *PSYCOPG, "redis==7.4.1", "hiredis==3.5.0"),
)
PEERS: Mapping[str, Contender] = {peer.name: peer for peer in (INCUMBENT, PGQUEUER, GRAPHILE, PGBOSS, CHANCY, SAQ)}
"""On PostgreSQL."""

ON_REDIS: Mapping[str, Contender] = {
    peer.name: peer
    for peer in (
        Contender(
            "celery",
            "celeries.py",
            None,
            "prefork:1",
            4_000,
            ("celery[redis]==5.7.0", "kombu==5.7.0", *REDIS),
            latency_setting="prefork:1",
        ),
        Contender(
            "taskiq",
            "taskiqs.py",
            None,
            "10",
            10_000,
            ("taskiq==0.13.0", "taskiq-redis==1.2.4", "uvloop==0.23.0", *REDIS),
        ),
        Contender(
            "dramatiq",
            "dramatiqs.py",
            None,
            "100",
            12_000,
            ("dramatiq[redis]==2.2.1", *REDIS),
            latency_setting="100",
            keeps=(False,),
        ),
    )
}
"""On Redis, which loses what it has not yet written when it crashes: compare with that in mind."""


def available(
    names: Sequence[str], report_missing: Callable[[str, str], None], *, has_redis: bool
) -> dict[str, Contender]:
    """Install these peers; tell which ones cannot be had, and why."""
    found: dict[str, Contender] = {}
    for name in names:
        peer = PEERS.get(name) or ON_REDIS[name]
        if peer.unfinished is None and not has_redis:
            report_missing(name, "redis-server is not installed (on Debian: apt install redis-server)")
            continue
        try:
            peer.install()
            found[name] = peer
        except (Unavailable, OSError, subprocess.SubprocessError) as reason:
            report_missing(name, str(reason))
    return found
