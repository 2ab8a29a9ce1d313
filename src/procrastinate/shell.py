"""The interactive shell: look at jobs and change them, line by line."""

from __future__ import annotations

import cmd
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from typing_extensions import override

from procrastinate import jobs, manager, types

__all__ = ["ProcrastinateShell", "parse_argument", "print_job"]

_STATUSES: Final = [status.value for status in jobs.Status if status is not jobs.Status.ABORTING]
_JOB_KEYS: Final = ("id", "queue", "task", "status", "lock", "queueing_lock", "worker_id")
_GROUP_KEYS: Final = ("queue", "task", "status", "lock")


def parse_argument(arg: str) -> dict[str, Any]:
    """Read the arguments of a command: words `key=value`, quoted as in a shell; a bare word stands for True.

    Raises ValueError if a quote is not closed.
    """
    words = (word.partition("=") for word in shlex.split(arg))
    return {key: value if equals else True for key, equals, value in words}


def print_job(job: jobs.Job, details: bool = False) -> None:
    """Print a job on one line, with its settings and arguments if `details`; without `log_args`, not with arguments."""
    line = f"#{job.id} {job.task_name} on {job.queue} - [{job.status}]"
    if details:
        settings = {
            "attempts": job.attempts,
            "priority": job.priority,
            "scheduled_at": job.scheduled_at,
            "args": job.task_kwargs if job.log_args else "…",
            "lock": job.lock,
        }
        line += f" ({', '.join(f'{name}={value}' for name, value in settings.items())})"
    print(line)  # noqa: T201  its purpose


def _show_all(_task_name: str) -> bool:
    return True


class ProcrastinateShell(cmd.Cmd):
    """Reads commands and executes them; an error is one line on standard error and ends nothing.

    Attributes:
        failed: the latest command failed.
    """

    intro = "Welcome to the procrastinate shell.   Type help or ? to list commands.\n"
    prompt = "procrastinate> "

    def __init__(self, job_manager: manager.JobManager, logs_args_of: Callable[[str], bool] = _show_all) -> None:
        """Work with the sync methods of `job_manager`, whose app must be open.

        `logs_args_of` tells of a task's name whether its arguments may be shown.
        """
        super().__init__()
        self.job_manager = job_manager
        self._logs_args_of = logs_args_of
        self.failed = False

    @override
    def cmdloop(self, intro: Any | None = None) -> None:
        while True:
            try:
                super().cmdloop(intro)
                return
            except KeyboardInterrupt:
                # As in other shells: it takes back the line, not the shell.
                print(file=self.stdout)
                intro = ""

    def run_words(self, words: Iterable[str]) -> bool:
        """Execute one command, given as the words of another shell or as one quoted word; return whether it worked."""
        words = list(words)
        self.onecmd(words[0] if len(words) == 1 else shlex.join(words))
        return not self.failed

    @override
    def onecmd(self, line: str) -> bool:
        self.failed = False
        try:
            return bool(super().onecmd(line))
        except Exception as error:  # noqa: BLE001  whatever went wrong, the user may try again
            self._fail(" ".join(str(error).split()) or type(error).__name__)
            return False

    @override
    def default(self, line: str) -> None:
        self._fail(f"Unknown syntax: {line}")

    @override
    def emptyline(self) -> bool:
        """Do nothing: Enter must not cancel another job."""
        return False

    def _fail(self, message: str) -> None:
        self.failed = True
        print(f"*** {message}", file=sys.stderr)  # noqa: T201  its purpose

    # Commands. Their docstrings are what `help` shows.

    def do_list_jobs(self, arg: str) -> None:
        """List jobs: `list_jobs [details]`; add id=, queue=, task=, status=, lock=, queueing_lock= or worker_id=."""
        conditions = parse_argument(arg)
        details = bool(conditions.pop("details", False))
        _refuse_unknown("list_jobs", conditions, _JOB_KEYS)
        for key in ("id", "worker_id"):
            if key in conditions:
                conditions[key] = _number(key, conditions[key])
        for job in self.job_manager.list_jobs(**conditions):
            print_job(job.evolve(log_args=self._logs_args_of(job.task_name)), details=details)

    def do_list_queues(self, arg: str) -> None:
        """Count jobs by queue: `list_queues [queue=…] [task=…] [status=…] [lock=…]`."""
        self._list_groups("list_queues", self.job_manager.list_queues, arg)

    def do_list_tasks(self, arg: str) -> None:
        """Count jobs by task: `list_tasks [queue=…] [task=…] [status=…] [lock=…]`."""
        self._list_groups("list_tasks", self.job_manager.list_tasks, arg)

    def do_list_locks(self, arg: str) -> None:
        """Count jobs by lock: `list_locks [queue=…] [task=…] [status=…] [lock=…]`."""
        self._list_groups("list_locks", self.job_manager.list_locks, arg)

    def do_retry(self, arg: str) -> None:
        """Put a failed or running job back to wait: `retry JOB_ID`."""
        job_id = _number("the job's id", arg)
        self._find(job_id)
        self.job_manager.retry_job_by_id(job_id, types.utcnow().replace(microsecond=0))
        print_job(self._find(job_id))

    def do_cancel(self, arg: str) -> None:
        """Cancel a waiting job: `cancel JOB_ID`."""
        job_id = _number("the job's id", arg)
        self.job_manager.cancel_job_by_id(job_id)
        print_job(self._find(job_id))

    def do_exit(self, _arg: str) -> bool:
        """Leave the shell."""
        return True

    def do_EOF(self, _arg: str) -> bool:  # noqa: N802  the name that cmd gives to Ctrl-D
        """Leave the shell."""
        return True

    def _find(self, job_id: int) -> jobs.Job:
        for job in self.job_manager.list_jobs(id=job_id):
            return job
        raise ValueError(f"There is no job {job_id}")

    def _list_groups(self, command: str, count: Callable[..., Iterable[Mapping[str, Any]]], arg: str) -> None:
        conditions = parse_argument(arg)
        _refuse_unknown(command, conditions, _GROUP_KEYS)
        for group in count(**conditions):
            counts = ", ".join(f"{status}: {group[status]}" for status in _STATUSES)
            print(f"{group['name']}: {group['jobs_count']} jobs ({counts})")  # noqa: T201  its purpose

    # Completion, where Python has readline.

    @override
    def completedefault(self, text: str, line: str, begidx: int, endidx: int) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]  typeshed: *ignored
        if line[:begidx].endswith("status="):
            return [status for status in _STATUSES if status.startswith(text)]
        keys = {
            "list_jobs": [*(f"{key}=" for key in _JOB_KEYS), "details"],
            **{f"list_{group}": [f"{key}=" for key in _GROUP_KEYS] for group in ("queues", "tasks", "locks")},
        }
        is_word = line[begidx - 1] == " "
        known = keys.get(line.split(maxsplit=1)[0], [])
        return [key for key in known if is_word and key.startswith(text)]


def _refuse_unknown(command: str, conditions: Mapping[str, Any], known: Iterable[str]) -> None:
    for key, value in conditions.items():
        if key not in known:
            raise ValueError(f"{command} does not know {key!r}, it takes {', '.join(f'{name}=' for name in known)}")
        if value is True:
            raise ValueError(f"{key} needs a value: write {key}=…")


def _number(what: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{what} must be a whole number, not {text!r}") from None
