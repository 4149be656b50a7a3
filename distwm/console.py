"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import IO, Any

from rich.console import Console as RichConsole
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from distwm.config import RunConfig
from distwm.logs import Record, figures

# Figures worth a place on a narrow line, in this order; the rest is in metrics.jsonl.
_SHOWN = ("loss", "mean_return", "steps_per_s", "updates_per_s", "grad_norm")
_ASIDE = ("gate", "stage_end", "fleet")  # kinds of records that say nothing of the latest work
_UNITS = {"collect": "episodes", "train": "updates", "online": "decisions"}
_UNITS |= {"analyse": "analysis", "evaluate": "policies"}


class Console:
    """Shows the current stage with its ETA and its latest figures. Writes to `stream`, which outlives redirections."""

    def __init__(self, stream: IO[str], every_s: float) -> None:
        self._rich = RichConsole(file=stream, highlight=False)
        self._every_s = every_s
        self._last_line_s = -every_s
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""

    def say(self, text: str) -> None:
        """One line, above the bar if there is one."""
        console = self._progress.console if self._progress else self._rich
        console.print(text, markup=False, soft_wrap=True)

    def show(self, status: dict[str, Any]) -> None:
        """`status` is a result of the pipeline: its records and how far the stage is."""
        for record in status["records"]:
            if line := _line(record):
                self.say(line)
        latest: Record = next((r for r in reversed(status["records"]) if r["kind"] not in _ASIDE), {})
        if self._rich.is_terminal:
            self._move_bar(status, latest)
        elif latest and time.monotonic() - self._last_line_s >= self._every_s:
            self._last_line_s = time.monotonic()
            self.say(f"{_title(status)} {status['step']}/{status['total']}  {_brief(latest)}")

    def close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _move_bar(self, status: dict[str, Any], latest: Record) -> None:
        if self._progress is None:
            self._progress = _bar(self._rich)
            self._progress.start()
        if self._task is None or status["stage"] != self._stage:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(_title(status), total=status["total"], figures="")
            self._stage = status["stage"]
        self._progress.update(
            self._task,
            completed=status["step"],
            total=status["total"],
            description=_title(status),
            figures=_brief(latest),
        )


def print_plan(config: RunConfig, stream: IO[str]) -> None:
    """The stages with their budgets and gates, as a table."""
    table = Table(
        "round",
        "stage",
        "kind",
        "what",
        "budget",
        "gate",
        "if not passed",
        title=f"{config.recipe}, size={config.size}",
    )
    for stage in config.plan:
        c = stage.config
        what = {
            "train": stage.objective,
            "analyse": stage.objective,
            "collect": c.policy,
            "online": f"{stage.objective}, {c.policy}",
            "evaluate": " ".join(config.evaluate.policies),
        }[c.kind]
        budget = len(config.evaluate.policies) if c.kind == "evaluate" else c.budget_steps
        extend = f"+{c.extend_steps} updates, {c.max_extensions}x at most" if c.max_extensions else ""
        gate = ", ".join(f"{name} {threshold}" for name, threshold in c.gate.items() if threshold)
        table.add_row(str(stage.round), stage.name, c.kind, what, f"{budget} {_UNITS[c.kind]}", gate, extend)
    console = RichConsole(file=stream, highlight=False)
    console.width = max(console.width, 120)
    console.print(table)


def _bar(console: RichConsole) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[figures]}"),
    )
    return Progress(*columns, console=console)


def _title(status: dict[str, Any]) -> str:
    return f"[{status['stage_index'] + 1}/{status['stages']}] {status['stage']}"


def _brief(record: Record) -> str:
    numbers = figures(record)
    shown = [name for name in _SHOWN if name in numbers] or [name for name in numbers if name != "wall_s"]
    return "  ".join(f"{name} {numbers[name]:.4g}" for name in shown[:3])


def _line(record: Record) -> str:
    """The line that a record is worth by itself, or nothing."""
    if record["kind"] == "stage_end":
        return f"{record['stage']} took {record['wall_s']:.1f} s"
    verdict = (record["verdict"] or _brief(record)) if record["kind"] == "gate" else ""
    return f"{record['stage']} gate: {verdict}" if verdict else ""
