"""Learning curves: evaluations on the way, of one run or over training seeds, beside those of a baseline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from distwm.contest import Player
from distwm.report.canvas import INK, POLICY_COLOURS, blank, quiet
from distwm.report.inputs import Record, RunFindings
from distwm.report.labels import label_of
from distwm.statistics import Interval, t_interval
from replay.errors import BadInput

FEW = 5  # seeds below which each is drawn as well: an interval over three says little, one over two nothing
LAST = 3  # evaluations at the end of which the best one counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a policy earned at each evaluation: over episodes of one seed, or over the means of several seeds."""

    player: Player
    env_steps: np.ndarray  # (N,)
    returns: list[Interval]
    means: np.ndarray  # (seeds, N): of the episodes of each

    @property
    def seeds(self) -> int:
        return len(self.means)

    @property
    def label(self) -> str:
        return label_of(*self.player) + (f" ({self.seeds} seeds)" if self.seeds > 1 else "")


def lines_over(seeds: Sequence[Iterable[Record]]) -> list[Line]:
    """One line for each policy, from each seed's evaluations: over episodes where there is one seed, else over seeds,
    at the evaluations that all of them have. Those less than half an interval apart are the same: a run that was
    interrupted counts the steps of its lost episodes, and is a few steps off from there on."""
    found: dict[Player, list[dict[int, list[float]]]] = {}
    for number, rows in enumerate(seeds):
        for row in rows:
            per_seed = found.setdefault((row["policy"], row["mode"]), [{} for _ in seeds])
            per_seed[number][row["env_steps"]] = row["returns"]
    return [_line(player, per_seed) for player, per_seed in found.items()]


def _line(player: Player, per_seed: list[dict[int, list[float]]]) -> Line:
    shared = _shared([np.array(sorted(curve)) for curve in per_seed])
    each = [[curve[step] for curve, step in zip(per_seed, steps, strict=True)] for steps in shared]
    means = [[float(np.mean(r)) for r in seeds] for seeds in each]
    values = [seeds[0] if len(seeds) == 1 else of_each for seeds, of_each in zip(each, means, strict=True)]
    return Line(
        player=player,
        env_steps=np.array([steps[0] for steps in shared]),
        returns=[*map(t_interval, values)],
        means=np.array(means, np.float64).reshape(-1, len(per_seed)).T,
    )


def _shared(per_seed: list[np.ndarray]) -> list[list[int]]:
    """The steps of each evaluation that all seeds have, one for each seed."""
    if not all(len(steps) for steps in per_seed):
        return []
    apart = min((int(np.diff(steps).min()) for steps in per_seed if len(steps) > 1), default=1)
    nearest = [[int(other[np.abs(other - step).argmin()]) for other in per_seed] for step in per_seed[0]]
    return [found for found in nearest if max(abs(step - found[0]) for step in found) < apart / 2]


def best_of_last(rows: Iterable[Record], player: Player) -> float | None:
    """The best mean return of the last three evaluations; None if there was none."""
    own = sorted((row["env_steps"], float(np.mean(row["returns"]))) for row in rows if _is(row, player))
    return max((mean for _, mean in own[-LAST:]), default=None)


def learning_curve(lines: Sequence[Line], flat: Sequence[tuple[Player, float]] = ()) -> Figure | None:
    """Means by environment steps, with 95% intervals, and every seed where they are few.

    `flat`: policies that do not learn, and what they earn.
    """
    lines = [line for line in lines if len(line.env_steps)]
    if not lines:
        return None
    figure = blank(9.6, 3.6)
    ax = figure.subplots()
    for line in lines:
        colour = POLICY_COLOURS.get(line.player[0], INK)
        style = "-" if line.player[1] == "sample" or line.player[0] != "mppi" else "--"
        ax.plot(line.env_steps, [r.mean for r in line.returns], style, color=colour, marker="o", ms=3, label=line.label)
        if 1 < line.seeds < FEW:
            ax.plot(line.env_steps, line.means.T, color=colour, linewidth=1, alpha=0.4)
        if line.seeds == 2:
            continue
        low, high = (np.array([getattr(r, end) for r in line.returns]) for end in ("low", "high"))
        known = np.isfinite(low)
        ax.fill_between(line.env_steps[known], low[known], high[known], color=colour, alpha=0.15, linewidth=0)
    for player, mean in flat:
        ax.axhline(mean, color=POLICY_COLOURS.get(player[0], INK), linewidth=1, dashes=(4, 3), label=label_of(*player))
    ax.set_xlabel("environment steps")
    ax.set_ylabel("return")
    lowest, highest = min(float(line.means.min()) for line in lines), max(_highest(line) for line in lines)
    ax.set_ylim(0 if lowest >= 0 else None, 1.2 * highest if highest > 0 else None)  # room for the legend
    quiet(ax)
    ax.legend(loc="upper left", ncols=3)
    return figure


def numbers(lines: Sequence[Line]) -> dict[str, Any]:
    """What is drawn of them: the means of each seed by environment steps."""
    return {line.label: {"env_steps": line.env_steps, "means_by_seed": line.means} for line in lines}


def _highest(line: Line) -> float:
    """That a picture of it reaches."""
    ends = [] if 1 < line.seeds < FEW else [r.high for r in line.returns if np.isfinite(r.high)]
    return max(float(line.means.max()), *ends, 0.0)


def flat_of(runs: Sequence[RunFindings]) -> list[tuple[Player, float]]:
    """Random play, where it was evaluated."""
    player = ("random", "sample")
    means = [float(np.mean([*run.played[player].values()])) for run in runs if player in run.played]
    return [(player, float(np.mean(means)))] if means else []


def read_baseline(root: Path) -> list[list[Record]]:
    """The evaluations of each seed of a baseline, `root`/seed*/results/curve.json. Raises BadInput if none."""
    paths = sorted(root.glob("seed*/results/curve.json"))
    try:
        found = [json.loads(path.read_text()) for path in paths]
    except ValueError as error:
        raise BadInput(f"A curve below {root} cannot be read: {error}.", "Run that seed again.") from error
    if not found:
        raise BadInput(f"{root} holds no baseline.", "Give what `python -m distwm.baselines ... out=DIR` has written.")
    return found


def _is(row: Record, player: Player) -> bool:
    return (row["policy"], row["mode"]) == player
