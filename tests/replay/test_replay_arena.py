"""Decoded chunks in shared memory: found by every process, never torn, bounded, and gone with the last user."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from arena_worker import CHUNKS, MAX_BYTES, SPEC, chunk, fill, is_torn, key, read
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.arena.arena import Arena, discard
from replay.arena.shared_file import private_directory, sweep
from replay.errors import BadInput

Start = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    return Arena(tmp_path, "test", SPEC, MAX_BYTES)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes of arena_worker.py on the directory of the test."""
    processes = []

    def begin(what: str, seed: int) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).with_name("arena_worker.py")), what, str(tmp_path), str(seed)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def holds(arena: Arena, number: int) -> bool:
    arrays = read(arena, number)
    assert arrays is None or not is_torn(number, arrays)
    return arrays is not None


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*"))


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=120), st.integers(1, 400))
def test_it_holds_the_newest(tmp_path_factory: pytest.TempPathFactory, numbers: list[int], room: int) -> None:
    """Whatever the order and size: what it finds is right, and it finds at least what was put last."""
    size, directory = 2 * 4096 * (len(SPEC.fields) + 1) + room * 3210, tmp_path_factory.mktemp("arena")
    arenas = [Arena(directory, "test", SPEC, size) for _ in range(2)]
    for turn, number in enumerate(numbers):
        assert arenas[turn % 2].put(key(number), chunk(number)) == (len(chunk(number)["reward"]) <= room)
        assert holds(arenas[0], number) == (len(chunk(number)["reward"]) <= room)
    assert [holds(arenas[0], n) for n in range(40)] == [holds(arenas[1], n) for n in range(40)]
    for arena in arenas:
        arena.close()


def test_pieces_land_where_they_belong(arena: Arena) -> None:
    for number in (1, 2, 3):
        arena.put(key(number), chunk(number))
    out = {"state": np.full((12, 2), -1, np.int64), "reward": np.empty(12, np.float32)}
    keys = [key(3), key(9), key(1), key(2)]
    to, begin, count = np.array([6, 9, 0, 3]), np.array([0, 0, 2, 5]), np.array([2, 2, 3, 3])
    found = arena.gather(keys, to, begin, count, out)
    assert found.tolist() == [True, False, True, True]
    assert out["state"][:8, 1].tolist() == [1002, 1003, 1004, 2005, 2006, 2007, 3000, 3001]
    assert (out["reward"][:8] == out["state"][:8, 0] % 251).all()


def test_it_is_bounded_and_the_oldest_go_first(arena: Arena, tmp_path: Path) -> None:
    for number in range(CHUNKS):
        assert arena.put(key(number), chunk(number))
    held = [holds(arena, number) for number in range(CHUNKS)]
    assert held == sorted(held)
    assert 0 < sum(held) < CHUNKS
    used = sum(p.stat().st_blocks * 512 for p in files(tmp_path))
    assert MAX_BYTES / 2 < used <= MAX_BYTES


@pytest.mark.parametrize("max_bytes", [0, 100, 4096, 2**15, 2**17])
def test_a_small_arena_does_what_it_can(tmp_path: Path, max_bytes: int) -> None:
    arena = Arena(tmp_path, "test", SPEC, max_bytes)
    stored = [number for number in range(CHUNKS) if arena.put(key(number), chunk(number)) and holds(arena, number)]
    assert (max_bytes < 2**17) == (not stored)
    assert sum(p.stat().st_blocks * 512 for p in files(tmp_path)) <= max_bytes
    arena.close()
    assert files(tmp_path) == []


def test_processes_see_what_others_put(tmp_path: Path) -> None:
    """Also one that was behind by more than the arena holds."""
    one, other = (Arena(tmp_path, "test", SPEC, MAX_BYTES) for _ in range(2))
    one.put(key(1), chunk(1))
    assert holds(other, 1)
    for turn in range(20):
        for number in range(CHUNKS):
            (one, other)[turn % 2].put(key(number), chunk(number))
    assert [holds(one, n) for n in range(CHUNKS)] == [holds(other, n) for n in range(CHUNKS)]
    assert holds(one, CHUNKS - 1)


