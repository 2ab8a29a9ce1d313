"""Periodic tasks: many schedulers, kills, clocks that jump, deploys and downtimes."""

from __future__ import annotations

import time
from pathlib import Path

from faults.judge import Rules
from faults.stage import Process, Stage
from faults.suite import Impossible, scenario

EACH_SECOND = "* * * * * *"


def _ticks(stage: Stage) -> list[int]:
    return [tick for (tick,) in stage.query("select (args->>'timestamp')::int from procrastinate_jobs order by 1")]


def _promise_each_once(stage: Stage, first: int, last: int) -> None:
    ticks = _ticks(stage)
    doubled = sorted({tick for tick in ticks if ticks.count(tick) > 1})
    missing = sorted(set(range(first, last + 1)) - set(ticks))
    stage.promise(not doubled, f"the ticks {doubled} were deferred more than once")
    stage.promise(not missing, f"the ticks {missing} were not deferred")


def _run_what_is_left(stage: Stage) -> None:
    """Run the last ticks, with a worker that knows their task and adds none."""
    stage.worker(concurrency=20, max_rescues=1_000, environment={"FAULTS_CRON": "0 0 1 1 *"})
    stage.settle()


@scenario("10 schedulers, 60 ticks, the workers killed and replaced one after the other", trials=1, in_short=False)
def many_schedulers(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True)
    cron = {"FAULTS_CRON": EACH_SECOND}
    crew = [stage.worker(environment=cron, max_rescues=1_000, is_up=False) for _ in range(10 if stage.is_long else 4)]
    seconds = 60 if stage.is_long else 8
    stage.until(lambda: _ticks(stage), "the first tick")
    first = max(_ticks(stage)) + 1
    while max(_ticks(stage)) < first + seconds:
        time.sleep(stage.dice.uniform(0.3, 2))
        victim = stage.dice.choice(crew)
        stage.kill(victim)
        crew[crew.index(victim)] = stage.worker(environment=cron, max_rescues=1_000, is_up=False)
    _promise_each_once(stage, first, first + seconds)
    for worker in crew:
        stage.until(lambda worker=worker: "Starting worker" in worker.log, "all are up")
    stage.stop_workers()
    _run_what_is_left(stage)


class Clock:
    """A clock for workers that can be set, by libfaketime; the server keeps the true time."""

    LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1")

    def __init__(self, stage: Stage) -> None:
        library = next(filter(lambda path: Path(path).exists(), self.LIBRARIES), None)
        if library is None:
            raise Impossible("libfaketime is not installed (apt-get install libfaketime)")
        self._file = stage.folder / "faketime"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Jump by so much from the true time, such as "+1d" or "-3600"."""
        self._file.write_text(offset + "\n")


@scenario("The workers' clocks jump: an hour ahead, and back again", trials=1)
def clock_jumps(stage: Stage) -> None:
    clock = Clock(stage)
    worker = stage.worker(environment={**clock.environment, "FAULTS_CRON": EACH_SECOND})
    stage.until(lambda: len(_ticks(stage)) > 3, "ticks")
    clock.set("+3600")
    stage.recovers(lambda: max(_ticks(stage)) > time.time() + 3500, "ticks of the new hour", 30)
    clock.set("+0")
    # Ticks of that hour were deferred; nothing is deferred twice, and no heartbeat is lost.
    time.sleep(5)
    ticks = _ticks(stage)
    stage.promise(len(ticks) == len(set(ticks)), "no tick was deferred twice")
    stage.promise(worker.is_alive, "the worker is alive")
    stage.defer("work")
    stage.until(lambda: not stage.count("task_name = 'work' and status <> 'succeeded'"), "jobs run on")


@scenario("A deploy changes a cron string; then nobody is there for a day", trials=1)
def changed_and_absent(stage: Stage) -> None:
    clock = Clock(stage)

    def worker(cron: str) -> Process:
        return stage.worker(environment={**clock.environment, "FAULTS_CRON": cron})

    before = worker(EACH_SECOND)
    stage.until(lambda: len(_ticks(stage)) > 2, "ticks")
    before.stop()
    changed_at = time.time()
    after = worker("* * * * * */3")
    stage.until(lambda: sum(tick > changed_at for tick in _ticks(stage)) > 1, "ticks of the new schedule")
    after.stop()
    late = [tick for tick in _ticks(stage) if tick > changed_at]
    stage.promise(all(tick % 3 == 0 for tick in late), f"after the deploy, ticks are {late}")
    # A day later: one tick of the past at most, and not a whole day of them.
    count = len(_ticks(stage))
    clock.set("+1d")
    back = worker("0 0 * * *")
    stage.defer("work")
    stage.until(lambda: not stage.count("task_name = 'work' and status <> 'succeeded'"), "the worker works")
    back.stop()
    stage.promise(len(_ticks(stage)) <= count + 1, f"after a day, {len(_ticks(stage)) - count} ticks were made up for")


@scenario("A queueing lock is held over several ticks", trials=1)
def lock_over_ticks(stage: Stage) -> None:
    environment = {"FAULTS_CRON": EACH_SECOND, "FAULTS_QUEUEING_LOCK": "one", "FAULTS_TICK_SECONDS": "2.5"}
    workers = [stage.worker(environment=environment) for _ in range(2)]
    stage.until(lambda: stage.count("status = 'succeeded'") > 7, "ticks run")
    ticks = _ticks(stage)
    stage.promise(len(ticks) < ticks[-1] - ticks[0] + 1, "ticks were left out while one was waiting")
    for worker in workers:
        stage.promise(not worker.count("ERROR"), "that is no error")
    stage.stop_workers()
    _run_what_is_left(stage)
