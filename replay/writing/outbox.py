"""The way of one life's chunks to its shard: in order, each until it is acknowledged."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from replay.config import ReplayConfig
from replay.errors import DistwmError, ExperienceLost, TryAgain
from replay.shards.commit import Claim, Life, Pace
from replay.shards.limiter import Held
from replay.shards.router import Router
from replay.shards.shard import Shard
from replay.writing.sealed import Sealed
from replay.writing.spool import Spool

_log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 1.0
_SAY_S, _SAY_AFTER_S = 10.0, 2.0  # between log lines of one wait; before the first
_SLOW_S = 0.1  # for an answer: who waits that long for each chunk is held up
_IN_MEMORY = 2  # chunks: one call may seal as many


@dataclass(slots=True)
class Tally:
    """What was acknowledged."""

    steps: int = 0
    episodes: int = 0
    chunks: int = 0


class Outbox:
    """Sends what it is given while the server answers. While the server is away or slow, chunks go to the disk and a
    thread tries to send them; when the last one is gone the thread ends, and chunks are sent directly again.

    One thread may use it, besides its own. Memory holds two chunks at most; who has more must wait in `await_room`.
    """

    def __init__(
        self, config: ReplayConfig, router: Router, shard: Shard, life: Life, spool: Spool, tally: Tally | None = None
    ) -> None:
        self._config, self._router, self._shard, self.life, self._spool = config, router, shard, life, spool
        self.tally = tally or Tally()
        self._acknowledged = spool.acknowledged  # sequence number
        self._queue: deque[Sealed] = deque()  # in memory, later than those on the disk
        self._jammed = False  # the disk took no more
        self._slow = False  # the last answer was
        self._held = ""  # why the limiter does not take the next chunk
        self._said_s = -_SAY_S
        self._failure: Exception | None = None  # of the thread
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._stop = threading.Event()

    @property
    def waiting_chunks(self) -> int:
        return len(self._queue) + self._spool.chunks

    @property
    def waiting_bytes(self) -> int:
        """On the disk."""
        return self._spool.bytes

    def superseded(self) -> bool:
        """Whether the stream has a newer life by now. Raises TryAgain if the server does not say within `outage_s`."""
        return self._shard.newest_life(self.life.stream) > self.life.incarnation

    @property
    def away(self) -> bool:
        """Whether the server is."""
        return self._shard.away_since is not None

    def put(self, sealed: Sealed) -> None:
        """The life's next chunk. Call `move` after it."""
        self._queue.append(sealed)

    def restore(self, sealed: Sealed) -> bool:
        """Like `put`, for many at once. False if there is no room."""
        if self._queue or not self._spool.add(sealed):
            if len(self._queue) >= _IN_MEMORY:
                return False
            self._queue.append(sealed)
        return True

    def move(self) -> None:
        """Sends what can be sent now, or puts it on the disk. Waits for nothing but one answer of the server.

        Raises what the replay says to a chunk: ExperienceLost, BadInput.
        """
        self._raise_failure()
        if self._spool.chunks:
            self._start()
        while self._queue:
            if self._may_send and self._send(self._queue[0]):
                self._queue.popleft()
            elif not self._held and self._spool.add(self._queue[0]):
                self._queue.popleft()
                self._start()
            else:
                self._jammed = not self._held
                return
        self._jammed = False

    def await_room(self) -> None:
        """Waits until no chunk waits in memory. Raises like `move`, and TryAgain when nothing moved for `outage_s`, or
        for `limiter.stall_s` if it is the limiter that waits for learners."""
        if self._queue or self._failure:
            self._wait(lambda: not self._queue)

    def flush(self) -> None:
        """Waits until every chunk is acknowledged. Raises like `await_room`."""
        self._wait(lambda: not self.waiting_chunks)

    def take(self) -> Iterator[Sealed]:
        """Empties it, oldest first, once it has failed."""
        while sealed := self._spool.first():
            yield sealed
            self._spool.drop_first()
        while self._queue:
            yield self._queue.popleft()

    def close(self) -> None:
        """Stops sending. What waits on the disk stays there for a later life of the stream."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(timeout=2 * self._config.connect_timeout_s + 1)
        if thread is None or not thread.is_alive():
            self._spool.close()

    @property
    def _may_send(self) -> bool:
        """Whether the next chunk in memory may go directly. Never past one on the disk, which the server would take
        for a retry then: the thread that sends those may just have failed."""
        return self._thread is None and not self._spool.chunks and (self._jammed or not (self.away or self._slow))

    def _send(self, sealed: Sealed) -> bool:
        """One attempt; False if the server is away, or if the limiter does not take the chunk (`_held` says why)."""
        pace = None
        if self._config.limiter.samples_per_insert:
            pace = Pace(config=self._config.limiter, elsewhere=self._router.inserted_elsewhere(self._shard))
        claim, begun_s = Claim(life=self.life, acknowledged=self._acknowledged), time.monotonic()
        try:
            self._shard.commit(sealed.entry, sealed.body, self._router.max_bytes, claim, pace, patience_s=0)
        except Held as held:
            self._held = str(held)
            return False
        except ExperienceLost:
            raise
        except TryAgain:
            self._held = ""
            return False
        self._held, self._slow = "", time.monotonic() - begun_s > _SLOW_S
        self._acknowledged = sealed.entry.id.seq
        self.tally.steps += sealed.entry.steps
        self.tally.episodes += sealed.ends_episode
        self.tally.chunks += 1
        return True

    def _start(self) -> None:
        with self._guard:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._drain, name="replay-spool", daemon=True)
                self._thread.start()

    def _drain(self) -> None:
        """The thread: sends what waits on the disk, oldest first, until none is left."""
        pause_s = 0.05
        try:
            while not self._stop.is_set():
                sealed = self._spool.first()
                if sealed is None:
                    with self._guard:
                        if not self._spool.chunks:
                            self._thread = None
                            return
                elif self._send(sealed):
                    self._spool.drop_first()
                    pause_s = 0.05
                else:
                    self._stop.wait(random.uniform(0.5, 1) * pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        except Exception as error:  # noqa: BLE001  (goes to whoever uses the outbox next)
            message = error.message if isinstance(error, DistwmError) else error  # its mend may not be needed
            _log.warning("Sending the waiting chunks of stream %s stopped: %s", self.life.stream, message)
            with self._guard:
                self._failure, self._thread = error, None

    def _raise_failure(self) -> None:
        """Once; but a loss stays until the life ends."""
        if error := self._failure:
            if not isinstance(error, ExperienceLost):
                self._failure = None
            raise error

    def _wait(self, done: Callable[[], bool]) -> None:
        moved, since_s, pause_s = self.tally.chunks, time.monotonic(), 0.01
        while True:
            self.move()
            if done():
                return
            if self.tally.chunks != moved:
                moved, since_s = self.tally.chunks, time.monotonic()
            waited_s = time.monotonic() - since_s
            self._complain(waited_s)
            time.sleep(random.uniform(0.5, 1) * pause_s)
            pause_s = min(2 * pause_s, 0.2)

    def _complain(self, waited_s: float) -> None:
        """Logs what is waited for; raises TryAgain when it took too long."""
        stream, limit_s = self.life.stream, self._config.outage_s
        reason = f"Redis at {self._shard.name} takes no chunks; {self.waiting_chunks} wait"
        mend = "See that it runs and that this machine reaches it, then run the same command again."
        if self._held:
            reason, limit_s = self._held, self._config.limiter.stall_s
            mend = "See whether the learners train, or raise replay.limiter.slack_steps."
        if waited_s >= limit_s:
            raise TryAgain(f"Stream {stream} waited for {waited_s:.1f} s: {reason}.", mend)
        if waited_s > _SAY_AFTER_S and time.monotonic() - self._said_s > _SAY_S:
            _log.warning("Stream %s waits: %s.", stream, reason)
            self._said_s = time.monotonic()
