"""Random operations, with random faults in between, as long as one lets them run."""

from __future__ import annotations

import contextlib
import datetime
import signal
import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from faults import wire_faults
from faults.judge import Rules
from faults.proxy import FaultProxy
from faults.stage import Process, Stage
from faults.suite import scenario
from procrastinate import exceptions

LOCKS = st.sampled_from([None, "A", "B"])
NOT_ENDED = "select id from procrastinate_jobs where status in ('todo', 'doing') order by id limit 1 offset %s"
ANY_END = frozenset({"succeeded", "failed", "cancelled", "aborted"})


def _machine(stage: Stage, proxy: FaultProxy) -> type[RuleBasedStateMachine]:  # noqa: C901  a rule is a function
    class Machine(RuleBasedStateMachine):
        """Jobs, workers and the network; all is judged at the end of the trial, and a part of it after each run."""

        def __init__(self) -> None:
            super().__init__()
            self.workers: list[Process] = []
            self.faults: list[wire_faults.Fault] = []

        @initialize(lock=LOCKS)
        def begin(self, lock) -> None:
            stage.defer("work", 20, each=lambda _: {"lock": lock}, seconds=0.05)
            self.start()

        def start(self) -> None:
            options = {"concurrency": 3, "max_rescues": 1_000, "database_timeout": 20}
            self.workers.append(stage.worker(proxy.conninfo, pool={"timeout": 5}, is_up=False, **options))

        @rule(
            count=st.integers(1, 20),
            lock=LOCKS,
            queueing_lock=LOCKS,
            delay=st.sampled_from([None, 0.0, 1.0]),
            priority=st.integers(-1, 1),
            task=st.sampled_from(["work", "work_in_thread", "fail_first"]),
        )
        def defer(self, count, lock, queueing_lock, delay, priority, task) -> None:
            now = datetime.datetime.now(datetime.UTC)
            when = None if delay is None else now + datetime.timedelta(seconds=delay)
            fields = {"lock": lock, "queueing_lock": queueing_lock, "scheduled_at": when, "priority": priority}
            arguments = {"times": 1} if task == "fail_first" else {"seconds": 0.02}
            with contextlib.suppress(exceptions.AlreadyEnqueued):
                stage.defer(task, 1 if queueing_lock else count, each=lambda _: fields, **arguments)

        @rule(abort=st.booleans(), pick=st.integers(0, 10))
        def cancel(self, abort, pick) -> None:
            rows = stage.query(NOT_ENDED, pick)
            if rows:
                stage.app_call(lambda app: app.job_manager.cancel_job_by_id_async(rows[0][0], abort=abort))

        @precondition(lambda self: len(self.workers) < 3)
        @rule()
        def another_worker(self) -> None:
            self.start()

        @precondition(lambda self: self.workers)
        @rule(pick=st.integers(0, 5), how=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
        def end_a_worker(self, pick, how) -> None:
            worker = self.workers.pop(pick % len(self.workers))
            worker.signal(how)
            if how is signal.SIGKILL:
                worker.wait(10)

        @precondition(lambda self: len(self.faults) < 2)
        @rule(
            kind=st.sampled_from([wire_faults.Reset, wire_faults.SwallowAnswer, wire_faults.Freeze]),
            at=st.sampled_from(["claim", "finish", "heartbeat", None]),
        )
        def break_a_connection(self, kind, at) -> None:
            if kind is wire_faults.SwallowAnswer and at is None:
                at = "claim"
            self.faults.append(proxy.add(kind(at=at, times=1)))

        @rule()
        def mend_the_network(self) -> None:
            while self.faults:
                proxy.remove(self.faults.pop())

        @rule(seconds=st.floats(0, 0.5))
        def let_time_pass(self, seconds) -> None:
            time.sleep(seconds)

        def teardown(self) -> None:
            self.mend_the_network()
            self.start()
            stage.settle(90)
            while self.workers:
                worker = self.workers.pop()
                worker.signal(signal.SIGTERM)
                # A worker that saw the network break may exit with an error, but it exits.
                worker.wait(90)

    return Machine


@scenario("Random operations with random kills, restarts and broken connections (Hypothesis)", trials=3, in_short=True)
def random_operations(stage: Stage) -> None:
    stage.rules = Rules(may_rescue=True, statuses=ANY_END)
    machine = _machine(stage, stage.proxy())
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15 if stage.is_long else 3,
            stateful_step_count=40 if stage.is_long else 15,
            deadline=None,
            database=None,
            derandomize=not stage.is_long,
            # What happened is in the trial's own journal; it would not happen again in the same way.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
