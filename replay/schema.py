"""What flows through the house: the fields of a step, chunks of steps on the wire, batches of windows for a learner.

Alignment (every package relies on it): record t holds the observation o_t, the action a_{t-1} that *caused* it, the
reward r_t that came with it and the flags of o_t. At is_first the action and the reward are zeros. So a world model
sees an action in the same block as its outcome, and a policy at t predicts `action[t + 1]`.

Where several actions are decided at a time, records say so: `plan` holds the chunk of actions to which the action that
caused o_t belonged, and `plan_step` which of them it was. A record with plan_step 0 is the first of a new chunk; where
nothing was planned (at is_first, or by another policy) the plan is zeros and plan_step -1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

Role = Literal["observation", "action", "reward", "flag", "plan"]

SCHEMA_VERSION = 2
FLAGS = ("is_first", "is_last", "is_terminal")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """One array of a step: `shape` without the time axis, `dtype` a numpy name of the codec's whitelist."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSpec:
    """The fields that every step of a stream has, in order. Its hash travels with each chunk."""

    fields: tuple[FieldSpec, ...]

    def __getitem__(self, name: str) -> FieldSpec:
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"no field {name!r}; there are {[f.name for f in self.fields]}")

    @property
    def observations(self) -> tuple[FieldSpec, ...]:
        return tuple(f for f in self.fields if f.role == "observation")

    @property
    def hash(self) -> str:
        """Sixteen hex digits of the SHA-256 of the fields."""
        return _hash(self.fields)

    @staticmethod
    def build(
        observations: Mapping[str, tuple[tuple[int, ...], str]], action_dim: int, plan_steps: int = 0
    ) -> EpisodeSpec:
        """The usual spec: named observations, a float32 action (action_dim,), reward and the three flags; with
        `plan_steps`, also the chunk of so many actions that each action belonged to."""
        fields = [FieldSpec(name=n, shape=s, dtype=d, role="observation") for n, (s, d) in observations.items()]
        fields.append(FieldSpec(name="action", shape=(action_dim,), dtype="float32", role="action"))
        fields.append(FieldSpec(name="reward", shape=(), dtype="float32", role="reward"))
        fields += [FieldSpec(name=n, shape=(), dtype="bool", role="flag") for n in FLAGS]
        if plan_steps:
            fields.append(FieldSpec(name="plan", shape=(plan_steps, action_dim), dtype="float32", role="plan"))
            fields.append(FieldSpec(name="plan_step", shape=(), dtype="int32", role="plan"))
        return EpisodeSpec(fields=tuple(fields))


@lru_cache(maxsize=64)  # every chunk that is decoded asks for it
def _hash(fields: tuple[FieldSpec, ...]) -> str:
    text = json.dumps([asdict(f) for f in fields], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, order=True)
class ChunkId:
    """Names a chunk for good: a retry of the same commit counts once."""

    stream: str  # one environment of one runner
    incarnation: int  # grows when the runner restarts, so chunks never mix lives
    seq: int  # 0, 1, 2, ... within the incarnation

    def __str__(self) -> str:
        return f"{self.stream}/{self.incarnation}/{self.seq}"


@dataclass(frozen=True, slots=True, order=True)
class EpisodeKey:
    """Names an episode: `episode` counts within the stream's incarnation."""

    stream: str
    incarnation: int
    episode: int

    def __str__(self) -> str:
        return f"{self.stream}/{self.incarnation}/e{self.episode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Up to `chunk_steps` consecutive steps of one episode; arrays are (T, *shape) by field name."""

    id: ChunkId
    episode: int
    first_step: int  # index of the first record within its episode
    policy_version: int
    source: str  # who acted: "random", "expert", "policy", ...
    spec_hash: str
    run: str = ""  # the run, or the data set, that it belongs to
    arrays: Mapping[str, np.ndarray]

    @property
    def steps(self) -> int:
        return len(self.arrays["reward"])

    @property
    def episode_key(self) -> EpisodeKey:
        return EpisodeKey(self.id.stream, self.id.incarnation, self.episode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What an index says of a chunk."""

    id: ChunkId
    episode: int
    first_step: int
    steps: int
    source: str
    policy_version: int
    checksum: int  # of the body: what the codec put in front of it

    @property
    def episode_key(self) -> EpisodeKey:
        return EpisodeKey(self.id.stream, self.id.incarnation, self.episode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Steps [start, start + length), counted from the first step of episode `key`.

    With context, `start` may lie before the episode (negative): that part is zeros and False in the batch's mask. A
    window that runs across episodes may end in a later one of the same stream.
    """

    key: EpisodeKey
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B windows of T steps. `arrays` are (B, T, *shape) by field name; `windows` say where each row came from."""

    arrays: Mapping[str, np.ndarray]
    windows: tuple[Window, ...]
    weights: np.ndarray | None = None  # (B,) float32 that undo a prioritised draw, the largest being 1; None: uniform
    mask: np.ndarray | None = None  # (B, T) bool, False where context reaches before the episode; None: all True


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A whole episode (or the part of it that is stored so far); arrays are (T, *shape)."""

    key: EpisodeKey
    source: str
    policy_version: int
    arrays: Mapping[str, np.ndarray]
