"""An environment runner: plays episodes with a policy, and hands them to the replay or to whoever evaluates."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any, Literal, cast

import gymnasium
import numpy as np
import ray
import torch
from torch import nn

from actors.behaviour import BehaviourConfig
from actors.envs.registry import EnvConfig, EnvInfo, describe, make
from actors.hosting.errors import HostedEnvError
from actors.inference import Inference, Lent
from actors.lane import Outcome, Record
from actors.paging import PAGE, Pages
from actors.policies import SCRIPTED, PolicySpec, build
from actors.results import CollectStats, EpisodeResult
from actors.rollout import Repair, Sink, Tally, rollout
from actors.sources.agent import Following, follow
from actors.sources.source import SourceConfig
from learners.agent import Agent
from learners.system import System, SystemConfig
from learners.weights import Weights
from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.writing.episode_writer import EpisodeWriter
from replay.writing.writer import ReplayWriter

_log = logging.getLogger(__name__)

POLICY_NOISE = 1  # tells the policy's stream of random numbers from the environment's, for the same seed


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """One runner's share of the work."""

    envs_per_runner: int = 8  # also the episodes of one piece of work
    group: int = 0  # environments that decide together, whichever group is ready first; 0: all
    env_retries: int = 3  # of each episode, when its environment fails in a process of its own; then the runner fails
    streams: Literal["environment", "episode"] = "environment"  # of the replay; "episode": its number is its name
    starts: Literal["seeded", "in_order"] = "seeded"  # "in_order": in the task's own initial states, by turns


