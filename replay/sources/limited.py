"""The limiter on the learner's side: training draws wait until actors have inserted enough, and are counted."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

import numpy as np

from replay.config import ReplayConfig
from replay.errors import TryAgain
from replay.schema import Batch, Episode, EpisodeKey, Window
from replay.shards.commit import Pace
from replay.shards.limiter import Held, Limiter
from replay.shards.router import Router
from replay.shards.shard import Shard
from replay.source import Source, Split

_log = logging.getLogger(__name__)
_SAY_S = 10.0  # between log lines of one wait
_LONGEST_PAUSE_S = 0.5
_LOSS_S = 2.5  # after which what the servers count is not a matter of who was asked when


class LimitedSource:
    """Implements `Source`: draws from `source` and counts. Who trains on a batch asks `take` first, which waits until
    the limiter of the run allows it. Steps of context do not count, nor do draws from `source` itself.

    Counts are absolute and lie in Redis, on every shard: a learner that resumes reports the number of its checkpoint,
    and the ratio goes on as if nothing had happened. Batches that were made ahead and never used do not count.

    Where a server has lost steps and `on_loss` is continue, so many sampled ones are counted as the steps that are left
    allow: or both sides would wait for each other.
    """

    def __init__(self, source: Source, config: ReplayConfig | None = None, run: str = "") -> None:
        """Does not connect yet. Without `config`, or if its limiter is off, nothing ever waits."""
        self.source, self.spec = source, source.spec
        self.drawn = 0  # steps, by this consumer, since the run began, up to the newest batch
        self._config = config or ReplayConfig()
        self._limiter = Limiter(self._config.limiter)
        self._router = Router(self._config, run, notes=True) if self._limiter.on else None
        self._consumer, self._world = "", 1
        self._forgiven = 0  # steps of `drawn` that are not counted any more
        self._allowed = 0  # counted steps, at the last answer
        self._held = Held("")  # the last refusal

    @staticmethod
    def of(source: Source) -> LimitedSource:
        """The source itself if it is one, else one that nothing limits."""
        return source if isinstance(source, LimitedSource) else LimitedSource(source)

    def begin(self, rank: int, world: int, drawn: int, say: Callable[[str], None]) -> None:
        """This is learner `rank` of `world`, which has trained on so many steps. Waits for the first `min_steps`, and
        tells `say` so. Raises TryAgain if Redis stays away, or after `limiter.stall_s`."""
        self._consumer, self._world, self.drawn = f"learner{rank}of{world}", world, drawn
        self._allowed = max(0, drawn - self._forgiven)
        for shard in self._shards:
            with suppress(TryAgain) if len(self._shards) > 1 else nullcontext():  # `take` needs one of them
                self._report(shard, rank, world)
        self.take(drawn, say)

    def _report(self, shard: Shard, rank: int, world: int) -> None:
        patience_s = 0.0 if len(self._shards) > 1 else None
        counted = shard.sampled(patience_s)
        if counted.get(self._consumer, 0) > self._allowed:  # since the checkpoint; a lower count has to be allowed
            shard.report_sampled(self._consumer, self._allowed, patience_s)
        if rank == 0:  # what a group of another size has drawn is part of this group's count
            for other in counted:
                if not other.endswith(f"of{world}"):
                    shard.report_sampled(other, 0)

    def take(self, drawn: int, say: Callable[[str], None]) -> float:
        """Waits until this consumer may have trained on `drawn` steps, and counts them; returns the seconds waited.
        Raises TryAgain when the limiter does not allow it for `limiter.stall_s`."""
        begun_s, said_s, pause_s = time.monotonic(), -_SAY_S, 0.02
        while reason := self._refusal(max(0, drawn - self._forgiven)):
            waited_s = time.monotonic() - begun_s
            if waited_s > _LOSS_S and self._is_forgotten():
                self._forgive()
                continue
            say(f"waits for the limiter: {reason}")
            if waited_s > self._config.limiter.stall_s:
                raise TryAgain(
                    f"The limiter held the learner for {waited_s:.0f} s: {reason}.",
                    "See whether the actors collect, or raise replay.limiter.samples_per_insert or slack_steps.",
                )
            if time.monotonic() - said_s > _SAY_S:
                _log.warning("The learner waits for the limiter: %s.", reason)
                said_s = time.monotonic()
            time.sleep(random.uniform(0.5, 1) * pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return time.monotonic() - begun_s

    def refresh(self) -> int:
        return self.source.refresh()

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        return self.source.episodes(split)

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        return self.source.episode(key, fields)

    def batch(
        self,
        key: tuple[int, ...],
        batch_size: int,
        length: int,
        fields: Sequence[str] | None = None,
        split: Split = "train",
        *,
        context: int = 0,
        across: bool = False,
    ) -> Batch:
        """See `Source`. Raises BadInput for a batch that is too large for the limiter's band."""
        if split == "train":
            self._limiter.check(self._config.chunk_steps, batch_size * length)
            self.drawn += batch_size * length
        return self.source.batch(key, batch_size, length, fields, split, context=context, across=across)

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        self.source.feedback(windows, priorities)

    def close(self) -> None:
        """Disconnects the limiter, and closes `source`."""
        if self._router:
            self._router.close()
        self.source.close()

    @property
    def _shards(self) -> tuple[Shard, ...]:
        return self._router.shards if self._router else ()

    def _refusal(self, total: int) -> str:
        """Why a total of drawn steps is not allowed yet; "" if it is, and then it is counted on every shard.

        The first shard that answers decides. With several, others may be inserted into meanwhile: what they count is
        as of the last second.
        """
        shards = sorted(self._shards, key=lambda s: s.away_since is not None)
        for judge in shards[:-1]:
            with suppress(TryAgain):
                return self._ask(judge, total, patience_s=0)
        return self._ask(shards[-1], total, patience_s=None) if shards else ""

    def _ask(self, judge: Shard, total: int, patience_s: float | None) -> str:
        assert self._router is not None
        pace = Pace(config=self._config.limiter, elsewhere=self._router.inserted_elsewhere(judge))
        try:
            judge.draw(self._consumer, total, pace, patience_s)
        except Held as held:
            self._held = held
            return str(held)
        self._allowed = total
        for other in self._shards:
            if other is not judge and other.away_since is None:
                with suppress(TryAgain):
                    other.report_sampled(self._consumer, total, patience_s=0)
        return ""

    def _is_forgotten(self) -> bool:
        """Whether what was sampled with leave has none any more, so that servers must have lost inserted steps."""
        if self._config.on_loss == "stop" or any(shard.away_since is not None for shard in self._shards):
            return False
        all_sampled = min(self._held.others + self._allowed, self._world * self._allowed)  # learners draw alike
        return self._limiter.forgotten(self._held.inserted, all_sampled)

    def _forgive(self) -> None:
        """Counts as many sampled steps as those that are left allow."""
        fair = min(self._allowed, self._limiter.fair(self._held.inserted) // self._world)
        _log.warning(
            "The replay counts %d inserted steps, too few for %d that were sampled; the limiter goes on from %d.",
            *(self._held.inserted, self._allowed, fair),
        )
        self._forgiven, self._allowed = self._forgiven + self._allowed - fair, fair
        for shard in self._shards:
            with suppress(TryAgain):
                shard.report_sampled(self._consumer, fair, patience_s=0)
