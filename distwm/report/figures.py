"""The figures drawn from numbers, one function each. They return None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from distwm.contest import Player
from distwm.report.canvas import BLUE, CORAL, FAINT, INK, POLICY_COLOURS, QUIET, SAGE, SLATE, blank, quiet
from distwm.report.inputs import Arrays, RunFindings
from distwm.report.labels import label_of
from distwm.report.numerals import duration, mean_and_ends
from distwm.returns import Episodes, Row
from distwm.statistics import Interval

DREAMS = (
    ("model", "world model", BLUE),
    ("copy", "copy last frame", SLATE),
    ("shuffled", "shuffled actions", CORAL),
    ("ceiling", "tokenizer alone", SAGE),
)
PACE = {"lr", "updates_per_s", "data_wait", "skipped", "wall_s"}
COUNTS = {"updates", "steps", "retries", "step", "round", "slice"}
BOOKKEEPING = PACE | COUNTS | {"loss"}


def returns(rows: Sequence[Row], played: Mapping[Player, Episodes], reference: Player) -> Figure | None:
    """Every episode as a faint dot, the mean with its interval over them; hollow: the most likely actions."""
    if not rows:
        return None
    figure = blank(5.6, 0.6 + 0.58 * len(rows))
    ax = figure.subplots()
    rng = np.random.default_rng(0)
    for place, row in enumerate(rows):
        colour = POLICY_COLOURS.get(row.policy, INK)
        episodes = np.array([*played[row.policy, row.mode].values()])
        spread = rng.uniform(-0.2, 0.2, len(episodes))
        ax.scatter(episodes, place + spread, s=7, color=colour, alpha=0.18, linewidth=0)
        _dot(ax, row.returns, place, colour, hollow=row.mode == "mode")
    bar = next((row for row in rows if (row.policy, row.mode) == reference), None)
    if bar:
        ax.axvline(bar.returns.mean, color=POLICY_COLOURS.get(bar.policy, INK), linewidth=1, dashes=(4, 3), zorder=0)
    _rows(ax, [label_of(row.policy, row.mode).replace(", ", "\n") for row in rows])
    ax.set_xlabel("return of an episode")
    return figure


def gains(named: Sequence[tuple[str, Interval, str]], reference: str) -> Figure | None:
    """Intervals of gains over the reference: (label, interval, colour) each, above one another, zero marked."""
    if not named:
        return None
    figure = blank(5.6, 0.6 + 0.5 * len(named))
    ax = figure.subplots()
    ax.axvline(0, color=INK, linewidth=1, zorder=0)
    for place, (_, interval, colour) in enumerate(named):
        _dot(ax, interval, place, colour, sign=True)
    _rows(ax, [name for name, _, _ in named])
    ax.set_xlabel(f"gain over {reference} on the same start states")
    return figure


def horizons(open_loop: Arrays) -> Figure | None:
    """PSNR (of the mean squared error over all videos) and foreground error by the number of frames dreamt."""
    if not {"horizon", "mse_model"} <= open_loop.keys():
        return None
    panels = [("mse", "PSNR, dB: higher is better"), ("fg", "foreground error: lower is better")]
    panels = [(kind, title) for kind, title in panels if f"{kind}_model" in open_loop]
    figure = blank(9.6, 3.3)
    for ax, (kind, title) in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        for name, label, colour in DREAMS:
            if (key := f"{kind}_{name}") in open_loop:
                error = np.asarray(open_loop[key], np.float64)
                drawn = -10 * np.log10(np.maximum(error, 1e-10)) if kind == "mse" else error
                ax.plot(open_loop["horizon"], drawn, color=colour, label=label, marker="o", markersize=3)
        ax.set_title(title)
        ax.set_xlabel("frames ahead")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if kind == "fg":
            ax.set_ylim(bottom=0)
        quiet(ax)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=1.4)
    return figure


def losses(run: RunFindings) -> Figure | None:
    """The loss of every training stage."""
    return _curves(losses_of(run))


def losses_of(run: RunFindings) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(stage, steps, losses) of those that have more than one."""
    stages = [(stage, *run.curve(stage, "loss")) for stage in run.stages()]
    return [(stage, steps, values) for stage, steps, values in stages if len(steps) > 1]


def every_curve(run: RunFindings) -> Figure | None:
    """All other figures that were logged, for whoever looks into what went on."""
    curves = []
    for stage in run.stages():
        names = dict.fromkeys(name for r in run.records if r.get("stage") == stage for name in r)
        for name in (name for name in names if name not in BOOKKEEPING):
            steps, values = run.curve(stage, name)
            if len(steps) > 1:
                curves.append((f"{stage}: {name}", steps, values))
    return _curves(curves, columns=4, height=1.7)


def wall_time(run: RunFindings) -> Figure | None:
    """Where the time went."""
    spent = {stage: seconds for stage, seconds in run.wall_s().items() if seconds}
    if not spent:
        return None
    figure = blank(9.6, 0.3 + 0.34 * len(spent))
    ax = figure.subplots()
    ax.barh(range(len(spent)), [*spent.values()], height=0.56, color=BLUE, alpha=0.85)
    for place, seconds in enumerate(spent.values()):
        ax.annotate(duration(seconds), (seconds, place), (6, 0), textcoords="offset points", va="center", color=QUIET)
    _rows(ax, [*spent])
    ax.margins(x=0.12)
    ax.xaxis.set_visible(False)
    ax.spines["bottom"].set_visible(False)
    return figure


def smooth(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Mean over a centred window of that share of all points, cut at the ends."""
    half = int(len(values) * share / 2)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)


def _curves(
    curves: Sequence[tuple[str, np.ndarray, np.ndarray]], columns: int = 3, height: float = 2.2
) -> Figure | None:
    if not curves:
        return None
    columns = min(columns, len(curves))
    lines = -(-len(curves) // columns)
    figure = blank(9.6, height * lines)
    figure.set_layout_engine("constrained", h_pad=0.12, w_pad=0.08)
    axes = np.ravel(figure.subplots(lines, columns, squeeze=False))
    for ax, (title, steps, values) in zip(axes, curves, strict=False):
        ax.plot(steps, values, color=FAINT, linewidth=1)
        ax.plot(steps, smooth(values), color=BLUE, linewidth=1.8)
        positive = values[values > 0]
        if len(positive) == len(values) and values.max() > 20 * values.min():
            ax.set_yscale("log")
        ax.set_title(title, fontsize=10.5 if columns < 4 else 8.5)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.tick_params(labelsize=9 if columns < 4 else 7.5)
        quiet(ax)
    for ax in axes[len(curves) :]:
        ax.set_visible(False)
    return figure


def _dot(ax: Axes, interval: Interval, place: float, colour: str, hollow: bool = False, sign: bool = False) -> None:
    """A mean, its interval, and its value at the right edge."""
    if np.isfinite(interval.low):
        ax.plot([interval.low, interval.high], [place, place], color=colour, linewidth=3, alpha=0.9)
    face = "white" if hollow else colour
    ax.plot(interval.mean, place, "o", color=colour, markerfacecolor=face, markeredgewidth=1.8, markersize=7.5)
    text, _ = mean_and_ends(interval, sign)
    ax.text(1.03, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=10.5)


def _rows(ax: Axes, labels: Sequence[str]) -> None:
    """Names on the left, the first one on top."""
    ax.set_yticks(range(len(labels)), labels, color=INK)
    ax.set_ylim(len(labels) - 0.45, -0.65)
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
