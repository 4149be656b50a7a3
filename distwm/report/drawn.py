"""A picture of a report: a piece of HTML, a PNG, and where they are given the numbers in it as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from distwm.report import page
from distwm.report.canvas import as_svg
from distwm.rundir import write_atomically

Numbers = Mapping[str, Any]  # arrays, numbers, words, and mappings of them


class Draw(Protocol):
    """`draw` into the folder of a report."""

    def __call__(self, name: str, figure: Figure | None, numbers: Numbers | None = None) -> str: ...


def draw(folder: Path, name: str, figure: Figure | None, numbers: Numbers | None = None) -> str:
    """Saves a figure as `<name>.png`, its numbers as `<name>.json`, and returns it as a piece of HTML."""
    if figure is None:
        return ""
    if numbers is not None:
        save(folder, name, numbers)
    svg = as_svg(figure)
    figure.set_layout_engine("none")  # the layout stays as it is: finding it is the slow part
    figure.savefig(folder / f"{name}.png", dpi=150)
    return page.picture(svg, name.replace("_", " "))


def save(folder: Path, name: str, numbers: Numbers) -> None:
    write_atomically(folder / f"{name}.json", json.dumps(_plain(numbers), indent=1) + "\n")


def _plain(value: Any) -> Any:
    """What JSON has. A number that is not finite is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