def test_short_chunks_fill_the_records(tmp_path: Path) -> None:
    """Far more chunks than records: the oldest are forgotten, none is mistaken for another."""
    spec_of_one = {n: a[:1] for n, a in chunk(1).items()}
    one, other = (Arena(tmp_path, "test", SPEC, MAX_BYTES) for _ in range(2))
    for number in range(2000):
        one.put(key(number), spec_of_one | {"state": np.full((1, 2), number)})
    out = {"state": np.empty((1, 2), np.int64)}
    zero, single = np.array([0]), np.array([1])
    held = []
    for number in range(2000):
        if other.gather([key(number)], zero, zero, single, out)[0]:
            held.append(number)
            assert out["state"][0, 0] == number
    assert held == list(range(held[0], 2000))
    assert 20 < len(held) < 100


def test_the_last_one_removes_the_file(tmp_path: Path) -> None:
    one, other = (Arena(tmp_path, "test", SPEC, MAX_BYTES) for _ in range(2))
    one.put(key(1), chunk(1))
    one.close()
    assert holds(other, 1)
    assert not holds(one, 1), "closed"
    assert not one.put(key(2), chunk(2))
    other.close()
    assert files(tmp_path) == []


def test_another_spec_or_size_is_another_arena(tmp_path: Path, arena: Arena) -> None:
    arena.put(key(1), chunk(1))
    assert not holds(Arena(tmp_path, "test", SPEC, 2 * MAX_BYTES), 1)
    assert not holds(Arena(tmp_path, "another", SPEC, MAX_BYTES), 1)
    assert holds(Arena(tmp_path, "test", SPEC, MAX_BYTES), 1)


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "id", "state"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, start: Start, damage: str) -> None:
    filler = start("fill", 0)
    time.sleep(0.1)
    filler.kill()
    filler.wait()
    (path,) = tmp_path.glob("*.arena")
    size = path.stat().st_size
    if damage in ("cut", "longer", "empty"):
        os.truncate(path, {"cut": size // 2, "longer": size + 1, "empty": 0}[damage])
    else:
        with path.open("r+b") as file:
            file.seek(0 if damage == "id" else 64)
            file.write(b"\xff" * 40)
    arena = Arena(tmp_path, "test", SPEC, MAX_BYTES)
    assert not any(holds(arena, number) for number in range(CHUNKS))
    assert arena.put(key(1), chunk(1))
    assert holds(arena, 1)
    arena.close()
    assert files(tmp_path) == []


def test_a_restarted_process_finds_it_warm(tmp_path: Path, start: Start) -> None:
    filler = start("fill", 0)
    time.sleep(0.3)
    filler.kill()
    filler.wait()
    arena = Arena(tmp_path, "test", SPEC, MAX_BYTES)
    assert sum(holds(arena, number) for number in range(CHUNKS)) > 10


def test_killed_writers_leave_nothing_torn(tmp_path: Path, start: Start) -> None:
    """Writers are killed while they write as fast as they can. Two readers check every byte: one all the time, and one
    what each of the killed has left behind."""
    reader, rng = start("check", 0), np.random.default_rng(0)
    arena, found = Arena(tmp_path, "test", SPEC, MAX_BYTES), 0
    for seed in range(40):
        writer = os.fork()
        if not writer:
            fill(Arena(tmp_path, "test", SPEC, MAX_BYTES), seed)
        time.sleep(float(rng.uniform(0.01, 0.05)))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        found += sum(holds(arena, number) for number in range(CHUNKS))
    assert found > 40 * 10
    assert reader.poll() is None, "it read all the time"
    found, torn = reader.communicate("enough\n")[0].split(" ", 1)
    assert int(found) > 100
    assert torn == "[]\n"


def test_a_stopped_writer_stops_nobody(tmp_path: Path, start: Start, arena: Arena) -> None:
    """Who holds the lock and does not run makes the arena miss, not wait."""
    writer = start("fill", 0)
    began = time.monotonic()
    for _ in range(2):
        writer.send_signal(signal.SIGSTOP)
        holds(arena, 1)
        writer.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 15
    assert holds(arena, 1) or arena.put(key(1), chunk(1))


def test_a_forked_process_leaves_it_alone(arena: Arena) -> None:
    """It would share the lock of its parent."""
    arena.put(key(1), chunk(1))
    child = os.fork()
    if not child:
        untouched = not holds(arena, 1) and not arena.put(key(2), chunk(2))
        arena.close()
        os._exit(0 if untouched else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert holds(arena, 1)
    assert not holds(arena, 2)


def test_a_full_disk_makes_it_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk says no after a part of the arena; everything still works in that part, and it is said once."""
    monkeypatch.setattr("replay.arena.arena._GROW_BYTES", 2**16)
    one, other = (Arena(tmp_path, "test", SPEC, MAX_BYTES) for _ in range(2))
    granted = []

    def reserve(fd: int, offset: int, length: int) -> None:
        if len(granted) == 6 * len(SPEC.fields):
            raise OSError(28, "No space left on device")
        granted.append(length)

    with caplog.at_level(logging.WARNING):
        monkeypatch.setattr(os, "posix_fallocate", reserve)
        for turn in range(3):
            for number in range(CHUNKS):
                assert (one, other)[turn % 2].put(key(number), chunk(number))
    assert len(caplog.records) == 1
    assert "disk is full" in caplog.text
    held = [holds(one, number) for number in range(CHUNKS)]
    assert held == [holds(other, number) for number in range(CHUNKS)] == sorted(held)
    assert 5 < sum(held) < CHUNKS / 2


def test_a_disk_without_any_room_means_no_arena(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def reserve(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    arena = Arena(tmp_path, "test", SPEC, MAX_BYTES)
    assert not arena.put(key(1), chunk(1))
    assert not holds(arena, 1)
    assert "No arena" in caplog.text
    assert list(tmp_path.glob("*.arena")) == []


def test_left_files_are_swept(tmp_path: Path, start: Start) -> None:
    """Those that no process holds and that have been idle."""
    filler = start("fill", 0)
    (path,) = tmp_path.glob("*.arena")
    sweep(tmp_path, "*.arena", idle_s=0)
    assert path.exists(), "in use"
    filler.kill()
    filler.wait()
    sweep(tmp_path, "*.arena", idle_s=3600)
    assert path.exists(), "not idle"
    os.utime(path, (1, 1))
    Arena(tmp_path, "another", SPEC, MAX_BYTES).close()
    assert files(tmp_path) == []


def test_a_run_that_ends_leaves_nothing(tmp_path: Path, start: Start) -> None:
    """Its processes were killed a moment ago, or are about to be; arenas of others stay."""
    other = Arena(tmp_path, "test-2", SPEC, MAX_BYTES)
    filler = start("fill", 0)
    discard(tmp_path, "test", patience_s=0.0)
    assert len(list(tmp_path.glob("*.arena"))) == 2, "in use"
    killer = threading.Timer(0.3, filler.kill)
    killer.start()
    discard(tmp_path, "test", patience_s=20.0)
    killer.join()
    assert [p.name[:7] for p in tmp_path.glob("*.arena")] == ["test-2-"]
    other.close()


def test_only_this_user_may_write_there(tmp_path: Path) -> None:
    directory = private_directory(str(tmp_path))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert private_directory(str(tmp_path)) == directory
    directory.chmod(0o777)
    with pytest.raises(BadInput, match="not a directory of this user alone"):
        private_directory(str(tmp_path))
    directory.rmdir()
    directory.symlink_to(tmp_path)
    with pytest.raises(BadInput, match="not a directory of this user alone"):
        private_directory(str(tmp_path))
