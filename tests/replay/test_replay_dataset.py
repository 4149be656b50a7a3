"""Recorded data: what is written is read, nothing is lost to a kill, and damage is named."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from dataset_worker import length
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import SPEC, make_episodes, make_steps

from replay.config import ReplayConfig
from replay.dataset.episodes import Actor, NamedEpisode
from replay.dataset.format import DamagedData, read_list, read_manifest
from replay.dataset.verify import verify
from replay.dataset.writer import DatasetWriter
from replay.errors import BadInput, TryAgain
from replay.schema import EpisodeKey, EpisodeSpec
from replay.sources.dataset_source import DatasetSource
from replay.sources.memory import MemorySource
from replay.sources.source_reader import SourceReader

LENGTHS = [3, 8, 9, 30, 17, 24, 2, 41, 16, 12, 25, 33]
NO_ARENA = ReplayConfig(arena_bytes=0, valid_share=0.1)


def written(directory: Path, *, shard_bytes: int = 4000) -> Path:
    with DatasetWriter(directory, SPEC, name="set", chunk_steps=8, shard_bytes=shard_bytes) as writer:
        for episode in make_episodes("s", LENGTHS):
            writer.add(str(episode.key), episode.arrays, source="random", key=episode.key, task="try")
    return directory


@contextmanager
def opened(directory: Path, config: ReplayConfig = NO_ARENA, **options: bool) -> Iterator[DatasetSource]:
    source = DatasetSource(directory, config, **options)
    yield source
    source.close()


def test_draws_are_those_of_memory(tmp_path: Path) -> None:
    memory = MemorySource(SPEC, make_episodes("s", LENGTHS))
    with opened(written(tmp_path / "set"), ReplayConfig(arena_dir=str(tmp_path))) as source:
        assert len(source.manifest.shards) > 2
        assert source.refresh() == memory.refresh() == sum(LENGTHS)
        for split in ("train", "valid"):
            assert source.episodes(split) == memory.episodes(split)
        for step in range(20):
            one, other = source.batch((7, step), 5, 9), memory.batch((7, step), 5, 9)
            assert one.windows == other.windows
            for name, array in other.arrays.items():
                assert one.arrays[name].dtype == array.dtype
                assert (one.arrays[name] == array).all()


def test_who_acted_and_the_task_are_kept(tmp_path: Path) -> None:
    actors = (Actor(0, "expert", 3), Actor(5, "policy", 4), Actor(19, "expert", 3))
    episode = NamedEpisode(name="mixed", arrays=make_steps(30), actors=actors, task="find the tree")
    with DatasetWriter(tmp_path, SPEC, name="set", chunk_steps=8) as writer:
        assert writer.write(episode)
        assert not writer.write(episode), "there already"
    with opened(tmp_path) as source:
        found = SourceReader(source, {}).named("mixed")
        assert (found.actors, found.task, found.key) == (actors, episode.task, EpisodeKey("recorded/set", 1, 0))
        assert [e.steps for e in source.entries(found.key)] == [5, 8, 6, 8, 3]
        for name, array in episode.arrays.items():
            assert (found.arrays[name] == array).all()


def test_a_second_writer_goes_on(tmp_path: Path) -> None:
    written(tmp_path)
    with opened(tmp_path) as source:
        with DatasetWriter(tmp_path, SPEC, name="set") as writer:
            assert len(writer.names) == len(LENGTHS)
            assert writer.add("new", make_steps(11, seed=99))
            assert writer.steps == sum(LENGTHS) + 11
            assert source.refresh() == sum(LENGTHS), "not before the commit"
        assert source.refresh() == sum(LENGTHS) + 11
        assert (SourceReader(source, {}).named("new").arrays["state"][:, 1] == 99).all()


def test_an_episode_that_comes_late_gets_a_key_of_its_own(tmp_path: Path) -> None:
    keys = [EpisodeKey("s", 1, 5), EpisodeKey("s", 1, 7), EpisodeKey("s", 1, 6), EpisodeKey("s", 1, 7)]
    with DatasetWriter(tmp_path, SPEC, name="set") as writer:
        for number, key in enumerate(keys):
            writer.add(str(number), make_steps(4, seed=number), key=key)
    with opened(tmp_path, ReplayConfig(arena_bytes=0, valid_share=0)) as source:
        assert source.episodes("train") == (*(EpisodeKey("recorded/set", 1, n) for n in (0, 1)), keys[0], keys[1])
        assert source.refresh() == 16


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, SPEC, name="set"), pytest.raises(TryAgain, match="Another process writes"):
        DatasetWriter(tmp_path, SPEC, name="set")
    DatasetWriter(tmp_path, SPEC, name="set").close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other"}, "its name is 'set'"),
        ({"spec": EpisodeSpec.build({"image": ((4, 4, 3), "uint8")}, 2)}, "its episode spec"),
        ({"origin": {"path": "/elsewhere"}}, "its origin"),
    ],
)
def test_another_data_set_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    DatasetWriter(tmp_path, SPEC, name="set").close()
    options = {"spec": SPEC, "name": "set"} | change
    with pytest.raises(BadInput, match=said):
        DatasetWriter(tmp_path, **options)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInput, match=r"'thesis\.tex'"):
        DatasetWriter(tmp_path, SPEC, name="set")
    with pytest.raises(BadInput, match="no recorded data"):
        DatasetSource(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("field", "at", "value", "said"),
    [
        ("is_first", 3, True, "'is_first' is true at record 3"),
        ("is_first", 0, False, "'is_first' does not fit"),
        ("is_last", 2, True, "'is_last' is true at record 2"),
        ("is_terminal", 4, True, "'is_terminal' is true at record 4"),
        ("reward", 0, 1.0, "'reward' is not zero"),
        ("state", 5, np.nan, "'state' is nan"),
    ],
)
def test_an_episode_must_be_one(tmp_path: Path, field: str, at: int, value: float, said: str) -> None:
    arrays = make_steps(9)
    arrays[field][at] = value
    with DatasetWriter(tmp_path, SPEC, name="set") as writer:
        with pytest.raises(BadInput, match=said):
            writer.add("wrong", arrays)
        assert writer.add("right", make_steps(9))
    assert verify(tmp_path).episodes == 1


def test_only_the_unfinished_shard_is_lost(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, SPEC, name="set")
    writer.add("a", make_steps(9))
    writer.commit()
    writer.add("b", make_steps(9))
    writer._shard._file.flush()  # as a kill would leave it
    writer._lock.close()
    assert verify(tmp_path).episodes == 1
    (tmp_path / "shard-00001.bin").write_bytes(b"half")  # renamed, but not in the manifest
    with DatasetWriter(tmp_path, SPEC, name="set") as again:
        assert again.names == {"a"}
        assert {p.name for p in tmp_path.iterdir()} == {".lock", "manifest.json", "shard-00000.bin", "shard-00000.json"}
        again.add("b", make_steps(9, seed=1))
    assert verify(tmp_path).episodes == 2


def test_a_full_disk_costs_the_unfinished_shard(tmp_path: Path) -> None:
    noise = make_steps(400)  # random pictures do not compress
    with DatasetWriter(tmp_path, SPEC, name="set") as writer:
        writer.add("a", noise)
        writer.commit()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        try:
            with pytest.raises(BadInput, match="cannot be written"):
                all(writer.add(f"b{number}", noise) for number in range(100))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert writer.names == {"a"}
        writer.add("c", noise)
    assert verify(tmp_path).episodes == 2


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_damage_is_named(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    directory = written(tmp_path_factory.mktemp("set"))
    path = data.draw(st.sampled_from(sorted(directory.glob("[ms]*"))))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"{path.name} is (damaged at byte \d+|of )"):
        verify(directory)


def test_the_first_damaged_body_is_named_by_its_place(tmp_path: Path) -> None:
    directory = written(tmp_path)
    chunks = [c for e in read_list(directory, read_manifest(directory).shards[1]) for c in e.chunks]
    path = directory / "shard-00001.bin"
    content = bytearray(path.read_bytes())
    content[chunks[2].offset + 40] ^= 1
    path.write_bytes(content)
    for check in (verify, lambda directory: read_all(directory)):
        with pytest.raises(DamagedData, match=rf"shard-00001\.bin is damaged at byte {chunks[2].offset}:"):
            check(directory)
    with opened(directory, skip_damaged=True) as source:
        for key in (*source.episodes("train"), *source.episodes("valid")):
            if key != chunks[2].entry.episode_key:
                source.episode(key)
        broken = chunks[2].entry
        try:
            left = len(source.episode(broken.episode_key).arrays["reward"])
        except KeyError:
            left = 0
        assert left == broken.first_step, "its episode ends in front of the damage"
        assert source.rejected == 1


def read_all(directory: Path) -> None:
    with opened(directory) as source:
        for key in (*source.episodes("train"), *source.episodes("valid")):
            source.episode(key)


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, episodes=300, shard_bytes=20_000, kills=4)


@pytest.mark.slow
def test_kills_lose_and_double_nothing_of_10_000(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, episodes=10_000, shard_bytes=200_000, kills=12)


def killed_and_resumed(directory: Path, episodes: int, shard_bytes: int, kills: int) -> None:
    worker = str(Path(__file__).with_name("dataset_worker.py"))
    command = [sys.executable, worker, str(directory), str(episodes), str(shard_bytes)]
    rng, killed = random.Random(1), 0
    for kill in range(1, kills + 1):
        process = subprocess.Popen(command)
        wanted = episodes * kill // (kills + 1)
        while stored(directory) < wanted and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.005))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(timeout=30) == -signal.SIGKILL
        if (directory / "manifest.json").exists():
            verify(directory)
    assert killed, "in the middle of it"
    subprocess.run(command, check=True, timeout=300)
    assert verify(directory).episodes == episodes
    names = [e.name for s in read_manifest(directory).shards for e in read_list(directory, s)]
    assert sorted(names) == sorted(f"episode-{i}" for i in range(episodes)), "no loss, no duplicate"
    with opened(directory) as source:
        reader = SourceReader(source, {})
        for i in range(0, episodes, max(1, episodes // 300)):
            found, expected = reader.named(f"episode-{i}"), make_steps(length(i), seed=i)
            assert found.actors == (Actor(0, f"s{i % 3}", 0),)
            assert all((found.arrays[name] == array).all() for name, array in expected.items())
        assert source.refresh() == sum(map(length, range(episodes)))


def stored(directory: Path) -> int:
    try:
        return json.loads((directory / "manifest.json").read_text())["episodes"]
    except FileNotFoundError:
        return 0


def test_memory_is_that_of_an_episode(tmp_path: Path) -> None:
    """Shards are not gathered in memory: files are as large as all that was written, the process is not."""
    with DatasetWriter(tmp_path, SPEC, name="set", shard_bytes=2**30) as writer:
        arrays = make_steps(2000)
        writer.add("0", arrays)
        before = resident()
        for number in range(1, 200):
            writer.add(str(number), arrays)
        grown = resident() - before
        writer.commit()
    total = os.path.getsize(tmp_path / "shard-00000.bin")
    assert grown < total / 2, f"{grown} bytes more for {total} bytes written"


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
