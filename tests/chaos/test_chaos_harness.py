"""The harness itself: it would see what it looks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import redis
from audit import audit
from counting import SPEC, Check, records, stream_of
from ledger import Ledger, read_ledgers
from proxy import FaultProxy
from servers import Server

from replay.config import ReplayConfig
from replay.schema import Batch, ChunkId, Entry, EpisodeKey, Window
from replay.shards.router import Router
from replay.writing.writer import ReplayWriter


def entry(seq: int) -> Entry:
    return Entry(id=ChunkId("s", 1, seq), episode=0, first_step=0, steps=8, source="x", policy_version=0, checksum=seq)


def test_a_torn_line_promises_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    for seq in range(3):
        ledger.append(entry(seq))
    ledger.close()
    whole = (tmp_path / "l").read_text()
    for cut in range(2, 20):
        (tmp_path / "l").write_text(whole[:-cut])
        assert sorted(p.seq for p in read_ledgers([tmp_path / "l"])) == [0, 1]
    again = Ledger(tmp_path / "l")
    again.append(entry(9))
    assert sorted(p.seq for p in read_ledgers([tmp_path / "l"])) == [0, 1, 9]


@pytest.fixture
def written(tmp_path: Path):
    """(server, audit of it) with two episodes of acknowledged chunks."""
    with Server(tmp_path / "redis") as server:
        config = ReplayConfig(url=server.url, chunk_steps=16, spool_dir=str(tmp_path / "spool"))
        writer = ReplayWriter(config, "chaos", stream_of(0), SPEC)
        for _, record in zip(range(200), records(0), strict=False):
            writer.add(record, source="random", policy_version=0)
        writer.close()
        router, ledger = Router(config, "chaos"), Ledger(tmp_path / "w.ledger")
        for _, found in router.shards[0].tail(0):
            ledger.append(found)
        router.close()
        yield redis.Redis.from_url(server.url), lambda: audit(config, "chaos", [tmp_path / "w.ledger"])


def test_an_audit_finds_what_is_wrong(written) -> None:
    client, look = written
    keys = sorted(client.keys("*:chunk:*"))
    assert look().clean
    assert look().acknowledged == len(keys) >= 13
    body = client.get(keys[0])
    client.delete(keys[0])
    assert "has no body" in look().torn[0]
    client.set(keys[0], body[:-1])
    assert "checksum" in look().torn[0]
    client.set(keys[0], client.get(keys[1]))
    assert "the index says" in look().torn[0]
    client.set(keys[0], body)
    assert look().clean
    client.set(keys[0] + b"0", body)
    assert "no index names" in look().torn[0]
    client.delete(keys[0] + b"0")
    index = "{distwm:chaos}:index"
    at, _ = client.xrange(index)[3]
    client.xdel(index, at)
    found = look()
    assert "acknowledged and is not there" in found.lost[0]
    assert any("comes right after" in said for said in found.torn)
    assert any("counter chunks" in said for said in found.duplicates)
    client.xadd(index, client.xrange(index)[0][1], id="999-0")
    assert any("twice" in said for said in look().duplicates)


def test_the_invariant_notices_a_swapped_step() -> None:
    rows = [record for _, record in zip(range(17), records(0), strict=False)]
    arrays = {name: np.stack([row[name] for row in rows])[None] for name in rows[0]}
    window = Window(key=EpisodeKey(stream_of(0), 1, 0), start=0, length=17)
    assert not Check().batch(Batch(arrays=arrays, windows=(window,)))
    for name in ("count", "image", "reward", "is_first"):
        other = {**arrays, name: arrays[name][:, [1, 0, *range(2, 17)]]}
        assert Check().batch(Batch(arrays=other, windows=(window,))), name
    moved = Window(key=EpisodeKey(stream_of(1), 1, 0), start=0, length=17)
    assert Check().batch(Batch(arrays=arrays, windows=(moved,)))


@pytest.mark.parametrize("mode", ["drop", "refuse", "half_open", "stall", "reset", "cut"])
def test_the_proxy_fails_on_demand_and_recovers(tmp_path: Path, mode: str) -> None:
    with Server(tmp_path / "redis") as server, FaultProxy(server.url) as proxy:
        client = redis.Redis.from_url(proxy.url, socket_timeout=0.2, retry=None)
        assert client.set("before", 1)
        proxy.set(mode, share=1.0, cut_bytes=2)  # type: ignore[arg-type]
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            client.set("key", bytes(1000))
        proxy.set("pass")
        assert client.get("before") == b"1"
