"""Who is in the fleet: places for runners, and the processes in them. Starts, sets aside, retires and ends them."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from actors.fleet.config import FleetConfig, Member
from actors.fleet.pool import Pool
from actors.fleet.pulse import Pulse
from actors.fleet.slot import FOREVER, Slot, Tally
from actors.runner import EnvRunner

_log = logging.getLogger(__name__)

Factory = Callable[[Member, int], Callable[[], EnvRunner]]  # of the runner with an index

# Who goes first when there are too many.
_DISPENSABLE = {"quarantined": 0, "waiting": 1, "starting": 2, "idle": 3, "busy": 4}


class Roster:
    """Nothing here waits."""

    def __init__(
        self, config: FleetConfig, members: Sequence[Member], factory: Factory, extra_cpus: float | None
    ) -> None:
        self.config, self.members, self._factory = config, tuple(members), factory
        self.slots: list[Slot] = []
        self.retired = Tally()  # of runners that are gone
        self.pool = Pool(config.cpus_per_runner, config.cpus_per_runner if extra_cpus is None else extra_cpus)
        self._reserved = sum(member.runners for member in members)
        for place, member in enumerate(members):
            self.resize(member.runners, place)
        self.start_due(time.monotonic())

    def of(self, place: int) -> list[Slot]:
        """The runners of a member that are meant to stay."""
        return [slot for slot in self.slots if slot.place == place and not slot.retired]

    def resize(self, runners: int, place: int) -> None:
        """More are started when they are next due; of too many, those that work least go first."""
        staying = self.of(place)
        for slot in self.slots:
            if slot.place == place and slot.retired and slot.job and len(staying) < runners:
                slot.retired, slot.state = False, "busy"  # it is still at its last piece
                staying.append(slot)
        for _ in range(runners - len(staying)):
            self._add(place)
        staying.sort(key=lambda slot: (_DISPENSABLE[slot.state], -slot.index))
        for slot in staying[: max(0, len(staying) - runners)]:
            self.retire(slot)

    def start_due(self, now: float) -> None:
        """Starts or wakes those that have waited long enough."""
        for slot in self.slots:
            if slot.state not in ("waiting", "quarantined") or now < slot.due_s:
                continue
            if slot.actor >= 0:
                slot.state = "idle"
            else:
                self._start(slot)

    def set_aside(self, slot: Slot, alive: bool) -> None:
        """A runner that failed rests; for long if it keeps failing. `alive`: its process may go on, after a first
        failure at once."""
        config, now = self.config, time.monotonic()
        slot.state = "quarantined" if slot.in_a_row >= config.quarantine_after else "waiting"
        if alive and slot.state == "waiting":
            again = slot.in_a_row - 1
            slot.due_s = now + (config.backoff(again, random.random()) if again else 0.0)
            return
        self._kill(slot)
        pause = config.backoff(slot.in_a_row, random.random())
        if slot.state == "quarantined":
            pause = config.quarantine_s
            _log.warning("runner %d failed %d times in a row; it rests %g s", slot.index, slot.in_a_row, pause)
        spent = 0 <= config.max_restarts <= slot.tally.restarts
        slot.due_s = FOREVER if spent else now + pause

    def retire(self, slot: Slot) -> None:
        """It finishes its piece, closes, and goes."""
        slot.retired = True
        if slot.actor < 0 or slot.state == "starting":
            self.remove(slot)
            return
        slot.state = "retiring"
        if slot.job is None:
            slot.due_s = time.monotonic() + self.config.restart_timeout_s
            self.pool.ask(slot.actor, "close")

    def remove(self, slot: Slot) -> None:
        """It is gone; what it did still counts."""
        self._kill(slot)
        self.retired += slot.tally
        self.slots.remove(slot)

    def close(self) -> None:
        """Ends all at once. What they have on the disk waits there for the next writers of their streams."""
        self.pool.close()
        for slot in self.slots:
            self.retired += slot.tally
        self.slots.clear()

    def _add(self, place: int) -> None:
        """With the lowest index that is free: it sends what an earlier runner of that index may have left."""
        taken = {slot.index for slot in self.slots}
        index = next(number for number in range(len(taken) + 1) if number not in taken)
        reserved = sum(slot.reserved for slot in self.slots) < self._reserved
        self.slots.append(Slot(index=index, place=place, member=self.members[place], reserved=reserved))

    def _start(self, slot: Slot) -> None:
        slot.tally.restarts += slot.lives > 0
        slot.lives += 1
        slot.actor = self.pool.start(self._factory(slot.member, slot.index), slot.reserved)
        slot.state, slot.pulse = "starting", Pulse()
        self.pool.ask(slot.actor, "progress")

    def _kill(self, slot: Slot) -> None:
        if slot.actor >= 0:
            self.pool.kill(slot.actor)
            slot.actor = -1
