"""While Redis is away chunks wait on the disk: bounded, in order, whole, and for whoever follows a killed writer."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import SPEC, make_steps, settle, write

from replay.codec import CorruptChunk
from replay.config import ReplayConfig
from replay.errors import TryAgain
from replay.schema import Chunk, ChunkId, EpisodeKey
from replay.shards.router import Router
from replay.shards.server import EmbeddedRedis
from replay.shards.status import status
from replay.shards.survey import Surveyor
from replay.shards.verify import verify_shard
from replay.sources.redis_source import RedisSource
from replay.writing.outbox import Outbox
from replay.writing.sealed import Sealed, pack, seal, unpack
from replay.writing.spool import Spool, leftovers
from replay.writing.writer import ReplayWriter

Make = Callable[..., EmbeddedRedis]


def sealed(seq: int = 0, steps: int = 3, ends: bool = False) -> Sealed:
    chunk = Chunk(
        id=ChunkId("a/b", 2, seq),
        episode=1,
        first_step=seq * steps,
        policy_version=7,
        source="expert",
        spec_hash=SPEC.hash,
        arrays=make_steps(steps, seed=seq),
    )
    return seal(chunk, "lz4", ends)


def config_of(url: str, tmp_path: Path, **options) -> ReplayConfig:
    return ReplayConfig(url=url, spool_dir=str(tmp_path / "spool"), **{"chunk_steps": 8, "outage_s": 20, **options})


def files(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "spool").rglob("*") if p.is_file())


def stored(config: ReplayConfig, run: str = "r") -> dict[EpisodeKey, np.ndarray]:
    source = RedisSource(config, run, SPEC)
    keys = [*source.episodes("train"), *source.episodes("valid")]
    return {key: source.episode(key).arrays["state"] for key in sorted(keys)}


def test_a_file_round_trips() -> None:
    for ends in (True, False):
        assert unpack(b"".join(pack(sealed(3, ends=ends)))) == sealed(3, ends=ends)


@settings(deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused(data: st.DataObject) -> None:
    whole = b"".join(pack(sealed()))
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with pytest.raises(CorruptChunk):
        unpack(damaged)


def test_the_queue_is_in_order_bounded_and_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "run" / "stream" / "1-x", max_bytes=3 * len(b"".join(pack(sealed()))) + 100)
    assert [spool.add(sealed(n)) for n in range(5)] == [True, True, True, False, False]
    assert spool.chunks == 3
    for number in range(3):
        assert spool.first() == sealed(number)
        spool.drop_first()
    assert spool.first() is None
    assert spool.bytes == 0
    assert spool.add(sealed(3))
    spool.drop_first()
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_writers_queue_is_left_alone(tmp_path: Path) -> None:
    stream = tmp_path / "run" / "stream"
    living, dead = Spool(stream / "3-living", 2**20), Spool(stream / "12-dead", 2**20)
    living.add(sealed(0))
    dead.add(sealed(4))
    dead.add(sealed(5))
    dead.close()
    ((incarnation, token, found),) = leftovers(stream)
    assert (incarnation, token, found.chunks, found.first_seq) == (12, "dead", 2, 4)
    assert found.bytes == 2 * len(b"".join(pack(sealed(4))))
    assert list(leftovers(stream)) == [], "adopted: it is a living writer's now"


def test_a_directory_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    stream = tmp_path / "run" / "stream"
    spool = Spool(stream / "1-x", 2**20)
    spool.add(sealed(0))
    spool.close()
    (tmp_path / "run").chmod(0o777)
    assert list(leftovers(stream)) == []
    assert not Spool(stream / "2-x", 2**20).add(sealed(0))
    (tmp_path / "run").chmod(0o700)
    assert [found.chunks for _, _, found in leftovers(stream)] == [1]


def test_files_that_cannot_be_read_are_moved_aside(tmp_path: Path) -> None:
    stream = tmp_path / "run" / "stream"
    spool = Spool(stream / "1-x", 2**20)
    for number in range(4):
        spool.add(sealed(number))
    spool.close()
    (stream / "1-x" / "000000000000.chunk").write_bytes(b"")
    (stream / "1-x" / "000000000002.chunk").unlink()
    (stream / "1-x" / "next.tmp").write_bytes(b"a part")
    ((_, _, found),) = leftovers(stream)
    assert found.first() == sealed(1)
    found.drop_first()
    assert found.first() == sealed(3)
    found.drop_first()
    assert found.corrupt == 1
    found.close()
    assert files(tmp_path) == []
    assert [p.name for p in (tmp_path / "corrupt").iterdir()] == ["run-stream-1-x-000000000000.chunk"]


def test_an_outage_stops_nobody_and_drains_in_order(served: Make, tmp_path: Path) -> None:
    server = served()
    config = config_of(server.start(), tmp_path)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(20, seed=0))
    settle(writer)
    server.stop()
    write(writer, make_steps(20, seed=1))
    write(writer, make_steps(12, seed=2))
    assert (writer.acknowledged, writer.episodes, writer.waiting_chunks) == (20, 1, 5)
    assert len(files(tmp_path)) == 5 + 1
    served().start()
    write(writer, make_steps(9, seed=3))
    writer.flush()
    assert (writer.acknowledged, writer.episodes, writer.waiting_chunks) == (61, 4, 0)
    write(writer, make_steps(8, seed=4))
    settle(writer)
    assert writer.acknowledged == 69
    writer.close()
    assert files(tmp_path) == []
    (shard,) = Router(config, "r").shards
    assert [e.id.seq for _, e in shard.tail(0)] == list(range(11)), "in order, each once"
    for key, state in stored(config).items():
        assert (state == make_steps(len(state), seed=key.episode)["state"]).all()
    assert status(config, "r").steps == 69


def test_a_full_queue_stops_the_actor(served: Make, tmp_path: Path) -> None:
    server = served()
    config = config_of(server.start(), tmp_path, spool_bytes=2000, outage_s=2.0)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    with pytest.raises(TryAgain, match="takes no chunks"):
        write(writer, make_steps(8 * 99))
    taken = 8 * writer.waiting_chunks
    assert 2 <= writer.waiting_chunks < 8
    served().start()
    writer.close()
    assert writer.acknowledged == status(config, "r").steps == taken


def test_no_chunk_overtakes_those_on_the_disk(served: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor while the thread that sends those has failed, and nobody knows yet."""
    server = served()
    config = config_of(server.start(), tmp_path)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "_start", lambda box: None)
        write(writer, make_steps(8))
        served().start()
        status(config, "r")  # the server is back, as this process knows
        write(writer, make_steps(8, seed=1))
    writer.close()
    assert writer.acknowledged == status(config, "r").steps == 16


