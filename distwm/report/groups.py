"""`python -m distwm.report.groups RUN_DIR...`: runs of several configurations in one table, each over its seeds.

Runs that differ in nothing but their training seed are one line, named by what sets it apart from the first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from distwm.casting import as_text
from distwm.contest import Player
from distwm.overrides import flatten
from distwm.report.curves import LAST, best_of_last, read_baseline
from distwm.report.inputs import Record, RunFindings, read_run
from distwm.report.numerals import mean_and_ends, number
from distwm.rundir import MAY_CHANGE
from distwm.statistics import Interval, difference_interval, t_interval
from replay.errors import BadInput, DistwmError

# Of no consequence for a curve that is cut, besides those of how a run is executed.
BESIDE = ("seed", "seeds", "evaluate.*", "stages.*.budget_steps")
SHOWN = ("fleet.runners", "source.url")  # how a run is executed, but worth a comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs, or a baseline's, that differ in their seed."""

    name: str
    seeds: list[list[Record]]  # the evaluations of each
    player: Player

    def best(self, until: int) -> list[float]:
        """By seed: the best mean return of the last evaluations up to so many environment steps."""
        cut = [[row for row in rows if row["env_steps"] < 1.01 * until] for rows in self.seeds]
        return [value for rows in cut if (value := best_of_last(rows, self.player)) is not None]

    @property
    def until(self) -> int:
        """The last step at which all seeds have been evaluated."""
        return min(max((row["env_steps"] for row in rows), default=0) for rows in self.seeds)


def groups_of(runs: Sequence[RunFindings]) -> list[Group]:
    """In the order in which they come. Raises BadInput if a seed comes twice in one of them."""
    settings = [_settings(run.config) for run in runs]
    found: dict[str, dict[int, list[Record]]] = {}
    for run, own in zip(runs, settings, strict=True):
        seeds = found.setdefault(_name(settings[0], own), {})
        if run.seed in seeds:
            raise BadInput(f"{run.root} has a seed that came before: {run.seed}.", "Give each training seed once.")
        seeds[run.seed] = run.evaluations
    subject = runs[0].contest.subject
    return [Group(name=name, seeds=[*seeds.values()], player=subject) for name, seeds in found.items()]


def baseline_of(root: Path) -> Group:
    seeds = read_baseline(root)
    first = next(row for rows in seeds for row in rows)
    return Group(name=f"baseline {root.name}", seeds=seeds, player=(first["policy"], first["mode"]))


def table_of(groups: Sequence[Group], until: int = 0) -> str:
    """Markdown. Returns are the best of the last few evaluations `until` so many environment steps; 0: until the last
    step that all have reached."""
    until = until or min(group.until for group in groups)
    first = groups[0].best(until)
    lines = [
        f"| up to {until} environment steps | best of the last {LAST} evaluations, by seed "
        "| median | mean [t interval] | minus the first [Welch] |",
        "|---|---|---|---|---|",
    ]
    for place, group in enumerate(groups):
        best = group.best(until)
        if best:
            gain = difference_interval(best, first) if place and first else None
            lines.append(f"| {' | '.join(_cells(group.name, best, gain))} |")
    return "\n".join(lines)


def _cells(name: str, best: Sequence[float], gain: Interval | None) -> list[str]:
    apart = " ".join(mean_and_ends(gain, sign=True)) if gain else ""
    mean = " ".join(mean_and_ends(t_interval(best)))
    return [name, ", ".join(map(number, best)), number(float(np.median(best))), mean, apart]


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    kept = {key: value for key, value in flatten(config).items() if key in SHOWN or not _is_beside(key)}
    return {key: as_text(value) for key, value in kept.items()}


def _is_beside(key: str) -> bool:
    return any(fnmatch(key, pattern) for pattern in (*BESIDE, *MAY_CHANGE))


def _name(first: Mapping[str, str], own: Mapping[str, str]) -> str:
    keys = [key for key in {**first, **own} if first.get(key) != own.get(key)]
    return ", ".join(f"{key}={own.get(key, 'absent')}" for key in keys) or "the first"


def main(words: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m distwm.report.groups",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--baseline", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--until", type=int, default=0, metavar="STEPS", help="environment steps; default: all have")
    given = parser.parse_args(words)
    try:
        groups = groups_of([read_run(path) for path in given.run_dirs])
        sys.stdout.write(table_of([*groups, *map(baseline_of, given.baseline)], given.until) + "\n")
    except DistwmError as error:
        sys.stderr.write(f"distwm: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
