"""Several full seeds of one configuration, one after the other, and one report over them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping

from distwm.casting import cast
from distwm.config import RunConfig
from distwm.rundir import resolve_run_dir
from replay.errors import BadInput


def run_study(config: RunConfig, recipe: str, given: Mapping[str, str], seeds: str) -> int:
    """Each seed is a run of its own below one directory, in a process of its own: its memory is free for the next one.

    Returns the exit code of the first run that does not end well, else 0. The same command goes on where it stopped.
    """
    numbers = _parse(seeds)
    root = resolve_run_dir(config, "study")
    directories = [root / f"seed{number}" for number in numbers]
    common = [f"{key}={value}" for key, value in given.items() if key not in ("seed", "run_dir")]
    for number, directory in zip(numbers, directories, strict=True):
        sys.stdout.write(f"seed {number} ({numbers.index(number) + 1} of {len(numbers)})\n")
        sys.stdout.flush()
        code = _run_child([recipe, *common, f"seed={number}", f"run_dir={directory}"])
        if code:
            return code
    from distwm.report.study import write_study

    sys.stdout.write(f"Done: {write_study(directories)}\n")
    return 0


def _parse(seeds: str) -> tuple[int, ...]:
    try:
        numbers: tuple[int, ...] = cast(tuple[int, ...], seeds)
    except ValueError as error:
        raise BadInput(f"seeds: {error}.", "Write seeds=0,1,2.") from error
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise BadInput(f"seeds={seeds} is not a list of different seeds.", "Write seeds=0,1,2.")
    return numbers


def _run_child(words: list[str]) -> int:
    """The exit code of `python -m distwm.run <words>`. Signals are passed on, and its last checkpoint awaited."""
    child = subprocess.Popen([sys.executable, "-m", "distwm.run", *words], start_new_session=True)
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _: child.send_signal(n)) for number in numbers}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code
