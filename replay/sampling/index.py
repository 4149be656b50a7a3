"""A reader's mirror of what is stored: plain numpy, under a hundred bytes a chunk, draws whose cost does not grow."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np

from replay.config import SamplingConfig
from replay.errors import BadInput
from replay.sampling.draws import Drawn
from replay.sampling.rows import POSITION, POSITION_BITS, Rows, Stretch, grown
from replay.sampling.sampler import Kind, Sampler
from replay.schema import ChunkId, Entry, EpisodeKey, Window
from replay.source import Split, split_of

_MIX = [(np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB))]


class EpisodeIndex:
    """Of each episode the part without gaps from its first step on is on offer: what comes behind a gap is not, and an
    episode that has lost its first chunk to eviction goes as a whole, its other chunks being next to go anyway.

    A `ref` is the handle of a chunk on offer: it names that chunk and, once it is gone, nothing else. The chunks of a
    life come from one shard, in the order of their numbers. Not for several threads at once.
    """

    def __init__(self, valid_share: float = 0.1, sampling: SamplingConfig | None = None) -> None:
        self.version = 0  # changes whenever what is on offer does
        self.steps = self.chunks = 0  # on offer
        self._valid_share = valid_share
        self._rows = Rows()
        self._cursors: dict[int, int] = {}  # by shard: of the newest entry
        self._oldest: dict[int, int] = {}  # by shard: what came before is forgotten
        self._sources: dict[str, int] = {}  # label -> number
        self._names: list[str] = []  # the labels by number
        self._hashes = np.zeros((0, 2), np.uint64)  # of the lives, by number
        self._changed: set[int] = set()  # lives, since the last draw
        self._keys: tuple[int, dict[Split, tuple[EpisodeKey, ...]]] = (-1, {})
        self._sampler = Sampler(self._rows, self._names, sampling or SamplingConfig())

    def cursor(self, shard: int) -> int:
        """Of the newest entry seen of this shard; 0 before the first."""
        return self._cursors.get(shard, 0)

    def add_many(self, shard: int, entries: Iterable[tuple[int, Entry]]) -> None:
        """The next entries of a shard with their cursors, in order."""
        for cursor, entry in entries:
            self.add(shard, cursor, entry)

    def add(self, shard: int, cursor: int, entry: Entry) -> None:
        """The next entry of a shard. Entries seen before change nothing. Raises BadInput for numbers out of range."""
        if cursor <= self._cursors.get(shard, 0):
            return
        self._cursors[shard] = cursor
        name = (entry.id.stream, entry.id.incarnation)
        life = self._rows.named.get(name)
        if life is None:
            if entry.first_step or min(entry.steps - 1, entry.episode, entry.id.seq) < 0:
                return  # its beginning is gone, or it can never have been
            life = self._begin(name, shard)
        if not self._follows(life, shard, entry):
            return
        source = self._sources.get(entry.source)
        if source is None:
            source = self._source(entry.source)
        if entry.first_step == 0:
            life.group = 2 * source + (split_of(entry.episode_key, self._valid_share) == "valid")
        place = (life.number, entry.id.seq, entry.episode, entry.first_step, entry.steps)
        try:
            row = self._rows.append(life, (cursor, entry.policy_version, entry.checksum, *place, source, life.group))
        except OverflowError:
            raise BadInput(f"Chunk {entry.id} has numbers out of range.", "Look for who writes such chunks.") from None
        life.seq, life.episode, life.reach = entry.id.seq, entry.episode, entry.first_step + entry.steps
        if self._sampler.attentive:
            self._sampler.arrived(row, entry)
        self._changed.add(life.number)
        self.steps, self.chunks, self.version = self.steps + entry.steps, self.chunks + 1, self.version + 1

    def drop_before(self, shard: int, cursor: int) -> None:
        """Forgets what was evicted: all entries of the shard with smaller cursors."""
        if cursor <= self._oldest.get(shard, 0):
            return
        self._oldest[shard] = min(cursor, self.cursor(shard) + 1)
        cursors = self._rows.table["cursor"]
        for life in [x for x in self._rows.named.values() if x.shard == shard and cursors[x.head + x.offset] < cursor]:
            first = bisect_left(cursors, cursor, life.head + life.offset, life.tail + life.offset)
            self._drop_head(life, first - life.offset)

    def drop(self, ref: int) -> None:
        """Ends the episode of a chunk in front of it; nothing if the chunk is gone already."""
        row = self._rows.row(ref)
        if row < 0:
            return
        life = self._rows.life_of(row)
        episode = int(self._rows.table["episode"][row])
        end = self._rows.episode(life.key(episode))[1]
        if episode == life.episode:
            life.reach = -1
        self._forget_rows(row, end)
        self._sampler.forget(life.number)
        self._changed.add(life.number)
        self._drop_head(life, life.head)

    def clear(self, shard: int) -> None:
        """Forgets all that came from a shard, its cursor too."""
        for life in [x for x in self._rows.named.values() if x.shard == shard]:
            self._drop_head(life, life.tail)
        self._cursors.pop(shard, None)
        self._oldest.pop(shard, None)

    def keys(self, split: Split) -> tuple[EpisodeKey, ...]:
        """The episodes of one side, sorted."""
        if self._keys[0] != self.version:
            self._keys = (self.version, {"train": self._all_keys(0), "valid": self._all_keys(1)})
        return self._keys[1][split]

    def refs(self, key: EpisodeKey) -> list[int]:
        """The chunks of an episode, in order. Raises KeyError if it is not on offer."""
        begin, end = self._rows.episode(key)
        rows = begin + np.flatnonzero(self._rows.table["steps"][begin:end])
        if not len(rows):
            raise KeyError(f"episode {key} is not in the replay")
        return self._rows.refs(rows).tolist()

    def entry(self, ref: int) -> Entry:
        """What was added. Raises KeyError if the chunk is gone."""
        row = self._row(ref)
        _, version, checksum, _, seq, episode, first_step, steps, source, _ = self._rows.table[row].item()
        return Entry(
            id=ChunkId(*self._rows.life_of(row).name, seq),
            episode=episode,
            first_step=first_step,
            steps=steps,
            source=self._names[source],
            policy_version=version,
            checksum=checksum,
        )

    def shard(self, ref: int) -> int:
        """The shard of a chunk. Raises KeyError if the chunk is gone."""
        return self._rows.life_of(self._row(ref)).shard

    def cursor_of(self, ref: int) -> int:
        """The cursor that a chunk was added with. Raises KeyError if the chunk is gone."""
        return int(self._rows.table["cursor"][self._row(ref)])

    def keys128(self, refs: np.ndarray) -> np.ndarray:
        """(n, 2) uint64 that name the content of chunks on offer: hashes of their ids and checksums, equal in every
        process that reads the same chunk."""
        lives = refs >> POSITION_BITS
        rows, words = (refs & POSITION) + self._rows.offset[lives], self._hashes[lives]
        words[:, 0] ^= self._rows.table["seq"][rows].astype(np.uint64)
        words[:, 1] ^= self._rows.table["checksum"][rows]
        _mix(words)
        return words

    def draw(
        self,
        key: tuple[int, ...],
        batch_size: int,
        length: int,
        split: Split = "train",
        *,
        context: int = 0,
        across: bool = False,
        labels: frozenset[str] | None = None,
        away: frozenset[int] = frozenset(),
    ) -> Drawn:
        """Draws a batch, see `Source.batch`: of episodes that began with one of these `labels` (None: all), leaving out
        the lives on shards that are `away`. Raises LookupError if no episode is long enough."""
        self._note()
        return self._sampler.draw(key, batch_size, Kind(length, split == "valid", across, labels), context, away)

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """See `Source.feedback`: a window's chunk is the one that it starts in, context left aside."""
        self._note()
        self._sampler.feedback(windows, priorities)

    def take_hints(self) -> dict[int, bytes]:
        """For other learners: what feedback has set since the last call, by shard."""
        return self._sampler.take_hints()

    def give_hints(self, payload: bytes) -> None:
        """What another learner's index gave to `take_hints`. One's own, and what cannot be read, changes nothing."""
        self._note()
        self._sampler.give_hints(payload)

    @property
    def malformed_hints(self) -> int:
        """Hints so far that could not be read."""
        return self._sampler.malformed_hints

    def _note(self) -> None:
        self._sampler.note(self._changed)
        self._changed.clear()

    def _begin(self, name: tuple[str, int], shard: int) -> Stretch:
        life = self._rows.begin(name, shard)
        digest = hashlib.blake2b(f"{name[0]}/{name[1]}".encode(), digest_size=16).digest()
        self._hashes = grown(self._hashes, life.number + 1)
        self._hashes[life.number] = np.frombuffer(digest, "<u8")
        return life

    def _follows(self, life: Stretch, shard: int, entry: Entry) -> bool:
        if shard != life.shard or entry.id.seq <= life.seq or entry.steps < 1:
            return False
        if entry.first_step == 0:
            return entry.episode > life.episode
        return entry.episode == life.episode and entry.first_step == life.reach

    def _source(self, label: str) -> int:
        self._names.append(label)
        self._sources[label] = len(self._names) - 1
        return self._sources[label]

    def _drop_head(self, life: Stretch, head: int) -> None:
        """Lets a life begin at its first whole episode from position `head` on; ends it if there is none."""
        table = self._rows.table
        begins, steps = table["first_step"], table["steps"]
        while head < life.tail and (begins[head + life.offset] or not steps[head + life.offset]):
            head += 1
        if head == life.head:
            return
        self._forget_rows(life.head + life.offset, head + life.offset)
        self._changed.add(life.number)
        life.head = head
        if head == life.tail:
            self._rows.end(life)

    def _forget_rows(self, begin: int, end: int) -> None:
        self._sampler.lose(begin, end)
        steps = self._rows.table["steps"][begin:end]
        self.steps -= int(steps.sum())
        self.chunks -= int(np.count_nonzero(steps))
        self.version += 1
        steps[:] = 0

    def _row(self, ref: int) -> int:
        row = self._rows.row(ref)
        if row < 0:
            raise KeyError(f"chunk {ref:#x} is not in the replay")
        return row

    def _all_keys(self, side: int) -> tuple[EpisodeKey, ...]:
        keys: list[EpisodeKey] = []
        for number in self._rows.order.tolist():
            life = self._rows.lives[number]
            assert life is not None, "the order names lives"
            chunks = self._rows.table[life.head + life.offset : life.tail + life.offset]
            first = (chunks["first_step"] == 0) & (chunks["steps"] > 0) & (chunks["group"] % 2 == side)
            keys += [life.key(episode) for episode in chunks["episode"][first].tolist()]
        return tuple(keys)


def _mix(words: np.ndarray) -> None:
    """In place, a bijection of 64 bits that spreads each of them over all (the finalizer of SplitMix64)."""
    for shift, factor in _MIX:
        words ^= words >> shift
        words *= factor
    words ^= words >> np.uint64(31)
