"""Checkpoints: complete or absent, whatever happens while they are written."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import save_for_ever

from learners import checkpoint
from learners.checkpoint import Checkpoint
from replay.errors import BadInput


def example(number: float = 1.0) -> Checkpoint:
    shared = torch.full((3, 4), number)
    tensors = {"system": {"a": shared, "b": shared.T, "c": torch.tensor(True)}, "optimiser": {}}
    return Checkpoint(tensors=tensors, state={"number": number})


def test_round_trip(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "1", example())
    loaded = checkpoint.load(tmp_path / "1")
    assert loaded.state == {"number": 1.0}
    assert loaded.tensors.keys() == {"system", "optimiser"}
    for name, value in example().tensors["system"].items():
        assert torch.equal(loaded.tensors["system"][name], value)
    assert {p.name for p in tmp_path.iterdir()} == {"1"}


def test_a_name_can_be_used_again(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    for number in (1.0, 2.0):
        checkpoint.save(tmp_path / "1", example(number))
    assert checkpoint.load(tmp_path / "1").state["number"] == 2.0


def test_the_newest_stay(tmp_path: Path) -> None:
    for number in range(5):
        checkpoint.save(tmp_path / f"{number:03d}", example(number))
    (tmp_path / ".005.tmp").mkdir()
    checkpoint.prune(tmp_path, keep=2)
    assert {p.name for p in tmp_path.iterdir()} == {"003", "004"}
    assert checkpoint.latest_complete(tmp_path) == tmp_path / "004"
    assert checkpoint.latest_complete(tmp_path / "none") is None


def _truncate(directory: Path) -> None:
    path = directory / "system.safetensors"
    path.write_bytes(path.read_bytes()[:-3])


def _flip(directory: Path) -> None:
    path = directory / "system.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


def _manifest(directory: Path, **changes: object) -> None:
    done = json.loads((directory / "done").read_text())
    (directory / "done").write_text(json.dumps(done | changes))


DAMAGE = {
    "truncated": _truncate,
    "flipped bit": _flip,
    "no done": lambda d: (d / "done").unlink(),
    "empty done": lambda d: (d / "done").write_text(""),
    "file gone": lambda d: (d / "optimiser.safetensors").unlink(),
    "state gone": lambda d: _manifest(d, files={}),
    "path": lambda d: _manifest(d, files={"../1/state.json": {"bytes": 1, "crc32": 1}, "state.json": {}}),
    "newer format": lambda d: _manifest(d, format=99),
    "no format": lambda d: _manifest(d, format=None),
    "link": lambda d: ((d / "state.json").rename(d / "elsewhere"), (d / "state.json").symlink_to("elsewhere")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_and_skipped(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        checkpoint.save(tmp_path / str(number), example(number))
    DAMAGE[damage](tmp_path / "2")
    with pytest.raises(BadInput):
        checkpoint.load(tmp_path / "2")
    with caplog.at_level(logging.WARNING):
        assert checkpoint.latest_complete(tmp_path) == tmp_path / "1"
    assert "skipped a checkpoint" in caplog.text


def test_kill_while_saving(tmp_path: Path) -> None:
    """20 kills at random moments of an endless loop of saves: the newest acknowledged checkpoint is always there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["learners.checkpoint"])
    rng = np.random.default_rng(0)
    last = -1
    for _ in range(20):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=save_for_ever, args=(tmp_path, sender))
        child.start()
        sender.close()
        assert receiver.poll(60), "no checkpoint within 60 s"
        last = receiver.recv()
        time.sleep(rng.uniform(0, 0.04))
        os.kill(child.pid, signal.SIGKILL)
        child.join(10)
        try:
            while True:
                last = receiver.recv()
        except EOFError:
            pass
        newest = checkpoint.latest_complete(tmp_path)
        assert newest is not None
        loaded = checkpoint.load(newest)
        assert loaded.state["number"] >= last
        assert torch.equal(loaded.tensors["system"]["w3"], torch.full((64, 64), float(loaded.state["number"])))


def test_hash_of_configurations() -> None:
    from toy import ToyConfig

    assert checkpoint.hash_of(ToyConfig()) == checkpoint.hash_of(ToyConfig())
    assert checkpoint.hash_of(ToyConfig()) != checkpoint.hash_of(ToyConfig(batch_size=3))
