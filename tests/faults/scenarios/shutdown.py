"""Ways to end a worker."""

from __future__ import annotations

import signal
import sys
import time

from faults import wire_faults
from faults.judge import Rules
from faults.stage import QUICK, Stage
from faults.suite import scenario


@scenario("SIGTERM under load: what was claimed ahead goes back without spending an attempt", trials=10, in_short=True)
def sigterm_under_load(stage: Stage) -> None:
    stage.defer("work", 3_000, each=lambda n: {"lock": f"L{n}" if n % 3 == 0 else None})
    stage.defer("work_in_thread", 50, seconds=0.2)
    worker = stage.worker(concurrency=5, is_up=False)
    stage.until(lambda: stage.count("status = 'succeeded'"), "it works")
    time.sleep(stage.dice.uniform(0, 0.5))
    start = time.monotonic()
    worker.stop()
    stage.recoveries.append(time.monotonic() - start)
    stage.promise(not stage.count("status = 'doing'"), "nothing is left running")
    stage.promise(not stage.count("status = 'todo' and attempts > 0"), "jobs that were given back spent no attempt")
    stage.promise(not stage.count("status = 'todo' and waits_for is not null"), "no line is left asleep")
    stage.worker(concurrency=20)
    stage.settle()
    stage.promise(not stage.count("attempts <> 1 or rescues > 0"), "each job took one attempt")


@scenario("A second SIGTERM ends the process at once; its jobs are rescued")
def second_signal(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True)
    stage.defer("work_in_thread", 3, seconds=5)
    worker = stage.worker(concurrency=3)
    stage.all_run(worker, 3)
    worker.signal(signal.SIGTERM)
    stage.until(lambda: worker.count("Waiting for job to finish"), "it waits")
    worker.signal(signal.SIGTERM)
    stage.promise(worker.wait(5) == -signal.SIGTERM, "the second signal ends the process")
    orphans = stage.runs(worker)
    stage.worker(concurrency=3)
    stage.rescues(orphans)
    stage.settle()


@scenario("A drain longer than the stale threshold: the heart beats on, and abort requests are heeded", in_short=True)
def long_drain(stage: Stage) -> None:
    stage.rules = Rules(statuses=frozenset({"succeeded", "aborted"}))
    seconds = 2 * QUICK["stalled_worker_timeout"]
    stage.defer("work", seconds=seconds)
    stage.defer("work_in_thread", seconds=seconds)
    endless = stage.defer("wait_for_abort") + stage.defer("wait_for_abort_in_thread")
    worker = stage.worker(concurrency=4)
    stage.all_run(worker, 4)
    worker.signal(signal.SIGTERM)
    watcher = stage.worker()
    time.sleep(seconds - 1)
    for job_id in endless:
        stage.app_call(lambda app, job_id=job_id: app.job_manager.cancel_job_by_id_async(job_id, abort=True))
    stage.promise(worker.wait(30) == 0, "the worker ends well")
    stage.promise(not watcher.count("was taken back"), "nobody was taken for dead")
    stage.promise(stage.statuses() == {"succeeded": 2, "aborted": 2}, f"the jobs are {stage.statuses()}")


@scenario("The graceful timeout aborts what still runs, on the loop and in threads that look", in_short=False)
def graceful_timeout(stage: Stage) -> None:
    stage.rules = Rules(statuses=frozenset({"aborted"}))
    stage.defer("wait_for_abort", 2)
    stage.defer("wait_for_abort_in_thread", 2)
    worker = stage.worker(concurrency=4, shutdown_graceful_timeout=0.5)
    stage.all_run(worker, 4)
    start = time.monotonic()
    worker.stop(10)
    stage.recoveries.append(time.monotonic() - start)
    stage.promise(stage.statuses() == {"aborted": 4}, f"the jobs are {stage.statuses()}")


@scenario("1,000 one-shot runs over a link with 12 ms of latency", trials=1, in_short=True)
def one_shots(stage: Stage) -> None:
    proxy = stage.proxy()
    proxy.add(wire_faults.Latency(seconds=0.006, jitter=0.002))
    runs = 1_000 if stage.is_long else 20
    process = stage.start(
        [sys.executable, "-m", "faults.one_shots", str(runs)], {"FAULTS_DSN": proxy.conninfo}, says=None
    )
    stage.promise(process.wait(runs * 3 + 20) == 0, f"every run ends:\n{process.log[-2000:]}")
    stage.promise(stage.statuses() == {"succeeded": runs}, f"the jobs are {stage.statuses()}")


@scenario("A worker's coroutine is cancelled at any moment of its life, once and twice", trials=1, in_short=True)
def cancelled_anywhere(stage: Stage) -> None:
    # The second cancellation aborts what runs.
    stage.rules = Rules(may_rescue=True, statuses=frozenset({"succeeded", "aborted"}))
    runs = 400 if stage.is_long else 25
    process = stage.start(
        [sys.executable, "-m", "faults.cancellations", str(runs)], {"FAULTS_DSN": stage.conninfo}, says=None
    )
    stage.promise(process.wait(runs * 3 + 20) == 0, f"every run ends:\n{process.log[-3000:]}")
    stage.promise(not stage.count("status = 'doing'"), "nothing is left running")
    stage.promise(stage.query("select count(*)::int from procrastinate_workers") == [(0,)], "nobody is left registered")
    stage.worker(concurrency=20)
    stage.settle()
