"""A thousand forged bodies, each to fool one check: none is accepted, none does worse than raise CorruptChunk."""

from __future__ import annotations

import contextlib
import resource
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from forgeries import FORGERIES, MARK
from legal_chunk import CODECS, RUN, STEPS, Legal
from replay_cases import SPEC, make_steps, write

from replay.arena.loader import checked
from replay.codec import CorruptChunk, checksum_of
from replay.config import Codec, ReplayConfig
from replay.schema import Entry
from replay.shards.router import Router
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

BODIES = 1000
BOUND = 32 * 2**20  # bytes that a refusal may take at most; the bombs would take gigabytes


def forgeries(seed: int = 0) -> Iterator[tuple[str, Legal, bytes]]:
    """(way and number, what was forged, the forgery), every way as often."""
    random = Random(seed)
    for number in range(BODIES):
        forge, legal = FORGERIES[number % len(FORGERIES)], Legal(f"s{number}")
        yield f"{forge.__name__} {number}", legal, forge(random, legal)


def named(legal: Legal, body: bytes) -> Entry:
    """The index entry of somebody who controls the index too: it names the forgery's own checksum."""
    return replace(legal.entry, checksum=checksum_of(body) if len(body) >= 12 else 0)


@contextlib.contextmanager
def bounded(more: int) -> Iterator[None]:
    """This process may not take more memory than it has, and this much: MemoryError for who tries."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_forged_would_be_accepted_otherwise(codec: Codec) -> None:
    legal = Legal()
    body = legal.body(codec)
    assert (checked(named(legal, body), body, SPEC, RUN)["image"] == legal.chunk.arrays["image"]).all()


def test_a_thousand_forgeries_are_refused() -> None:
    made = list(forgeries())
    MARK.unlink(missing_ok=True)
    accepted = []
    tracemalloc.start()
    try:
        with bounded(4 * BOUND):
            for way, legal, body in made:
                try:
                    checked(named(legal, body), body, SPEC, RUN)
                except CorruptChunk:
                    continue
                accepted.append(way)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not accepted
    assert peak < BOUND
    assert not MARK.exists(), "a forged body was run"


def test_a_reader_leaves_a_thousand_forgeries_out_and_goes_on(config: ReplayConfig, tmp_path: Path) -> None:
    """They lie in a real Redis under index entries that are all right."""
    config = replace(config, arena_dir=str(tmp_path))
    with contextlib.closing(ReplayWriter(config, RUN, "good", SPEC)) as writer:
        for seed in range(50):
            write(writer, make_steps(STEPS, seed))
    router = Router(config, RUN)
    for _, legal, body in forgeries():
        router.shards[0].commit(named(legal, body), body, config.max_bytes)
    source = RedisSource(config, RUN, SPEC)
    assert source.refresh() == STEPS * (BODIES + 50)
    for number in range(300):
        batch = source.batch((number,), 16, 8)
        assert {w.key.stream for w in batch.windows} == {"good"}
    for key in [*source.episodes("train"), *source.episodes("valid")]:
        with contextlib.suppress(KeyError):  # left out just now
            episode = source.episode(key)
            assert (episode.arrays["image"] == make_steps(STEPS, key.episode)["image"]).all()
    assert source.rejected == BODIES
    assert source.refresh() == STEPS * 50
    source.close()
    router.close()