def test_a_disk_that_takes_nothing_stops_the_actor_and_loses_nothing(served: Make, tmp_path: Path, caplog) -> None:
    (tmp_path / "spool").write_text("a file, where a directory is wanted")
    server = served()
    config = config_of(server.start(), tmp_path, outage_s=0.3)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    with pytest.raises(TryAgain, match="takes no chunks"):
        write(writer, make_steps(20))
    assert "cannot wait in" in caplog.text
    served().start()
    writer.flush()
    assert writer.acknowledged == 8


def test_a_full_disk_takes_no_part_of_a_chunk(tmp_path: Path) -> None:
    """In a process whose files may have 4 kB: what a full disk does to a write."""
    program = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = ["tests/replay"]
from test_replay_spool import sealed
from replay.writing.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
spool = Spool(Path(sys.argv[1]) / "run" / "stream" / "1-x", 2**20)
assert spool.add(sealed(0)) and not spool.add(sealed(1, steps=200)) and spool.add(sealed(2))
assert spool.chunks == 2
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
    found = sorted(p.name for p in (tmp_path / "run" / "stream" / "1-x").iterdir())
    assert found == ["000000000000.chunk", "000000000002.chunk", "lock"]


def test_a_killed_writer_loses_nothing_that_waits(served: Make, tmp_path: Path) -> None:
    """The next writer of the stream sends it, as the same life, however the other one ended."""
    server = served()
    config = config_of(server.start(), tmp_path)
    program = """
import os, sys, time
sys.path[:0] = ["tests/replay"]
from replay_cases import SPEC, make_steps, settle, write
from replay.config import ReplayConfig
from replay.writing.writer import ReplayWriter
writer = ReplayWriter(ReplayConfig(url=sys.argv[1], spool_dir=sys.argv[2], chunk_steps=8), "r", "s", SPEC)
write(writer, make_steps(20, seed=0))
settle(writer)
print("begun", flush=True)
sys.stdin.readline()
write(writer, make_steps(30, seed=1))
print(writer.acknowledged, writer.waiting_chunks, flush=True)
time.sleep(300)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program, config.url, config.spool_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout.readline() == "begun\n"
        server.stop()
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "20 4\n"
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    served().start()
    writer = ReplayWriter(config, "r", "s", SPEC)
    assert writer.incarnation == 2
    write(writer, make_steps(9, seed=2))
    settle(writer)
    write(writer, make_steps(9, seed=3))
    settle(writer)
    assert files(tmp_path) == [], "a writer that goes on and on keeps nothing of lives that are done"
    writer.close()
    assert (writer.acknowledged, writer.waiting_chunks) == (18, 0)
    assert files(tmp_path) == []
    found = stored(config)
    assert {str(key): len(state) for key, state in found.items()} == {
        "s/1/e0": 20,
        "s/1/e1": 30,
        "s/2/e0": 9,
        "s/2/e1": 9,
    }
    assert (found[EpisodeKey("s", 1, 1)] == make_steps(30, seed=1)["state"]).all()


def test_a_corrupt_file_costs_its_episode_alone(served: Make, tmp_path: Path) -> None:
    server = served()
    config = config_of(server.start(), tmp_path, outage_s=0.5)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(8, seed=0))
    settle(writer)
    server.stop()
    write(writer, make_steps(24, seed=1))
    write(writer, make_steps(8, seed=2))
    with pytest.raises(TryAgain):
        writer.close()
    (path,) = (tmp_path / "spool").rglob("*2.chunk")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    served().start()
    ReplayWriter(config, "r", "s", SPEC).close()
    assert {str(k): len(s) for k, s in stored(config).items()} == {"s/1/e0": 8, "s/1/e1": 8, "s/1/e2": 8}


@pytest.mark.parametrize(
    ("gone", "left", "lost"),
    [
        (3, {"s/1/e0": 20, "s/3/e0": 8}, 1 + 2),
        (4, {"s/1/e0": 20, "s/3/e0": 8, "s/3/e1": 8}, 1 + 1),
        (6, {"s/1/e0": 20, "s/3/e0": 20}, 1 + 0),
    ],
)
def test_a_file_that_the_disk_has_lost_is_no_loss_of_the_server(
    served: Make, tmp_path: Path, gone: int, left: dict[str, int], lost: int
) -> None:
    """As after a power cut. Its episode ends before it, and the server holds no gap."""
    server = served()
    config = config_of(server.start(), tmp_path, outage_s=0.5)
    writer = ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(20, seed=0))
    settle(writer)
    server.stop()
    for seed, steps in enumerate([20, 8, 8] if gone == 6 else [20, 8], 1):
        write(writer, make_steps(steps, seed=seed))
    with pytest.raises(TryAgain):
        writer.close()
    (path,) = (tmp_path / "spool").rglob(f"*{gone}.chunk")
    path.unlink()
    if gone == 6:
        (last,) = (tmp_path / "spool").rglob("*7.chunk")
        last.write_bytes(b"")  # set aside when it is read
    served().start()
    heir = ReplayWriter(config, "r", "s", SPEC)
    assert heir.incarnation == 2
    heir.close()
    assert {str(k): len(s) for k, s in stored(config).items()} == left
    assert heir.lost_chunks == lost
    assert verify_shard(Surveyor(config.url, "r", 5, 5), "r").damages == []
    assert [name for name in files(tmp_path) if not name.startswith("r-")] == []


def test_the_last_number_acknowledged_outlives_the_process(tmp_path: Path) -> None:
    """Not a power cut in which the disk forgets it: then the oldest chunk says what came before it."""
    stream = tmp_path / "run" / "stream"
    spool = Spool(stream / "1-x", 2**20, "redis://here")
    for number in range(4, 8):
        spool.add(sealed(number))
    spool.drop_first()
    spool.close()
    (stream / "1-x" / "000000000005.chunk").unlink()
    ((_, _, found),) = leftovers(stream)
    assert (found.acknowledged, found.server, found.missing, found.first_seq) == (4, "redis://here", 1, 6)
    found.close()
    (stream / "1-x" / "lock").write_bytes(b"")
    ((_, _, found),) = leftovers(stream)
    assert (found.acknowledged, found.missing) == (5, 0)


def test_a_silent_server_is_found_out_in_time_and_says_so_once(served: Make, tmp_path: Path, caplog) -> None:
    """It accepts connections and answers nothing: as after a cable was cut."""
    caplog.set_level(logging.INFO)
    server = served()
    config = config_of(server.start(), tmp_path, connect_timeout_s=0.3)
    writers = [ReplayWriter(config, "r", f"s{n}", SPEC) for n in range(3)]
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for seed in range(2):
            for writer in writers:
                write(writer, make_steps(8, seed=seed))
        assert [w.waiting_chunks for w in writers] == [2, 2, 2]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    for writer in writers:
        writer.close()
    assert status(config, "r").steps == 48
    assert caplog.text.count("is away") == caplog.text.count("is back") == 1


def test_memory_does_not_grow_with_the_outage(served: Make, tmp_path: Path) -> None:
    server = served()
    config = config_of(server.start(), tmp_path)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    threads = threading.active_count()
    for seed in range(200):
        write(writer, make_steps(8, seed=seed))
    assert threading.active_count() <= threads + 1
    assert writer.waiting_chunks == 200
    assert len(writer._outbox._queue) == 0
    served().start()
    writer.close()
    assert writer.acknowledged == 1600


@pytest.mark.parametrize("on_loss", ["stop", "continue"])
def test_the_same_stream_on_another_server_waits_elsewhere(served: Make, tmp_path: Path, on_loss: str) -> None:
    """The name of the queue holds the epoch: what waits for one server never reaches another."""
    server = served(tmp_path / "a")
    config = config_of(server.start(), tmp_path, outage_s=0.3)
    writer = ReplayWriter(config, "r", "s", SPEC)
    server.stop()
    write(writer, make_steps(8))
    with pytest.raises(TryAgain):
        writer.close()
    other = replace(config, url=served(tmp_path / "b").start(), on_loss=on_loss)
    ReplayWriter(other, "r", "s", SPEC).close()
    assert files(tmp_path) == ["000000000000.chunk", "lock"]
    assert status(other, "r").steps == 0


def thin_line(to: str, bytes_per_s: int) -> socket.socket:
    """Listens, and passes on to a unix socket what it is sent, slowly."""
    door = socket.create_server(("127.0.0.1", 0))
    door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)

    def carry(source: socket.socket, sink: socket.socket, rate: float) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
                time.sleep(len(data) / rate)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = door.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(to)
                for ends in ((client, server, bytes_per_s), (server, client, 1e9)):
                    threading.Thread(target=carry, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return door


def test_a_chunk_that_takes_longer_than_the_silence_allowed_arrives(served: Make, tmp_path: Path) -> None:
    server = served()
    server.start()
    line = thin_line(str(server.socket), 40_000)
    url = f"redis://127.0.0.1:{line.getsockname()[1]}"
    config = config_of(url, tmp_path, connect_timeout_s=0.3, chunk_steps=400, codec="raw")
    try:
        writer = ReplayWriter(config, "r", "s", SPEC)
        write(writer, make_steps(400))
        writer.close()
    finally:
        line.close()
    assert writer.acknowledged == 400
