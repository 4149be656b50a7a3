"""Tries the contract of an environment, and measures how fast it steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from actors.contract import CLAUSES, Bench, CheckConfig
from actors.envs.flat_action import native_action_space
from actors.envs.registry import EnvConfig
from actors.hosting.errors import HostedEnvError
from actors.hosting.hosted import HostedEnv
from replay.errors import BadInput, DistwmError, Missing

SPANS = 10  # of a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. Rates are decisions a second, without the time that resets took; see `_rate`."""

    task: str
    problems: tuple[str, ...] = ()
    missing: str = ""  # what the machine lacks, and the mend
    observations: str = ""
    actions: str = ""
    max_steps: int = 0
    state_per_s: float = 0.0
    pixels_per_s: float = 0.0
    reset_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.problems and not self.missing


def check(config: EnvConfig, settings: CheckConfig | None = None) -> Report:
    """Tries every clause of the contract, and measures rates if all are kept. Raises BadInput for a configuration that
    names nothing."""
    bench = Bench(config, settings or CheckConfig())
    report = Report(task=config.task)
    try:
        report = replace(report, problems=tuple(_problems(bench)))
        return report if report.problems else _measured(_described(report, bench), bench)
    except HostedEnvError as error:
        return replace(report, problems=(f"it broke: {error}",))
    except Missing as error:
        return replace(report, missing=str(error))
    finally:
        bench.close()


def _problems(bench: Bench) -> Iterator[str]:
    """The distinct problems of each clause. A simulator that breaks is the last one."""
    for clause in CLAUSES:
        found: dict[str, None] = {}
        try:
            for problem in clause(bench):
                if problem not in found:
                    yield problem
                found[problem] = None
        except Exception as error:
            if isinstance(error, DistwmError) and not isinstance(error, HostedEnvError):
                raise  # else it is the simulator's: they fail in every way there is
            yield f"it broke when tried whether it {clause.__name__.replace('_', ' ')}: {type(error).__name__}: {error}"
            return


def brief(space: spaces.Space) -> str:
    """A space in a few words: `Discrete(3) x (3 Box(1))`."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = [brief(one) for one in (space.values() if isinstance(space, spaces.Dict) else space)]
        counts = {part: parts.count(part) for part in parts}
        words = [part if count == 1 else f"{count} {part}" for part, count in counts.items()]
        return f"({' x '.join(words)})"
    size = getattr(space, "n", None) or ",".join(map(str, space.shape or ()))
    return f"{type(space).__name__}({size})"


def _described(report: Report, bench: Bench) -> Report:
    found = bench.seen.observation_space
    fields = found.items() if isinstance(found, spaces.Dict) else ()
    shapes = " ".join(f"{name}{list(space.shape or ())}" for name, space in fields)
    actions = brief(native_action_space(bench.seen))
    return replace(report, observations=shapes, actions=actions, max_steps=bench.info.max_steps)


def _measured(report: Report, bench: Bench) -> Report:
    if not bench.settings.measure_s:
        return report
    state_per_s, reset_s = _rate(bench, bench.blind)
    report = replace(report, state_per_s=state_per_s, reset_s=reset_s)
    return replace(report, pixels_per_s=_rate(bench, bench.seen)[0]) if bench.config.pixels else report


def _rate(bench: Bench, env: gymnasium.Env) -> tuple[float, float]:
    """Decisions a second of random actions in the fastest of ten spans, which says most of the environment and least of
    what else runs on the machine; and the seconds of the fastest reset."""
    clock = _clock(bench, env)
    actions = itertools.cycle([action.astype(np.float32) for action in bench.actions(64)])
    rates: list[float] = []
    resets: list[float] = []
    over = True
    for _ in range(SPANS):
        steps, stepping = 0, 0.0
        while stepping < bench.settings.measure_s / SPANS:
            if over:
                resets.append(_timed(clock, partial(env.reset, seed=len(resets)))[1])
            (*_, terminated, truncated, _), seconds = _timed(clock, partial(env.step, next(actions)))
            over, steps, stepping = terminated or truncated, steps + 1, stepping + seconds
        rates.append(steps / stepping)
    return max(rates), min(resets)


def _clock(bench: Bench, env: gymnasium.Env) -> Callable[[], float]:
    if bench.settings.clock == "wall":
        return time.perf_counter
    if isinstance(env.unwrapped, HostedEnv):
        raise BadInput(f"{bench.config.task} steps in another process than this one.", "Measure it with --clock wall.")
    return time.process_time


def _timed(clock: Callable[[], float], call: Callable[[], Any]) -> tuple[Any, float]:
    start = clock()
    return call(), clock() - start
