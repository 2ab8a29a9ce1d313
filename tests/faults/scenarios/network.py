"""The network between the worker and PostgreSQL, through the fault proxy: each fault, in each phase of a worker."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from faults import wire_faults
from faults.judge import Rules
from faults.link import TO_CLIENT
from faults.proxy import FaultProxy
from faults.stage import Process, Stage
from faults.suite import scenario
from procrastinate.cli.groups import WATCHDOG_EXIT_CODE

# A worker here gives up on a statement after a tenth of this, and on the database after all of it.
DATABASE_TIMEOUT = 20.0
# For a deadline, the driver's own attempts to cancel, and the pauses in between.
RECOVERY = 45.0
# LISTEN notices silence only after half a minute, and its connection is checked after that.
LISTEN_RECOVERY = 90.0
# The worker's steps at its end have ten seconds each.
END = 120.0
BEATS = "select max(last_heartbeat) > %s from procrastinate_workers"
PHASES = ("claim", "finish", "heartbeat", "listen")


def _worker(stage: Stage, proxy: FaultProxy, **options: object) -> Process:
    return stage.worker(
        proxy.conninfo,
        pool={"timeout": 5, "max_size": 4},
        **{"database_timeout": DATABASE_TIMEOUT, "concurrency": 4, **options},
    )


def _runs(stage: Stage, count: int, seconds: float, *, is_recovery: bool = True, **args: object) -> None:
    ids = stage.defer("work", count, each=lambda n: {"lock": f"L{n % 3}" if n % 2 else None}, **args)
    wait = stage.recovers if is_recovery else stage.until
    query = f"id between {min(ids)} and {max(ids)} and status <> 'succeeded'"
    wait(lambda: not stage.count(query), "jobs run (again)", seconds)


def _seconds_to_run_one(stage: Stage) -> float:
    start = time.monotonic()
    _runs(stage, 1, LISTEN_RECOVERY)
    return time.monotonic() - start


def _in_each_phase(
    stage: Stage, make_fault: Callable[[str], wire_faults.Fault], phases: tuple[str, ...] = PHASES
) -> None:
    """Have a fault strike one connection, for good, in each phase in turn; the worker must go on by itself."""
    for phase in phases:
        with FaultProxy(stage.conninfo) as proxy:
            worker = _worker(stage, proxy)
            _runs(stage, 20, RECOVERY, is_recovery=False)
            fault = proxy.add(make_fault(phase))
            if phase == "listen":
                # Nothing but a new subscription sends LISTEN.
                proxy.cut(only=lambda link: link.kind == "listen")
            _runs(stage, 20, LISTEN_RECOVERY if phase == "listen" else RECOVERY)
            stage.until(lambda fault=fault: fault.struck, f"the fault strikes at {phase}")
            if phase == "heartbeat":
                # The statement after the one that was struck comes through.
                beat = stage.query("select clock_timestamp()")[0][0]
                stage.recovers(lambda beat=beat: stage.query(BEATS, beat)[0][0], "the heart beats again", RECOVERY)
            _runs(stage, 20, RECOVERY, is_recovery=False)
            stage.until(lambda: not stage.left, "nothing is left over")
            stage.promise(worker.is_alive, f"the worker is alive after a fault at {phase}")
            worker.stop(END)


@scenario("Network: a connection is reset (RST) at the claim, the outcome, the heartbeat, LISTEN", in_short=True)
def reset_in_each_phase(stage: Stage) -> None:
    _in_each_phase(stage, lambda phase: wire_faults.Reset(at=phase, times=1))


@scenario("Network: the server commits, the answer is lost (claim, outcome, heartbeat)", in_short=True)
def ambiguous_commits(stage: Stage) -> None:
    _in_each_phase(stage, lambda phase: wire_faults.SwallowAnswer(at=phase, times=1), PHASES[:3])


@scenario("Network: half-open, a statement never arrives (claim, outcome, heartbeat)", in_short=True)
def half_open_in_each_phase(stage: Stage) -> None:
    phases = PHASES[:3] if stage.is_long else PHASES[:1]
    _in_each_phase(stage, lambda phase: wire_faults.Freeze(at=phase, times=1), phases)


@scenario("Network: half-open, an answer never arrives (claim, outcome, heartbeat)")
def silent_in_each_phase(stage: Stage) -> None:
    _in_each_phase(stage, lambda phase: wire_faults.Freeze(at=phase, times=1, directions=(TO_CLIENT,)), PHASES[:3])


@scenario("Network: a claim arrives late, after the worker has given it up")
def late_claim(stage: Stage) -> None:
    proxy = stage.proxy()
    worker = _worker(stage, proxy)
    _runs(stage, 5, RECOVERY, is_recovery=False)
    fault = proxy.add(wire_faults.Freeze(at="claim", times=1))
    stage.defer("work", 12, seconds=3)
    # The worker has claimed again, and has no room for more.
    stage.until(lambda: len(stage.runs(worker)) == 4, "the worker goes on", RECOVERY)
    proxy.remove(fault)
    stage.until(lambda: worker.count("claimed without an answer"), "the lost claims are found", RECOVERY)
    stage.recovers(lambda: not stage.left, "they run", RECOVERY)


@scenario("Network: the connection that listens goes half-open", trials=1)
def half_open_listener(stage: Stage) -> None:
    proxy = stage.proxy()
    _worker(stage, proxy, fetch_job_polling_interval=600)
    _runs(stage, 5, RECOVERY, is_recovery=False)
    proxy.add(wire_faults.Freeze(kinds=("listen",), times=1))
    _runs(stage, 5, LISTEN_RECOVERY)
    # The looks that echo earlier notifications find the first ones; then one has to wait until the loss is noticed.
    any(_seconds_to_run_one(stage) > 5 for _ in range(10))
    stage.promise(_seconds_to_run_one(stage) < 5, "jobs are heard of at once again")


@scenario("Network: connections are cut in the middle of a message, at random", in_short=True)
def cut_in_the_middle(stage: Stage) -> None:
    proxy = stage.proxy()
    worker = _worker(stage, proxy)
    stage.defer("work", 1_000 if stage.is_long else 200, seconds=0.01, padding="x" * 500)
    for _ in range(40 if stage.is_long else 5):
        with proxy.having(wire_faults.CutAfterBytes(count=stage.dice.randrange(1, 20_000), times=2)):
            time.sleep(stage.dice.uniform(0.1, 0.6))
    stage.recovers(lambda: not stage.left, "all jobs end", RECOVERY)
    stage.promise(worker.is_alive, "the worker is alive")


@scenario("Network: all connections freeze for 8 s and go on")
def everything_freezes(stage: Stage) -> None:
    proxy = stage.proxy()
    workers = [_worker(stage, proxy) for _ in range(2)]
    stage.defer("work", 100, seconds=0.1)
    stage.defer("work", 4, seconds=10)
    stage.until(lambda: all(map(stage.runs, workers)), "both work")
    with proxy.having(wire_faults.Freeze()):
        time.sleep(8 if stage.is_long else 5)
    _runs(stage, 5, RECOVERY)
    stage.settle()
    stage.promise(all(worker.is_alive for worker in workers), "the workers are alive")
    for worker in workers:
        stage.promise(worker.count("The heartbeat fails") <= 1, "the heartbeat says once that it fails")


@scenario("Network: 50 ms of latency with 50 ms of jitter, 100 kB/s, no notifications", in_short=False)
def slow_network(stage: Stage) -> None:
    proxy = stage.proxy()
    proxy.add(wire_faults.Latency(seconds=0.05, jitter=0.05))
    proxy.add(wire_faults.Throttle(bytes_per_second=100_000))
    proxy.add(wire_faults.DropNotifications())
    _worker(stage, proxy)
    _runs(stage, 200, 120, padding="x" * 200)


@scenario("Network: half-open, refusing or hanging for good: the watchdog ends the worker, exit code 75")
def watchdog(stage: Stage) -> None:
    faults = [[wire_faults.Freeze()]]
    if stage.is_long:
        faults += [[wire_faults.Reset(), wire_faults.Refuse()], [wire_faults.Reset(), wire_faults.Hang()]]
    for group in faults:
        with FaultProxy(stage.conninfo) as proxy:
            worker = _worker(stage, proxy, database_timeout=5)
            _runs(stage, 5, RECOVERY, is_recovery=False)
            for fault in group:
                proxy.add(fault)
            code = worker.wait(END)
            stage.promise(code == WATCHDOG_EXIT_CODE, f"the watchdog's exit code is {WATCHDOG_EXIT_CODE}, not {code}")
            stage.promise(worker.count("could not be reached") >= 1, "the log says why")


@scenario("Network: SIGTERM while everything is half-open, with and without a running job", trials=2)
def stopped_while_half_open(stage: Stage) -> None:
    for has_job in (False, True):
        with FaultProxy(stage.conninfo) as proxy:
            worker = _worker(stage, proxy)
            _runs(stage, 5, RECOVERY, is_recovery=False)
            if has_job:
                stage.defer("work", 1, seconds=3)
                stage.until(lambda worker=worker: stage.runs(worker), "a job runs")
            proxy.add(wire_faults.Freeze())
            start = time.monotonic()
            worker.signal(signal.SIGTERM)
            worker.wait(END)
            stage.recoveries.append(time.monotonic() - start)
    # Its outcome was not recorded: it runs again.
    stage.rules = Rules(may_rescue=True)
    stage.worker()
    stage.settle()
