"""One report over several training seeds: a verdict that reaches beyond the one run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from distwm.contest import Player
from distwm.overrides import flatten
from distwm.report import curves, figures, page
from distwm.report.canvas import INK, POLICY_COLOURS, style
from distwm.report.command import command_of
from distwm.report.drawn import draw
from distwm.report.inputs import Record, RunFindings, read_run
from distwm.report.labels import describe, label_of
from distwm.report.numerals import duration, mean_and_ends, number
from distwm.report.page import Cell
from distwm.report.verdict import verdict_of_study
from distwm.report.write import dream_card, gain_cell
from distwm.returns import differences
from distwm.rundir import differences as other_settings
from distwm.rundir import write_atomically
from distwm.statistics import Interval, hierarchical_gain, over_seeds, t_interval
from replay.errors import BadInput


def write_study(dirs: Sequence[Path], out: Path | None = None, baselines: Sequence[Path] = ()) -> Path:
    """Writes `out`/index.html (default: report/ beside the runs) over runs that differ in their training seed.

    `baselines` are directories that `python -m distwm.baselines` has written; they are drawn beside the runs.
    Raises BadInput if one is not a run directory, or if they are not one configuration under different seeds.
    """
    runs = [read_run(path) for path in dirs]
    _check(runs)
    folder = out or dirs[0].parent / "report"
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        text = _page(runs, folder, [curves.read_baseline(path) for path in baselines])
    write_atomically(folder / "index.html", text)
    return folder / "index.html"


def _check(runs: list[RunFindings]) -> None:
    seeds = [run.seed for run in runs]
    if len({*seeds}) < len(seeds):
        raise BadInput(f"Training seeds {seeds} are not all different.", "Give each training seed once.")
    first, *others = [{k: v for k, v in flatten(run.config).items() if k != "seed"} for run in runs]
    for run, settings in zip(runs[1:], others, strict=True):
        if found := other_settings(first, settings):
            raise BadInput(
                f"{run.root} differs from {runs[0].root} in more than its seed: {'; '.join(found)}.",
                "Give runs of one configuration.",
            )


def _page(runs: list[RunFindings], folder: Path, baselines: list[list[list[Record]]]) -> str:
    first = runs[0]
    pooled = (
        "Mean over training seeds. Hierarchical bootstrap: seeds, then episodes. The t interval counts each seed once."
    )
    body = [
        page.pair(
            dream_card(first),
            page.card(
                f"Gain over {label_of(*first.contest.reference)}",
                "By training seed, and over all.",
                draw(folder, "gains", _gains(runs)),
            ),
        ),
        _learning_curves(runs, folder, baselines),
        page.card("Over all seeds", pooled, _over_all(runs)),
        page.card("Seed by seed", "95% t intervals over paired episodes.", _by_seed(runs, folder)),
        page.card("Gates", "Held-out figures of every seed; red where the gate was missed.", _gates(runs)),
        page.details("The command of the first seed", page.code(command_of(first.root / "config.yaml"))),
        page.details("The configuration of the first seed", page.code(first.config_text)),
    ]
    kicker = f"distwm · {first.config.get('recipe', 'run')} · {first.task} · size {first.config.get('size', '?')}"
    seeds = ", ".join(str(run.seed) for run in runs)
    title = f"{first.task}, {len(runs)} seeds"
    return page.page(title, f"{kicker} · training seeds {seeds}", verdict_of_study(runs), body)


def _learning_curves(runs: list[RunFindings], folder: Path, baselines: list[list[list[Record]]]) -> str:
    """The curves over seeds, and a line for each seed with the best of its last evaluations."""
    entrants = [[run.evaluations for run in runs], *baselines]
    named = [(line, seeds) for seeds in entrants for line in curves.lines_over(seeds)]
    rows = []
    for line, seeds in named:
        best = [value for seed in seeds if (value := curves.best_of_last(seed, line.player)) is not None]
        shown = (", ".join(map(number, best)), number(float(np.median(best))))
        rows.append((Cell(line.label), *map(Cell, shown), Cell(*mean_and_ends(t_interval(best)))))
    few = f"fewer than {curves.FEW} seeds are drawn each as well, faintly"
    text = f"Evaluations on the way: means with 95% t intervals over training seeds; {few}."
    headers = ("policy", f"best of the last {curves.LAST} evaluations, by seed", "median", "mean [t interval]")
    figure = curves.learning_curve([line for line, _ in named], curves.flat_of(runs))
    return page.card(
        "Learning curves",
        text,
        draw(folder, "learning_curves", figure, curves.numbers([line for line, _ in named])),
        page.table(headers, rows),
    )


def _all_gains(runs: list[RunFindings], ours: Player, theirs: Player) -> dict[int, np.ndarray]:
    """Paired differences by training seed, where both have played."""
    found = {run.seed: differences(run.played, ours, theirs) for run in runs}
    return {seed: gains for seed, gains in found.items() if len(gains)}


def _gains(runs: list[RunFindings]) -> Figure | None:
    contest, named = runs[0].contest, list[tuple[str, Interval, str]]()
    for ours in filter(None, (contest.subject, contest.control)):
        gains, name = _all_gains(runs, ours, contest.reference), label_of(*ours)
        colour = POLICY_COLOURS.get(ours[0], INK)
        named += [(f"{name}, seed {seed}", t_interval(g), colour) for seed, g in gains.items()]
        if len(gains) > 1:
            named.append((f"{name}, all seeds", hierarchical_gain([*gains.values()]), INK))
    return figures.gains(named, label_of(*contest.reference))


def _over_all(runs: list[RunFindings]) -> str:
    contest, rows = runs[0].contest, []
    for ours, theirs in [*contest.pairs, *((other, contest.subject) for other in _others(runs))]:
        gains = [*_all_gains(runs, ours, theirs).values()]
        if len(gains) > 1:
            pooled, over = hierarchical_gain(gains), over_seeds(gains)
            wins = sum(float(g.mean()) > 0 for g in gains)
            rows.append(
                (
                    Cell(f"{label_of(*ours)} over {label_of(*theirs)}"),
                    gain_cell(pooled),
                    Cell(mean_and_ends(over)[1]),
                    Cell(f"{wins} of {len(gains)}"),
                )
            )
    headers = ("", "mean gain [hierarchical bootstrap]", "t interval over seeds", "seeds with a gain")
    return page.table(headers, rows)


def _others(runs: list[RunFindings]) -> list[Player]:
    """Who played besides those that were to be compared: a planner, say, beside its policy."""
    known = runs[0].contest.players
    return [*dict.fromkeys(player for run in runs for player in run.played if player not in known)]


def _by_seed(runs: list[RunFindings], folder: Path) -> str:
    contest = runs[0].contest
    players = [*dict.fromkeys(player for run in runs for player in run.played)]
    rows = []
    for run in runs:
        means = [t_interval([*e.values()]) if (e := run.played.get(player)) else None for player in players]
        gains = differences(run.played, contest.subject, contest.reference)
        page_of_run = run.root / "report" / "index.html"
        rows.append(
            (
                Cell(str(run.seed), link=os.path.relpath(page_of_run, folder) if page_of_run.is_file() else ""),
                *(Cell(number(mean.mean)) if mean else Cell("–") for mean in means),
                gain_cell(t_interval(gains) if len(gains) else None),
                Cell(duration(sum(run.wall_s().values()))),
            )
        )
    headers = ("seed", *(label_of(*p) for p in players), f"gain of the {label_of(*contest.subject)}", "wall time")
    return page.table(headers, rows)


def _gates(runs: list[RunFindings]) -> str:
    """One line a figure, one column a seed."""
    asked = {(s, m): v["threshold"] for run in runs for s, found in run.gates.items() for m, v in found.items()}
    rows = [
        (
            Cell(stage),
            Cell(metric, describe(metric)),
            Cell(threshold),
            *(_gate_cell(run, stage, metric) for run in runs),
        )
        for (stage, metric), threshold in asked.items()
    ]
    return page.table(("stage", "figure", "asked for", *(f"seed {run.seed}" for run in runs)), rows)


def _gate_cell(run: RunFindings, stage: str, metric: str) -> Cell:
    verdict = run.gates.get(stage, {}).get(metric)
    if verdict is None:
        return Cell("–")
    return Cell(number(verdict["value"]), tone="good" if verdict["passed"] else "bad")
