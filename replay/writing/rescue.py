"""A new life for chunks that were never acknowledged, after their shard has lost the life that they belonged to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from replay.codec import CorruptChunk, decode
from replay.config import Codec
from replay.schema import ChunkId, EpisodeSpec
from replay.writing.outbox import Outbox
from replay.writing.sealed import Sealed, seal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """What became of the waiting chunks."""

    episodes: dict[int, int]  # that came along whole so far: their number in the old life to that in the new one
    begun: int  # episodes of the new life
    chunks: int
    dropped: int  # chunks whose episode has lost earlier ones, or that found no room or cannot be read


def rescue(old: Outbox, new: Outbox, spec: EpisodeSpec, codec: Codec) -> Rescued:
    """Moves what waits in `old` to `new`, under new numbers: the episodes whose beginning is among it. A chunk of an
    episode whose beginning is lost is of no use to a reader; it is dropped. So is what follows a chunk that is missing
    or finds no room: an episode may end early, but has no gap."""
    episodes: dict[int, int] = {}
    begun = chunks = dropped = reached = 0  # `reached`: steps of the episode so far
    for sealed in old.take():
        entry = sealed.entry
        if entry.first_step == 0:
            episodes[entry.episode], begun, reached = begun, begun + 1, 0
        follows = entry.episode in episodes and entry.first_step == reached
        if follows and _restored(sealed, new, chunks, episodes[entry.episode], spec, codec):
            chunks, reached = chunks + 1, reached + entry.steps
        else:
            episodes.pop(entry.episode, None)
            dropped += 1
    return Rescued(episodes=episodes, begun=begun, chunks=chunks, dropped=dropped)


def _restored(sealed: Sealed, new: Outbox, seq: int, episode: int, spec: EpisodeSpec, codec: Codec) -> bool:
    """Whether it could be read, and found room under its new name."""
    try:
        chunk = decode(sealed.body, spec)
    except CorruptChunk:
        return False
    chunk_id = ChunkId(new.life.stream, new.life.incarnation, seq)
    return new.restore(seal(replace(chunk, id=chunk_id, episode=episode), codec, sealed.ends_episode))
