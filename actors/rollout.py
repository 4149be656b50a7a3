"""One agent in a vector of environments, stepped together in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gymnasium
import numpy as np

from learners.agent import Agent, Mode, Observation
from replay.errors import BadInput, TrainingFailed
from replay.schema import FLAGS

Record = Mapping[str, np.ndarray]
Sink = Callable[[int, Record], None]  # takes (number of the environment, record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an episode went."""

    total_reward: float
    length: int  # decisions
    frames: np.ndarray | None  # (length + 1, H, W, 3) uint8, if they were to be kept


class Lane:
    """One environment and the episode that it plays. Makes records as replay/schema.py aligns them."""

    def __init__(self, env: gymnasium.Env) -> None:
        self.env = env
        self.place: int | None = None  # of its episode in the list of seeds; None: nothing left to play
        self.record: dict[str, np.ndarray] = {}

    @property
    def done(self) -> bool:
        return bool(self.record["is_last"])

    def begin(self, place: int, seed: int, keep_frames: bool) -> None:
        self.place, self.seed = place, seed
        self.total_reward, self.length = 0.0, 0
        self.frames: list[np.ndarray] | None = [] if keep_frames else None
        fields, _ = self.env.reset(seed=seed)
        assert self.env.action_space.shape is not None
        self._put(fields, np.zeros(self.env.action_space.shape, np.float32), 0.0, (True, False, False))

    def step(self, action: np.ndarray) -> None:
        """Raises BadInput for a reward that is no number."""
        fields, reward, terminated, truncated, info = self.env.step(action)
        self.length += 1
        self.total_reward += float(reward)
        if not np.isfinite(self.total_reward):
            raise BadInput(
                f"The environment's reward is {reward} at step {self.length} of the episode with seed {self.seed}.",
                "Mend the environment: rewards must be finite.",
            )
        taken = info.get("action", action)  # FlatAction says which action the vector stood for
        self._put(fields, taken, float(reward), (False, terminated or truncated, terminated))

    def outcome(self) -> Outcome:
        frames = None if self.frames is None else np.stack(self.frames)
        return Outcome(total_reward=self.total_reward, length=self.length, frames=frames)

    def _put(self, fields: Record, action: np.ndarray, reward: float, flags: tuple[bool, bool, bool]) -> None:
        flag_arrays = {name: np.array(value) for name, value in zip(FLAGS, flags, strict=True)}
        self.record = {**fields, "action": action, "reward": np.array(reward, np.float32), **flag_arrays}
        if self.frames is not None:
            self.frames.append(np.array(self.env.render()))


def rollout(
    envs: Sequence[gymnasium.Env],
    agent: Agent,
    seeds: Sequence[int],
    agent_seed: int,
    mode: Mode = "sample",
    sink: Sink | None = None,
    keep_frames: int = 0,
) -> list[Outcome]:
    """Plays one episode for each of `seeds`, in order; an environment that is done takes the next one that waits.

    `sink` gets every record as it comes. The first `keep_frames` episodes keep what `env.render()` shows. Everything is
    fixed by the seeds and the number of environments.
    """
    lanes = [Lane(env) for env in envs[: len(seeds)]]
    waiting = deque(enumerate(seeds))
    outcomes: dict[int, Outcome] = {}
    carry = agent.start(len(lanes), agent_seed) if lanes else None

    def emit(number: int, lane: Lane) -> None:
        if sink is not None:
            sink(number, lane.record)

    def begin(number: int, lane: Lane) -> None:
        place, seed = waiting.popleft()
        lane.begin(place, seed, place < keep_frames)
        emit(number, lane)

    for number, lane in enumerate(lanes):
        begin(number, lane)
    while len(outcomes) < len(seeds):
        actions, carry = agent.act(_observe(lanes), carry, mode)
        _check(actions)
        for number, lane in enumerate(lanes):
            if lane.place is None:
                continue
            lane.step(actions[number])
            emit(number, lane)
            if lane.done:
                outcomes[lane.place] = lane.outcome()
                lane.place = None
                if waiting:
                    begin(number, lane)
    return [outcomes[place] for place in range(len(seeds))]


def _observe(lanes: Sequence[Lane]) -> Observation:
    """What the batch shows; an environment that has no episode left shows its last record, and its action is unused."""
    names = lanes[0].env.observation_space
    assert isinstance(names, gymnasium.spaces.Dict)
    return Observation(
        fields={name: np.stack([lane.record[name] for lane in lanes]) for name in names},
        previous_action=np.stack([lane.record["action"] for lane in lanes]),
        is_first=np.array([bool(lane.record["is_first"]) for lane in lanes]),
    )


def _check(actions: np.ndarray) -> None:
    if not np.isfinite(actions).all():
        raise TrainingFailed("The policy gave an action that is no number.", "Go back to an earlier checkpoint.")
