"""The command lines of recorded data: from a run to data sets and back, resumed after kills, equal bit by bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.sources.source import SourceConfig
from distwm import export, ingest
from distwm.config import RunConfig, dump
from distwm.records import provenance_of
from distwm.replay.__main__ import main as replay_command
from replay.config import ReplayConfig
from replay.dataset.episodes import Actor, NamedEpisode
from replay.dataset.format import read_list, read_manifest
from replay.dataset.verify import verify
from replay.lerobot.export import LeRobotWriter
from replay.schema import EpisodeKey, EpisodeSpec
from replay.shards.server import EmbeddedRedis
from replay.sources.dataset_source import DatasetSource
from replay.sources.source_reader import SourceReader
from replay.writing.writer import ReplayWriter

ROOT = Path(__file__).resolve().parents[2]
SPEC = EpisodeSpec.build({"image": ((8, 8, 3), "uint8"), "state": ((3,), "float32")}, action_dim=2)
LENGTHS = (20, 7, 33, 12)


def steps(length: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = {f.name: np.zeros((length, *f.shape), f.dtype) for f in SPEC.fields}
    arrays["image"][:] = rng.integers(0, 256, arrays["image"].shape)
    arrays["state"][:, 0], arrays["state"][:, 1] = np.arange(length), seed
    arrays["action"][1:] = rng.normal(size=(length - 1, 2))
    arrays["reward"][1:] = rng.normal(size=length - 1)
    arrays["is_first"][0] = arrays["is_last"][-1] = True
    return arrays


def length_of(number: int) -> int:
    return 2 + number % 20


def lerobot(directory: Path, episodes: int) -> Path:
    """A LeRobot data set to read."""
    with LeRobotWriter(directory, SPEC, fps=10, task="count", max_file_bytes=2**20) as writer:
        for number in range(episodes):
            episode = NamedEpisode(
                name=f"episode-{number}",
                arrays=steps(length_of(number), number),
                actors=(Actor(0, f"s{number % 3}", number % 5),),
                key=EpisodeKey("s", 1, number),
            )
            writer.write(episode)
    return directory


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with an embedded replay, at rest: four episodes that ended and one that did not."""
    root = tmp_path / "run"
    root.mkdir()
    config = ReplayConfig(max_bytes=2**24, chunk_steps=8)
    (root / "config.yaml").write_text(dump(replace(RunConfig(), replay=config)))
    (root / "run_id").write_text("counted-1")
    server = EmbeddedRedis(root / "replay", config.max_bytes)
    try:
        writer = ReplayWriter(replace(config, url=server.start()), "counted-1", "s", SPEC)
        for number, length in enumerate((*LENGTHS, 9)):
            arrays = steps(length, number)
            for t in range(length - (number == len(LENGTHS))):
                record = {name: a[t] for name, a in arrays.items()}
                writer.add(record, source="expert" if number % 2 else "random", policy_version=t // 10)
        writer.close()
    finally:
        server.stop()
    return root


def recorded(directory: Path) -> Iterator[NamedEpisode]:
    source = DatasetSource(directory, ReplayConfig(arena_bytes=0))
    for found in SourceReader(source, {}, partial=True).read(frozenset()):
        assert isinstance(found, NamedEpisode)
        yield found
    source.close()


@pytest.mark.parametrize("served", [False, True])
def test_a_run_becomes_recorded_data(run_dir: Path, tmp_path: Path, served: bool) -> None:
    server = EmbeddedRedis(run_dir / "replay", 2**24)
    try:
        if served:
            server.start()
        assert export.main(["dataset", str(run_dir), "--out", str(tmp_path / "set"), "--verify"]) == 0
    finally:
        server.stop()
    for number, found in enumerate(recorded(tmp_path / "set")):
        assert (found.name, found.key) == (f"s/1/e{number}", EpisodeKey("s", 1, number))
        label = "expert" if number % 2 else "random"
        assert found.actors == tuple(Actor(10 * v, label, v) for v in range((LENGTHS[number] + 9) // 10))
        for name, array in steps(LENGTHS[number], number).items():
            assert found.arrays[name].tobytes() == array.tobytes()
    assert number == len(LENGTHS) - 1


def test_there_and_back_again(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, exported, second = (str(tmp_path / name) for name in ("first", "exported", "second"))
    assert export.main(["dataset", str(run_dir), "--out", first, "--partial"]) == 0
    assert export.main(["lerobot", first, "--out", exported, "--fps", "5", "--verify"]) == 0
    assert ingest.main(["lerobot", exported, "--out", second, "--verify"]) == 0
    assert capsys.readouterr().out.count("verified: 5 episodes are equal bit by bit") == 2
    for one, other in zip(recorded(Path(first)), recorded(Path(second)), strict=True):
        assert (one.name, one.key, one.actors, one.task) == (other.name, other.key, other.actors, other.task)
        assert all(one.arrays[name].tobytes() == other.arrays[name].tobytes() for name in one.arrays)
    assert read_manifest(Path(second)).origin["fps"] == 5
    assert read_manifest(Path(second)).origin["provenance"] == read_manifest(Path(first)).origin["provenance"] != ""
    assert export.main(["lerobot", second, "--out", str(tmp_path / "third")]) == 0, "the fps is known by now"


def test_whose_actions_they_are_goes_along(run_dir: Path, tmp_path: Path) -> None:
    """Also into a data set that did not say it, by the same command again; the words are no reason to refuse one."""
    first, exported = str(tmp_path / "first"), str(tmp_path / "exported")
    words = ["dataset", str(run_dir), "--out", first]
    assert export.main(words) == 0
    assert "policies of this run" in read_manifest(Path(first)).origin["provenance"]
    assert export.main(["lerobot", first, "--out", exported, "--fps", "5"]) == 0
    settings = replace(RunConfig(), source=SourceConfig(kind="openpi", url="ws://moved:1"))
    (run_dir / "config.yaml").write_text(dump(settings))
    assert export.main(words) == 0
    assert "openpi at ws://moved:1" in read_manifest(Path(first)).origin["provenance"]
    assert export.main(["lerobot", first, "--out", exported, "--fps", "5"]) == 0
    learnt = provenance_of(replace(RunConfig(), replay=ReplayConfig(mixture=f"{first}=0.5,live=0.5")), tmp_path)
    assert "openpi at ws://moved:1" in learnt
    assert "policies of this run" in learnt


def test_what_has_not_ended_is_left_out(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lerobot", str(run_dir), "--out", str(tmp_path / "x"), "--fps", "5", "--task", "count", "--verify"]
    assert export.main(words) == 0
    said = capsys.readouterr().out
    assert "left out: 1 episodes that have not ended" in said
    assert "verified: 4 episodes" in said
    assert export.main(words) == 0
    assert "4 episodes are there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "words", "said"),
    [
        (ingest.main, ["tfds", "x", "--out", "y"], "no format 'tfds'"),
        (ingest.main, ["lerobot", "x", "--out", "y"], "no LeRobot data set"),
        (ingest.main, ["lerobot", "x", "--out", "y", "--rename", "z"], "'z' is not another name"),
        (export.main, ["dataset", "x", "--out", "y"], "x holds no run"),
        (export.main, ["lerobot", "--out", "y"], "not clear which replay"),
    ],
)
def test_bad_input_is_2(
    main: Callable[[list[str]], int],
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Mend:" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "y").exists()


def test_lerobot_needs_to_know_the_fps(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export.main(["lerobot", str(run_dir), "--out", str(tmp_path / "x")]) == 2
    assert "Give --fps" in capsys.readouterr().err


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = lerobot(tmp_path / "lerobot", 40)
    path = source / "data/chunk-000/file-000.parquet"
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(64) + content[half + 64 :])
    words = ["lerobot", str(source), "--out", str(tmp_path / "set"), "--verify"]
    assert ingest.main(words) == 2
    said = capsys.readouterr()
    assert f"of 40 episodes could not be read, the first: {path}" in said.err
    assert len(said.err.splitlines()) == 1
    assert verify(tmp_path / "set").episodes in range(30, 40)
    path.write_bytes(content)
    assert ingest.main(words) == 0, "once it is restored, the missing ones come"
    assert verify(tmp_path / "set").episodes == 40
    assert {e.name for e in recorded(tmp_path / "set")} == {f"episode-{i}" for i in range(40)}


def test_recorded_data_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lerobot(tmp_path / "lerobot", 5)
    assert ingest.main(["lerobot", str(tmp_path / "lerobot"), "--out", str(tmp_path / "set")]) == 0
    assert replay_command(["verify", str(tmp_path / "set")]) == 0
    assert "5 episodes" in capsys.readouterr().out
    path = tmp_path / "set/shard-00000.bin"
    path.write_bytes(path.read_bytes()[:-7])
    assert replay_command(["verify", str(tmp_path / "set")]) == 2
    assert f"{path} is damaged at byte" in capsys.readouterr().err


def test_a_killed_ingest_goes_on(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, episodes=300, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_ingest_of_10_000_goes_on(tmp_path: Path) -> None:
    """Prints what ingest and export manage: `pytest -m slow -s`."""
    killed_and_resumed(tmp_path, episodes=10_000, kills=6)


def killed_and_resumed(directory: Path, episodes: int, kills: int) -> None:
    """Ingest, then export of what came of it: each killed -9 at random moments, run again, and compared."""
    given, taken, back = (str(directory / name) for name in ("given", "set", "back"))
    lerobot(directory / "given", episodes)
    size = str(2**16 if episodes < 1000 else 2**20)
    reading = [sys.executable, "-m", "distwm.ingest", "lerobot", given, "--out", taken, "--file-bytes", size]
    done = finished_despite_kills(reading, Path(taken) / "manifest.json", "episodes", episodes, kills)
    assert f"{episodes} episodes" in done
    manifest = verify(Path(taken))
    names = [e.name for shard in manifest.shards for e in read_list(Path(taken), shard)]
    assert sorted(names) == sorted(f"episode-{i}" for i in range(episodes)), "no loss, no duplicate"
    assert manifest.steps == sum(map(length_of, range(episodes)))
    for found in recorded(Path(taken)):
        number = int(found.name.partition("-")[2])
        assert found.actors == (Actor(0, f"s{number % 3}", number % 5),)
        assert all(found.arrays[name].tobytes() == a.tobytes() for name, a in steps(found.steps, number).items())
    writing = [sys.executable, "-m", "distwm.export", "lerobot", taken, "--out", back, "--file-bytes", size]
    done = finished_despite_kills(writing, Path(back) / "meta/info.json", "total_episodes", episodes, kills)
    assert f"verified: {episodes} episodes are equal bit by bit" in done


def finished_despite_kills(command: list[str], progress: Path, key: str, episodes: int, kills: int) -> str:
    """What the last run says."""
    rng, killed = random.Random(2), 0
    for kill in range(1, kills + 1):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while _counted(progress, key) < episodes * kill // (kills + 1) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        killed += process.wait(timeout=30) == -signal.SIGKILL
    assert killed, "in the middle of it"
    done = subprocess.run([*command, "--verify"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(f"\n{' '.join(command[2:4])}, after {killed} kills:\n{done.stdout}")
    return done.stdout


def _counted(path: Path, key: str) -> int:
    try:
        return json.loads(path.read_text())[key]
    except FileNotFoundError:
        return 0
