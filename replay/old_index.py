"""A reader's mirror of what Redis stores: chunks in the order of their commits, grouped into episodes."""

from __future__ import annotations

from collections import deque

from replay.schema import Entry, EpisodeKey, Window


class EpisodeIndex:
    """Holds of each episode the part without gaps from its first step on: what comes behind a gap is not offered, and
    an episode that has lost its first chunk to eviction goes as a whole, its other chunks being next to go anyway."""

    def __init__(self) -> None:
        self.version = 0  # changes whenever the episodes do
        self.cursor = 0  # of the newest entry seen
        self._parts: dict[EpisodeKey, list[Entry]] = {}
        self._order: deque[tuple[int, Entry]] = deque()

    def add(self, cursor: int, entry: Entry) -> None:
        """The next entry of the index stream."""
        self.cursor = cursor
        parts = self._parts.get(entry.episode_key, [])
        if entry.first_step == _steps(parts):
            parts.append(entry)
            self._parts[entry.episode_key] = parts
            self._order.append((cursor, entry))
            self.version += 1

    def drop_before(self, cursor: int | None) -> None:
        """Forgets what was evicted: all that came before `cursor`, or all there is."""
        while self._order and (cursor is None or self._order[0][0] < cursor):
            self.drop(self._order.popleft()[1])

    def drop(self, entry: Entry) -> None:
        """Ends the episode of this chunk in front of it."""
        parts = self._parts.get(entry.episode_key, [])
        if entry in parts:
            del parts[parts.index(entry) :]
            self.version += 1
            if not parts:
                del self._parts[entry.episode_key]

    def __contains__(self, key: EpisodeKey) -> bool:
        return key in self._parts

    def lengths(self) -> dict[EpisodeKey, int]:
        """Steps on offer, by episode."""
        return {key: _steps(parts) for key, parts in self._parts.items()}

    def parts(self, key: EpisodeKey) -> list[Entry]:
        """The chunks of an episode, in order. Raises KeyError."""
        return self._parts[key]

    def covering(self, window: Window) -> list[Entry]:
        """The chunks that hold a window, in order. Raises KeyError if its episode is gone."""
        end = window.start + window.length
        return [e for e in self._parts[window.key] if e.first_step < end and e.first_step + e.steps > window.start]


def _steps(parts: list[Entry]) -> int:
    return parts[-1].first_step + parts[-1].steps if parts else 0
