"""What half an hour of faults showed: the criteria and the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from audit import Audit

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SLOPE_MB_PER_MINUTE = 1.0
WARM_UP = 0.3  # of the time: until caches, arena and budget are full
LASTING = ("w0", "r0")  # processes that nobody kills
CLIENTS = 3  # connections that a server may have more or less, as its clients come back from a fault
Line = Mapping[str, Any]


def criteria(history: Sequence[Line], audits: Sequence[Audit], logs: Mapping[str, str]) -> list[tuple[bool, str]]:
    """(whether it holds, what was found) of each."""
    counts = {what: sum(len(getattr(a, what)) for a in audits) for what in ("lost", "duplicates", "torn")}
    last = audits[-1]
    batches = sum(_grown([line["batches"][r] for line in history]) for r in history[-1]["batches"])
    found = [(not n, f"{what}: {n} in {len(audits)} audits") for what, n in counts.items()]
    found.append((last.acknowledged > 0, f"{last.acknowledged} chunks were acknowledged, {last.evicted} evicted since"))
    found.append((not logs and batches > 0, f"counting invariant in {batches} batches: {logs or 'always held'}"))
    for name in history[-1]["processes"]:
        found += _usage(name, history, name in LASTING or name.startswith("redis"))
    return found


def _usage(name: str, history: Sequence[Line], counts: bool) -> list[tuple[bool, str]]:
    begin = WARM_UP * history[-1]["t"]
    samples = [(line["t"], *line["processes"][name]) for line in history if name in line["processes"]]
    t, rss, fds = np.array([s for s in samples if s[0] > begin]).T
    slope = float(np.polyfit(t / 60, rss, 1)[0])
    third = max(1, len(fds) // 3)
    before, after = float(np.median(fds[:third])), float(np.median(fds[-third:]))
    more = CLIENTS if name.startswith("redis") else 0
    note = "" if counts else " (killed now and then: does not count)"
    return [
        (not counts or slope < SLOPE_MB_PER_MINUTE, f"{name}: memory {rss[-1]:.0f} MiB, {slope:+.2f} MiB/min{note}"),
        (not counts or after <= before + more, f"{name}: open files {before:g} at first, {after:g} at last{note}"),
    ]


def _grown(values: Sequence[int]) -> int:
    """Sum of what a count grew by; it begins at 0 again when its process does."""
    return int(sum(b - a if b >= a else b for a, b in pairwise(values)))


def picture(history: Sequence[Line], path: Path) -> None:
    """Throughput, memory and open files over time; a line where a fault began."""
    t = np.array([line["t"] / 60 for line in history])
    figure, axes = plt.subplots(4, 1, figsize=(11, 11), sharex=True, layout="constrained")
    counts = np.array([[line["acknowledged"][w] for w in history[0]["acknowledged"]] for line in history], float)
    steps = np.maximum(np.diff(counts, axis=0), 0).sum(1)  # a count begins again with its process
    axes[0].plot(
        t[5:], [steps[i : i + 5].sum() / (60 * (t[i + 5] - t[i])) for i in range(len(t) - 5)], color="tab:blue"
    )
    axes[0].set_ylabel("acknowledged steps/s")
    axes[1].plot(t, [sum(line["waiting"].values()) for line in history], color="tab:red")
    axes[1].set_ylabel("chunks waiting")
    for name in history[-1]["processes"]:
        values = [line["processes"].get(name, (np.nan, np.nan)) for line in history]
        axes[2].plot(t, [v[0] for v in values], label=name)
        axes[3].plot(t, [v[1] for v in values], label=name)
    axes[2].set_ylabel("resident MiB")
    axes[3].set_ylabel("open files")
    axes[3].set_xlabel("minutes")
    axes[2].legend(ncols=4, fontsize="small")
    for line in history:
        for axis in axes if "fault" in line else ():
            axis.axvline(line["t"] / 60, color="0.8", linewidth=0.6, zorder=0)
    figure.savefig(path, dpi=110)
    plt.close(figure)
