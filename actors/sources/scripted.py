"""A scripted expert as an action source: it looks ahead by moving a simple arm of its own.

The experts of robots' arms decide from the present state alone (actors/experts/libero.py). A chunk is what the expert
would do in the coming steps of a model of the arm that starts from the true state. Episodes differ in pace, and the
hand sways, smoothly and a little; else it is deterministic. Such data tests a pipeline, and says nothing about how a
learned policy moves: its provenance says so everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from actors.envs.registry import EnvConfig, describe
from actors.experts import arm, expert
from actors.sources.source import ActionChunk, Request, SourceConfig, SourceSpec
from replay.errors import BadInput

ACTION_DIM = 7
SWAY = np.array([0.05, 0.09, 0.11])  # amplitude of the rotation, in units of the action
PERIODS = (40.0, 80.0)  # steps
SLOWEST = 0.6  # pace of the slowest episode, of the fastest


class Scripted:
    """Chunks of an expert, of which `config.variety` scales how much episodes differ."""

    def __init__(self, config: SourceConfig, env: EnvConfig) -> None:
        """Raises BadInput for a task without an expert, one that shows no state, or one that is not an arm's."""
        self._expert, self._variety = expert(env.task), config.variety
        fields, info = describe(env)
        if all(one.name != "state" for one in fields.observations):
            raise BadInput("A scripted source acts on the simulator's state.", "Set env.state=true.")
        if fields["action"].shape != (ACTION_DIM,):
            raise BadInput(f"{env.task} is not a robot's arm: nothing looks ahead there.", "Choose a task of an arm.")
        self.spec = SourceSpec(
            action_dim=ACTION_DIM,
            horizon=config.horizon,
            fps=info.fps,
            fields=(fields["state"],),
            gripper="-1 open, +1 closed",
            provenance=f"scripted expert of {env.task}, which sees the simulator's state; no learned policy",
        )

    def act(self, requests: Sequence[Request]) -> ActionChunk:
        begun_s = time.perf_counter()
        actions = np.stack([self._chunk(request) for request in requests])
        took_s = np.full(len(requests), (time.perf_counter() - begun_s) / len(requests))
        return ActionChunk(actions=actions, latency_s=took_s, source_s=took_s)

    def close(self) -> None:
        """Holds nothing."""

    def _chunk(self, request: Request) -> np.ndarray:
        """(H, 7) float32."""
        manner = _Manner(request.episode, self._variety)
        state = np.asarray(request.fields["state"], np.float64)
        body = arm.from_state(state, request.executed)
        chunk = []
        for step in range(request.step, request.step + self.spec.horizon):
            chunk.append(manner(self._expert(state), step))
            body = body.moved(chunk[-1])
            state = arm.into_state(body, state)
        return np.array(chunk, np.float32)


class _Manner:
    """How one episode is acted: as fast as it will, with rotations that come and go."""

    def __init__(self, episode: int, variety: float) -> None:
        rng = np.random.default_rng(episode)
        self._pace = 1.0 - variety * rng.uniform(0.0, 1.0 - SLOWEST)
        self._sway = variety * SWAY * rng.choice([-1.0, 1.0], 3)
        self._turns, self._phase = 2 * np.pi / rng.uniform(*PERIODS, 3), rng.uniform(0, 2 * np.pi, 3)

    def __call__(self, action: np.ndarray, step: int) -> np.ndarray:
        sway = self._sway * np.sin(self._turns * step + self._phase)
        return np.concatenate([self._pace * action[:3], sway, action[6:]])


def make(config: SourceConfig, env: EnvConfig) -> Scripted:
    return Scripted(config, env)
