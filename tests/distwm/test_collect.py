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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.runner import episode_seed
from distwm import cli, export
from distwm.collect.__main__ import main
from distwm.collect.book import Book, Played, read_ledger
from distwm.collect.plan import CollectConfig, Order, parse
from distwm.collect.resume import Shelf
from distwm.collect.show import success_share
from distwm.collect.tryout import try_all
from distwm.config import load
from distwm.records import provenance_of
from distwm.replay.__main__ import main as replay_command
from replay.dataset.format import read_manifest
from replay.errors import BadInput
from replay.shards.server import EmbeddedRedis
from replay.shards.stock import take_stock
from replay.shards.survey import Surveyor
from replay.writing.writer import ReplayWriter

ROOT = Path(__file__).resolve().parents[2]
COUNTING = Order(task="counting/5-12", policy="random", runners=2)
SMALL = ("env.pixels=false", "replay.max_bytes=16777216", "replay.chunk_steps=4", "fleet.cpus_per_runner=0.1")


@pytest.fixture(autouse=True)
def _in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pytest, `actors` may be the folder of its tests."""
    monkeypatch.setattr(cli, "misplaced", lambda: None)


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


def ledger(out: Path) -> list[tuple[str, Played]]:
    path = out / "episodes.jsonl"
    return list(read_ledger(path.read_text())) if path.exists() else []


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


# Words and settings.


def test_words() -> None:
    config, orders = parse(
        ["dmc/walker_walk:2", "episodes=5", "dmc/reacher_easy", "counting/5-12:3=ou", "replay.url=a"]
    )
    assert [(o.task, o.policy, o.runners) for o in orders] == [
        ("dmc/walker_walk", "random", 2),
        ("dmc/reacher_easy", "behaviour", 1),
        ("counting/5-12", "ou", 3),
    ]
    assert (config.episodes, config.replay.url, config.runner.streams) == (5, "a", "episode")
    assert orders[2].run("mixed") == "mixed.counting.5-12"


def test_a_suite_stands_for_its_tasks() -> None:
    _, orders = parse(["suite=libero_spatial", "tasks=2,0", "policy=source", "runners=2", "episodes=5"])
    assert [order.key for order in orders] == ["libero/libero_spatial/0=source", "libero/libero_spatial/2=source"]
    assert {order.runners for order in orders} == {2}
    assert len(parse(["suite=libero/libero_90"])[1]) == 90
    with pytest.raises(BadInput, match="libero_goal"):
        parse(["suite=libero_spatal"])
    with pytest.raises(BadInput, match="libero_spatial/1"):
        parse(["suite=libero_spatial", "tasks=12"])


def test_a_collection_with_a_name_is_settings() -> None:
    config, orders = parse(["pi05", "tasks=1", "source.execute_steps=10"])
    assert [order.key for order in orders] == ["libero/libero_spatial/1=source"]
    assert (config.source.kind, config.source.execute_steps, config.runner.starts) == ("openpi", 10, "in_order")
    assert config.out == "runs/pi05-libero_spatial"
    assert parse(["pi05", "suite=libero/libero_90"])[0].out == "runs/pi05-libero_90"
    assert parse(["pi05", "out=elsewhere"])[0].out == "elsewhere"
    with pytest.raises(BadInput, match="pi05"):
        parse(["pi06"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no task"),
        (["counting/5:0", "episodes=1", "out=x"], "0' runners"),
        (["counting/5:two", "episodes=1", "out=x"], "two' runners"),
        (["counting/5=", "episodes=1", "out=x"], "names no policy"),
        (["counting/5", "episodes=1"], "where to"),
        (["counting/5", "out=x"], "how much"),
        (["counting/5", "counting/5:2", "episodes=1", "out=x"], "given twice"),
        (["counting/5", "episodes=1", "out=x", "fleet.runer=2"], "fleet.runners"),
        (["counting/5", "episodes=1", "out=x", "env.task=counting/6"], "not settings here"),
        (["counting/5", "episodes=1", "out=x", "runner.streams=environment"], "runner.streams"),
        (["countin/5", "episodes=1", "out=x"], "'counting'"),
        (["dmc/walker_wlak", "episodes=1", "out=x"], "'walker_walk'"),
        (["counting/5=expert", "episodes=1", "out=x", "env.pixels=false"], "expert"),
        (["counting/5=nobody", "episodes=1", "out=x", "env.pixels=false"], "nobody"),
    ],
)
def test_what_cannot_be_right_is_2_and_starts_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_3_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path / "none"))
    words = ["counting/5", "libero/libero_object/4", "episodes=1", f"out={tmp_path / 'out'}", "env.pixels=false"]
    assert main(words) == 3
    assert "distwm.envs install libero" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# The ledger, and what it does not know.


@pytest.fixture
def config() -> CollectConfig:
    return parse(["episodes=8", *SMALL])[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "mixed"
    folder.mkdir()
    return folder


@pytest.fixture
def url(out: Path) -> Iterator[str]:
    server = EmbeddedRedis(out / "replay", 2**24)
    yield server.start()
    server.stop()


def opened(out: Path, config: CollectConfig) -> Book:
    book = Book(out, config)
    book.enter(COUNTING, try_all(config, [COUNTING])[COUNTING.key])
    book.save(book.seconds)
    return book


def played(number: int) -> Played:
    return Played(number=number, steps=7, total_reward=1.5, success=True, at_s=2.0)


def test_a_ledger_is_read_back_without_the_line_that_was_cut_off(out: Path, config: CollectConfig) -> None:
    book = opened(out, config)
    book.add(COUNTING, map(played, (0, 1, 3, 1)))
    book.save(12.0)
    book.close()
    with (out / "episodes.jsonl").open("a") as file:
        file.write('{"order": "counting/5-12=ran')
    book = opened(out, config)
    assert (book.name, book.seconds) == ("mixed", 12.0)
    assert book.played[COUNTING.key] == {n: played(n) for n in (0, 1, 3)}
    book.add(COUNTING, [played(4)])
    book.forget(COUNTING, [1])
    book.close()
    assert [p.number for _, p in ledger(out)] == [0, 3, 4]


def test_other_settings_are_another_collection(out: Path, config: CollectConfig) -> None:
    opened(out, config).close()
    opened(out, parse(["episodes=9", "stop_s=1", "fleet.max_retries=1", *SMALL])[0]).close()
    with pytest.raises(BadInput, match=r"env\.action_repeat"):
        opened(out, parse(["episodes=8", "env.action_repeat=2", *SMALL])[0])
    (out / "config.yaml").touch()
    with pytest.raises(BadInput, match="training run"):
        opened(out, config)


def test_a_server_may_move(out: Path) -> None:
    words = ["episodes=8", *SMALL, "source.kind=openpi"]
    opened(out, parse([*words, "source.url=ws://a:1"])[0]).close()
    transport = ["url=ws://b:2", "first_timeout_s=900", "timeout_s=9", "connect_timeout_s=9", "retries=9"]
    transport += ["connections=9", "api_key_env=KEY", "keepalive_s=0"]
    opened(out, parse([*words, *(f"source.{word}" for word in transport)])[0]).close()
    for changed in ("source.execute_steps=2", "source.horizon=20"):
        with pytest.raises(BadInput, match=changed.partition("=")[0]):
            Book(out, parse([*words, changed])[0])
    with pytest.raises(BadInput, match=r"source\.kind"):
        Book(out, parse([*words[:-1], "source.kind=recorded"])[0])


def test_what_moved_sources_say_is_kept(out: Path, config: CollectConfig) -> None:
    book, tried = opened(out, config), try_all(config, [COUNTING])[COUNTING.key]
    moved = replace(COUNTING, policy="source")
    for said in ("served at a; it does not say what", "served at b", "served at a; it does not say what"):
        book.enter(moved, replace(tried, provenance=said))
    book.save(0.0)
    book.close()
    said = json.loads((out / "collect.json").read_text())["orders"][moved.key]["source"]
    assert said == "served at a; it does not say what; and served at b"


def begin(url: str, config: CollectConfig, whole: tuple[int, ...], partial: tuple[int, ...] = ()) -> None:
    """Episodes in the replay, of which no ledger knows; the partial ones without their end."""
    spec = try_all(config, [COUNTING])[COUNTING.key].spec
    for number in (*whole, *partial):
        writer = ReplayWriter(replace(config.replay, url=url), COUNTING.run("mixed"), COUNTING.stream(number), spec)
        steps = {f.name: np.zeros((10, *f.shape), f.dtype) for f in spec.fields}
        steps["is_first"][0] = steps["is_last"][9] = True
        steps["reward"][1:] = number
        for t in range(10 if number in whole else 7):
            writer.add({name: rows[t] for name, rows in steps.items()}, source="random", policy_version=0)
        writer.close()


def test_the_replay_knows_better_than_the_ledger(out: Path, config: CollectConfig, url: str) -> None:
    begin(url, config, whole=(0, 2, 5), partial=(1, 6))
    begin(url, config, whole=(), partial=(5,))
    book = opened(out, config)
    book.add(COUNTING, [replace(played(0), steps=10), played(3), played(4)])
    said = Shelf(replace(config.replay, url=url), "mixed", {}).reconcile(book, COUNTING)
    assert "2 episodes are in the replay" in said
    assert "2 episodes are gone" in said
    assert {n: (p.steps, p.total_reward) for n, p in book.played[COUNTING.key].items()} == {
        0: (10, 1.5),
        2: (10, 18.0),
        5: (10, 45.0),
    }
    book.close()
    assert {p.number for _, p in ledger(out)} == {0, 2, 5}
    shelf = Shelf(replace(config.replay, url=url), "mixed", {COUNTING.key: True})
    whole = shelf.whole(COUNTING, (1, 2, 3), 0.0)
    assert [(number, one.success) for number, one in whole.items()] == [(2, False)]  # it did not terminate


def test_what_made_room_for_others_is_not_played_again(out: Path, config: CollectConfig, url: str) -> None:
    begin(url, config, whole=(0, 1, 2))
    book = opened(out, config)
    shelf = Shelf(replace(config.replay, url=url), "mixed", {})
    shelf.reconcile(book, COUNTING)
    shard = Surveyor(url, COUNTING.run("mixed"), 2.0, 2.0)
    shard.evict(1)
    shard.close()
    assert shelf.reconcile(book, COUNTING) == ""
    assert book.played[COUNTING.key].keys() == {0, 1, 2}
    book.close()


def test_an_episode_that_is_there_twice_is_seen(config: CollectConfig, url: str) -> None:
    begin(url, config, whole=(0, 1))
    begin(url, config, whole=(1,), partial=(0,))
    shard = Surveyor(url, COUNTING.run("mixed"), 2.0, 2.0)
    assert take_stock([shard], {}).doubled == ["random/1"]
    shard.close()


# The whole command.


def test_two_tasks_go_on_where_a_dead_driver_left_them(tmp_path: Path, config: CollectConfig, command: Command) -> None:
    """The driver died after the replay had acknowledged episodes, and before its ledger knew."""
    out = tmp_path / "mixed"
    out.mkdir()
    opened(out, config).close()
    server = EmbeddedRedis(out / "replay", 2**24)
    begin(server.start(), config, whole=(2, 3), partial=(0,))
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


def test_the_table_says_of_how_many_episodes_success_is_known() -> None:
    known = [Played(number=n, steps=5, total_reward=1.0, success=n > 0) for n in range(4)]
    assert success_share(known) == "75% (30%-95%)"
    assert success_share([*known, Played(number=4, steps=5, total_reward=1.0)]) == "75% (30%-95%) of 4"
    assert success_share([Played(number=4, steps=5, total_reward=1.0)]) == ""
