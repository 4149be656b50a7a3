"""Long recordings as episodes of bounded length, each of which is in memory alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from replay.check import check_spec
from replay.dataset.episodes import Actor, NamedEpisode, Unreadable, check_episode
from replay.errors import BadInput
from replay.schema import FLAGS, EpisodeSpec


@dataclass(frozen=True, slots=True)
class Step:
    """What was seen at decision `index` of a recording, what was done then, and the reward that this brought."""

    index: int
    observation: Mapping[str, np.ndarray]
    action: np.ndarray
    reward: float = 0.0


@dataclass(frozen=True, slots=True)
class Damage:
    """Decision `index` cannot be read; `reason` names the file and the place in it."""

    index: int
    reason: str


class Recording(Protocol):
    """One recording. `name` is unique in its data set."""

    name: str
    states: int  # about how many observations there are

    def steps(self) -> Iterator[Step | Damage]:
        """In order; indices may be left out. The action of the last one, whose outcome is not there, does not count."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What all episodes of a recording have in common."""

    source: str
    task: str = ""
    terminal: bool = False  # whether the recording ends in a terminal state


@dataclass(slots=True)
class _Part:
    """The segment that is being filled."""

    number: int
    steps: list[Step] = field(default_factory=list)
    broken: str = ""


class SegmentReader:
    """Implements `Reader`. A recording of T decisions becomes ceil(T / segment_steps) episodes named
    `<recording>@<first decision>`. Each begins with the observation that the one before ends with, so no transition
    is lost. All but the last are truncated, not terminal."""

    def __init__(
        self,
        spec: EpisodeSpec,
        origin: dict[str, Any],
        recordings: Sequence[tuple[Recording, Labels]],
        segment_steps: int,
        wrong: Sequence[Unreadable] = (),
    ) -> None:
        """`wrong` are recordings that could not even be opened."""
        check_spec(spec)
        self.spec = spec
        self.origin = origin | {"segment_steps": segment_steps}
        self.episodes = sum(len(_names(r, segment_steps)) for r, _ in recordings) + len(wrong)
        self._recordings = {r.name: (r, labels) for r, labels in recordings}
        self._size, self._wrong = segment_steps, tuple(wrong)
        self._open: tuple[str, Iterator[NamedEpisode | Unreadable]] | None = None

    def read(self, skip: Container[str] = ()) -> Iterator[NamedEpisode | Unreadable]:
        """Every episode whose name is not in `skip`; recordings that are wholly in it are not opened."""
        yield from self._wrong
        for recording, labels in self._recordings.values():
            if not all(name in skip for name in _names(recording, self._size)):
                yield from self._cut(recording, labels, skip)

    def named(self, name: str) -> NamedEpisode:
        """One episode: quick for the one behind the last that was asked for. Raises KeyError if there is none,
        BadInput if it is damaged."""
        recording = name.rpartition("@")[0]
        for _ in range(2):  # from where the last one was found, then from the beginning
            if self._open is None or self._open[0] != recording:
                self.close()
                self._open = recording, self._cut(*self._recordings[recording], ())
            for found in self._open[1]:
                if found.name != name:
                    continue
                if isinstance(found, Unreadable):
                    raise BadInput(f"{found.reason}.", "Restore the file.")
                return found
            self._open = None
        raise KeyError(name)

    def close(self) -> None:
        """Ends what decodes a video."""
        if self._open is not None:
            self._open[1].close()  # type: ignore[attr-defined]
            self._open = None

    def _cut(self, recording: Recording, labels: Labels, skip: Container[str]) -> Iterator[NamedEpisode | Unreadable]:
        for part, last in _parts(recording.steps(), self._size):
            name = _name(recording.name, part.number, self._size)
            if name in skip or (len(part.steps) < 2 and not part.broken):
                continue
            yield Unreadable(name=name, reason=part.broken) if part.broken else self._episode(name, part, labels, last)

    def _episode(self, name: str, part: _Part, labels: Labels, last: bool) -> NamedEpisode | Unreadable:
        arrays = records(self.spec, part.steps, terminal=last and labels.terminal)
        episode = NamedEpisode(name=name, arrays=arrays, actors=(Actor(0, labels.source, 0),), task=labels.task)
        try:
            check_episode(self.spec, episode)
        except BadInput as error:
            return Unreadable(name=name, reason=error.message.rstrip("."))
        return episode


def records(spec: EpisodeSpec, steps: Sequence[Step], *, terminal: bool) -> dict[str, np.ndarray]:
    """Arrays (T, *shape) of T steps, aligned as schema.py says: record t holds what step t - 1 did and brought."""
    arrays = {
        f.name: np.stack([s.observation[f.name] for s in steps]).astype(f.dtype, copy=False) for f in spec.observations
    }
    arrays["action"] = np.zeros((len(steps), *spec["action"].shape), np.float32)
    arrays["reward"] = np.zeros(len(steps), np.float32)
    for t, step in enumerate(steps[:-1], 1):
        arrays["action"][t], arrays["reward"][t] = step.action, step.reward
    arrays |= {name: np.zeros(len(steps), bool) for name in FLAGS}
    arrays["is_first"][0] = arrays["is_last"][-1] = True
    arrays["is_terminal"][-1] = terminal
    return arrays


def _parts(steps: Iterable[Step | Damage], size: int) -> Iterator[tuple[_Part, bool]]:
    """Segments, and whether it is the last one. A damaged one has no steps but a reason."""
    part: _Part | None = None
    for step in steps:
        number = step.index // size
        if part is None:
            part = _Part(number)
        elif part.number != number and (part.broken or part.steps[-1].index // size != part.number):
            yield part, False
            overlap = [] if part.broken else part.steps[-1:]
            part = _Part(overlap[0].index // size if overlap else number, overlap)
        elif part.number != number and isinstance(step, Damage):
            yield part, False  # it lacks its closing observation, nothing else
            part = _Part(number)
        if isinstance(step, Damage):
            part.steps, part.broken = [], part.broken or step.reason
        elif not part.broken:
            part.steps.append(step)
    if part is not None:
        yield part, True


def _name(recording: str, number: int, size: int) -> str:
    return f"{recording}@{number * size:07d}"


def _names(recording: Recording, size: int) -> list[str]:
    return [_name(recording.name, number, size) for number in range(max(1, -(-(recording.states - 1) // size)))]
