"""From a policy's name to an agent: the weightless ones by name, every other name is an agent of the system's."""

from __future__ import annotations

from dataclasses import dataclass

from actors.behaviour import Behaviour, BehaviourConfig, OrnsteinUhlenbeck, Random
from actors.envs.registry import EnvConfig, unknown
from actors.experts import expert
from learners.agent import Agent, Mode
from learners.system import System
from replay.errors import BadInput
from replay.schema import EpisodeSpec

SCRIPTED = ("random", "ou", "expert", "behaviour")  # policies without weights, which look at no pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySpec:
    """Who acts, and whether its actions are drawn or the most likely ones."""

    name: str
    mode: Mode = "sample"
    explored: int = 0  # episodes that the stage had collected so far, for schedules of exploration


def needs_pixels(policy: PolicySpec) -> bool:
    return policy.name not in SCRIPTED


def build(
    policy: PolicySpec, env: EnvConfig, spec: EpisodeSpec, behaviour: BehaviourConfig, system: System | None
) -> Agent:
    """The agent of that name. Raises BadInput for an unknown name, or a task that has no expert."""
    (action_dim,) = spec["action"].shape
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


def trained(policy: PolicySpec, system: System) -> Agent:
    """An agent of the system. Raises BadInput for a name that it does not have."""
    try:
        return system.agent(policy.name, policy.explored)
    except KeyError as error:
        raise BadInput(f"Unknown policy {policy.name!r}.", f"Choose one of {SCRIPTED}; {error.args[0]}.") from error


def _check_state(policy: PolicySpec, spec: EpisodeSpec) -> None:
    if all(field.name != "state" for field in spec.observations):
        raise BadInput(f"The policy {policy.name!r} acts on the simulator's state.", "Set env.state=true.")
