"""What the demo shows: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

import attrs

try:
    import rich.console
    import rich.live
    import rich.markup
    import rich.progress
    import rich.table
except ImportError:  # the extra `cli` is not installed
    rich = None

Rows = Sequence[tuple[str, str, str]]


@attrs.frozen(kw_only=True)
class Progress:
    """How far the jobs are: numbers of jobs, and the latest running total."""

    files: int
    done: int
    running: int
    retried: int
    rescued: int
    workers: int
    total: str


class Display(Protocol):
    """A place to show progress, notes and the final table. A context manager around the work."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def note(self, text: str) -> None: ...
    def table(self, title: str, rows: Rows) -> None: ...


def create() -> Display:
    """Return the display that fits standard output."""
    return Terminal() if rich is not None and sys.stdout.isatty() else Lines()


class Lines:
    """Plain lines, now and then."""

    INTERVAL = 1.0

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        if time.monotonic() < self._shown + self.INTERVAL:
            return
        self._shown = time.monotonic()
        self.note(
            f"{progress.done} of {progress.files} files, {progress.running} running in {progress.workers} worker(s), "
            f"{progress.retried} retried, {progress.rescued} rescued; running total: {progress.total}"
        )

    def note(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", flush=True)

    def table(self, title: str, rows: Rows) -> None:
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        print(f"\n{title}\n{'-' * len(title)}")
        for name, value, remark in rows:
            print(f"{name:{widths[0]}}  {value:>{widths[1]}}  {remark}".rstrip())
        sys.stdout.flush()


class Terminal:
    """A progress bar and a line of numbers that stay at the bottom, with notes above them."""

    def __init__(self) -> None:
        self._console = rich.console.Console(highlight=False)
        self._bars = rich.progress.Progress(
            rich.progress.SpinnerColumn(),
            rich.progress.BarColumn(bar_width=40),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            console=self._console,
        )
        self._bar = self._bars.add_task("", total=None)
        self._live = rich.live.Live(self._bars, console=self._console, refresh_per_second=8)
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def progress(self, progress: Progress) -> None:
        self._bars.update(self._bar, total=progress.files, completed=progress.done)
        numbers = (
            f"{progress.running} running in {progress.workers} worker(s), {progress.retried} retried, "
            f"{progress.rescued} rescued"
        )
        self._live.update(rich.console.Group(self._bars, numbers, f"running total: {progress.total}"))

    def note(self, text: str) -> None:
        elapsed = f"{time.monotonic() - self._start:5.1f} s"
        self._console.print(f"[dim]{elapsed}[/dim]  {rich.markup.escape(text)}")

    def table(self, title: str, rows: Rows) -> None:
        self._live.stop()
        table = rich.table.Table(title=title, title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right", style="bold")
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*map(rich.markup.escape, row))
        self._console.print(table)
