"""Both sources draw the same windows; draws are seeded, uniform and never leave an episode."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import redis
from replay_cases import SPEC, make_episodes, make_steps, write

from replay.arena.loader import checked
from replay.codec import CorruptChunk, checksum_of, decode, encode
from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.schema import Chunk, ChunkId, Entry, Episode, EpisodeKey
from replay.source import split_of
from replay.sources.memory import MemorySource
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter

LENGTHS = [3, 8, 9, 30, 17, 24, 2, 41, 16, 12, 25, 33]


@pytest.fixture
def filled(config: ReplayConfig, run: str) -> RedisSource:
    writer = ReplayWriter(config, run, "s", SPEC)
    for episode in make_episodes("s", LENGTHS):
        write(writer, dict(episode.arrays))
    return RedisSource(config, run, SPEC)


@pytest.fixture
def memory() -> MemorySource:
    return MemorySource(SPEC, make_episodes("s", LENGTHS))


def test_the_sources_are_equal(filled: RedisSource, memory: MemorySource) -> None:
    assert filled.refresh() == memory.refresh() == sum(LENGTHS)
    for split in ("train", "valid"):
        assert filled.episodes(split) == memory.episodes(split)
        for key in memory.episodes(split):
            one, other = filled.episode(key), memory.episode(key)
            assert (one.key, one.source, one.policy_version) == (other.key, other.source, other.policy_version)
            for name, array in other.arrays.items():
                assert (one.arrays[name] == array).all()
    for step in range(20):
        one, other = filled.batch((7, step), 5, 9), memory.batch((7, step), 5, 9)
        assert one.windows == other.windows
        assert one.arrays.keys() == other.arrays.keys()
        for name, array in other.arrays.items():
            assert one.arrays[name].dtype == array.dtype
            assert (one.arrays[name] == array).all()


def test_a_batch_is_a_function_of_its_key(filled: RedisSource, config: ReplayConfig, run: str) -> None:
    again = RedisSource(config, run, SPEC)  # no cache, no history
    for _ in range(3):
        filled.batch((99,), 4, 8)
    for key in ((0,), (0, 1), (0, 2), (1, 0)):
        one, other = filled.batch(key, 6, 8), again.batch(key, 6, 8)
        assert one.windows == other.windows
        assert (one.arrays["image"] == other.arrays["image"]).all()
    assert filled.batch((0, 1), 6, 8).windows != filled.batch((0, 2), 6, 8).windows


def test_windows_stay_within_their_episode(filled: RedisSource) -> None:
    lengths = dict(enumerate(LENGTHS))
    for step in range(30):
        batch = filled.batch((step,), 8, 9, fields=("state", "is_first"))
        assert set(batch.arrays) == {"state", "is_first"}
        assert batch.arrays["state"].shape == (8, 9, 5)
        for row, window in enumerate(batch.windows):
            state = batch.arrays["state"][row]
            assert (state[:, 1] == window.key.episode).all(), "one episode"
            assert (state[:, 0] == np.arange(window.start, window.start + 9)).all(), "consecutive steps"
            assert window.start + 9 <= lengths[window.key.episode]
            assert not batch.arrays["is_first"][row, 1:].any()


def test_the_split_is_fixed_and_has_its_share() -> None:
    keys = [EpisodeKey(f"s{s}", 1, e) for s in range(20) for e in range(100)]
    valid = sum(split_of(k, 0.1) == "valid" for k in keys)
    assert 150 < valid < 250
    assert split_of(EpisodeKey("s", 1, 3), 0.1) == "train"  # the same in every process and release
    assert {split_of(k, 0.0) for k in keys} == {"train"}


def test_a_source_without_long_episodes_says_so(filled: RedisSource, config: ReplayConfig) -> None:
    with pytest.raises(LookupError, match=r"no episode has 100 steps.*longest with 41"):
        filled.batch((0,), 2, 100)
    with pytest.raises(LookupError, match="there are 0"):
        RedisSource(config, "empty", SPEC).batch((0,), 2, 1)
    with pytest.raises(KeyError):
        filled.episode(EpisodeKey("nobody", 1, 0))


def test_refresh_alone_shows_what_is_new(config: ReplayConfig, run: str) -> None:
    source, writer = RedisSource(config, run, SPEC), ReplayWriter(config, run, "s", SPEC)
    arrays = make_steps(20)
    for t in range(16):
        writer.add({k: a[t] for k, a in arrays.items()}, source="random", policy_version=0)
    with pytest.raises(LookupError):
        source.batch((0,), 2, 4)
    assert source.refresh() == 16
    assert len(source.episode(EpisodeKey("s", 1, 0)).arrays["reward"]) == 16, "the part stored so far"
    for t in range(16, 20):
        writer.add({k: a[t] for k, a in arrays.items()}, source="random", policy_version=0)
    assert source.refresh() == 20
    assert (source.episode(EpisodeKey("s", 1, 0), ("state",)).arrays["state"] == arrays["state"]).all()


def test_evicted_experience_is_never_offered(redis_url: str, run: str) -> None:
    """A reader that has not refreshed meets missing bodies: it draws from what is left."""
    config = ReplayConfig(url=redis_url, chunk_steps=8, max_bytes=40_000, arena_bytes=0, valid_share=0.0)
    writer = ReplayWriter(config, run, "s", SPEC)
    for seed in range(20):
        write(writer, make_steps(24, seed=seed))
    source = RedisSource(config, run, SPEC)
    before = source.episodes("train")
    for seed in range(20, 25):
        write(writer, make_steps(24, seed=seed))
    batch = source.batch((0,), 64, 8)
    kept = source.episodes("train")
    assert 0 < len(kept) < len(before)
    assert {w.key for w in batch.windows} <= set(kept)
    with pytest.raises(KeyError):
        source.episode(before[0])
    assert source.refresh() == 24 * len(source.episodes("train"))
    for key in source.episodes("train"):
        assert (source.episode(key).arrays["state"] == make_steps(24, seed=key.episode)["state"]).all()
    for seed in range(25, 80):
        write(writer, make_steps(24, seed=seed))
    with pytest.raises(LookupError):
        source.batch((0,), 64, 8)  # all it knew is gone


def test_readers_and_writers_at_once(redis_url: str, run: str) -> None:
    config = ReplayConfig(url=redis_url, chunk_steps=8, max_bytes=40_000, arena_bytes=5_000, valid_share=0.0)
    writer = ReplayWriter(config, run, "s", SPEC)
    write(writer, make_steps(24, seed=0))
    source = RedisSource(config, run, SPEC)
    stop, failures = threading.Event(), []

    def read(reader: int) -> None:
        step = 0
        while not stop.is_set():
            step += 1
            source.refresh()
            try:
                batch = source.batch((reader, step), 4, 10)
            except LookupError:
                continue  # the writer was faster than refresh
            for row, window in enumerate(batch.windows):
                good = (batch.arrays["state"][row, :, 1] == window.key.episode).all()
                good &= (batch.arrays["state"][row, :, 0] == np.arange(window.start, window.start + 10)).all()
                if not good:
                    failures.append(window)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for seed in range(1, 100):
        write(writer, make_steps(24, seed=seed))
    stop.set()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert not failures


@pytest.mark.parametrize("damage", ["rubbish", "another chunk", "other content", "a flipped bit"])
def test_a_damaged_body_is_left_out(
    filled: RedisSource, run: str, redis_url: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong with the body: said once, counted, and training goes on with the other chunks."""
    client, key = redis.Redis.from_url(redis_url), f"{{distwm:{run}}}:chunk:s/1/"
    body = client.get(key + "0")
    bad = {
        "rubbish": b"rubbish",
        "another chunk": client.get(key + "2"),
        "other content": encode(replace(decode(body, SPEC), policy_version=7)),
        "a flipped bit": body[:-9] + bytes([body[-9] ^ 1]) + body[-8:],
    }
    client.set(key + "0", bad[damage])
    with pytest.raises(KeyError):
        filled.episode(EpisodeKey("s", 1, 0))
    assert filled.rejected == 1
    assert caplog.text.count("is left out: ") == 1
    assert EpisodeKey("s", 1, 0) not in [*filled.episodes("train"), *filled.episodes("valid")]
    for step in range(20):
        batch = filled.batch((step,), 8, 2)
        for row, window in enumerate(batch.windows):
            assert (batch.arrays["state"][row, :, 1] == window.key.episode).all()
    filled.refresh()
    assert filled.rejected == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"run": "another"}, "belongs to run 'another'"),
        ({"id": ChunkId("s", 1, 1)}, "is that of s/1/1"),
        ({"first_step": 8}, "is that of"),
        ({"episode": 1}, "is that of"),
        ({"policy_version": 1}, "another one than the index names"),
    ],
)
def test_a_body_must_be_what_the_index_names(change: dict, reason: str) -> None:
    chunk = Chunk(
        id=ChunkId("s", 1, 0),
        episode=0,
        first_step=0,
        policy_version=0,
        source="x",
        spec_hash=SPEC.hash,
        run="run",
        arrays=make_steps(8),
    )
    fields = {n: getattr(chunk, n) for n in ("id", "episode", "first_step", "steps", "source", "policy_version")}
    entry = Entry(**fields, checksum=checksum_of(encode(chunk)))
    assert (checked(entry, encode(chunk), SPEC, "run")["state"] == chunk.arrays["state"]).all()
    body = encode(replace(chunk, **change))
    if "policy_version" not in change:
        entry = replace(entry, checksum=checksum_of(body))
    with pytest.raises(CorruptChunk, match=reason):
        checked(entry, body, SPEC, "run")


