"""One order on its way: which episodes are still to be played, which are out, and what went wrong."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from distwm.collect.book import Played
from distwm.collect.plan import Order
from replay.errors import DistwmError


class Job:
    """Episodes are numbered from 0; the lowest that is lacking is played next."""

    def __init__(self, order: Order, asked: int, played: Mapping[int, Played], failures: Mapping[str, int]) -> None:
        """`asked` episodes in all, 0 for no end; `played` is looked at, not changed; `failures` of earlier commands."""
        self.order, self.asked, self.played = order, asked, played
        self.out: set[int] = set()  # given to the fleet
        self.error: DistwmError | None = None  # why it was given up
        self.steps = 0  # of this command
        self.recovered = 0  # episodes that the replay had, of runners that died before they could say so
        self.begun_s: float | None = None  # when its first episode of this command began
        self.ended_s: float | None = None  # when the latest one ended
        self.brisk = False  # whether works are so short that a runner waits for the next one in vain
        self._again: deque[int] = deque()
        self._tries: Counter[int] = Counter()  # that failed, by number
        self._before, self._failures = Counter(failures), Counter[str]()
        self._new: Iterator[int] = (n for n in (range(asked) if asked else count()) if n not in played)

    @property
    def finished(self) -> bool:
        """Whether all is there, or will never be."""
        return self.error is not None or bool(self.asked and len(self.played) >= self.asked)

    @property
    def failures(self) -> Counter[str]:
        """By reason, of all commands so far."""
        return self._before + self._failures

    def saw(self, failures: Sequence[Mapping[str, int]]) -> None:
        """What its runners have counted since this command began."""
        self._failures = sum(map(Counter, failures), Counter())

    def take(self, most: int) -> tuple[int, ...]:
        """The next episodes to play, `most` at most. They are out until `back`."""
        found: list[int] = []
        while len(found) < most and (number := self._next()) is not None:
            found.append(number)
        self.out.update(found)
        return tuple(found)

    def back(self, numbers: Sequence[int]) -> None:
        """They have been played, or not."""
        self.out.difference_update(numbers)

    def retry(self, numbers: Sequence[int]) -> int:
        """They have failed and are to be played again; returns how often the unluckiest has failed."""
        self._tries.update(numbers)
        self._again.extend(numbers)
        return max((self._tries[number] for number in numbers), default=0)

    def give_up(self, error: DistwmError) -> None:
        self.error = self.error or error
        self.out.clear()

    def _next(self) -> int | None:
        return self._again.popleft() if self._again else next(self._new, None)
