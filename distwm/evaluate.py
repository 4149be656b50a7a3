"""Plays every policy in the real environment from the same start states, so that returns can be compared in pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from actors.fleet import Fleet
from actors.policies import PolicySpec
from actors.results import EpisodeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """Who plays how many episodes. The readout is fixed in advance: sampled actions; `:mode` is shown beside them."""

    episodes: int = 100  # of each policy, from the same start states
    policies: tuple[str, ...] = ("random", "behaviour", "bc", "bc:mode", "policy", "policy:mode", "control")
    subject: str = "policy"  # whom the report is about
    reference: str = "bc"  # whom it is measured against
    control: str = "control"  # trained so that no gain may come of it; empty: there is none
    seed: int = 1000  # episode k starts as seed + k says, whoever acts
    videos: int = 2  # episodes of each policy that are filmed

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.videos < 0 or self.seed < 0:
            raise ValueError("evaluate needs episodes from 1, videos and seed from 0")
        for text in (*self.policies, self.subject, self.reference, *filter(None, [self.control])):
            policy_spec(text)
        if len({*self.policies}) < len(self.policies):
            raise ValueError("a policy is evaluated once: name each in evaluate.policies only once")

    @property
    def seeds(self) -> range:
        """One start state for each episode."""
        return range(self.seed, self.seed + self.episodes)


def policy_spec(text: str) -> PolicySpec:
    """`name:mode` -> the most likely actions of the policy, `name` -> sampled ones. Raises ValueError for others."""
    name, _, mode = text.partition(":")
    if mode not in ("", "sample", "mode"):
        raise ValueError(f"{text!r} is neither name, name:sample nor name:mode")
    return PolicySpec(name=name, mode="mode" if mode == "mode" else "sample")


def evaluate(fleet: Fleet, config: EvaluateConfig, weights: Any, explored: int = 0) -> list[EpisodeResult]:
    """The episodes of each policy in turn, in the order of their seeds; the first `config.videos` keep their frames.

    `weights` (a reference, or None) go to the policies that have any. `explored`: episodes of exploring behind them;
    planners try the policy's actions with as much noise as is left then. Raises what `Fleet.evaluate` does.
    """
    results: list[EpisodeResult] = []
    for policy in map(policy_spec, config.policies):
        needed = None if policy.weightless else weights
        played = replace(policy, explored=explored)
        results += fleet.evaluate(played, config.seeds, needed, keep_frames=config.videos)
    return results
