"""Episodes with a name: what readers of recorded data yield and what its writers take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from replay.check import check_array, check_names
from replay.errors import BadInput
from replay.schema import EpisodeKey, EpisodeSpec

_MEND = "Give each episode as records from is_first to is_last, aligned as replay/schema.py says."


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts from record `first_step` of an episode on, until the next actor does."""

    first_step: int
    source: str
    policy_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedEpisode:
    """A whole episode, or what there is of it; arrays are (T, *shape), aligned as in schema.py.

    `name` is the same whenever its origin is read. Without a key, a writer makes one up.
    """

    name: str
    arrays: Mapping[str, np.ndarray]
    actors: tuple[Actor, ...]  # the first one begins at 0
    key: EpisodeKey | None = None
    task: str = ""  # what is to be done, in words

    @property
    def steps(self) -> int:
        return len(self.arrays["reward"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An episode, or a file with several, that could not be read; `reason` names the file and the place in it."""

    name: str
    reason: str


class Reader(Protocol):
    """Recorded data of another kind, read from beginning to end."""

    spec: EpisodeSpec
    origin: dict[str, Any]  # what a manifest shall say of it: plain JSON values
    episodes: int  # how many there are

    def read(self, skip: Container[str]) -> Iterator[NamedEpisode | Unreadable]:
        """Every episode whose name is not in `skip`, in a fixed order."""
        ...


def check_episode(spec: EpisodeSpec, episode: NamedEpisode) -> None:
    """Raises BadInput, naming the episode and the field, for what a ReplayWriter would not take either."""
    where = f"in episode {episode.name!r}"
    check_names(spec, episode.arrays, where)
    steps = episode.steps
    if steps < 1:
        raise BadInput(f"There are no records {where}.", _MEND)
    for field in spec.fields:
        check_array(field, episode.arrays[field.name], (steps, *field.shape), where)
    for name, allowed in (("is_first", slice(0, 1)), ("is_last", slice(-1, None)), ("is_terminal", slice(-1, None))):
        _check_flag(episode, name, allowed)
    for field in spec.fields:
        if field.role in ("action", "reward") and np.any(episode.arrays[field.name][0]):
            raise BadInput(f"Field {field.name!r} is not zero at the first record {where}.", _MEND)
    starts = [a.first_step for a in episode.actors]
    if starts[:1] != [0] or starts != sorted(set(starts)) or starts[-1] >= steps:
        raise BadInput(f"The actors begin at records {starts} of {steps} {where}.", "Let the first begin at 0.")
    if any(a.policy_version < 0 for a in episode.actors):
        raise BadInput(f"A policy version is negative {where}.", "Count versions from 0.")


def digest_of(episode: NamedEpisode) -> str:
    """SHA-256 of all that there is of an episode: its arrays, its labels and who acted."""
    labels = [episode.name, str(episode.key), episode.task, *map(str, episode.actors)]
    digest = hashlib.sha256(json.dumps(labels).encode())
    for name, array in sorted(episode.arrays.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def is_complete(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these records reach the end of their episode."""
    return "is_last" not in arrays or bool(arrays["is_last"][-1])


def _check_flag(episode: NamedEpisode, name: str, allowed: slice) -> None:
    """Raises BadInput if the flag is set at another record."""
    flag = episode.arrays.get(name)
    if flag is None:
        return
    elsewhere = np.ones(len(flag), bool)
    elsewhere[allowed] = False
    wrong = np.flatnonzero(flag & elsewhere)
    if len(wrong):
        raise BadInput(
            f"Field {name!r} is true at record {wrong[0]} of {len(flag)} in episode {episode.name!r}.", _MEND
        )
    ends = episode.arrays.get("is_last")
    unended = name == "is_terminal" and ends is not None and flag[-1] and not ends[-1]
    if unended or (name == "is_first" and not flag[0]):
        raise BadInput(f"Field {name!r} does not fit the others in episode {episode.name!r}.", _MEND)
