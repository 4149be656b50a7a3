"""The actor's side: one stream of steps, cut into chunks, each acknowledged by Redis before it counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from replay.check import check_array, check_names, fits
from replay.config import ReplayConfig
from replay.errors import BadInput, ExperienceLost
from replay.schema import FLAGS, Chunk, ChunkId, EpisodeSpec
from replay.shards.commit import Life
from replay.shards.limiter import Limiter
from replay.shards.router import Router
from replay.shards.shard import Shard
from replay.writing.block import block
from replay.writing.outbox import Outbox, Tally
from replay.writing.rescue import rescue
from replay.writing.sealed import seal
from replay.writing.spool import Spool, epochs_at, leftovers, spool_root, stream_directory

_log = logging.getLogger(__name__)
_MEND = "Give each episode as records from is_first to is_last, aligned as replay/schema.py says."


class ReplayWriter:
    """Writes the episodes of one environment, one after the other. Not for several threads at once.

    While Redis answers, a chunk is acknowledged before `add` returns. While it is away or slow, `add` goes on: chunks
    wait on the disk, up to `config.spool_bytes`, and are sent in order when Redis is back. If this process dies, at
    most the records since the last chunk are lost: the next writer of the stream on this machine sends what waits.

    If the server comes back without chunks that it had acknowledged, `add` raises ExperienceLost, or with
    `config.on_loss` = continue begins a new life of the stream: episodes that were never acknowledged go there; one
    whose beginning is lost is dropped, up to its end. `lost_chunks` counts both.
    """

    def __init__(self, config: ReplayConfig, run: str, stream: str, spec: EpisodeSpec) -> None:
        """Connects and starts a life of the stream. Raises BadInput if the run has another spec, TryAgain if no server
        answers within `connect_timeout_s`."""
        Limiter(config.limiter).check(config.chunk_steps)
        self._config, self._run, self._stream, self._spec = config, run, stream, spec
        self._spec_hash = spec.hash
        self._router = Router(config, run)
        self._router.register(spec)
        self._tally, self.lost_chunks, self._newest = Tally(), 0, 0  # _newest: life of this writer
        left = dict(self._adopt())
        self._earlier = list(left)
        self._room = config.spool_bytes - sum(box.waiting_bytes for box in self._earlier)
        self._outbox = self._begin_life(self._tally)
        for box, lost in left.items():
            if lost is not None:
                box = self._renew_earlier(box, lost)
            box.move()
        self._fields = [(f, np.dtype(f.dtype)) for f in spec.fields]
        self._layout = [(f.name, dtype, f.shape) for f, dtype in self._fields]
        self._rows = {f.name: np.zeros((config.chunk_steps, *f.shape), f.dtype) for f in spec.fields}
        self._filled = 0  # records in `_rows`
        self._actor: tuple[str, int] = ("", 0)  # who acted in `_rows`: source, policy version
        self._seq, self._episode, self._step = 0, -1, 0  # of the next chunk; current; records of it so far
        self._open = False  # whether an episode waits for its is_last
        self._orphan = False  # whether the current episode has lost its beginning

    @property
    def incarnation(self) -> int:
        """The number of the stream's life. Grows when a server has lost experience and the writer goes on."""
        return self._outbox.life.incarnation

    @property
    def acknowledged(self) -> int:
        """Steps, of this writer's own records."""
        return self._tally.steps

    @property
    def episodes(self) -> int:
        """Complete and acknowledged."""
        return self._tally.episodes

    @property
    def waiting_chunks(self) -> int:
        """Sealed and not acknowledged yet, those of earlier lives included."""
        return self._outbox.waiting_chunks + sum(box.waiting_chunks for box in self._earlier)

    def superseded(self) -> bool:
        """Whether somebody else has begun a newer life of the stream. Raises TryAgain if the server does not say."""
        return self._outbox.superseded()

    def add(self, step: Mapping[str, np.ndarray], *, source: str, policy_version: int) -> None:
        """One record. Commits when a chunk is full, at the end of an episode, and when another policy takes over.

        Raises BadInput, naming the field, for a record that does not fit the spec or breaks the order of an episode;
        TryAgain when Redis is away for `outage_s` and nothing more can wait on the disk, or when the limiter holds the
        stream for `limiter.stall_s`. Then the record is not taken: it may be given again.
        """
        is_first, is_last = self._check(step)
        if policy_version < 0:
            raise BadInput(f"Stream {self._stream!r} has policy version {policy_version}.", "Count versions from 0.")
        self._sending(lambda: self._outbox.await_room())
        actor = (source, int(policy_version))
        if self._filled and (is_first or self._actor != actor):
            self._seal()
        if is_first:
            self._episode, self._step, self._orphan = self._episode + 1, 0, False
        for name, rows in self._rows.items():
            rows[self._filled] = step[name]
        self._actor = actor
        self._filled, self._step, self._open = self._filled + 1, self._step + 1, not is_last
        if is_last or self._filled == self._config.chunk_steps:
            self._seal()

    def add_all(self, steps: Sequence[Mapping[str, np.ndarray]], *, source: str, policy_version: int) -> None:
        """`add` for each, quicker. When it raises, those before the one at fault were taken."""
        done = 0
        while done < len(steps):
            taken = self._add_block(steps[done:], (source, policy_version))
            if not taken:
                self.add(steps[done], source=source, policy_version=policy_version)
            done += taken or 1

    def _add_block(self, steps: Sequence[Mapping[str, np.ndarray]], actor: tuple[str, int]) -> int:
        """How many of the first steps were taken: those amid an episode, up to the end of the chunk. 0: there is none,
        or something may be wrong with one of them; `add` says what."""
        if not self._open or actor != self._actor:
            return 0
        arrays = block(self._layout, steps[: self._config.chunk_steps - self._filled])
        if arrays is None:
            return 0
        flags = np.any([arrays[name] for name in FLAGS], axis=0)
        count = int(flags.argmax()) if flags.any() else len(flags)
        if count:
            self._sending(lambda: self._outbox.await_room())
            self._fill(arrays, count)
        return count

    def _fill(self, arrays: Mapping[str, np.ndarray], count: int) -> None:
        """Takes so many records amid an episode."""
        end = self._filled + count
        for name, rows in self._rows.items():
            rows[self._filled : end] = arrays[name][:count]
        self._filled, self._step = end, self._step + count
        if end == self._config.chunk_steps:
            self._seal()

    def flush(self) -> None:
        """Commits what is there, even a part of a chunk, and waits until all is acknowledged. Raises TryAgain if Redis
        acknowledges nothing for `outage_s`: what waits goes on waiting."""
        if self._filled:
            self._seal()
        self._sending(lambda: self._outbox.flush())
        for box in list(self._earlier):
            if not box.away:  # a server that holds no life of ours holds nobody up
                self._finish_earlier(box)

    def close(self) -> None:
        """Flushes and disconnects."""
        try:
            self.flush()
        finally:
            for box in (*self._earlier, self._outbox):
                box.close()
            self._router.close()

    def _check(self, step: Mapping[str, np.ndarray]) -> tuple[bool, bool]:
        """(is_first, is_last) of a record that may be stored."""
        if step.keys() != self._rows.keys():
            check_names(self._spec, step, self._where)
        for field, dtype in self._fields:
            if not fits(dtype, step[field.name], field.shape):
                check_array(field, np.asarray(step[field.name]), field.shape, self._where)
        first, last, terminal = (bool(step.get(n, False)) for n in ("is_first", "is_last", "is_terminal"))
        if not first and not self._open:
            raise BadInput(f"Field 'is_first' is false, though no episode is open, {self._where}.", _MEND)
        if terminal and not last:
            raise BadInput(f"Field 'is_terminal' is true but 'is_last' is not {self._where}.", _MEND)
        if first and any(np.any(step[f.name]) for f in self._spec.fields if f.role in ("action", "reward")):
            raise BadInput(f"An action or reward is not zero at is_first {self._where}.", _MEND)
        return first, last

    @property
    def _where(self) -> str:
        return f"at step {self._step} of episode {max(self._episode, 0)} of stream {self._stream!r}"

    def _seal(self) -> None:
        """Freezes the rows as a chunk: a retry must send the very same steps, for it may have arrived already."""
        source, version = self._actor
        if self._orphan:
            self.lost_chunks, self._filled = self.lost_chunks + 1, 0
            return
        chunk = Chunk(
            id=ChunkId(self._stream, self.incarnation, self._seq),
            episode=self._episode,
            first_step=self._step - self._filled,
            policy_version=version,
            source=source,
            spec_hash=self._spec_hash,
            run=self._run,
            arrays={name: rows[: self._filled] for name, rows in self._rows.items()},
        )
        self._outbox.put(seal(chunk, self._config.codec, ends_episode=not self._open))
        self._seq, self._filled = self._seq + 1, 0
        with suppress(ExperienceLost):  # the next call says so, before it takes a record
            self._outbox.move()
        self._leave_drained()

    def _sending(self, act: Callable[[], None]) -> None:
        while True:
            try:
                return act()
            except ExperienceLost as error:
                if self._config.on_loss == "stop":
                    raise
                self._begin_again(error)

    def _begin_again(self, error: ExperienceLost) -> None:
        """A new life, for the server does not know this one any more."""
        self._router.register(self._spec)
        old, new = self._outbox, self._begin_life(self._tally)
        rescued = rescue(old, new, self._spec, self._config.codec)
        old.close()
        self.lost_chunks += error.chunks + rescued.dropped
        _log.warning(
            "%s Stream %s goes on as life %d: %d waiting chunks come along, %d without their beginning do not.",
            *(error.message, self._stream, new.life.incarnation, rescued.chunks, rescued.dropped),
        )
        under_way = self._open or self._filled > 0
        self._orphan = under_way and self._episode not in rescued.episodes and self._step > self._filled
        self._episode = rescued.episodes.get(self._episode, rescued.begun - (not under_way))
        self._outbox, self._seq = new, rescued.chunks

    def _begin_life(self, tally: Tally, room: int | None = None) -> Outbox:
        shard, life = self._router.begin_life(self._stream, above=self._newest)
        self._newest = life.incarnation
        directory = self._spool_directory(life.epoch) / f"{life.incarnation}-{life.token}"
        spool = Spool(directory, self._room if room is None else room, shard.name)
        return Outbox(self._config, self._router, shard, life, spool, tally)

    def _adopt(self) -> Iterator[tuple[Outbox, int | None]]:
        """What earlier lives of the stream, of dead processes of this machine, have left on the disk; and for what
        cannot be sent as the life that it was, how many chunks of that are lost."""
        here = {epoch: shard for shard, epoch in self._router.epochs.items()}
        for epoch in sorted({*here, *epochs_at(spool_root(self._config.spool_dir), self._run)}):
            for incarnation, token, spool in leftovers(self._spool_directory(epoch)):
                shard = here.get(epoch) or self._successor(spool)
                if shard is None or not spool.chunks:
                    spool.close()
                    continue
                life = Life(stream=self._stream, incarnation=incarnation, token=token, epoch=epoch)
                lost = (spool.missing or None) if epoch in here else spool.missing + spool.acknowledged + 1
                _log.info("Life %d of stream %s left %d chunks.", incarnation, self._stream, spool.chunks)
                yield Outbox(self._config, self._router, shard, life, spool), lost

    def _successor(self, spool: Spool) -> Shard | None:
        """The server for which these chunks wait, if it has come back with another data set and may have them."""
        shard = next((shard for shard in self._router.epochs if shard.name == spool.server), None)
        if shard is None or self._config.on_loss == "continue":
            return shard
        _log.warning(
            "%d chunks of stream %s wait in %s for data that Redis at %s does not have any more. Bring it back, or set "
            "replay.on_loss=continue.",
            *(spool.chunks, self._stream, spool.directory, shard.name),
        )
        return None

    def _finish_earlier(self, box: Outbox) -> None:
        """Waits until an earlier life's chunks are acknowledged, in a new life if the server lost that one."""
        while True:
            try:
                box.flush()
                break
            except ExperienceLost as error:
                if self._config.on_loss == "stop":
                    raise
                self._router.register(self._spec)  # the server may have another epoch now
                box = self._renew_earlier(box, error.chunks)
        self._earlier.remove(box)
        box.close()

    def _leave_drained(self) -> None:
        """Lets go of what earlier lives had left, once none of it waits any more."""
        for box in [box for box in self._earlier if not box.waiting_chunks]:
            self._earlier.remove(box)
            box.close()

    def _renew_earlier(self, old: Outbox, lost: int) -> Outbox:
        """What waits there goes into a new life."""
        new = self._begin_life(Tally(), room=2 * old.waiting_bytes)  # for the same again: names may be longer
        rescued = rescue(old, new, self._spec, self._config.codec)
        self.lost_chunks += lost + rescued.dropped
        _log.warning(
            "Stream %s has lost %d chunks of life %d: %d that wait go on as life %d, %d without a beginning do not.",
            *(self._stream, lost, old.life.incarnation, rescued.chunks, new.life.incarnation, rescued.dropped),
        )
        self._earlier[self._earlier.index(old)] = new
        old.close()
        return new

    def _spool_directory(self, epoch: str) -> Path:
        return stream_directory(spool_root(self._config.spool_dir), self._run, epoch, self._stream)
