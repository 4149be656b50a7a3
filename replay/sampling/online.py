"""The newest steps, each shown once: windows laid end to end over what arrives."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from replay.schema import Entry

MAX_WAITING = 16_384  # windows; the oldest give way when learners draw slower than actors act


@dataclass(slots=True)
class _Life:
    unseen: int = 0  # steps at its end that are in no window yet
    seq: int = -1
    ref: int = -1
    steps: int = 0  # of the newest chunk
    run_steps: int = 0  # so far, of the episode, or with `across` of those that follow each other


class OnlineQueue:
    """Windows of one length that end in new chunks, in the order of their arrival.

    What remains of an episode at its end, less than a window, comes as its last `length` steps when the next episode of
    the life begins. With `across` windows run on into it instead, if no chunk is missing between them.
    """

    def __init__(self, length: int, across: bool) -> None:
        self._length, self._across = length, across
        self._lives: dict[int, _Life] = {}
        self._waiting: deque[tuple[int, int]] = deque(maxlen=MAX_WAITING)
        self._key: tuple[int, ...] | None = None
        self._taken: list[tuple[int, int]] = []

    def arrived(self, number: int, ref: int, entry: Entry) -> None:
        """A new chunk of the life of this number, of an episode that may be drawn."""
        seq, first_step, steps = entry.id.seq, entry.first_step, entry.steps
        life = self._lives.setdefault(number, _Life())
        if first_step == 0 and not (self._across and seq == life.seq + 1):
            if life.unseen and life.run_steps >= self._length:
                self._waiting.append((life.ref, life.steps))
            life.unseen = life.run_steps = 0
        life.seq, life.ref, life.steps, life.run_steps = seq, ref, steps, max(life.run_steps, first_step) + steps
        life.unseen += steps
        while life.unseen >= self._length:
            life.unseen -= self._length
            self._waiting.append((ref, steps - life.unseen))

    def take(self, key: tuple[int, ...]) -> deque[tuple[int, int]]:
        """What waits, to be popped from the left: chunks, and the number of their steps up to the window's end. Asked
        with the same key again, it gives the same again: a draw that failed has shown nothing."""
        if key == self._key:
            self._waiting.extendleft(reversed(self._taken))
        self._key, self._taken = key, []
        return self._waiting

    def pop(self) -> tuple[int, int] | None:
        """The next one since `take`; None if nothing waits."""
        if not self._waiting:
            return None
        self._taken.append(self._waiting.popleft())
        return self._taken[-1]
