"""Workers that are alive and do not look it, and the reverse."""

from __future__ import annotations

import signal
import time

from faults.judge import Rules
from faults.stage import QUICK, RECOVERY, Stage
from faults.suite import scenario

THREE_THRESHOLDS = 3 * QUICK["stalled_worker_timeout"]


@scenario("A task computes on the event loop, another in a thread, for three stale thresholds")
def computing(stage: Stage) -> None:
    stage.defer("block_the_loop", seconds=THREE_THRESHOLDS)
    stage.defer("compute_in_thread", seconds=THREE_THRESHOLDS)
    for _ in range(2):
        worker = stage.worker(is_up=False)
        stage.until(lambda worker=worker: stage.runs(worker), "it computes")
    watcher = stage.worker()
    stage.defer("work", 20)
    stage.settle()
    stage.promise(not watcher.count("was taken back"), "nobody was taken for dead")


@scenario("A C call holds the interpreter's lock, for half a threshold: nobody is taken for dead")
def gil_held_briefly(stage: Stage) -> None:
    stage.defer("hold_the_gil", 5, seconds=QUICK["stalled_worker_timeout"] / 2)
    stage.worker()
    stage.worker()
    stage.settle()


def _frozen(stage: Stage, zombie, count: int) -> None:
    rescuer = stage.worker(concurrency=10)
    stage.recovers(lambda: stage.count("claims = 2") >= count, "the frozen worker's jobs run elsewhere", RECOVERY)
    stage.rules = Rules(may_rescue=True, frozen=frozenset({zombie.pid}))
    stage.promise(rescuer.count("was taken back") == count, "each rescue is logged")


@scenario("A C call holds the interpreter's lock for three thresholds: its job is rescued, its outcome refused")
def gil_held(stage: Stage) -> None:
    stage.defer("hold_the_gil", seconds=THREE_THRESHOLDS)
    zombie = stage.worker(is_up=False)
    stage.until(lambda: stage.count("status = 'doing'"), "it runs")
    # Whoever runs it next does not hold the lock.
    stage.query("update procrastinate_jobs set args = '{\"seconds\": 0}'")
    _frozen(stage, zombie, 1)
    stage.until(lambda: zombie.count("was not recorded"), "the worker says that its outcome was refused", 30)
    stage.until(lambda: zombie.count("was taken for dead"), "the worker says that it was taken for dead", 30)
    stage.settle()


@scenario("A worker is stopped (SIGSTOP) for twice the threshold with 10 jobs, and goes on")
def frozen_process(stage: Stage) -> None:
    count = 10
    stage.defer("work", count, seconds=2, each=lambda n: {"lock": f"L{n}" if n % 2 else None})
    zombie = stage.worker(concurrency=count)
    stage.all_run(zombie, count)
    zombie.signal(signal.SIGSTOP)
    _frozen(stage, zombie, count)
    zombie.signal(signal.SIGCONT)
    stage.until(lambda: zombie.count("was taken for dead"), "the worker says that it was taken for dead", 30)
    stage.until(lambda: zombie.count("was not recorded") == count, "each refused outcome is logged", 30)
    # It is a worker like any other again.
    stage.settle()
    for process in stage.processes:
        if process is not zombie:
            process.stop()
    ids = stage.defer("work", 5)
    stage.until(lambda: not stage.left, f"jobs {ids} run on the worker that came back")


@scenario("The whole process group is stopped for a while: jobs run once more at most, locks hold", trials=2)
def all_frozen(stage: Stage) -> None:
    workers = [stage.worker(concurrency=4) for _ in range(3)]
    stage.defer("work", 200, seconds=0.1, each=lambda n: {"lock": f"L{n % 5}" if n % 2 else None})
    stage.rules = Rules(may_rescue=True, frozen=frozenset(worker.pid for worker in workers))
    for _ in range(3):
        time.sleep(0.5)
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        time.sleep(QUICK["stalled_worker_timeout"] * 1.5)
        for worker in workers:
            worker.signal(signal.SIGCONT)
    stage.recovers(lambda: not stage.left, "all jobs end", 60)
