"""What a mixed collection under kills showed: the table and the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixed_audit import Found

from distwm.report.canvas import BLUE, CORAL, FAINT, QUIET, SAGE, blank, quiet, style

HEAD = (
    *("task=policy", "episodes", "steps", "steps/s", "mean return", "kills: runner", "environment"),
    *("recovered", "beginnings", "the same again", "alike", "starts checked", "broken"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One SIGKILL, at so many seconds of collecting."""

    at_s: float
    task: str
    what: str  # runner or environment


def table(found: Sequence[Found], kills: Sequence[Kill]) -> Iterator[str]:
    """Markdown, a line an order."""
    yield "| " + " | ".join(HEAD) + " |"
    yield "| --- " + "| ---: " * (len(HEAD) - 1) + "|"
    for one in found:
        mine = [kill.what for kill in kills if kill.task == one.key.partition("=")[0]]
        rate = one.steps / one.times[-1][0] if one.times else 0.0
        cells = [one.key, f"{one.episodes:,}", f"{one.steps:,}", f"{rate:,.1f}", f"{one.returned:.3g}"]
        cells += [str(n) for n in (mine.count("runner"), mine.count("environment"), one.recovered)]
        cells += [str(n) for n in (one.beginnings, one.same, one.alike, one.starts, len(one.wrong))]
        yield "| " + " | ".join(cells) + " |"


def picture(found: Sequence[Found], kills: Sequence[Kill], path: Path) -> None:
    """Steps of whole episodes over time, a panel a task; its own kills in colour, those of the others faint."""
    with style():
        figure = blank(10, 2.1 * len(found))
        axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)[:, 0]
        for ax, one in zip(axes, found, strict=True):
            task = one.key.partition("=")[0]
            for kill in kills:
                mine = kill.task == task
                colour = (CORAL if kill.what == "runner" else SAGE) if mine else FAINT
                ax.axvline(kill.at_s / 60, color=colour, linewidth=1.4 if mine else 0.8, zorder=1 if mine else 0)
            times, steps = [0.0, *(at / 60 for at, _ in one.times)], [0, *(count for _, count in one.times)]
            ax.step(times, steps, where="post", color=BLUE, zorder=2)
            ax.set_title(f"{one.key}: {one.episodes:,} episodes, {one.steps:,} steps, {len(one.wrong)} wrong")
            ax.set_ylim(bottom=0)
            quiet(ax)
        axes[-1].set_xlabel("minutes")
        axes[0].annotate("kill -9 of its runner", (0.83, 1.06), xycoords="axes fraction", ha="right", color=CORAL)
        axes[0].annotate("of its environment", (1, 1.06), xycoords="axes fraction", ha="right", color=SAGE)
        figure.supylabel("steps of whole episodes", color=QUIET, fontsize=10.5)
        figure.savefig(path, dpi=110)
