"""How every figure of a report looks: the palette, quiet axes, and SVG whose letters stay letters."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK, QUIET, FAINT, PAPER = "#22303c", "#73808c", "#dfe3e6", "#ffffff"
BLUE, SAND, CORAL, SAGE, SLATE = "#2a6f97", "#c9a66b", "#d1603d", "#5f9e7f", "#9aa7b2"

POLICY_COLOURS: Mapping[str, str] = {
    "random": SLATE,
    "behaviour": SAND,
    "bc": SAGE,
    "policy": BLUE,
    "mppi": SAND,
    "sac": SAGE,
    "control": CORAL,
}

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Helvetica Neue", "Segoe UI", "Liberation Sans", "Arial", "DejaVu Sans"],
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "distwm",  # the same figures give the same file
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 9,
    "axes.formatter.useoffset": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eef0f2",
    "grid.linewidth": 1.0,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's settings for the figures made inside."""
    with mpl.rc_context(STYLE):
        yield


def blank(width: float, height: float) -> Figure:
    """An empty figure of that many inches, without pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def quiet(ax: Axes) -> None:
    """No frame but the bottom line; horizontal grid lines only."""
    ax.spines["left"].set_visible(False)
    ax.grid(False, axis="x")


def as_svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
