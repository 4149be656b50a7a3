"""One environment and the episode that it plays, as records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from actors.envs.stepping import AtOnce, Halves, halves
from replay.errors import BadInput

Record = Mapping[str, np.ndarray]
Plan = tuple[np.ndarray, np.ndarray]  # a chunk of actions (H, A) float32, which of them it was () int32

_FALSE, _TRUE = np.array(False), np.array(True)
for _flag in (_FALSE, _TRUE):  # every record has these very ones
    _flag.setflags(write=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an episode went."""

    total_reward: float
    length: int  # decisions
    success: bool | None = None  # whether the task was solved at any step; None: the suite does not say
    milestones: Mapping[str, bool] = field(default_factory=dict)  # of the task: which were reached at any step
    frames: np.ndarray | None = None  # (length + 1, H, W, 3) uint8, if they were to be kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """What is to be played."""

    place: int  # among those that were asked for
    seed: int
    number: int = 0  # in the run; of an evaluation its seed
    keep_frames: bool = False
    options: dict[str, Any] | None = None  # of the environment's reset


class Lane:
    """Makes records as replay/schema.py aligns them. `begin` and `step` ask the environment, `finish` hears its answer
    and makes the record. With `plan_steps` records say to which chunk of actions their action belonged."""

    def __init__(self, number: int, env: gymnasium.Env, plan_steps: int = 0) -> None:
        self.number, self._plan_steps = number, plan_steps
        self.take(env)
        self.playing = False
        self.is_first, self.done = False, False  # of what the environment shows
        self.record: dict[str, np.ndarray] = {}

    def take(self, env: gymnasium.Env) -> None:
        """Another environment, for episodes that are yet to begin."""
        assert env.action_space.shape is not None
        self.env = env
        self.elsewhere = halves(env)
        self._asking: Halves | AtOnce = self.elsewhere or AtOnce(env)
        self._zero = np.zeros(env.action_space.shape, np.float32)
        self._unplanned = (np.zeros((self._plan_steps, *env.action_space.shape), np.float32), np.array(-1, np.int32))

    def begin(self, episode: Episode) -> None:
        """Also the same once more."""
        self.episode = episode
        self.total_reward, self.length = 0.0, 0
        self.is_first, self.done = True, False
        self._success: bool | None = None
        self._milestones: dict[str, bool] = {}
        self._frames: list[np.ndarray] = []
        self._action: np.ndarray | None = None
        self._plan = self._unplanned
        self._asking.begin_reset(seed=episode.seed, options=episode.options)

    def step(self, action: np.ndarray, plan: Plan | None = None) -> None:
        self._action, self._plan = action, plan or self._unplanned
        self._asking.begin_step(action)

    def finish(self) -> None:
        """Raises BadInput for a reward that is no number, and what the environment raises."""
        if self._action is None:
            fields, _ = self._asking.finish_reset()
            self._put(fields, self._zero, 0.0, (_TRUE, _FALSE, _FALSE))
        else:
            self._stepped(self._action)

    def outcome(self) -> Outcome:
        frames = np.stack(self._frames) if self.episode.keep_frames else None
        return Outcome(
            total_reward=self.total_reward,
            length=self.length,
            success=self._success,
            milestones=self._milestones,
            frames=frames,
        )

    def _stepped(self, action: np.ndarray) -> None:
        fields, reward, terminated, truncated, info = self._asking.finish_step()
        self.length += 1
        self.is_first = False
        self.done = terminated or truncated
        reward = float(reward)
        self.total_reward += reward
        if not math.isfinite(self.total_reward):
            raise BadInput(
                f"The environment's reward is {reward} at step {self.length} of the episode with seed "
                f"{self.episode.seed}.",
                "Mend the environment: rewards must be finite.",
            )
        if "success" in info:
            self._success = bool(self._success or info["success"])
        for name, reached in info.get("milestones", {}).items():
            self._milestones[name] = self._milestones.get(name, False) or bool(reached)
        taken = info.get("action", action)  # FlatAction says which action the vector stood for
        self._put(fields, taken, reward, (_FALSE, _TRUE if self.done else _FALSE, _TRUE if terminated else _FALSE))

    def _put(self, fields: Record, action: np.ndarray, reward: float, flags: tuple[np.ndarray, ...]) -> None:
        is_first, is_last, is_terminal = flags
        self.record = {
            **fields,
            "action": action,
            "reward": np.array(reward, np.float32),
            "is_first": is_first,
            "is_last": is_last,
            "is_terminal": is_terminal,
        }
        if self._plan_steps:
            self.record["plan"], self.record["plan_step"] = self._plan
        if self.episode.keep_frames:
            self._frames.append(np.array(self.env.render()))
