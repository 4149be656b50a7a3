"""`python -m distwm.replay` finds a run's replay, shows it, checks it, follows it and makes room in it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from distwm.config import dump, load
from distwm.replay.__main__ import main
from distwm.replay.reading import Reader
from distwm.replay.view import parse_size, size
from replay.config import LimiterConfig, ReplayConfig
from replay.schema import EpisodeSpec
from replay.shards.server import EmbeddedRedis
from replay.shards.survey import Look, Surveyor
from replay.writing.writer import ReplayWriter

SPEC = EpisodeSpec.build({"state": ((3,), "float32")}, action_dim=1)
RUN = "toy-1"


def write_episodes(url: str, stream: str = "s", episodes: int = 3, length: int = 20, run: str = RUN) -> None:
    writer = ReplayWriter(ReplayConfig(url=url, chunk_steps=8), run, stream, SPEC)
    for _ in range(episodes):
        for t in range(length):
            writer.add(record(t, length), source="random", policy_version=0)
    writer.close()


def record(t: int, length: int) -> Mapping[str, np.ndarray]:
    step = {f.name: np.zeros(f.shape, f.dtype) for f in SPEC.fields}
    return step | {"is_first": np.array(t == 0), "is_last": np.array(t == length - 1)}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of which nobody serves the replay."""
    root = tmp_path / "run"
    root.mkdir()
    (root / "config.yaml").write_text(dump(load("dreamer4", {"replay.chunk_steps": 8, "replay.max_bytes": 2**26})))
    (root / "run_id").write_text(RUN)
    return root


@pytest.fixture
def serve(run_dir: Path) -> Iterator[Callable[[], EmbeddedRedis]]:
    server = EmbeddedRedis(run_dir / "replay", 2**26)

    def start() -> EmbeddedRedis:
        server.start()
        return server

    yield start
    server.stop()


def url_of(server: EmbeddedRedis) -> str:
    return f"unix://{server.socket}"


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_replay_at_rest_is_served_for_the_duration(run_dir: Path, serve: Any, capsys: Any) -> None:
    write_episodes(url_of(server := serve()))
    server.stop()
    code, out, _ = told(capsys, "status", run_dir, "--json", "--every", 0.1)
    said = json.loads(out)
    assert code == 0
    assert (said["run"], said["inserted_steps"], said["wanted"]) == (RUN, 60, 0.0)
    assert said["shards"][0] | {"used_bytes": 0, "limit_bytes": 0, "stored_bytes": 0, "name": ""} == {
        **{"name": "", "state": "ok", "problem": "", "away_s": 0.0, "used_bytes": 0, "limit_bytes": 0},
        **{"stored_bytes": 0, "budget_bytes": 2**26, "chunks": 9, "episodes": 3, "steps": 60, "inserted_per_s": 0.0},
        **{"file": "ok", "alarms": []},
    }
    assert not (run_dir / "replay" / "redis.sock").exists()
    assert told(capsys, "verify", run_dir)[0] == 0
    serve().stop()


@pytest.mark.parametrize("depth", [0, 10])
def test_a_running_replay_is_found_by_its_socket(tmp_path: Path, run_dir: Path, capsys: Any, depth: int) -> None:
    """Also where the directory's name is too long for a socket's."""
    root = tmp_path.joinpath(*["a-folder-of-long-name"] * depth, "moved")
    root.parent.mkdir(parents=True, exist_ok=True)
    run_dir.rename(root)
    server = EmbeddedRedis(root / "replay", 2**26)
    try:
        write_episodes(server.start())
        code, out, _ = told(capsys, "status", root, "--once", "--every", 0.1)
        assert code == 0
        assert "running" in out.replace("\n", "")
        assert "60 steps stored, 60 ever; 0 sampled; 0.00 samples per insert, no limit" in out
        assert re.search(r"^s +1 +9 ", out, re.MULTILINE)
        assert server.pid
    finally:
        server.stop()
    assert not (root / "replay" / "redis.sock").is_symlink()


