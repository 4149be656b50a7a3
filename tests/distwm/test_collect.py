"""Collection by the command line: real Ray, Redis and simulators, stopped and killed on the way."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from collect_kit import COUNTING, SETTINGS, SMALL, begin, ledger, opened

from actors.runner import episode_seed
from distwm import export
from distwm.config import load
from distwm.records import provenance_of
from distwm.replay.__main__ import main as replay_command
from replay.dataset.format import read_manifest
from replay.shards.server import EmbeddedRedis
from replay.shards.stock import take_stock
from replay.shards.survey import Surveyor

ROOT = Path(__file__).resolve().parents[2]

Command = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def command() -> Iterator[Command]:
    """Starts `python -m distwm.collect` with these words; nothing of it outlives the test."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        given = [word.partition("=")[0] for word in words]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "DISTWM_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "distwm.collect", *words, *(w for w in SMALL if w.partition("=")[0] not in given)],
            cwd=ROOT,
            env={**kept, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], code: int, timeout_s: float = 250) -> tuple[str, str]:
    """What it said."""
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == code, (out, err)
    return out, err


def audit(out: Path, asked: int) -> dict[str, Counter[str]]:
    """Every episode asked for is whole in the replay exactly once, and the counters say so. By order: counts of the
    replay."""
    manifest = json.loads((out / "collect.json").read_text())
    assert replay_command(["verify", str(out)]) == 0
    noted = Counter(key for key, _ in ledger(out))
    found = {}
    server = EmbeddedRedis(out / "replay", 2**24)
    try:
        url = server.start()
        for key, row in manifest["orders"].items():
            shard = Surveyor(url, row["run"], 2.0, 2.0)
            stock, counters = take_stock([shard], {}), shard.counters()
            shard.close()
            streams = {f"{row['policy']}/{number}" for number in range(asked)}
            assert {stream for stream in stock.whole if stream.startswith(f"{row['policy']}/")} == streams
            assert not stock.doubled
            assert noted[key] == row["done"]["episodes"] == asked
            steps = {f"{row['policy']}/{p.number}": p.steps for k, p in ledger(out) if k == key}
            assert steps == {stream: stock.whole[stream].steps for stream in streams}
            assert row["done"]["steps"] == sum(steps.values()) <= counters["steps"]
            assert manifest["replay"][row["run"]]["steps"] == counters["steps"]
            found[key] = Counter(counters)
    finally:
        server.stop()
    return found


def test_two_tasks_go_on_where_a_dead_driver_left_them(tmp_path: Path, command: Command) -> None:
    """The driver died after the replay had acknowledged episodes, and before its ledger knew."""
    out = tmp_path / "mixed"
    out.mkdir()
    opened(out, SETTINGS).close()
    server = EmbeddedRedis(out / "replay", 2**24)
    begin(server.start(), SETTINGS, whole=(2, 3), partial=(0,))
    server.stop()
    said, _ = ended(command("counting/5-12", "dmc/cartpole_swingup", "episodes=8", f"out={out}"), 0)
    assert "2 episodes are in the replay that the ledger had not noted" in said
    assert re.search(r"dmc/cartpole_swingup=behaviour +mixed.dmc.cartpole_swingup +8/8", said)
    audit(out, 8)
    assert {p.steps for key, p in ledger(out) if key == COUNTING.key and p.number in (2, 3)} == {10}
    assert export.main(["dataset", str(out), "--run", "mixed.counting.5-12", "--out", str(tmp_path / "set")]) == 0
    assert read_manifest(tmp_path / "set").episodes == 8


def test_a_suite_follows_a_source_and_is_filmed(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "picked"
    follow = ("policy=source", "source.kind=scripted", "env.pixels=true", "env.image_size=16", "env.render_size=16")
    said, _ = ended(command("suite=tabletop", "counting/5-12", *follow, "episodes=3", "at_once=1", f"out={out}"), 0)
    assert "tabletop/pick_place=source" in said
    manifest = json.loads((out / "collect.json").read_text())["orders"]["tabletop/pick_place=source"]
    assert manifest["done"]["success"]["share"] == 1.0
    assert "scripted expert" in manifest["source"]
    films = sorted(path.name for path in (out / "videos").iterdir())
    assert films == ["tabletop.pick_place-source-success.mp4"]
    with (out / "episodes.jsonl").open() as file:
        seeds = [json.loads(line)["seed"] for line in file if "tabletop" in line]
    assert sorted(seeds) == sorted(episode_seed(0, number) for number in range(3))
    audit(out, 3)
    words = [str(out), "--run", "picked.tabletop.pick_place", "--out"]
    assert export.main(["dataset", *words, str(tmp_path / "set")]) == 0
    assert "scripted expert" in provenance_of(load("rvq", {"replay.mixture": f"{tmp_path / 'set'}=1"}), tmp_path)
    assert export.main(["chunks", *words, str(tmp_path / "chunks")]) == 0
    assert "scripted expert" in json.loads((tmp_path / "chunks/card.json").read_text())["provenance"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_killed_driver_is_started_again_until_all_is_there(tmp_path: Path, command: Command) -> None:
    out, rng = tmp_path / "mixed", random.Random(0)
    words = ("counting/20-40:2", "hybrid/platform", "episodes=300", f"out={out}")
    for share in (1, 200, 400):
        process = command(*words)
        wait_until(lambda share=share: len(ledger(out)) >= share, "episodes")
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    ended(command(*words), 0)
    audit(out, 300)
    said, _ = ended(command(*words), 0)
    assert "Nothing is left to collect" in said


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_between_episodes(tmp_path: Path, command: Command, number: int) -> None:
    out = tmp_path / "mixed"
    process = command("counting/20-40:2", "episodes=1000000", f"out={out}")
    wait_until(lambda: len(ledger(out)) > 20, "episodes")
    process.send_signal(number)
    said, _ = ended(process, 128 + number)
    assert "the same command goes on" in said
    audit(out, len(ledger(out)))


@pytest.mark.slow
def test_a_task_whose_runners_all_fail_does_not_hold_up_the_others(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "mixed"
    words = ("faulty/kill@1", "counting/20-40", "episodes=50", f"out={out}")
    _, error = ended(command(*words, "fleet.backoff_s=0.1", "fleet.max_retries=20"), 75)
    assert "Given up: faulty/kill@1=random" in error
    assert Counter(key for key, _ in ledger(out)) == {"counting/20-40=random": 50}


@pytest.mark.slow
def test_so_many_minutes(tmp_path: Path, command: Command) -> None:
    out = tmp_path / "mixed"
    ended(command("counting/20-40", "minutes=0.4", f"out={out}"), 0)
    assert json.loads((out / "collect.json").read_text())["seconds"] >= 24
    audit(out, len(ledger(out)))


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = 250) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"no {what} in {timeout_s:g} s"
        time.sleep(0.02)
