"""The configuration of a run: dataclasses <- recipe (YAML) <- size (YAML) <- overrides from the command line."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from actors.envs.registry import EnvConfig
from actors.fleet import FleetConfig
from actors.policies import BehaviourConfig
from actors.runner import RunnerConfig
from actors.sources.source import SourceConfig
from distwm import presets
from distwm.evaluate import EvaluateConfig, policy_spec
from distwm.overrides import apply, flatten, leaves
from distwm.recipe import PlannedStage, StageConfig, plan
from learners.learner import LearnerConfig
from learners.system import SYSTEMS
from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.shards.address import public

# What a command line may call a setting: its key, and its value written out.
SHORT: Mapping[str, tuple[str, str]] = {
    "env": ("env.task", "{}"),
    "stages": ("only", "{}"),
    "data": ("replay.mixture", "{}=1.0"),  # recorded data alone
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Where the figures go, besides metrics.jsonl."""

    every_s: float = 10.0  # between two lines where the output is not a terminal
    tensorboard: bool = True
    wandb: bool = False  # offline unless WANDB_MODE says otherwise
    wandb_project: str = "distwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What the driver asks of Ray."""

    cpus: int = 0  # of a Ray that we start ourselves; 0 = the cores of this machine
    object_store_bytes: int = 512 * 2**20  # of a Ray that we start ourselves
    driver_cpus: float = 0.2
    cpus_per_learner: float = 1.0
    start_timeout_s: float = 180.0  # until learners and runners must be there
    stop_timeout_s: float = 60.0  # for the final checkpoint after a signal
    max_failures: int = 3  # crashes of the pipeline before the run gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that `python -m distwm.run` can be told. The algorithm's own settings have no prefix."""

    recipe: str = "dreamer4"
    algorithm: str = ""  # a name of learners.system.SYSTEMS or "module:ConfigClass"; empty = the recipe's name
    size: str = "cpu"  # configs/size/<recipe>_<size>.yaml
    only: tuple[str, ...] = ()  # stages of the recipe that are gone through; empty = all. `stages=a,b` means the same
    seed: int = 0
    run_dir: str = ""  # empty = runs/<recipe>-<task>-seed<seed>
    rounds: int = 1  # how often the plan is gone through; later rounds collect with the improved policy
    gates: Literal["extend", "strict", "off"] = "extend"  # a gate that is not passed: extend, then go on | then stop
    checkpoint_every_s: float = 60.0  # also after each stage, after episodes of an online one, and on a signal
    keep_checkpoints: int = 2
    env: EnvConfig = field(default_factory=EnvConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    system: Any = field(default=None, metadata={"flatten": True})  # the algorithm's configuration
    stages: Mapping[str, StageConfig] = field(default_factory=dict)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    log: LogConfig = field(default_factory=LogConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.keep_checkpoints < 1:
            raise ValueError("rounds and keep_checkpoints must be at least 1")
        if self.seed < 0:
            raise ValueError("seed cannot be negative")
        if missing := [name for name in self.only if self.stages and name not in self.stages]:
            raise ValueError(f"there is no stage {missing[0]!r}; there are {', '.join(self.stages)}")
        for policy in self.policies:
            policy_spec(policy)

    @property
    def policies(self) -> tuple[str, ...]:
        """Every policy that will act, with its mode."""
        stages = [planned.config for planned in self.plan]
        acting = [name for stage in stages for name in stage.policies]
        evaluated = self.evaluate.policies if any(stage.kind == "evaluate" for stage in stages) else ()
        return (*dict.fromkeys((*acting, *evaluated)),)

    @property
    def plays(self) -> bool:
        """Whether any stage needs the environment."""
        return bool(self.policies)

    @property
    def plan(self) -> list[PlannedStage]:
        wanted = {name: stage for name, stage in self.stages.items() if not self.only or name in self.only}
        return plan(wanted, self.rounds)

    def default_run_dir(self, name: str) -> Path:
        """runs/<recipe>-<task>-<name>, with characters that suit a path."""
        task = self.env.task.removeprefix("dmc/").replace("/", "_")
        return Path("runs") / f"{Path(self.recipe).stem}-{task}-{name}"


def load(recipe: str, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration of a recipe: a name in configs/ or the path of a YAML file. Raises BadInput."""
    path = presets.recipe_path(recipe)
    tree = presets.read(path)
    size = str(overrides.get("size") or tree.get("size") or "cpu")
    sized = presets.read(presets.size_path(path, size))
    return _assemble(recipe, tree, flatten(tree) | flatten(sized) | {"size": size} | {**overrides})


def load_saved(path: Path) -> RunConfig:
    """A configuration as `dump` wrote it. Raises BadInput."""
    tree = presets.read(path)
    return _assemble(str(tree.get("recipe", "")), tree, flatten(tree))


def dump(config: RunConfig) -> str:
    """YAML with every setting, but without secrets."""
    return presets.write(public_leaves(config))


def public_leaves(config: RunConfig) -> dict[str, Any]:
    """Every setting by key, without secrets."""
    return leaves(redacted(config))


def redacted(config: RunConfig) -> RunConfig:
    """`config` without the password of `replay.url`: what may be written and shown."""
    url = ",".join(map(public, config.replay.url.split(","))) if config.replay.url else ""
    return replace(config, replay=replace(config.replay, url=url))


def parse_overrides(words: Sequence[str]) -> dict[str, str]:
    """`key=value` (or `--key=value`) words. Raises BadInput for a word without `=` or a key given twice."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if not equals or not key:
            raise BadInput(f"{word!r} is not an override.", "Write key=value; --help-config lists every key.")
        if key in SHORT:
            key, text = SHORT[key]
            value = text.format(value)
        if key in given:
            raise BadInput(f"{key} is given twice.", "Give every key once.")
        given[key] = value
    return given


def _assemble(recipe: str, tree: Mapping[str, Any], flat: Mapping[str, Any]) -> RunConfig:
    names = tree.get("stages", {})
    algorithm = str(flat.get("algorithm") or Path(recipe).stem)
    base = RunConfig(system=_system_class(algorithm)(), stages={name: StageConfig() for name in names})
    return apply(base, {**flat, "recipe": recipe, "algorithm": algorithm})


def _system_class(algorithm: str) -> type:
    """The algorithm's configuration class. Raises BadInput if there is none of that name."""
    target = algorithm if ":" in algorithm else SYSTEMS.get(algorithm, "")
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(SYSTEMS)
        raise BadInput(
            f"There is no algorithm {algorithm!r} ({error}).", f"Use {known} or module:ConfigClass."
        ) from error
