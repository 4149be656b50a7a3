"""The writer refuses what is wrong, loses nothing and counts everything once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import redis
from replay_cases import SPEC, make_steps, settle, write

from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain
from replay.schema import ChunkId, Entry, EpisodeKey, EpisodeSpec
from replay.shards.router import Router
from replay.shards.shard import OVERHEAD_BYTES, Shard
from replay.shards.status import ReplayStatus, status
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter


def record(t: int = 0) -> dict[str, np.ndarray]:
    return {k: a[t] for k, a in make_steps(9).items()}


def entry(seq: int, first_step: int = 0) -> Entry:
    return Entry(
        id=ChunkId("s", 1, seq), episode=0, first_step=first_step, steps=8, source="x", policy_version=0, checksum=0
    )


@pytest.fixture
def shard(redis_url: str, run: str) -> Shard:
    return Shard(redis_url, run, connect_timeout_s=5, outage_s=5)


def test_chunks_and_counts(config: ReplayConfig, run: str) -> None:
    writer = ReplayWriter(config, run, "s", SPEC)
    write(writer, make_steps(20))
    settle(writer)
    assert (writer.acknowledged, writer.episodes) == (20, 1)
    writer.add(record(), source="random", policy_version=0)
    assert writer.acknowledged == 20
    writer.close()
    assert writer.acknowledged == 21
    counted = status(config, run)
    assert (counted.steps, counted.episodes, counted.chunks, counted.streams) == (21, 2, 4, 1)
    assert counted.inserted_steps == 21
    assert counted.bytes > 4 * OVERHEAD_BYTES
    assert status(config, "empty") == ReplayStatus()


def test_a_commit_sent_twice_counts_once(shard: Shard) -> None:
    assert shard.commit(entry(0), b"body", max_bytes=2**20)
    before = shard.counters()
    assert not shard.commit(entry(0), b"body", max_bytes=2**20)
    assert shard.counters() == before
    assert [e.id for _, e in shard.tail(0)] == [ChunkId("s", 1, 0)]


def test_a_commit_sent_twice_counts_once_even_after_eviction(shard: Shard) -> None:
    room_for_two = 2 * (OVERHEAD_BYTES + 100)
    for seq in range(3):
        assert shard.commit(entry(seq), bytes(100), max_bytes=room_for_two)
    assert not shard.commit(entry(0), bytes(100), max_bytes=room_for_two)
    assert [e.id.seq for _, e in shard.tail(0)] == [1, 2]


def test_the_script_is_sent_again_to_a_server_that_forgot_it(shard: Shard, redis_url: str) -> None:
    shard.commit(entry(0), b"body", max_bytes=2**20)
    redis.Redis.from_url(redis_url).script_flush()
    assert shard.commit(entry(1, 8), b"body", max_bytes=2**20)


def test_the_budget_is_kept_and_the_index_names_only_bodies_that_exist(shard: Shard) -> None:
    rng = np.random.default_rng(0)
    budget, stored = 20_000, []
    for seq in range(200):
        body = bytes(int(rng.integers(1, 4000)))
        shard.commit(entry(seq, first_step=8 * (seq % 3)), body, budget)
        stored.append(len(body) + OVERHEAD_BYTES)
        ids = [e.id for _, e in shard.tail(0)]
        bodies = shard.fetch(ids)
        assert None not in bodies
        counted = shard.counters()
        assert sum(len(b) + OVERHEAD_BYTES for b in bodies) == counted["bytes"] <= budget
        assert [i.seq for i in ids] == list(range(seq + 1 - len(ids), seq + 1)), "the oldest go first"
        assert sum(stored[-len(ids) - 1 :]) > budget or len(ids) == seq + 1, "no more go than must"
        assert counted["chunks"] == len(ids)
        assert counted["steps"] == 8 * len(ids)
        assert counted["episodes"] == sum(i.seq % 3 == 0 for i in ids)


def test_a_chunk_larger_than_the_budget_is_refused(config: ReplayConfig, run: str, redis_url: str) -> None:
    writer = ReplayWriter(ReplayConfig(url=redis_url, max_bytes=600), run, "s", SPEC)
    with pytest.raises(BadInput, match="max_bytes"):
        write(writer, make_steps(8))


def test_a_server_smaller_than_the_budget_makes_room(served, run: str) -> None:
    """Somebody set maxmemory too low: experience goes earlier than the budget says, but commits go on."""
    url = served().start()
    client = redis.Redis.from_url(url)
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**21)
    shard = Shard(url, run, connect_timeout_s=5, outage_s=5)
    for seq in range(40):
        assert shard.commit(entry(seq), bytes(2**18), max_bytes=2**30)
    ids = [e.id for _, e in shard.tail(0)]
    assert 1 <= len(ids) < 12
    assert None not in shard.fetch(ids)
    client.config_set("maxmemory", 1)
    other = Shard(url, "other-run", connect_timeout_s=5, outage_s=5)
    with pytest.raises(BadInput, match="no memory"):
        other.commit(entry(0), bytes(2**18), max_bytes=2**30)


def test_a_server_that_evicts_by_itself_is_refused(served) -> None:
    url = served().start()
    redis.Redis.from_url(url).config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(BadInput, match="maxmemory-policy"):
        Shard(url, "r", connect_timeout_s=5, outage_s=5).connect()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("reward", np.float32("nan"), "'reward' is nan at step 1 of episode 0 of stream 's'"),
        ("state", np.array([0, 1, np.inf, 0, 0], np.float32), "'state' is inf"),
        ("image", np.zeros((4, 4), np.uint8), r"'image' has shape \(4, 4\), not \(4, 4, 3\)"),
        ("action", np.zeros(2), "'action' has dtype float64, not float32"),
        ("is_terminal", np.array(True), "'is_terminal' is true but 'is_last' is not"),
    ],
)
def test_a_bad_record_is_refused_and_the_stream_goes_on(config, run, name, value, says) -> None:
    writer = ReplayWriter(config, run, "s", SPEC)
    writer.add(record(0), source="random", policy_version=0)
    with pytest.raises(BadInput, match=says):
        writer.add(record(1) | {name: value}, source="random", policy_version=0)
    for t in range(1, 9):
        writer.add(record(t), source="random", policy_version=0)
    source = RedisSource(config, run, SPEC)
    assert (source.episode(EpisodeKey("s", 1, 0)).arrays["state"] == make_steps(9)["state"]).all()


def test_records_out_of_order_are_refused(config: ReplayConfig, run: str) -> None:
    writer = ReplayWriter(config, run, "s", SPEC)
    with pytest.raises(BadInput, match="is_first"):
        writer.add(record(1), source="random", policy_version=0)
    write(writer, make_steps(9))
    with pytest.raises(BadInput, match="is_first"):
        writer.add(record(1), source="random", policy_version=0)
    with pytest.raises(BadInput, match="not zero at is_first"):
        writer.add(record(0) | {"reward": np.float32(1)}, source="random", policy_version=0)
    with pytest.raises(BadInput, match="'reward' is missing"):
        writer.add({k: v for k, v in record(0).items() if k != "reward"}, source="random", policy_version=0)
    with pytest.raises(BadInput, match="'extra' is not in"):
        writer.add(record(0) | {"extra": np.float32(1)}, source="random", policy_version=0)


def test_another_spec_is_refused(config: ReplayConfig, run: str) -> None:
    ReplayWriter(config, run, "s", SPEC)
    other = EpisodeSpec.build({"image": ((8, 8, 3), "uint8"), "state": ((5,), "float32")}, action_dim=2)
    for make in (lambda: ReplayWriter(config, run, "t", other), lambda: RedisSource(config, run, other)):
        with pytest.raises(BadInput, match="another episode spec: image"):
            make()


def test_versions_count_from_zero(config: ReplayConfig, run: str) -> None:
    writer = ReplayWriter(config, run, "s", SPEC)
    with pytest.raises(BadInput, match="policy version -1"):
        writer.add(record(0), source="x", policy_version=-1)
    writer.add(record(0), source="x", policy_version=np.int64(3))
    writer.flush()
    assert RedisSource(config, run, SPEC).episode(EpisodeKey("s", 1, 0)).policy_version == 3


def test_each_life_of_a_stream_has_its_own_number(config: ReplayConfig, run: str) -> None:
    """A killed runner's half episode and its successor's never mix."""
    first, second = ReplayWriter(config, run, "s", SPEC), ReplayWriter(config, run, "s", SPEC)
    assert (first.incarnation, second.incarnation) == (1, 2)
    for t in range(8):
        first.add(record(t), source="random", policy_version=0)
    write(second, make_steps(9, seed=7))
    source = RedisSource(config, run, SPEC)
    lengths = {k: len(source.episode(k).arrays["reward"]) for s in ("train", "valid") for k in source.episodes(s)}
    assert lengths == {EpisodeKey("s", 1, 0): 8, EpisodeKey("s", 2, 0): 9}


def test_an_episode_cut_short_and_a_change_of_policy_make_chunks(config: ReplayConfig, run: str) -> None:
    writer = ReplayWriter(config, run, "s", SPEC)
    for t in range(3):
        writer.add(record(t), source="random", policy_version=0)
    for t in range(9):  # is_first while an episode is open: the environment was reset
        writer.add(record(t), source="policy", policy_version=t // 5)
    source = RedisSource(config, run, SPEC)
    assert len(source.episode(EpisodeKey("s", 1, 0)).arrays["reward"]) == 3
    whole = source.episode(EpisodeKey("s", 1, 1))
    assert (whole.source, whole.policy_version) == ("policy", 0)
    assert (whole.arrays["state"][:, 0] == np.arange(9)).all()
    entries = [e for _, e in Router(config, run).shards[0].tail(0)]
    assert [(e.first_step, e.steps, e.policy_version) for e in entries] == [(0, 3, 0), (0, 5, 0), (5, 4, 1)]


def test_an_address_that_does_not_answer_raises_in_time_and_hides_the_password() -> None:
    for url in ("redis://user:secret@127.0.0.1:1/0?password=secret", "unix:///nowhere/redis.sock"):
        config = ReplayConfig(url=url, connect_timeout_s=0.3)
        for make in (
            lambda c: ReplayWriter(c, "r", "s", SPEC),
            lambda c: RedisSource(c, "r", SPEC, timeout_s=0.3),
            lambda c: status(c, "r"),
        ):
            with pytest.raises(TryAgain, match=r"did not answer for 0\.3 s") as raised:
                make(config)
            assert "secret" not in str(raised.value)
            assert raised.value.exit_code == 75


@pytest.mark.parametrize("url", ["", "http://somewhere", "redis://h:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match="url"):
        Router(ReplayConfig(url=url), "r")


def test_a_wrong_password_is_refused(served) -> None:
    url = served().start()
    redis.Redis.from_url(url).config_set("requirepass", "hunter2")
    for wrong in (url, url.replace("unix://", "unix://:12345@")):
        with pytest.raises(BadInput, match="refused us") as raised:
            Shard(wrong, "r", connect_timeout_s=5, outage_s=5).connect()
        assert "12345" not in str(raised.value)
    Shard(url.replace("unix://", "unix://:hunter2@"), "r", connect_timeout_s=5, outage_s=5).connect()


def test_without_a_spool_an_outage_stops_the_actor_and_loses_nothing(served) -> None:
    server = served()
    config = ReplayConfig(url=server.start(), chunk_steps=4, outage_s=0.2, spool_bytes=0)
    writer = ReplayWriter(config, "r", "s", SPEC)
    writer.add(record(0), source="random", policy_version=0)
    server.stop()
    for t in range(1, 4):
        writer.add(record(t), source="random", policy_version=0)
    for _ in range(3):  # a sealed chunk waits; the record is not taken
        with pytest.raises(TryAgain, match=r"Stream s waited for 0.* takes no chunks; 1 wait"):
            writer.add(record(4), source="random", policy_version=0)
    assert (writer.acknowledged, writer.waiting_chunks) == (0, 1)
    served().start()
    for t in range(4, 9):
        writer.add(record(t), source="random", policy_version=0)
    settle(writer)
    assert (writer.acknowledged, writer.episodes, writer.waiting_chunks) == (9, 1, 0)
    arrays = RedisSource(config, "r", SPEC).episode(EpisodeKey("s", 1, 0)).arrays
    assert (arrays["state"] == make_steps(9)["state"]).all()


def test_many_writers_at_once(config: ReplayConfig, run: str) -> None:
    def work(stream: int) -> None:
        writer = ReplayWriter(config, run, f"s{stream}", SPEC)
        for episode in range(5):
            write(writer, make_steps(11, seed=episode))
        writer.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert RedisSource(config, run, SPEC).refresh() == status(config, run).steps == 4 * 5 * 11
    assert status(config, run).streams == 4
