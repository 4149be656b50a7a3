"""`distwm.envs check`: one line for each environment, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import IO, Literal

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from actors.check import Report, check
from actors.contract import CheckConfig
from actors.envs.registry import EnvConfig
from replay.errors import BadInput

Format = Literal["table", "json", "markdown"]


def check_all(configs: Sequence[EnvConfig], how: CheckConfig, stream: IO[str], form: Format = "table") -> int:
    """Checks one after the other and writes what was found. 2 if any breaks its contract, 3 if any lacks something."""
    if not configs:
        raise BadInput("No task was named.", "Name tasks, or --all SUITE.")
    console = Console(stderr=True)
    shown = track(configs, "check", console=console, transient=True, disable=not console.is_terminal)
    reports = [check(config, how) for config in shown]
    if form == "json":
        stream.write(json.dumps([asdict(report) for report in reports], indent=1) + "\n")
    else:
        _print_table(reports, stream, form)
    _print_problems(reports)
    return 2 if any(report.problems for report in reports) else 3 if any(report.missing for report in reports) else 0


def _print_table(reports: Sequence[Report], stream: IO[str], form: Format) -> None:
    columns = ("task", "observations", "actions", "limit", "state/s", "pixels/s", "reset ms", "contract")
    table = Table(*columns, box=box.MARKDOWN if form == "markdown" else box.HEAVY_HEAD)
    for number in (3, 4, 5, 6):
        table.columns[number].justify = "right"
    for report in reports:
        table.add_row(*_cells(report))
    console = Console(file=stream, highlight=False, markup=False)
    console.width = max(console.width, 250 if form == "markdown" else 140)
    console.print(table)


def _cells(report: Report) -> tuple[str, ...]:
    verdict = "kept" if report.ok else "missing" if report.missing else f"{len(report.problems)} problems"
    rates = [f"{rate:.0f}" if rate else "" for rate in (report.state_per_s, report.pixels_per_s)]
    limit = str(report.max_steps) if report.max_steps else ""
    return (
        report.task,
        report.observations,
        report.actions,
        limit,
        *rates,
        f"{1000 * report.reset_s:.3g}" if report.reset_s else "",
        verdict,
    )


def _print_problems(reports: Sequence[Report]) -> None:
    for report in reports:
        for problem in (*report.problems, *filter(None, [report.missing])):
            sys.stderr.write(f"{report.task}: {problem}\n")
