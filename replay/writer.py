"""The actor's side: one stream of steps, cut into chunks, each acknowledged by Redis before it counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from replay.check import check_array, check_names
from replay.codec import checksum_of, encode
from replay.commit import Claim
from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.router import Router
from replay.schema import Chunk, ChunkId, Entry, EpisodeSpec

_MEND = "Give each episode as records from is_first to is_last, aligned as replay/schema.py says."


class ReplayWriter:
    """Writes the episodes of one environment, one after the other. Not for several threads at once.

    If this process dies, at most the records since the last acknowledgement are lost: less than a chunk while Redis
    answers. After a TryAgain nothing is lost: what waits goes out at the next call, under the same ids.
    """

    def __init__(self, config: ReplayConfig, run: str, stream: str, spec: EpisodeSpec) -> None:
        """Connects and starts a life of the stream. Raises TryAgain, or BadInput if the run has another spec."""
        self._router = Router(config, run)
        self._router.register(spec)
        self._shard, self._life = self._router.begin_life(stream)
        self._config, self._run, self._stream, self._spec = config, run, stream, spec
        self.incarnation = self._life.incarnation
        self.acknowledged = 0  # steps
        self.episodes = 0  # complete and acknowledged
        self._rows = {f.name: np.zeros((config.chunk_steps, *f.shape), f.dtype) for f in spec.fields}
        self._filled = 0  # records in `_rows`
        self._actor: tuple[str, int] = ("", 0)  # who acted in `_rows`: source, policy version
        self._seq, self._episode, self._step = 0, -1, 0  # of the next chunk; current; records of it so far
        self._open = False  # whether an episode waits for its is_last
        self._sealed: deque[tuple[Entry, bytes, bool]] = deque()  # not yet acknowledged; ends an episode?

    def add(self, step: Mapping[str, np.ndarray], *, source: str, policy_version: int) -> None:
        """One record. Commits when a chunk is full, at the end of an episode, and when another policy takes over.

        Raises BadInput, naming the field, for a record that does not fit the spec or breaks the order of an episode: it
        is not taken. Raises TryAgain if Redis stays away: the record is taken and goes out with a later call.
        """
        is_first, is_last = self._check(step)
        if policy_version < 0:
            raise BadInput(f"Stream {self._stream!r} has policy version {policy_version}.", "Count versions from 0.")
        actor = (source, int(policy_version))
        if self._filled and (is_first or self._actor != actor):
            self._seal()
        if is_first:
            self._episode, self._step = self._episode + 1, 0
        for name, rows in self._rows.items():
            rows[self._filled] = step[name]
        self._actor = actor
        self._filled, self._step, self._open = self._filled + 1, self._step + 1, not is_last
        if is_last or self._filled == self._config.chunk_steps:
            self._seal()
        self._send()

    def flush(self) -> None:
        """Commits what is there, even a part of a chunk."""
        if self._filled:
            self._seal()
        self._send()

    def close(self) -> None:
        """Flushes and disconnects."""
        try:
            self.flush()
        finally:
            self._router.close()

    def _check(self, step: Mapping[str, np.ndarray]) -> tuple[bool, bool]:
        """(is_first, is_last) of a record that may be stored."""
        where = f"at step {self._step} of episode {max(self._episode, 0)} of stream {self._stream!r}"
        check_names(self._spec, step, where)
        for field in self._spec.fields:
            check_array(field, np.asarray(step[field.name]), field.shape, where)
        first, last, terminal = (bool(step.get(n, False)) for n in ("is_first", "is_last", "is_terminal"))
        if not first and not self._open:
            raise BadInput(f"Field 'is_first' is false, though no episode is open, {where}.", _MEND)
        if terminal and not last:
            raise BadInput(f"Field 'is_terminal' is true but 'is_last' is not {where}.", _MEND)
        if first and any(np.any(step[f.name]) for f in self._spec.fields if f.role in ("action", "reward")):
            raise BadInput(f"An action or reward is not zero at is_first {where}.", _MEND)
        return first, last

    def _seal(self) -> None:
        """Freezes the rows as a chunk: a retry must send the very same steps, for it may have arrived already."""
        source, version = self._actor
        first_step = self._step - self._filled
        chunk = Chunk(
            id=ChunkId(self._stream, self.incarnation, self._seq),
            episode=self._episode,
            first_step=first_step,
            policy_version=version,
            source=source,
            spec_hash=self._spec.hash,
            run=self._run,
            arrays={name: rows[: self._filled] for name, rows in self._rows.items()},
        )
        body = encode(chunk, self._config.codec)
        entry = Entry(
            id=chunk.id,
            episode=chunk.episode,
            first_step=first_step,
            steps=chunk.steps,
            source=source,
            policy_version=version,
            checksum=checksum_of(body),
        )
        self._sealed.append((entry, body, not self._open))
        self._seq, self._filled = self._seq + 1, 0

    def _send(self) -> None:
        """Commits the sealed chunks in order."""
        while self._sealed:
            entry, body, ends_episode = self._sealed[0]
            self._shard.commit(entry, body, self._router.max_bytes, Claim(life=self._life))
            self._sealed.popleft()
            self.acknowledged += entry.steps
            self.episodes += ends_episode