def test_the_command_itself(run_dir: Path, serve: Any) -> None:
    write_episodes(url_of(serve()))
    command = [sys.executable, "-m", "distwm.replay", "tail", run_dir, "-n", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    first, last = done.stdout.splitlines()
    assert "s 1/7  episode 2  steps 8-15  random@0" in first
    assert "s 1/8  episode 2  steps 16-19  random@0" in last
    assert done.stderr == ""


def test_a_dead_shard_hides_nothing_of_the_others(run_dir: Path, serve: Any, capsys: Any) -> None:
    url = url_of(serve())
    write_episodes(url)
    both = f"{url},redis://user:hush@127.0.0.1:1"
    code, out, err = told(capsys, "status", "--url", both, "--run", RUN, "--every", 0.1)
    assert code == 0
    assert "away" in out
    assert "60 steps stored" in out
    assert "Connection refused" in out
    assert "hush" not in out + err
    code, _, err = told(capsys, "verify", "--url", both, "--run", RUN)
    assert (code, "did not answer" in err) == (75, True)
    code, out, err = told(capsys, "status", "--url", "redis://user:hush@127.0.0.1:1", "--run", RUN, "--every", 0.1)
    assert code == 75
    assert "hush" not in out + err


def damage_a_body(client: redis.Redis) -> str:
    key = f"{{distwm:{RUN}}}:chunk:s/1/4"
    body = bytearray(client.get(key))
    body[-1] ^= 1
    client.set(key, bytes(body))
    return r"s/1/4 .*The chunk is damaged: its checksum is wrong"


def lose_a_body(client: redis.Redis) -> str:
    client.delete(f"{{distwm:{RUN}}}:chunk:s/1/4")
    return "s/1/4 .*its body is gone"


def swap_two_bodies(client: redis.Redis) -> str:
    one, other = (f"{{distwm:{RUN}}}:chunk:s/1/{n}" for n in (3, 4))
    client.set(one, client.get(other))
    return "s/1/3 .*its checksum is not that of the index"


def lose_an_entry(client: redis.Redis) -> str:
    client.xdel(f"{{distwm:{RUN}}}:index", "5-1")
    return "s/1/5 .*it is chunk 6 of the index, after chunk 4"


def miscount(client: redis.Redis) -> str:
    client.hincrby(f"{{distwm:{RUN}}}:counters", "steps", 1)
    return "counter steps .*it says 61; the entries make 60"


def forget_the_last(client: redis.Redis) -> str:
    client.xdel(f"{{distwm:{RUN}}}:index", "9-1")
    return "s/1 .*chunk 8 is committed, but the last one in the index is 7"


def lose_the_spec(client: redis.Redis) -> str:
    client.delete(f"{{distwm:{RUN}}}:spec")
    return "spec .*chunks but no episode spec"


@pytest.mark.parametrize(
    "harm", [damage_a_body, lose_a_body, swap_two_bodies, lose_an_entry, miscount, forget_the_last, lose_the_spec]
)
def test_damage_is_named(run_dir: Path, serve: Any, capsys: Any, harm: Callable[[redis.Redis], str]) -> None:
    url = url_of(serve())
    write_episodes(url)
    assert told(capsys, "verify", run_dir)[0] == 0
    says = harm(redis.Redis.from_url(url))
    code, out, _ = told(capsys, "verify", run_dir)
    assert code == 2
    assert re.search(says, out), out


def test_a_life_on_two_shards_is_damage(tmp_path: Path, capsys: Any) -> None:
    servers = [EmbeddedRedis(tmp_path / name, 2**26) for name in "ab"]
    try:
        urls = [server.start() for server in servers]
        for url in urls:
            write_episodes(url)
        code, out, _ = told(capsys, "verify", "--url", ",".join(urls), "--run", RUN)
        assert code == 2
        assert "s/1 at" in out
        assert "this life has chunks on several shards" in out
    finally:
        for server in servers:
            server.stop()


def test_verify_while_writers_write_and_evict(run_dir: Path, serve: Any, capsys: Any) -> None:
    url, stop = url_of(serve()), threading.Event()
    write_episodes(url, episodes=100)

    def work() -> None:
        writer = ReplayWriter(ReplayConfig(url=url, chunk_steps=8, max_bytes=200_000), RUN, "other", SPEC)
        while not stop.is_set():
            for t in range(20):
                writer.add(record(t, 20), source="random", policy_version=0)
        writer.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            code, out, _ = told(capsys, "verify", run_dir)
            assert code == 0, out
    finally:
        stop.set()
        thread.join(timeout=30)


def test_evict_drops_the_oldest(run_dir: Path, serve: Any, capsys: Any) -> None:
    url = url_of(serve())
    write_episodes(url)
    assert told(capsys, "evict", run_dir, "--bytes", 100)[0] == 2  # nobody to ask
    surveyor = Surveyor(url, RUN, 2, 2)
    before = surveyor.see().counters
    code, out, _ = told(capsys, "evict", run_dir, "--bytes", before["bytes"] // 2, "--yes")
    after = surveyor.see()
    assert code == 0
    assert f"{before['chunks'] - after.counters['chunks']} chunks, " in out
    assert f"(chunks 1 to {after.oldest - 1} of the index)" in out
    assert 0 < after.counters["bytes"] <= before["bytes"] // 2
    assert told(capsys, "verify", run_dir)[0] == 0
    assert told(capsys, "evict", run_dir, "--bytes", "1TiB", "--yes")[0] == 0
    assert surveyor.see().counters["chunks"] == 0
    assert told(capsys, "verify", run_dir)[0] == 0


def test_follow_shows_what_comes(run_dir: Path, serve: Any) -> None:
    url = url_of(serve())
    write_episodes(url, "early", episodes=1)
    command = [sys.executable, "-u", "-m", "distwm.replay", "tail", run_dir, "-n", "1", "--follow", "--every", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        try:
            lines = iter(following.stdout.readline, "")
            assert "early 1/2" in next(lines)
            write_episodes(url, "late", episodes=1)
            assert ["late 1/0" in next(lines), "late 1/1" in next(lines), "late 1/2" in next(lines)] == [True] * 3
        finally:
            following.terminate()
            following.wait(timeout=20)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status"], "It is not clear which replay is meant"),
        (["status", "x", "--url", "redis://h:1"], "It is not clear"),
        (["status", "--url", "redis://h:1"], "It is not clear"),
        (["status", "/nowhere"], "/nowhere holds no run"),
        (["verify", "--url", "redis://:$ABSENT@h:1", "--run", "x"], "ABSENT, which is not set"),
        (["tail", "--url", "redis://127.0.0.1:1", "--run", "a b"], "The run is called 'a b'"),
    ],
)
def test_what_cannot_be_is_said(capsys: Any, words: list[str], says: str) -> None:
    code, _, err = told(capsys, *words)
    assert (code, says in err, len(err.splitlines())) == (2, True, 1), err


def test_a_run_that_noted_no_password(run_dir: Path, capsys: Any) -> None:
    config = load("dreamer4", {"replay.url": "redis://u:hush@h:1"})
    (run_dir / "config.yaml").write_text(dump(config))
    code, _, err = told(capsys, "status", run_dir)
    assert (code, "hush" in err) == (2, False)
    assert f"--run with the run's name ({RUN})" in err
    (run_dir / "config.yaml").write_text(dump(load("dreamer4", {"replay.url": "redis://u:$ABSENT@h:1"})))
    assert "ABSENT, which is not set" in told(capsys, "status", run_dir)[2]


def test_an_unknown_run_is_said(run_dir: Path, serve: Any, capsys: Any) -> None:
    url = url_of(serve())
    write_episodes(url)
    for command in (["verify"], ["tail"], ["evict", "--bytes", "1", "--yes"]):
        code, _, err = told(capsys, *command, "--url", url, "--run", "other")
        assert (code, "No server knows the run 'other'" in err) == (2, True)


def look(at_s: float, inserted: int, sampled: int = 0, **options: Any) -> Look:
    counters = {"inserted_steps": inserted, "inserted_chunks": inserted // 10, "steps": inserted}
    return Look(name="one", at_s=at_s, epoch="e", counters=counters, sampled={"learner0": sampled}, **options)


def test_rates_and_who_waits() -> None:
    limiter = LimiterConfig(samples_per_insert=2, min_steps=100, slack_steps=50)
    reader = Reader(2**20, limiter, chunk_steps=10)
    reader.read([look(0.0, 100)])
    reading = reader.read([look(2.0, 300)])
    assert (reading.inserted_per_s, reading.ratio, reading.wanted) == (100.0, 0.0, 2)
    assert reading.held[0].startswith("actors wait: learners are behind: 0 steps sampled, 300 inserted")
    reading = reader.read([look(3.0, 300, sampled=600)])
    assert reading.held[0].startswith("learners wait: actors are behind: 600 steps sampled")
    assert reading.ratio == 2.0
    assert reading.consumers[0].lag_s < 5


def test_losses_are_seen_and_remembered() -> None:
    reader = Reader()
    reader.read([look(0.0, 100)])
    assert reader.read([look(1.0, 80)]).losses == ("one came back with older data, without its last 2 chunks",)
    away = Look(name="one", at_s=2.0, problem="away", code=75)
    reading = reader.read([away])
    assert (reading.inserted_steps, reading.shards[0].state, reading.shards[0].steps) == (80, "away", 80)
    assert len(reader.read([replace(look(3.0, 90), epoch="f")]).losses) == 2
    assert reader.read([replace(look(4.0, 0), epoch="")]).losses[-1] == "one came back empty"


def test_sizes() -> None:
    assert [parse_size(text) for text in ("1", "2GiB", "300MB", "1.5 KiB", "4k")] == [1, 2**31, 3 * 10**8, 1536, 4000]
    for wrong in ("", "-1", "0", "2XB", "iB", "1e9", "0.0001KB"):
        with pytest.raises(ValueError, match=r"size|byte"):
            parse_size(wrong)
    assert [size(n) for n in (0, 1023, 1024, 3 * 2**30)] == ["0 B", "1023 B", "1.0 KiB", "3.0 GiB"]
    with pytest.raises(SystemExit) as raised:
        main(["evict", "x", "--bytes", "nothing"])
    assert raised.value.code == 2


def test_a_watcher_sees_the_steps_flow(run_dir: Path, serve: Any, capsys: Any) -> None:
    url = url_of(serve())
    write_episodes(url)
    writing = threading.Thread(target=lambda: (time.sleep(0.3), write_episodes(url, "more", episodes=20)))
    writing.start()
    _, out, _ = told(capsys, "status", run_dir, "--json", "--every", 1.5)
    writing.join(timeout=30)
    assert json.loads(out)["inserted_per_s"] > 0


def heeding_ctrl_c() -> None:
    """Also where the tests run in the background of a shell, which ignores it for them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_status_is_live_on_a_terminal(run_dir: Path, serve: Any) -> None:
    """Page after page, until ctrl-c, which is how it ends well."""
    write_episodes(url_of(serve()))
    terminal, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "150", "LINES": "40"}
    command = [sys.executable, "-m", "distwm.replay", "status", run_dir, "--every", "0.1"]
    watching = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, preexec_fn=heeding_ctrl_c
    )
    os.close(theirs)
    try:
        shown, deadline = b"", time.monotonic() + 60
        while shown.count(b"60 steps stored") < 3:
            assert select.select([terminal], [], [], deadline - time.monotonic())[0], shown
            shown += os.read(terminal, 2**16)
        watching.send_signal(signal.SIGINT)
        while watching.poll() is None and time.monotonic() < deadline:  # a full terminal holds up its last page
            if select.select([terminal], [], [], 0.1)[0]:
                with suppress(OSError):  # it has ended
                    os.read(terminal, 2**16)
        assert watching.poll() == 0
    finally:
        watching.kill()
        watching.wait()
    os.close(terminal)
