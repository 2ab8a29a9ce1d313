"""What becomes of a job that raised: decisions without a database."""

import asyncio
import datetime
import json

import pytest

from procrastinate import exceptions, retry
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Claim, DeleteJobCondition, Job, Status
from procrastinate.store.postgres import JsonText
from procrastinate.worker import verdicts

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
CLAIM = Claim(job=Job(id=1, queue="q", lock=None, queueing_lock=None, task_name="t", worker_id=7), token=3)
ALWAYS = retry.RetryStrategy()


def decide(error, *, reason=None, strategy=None, delete=DeleteJobCondition.NEVER):
    run = verdicts.FailedRun(claim=CLAIM, started_at=NOW, ended_at=NOW, error=error, abort_reason=reason)
    return verdicts.decide(run, strategy, delete)


@pytest.mark.parametrize(
    ("error", "reason", "strategy", "status"),
    [
        (ValueError(), None, None, Status.FAILED),
        (ValueError(), None, ALWAYS, Status.TODO),
        (ValueError(), AbortReason.USER_REQUEST, ALWAYS, Status.FAILED),
        (ValueError(), AbortReason.SHUTDOWN, ALWAYS, Status.TODO),
        (exceptions.JobAborted(), None, ALWAYS, Status.ABORTED),
        (exceptions.JobAborted(), AbortReason.USER_REQUEST, ALWAYS, Status.ABORTED),
        (exceptions.JobAborted(), AbortReason.SHUTDOWN, ALWAYS, Status.TODO),
        (exceptions.JobAborted(), AbortReason.SHUTDOWN, None, Status.ABORTED),
        (asyncio.CancelledError(), AbortReason.USER_REQUEST, ALWAYS, Status.ABORTED),
        (asyncio.CancelledError(), AbortReason.SHUTDOWN, ALWAYS, Status.TODO),
        (asyncio.CancelledError(), None, None, Status.ABORTED),
        (SystemExit(), None, None, Status.FAILED),
        (KeyboardInterrupt(), None, ALWAYS, Status.TODO),
        (GeneratorExit(), None, None, Status.FAILED),
    ],
)
def test_status(error, reason, strategy, status) -> None:
    assert decide(error, reason=reason, strategy=strategy).status is status


@pytest.mark.parametrize(
    ("condition", "success", "failure"),
    [
        (DeleteJobCondition.NEVER, False, False),
        (DeleteJobCondition.SUCCESSFUL, True, False),
        (DeleteJobCondition.ALWAYS, True, True),
    ],
)
def test_deletion(condition, success, failure) -> None:
    assert verdicts.success(CLAIM, condition).delete is success
    assert decide(ValueError(), delete=condition).delete is failure
    assert decide(ValueError(), strategy=ALWAYS, delete=condition).delete is False


class FailingMessageError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    "error", [ValueError("a\x00b"), ValueError("\ud800"), FailingMessageError(), ValueError("x" * 10**6)]
)
def test_every_report_can_be_stored(error) -> None:
    verdict = decide(error)
    assert verdict.report is not None
    text = JsonText().dumps(verdict.report)
    text.encode()
    assert len(text) < 20_000
    assert json.loads(text)["exception"] == type(error).__name__


class FailingStrategy(retry.BaseRetryStrategy):
    def get_retry_decision(self, *, exception, job):
        raise LookupError("no decision")


def test_a_strategy_that_fails_is_no_retry_and_is_said() -> None:
    verdict = decide(ValueError(), strategy=FailingStrategy())
    assert verdict.status is Status.FAILED
    assert verdict.report is not None
    assert "no decision" in verdict.report["reason"]
