"""Dreamer 4 as one system: its networks, the objectives of its phases, the agents that come out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from learners.agent import Agent
from learners.dreamer4.acting import Dreamer4Agent
from learners.dreamer4.dynamics import Dynamics
from learners.dreamer4.player import Dreamer4Player
from learners.dreamer4.segments import LatentStore
from learners.dreamer4.tokenizer import Tokenizer
from learners.dreamer4.train_agent import AgentConfig, AgentHeads, AgentObjective
from learners.dreamer4.train_dynamics import DynamicsConfig, DynamicsObjective
from learners.dreamer4.train_imagination import ActorCritic, ImaginationConfig, ImaginationObjective
from learners.dreamer4.train_tokenizer import TokenizerConfig, TokenizerObjective
from learners.system import Objective
from replay.schema import EpisodeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Dreamer4Config:
    image: str = "image"  # the observation that is the video
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    agent: AgentConfig = field(default_factory=AgentConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)

    def build(self, spec: EpisodeSpec) -> Dreamer4:
        return Dreamer4(self, spec)


class Dreamer4(nn.Module):
    """Objectives: tokenizer, dynamics, agent, imagination, control. Agents: bc (the prior), policy, control."""

    def __init__(self, config: Dreamer4Config, spec: EpisodeSpec) -> None:
        super().__init__()
        height, width, colours = spec[config.image].shape
        actions = spec["action"].shape[0]
        code, world = config.tokenizer.net, config.dynamics.net
        dim = world.transformer.dim
        self.tokenizer = Tokenizer(code, (height, width, colours))
        self.dynamics = Dynamics(world, code.latents, code.channels, actions)
        self.heads = AgentHeads(config.agent, dim, actions)
        actors = {name: ActorCritic(config.agent, dim, actions) for name in ("policy", "control")}
        self.actors = nn.ModuleDict(actors)
        self._policies = {"bc": self.heads.policy} | {name: actor.policy for name, actor in actors.items()}
        store = LatentStore(self.tokenizer, config.image)
        self._objectives: dict[str, Objective] = {
            "tokenizer": TokenizerObjective(config.tokenizer, self.tokenizer, config.image),
            "dynamics": DynamicsObjective(config.dynamics, self.dynamics, store),
            "agent": AgentObjective(
                config.agent, config.dynamics, self.dynamics, self.heads, store, self._restart_actors
            ),
        }
        for name, actor in actors.items():
            self._objectives["imagination" if name == "policy" else name] = ImaginationObjective(
                config.imagination, self.dynamics, self.heads, actor, store, shuffled=name == "control"
            )
        # Running statistics of the losses are part of the state: a resumed run must go on with them.
        self.statistics = nn.ModuleDict({n: o.rms for n, o in self._objectives.items() if hasattr(o, "rms")})
        self.config = config

    def _restart_actors(self) -> None:
        """The next imagination stage starts from the prior of its round."""
        for actor in self.actors.values():
            actor.get_buffer("started").fill_(False)

    def objective(self, name: str) -> Objective:
        if name not in self._objectives:
            raise KeyError(f"dreamer4 has no objective {name!r}; there are {sorted(self._objectives)}")
        return self._objectives[name]

    def agent(self, name: str, explored: int = 0) -> Agent:
        if name not in self._policies:
            raise KeyError(f"dreamer4 has no agent {name!r}; there are {sorted(self._policies)}")
        return Dreamer4Agent(self.tokenizer, self.dynamics, self._policies[name], self.config.image)

    def player(self, batch_size: int = 1) -> Dreamer4Player:
        """Dreams that answer to actions, drawn in as many steps as imagination draws them in."""
        return Dreamer4Player(
            self.tokenizer, self.dynamics, self.config.image, self.config.imagination.steps, batch_size
        )
