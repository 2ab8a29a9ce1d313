"""Many workers on few locks."""

from __future__ import annotations

import datetime
import time

from faults.judge import Rules
from faults.stage import Stage
from faults.suite import scenario
from procrastinate import exceptions


@scenario("Lock storm: 32 slots in 4 workers, 1,000 jobs, 5 locks, retries, kills, scheduled heads, late priorities")
def lock_storm(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True)
    total = 1_000 if stage.is_long else 200
    dice = stage.dice

    def each(_: int) -> dict[str, object]:
        fields: dict[str, object] = {"lock": f"L{dice.randrange(5)}", "priority": dice.randint(-2, 2)}
        if dice.random() < 0.1:
            ahead = datetime.timedelta(seconds=dice.uniform(0, 5))
            fields["scheduled_at"] = datetime.datetime.now(datetime.UTC) + ahead
        return fields

    crew = [stage.worker(concurrency=8, max_rescues=1_000, is_up=False) for _ in range(4)]
    for n in range(10):
        task, arguments = ("fail_first", {"times": 2}) if n % 3 == 0 else ("work", {})
        stage.defer(task, total // 10, each=each, **arguments)
        time.sleep(dice.uniform(0, 0.3))
        if n % 3 == 1:
            victim = dice.choice(crew)
            stage.until(lambda victim=victim: stage.runs(victim) or not stage.left, "the victim runs something")
            stage.rescues(stage.kill(victim))
            crew[crew.index(victim)] = stage.worker(concurrency=8, max_rescues=1_000)
    stage.settle(120)


@scenario("A queueing lock under fire: 8 deferrers, workers that retry, kills; one job waits at most")
def queueing_lock_storm(stage: Stage) -> None:
    # Refused duplicates are no jobs, and a retry that meets a waiting sibling ends failed.
    stage.rules = Rules(may_rescue=True, statuses=frozenset({"succeeded", "failed"}))
    crew = [stage.worker(concurrency=4, max_rescues=1_000) for _ in range(2)]
    refused = 0
    for n in range(600 if stage.is_long else 150):
        try:
            queueing_lock = f"Q{stage.dice.randrange(3)}"
            stage.defer("fail_first", times=1, seconds=0.01, each=lambda _: {"queueing_lock": queueing_lock})  # noqa: B023
        except exceptions.AlreadyEnqueued:
            refused += 1
        if n % 100 == 50:
            stage.rescues(stage.kill(crew[0]))
            crew[0] = stage.worker(concurrency=4, max_rescues=1_000)
        doubled = stage.query(
            "select queueing_lock from procrastinate_jobs where status = 'todo' and queueing_lock is not null "
            "group by 1 having count(*) > 1"
        )
        stage.promise(not doubled, f"two jobs wait with {doubled}")
    stage.promise(refused, "some were refused")
    stage.settle()
