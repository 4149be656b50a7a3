"""Video without labels: zeros for actions, said in the origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recordings import picture, write_video

from actors.data.options import ReadOptions
from actors.data.video import open_video
from distwm import ingest
from replay.config import ReplayConfig
from replay.dataset.episodes import NamedEpisode, Unreadable
from replay.dataset.format import read_manifest
from replay.errors import BadInput
from replay.sources.dataset_source import DatasetSource
from replay.sources.source_reader import SourceReader


@pytest.mark.parametrize("width", [0, 3])
def test_zeros_stand_for_actions(tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "in/a.mp4", (picture(t) for t in range(25)))
    write_video(tmp_path / "in/deep/b.mp4", (picture(t) for t in range(7)))
    words = ["video", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--segment-steps", "10"]
    assert ingest.main([*words, "--action-dim", str(width), "--verify"]) == 0
    assert "verified: 4 episodes" in capsys.readouterr().out
    assert read_manifest(tmp_path / "out").origin["action"] == f"unknown: zeros of width {width}"
    source = DatasetSource(tmp_path / "out", ReplayConfig(arena_bytes=0))
    found = {e.name: e for e in SourceReader(source, {}).read() if isinstance(e, NamedEpisode)}
    source.close()
    assert {name: e.steps for name, e in found.items()} == {
        "a@0000000": 11,
        "a@0000010": 11,
        "a@0000020": 5,
        "deep/b@0000000": 7,
    }
    middle = found["a@0000010"]
    assert middle.actors[0].source == "video"
    assert middle.arrays["action"].shape == (11, width)
    assert not middle.arrays["action"].any()
    assert (middle.arrays["image"] == np.stack([picture(t) for t in range(10, 21)])).all()


def test_frames_are_averaged_to_the_size_that_is_wanted(tmp_path: Path) -> None:
    board = np.indices((128, 192)).sum(0) % 2 * 200
    frame = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    write_video(tmp_path / "a.mp4", [frame] * 4)
    (found,) = open_video(tmp_path / "a.mp4", {}, ReadOptions(image_size=32)).read()
    assert isinstance(found, NamedEpisode)
    assert found.arrays["image"].shape == (4, 32, 32, 3)
    assert np.abs(found.arrays["image"].astype(int) - 100).max() <= 2


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    cut = write_video(tmp_path / "a.mp4", noise)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "b.mp4").write_bytes(b"no video")
    write_video(tmp_path / "c.mp4", noise[:5])
    found = list(open_video(tmp_path, {}, ReadOptions(segment_steps=5)).read())
    reasons = [f.reason for f in found if isinstance(f, Unreadable)]
    assert len(reasons) == 2
    assert f"{tmp_path}/a.mp4, frame " in reasons[0]
    assert f"{tmp_path}/b.mp4, frame 0: " in reasons[1]
    whole = [f for f in found if isinstance(f, NamedEpisode)]
    assert len(whole) >= 3
    assert (whole[0].arrays["image"] == noise[:6]).all()
    assert (whole[-1].arrays["image"] == noise[:5]).all()


def test_what_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no \.mp4"):
        open_video(tmp_path, {}, ReadOptions())
    with pytest.raises(BadInput, match="action width"):
        ReadOptions(action_dim=-1)
    with pytest.raises(BadInput, match="image size"):
        ReadOptions(image_size=2)
