"""What a person sees of a collection: a bar for each order on a terminal, lines now and then elsewhere, a table at the
end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from distwm.collect.book import Played
from distwm.statistics import t_interval, wilson_interval

EVERY_S = 10.0  # between two reports where the output is no terminal
_DRAWN_S = 0.2  # between two looks of a bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How far one order is."""

    title: str
    run: str
    asked: int  # episodes; 0: no number
    played: Sequence[Played]  # all there are
    steps: int  # of this command
    seconds: float  # of this command, from its first episode to its last
    failures: Mapping[str, int] = field(default_factory=dict)  # by reason
    note: str = ""  # why it has ended early

    @property
    def rate(self) -> float:
        return self.steps / self.seconds if self.seconds else 0.0


class Display:
    """Bars or lines, as `stream` is a terminal or not."""

    def __init__(self, stream: IO[str]) -> None:
        self._console = Console(file=stream, highlight=False)
        self._told_s = time.monotonic()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, object] = {}  # the latest news of each row

    def say(self, text: str) -> None:
        """A line, above the bars if there are any."""
        console = self._bars.console if self._bars else self._console
        console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Bars are there within."""
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[count]}"))
            times = (TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn())
            self._bars = Progress(*columns, *times, TextColumn("[dim]{task.fields[figures]}"), console=self._console)
            self._bars.start()
        try:
            yield
        finally:
            if self._bars:
                self._bars.stop()
                self._bars = None

    @property
    def due(self) -> bool:
        """Whether it is time to show something."""
        return time.monotonic() - self._told_s >= (_DRAWN_S if self._bars else EVERY_S)

    def show(self, rows: Sequence[Row]) -> None:
        self._told_s = time.monotonic()
        for row in rows:
            news = (len(row.played), row.failures, row.note)
            if self._bars:
                self._move(self._bars, row)
            elif self._said.get(row.title) != news:
                self._said[row.title] = news
                self.say(f"{row.title} {_count(row)}  {_figures(row)}")

    def table(self, rows: Sequence[Row]) -> None:
        """The summary."""
        names = ("task=policy", "replay run", "episodes", "steps", "steps/s", "return", "success", "failures")
        table = Table(box=None, pad_edge=False, header_style="dim")
        for place, name in enumerate(names):
            table.add_column(name, justify="left" if place < 2 else "right", no_wrap=place < 6)
        for row in rows:
            table.add_row(row.title, row.run, *_cells(row))
        if not self._console.is_terminal:
            self._console.width = max(self._console.width, 160)
        self._console.print(table)

    def _move(self, bars: Progress, row: Row) -> None:
        if row.title not in self._tasks:
            self._tasks[row.title] = bars.add_task(row.title, total=row.asked or None, count="", figures="")
        bars.update(self._tasks[row.title], completed=len(row.played), count=_count(row), figures=_figures(row))


def said(failures: Mapping[str, int]) -> str:
    """`died 3, timeout 1`."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(failures.items()) if count)


def _count(row: Row) -> str:
    return f"{len(row.played)}/{row.asked}" if row.asked else str(len(row.played))


def _figures(row: Row) -> str:
    words = [f"{row.rate:,.0f} steps/s"]
    if row.played:
        words.append(f"return {np.mean([p.total_reward for p in row.played]):.4g}")
    if wins := [p.success for p in row.played if p.success is not None]:
        words.append(f"success {np.mean(wins):.0%}")
    return "  ".join([*words, *filter(None, [said(row.failures), row.note])])


def _cells(row: Row) -> list[str]:
    steps = sum(p.steps for p in row.played)
    failures = ", ".join(filter(None, [said(row.failures), row.note])) or "0"
    return [_count(row), f"{steps:,}", f"{row.rate:,.0f}", _mean(row.played), success_share(row.played), failures]


def _mean(played: Sequence[Played]) -> str:
    """Mean and 95 % interval."""
    if not played:
        return ""
    found = t_interval([p.total_reward for p in played])
    return f"{found.mean:.4g}" + (f" ±{found.mean - found.low:.2g}" if np.isfinite(found.low) else "")


def success_share(played: Sequence[Played]) -> str:
    wins = [p.success for p in played if p.success is not None]
    if not wins:
        return ""
    found = wilson_interval(sum(wins), len(wins))
    of = f" of {len(wins)}" if len(wins) < len(played) else ""  # whose success died with the runner that played them
    return f"{found.mean:.0%} ({found.low:.0%}-{found.high:.0%}){of}"