def test_a_batch_goes_on_without_damaged_chunks(filled: RedisSource, run: str, redis_url: str) -> None:
    """Half of the bodies are bad: batches are drawn from the other half."""
    client = redis.Redis.from_url(redis_url)
    for seq in range(0, 30, 2):
        client.set(f"{{distwm:{run}}}:chunk:s/1/{seq}", b"rubbish", xx=True)
    for step in range(20):
        batch = filled.batch((step,), 8, 4)
        for row, window in enumerate(batch.windows):
            assert (batch.arrays["state"][row, :, 1] == window.key.episode).all()
            assert (batch.arrays["state"][row, :, 0] == np.arange(window.start, window.start + 4)).all()
    assert 5 < filled.rejected <= 15


def test_several_chunks_of_an_episode_may_be_bad(filled: RedisSource, run: str, redis_url: str) -> None:
    """Two damaged and one gone: the part in front of them stays on offer."""
    client, key = redis.Redis.from_url(redis_url), EpisodeKey("s", 1, 7)
    first, second, third, *_ = [entry.id for entry in filled.entries(key)[1:]]
    for chunk in (first, second):
        client.set(f"{{distwm:{run}}}:chunk:{chunk}", b"rubbish")
    client.delete(f"{{distwm:{run}}}:chunk:{third}")
    assert len(filled.episode(key).arrays["reward"]) == 8
    assert filled.rejected == 2


def test_memory_refuses_what_does_not_fit() -> None:
    key = EpisodeKey("s", 1, 0)
    arrays = make_steps(5)
    arrays["reward"][2] = np.nan
    with pytest.raises(BadInput, match="'reward' is nan in episode s/1/e0"):
        MemorySource(SPEC, [Episode(key=key, source="x", policy_version=0, arrays=arrays)])
    with pytest.raises(BadInput, match="'reward' has shape"):
        MemorySource(
            SPEC,
            [
                Episode(
                    key=key,
                    source="x",
                    policy_version=0,
                    arrays=make_steps(5) | {"reward": np.zeros((5, 1), "float32")},
                )
            ],
        )
