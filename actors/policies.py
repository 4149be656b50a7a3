"""From a policy's name to an agent: the weightless ones by name, every other name is an agent of the system's."""

from __future__ import annotations

from dataclasses import dataclass

from actors.behaviour import Behaviour, BehaviourConfig, OrnsteinUhlenbeck, Random
from actors.envs.registry import EnvConfig, unknown
from actors.experts import expert
from actors.sources.agent import Following
from learners.agent import Agent, Mode
from learners.system import System
from replay.errors import BadInput
from replay.schema import EpisodeSpec

SCRIPTED = ("random", "ou", "expert", "behaviour")  # policies without weights, which look at no pixels
SOURCE = "source"  # follows the action source; "source+NAME": through the system's codec of that name


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """Who acts, and whether its actions are drawn or the most likely ones."""

    name: str
    mode: Mode = "sample"
    explored: int = 0  # episodes of exploring before it, for schedules of exploration

    @property
    def weightless(self) -> bool:
        """Whether it needs no trained system."""
        return self.name in (*SCRIPTED, SOURCE)

    @property
    def codec(self) -> str:
        """Of a policy that follows the source by way of one."""
        name, _, codec = self.name.partition("+")
        return codec if name == SOURCE else ""

    @property
    def follows_source(self) -> bool:
        return self.name == SOURCE or bool(self.codec)


def build(
    policy: PolicySpec,
    env: EnvConfig,
    spec: EpisodeSpec,
    behaviour: BehaviourConfig,
    system: System | None,
    following: Following | None = None,
) -> Agent:
    """The agent of that name. Raises BadInput for an unknown name, or a task that has no expert."""
    (action_dim,) = spec["action"].shape
    if policy.follows_source:
        return _follower(policy, following, system)
    if policy.name == "random":
        return Random(action_dim, behaviour.levels)
    if policy.name == "ou":
        return OrnsteinUhlenbeck(action_dim)
    if policy.name in ("expert", "behaviour"):
        _check_state(policy, spec)
        config = behaviour if policy.name == "behaviour" else BehaviourConfig(epsilon=(0, 0), levels=behaviour.levels)
        return Behaviour(config, expert(behaviour.expert or env.task), action_dim)
    if system is None:
        raise unknown("policy", policy.name, SCRIPTED, hint="There is no trained system here.")
    return trained(policy, system)


def _follower(policy: PolicySpec, following: Following | None, system: System | None) -> Agent:
    if following is None:
        raise BadInput(
            f"The policy {policy.name!r} follows an action source, and none is set.", "Set source.kind=scripted."
        )
    if not policy.codec:
        return following.agent()
    codec = getattr(system, "codec", None)
    if codec is None:
        raise BadInput(
            f"The policy {policy.name!r} needs a trained tokenizer of actions.", f"Use {SOURCE!r}, or the recipe rvq."
        )
    try:
        return following.agent(codec(policy.codec))
    except KeyError as error:
        raise BadInput(f"Unknown policy {policy.name!r}.", f"After {SOURCE}+: {error.args[0]}.") from error


def trained(policy: PolicySpec, system: System) -> Agent:
    """An agent of the system. Raises BadInput for a name that it does not have."""
    try:
        return system.agent(policy.name, policy.explored)
    except KeyError as error:
        raise BadInput(f"Unknown policy {policy.name!r}.", f"Choose one of {SCRIPTED}; {error.args[0]}.") from error


def _check_state(policy: PolicySpec, spec: EpisodeSpec) -> None:
    if all(field.name != "state" for field in spec.observations):
        raise BadInput(f"The policy {policy.name!r} acts on the simulator's state.", "Set env.state=true.")
