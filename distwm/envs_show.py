"""What `distwm.envs` shows: suites, tasks, one environment; and the settings that it takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

import numpy as np
from rich.console import Console
from rich.table import Table

from actors.envs.flat_action import native_action_space
from actors.envs.registry import SUITES, EnvConfig, info_of, make, spec_of, tasks
from actors.experts import EXPERTS
from distwm.overrides import apply
from replay.errors import BadInput, Missing

SHOWN = 4  # examples of a suite


def configured(task: str, settings: Iterable[str]) -> EnvConfig:
    """The environment's settings from words like `image_size=64` (or `env.image_size=64`). Raises BadInput."""
    given = {}
    for word in settings:
        key, sign, value = word.partition("=")
        if not sign:
            raise BadInput(f"{word!r} is no setting.", "Write settings as key=value, after one task.")
        given[key.removeprefix("env.")] = value
    return apply(EnvConfig(task=task), given)


def every(suites: Iterable[str]) -> list[str]:
    """All tasks of the suites. Raises BadInput, or Missing."""
    return [task for suite in suites for task in tasks(suite)]


def print_suites(stream: IO[str]) -> None:
    """A line for each suite; one that is not installed says what is missing."""
    table = Table("suite", "tasks", "such as")
    for suite in SUITES:
        try:
            found = tasks(suite)
            more = ", ..." if len(found) > SHOWN else ""
            table.add_row(suite, str(len(found)), ", ".join(found[:SHOWN]) + more)
        except Missing as error:
            table.add_row(suite, "-", str(error))
    _print(table, stream)


def print_tasks(suite: str, stream: IO[str]) -> None:
    """A task a line, for people and for pipes."""
    stream.writelines(f"{task}\n" for task in tasks(suite))


def print_info(config: EnvConfig, stream: IO[str]) -> None:
    """What the environment shows, takes and says of itself."""
    env = make(config, seed=0)
    try:
        info, spec = info_of(env), spec_of(env)
        table = Table("", config.task)
        table.add_row("task", info.task_text)
        for field in spec.observations:
            table.add_row(f"observation {field.name!r}", f"{list(field.shape)} {field.dtype}")
        table.add_row("action", f"[{spec['action'].shape[0]}] float32 in [-1, 1]")
        table.add_row("native action", str(native_action_space(env)))
        seconds = info.max_steps / info.fps
        table.add_row("episode", f"{info.max_steps} decisions at most, {info.fps:.4g} a second: {seconds:.4g} s")
        table.add_row("expert", "yes" if config.task in EXPERTS else "no")
        table.add_row("bytes a step", str(_bytes(spec.observations) + 4 * spec["action"].shape[0]))
        _print(table, stream)
    finally:
        env.close()


def _bytes(fields: Sequence) -> int:
    return sum(int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize for field in fields)


def _print(table: Table, stream: IO[str]) -> None:
    console = Console(file=stream, highlight=False, markup=False)
    console.width = max(console.width, 120)
    console.print(table)
