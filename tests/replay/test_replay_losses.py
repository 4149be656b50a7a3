"""A server that comes back without what it acknowledged is found out at the next commit; nothing is stored twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import SPEC, make_steps, settle, write

from replay.config import ReplayConfig
from replay.errors import ExperienceLost, TryAgain
from replay.schema import ChunkId, Entry
from replay.shards.commit import Claim, Life
from replay.shards.router import Router
from replay.shards.server import EmbeddedRedis
from replay.shards.shard import Shard
from replay.shards.status import status
from replay.sources.redis_source import RedisSource
from replay.writing.outbox import Outbox
from replay.writing.spool import Spool
from replay.writing.writer import ReplayWriter

Make = Callable[..., EmbeddedRedis]


def config_of(url: str, tmp_path: Path, **options) -> ReplayConfig:
    return ReplayConfig(url=url, spool_dir=str(tmp_path / "spool"), **{"chunk_steps": 8, "outage_s": 20, **options})


def forget(server: EmbeddedRedis) -> None:
    for path in server.directory.glob("*.aof"):
        path.unlink()


def lengths(config: ReplayConfig) -> dict[str, int]:
    source = RedisSource(config, "r", SPEC)
    keys = sorted([*source.episodes("train"), *source.episodes("valid")])
    found = {str(key): source.episode(key).arrays["state"] for key in keys}
    for state in found.values():
        assert (state == make_steps(len(state), seed=int(state[0, 1]))["state"]).all()
    return {key: len(state) for key, state in found.items()}


def record(t: int, length: int, seed: int) -> dict:
    return {k: a[t] for k, a in make_steps(length, seed=seed).items()}


def write_all(writer: ReplayWriter, arrays: dict) -> None:
    write(writer, arrays)
    writer.flush()


@pytest.mark.parametrize("while_away", [0, 1])
def test_an_empty_server_is_found_out(served: Make, tmp_path: Path, while_away: int) -> None:
    """Whether the writer noticed the outage or not."""
    server = served()
    config = config_of(server.start(), tmp_path)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(20))
    settle(writer)
    server.stop()
    for seed in range(while_away):
        write(writer, make_steps(20, seed=seed))
    forget(server)
    served().start()
    for _ in range(2):
        with pytest.raises(ExperienceLost, match="came back empty: 3 acknowledged chunks of life s/1") as raised:
            write_all(writer, make_steps(8))
        with pytest.raises(ExperienceLost):
            writer.flush()
    assert isinstance(raised.value, TryAgain)
    assert (raised.value.exit_code, raised.value.chunks) == (75, 3)
    assert "on_loss" in raised.value.mend
    assert status(config, "r").steps == 0
    assert writer.waiting_chunks >= 3 * while_away


def test_another_data_set_is_found_out(served: Make, tmp_path: Path) -> None:
    """The same run, begun anew by somebody else: even with a life of the same number."""
    server = served()
    config = config_of(server.start(), tmp_path)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(8))
    settle(writer)
    server.stop()
    forget(server)
    served().start()
    write(ReplayWriter(config, "r", "s", SPEC), make_steps(50, seed=9))
    with pytest.raises(ExperienceLost, match="another data set"):
        write_all(writer, make_steps(20))
    assert lengths(config) == {"s/1/e0": 50}


@pytest.mark.parametrize("backup_after", [0, 1, 2])
def test_older_data_is_found_out(served: Make, tmp_path: Path, backup_after: int) -> None:
    server = served()
    config = config_of(server.start(), tmp_path)
    writers = [ReplayWriter(config, "r", f"s{n}", SPEC) for n in range(2)]
    for episode in range(3):
        if episode == backup_after:
            server.stop()
            shutil.copytree(server.directory, tmp_path / "backup")
            server = served()
            server.start()
        write(writers[0], make_steps(20, seed=episode))
        writers[0].flush()
    server.stop()
    forget(server)
    shutil.copy(tmp_path / "backup" / "appendonly.aof", server.directory)
    served().start()
    write(writers[1], make_steps(8))
    writers[1].flush()
    gone = 9 - 3 * backup_after
    with pytest.raises(ExperienceLost, match=f"came back with older data: {gone} acknowledged"):
        write_all(writers[0], make_steps(8))


def test_a_life_that_an_older_server_gives_again_is_another_one(served: Make, tmp_path: Path) -> None:
    """A zombie and its successor on a server that forgot the zombie's life: neither takes the other's chunks for its
    own."""
    server = served()
    config = config_of(server.start(), tmp_path)
    Router(config, "r").register(SPEC)
    server.stop()
    shutil.copy(server.directory / "appendonly.aof", tmp_path / "backup")
    server = served()
    server.start()
    zombie = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    shutil.copy(tmp_path / "backup", server.directory / "appendonly.aof")
    served().start()
    successor = ReplayWriter(config, "r", "s", SPEC)
    assert zombie.incarnation == successor.incarnation == 1
    write(successor, make_steps(20, seed=1))
    with pytest.raises(ExperienceLost, match="older data"):
        write_all(zombie, make_steps(20, seed=2))
    assert lengths(config) == {"s/1/e0": 20}


def test_who_may_go_on_begins_a_new_life(served: Make, tmp_path: Path, caplog) -> None:
    """Episodes that wait come along; one whose beginning is lost is dropped up to its end; nothing mixes."""
    server = served()
    config = config_of(server.start(), tmp_path, on_loss="continue")
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(20, seed=0))
    for t in range(10):
        writer.add(record(t, 30, 1), source="random", policy_version=0)
    settle(writer)
    assert writer.acknowledged == 28
    server.stop()
    for t in range(10, 30):
        writer.add(record(t, 30, 1), source="random", policy_version=0)
    write(writer, make_steps(20, seed=2))
    for t in range(12):
        writer.add(record(t, 30, 3), source="random", policy_version=0)
    forget(server)
    served().start()
    writer.flush()
    assert writer.incarnation == 2
    for t in range(12, 30):
        writer.add(record(t, 30, 3), source="random", policy_version=0)
    write(writer, make_steps(9, seed=4))
    writer.close()
    assert lengths(config) == {"s/2/e0": 20, "s/2/e1": 30, "s/2/e2": 9}
    assert writer.lost_chunks == 4 + 3, "4 that were acknowledged, 3 that waited without their beginning"
    assert writer.acknowledged == 28 + 59
    assert "came back empty: 4 acknowledged chunks of life s/1 are gone." in caplog.text


@pytest.mark.parametrize("sealed", [False, True])
def test_the_rest_of_an_episode_that_lost_its_beginning_is_dropped(served: Make, tmp_path: Path, sealed: bool) -> None:
    server = served()
    config = config_of(server.start(), tmp_path, on_loss="continue")
    writer = ReplayWriter(config, "r", "s", SPEC)
    for t in range(16 if sealed else 12):
        writer.add(record(t, 30, 0), source="random", policy_version=0)
    settle(writer)
    server.stop()
    forget(server)
    served().start()
    for t in range(16 if sealed else 12, 30):
        writer.add(record(t, 30, 0), source="random", policy_version=0)
    write(writer, make_steps(9, seed=1))
    writer.close()
    assert lengths(config) == {"s/2/e1": 9}
    assert writer.lost_chunks == (2 if sealed else 1) + (2 if sealed else 3)


def test_an_episode_in_memory_alone_comes_along(served: Make, tmp_path: Path) -> None:
    server = served()
    config = config_of(server.start(), tmp_path, on_loss="continue", spool_bytes=0)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(8, seed=0))
    for t in range(5):
        writer.add(record(t, 20, 1), source="random", policy_version=0)
    settle(writer)
    server.stop()
    forget(server)
    served().start()
    for t in range(5, 20):
        writer.add(record(t, 20, 1), source="random", policy_version=0)
    writer.close()
    assert lengths(config) == {"s/2/e0": 20}
    assert writer.lost_chunks == 1


def test_what_a_dead_writer_left_comes_along_too(served: Make, tmp_path: Path) -> None:
    server = served()
    config = config_of(server.start(), tmp_path, on_loss="continue", outage_s=0.3)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    shutil.copy(server.directory / "appendonly.aof", tmp_path / "backup")
    server = served()
    server.start()
    for t in range(10):
        writer.add(record(t, 30, 0), source="random", policy_version=0)
    settle(writer)
    server.stop()
    for t in range(10, 30):
        writer.add(record(t, 30, 0), source="random", policy_version=0)
    write(writer, make_steps(20, seed=1))
    with pytest.raises(TryAgain):
        writer.close()
    shutil.copy(tmp_path / "backup", server.directory / "appendonly.aof")
    served().start()
    heir = ReplayWriter(config, "r", "s", SPEC)
    write(heir, make_steps(9, seed=2))
    heir.close()
    assert lengths(config) == {"s/2/e0": 9, "s/3/e0": 20}
    assert heir.lost_chunks == 1 + 3
    assert not any(p.is_file() for p in (tmp_path / "spool").rglob("*"))


def test_what_a_dead_writer_left_outlives_an_empty_server(
    served: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its heir writes nothing and hears of the loss by it alone."""
    server = served()
    config = config_of(server.start(), tmp_path, on_loss="continue", outage_s=0.3)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write_all(writer, make_steps(20))
    server.stop()
    write(writer, make_steps(20, seed=1))
    with pytest.raises(TryAgain):
        writer.close()
    server = served()
    server.start()
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "_start", lambda box: None)  # its thread is slow to begin
        heir = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    forget(server)
    served().start()
    heir.close()
    assert lengths(config) == {"s/3/e0": 20}
    assert heir.lost_chunks == 3


