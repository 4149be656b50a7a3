"""A baseline over several seeds: trained in turns with evaluations, its curve written as our runs write theirs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import IO, Any

import numpy as np

from actors.envs.registry import EnvConfig, episode_spec
from distwm.casting import as_text
from distwm.cluster import ray_cluster
from distwm.commands import output_to
from distwm.config import ClusterConfig, RunConfig
from distwm.overrides import leaves
from distwm.progress import Meter, metered
from distwm.rundir import RunDir, write_atomically
from distwm.sac import SAC, SACConfig
from replay.errors import BadInput

SLICE = 100  # decisions between two looks at the progress
PLAYER = {"stage": "learn", "policy": "sac", "mode": "mode"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    every: int = 5000  # simulator steps
    episodes: int = 5
    seed: int = 1000  # episode k starts as seed + k says, as in `evaluate` of a run

    def __post_init__(self) -> None:
        if min(self.every, self.episodes) < 1 or self.seed < 0:
            raise ValueError("evaluate needs steps and episodes from 1, and a seed from 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineConfig:
    env: EnvConfig = field(default_factory=lambda: EnvConfig(action_repeat=2, pixels=False))
    steps: int = 40_000  # of the simulator, for each seed
    seeds: tuple[int, ...] = (0,)
    out: str = ""
    evaluate: EvaluationConfig = field(default_factory=EvaluationConfig)
    sac: SACConfig = field(default_factory=SACConfig)

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.seeds or min(self.seeds) < 0:
            raise ValueError("a baseline needs steps from 1 and seeds from 0")

    @property
    def slice_steps(self) -> int:
        """Decisions of a slice: evaluations and the end fall between two of them."""
        repeat = self.env.action_repeat
        return max(1, gcd(self.evaluate.every // repeat, self.steps // repeat, SLICE))


def train_all(config: BaselineConfig) -> None:
    """All seeds that are not finished. Raises BadInput if `out` holds another baseline, TryAgain if one works there."""
    if not config.out:
        raise BadInput("There is no place for the results.", "Give out=DIR.")
    _check(config.env)
    place = RunDir(Path(config.out))
    with place.owned(), output_to(place.log) as terminal:
        _claim(place, config)
        missing = [seed for seed in config.seeds if not _done(place, seed).is_file()]
        if not missing:
            terminal.write(f"Every seed is finished: {place.root}\n")
            return
        with ray_cluster(RunConfig(cluster=ClusterConfig(cpus=1))):
            for seed in missing:
                _train(config, place, seed, terminal)
        terminal.write(f"Done: {place.root}\n")


def _check(env: EnvConfig) -> None:
    if all(field.name != "state" for field in episode_spec(env).observations):
        raise BadInput("The baseline reads the simulator's state.", "Set env.state=true, or choose another task.")


def _done(place: RunDir, seed: int) -> Path:
    return place.root / f"seed{seed}" / "done"


def _claim(place: RunDir, config: BaselineConfig) -> None:
    """Seeds may be added later; all else has to stay."""
    path = place.root / "baseline.json"
    mine = {key: as_text(value) for key, value in leaves(config).items() if key not in ("seeds", "out")}
    if not path.is_file():
        write_atomically(path, json.dumps(mine, indent=1))
        return
    there = json.loads(path.read_text())
    different = [
        f"{key} ({there.get(key)} there, {value} here)" for key, value in mine.items() if there.get(key) != value
    ]
    if different:
        raise BadInput(
            f"{place.root} holds a baseline of other settings: {'; '.join(different)}.", "Give another out=DIR."
        )


def _train(config: BaselineConfig, place: RunDir, seed: int, terminal: IO[str]) -> None:
    """One seed from its beginning: what an interrupted attempt left is thrown away."""
    root, repeat = _done(place, seed).parent, config.env.action_repeat
    shutil.rmtree(root, ignore_errors=True)
    (root / "results").mkdir(parents=True)
    sac = SAC(config.sac, config.env, seed, config.slice_steps)
    rows: list[dict[str, Any]] = []
    looks, over = 0, False
    try:
        sac.explore()
        with metered(terminal, f"sac seed {seed}", config.steps, begun=sac.steps * repeat) as meter:
            while not over:
                at = sac.steps * repeat
                over = at >= config.steps
                if at // config.evaluate.every > looks or over:
                    looks = at // config.evaluate.every
                    rows = _evaluated(config, sac, rows, root, meter)
                meter.move(min(at, config.steps))
                if not over:
                    sac.learn()
    finally:
        sac.close()
    _done(place, seed).touch()


def _evaluated(config: BaselineConfig, sac: SAC, rows: list[dict[str, Any]], root: Path, meter: Meter) -> list[Any]:
    first = config.evaluate.seed
    returns = sac.play(range(first, first + config.evaluate.episodes))
    env_steps = sac.steps * config.env.action_repeat
    row = PLAYER | {"decisions": sac.steps, "env_steps": env_steps, "returns": returns}
    rows = [*rows, row]
    write_atomically(root / "results" / "curve.json", json.dumps(rows))
    meter.say(f"{root.name}  {env_steps} steps  return {np.mean(returns):.1f}")
    return rows
