"""What is to be collected: tasks with their runners and policies, how much of each, and the settings for all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from actors.behaviour import BehaviourConfig
from actors.envs.libero import SUITES as LIBERO
from actors.envs.registry import SUITES, EnvConfig, unknown
from actors.envs.registry import tasks as tasks_of
from actors.experts import EXPERTS
from actors.fleet import FleetConfig
from actors.policies import PolicySpec
from actors.runner import RunnerConfig, episode_stream
from actors.sources.source import SourceConfig
from distwm import presets
from distwm.config import ClusterConfig, RunConfig, parse_overrides
from distwm.overrides import apply, flatten
from replay.config import ReplayConfig
from replay.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectConfig:
    """The settings of `python -m distwm.collect`, for all tasks."""

    out: str = ""  # of the replay, the manifest and the log; empty = runs/<name>-<suite> of a collection with a name
    suite: str = ""  # all its tasks, beside those that are named: dmc, libero/libero_spatial, or libero_spatial
    tasks: tuple[str, ...] = ()  # of the suite; empty = all
    policy: str = ""  # who acts in the suite; empty = the task's own expert, disturbed, or noise
    runners: int = 1  # of each task of the suite
    at_once: int = 0  # tasks that are played at the same time; 0 = all
    videos: int = 2  # films of so many successes and so many failures of each task, where pictures are collected
    episodes: int = 0  # of each task; 0 = as many as `minutes` allows
    minutes: float = 0.0  # of collecting, interruptions left out; 0 = until all episodes are there
    seed: int = 0  # of episodes and noise: an episode is fixed by it, its number and the settings
    stop_s: float = 10.0  # after a signal, for the episodes under way to end
    env: EnvConfig = field(default_factory=EnvConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    runner: RunnerConfig = field(default_factory=lambda: RunnerConfig(envs_per_runner=1, streams="episode"))
    fleet: FleetConfig = field(default_factory=FleetConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if min(self.seed, self.episodes, self.minutes, self.stop_s, self.at_once, self.videos) < 0:
            raise ValueError("seed, episodes, minutes, stop_s, at_once and videos cannot be negative")
        if self.runners < 1:
            raise ValueError("runners must be at least 1")
        if self.tasks and not self.suite:
            raise ValueError("tasks are those of a suite: give suite as well")
        if self.runner.streams != "episode":
            raise ValueError("runner.streams must be episode here: it tells which episodes are stored")

    def as_run(self) -> RunConfig:
        """What those who start Ray and the replay of a run want to know."""
        return RunConfig(seed=self.seed, run_dir=self.out, replay=self.replay, cluster=self.cluster, env=self.env)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One task, played by some runners with one policy."""

    task: str
    policy: str
    runners: int = 1

    @property
    def key(self) -> str:
        """Names the order: `dmc/walker_walk=random`."""
        return f"{self.task}={self.policy}"

    @property
    def spec(self) -> PolicySpec:
        return PolicySpec(name=self.policy)

    def stream(self, number: int) -> str:
        """Where the replay has the episode of that number; the runner calls it so too."""
        return episode_stream(self.policy, number)

    def env(self, config: CollectConfig) -> EnvConfig:
        return replace(config.env, task=self.task)

    def run(self, name: str) -> str:
        """The replay run of the task: mixed.dmc.walker_walk. Policies of one task share it."""
        return f"{name}.{plain(self.task)}"


def parse(words: Sequence[str]) -> tuple[CollectConfig, tuple[Order, ...]]:
    """Settings and orders. Raises BadInput for a word that is neither, an unknown setting, or an order given twice."""
    tasks = [word for word in words if "/" in word.partition("=")[0]]
    names = [word for word in words if "=" not in word and word not in tasks]
    given = parse_overrides([word for word in words if word not in (*tasks, *names)])
    if "env.task" in given:
        raise BadInput("Tasks are not settings here.", f"Write {given['env.task']} as a word, without env.task=.")
    for name in names:
        given = flatten(presets.read(presets.collection_path(name))) | given
    config = apply(CollectConfig(), given)
    if names and not config.out:
        config = replace(config, out=_default_out(names, config.suite))
    orders = (*map(_order, tasks), *_of_suite(config))
    for place, order in enumerate(orders):
        if order.key in [other.key for other in orders[:place]]:
            raise BadInput(f"{order.key} is given twice.", f"Write {order.task}:RUNNERS={order.policy} once.")
    return config, orders


def check(config: CollectConfig, orders: Sequence[Order]) -> None:
    """Raises BadInput if it is not said what to collect, how much of it, or where to."""
    if not orders:
        raise BadInput("There is no task to collect.", "Name one, such as dmc/walker_walk:2.")
    if not config.out:
        raise BadInput("It is not said where to collect to.", "Add out=DIR.")
    if not config.episodes and not config.minutes:
        raise BadInput("It is not said how much to collect.", "Add episodes=N of each task, or minutes=N.")


def _default_out(names: Sequence[str], suite: str) -> str:
    """runs/<name>-<suite>: runs/pi05-libero_spatial."""
    parts = [*names, suite.rpartition("/")[2]]
    return f"runs/{plain('-'.join(filter(None, parts)))}"


def plain(text: str) -> str:
    """Letters that suit a replay's keys and a shell."""
    return re.sub(r"[^\w.-]+", "-", text.replace("/", "."))


def base_name(out: Path) -> str:
    """What the runs in a directory are called by."""
    return plain(out.name) or "collect"


def _order(word: str) -> Order:
    name, equals, policy = word.partition("=")
    task, colon, runners = name.rpartition(":")
    if not colon:
        task, runners = name, "1"
    if not runners.isascii() or not runners.isdigit() or int(runners) < 1:
        raise BadInput(f"{word!r} asks for {runners!r} runners.", "Write TASK:2, or TASK alone for one.")
    if equals and not policy:
        raise BadInput(f"{word!r} names no policy.", "Write TASK=random, or TASK alone.")
    return Order(task=task, policy=policy or default_policy(task), runners=int(runners))


def _of_suite(config: CollectConfig) -> list[Order]:
    """One for each task of `config.suite`."""
    if not config.suite:
        return []
    suite = config.suite if config.suite.partition("/")[0] in SUITES else f"libero/{config.suite}"
    known = [task for task in tasks_of(suite.partition("/")[0]) if task.startswith(f"{suite}/")]
    if not known:
        raise BadInput(f"There is no suite {config.suite!r}.", f"Choose one of: {', '.join((*SUITES, *LIBERO))}.")
    wanted = [f"{suite}/{task}" for task in config.tasks] or known
    if missing := [task for task in wanted if task not in known]:
        raise unknown("task", missing[0], known)
    ordered = sorted(wanted, key=known.index)
    return [Order(task=t, policy=config.policy or default_policy(t), runners=config.runners) for t in ordered]


def number_of(order: Order, stream: str) -> int | None:
    """The number of the order's episode that the stream holds; None for streams of others."""
    number = stream.rpartition("/")[2]
    mine = number.isascii() and number.isdigit() and order.stream(int(number)) == stream
    return int(number) if mine else None


def default_policy(task: str) -> str:
    """The disturbed expert where the task has one, else noise."""
    return "behaviour" if task.partition("@")[0] in EXPERTS else "random"
