"""Recorded episodes as an action source: every format, windows and recorded chunks, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources_kit import request

from actors.envs.registry import EnvConfig
from actors.sources.opening import open_source
from actors.sources.recordings import read_recordings
from actors.sources.source import SourceConfig
from replay.dataset.episodes import Actor, NamedEpisode
from replay.dataset.writer import DatasetWriter
from replay.errors import BadInput
from replay.lerobot.export import LeRobotWriter
from replay.schema import EpisodeKey, EpisodeSpec

LENGTHS, HORIZON = (9, 4), 3


def done(episode: int) -> np.ndarray:
    """(T, 2): what was done upon each observation."""
    return np.stack([np.full(LENGTHS[episode], episode), np.arange(LENGTHS[episode])], axis=1).astype(np.float32)


def predicted(episode: int, begin: int) -> np.ndarray:
    """(HORIZON, 2): what was predicted, of which the first two were done."""
    return np.stack([np.full(HORIZON, episode + 0.5), begin + np.arange(HORIZON)], axis=1).astype(np.float32)


def records(episode: int, planned: bool) -> NamedEpisode:
    """As a runner records it: each record has the action that led to it."""
    steps = LENGTHS[episode] + 1
    arrays: dict[str, np.ndarray] = {
        "state": np.zeros((steps, 3), np.float32),
        "action": np.concatenate([np.zeros((1, 2), np.float32), done(episode)]),
        "reward": np.zeros(steps, np.float32),
        **{name: np.zeros(steps, bool) for name in ("is_first", "is_last", "is_terminal")},
    }
    arrays["is_first"][0] = arrays["is_last"][-1] = True
    if planned:
        begins = np.arange(steps - 1) // 2 * 2
        chunks = [np.zeros((HORIZON, 2)), *(predicted(episode, begin) for begin in begins)]
        arrays["plan"] = np.array(chunks, np.float32)
        arrays["plan_step"] = np.array([-1, *(np.arange(steps - 1) - begins)], np.int32)
    key = EpisodeKey("a", 0, episode)
    return NamedEpisode(name=f"e{episode}", arrays=arrays, actors=(Actor(0, "test", 0),), key=key, task="lift")


def write(kind: str, path: Path, planned: bool = False) -> Path:
    spec = EpisodeSpec.build({"state": ((3,), "float32")}, 2, plan_steps=HORIZON if planned else 0)
    if kind in ("dataset", "lerobot"):
        made: Any = DatasetWriter(path, spec, name="x") if kind == "dataset" else LeRobotWriter(path, spec, fps=20)
        with made as writer:
            for episode in range(len(LENGTHS)):
                writer.write(records(episode, planned))
        return path
    path.mkdir()
    if kind == "libero":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path / "task_demo.hdf5", "w") as file:
            for episode in range(len(LENGTHS)):
                file[f"data/demo_{episode}/actions"] = done(episode).astype(np.float64)
    if kind == "npz":
        arrays: dict[str, np.ndarray] = {
            "actions": np.concatenate([done(0), done(1)]),
            "episode_ends": np.cumsum(LENGTHS),
        }
        if planned:
            whole = [records(episode, True).arrays for episode in range(len(LENGTHS))]
            arrays |= {name: np.concatenate([one[name][1:] for one in whole]) for name in ("plan", "plan_step")}
        np.savez(path / "all.npz", **arrays)  # type: ignore[arg-type]
    if kind == "foreign":
        write_foreign(path)
    return path


def write_foreign(path: Path) -> None:
    """LeRobot v3 as others write it, without rewards: the last action counts all the same."""
    (path / "meta/episodes/chunk-000").mkdir(parents=True)
    (path / "data/chunk-000").mkdir(parents=True)
    features = {"action": {"dtype": "float32", "shape": [2], "names": None}}
    files = {"data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"}
    info = {"codebase_version": "v3.0", "fps": 20, "features": features, **files}
    (path / "meta/info.json").write_text(json.dumps(info))
    frames = [(e, a) for e in range(len(LENGTHS)) for a in done(e).tolist()]
    data = pa.table({"action": [a for _, a in frames], "episode_index": [e for e, _ in frames]})
    pq.write_table(data, path / "data/chunk-000/file-000.parquet")
    begins = [0, LENGTHS[0]]
    rows = [
        {
            "episode_index": e,
            "length": LENGTHS[e],
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": begins[e],
            "dataset_to_index": begins[e] + LENGTHS[e],
            "tasks": ["lift"],
        }
        for e in range(len(LENGTHS))
    ]
    pq.write_table(pa.Table.from_pylist(rows), path / "meta/episodes/chunk-000/file-000.parquet")


def open_(path: Path, horizon: int = HORIZON, **changes: Any) -> Any:
    config = SourceConfig(kind="recorded", path=str(path), horizon=horizon, execute_steps=1, **changes)
    return open_source(config, EnvConfig())


@pytest.mark.parametrize("kind", ["dataset", "lerobot", "foreign", "libero", "npz"])
def test_windows_of_what_was_done(kind: str, tmp_path: Path) -> None:
    source = open_(write(kind, tmp_path / "data"))
    assert source.spec.action_dim == 2
    assert "actions of 2 episodes" in source.spec.provenance
    for episode in (0, 1, 2, 7):
        actions = done(episode % 2)
        for step in (0, 1, len(actions) - 2, len(actions) - 1, len(actions) + 5):
            chunk = source.act([request(episode, step=step)]).actions[0]
            rows = np.minimum(np.arange(step, step + HORIZON), len(actions) - 1)
            np.testing.assert_array_equal(chunk, actions[rows])


@pytest.mark.parametrize("kind", ["dataset", "lerobot", "npz"])
def test_chunks_that_were_recorded(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path / "data", planned=True)
    source = open_(path)
    assert "predicted chunks of 2 episodes" in source.spec.provenance
    both = source.act([request(1, step=2), request(0, step=3)]).actions
    np.testing.assert_array_equal(both[0], predicted(1, 2))
    np.testing.assert_array_equal(both[1], done(0)[3:6])  # where no chunk began: what was done
    np.testing.assert_array_equal(open_(path, 2).act([request(0, step=4)]).actions[0], predicted(0, 4)[:2])
    with pytest.raises(BadInput, match=r"have 3 actions, not 4.*source\.horizon=3"):
        open_(path, 4)


def test_what_cannot_be_replayed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"Set source\.path"):
        open_source(SourceConfig(kind="recorded"), EnvConfig())
    with pytest.raises(BadInput, match=r"There is no .*nowhere"):
        open_(tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"no recorded data that is known.*dataset, lerobot, libero, npz"):
        open_(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(BadInput, match=r"bad\.npz cannot be read as npz"):
        open_(tmp_path / "bad.npz")
    for number, arrays in enumerate(
        [
            {"action": np.zeros((3, 2))},
            {"actions": np.zeros(3)},
            {"actions": np.full((3, 2), np.nan)},
            {"actions": np.array([{}], object)},
            {"actions": np.zeros((3, 2)), "episode_ends": np.array([2, 4])},
            {"actions": np.zeros((0, 2))},
        ]
    ):
        np.savez(tmp_path / f"{number}.npz", **arrays)
        with pytest.raises(BadInput, match=f"{number}.npz"):
            open_(tmp_path / f"{number}.npz")


def test_episodes_have_an_order(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in (10, 2, 0):
            file[f"data/demo_{number}/actions"] = np.zeros((2, 7))
    assert [one.name for one in read_recordings(tmp_path)] == ["a/demo_0", "a/demo_2", "a/demo_10"]