class EnvRunner:
    """Keeps environments, replay writers and the system's weights between calls; each is made when first needed.

    An episode is fixed by the run's seed, its number and the policy, up to the numerics of batches: it is the same on
    any runner, with any `runner.group`, beside any others, and when its environment failed and it is played again.
    While one thread plays, another may read `steps`, `version`, `failures`, `doing`, `storing`.
    """

    def __init__(
        self,
        index: int,
        env: EnvConfig,
        runner: RunnerConfig,
        replay: ReplayConfig | None,
        run: str,
        behaviour: BehaviourConfig,
        system: SystemConfig | None,
        seed: int,
        inference: Inference | None = None,
        source: SourceConfig | None = None,
    ) -> None:
        """With `inference` others compute what the system's agents do, and this process has no system."""
        torch.set_num_threads(1)  # runners share a machine; more threads cost an order of magnitude
        self.index, self.env, self.config, self.run, self.seed = index, env, runner, run, seed
        self._replay, self._behaviour, self._system_config = replay, behaviour, system
        self._source = source or SourceConfig()
        self._system: System | None = None
        self._inference = inference
        self._lent: Lent | None = None
        self.version = -1  # of the weights
        self.doing = ""  # in words
        self.storing = False  # whether it is in the replay's hands, which may make it wait
        self._tally = Tally()
        self._envs: dict[EnvConfig, list[gymnasium.Env]] = {}
        self._writers: list[ReplayWriter] = []

    @property
    def spec(self) -> EpisodeSpec:
        return self._described[0]

    @cached_property
    def _described(self) -> tuple[EpisodeSpec, EnvInfo]:
        with self._counting():
            return describe(self.env, self._source.plan_steps)

    @cached_property
    def _following(self) -> Following | None:
        """The action source, opened when it is first followed."""
        return follow(self._source, self.env, self._described[1]) if self._source.kind else None

    @property
    def steps(self) -> int:
        """That its environments have made so far, in all calls."""
        return self._tally.steps

    @property
    def failures(self) -> dict[str, int]:
        """Of its environments so far, by kind."""
        return dict(self._tally.failures)

    def ping(self) -> str:
        return "pong"

    def set_weights(self, weights: Weights, ref: ray.ObjectRef | None = None) -> int:
        """Takes the weights unless it has them; returns the version that it has. `ref`: where they are in the object
        store, if they are; inference actors take them from there."""
        if self._system_config is None:
            raise BadInput("Weights came to a runner without a system.", "Start the runner with the system's config.")
        if self._inference is not None:
            self._lent = Lent(version=weights.version, ref=ray.put(weights) if ref is None else ref)
            self.version = weights.version
            return self.version
        if self._system is None:
            self._system = self._system_config.build(self.spec)
            cast(nn.Module, self._system).eval()
        if weights.version != self.version:
            weights.apply(cast(nn.Module, self._system))
            self.version = weights.version
        return self.version

    def collect(self, policy: PolicySpec, episodes: Sequence[int]) -> CollectStats:
        """Plays the episodes of these numbers and commits them to the replay.

        Raises BadInput without a replay, TryAgain if the replay is away.
        """
        start, steps, failures = time.perf_counter(), self.steps, self._tally.failures.copy()
        writers = self._take_writers(policy, episodes)
        before = sum(writer.acknowledged for writer in writers)
        version = 0 if policy.weightless else self.version
        seeds = [episode_seed(self.seed, number) for number in episodes]

        def store(number: int, records: Sequence[Record]) -> None:
            self.storing = True
            writers[number].add_all(records, source=policy.name, policy_version=version)
            self.storing = False

        pages = Pages(store, self._page)
        outcomes = self._play(self.env, policy, episodes, seeds, pages, writers)
        return CollectStats(
            steps=sum(writer.acknowledged for writer in writers) - before,
            episodes=len(outcomes),
            returns=tuple(outcome.total_reward for outcome in outcomes),
            seconds=time.perf_counter() - start,
            lengths=tuple(outcome.length for outcome in outcomes),
            successes=tuple(outcome.success for outcome in outcomes),
            env_steps=self.steps - steps,
            failures=dict(self._tally.failures - failures),
        )

    def evaluate(self, policy: PolicySpec, seeds: Sequence[int], keep_frames: int = 0) -> list[EpisodeResult]:
        """One episode for each seed, which alone fixes where the episode starts, whoever acts. Stores nothing.

        Frames of the first `keep_frames` are kept; a policy that looks at no pixels is stepped without rendering else.
        """
        config = self.env if self._needs_pixels(policy) else replace(self.env, pixels=False)
        outcomes = self._play(config, policy, seeds, seeds, keep_frames=keep_frames)
        return [
            EpisodeResult(
                seed=seed,
                policy=policy.name,
                mode=policy.mode,
                total_reward=outcome.total_reward,
                length=outcome.length,
                success=outcome.success,
                milestones=outcome.milestones,
                frames=outcome.frames,
            )
            for seed, outcome in zip(seeds, outcomes, strict=True)
        ]

    def close(self) -> None:
        self._drop_envs()
        self._close_writers()
        if following := self.__dict__.pop("_following", None):
            following.source.close()

    def _play(
        self,
        env: EnvConfig,
        policy: PolicySpec,
        numbers: Sequence[int],
        seeds: Sequence[int],
        sink: Sink | None = None,
        writers: Sequence[ReplayWriter] = (),
        keep_frames: int = 0,
    ) -> list[Outcome]:
        repair = Repair(make=partial(self._make, env), retries=self.config.env_retries)
        task = f"{'collecting' if sink else 'evaluating'} {len(seeds)} episodes of {policy.name!r}"
        with self._at(task), self._agent(policy) as agent:
            outcomes = rollout(
                self._take_envs(env, min(len(seeds), self.config.envs_per_runner)),
                agent,
                seeds,
                POLICY_NOISE,
                policy.mode,
                sink,
                keep_frames,
                group=1 if policy.weightless else self.config.group,  # a batch would save them nothing
                repair=repair,
                tally=self._tally,
                plan_steps=self._source.plan_steps,
                options=self._options(numbers),
                numbers=numbers,
            )
            self.storing = bool(writers)
            for writer in writers:
                writer.flush()
        return outcomes

    @contextmanager
    def _agent(self, policy: PolicySpec) -> Iterator[Agent]:
        if self._inference is None or self._lent is None or policy.weightless:
            following = self._following if policy.follows_source else None
            yield build(policy, self.env, self.spec, self._behaviour, self._system, following)
            return
        agent = self._inference.agent(self.index, policy, self._lent)
        try:
            yield agent
        finally:
            agent.close()

    def _needs_pixels(self, policy: PolicySpec) -> bool:
        if policy.follows_source and self._following:
            return self._following.needs_pixels
        return policy.name not in SCRIPTED

    def _options(self, numbers: Sequence[int]) -> list[dict[str, Any]] | None:
        """Of each episode's reset."""
        if self.config.starts == "seeded":
            return None
        if not (count := self._described[1].init_states):
            raise BadInput(f"{self.env.task} has no initial states of its own.", "Set runner.starts=seeded.")
        return [{"init_state": number % count} for number in numbers]

    def _take_envs(self, config: EnvConfig, count: int) -> list[gymnasium.Env]:
        """At least as many."""
        envs = self._envs.setdefault(config, [])
        with self._counting():
            while len(envs) < count:  # those that are there stay known when the next one fails
                envs.append(self._make(config, len(envs)))
        return envs

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Environments that fail while they are made."""
        try:
            yield
        except HostedEnvError as error:
            self._tally.failures[error.kind] += 1
            raise

    def _make(self, config: EnvConfig, number: int) -> gymnasium.Env:
        return make(config, episode_seed(self.seed, number))

    @property
    def _page(self) -> int:
        """Records that go to a writer together: never more than a chunk, or its acknowledgement would wait."""
        assert self._replay is not None
        return min(PAGE, self._replay.chunk_steps)

    def _take_writers(self, policy: PolicySpec, episodes: Sequence[int]) -> list[ReplayWriter]:
        """One for each environment."""
        if self._replay is None:
            raise BadInput("This runner has no replay to collect into.", "Give it a ReplayConfig.")
        count = min(len(episodes), self.config.envs_per_runner)
        streams = [f"runner{self.index}/env{number}" for number in range(count)]
        if self.config.streams == "episode":
            if count < len(episodes):
                raise BadInput(
                    f"{len(episodes)} episodes with a stream each were asked of {count} environments.",
                    "Ask for runner.envs_per_runner at most.",
                )
            streams = [episode_stream(policy.name, number) for number in episodes]
            self._close_writers()
        writer = EpisodeWriter if self.config.streams == "episode" else ReplayWriter
        for stream in streams[len(self._writers) :]:
            self._writers.append(writer(self._replay, self.run, stream, self.spec))
        return self._writers[:count]

    def _close_writers(self) -> None:
        while self._writers:
            self._writers.pop().close()

    @contextmanager
    def _at(self, task: str) -> Iterator[None]:
        """Simulators are made afresh after an error: nobody knows what state it left them in."""
        self.doing = task
        try:
            yield
        except BaseException:
            self._drop_envs()
            raise
        finally:
            self.doing, self.storing = "", False

    def _drop_envs(self) -> None:
        envs, self._envs = [*chain.from_iterable(self._envs.values())], {}
        for env in envs:
            try:
                env.close()
            except Exception:  # noqa: BLE001 (whatever a renderer says: the others are closed as well)
                _log.exception("An environment of %s could not be closed.", self.env.task)


def episode_stream(policy: str, number: int) -> str:
    """The replay's stream of one episode: with runner.streams=episode, what it holds is known by its name."""
    return f"{policy}/{number}"


def episode_seed(seed: int, number: int) -> int:
    """The seed of the environment for the episode of that number in the run with that seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
