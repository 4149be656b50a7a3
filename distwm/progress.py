"""How far long work is: a bar with the time that is left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_EVERY_S = 10.0


class Meter:
    """Of `total` things, `begun` were done before."""

    def __init__(self, console: Console, title: str, total: int, begun: int) -> None:
        self.done, self._total, self._begun = begun, total, begun
        self._console, self._title = console, title
        self._since_s = self._told_s = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("ETA"), TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task(title, total=total, completed=begun)
            self._bar.start()

    def move(self, done: int) -> None:
        """`done` things are done by now."""
        self.done = done
        if self._bar:
            self._bar.update(self._task, completed=done, total=max(self._total, done))
        elif time.monotonic() - self._told_s >= _EVERY_S:
            self._told_s = time.monotonic()
            self.say(f"{self._title} {done}/{self._total}  {self._left()}")

    def say(self, text: str) -> None:
        """A line, above the bar if there is one."""
        console = self._bar.console if self._bar else self._console
        console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()

    def _left(self) -> str:
        new = self.done - self._begun
        if new < 1:
            return ""
        seconds = (time.monotonic() - self._since_s) / new * max(0, self._total - self.done)
        return f"ETA {timedelta(seconds=round(seconds))}"


@contextmanager
def metered(stream: IO[str], title: str, total: int, begun: int = 0) -> Iterator[Meter]:
    """A meter that ends with the block."""
    meter = Meter(Console(file=stream, highlight=False), title, total, begun)
    try:
        yield meter
    finally:
        meter.close()
