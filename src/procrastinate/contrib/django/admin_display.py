"""How the admin shows jobs: values as text and HTML, and the history of a job as a list of attempts."""

from __future__ import annotations

# Django has no types.
# pyright: basic, reportReturnType=false, reportOperatorIssue=false
import datetime
import json
from collections.abc import Iterator
from typing import Any

import attrs
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince, timeuntil

from procrastinate import jobs

JOB_STATUS_EMOJI_MAPPING = {
    jobs.Status.TODO.value: "🗓️",
    jobs.Status.DOING.value: "🚂",
    jobs.Status.SUCCEEDED.value: "✅",
    jobs.Status.FAILED.value: "❌",
    jobs.Status.CANCELLED.value: "🚫",
    jobs.Status.ABORTING.value: "🔌",
    jobs.Status.ABORTED.value: "🔌",
}
WAITS = {None: "ready", "time": "scheduled", "lock": "waits for its lock"}

# On one line up to here, and cut in the list from there on.
SHORT_ARGS = 30
LONGEST_ARGS = 2_000
LONGEST_ERROR = 160
MINUTE = 60


def status(job: Any) -> str:
    """Return the status with an emoji, and what a waiting job waits for."""
    emoji = JOB_STATUS_EMOJI_MAPPING.get(job.status, "")
    text = format_html('<span class="procrastinate-status {}">{} {}</span>', job.status, emoji, job.status.title())
    if job.status == "todo":
        text += format_html(' <small class="quiet">{}</small>', WAITS.get(job.waits_for, job.waits_for))
    elif job.status == "doing" and job.abort_requested:
        text += format_html(' <small class="quiet">{}</small>', "asked to stop")
    return text


def task_name(name: str) -> str:
    """Return a task's name with its modules abbreviated, and the whole name as a tooltip."""
    modules, dot, function = name.rpartition(".")
    short = "".join(f"{module[:1]}." for module in modules.split(".")) if dot else ""
    return format_html("<span title='{}'>{}{}</span>", name, short, function)


def arguments(args: Any, longest: int | None = LONGEST_ARGS) -> str:
    """Return arguments as JSON, over several lines unless they are short."""
    text = json.dumps(args, ensure_ascii=False)
    if len(text) > SHORT_ARGS or (isinstance(args, dict) and len(args) > 1):
        text = json.dumps(args, ensure_ascii=False, indent=2)
    if longest is not None and len(text) > longest:
        text = f"{text[:longest]}..."
    return format_html('<pre class="procrastinate-args">{}</pre>', text)


def moment(at: datetime.datetime | None) -> str:
    """Return how long ago a time was or how soon it will be, with the time itself as a tooltip."""
    if at is None:
        return "-"
    now = timezone.now()
    distance = abs((at - now).total_seconds())
    if distance < MINUTE:
        length = f"{distance:.0f} seconds"
    else:
        length = timeuntil(at, now, depth=1) if at > now else timesince(at, now, depth=1)
    text = f"in {length}" if at > now else f"{length} ago"
    shown = timezone.localtime(at) if timezone.is_aware(at) else at
    exact = f"{shown:%Y-%m-%d %H:%M:%S}"
    return format_html('<time datetime="{}" title="{}">{}</time>', at.isoformat(), exact, text)


def error(entries: list[dict[str, Any] | None]) -> str:
    """Return the latest of these errors on one line; entries are those of a log of attempts, latest first."""
    for entry in entries:
        if entry and (text := what_went_wrong(entry)):
            line = text.splitlines()[0]
            short = line if len(line) <= LONGEST_ERROR else f"{line[:LONGEST_ERROR]}…"
            return format_html('<span class="procrastinate-error" title="{}">{}</span>', text, short)
    return ""


def what_went_wrong(entry: dict[str, Any]) -> str:
    """Return why an attempt did not end well; empty if it did, or if nothing is known."""
    parts = [": ".join(text for text in (entry.get("exception"), entry.get("message")) if text), entry.get("reason")]
    return "; ".join(text for text in parts if text)


@attrs.frozen(kw_only=True)
class Attempt:
    """One line in the history of a job: an attempt, or something that was done to it in between.

    Attributes:
        number: which attempt it is, None for something else.
        event: how it ended; what happened.
        scheduled_at: the time for which it was scheduled.
        started_at: when it began.
        ended_at: when it ended, None while it runs.
        worker_id: who ran it.
        error: what went wrong, in a line or two.
        traceback: where it went wrong.
    """

    number: int | None = None
    event: str
    scheduled_at: datetime.datetime | None = None
    started_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None
    worker_id: int | None = None
    error: str = ""
    traceback: str = ""

    @property
    def title(self) -> str:
        """What to call it."""
        event = self.event.replace("_", " ")
        return event.capitalize() if self.number is None else f"Attempt {self.number}: {event}"

    @property
    def duration(self) -> str:
        """How long it took."""
        if self.started_at is None or self.ended_at is None:
            return ""
        return f"{(self.ended_at - self.started_at).total_seconds():.3f} s"


def history(job: Any) -> list[Attempt]:
    """Return the attempts of a job, oldest first."""
    return list(_history(job))


def _history(job: Any) -> Iterator[Attempt]:
    log = [entry for entry in job.attempts_log or [] if entry.get("event") != "returned"]
    for entry in log:
        yield Attempt(
            number=entry.get("number"),
            event=entry.get("event", "?"),
            worker_id=entry.get("worker_id"),
            error=what_went_wrong(entry),
            traceback=entry.get("traceback", ""),
            **{name: _time(entry.get(name)) for name in ("scheduled_at", "started_at", "ended_at")},
        )
    is_told = bool(log) and bool(log[-1].get("final"))
    if job.attempted_at is not None and not is_told:
        yield Attempt(
            number=job.attempts if job.finalized_at else job.attempts + 1,
            event=job.status if job.status != "doing" else "running",
            scheduled_at=job.scheduled_at,
            started_at=job.attempted_at,
            ended_at=job.finalized_at,
            worker_id=job.worker_id,
        )
    elif job.finalized_at is not None and not is_told:
        yield Attempt(event=job.status, ended_at=job.finalized_at)


def _time(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None
