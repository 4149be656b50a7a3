"""A new life for chunks that were never acknowledged, after their shard has lost the life that they belonged to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from replay.codec import decode
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
    dropped: int  # chunks whose episode has lost earlier ones, or that found no room


def rescue(old: Outbox, new: Outbox, spec: EpisodeSpec, codec: Codec) -> Rescued:
    """Moves what waits in `old` to `new`, under new numbers: the episodes whose beginning is among it. A chunk of an
    episode whose beginning is lost is of no use to a reader; it is dropped. So is what follows a chunk that finds no
    room: an episode may end early, but has no gap."""
    episodes: dict[int, int] = {}
    begun = chunks = dropped = 0
    for sealed in old.take():
        episode = sealed.entry.episode
        if sealed.entry.first_step == 0:
            episodes[episode], begun = begun, begun + 1
        if episode in episodes and new.restore(_renumbered(sealed, new, chunks, episodes[episode], spec, codec)):
            chunks += 1
        else:
            episodes.pop(episode, None)
            dropped += 1
    return Rescued(episodes=episodes, begun=begun, chunks=chunks, dropped=dropped)


def _renumbered(sealed: Sealed, new: Outbox, seq: int, episode: int, spec: EpisodeSpec, codec: Codec) -> Sealed:
    chunk = decode(sealed.body, spec)
    chunk_id = ChunkId(new.life.stream, new.life.incarnation, seq)
    return seal(replace(chunk, id=chunk_id, episode=episode), codec, sealed.ends_episode)
