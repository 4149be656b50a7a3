"""Chunks of actions as a file: predicted ones where there are any, the same bytes whoever played the episodes."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import pytest

from distwm.chunkfile import CARD, FILE, write_chunks
from replay.dataset.episodes import Actor, NamedEpisode, Unreadable
from replay.errors import BadInput
from replay.schema import EpisodeKey, EpisodeSpec

PLANNED = EpisodeSpec.build({"state": ((1,), "float32")}, action_dim=2, plan_steps=4)
PLAIN = EpisodeSpec.build({"state": ((1,), "float32")}, action_dim=2)


class Listed:
    """A reader of episodes in memory."""

    def __init__(self, spec: EpisodeSpec, found: list[NamedEpisode | Unreadable]) -> None:
        self.spec, self.origin, self.episodes, self._found = spec, {}, len(found), found

    def read(self, skip: Container[str]) -> Iterator[NamedEpisode | Unreadable]:
        yield from self._found


def episode(number: int, life: int = 0, steps: int = 7) -> NamedEpisode:
    """Its chunks hold the number of the episode and of the decision that they were predicted for; two are executed."""
    taken = np.arange(steps)
    plans = np.array([[(number, t - t % 2 + k) for k in range(4)] for t in taken], np.float32)
    arrays = {
        "action": np.concatenate([np.zeros((1, 2), np.float32), plans[taken, taken % 2]]),
        "plan": np.concatenate([np.zeros((1, 4, 2), np.float32), plans]),
        "plan_step": np.concatenate([[-1], taken % 2]).astype(np.int32),
        "reward": np.zeros(steps + 1, np.float32),
    }
    key = EpisodeKey(f"source/{number}", life, 0)
    return NamedEpisode(name=str(key), arrays=arrays, actors=(Actor(0, "source", 0),), key=key)


def test_predicted_chunks_and_where_they_begin(tmp_path: Path) -> None:
    card = write_chunks(Listed(PLANNED, [episode(0), episode(1)]), tmp_path, 4)
    found = np.load(tmp_path / FILE)
    assert found["actions"].shape == (8, 4, 2)
    assert found["actions"][:, 0].tolist() == [[e, t] for e in (0, 1) for t in (0, 2, 4, 6)]
    assert found["start"].tolist() == [0, 2, 4, 6] * 2
    assert found["episode"].tolist() == [0] * 4 + [1] * 4
    assert (card["chunks"], card["kind"], card["acted_by"]) == (8, "predicted at replan points", ["source"])
    assert (tmp_path / CARD).is_file()


def test_the_same_episodes_are_the_same_bytes(tmp_path: Path) -> None:
    """In whatever order they are read, and whichever attempt was the one that ended."""
    one = write_chunks(Listed(PLANNED, [episode(n) for n in (0, 2, 10)]), tmp_path / "a", 4)
    two = write_chunks(Listed(PLANNED, [episode(n, life=n % 3) for n in (10, 0, 2)]), tmp_path / "b", 4)
    other = write_chunks(Listed(PLANNED, [episode(n) for n in (0, 2, 11)]), tmp_path / "c", 4)
    assert one["sha256"] == two["sha256"] != other["sha256"]
    assert np.load(tmp_path / "a" / FILE)["names"].tolist() == ["source/0", "source/2", "source/10"]


def test_windows_where_nothing_was_predicted(tmp_path: Path) -> None:
    card = write_chunks(Listed(PLAIN, [episode(3)]), tmp_path, 4)
    found = np.load(tmp_path / FILE)
    assert found["start"].tolist() == [0, 5]
    assert found["actions"][1, :, 1].tolist() == [5, 6, 6, 6]  # the last action is held
    assert card["kind"] == "windows, stride 5"


def test_nothing_to_write_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no chunk"):
        write_chunks(Listed(PLANNED, []), tmp_path, 4)
    with pytest.raises(BadInput, match=r"torn\.mp4"):
        write_chunks(Listed(PLANNED, [Unreadable(name="x", reason="torn.mp4, frame 3")]), tmp_path, 4)
    assert not list(tmp_path.iterdir())
