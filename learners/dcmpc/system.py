"""DC-MPC as one system: its networks, the one objective that trains them all, the agents that come out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from learners.agent import Agent
from learners.dcmpc.batches import width
from learners.dcmpc.critics import Critics, CriticsConfig
from learners.dcmpc.exploration import ExplorationConfig
from learners.dcmpc.mppi import MPPIConfig
from learners.dcmpc.planner import Follower, Planner
from learners.dcmpc.policy import Policy, PolicyConfig
from learners.dcmpc.targets import Targets
from learners.dcmpc.train import DCMPCObjective, TrainConfig
from learners.dcmpc.world import World, WorldConfig
from learners.system import Objective
from replay.schema import EpisodeSpec

OBJECTIVE = "dcmpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class DCMPCConfig:
    """The defaults are those of the paper's code for easy tasks, but for rewards, which it squashes there."""

    observation: str = "state"  # a vector
    world: WorldConfig = field(default_factory=WorldConfig)
    critics: CriticsConfig = field(default_factory=CriticsConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mppi: MPPIConfig = field(default_factory=MPPIConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)

    def build(self, spec: EpisodeSpec) -> DCMPC:
        return DCMPC(self, spec)


class DCMPC(nn.Module):
    """Objective: dcmpc. Agents: mppi, which plans, and policy, which does not."""

    def __init__(self, config: DCMPCConfig, spec: EpisodeSpec) -> None:
        super().__init__()
        self.config = config
        (actions,) = spec["action"].shape
        self.world = World(config.world, width(spec, config.observation), actions)
        self.critics = Critics(config.critics, self.world.width, actions)
        self.policy = Policy(config.policy, self.world.width, actions)
        self.targets = Targets(self.critics, self.policy, config.train.tau)
        optim = {"world": config.world.optim, "critics": config.critics.optim, "policy": config.policy.optim}
        self._objective = DCMPCObjective(
            config.train, self.world, self.critics, self.policy, self.targets, optim, config.observation
        )

    def objective(self, name: str) -> Objective:
        if name != OBJECTIVE:
            raise KeyError(f"dcmpc has no objective {name!r}; there is {OBJECTIVE!r}")
        return self._objective

    def agent(self, name: str, explored: int = 0) -> Agent:
        config, noise = self.config, self.config.exploration.std(explored)
        if name == "mppi":
            return Planner(config.mppi, self.world, self.policy, self.critics, config.observation, noise)
        if name == "policy":
            return Follower(self.world, self.policy, config.observation, noise)
        raise KeyError(f"dcmpc has no agent {name!r}; there are ['mppi', 'policy']")
