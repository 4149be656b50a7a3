"""How often each policy solved the task, where the suite says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from distwm.contest import Player
from distwm.report.canvas import BLUE, INK, POLICY_COLOURS, blank, quiet
from distwm.report.labels import label_of
from distwm.report.page import Cell
from distwm.statistics import Interval, wilson_interval

Solved = Mapping[Player, Sequence[bool]]
Milestones = Mapping[Player, Sequence[Mapping[str, bool]]]


def shares(solved: Solved) -> dict[Player, Interval]:
    """With their Wilson intervals, in the order in which they played."""
    return {player: wilson_interval(sum(wins), len(wins)) for player, wins in solved.items()}


def figure(solved: Solved) -> Figure | None:
    """A dot and its interval for each policy, from above in the order in which they played."""
    if not solved:
        return None
    drawn = blank(5.6, 0.7 + 0.36 * len(solved))
    ax = drawn.subplots()
    for place, (player, share) in enumerate(shares(solved).items()):
        colour = POLICY_COLOURS.get(player[0], BLUE if "+" in player[0] else INK)
        ax.plot([share.low, share.high], [place, place], color=colour, linewidth=2)
        ax.plot(share.mean, place, "o", color=colour, ms=6)
    ax.set_yticks(range(len(solved)), [label_of(*player) for player in solved])
    ax.set_ylim(len(solved) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel("episodes that solved the task")
    quiet(ax)
    return drawn


def milestones(reached: Milestones) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    """Headers and rows of a table: for each milestone the share of each policy's episodes that reached it."""
    names = dict.fromkeys(name for episodes in reached.values() for one in episodes for name in one)
    found = [
        (Cell(name.replace("_", " ")), *(_share([one.get(name, False) for one in e]) for e in reached.values()))
        for name in names
    ]
    return ("", *(label_of(*player) for player in reached)), found


def _share(reached: Sequence[bool]) -> Cell:
    share = wilson_interval(sum(reached), len(reached))
    return Cell(f"{share.mean:.0%}", f"[{share.low:.0%}, {share.high:.0%}]")


def rows(solved: Solved) -> list[tuple[Cell, ...]]:
    """Of the table: who, share and interval, of how many."""
    return [
        (
            Cell(label_of(*player)),
            Cell(f"{share.mean:.0%}", f"[{share.low:.0%}, {share.high:.0%}]"),
            Cell(f"{sum(solved[player])} of {share.count}"),
        )
        for player, share in shares(solved).items()
    ]
