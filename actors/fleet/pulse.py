"""Whether a runner gets on: its counter of steps, as it reports it, against the time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from actors.fleet.actor import Progress

WINDOW_S = 30.0  # that a rate looks back


@dataclass(slots=True)
class Pulse:
    """Of one life of a runner. Times are time.monotonic()."""

    newest: Progress | None = None  # None: it has not answered yet
    noted_s: float = 0.0  # when that came
    moved_s: float = 0.0  # when the counter was last seen to move, or work began
    stepped: bool = False  # whether it has moved at all
    failed_s: float = -math.inf  # when an environment was last seen to have failed; another one is made since
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, progress: Progress, now: float) -> None:
        """Takes an answer."""
        if progress.storing or (self.newest is not None and _life(progress) != _life(self.newest)):
            self.moved_s = now  # the replay has deadlines of its own
        if sum(progress.failures.values()) > (sum(self.newest.failures.values()) if self.newest else 0):
            self.failed_s = now
        self.stepped = self.stepped or progress.steps > 0
        self.newest, self.noted_s = progress, now
        self._seen.append((now, progress.steps))
        while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW_S:
            self._seen.popleft()

    def begin(self, now: float) -> None:
        """It has got work: from now on the counter must move."""
        self.moved_s = now

    def still_s(self, now: float) -> float:
        """For how long the counter has not moved."""
        return now - self.moved_s

    def overlook(self, seconds: float) -> None:
        """Nobody looked for so long: that time does not count."""
        self.moved_s, self.failed_s = self.moved_s + seconds, self.failed_s + seconds

    def steps_per_s(self, now: float) -> float:
        """Over the last half minute."""
        if len(self._seen) < 2 or now - self._seen[-1][0] > WINDOW_S:
            return 0.0
        (begin_s, begin), (end_s, end) = self._seen[0], self._seen[-1]
        return (end - begin) / max(end_s - begin_s, 1e-9)


def _life(progress: Progress) -> tuple[int, int]:
    """What moves while a runner gets on: an environment that failed and is made again is a sign of life as well."""
    return progress.steps, sum(progress.failures.values())
