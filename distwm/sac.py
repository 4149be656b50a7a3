"""RLlib's Soft Actor-Critic (Haarnoja et al. 2018) on our environments: everything in this process, on one thread.

RLlib's module, loss, learner, environment runner and replay of episodes; ours are the environment, the random episodes
in front, and the evaluation.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import gymnasium
import numpy as np
import torch

from actors.envs.registry import EnvConfig, make
from replay.errors import TrainingFailed

CAPACITY = 1_000_000  # decisions that the replay keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class SACConfig:
    """The usual settings for state observations of the control suite; one update a decision."""

    lr: float = 3e-4  # of the policy, the critics and the temperature
    batch_size: int = 128  # 256 would take twice the time, most of which goes into RLlib's handling of episodes
    hidden: tuple[int, ...] = (256, 256)
    gamma: float = 0.99
    tau: float = 0.005
    temperature: float = 1.0  # to begin with; it is learnt, towards an entropy of minus the number of actions
    seed_episodes: int = 10  # of random actions, before the first update


class StateOnly(gymnasium.ObservationWrapper):
    """The state as a plain vector: RLlib's networks read no dictionaries."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.observation_space = cast(gymnasium.spaces.Dict, env.observation_space)["state"]

    def observation(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return observation["state"]


class SAC:
    """One training run."""

    def __init__(self, config: SACConfig, env: EnvConfig, seed: int, slice_steps: int) -> None:
        """`slice_steps`: decisions of one `learn`. Ray must be connected."""
        self.config, self.steps = config, 0  # decisions taken
        self._stack = ExitStack()
        self._env = StateOnly(make(env, seed))
        self._stack.callback(self._env.close)
        self._algorithm = _build(config, env, seed, slice_steps)
        self._stack.callback(shutil.rmtree, self._algorithm.logdir, ignore_errors=True)  # empty, in the person's home
        self._stack.callback(self._algorithm.stop)

    def explore(self) -> None:
        """Plays the random episodes."""
        if not self.config.seed_episodes:
            return
        episodes = self._algorithm.env_runner.sample(num_episodes=self.config.seed_episodes, random_actions=True)
        self._algorithm.local_replay_buffer.add(episodes)
        self._algorithm.env_runner.get_metrics()  # or these steps would count as those of the first slice
        self.steps += sum(len(episode) for episode in episodes)

    def learn(self) -> None:
        """A slice: an update after each decision."""
        self.steps += int(self._algorithm.train()["env_runners"]["num_env_steps_sampled"])

    def play(self, seeds: Sequence[int]) -> list[float]:
        """The return of an episode from each start state, with the policy's mean actions."""
        return [self._episode(seed) for seed in seeds]

    def _episode(self, seed: int) -> float:
        state, _ = self._env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            state, reward, terminated, truncated, _ = self._env.step(self._act(state))
            total, over = total + float(reward), terminated or truncated
        return total

    @torch.no_grad()
    def _act(self, state: np.ndarray) -> np.ndarray:
        """tanh of the mean: RLlib's own deterministic actions are the mean before it is squashed."""
        out = self._algorithm.get_module().forward_inference({"obs": torch.from_numpy(state)[None]})
        mean = out["action_dist_inputs"].chunk(2, -1)[0]
        if not torch.isfinite(mean).all():
            raise TrainingFailed("SAC gave an action that is no number.", "Choose a lower sac.lr.")
        return torch.tanh(mean)[0].numpy()

    def close(self) -> None:
        self._stack.close()


def _build(config: SACConfig, env: EnvConfig, seed: int, slice_steps: int) -> Any:
    from ray.rllib.algorithms.sac import SACConfig as Settings
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.tune.registry import register_env

    from distwm.sac_network import Catalog

    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    name = f"distwm/{env.task}"
    register_env(name, lambda _: StateOnly(make(env, seed + 1)))
    network = DefaultModelConfig(
        fcnet_hiddens=list(config.hidden), fcnet_activation="relu", head_fcnet_hiddens=[], head_fcnet_activation="relu"
    )
    settings = (
        Settings()
        .environment(name)
        .framework("torch")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1, rollout_fragment_length=1)
        .learners(num_learners=0, num_gpus_per_learner=0)
        .rl_module(rl_module_spec=RLModuleSpec(catalog_class=Catalog, model_config=network))
        .training(
            actor_lr=config.lr,
            critic_lr=config.lr,
            alpha_lr=config.lr,
            train_batch_size_per_learner=config.batch_size,
            gamma=config.gamma,
            tau=config.tau,
            initial_alpha=config.temperature,
            num_steps_sampled_before_learning_starts=0,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": CAPACITY},
        )
        .reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=slice_steps)
        .debugging(seed=seed, log_level="ERROR")
    )
    return settings.build_algo()
