"""Timing two sides fairly: in one process, on as many threads, turn by turn, so that a busy machine slows both."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch


def turns(
    sides: Mapping[str, Callable[[], object]], repetitions: int, clock: Callable[[], float] | None = None
) -> dict[str, list[float]]:
    """Seconds of each call by side: one call to warm up, then turn by turn, the order reversed each time."""
    if clock is None:  # one thread's own time, where there is one: what else runs on the machine does not count
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for number in range(repetitions):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            begun = clock()
            sides[name]()
            seconds[name].append(clock() - begun)
    return seconds


def ratio(other: Sequence[float], ours: Sequence[float]) -> float:
    """How many times faster we are: the median over turns, each against its neighbour."""
    return median(a / b for a, b in zip(other, ours, strict=True))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def arguments(description: str | None) -> argparse.Namespace:
    """--threads and --repetitions of a bench that runs as a script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=0, help="0 = the bench's own number")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return given
