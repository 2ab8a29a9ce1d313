"""Workers that die: `kill -9`, at the worst moments."""

from __future__ import annotations

import time

import psycopg

from faults.judge import Rules
from faults.stage import Stage
from faults.suite import scenario
from faults.wire_faults import SwallowAnswer

DEADLY = Rules(may_rescue=True)
MOST_RESCUES = 1_000
RESCUING = "select count(*) from pg_stat_activity where query like '%%stalled_alone%%' and wait_event_type = 'Lock'"


def _next_worker_works(stage: Stage):
    done = stage.count("status = 'succeeded'")
    worker = stage.worker(concurrency=5, max_rescues=MOST_RESCUES)
    stage.until(lambda: stage.count("status = 'succeeded'") > done or not stage.left, "the new worker works")
    return worker


@scenario("The only worker is killed and replaced 20 times during a drain of 2,000 jobs", in_short=True)
def only_worker_killed(stage: Stage) -> None:
    stage.rules = DEADLY
    total, kills = (2_000, 20) if stage.is_long else (300, 3)
    stage.defer("work", total, seconds=0.01)
    for _ in range(kills):
        worker = _next_worker_works(stage)
        time.sleep(stage.dice.uniform(0, 0.1))
        orphans = stage.kill(worker)
    _next_worker_works(stage)
    stage.rescues(orphans)
    stage.settle()


@scenario("One of four workers is killed and replaced, with locks and full slots", in_short=True)
def one_of_four_killed(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True, is_ordered=True)
    total, kills = (2_000, 10) if stage.is_long else (300, 1)
    tasks = ("work", "work_in_thread")
    for n in range(4):
        stage.defer(tasks[n % 2], total // 4, seconds=0.02, each=lambda n: {"lock": f"L{n % 7}" if n % 2 else None})
    crew = [stage.worker(concurrency=5, max_rescues=MOST_RESCUES, is_up=False) for _ in range(4)]
    for _ in range(kills):
        victim = stage.dice.choice(crew)
        stage.until(lambda victim=victim: stage.runs(victim) or not stage.left, "the victim runs something")
        time.sleep(stage.dice.uniform(0, 0.2))
        stage.rescues(stage.kill(victim))
        crew[crew.index(victim)] = stage.worker(concurrency=5, max_rescues=MOST_RESCUES)
    stage.settle()


@scenario("Whoever rescues is killed in the middle of it", in_short=False)
def rescuer_killed(stage: Stage) -> None:
    stage.rules = DEADLY
    stage.defer("work", 50, seconds=30)
    victim = stage.worker(concurrency=50)
    stage.all_run(victim, 50)
    orphans = stage.kill(victim)
    stage.query("update procrastinate_jobs set args = '{}'")
    # A table lock stops each rescuer in the middle of its statement; it is killed there.
    for _ in range(5):
        with psycopg.connect(stage.conninfo) as blocker:
            blocker.execute("lock table procrastinate_jobs in exclusive mode")
            rescuer = stage.worker(max_rescues=MOST_RESCUES)
            stage.until(lambda: stage.query(RESCUING)[0][0], "somebody is rescuing")
            rescuer.kill()
    stage.worker(concurrency=5, max_rescues=MOST_RESCUES)
    stage.rescues(orphans)
    stage.settle()


@scenario("A worker is killed while its outcomes are being recorded", trials=10, in_short=False)
def killed_during_finish(stage: Stage) -> None:
    stage.rules = DEADLY
    proxy = stage.proxy()
    stage.defer("work", 200, each=lambda n: {"lock": f"L{n % 20}" if n % 2 else None})
    fault = proxy.add(SwallowAnswer(at="finish", times=1))
    victim = stage.worker(proxy.conninfo, concurrency=10)
    # The server has committed, and the worker does not know.
    stage.until(lambda: fault.struck, "outcomes were sent")
    orphans = stage.kill(victim)
    stage.worker(concurrency=10)
    stage.rescues(orphans)
    stage.settle()


@scenario("A task kills its process each time: it ends failed after the limit")
def deadly_task(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True, statuses=frozenset({"succeeded", "failed"}))
    (deadly,) = stage.defer("die")
    stage.defer("work", 50)
    deaths = 0
    limit = 3 if stage.is_long else 1
    while stage.left:
        worker = stage.worker(max_rescues=limit)
        stage.until(lambda worker=worker: not worker.is_alive or not stage.left, "the worker dies or is done")
        deaths += not worker.is_alive
    stage.promise(deaths == limit + 1, f"the deadly task killed {deaths} workers")
    rows = stage.query("select status::text, rescues from procrastinate_jobs where id = %s", deadly)
    stage.promise(rows == [("failed", limit + 1)], f"the deadly job is {rows}")
    stage.promise(stage.statuses() == {"failed": 1, "succeeded": 50}, f"the jobs are {stage.statuses()}")