@pytest.mark.parametrize("on_loss", ["continue", "stop"])
def test_what_a_dead_writer_left_for_a_server_that_is_empty_now(
    served: Make, tmp_path: Path, on_loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its heir sends it in a new life, if it may go on after a loss; else it says where it waits."""
    server = served()
    config = config_of(server.start(), tmp_path, on_loss=on_loss, outage_s=0.3)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write_all(writer, make_steps(20))
    server.stop()
    write(writer, make_steps(20, seed=1))
    with pytest.raises(TryAgain):
        writer.close()
    waiting = sorted(p for p in (tmp_path / "spool").rglob("*.chunk"))
    assert len(waiting) == 3
    forget(server)
    served().start()
    heir = ReplayWriter(config, "r", "s", SPEC)
    write(heir, make_steps(9, seed=2))
    heir.close()
    if on_loss == "continue":
        assert lengths(config) == {"s/1/e0": 9, "s/2/e0": 20}
        assert heir.lost_chunks == 3
        assert not any(p.is_file() for p in (tmp_path / "spool").rglob("*"))
    else:
        assert lengths(config) == {"s/1/e0": 9}
        assert f"3 chunks of stream s wait in {waiting[0].parent} for data that Redis at" in caplog.text
        assert sorted(p for p in (tmp_path / "spool").rglob("*.chunk")) == waiting


def test_an_episode_for_which_there_is_no_room_any_more_has_no_gap(
    served: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served()
    config = config_of(server.start(), tmp_path, on_loss="continue")
    writer = ReplayWriter(config, "r", "s", SPEC)
    write_all(writer, make_steps(8))
    server.stop()
    for t in range(45):
        writer.add(record(t, 64, 3), source="random", policy_version=0)
    monkeypatch.setattr(Spool, "add", lambda spool, sealed: False)  # the disk is full: memory takes two chunks
    forget(server)
    served().start()
    for t in range(45, 64):
        writer.add(record(t, 64, 3), source="random", policy_version=0)
    write_all(writer, make_steps(9, seed=4))
    stored = [e for _, e in Shard(config.url, "r", 1.5, 20).tail(0)]
    assert [(e.episode, e.first_step, e.steps) for e in stored] == [(0, 0, 8), (0, 8, 8), (2, 0, 8), (2, 8, 1)]
    assert writer.lost_chunks == 1 + 3 + 3
    assert writer.acknowledged == 8 + 16 + 9


def test_a_lost_answer_is_no_loss(served: Make, tmp_path: Path) -> None:
    """The server stored a chunk, and its answer never came: the retry is no news, and no loss."""
    server = served()
    config = config_of(server.start(), tmp_path)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    write(writer, make_steps(8))
    entry = writer._outbox._spool.first()
    server = served()
    server.start()
    Router(config, "r").shards[0].commit(entry.entry, entry.body, 2**20, Claim(life=writer._outbox.life))
    writer.close()
    assert status(config, "r").chunks == 1
    assert writer.acknowledged == 8


def entry(seq: int) -> Entry:
    return Entry(
        id=ChunkId("s", 1, seq), episode=0, first_step=8 * seq, steps=8, source="x", policy_version=0, checksum=seq
    )


def test_a_reader_finds_out_that_its_shard_went_back(redis_url: str, run: str) -> None:
    """Even if as many chunks have come since as were lost."""
    shard, reader = (Shard(redis_url, run, connect_timeout_s=5, outage_s=5) for _ in range(2))
    for seq in range(5):
        shard.commit(entry(seq), b"body", max_bytes=2**20)
    assert [cursor for cursor, _ in reader.tail(0)] == [1, 2, 3, 4, 5]
    assert list(reader.tail(5)) == []
    client = redis.Redis.from_url(redis_url)
    client.delete(*client.scan_iter(f"{{distwm:{run}}}:*"))
    with pytest.raises(ExperienceLost, match="without chunk s/1/4"):
        list(reader.tail(5))
    for seq in range(6):
        other = Entry(
            id=ChunkId("t", 1, seq), episode=0, first_step=0, steps=8, source="x", policy_version=0, checksum=0
        )
        shard.commit(other, b"body", max_bytes=2**20)
    with pytest.raises(ExperienceLost):
        list(reader.tail(5))
    assert [e.id.stream for _, e in reader.tail(0)] == ["t"] * 6
    shard.evict(10**9)
    assert list(reader.tail(6)) == []
    assert reader.state().oldest == 7


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30))
def test_whatever_the_order_of_retries_each_chunk_is_stored_once(redis_url: str, sends) -> None:
    """Sends of a writer that hears of some of its answers only: `heard` are those."""
    shard = Shard(redis_url, f"retries-{hash(tuple(sends)) & 0xFFFFFFFF}", connect_timeout_s=5, outage_s=5)
    life = Life(stream="s", incarnation=1, token="t", epoch=shard.register(SPEC))
    shard.begin_life("s", 1, "t")
    stored = acknowledged = -1
    for back, heard in sends:
        seq = max(acknowledged + 1, stored + 1 - back)
        new = shard.commit(entry(seq), b"body", 2**20, Claim(life=life, acknowledged=acknowledged))
        assert new == (seq > stored)
        stored = max(stored, seq)
        acknowledged = seq if heard else acknowledged
    assert [e.id.seq for _, e in shard.tail(0)] == list(range(stored + 1))
    shard.evict(10**9)
