"""What is known of a task once it has been tried: whether all parts of it are there is known before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.envs.registry import EnvConfig, EnvInfo, info_of, make, spec_of
from actors.policies import build
from actors.sources.agent import briefly
from actors.sources.source import SourceConfig
from distwm.collect.plan import CollectConfig, Order
from replay.schema import EpisodeSpec
from replay.shards.status import status


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What the orders of a task find."""

    spec: EpisodeSpec
    info: EnvInfo
    provenance: str = ""  # of the actions, as the source says; empty: the policy's name says it


def try_all(config: CollectConfig, orders: Sequence[Order]) -> Mapping[str, Tried]:
    """By the order's key. Resets every environment, makes every agent and opens every source once, and asks a given
    replay whether it is there. Raises BadInput, Missing or TryAgain."""
    seen: dict[str, tuple[EpisodeSpec, EnvInfo]] = {}
    found: dict[str, Tried] = {}
    for order in orders:
        env = order.env(config)
        if order.task not in seen:
            seen[order.task] = _reset(env, config.source.plan_steps)
        spec, info = seen[order.task]
        with briefly(config.source if order.spec.follows_source else SourceConfig(), env) as following:
            build(order.spec, env, spec, config.behaviour, None, following)
            said = following.source.spec.provenance if following else ""
        found[order.key] = Tried(spec=spec, info=info, provenance=said)
    if config.replay.url:
        status(config.replay, "preflight")
    return found


def _reset(config: EnvConfig, plan_steps: int) -> tuple[EpisodeSpec, EnvInfo]:
    """Of an environment that could be reset: some look for their parts no earlier."""
    env = make(config, seed=0)
    try:
        env.reset(seed=0)
        return spec_of(env, plan_steps), info_of(env)
    finally:
        env.close()
