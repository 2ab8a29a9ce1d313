"""What processes cost: processor time and memory, read from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
# Time for a worker to end after SIGTERM.
PATIENCE = 15.0


def _stat(pid: int) -> tuple[int, float] | None:
    """Return the parent's id and the processor time in seconds, that of children that were waited for included."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return int(fields[1]), sum(map(int, fields[11:15])) / TICKS


def tree(roots: Iterable[int]) -> dict[int, float]:
    """Return the processes below `roots`, these included, and the processor time of each in seconds."""
    pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    found = {pid: stat for pid in pids if (stat := _stat(pid))}
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in found.items():
        children.setdefault(parent, []).append(pid)
    result: dict[int, float] = {}
    to_visit = [root for root in roots if root in found]
    while to_visit:
        pid = to_visit.pop()
        if pid not in result:
            result[pid] = found[pid][1]
            to_visit += children.get(pid, [])
    return result


def cpu_seconds(root: int | None) -> float:
    """Return the processor time of a process and all below it, those that ended included."""
    return 0.0 if root is None else sum(tree([root]).values())


@attrs.frozen
class Load:
    """The machine's processor time up to a moment: what all used, and what is the benchmark's."""

    at: float
    busy: float
    ours: float

    @classmethod
    def now(cls, server: int | None) -> Load:
        fields = [int(field) for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = sum(fields[index] for index in (0, 1, 2, 5, 6)) / TICKS
        roots = [os.getpid(), *([server] if server else [])]
        return cls(time.monotonic(), busy, sum(tree(roots).values()))

    def foreign_since(self, earlier: Load) -> float:
        """Return which share of the machine others used since then."""
        available = (self.at - earlier.at) * (os.cpu_count() or 1)
        others = (self.busy - earlier.busy) - (self.ours - earlier.ours)
        return max(0.0, others / available) if available > 0 else 0.0


def memory(pid: int) -> float:
    """Return the resident memory of a process in MB, without what it shares with others through files in memory."""
    sizes = {"RssAnon:": 0, "RssFile:": 0}
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0.0
    for line in lines:
        name, *rest = line.split()
        if name in sizes:
            sizes[name] = int(rest[0])
    return sum(sizes.values()) / 1024


class Program:
    """A process of the benchmark, in a session of its own so that it can be ended with all its children."""

    def __init__(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        log: Path,
        *,
        cwd: Path,
        **options: Any,
    ) -> None:
        """Start it; what it says on standard error, and on standard output unless that is asked for, goes to `log`."""
        self.log = log
        with log.open("a") as file:
            file.write(f"--- {' '.join(map(str, command))}\n")
            file.flush()
            self.process = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **environment},
                cwd=cwd,
                stderr=file,
                start_new_session=True,
                **{"stdout": file, "stdin": subprocess.DEVNULL, **options},
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        """End it: by SIGTERM, and by SIGKILL if that does not help."""
        if not self.has_ended:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                return
        # Children of one that died.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
