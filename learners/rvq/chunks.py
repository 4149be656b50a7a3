"""What tokenizers are trained on: chunks of actions, and where each comes from.

Shapes: N chunks of T actions of A numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from replay.errors import BadInput
from replay.schema import Episode, EpisodeSpec
from replay.source import Source, Split

NEW_CHUNK = 0  # of plan_step


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunksConfig:
    """Where a source of actions has said what it predicts, its chunks are taken where it begins a new one; elsewhere,
    windows of the actions taken."""

    action: str = "action"
    plan: str = "plan"  # (H, A): the chunk in force; not looked for if empty
    plan_step: str = "plan_step"  # how many of its actions were taken before; -1: there is none
    stride: int = 5  # actions between two windows
    train_stride: int = 0  # the same of what is trained on; 0 = stride

    def __post_init__(self) -> None:
        if self.stride < 1 or self.train_stride < 0:
            raise BadInput(
                f"Strides of {self.stride} and {self.train_stride}.", "Give stride from 1, train_stride from 0."
            )

    def of(self, split: Split) -> int:
        return (self.train_stride or self.stride) if split == "train" else self.stride


class Chunks(NamedTuple):
    actions: np.ndarray  # (N, T, A) float32, in environment units
    episode: np.ndarray  # (N,) int64: number of the episode among those read
    start: np.ndarray  # (N,) int64: which action of its episode a chunk begins with
    taken: tuple[np.ndarray, ...]  # by episode, the actions (T_ep, A) that were carried out
    predicted: bool  # whether chunks are a policy's predictions, not windows
    sources: tuple[str, ...]  # by episode, who acted

    def __len__(self) -> int:
        return len(self.actions)


def load(source: Source, split: Split, size: int, config: ChunksConfig) -> Chunks:
    """Every chunk of a split. Raises BadInput if it has none, or if plans are shorter than `size`."""
    predicted = has_plans(source.spec, config)
    names = [config.action, *((config.plan, config.plan_step) if predicted else ())]
    parts, starts, taken, sources = [], [], [], []
    for key in source.episodes(split):
        episode = source.episode(key, names)
        found, begins = (planned if predicted else windows)(episode, size, config, config.of(split))
        parts.append(found)
        starts.append(begins)
        taken.append(np.asarray(episode.arrays[config.action][1:], np.float32))
        sources.append(episode.source)
    if not sum(map(len, parts)):
        raise BadInput(f"There is no chunk of actions in split {split!r}.", "Collect or ingest some episodes first.")
    return Chunks(
        actions=np.concatenate(parts),
        episode=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        start=np.concatenate(starts),
        taken=tuple(taken),
        predicted=predicted,
        sources=tuple(sources),
    )


def has_plans(spec: EpisodeSpec, config: ChunksConfig) -> bool:
    names = {field.name for field in spec.fields}
    return bool(config.plan) and {config.plan, config.plan_step} <= names


def windows(episode: Episode, size: int, config: ChunksConfig, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Chunks (N, size, A) and where they begin (N,): one every `stride` actions; the last action is held past the end.

    The first record's action led to nothing and does not count.
    """
    actions = np.asarray(episode.arrays[config.action][1:], np.float32)
    starts = np.arange(0, len(actions), stride)
    places = np.minimum(starts[:, None] + np.arange(size), len(actions) - 1)
    return actions[places].reshape(len(starts), size, actions.shape[-1]), starts


def planned(episode: Episode, size: int, config: ChunksConfig, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `size` actions of each predicted chunk (N, size, A), and where they begin (N,)."""
    plan, step = episode.arrays[config.plan], episode.arrays[config.plan_step]
    if plan.shape[1] < size:
        raise BadInput(
            f"Predicted chunks have {plan.shape[1]} actions, fewer than chunk_size={size}.",
            f"Set tokenizer.chunk_size={plan.shape[1]}.",
        )
    records = np.flatnonzero(step == NEW_CHUNK)  # record t holds the action number t - 1
    return np.asarray(plan[records, :size], np.float32), records - 1


def digest(actions: np.ndarray) -> str:
    """Sixteen hex digits of the SHA-256 of chunks (N, T, A): the same data, the same digits."""
    shape = ",".join(map(str, actions.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(actions, "<f4").tobytes()).hexdigest()[:16]


def card(chunks: Chunks, stride: int) -> dict[str, Any]:
    """What an artefact says of the data it was fitted to."""
    return {
        "sources": dict(sorted(Counter(chunks.sources).items())),  # who acted: episodes
        "episodes": len(chunks.sources),
        "chunks": len(chunks),
        "actions": "predicted at replan points" if chunks.predicted else f"windows of what was done, stride {stride}",
        "data_hash": digest(chunks.actions),
    }


def of_episodes(episodes: Sequence[np.ndarray], size: int, stride: int, who: str = "recorded") -> Chunks:
    """Windows of plain arrays of actions (T_ep, A), for use without a replay."""
    parts = []
    for actions in episodes:
        begins = np.arange(0, len(actions), stride)
        parts.append(actions[np.minimum(begins[:, None] + np.arange(size), len(actions) - 1)])
    return Chunks(
        actions=np.concatenate(parts).astype(np.float32),
        episode=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        start=np.concatenate([np.arange(0, len(actions), stride) for actions in episodes]),
        taken=tuple(episodes),
        predicted=False,
        sources=(who,) * len(parts),
    )
