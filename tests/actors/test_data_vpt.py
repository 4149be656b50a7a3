"""Recordings of VPT's contractors: the camera's bins, the quirks of the files, damage, and long files."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from recordings import picture, tick, write_lines, write_video

from actors.data.camera import BINS, MAX_DEGREES, to_bins, to_degrees
from actors.data.options import ReadOptions
from actors.data.segments import SegmentReader
from actors.data.vpt import open_vpt
from actors.data.vpt_actions import BUTTONS, DIM, SPACE, TickReader
from actors.envs.flat_action import ActionCodec
from distwm import ingest
from replay.dataset.episodes import NamedEpisode, Unreadable
from replay.errors import BadInput

W = "key.keyboard.w"


def open_(path: Path, **options: object) -> SegmentReader:
    return open_vpt(path, {}, ReadOptions(**options))  # type: ignore[arg-type]


def pair(folder: Path, ticks: list, *, frames: int | None = None, name: str = "one") -> Path:
    write_lines(folder / f"{name}.jsonl", ticks)
    write_video(folder / f"{name}.mp4", (picture(t) for t in range(len(ticks) if frames is None else frames)))
    return folder


def read(*lines: dict, version: str = "") -> list[tuple[set[str], tuple[int, int]]]:
    """What is pressed, and the bins of pitch and yaw, of each tick."""
    reader, found = TickReader(version), []
    for line in lines:
        action = reader.read(json.dumps(line).encode()).action
        assert action.shape == (DIM,)
        assert action[len(BUTTONS) :].sum() == 1
        bins = divmod(int(action[len(BUTTONS) :].argmax()), BINS)
        found.append(({name for name, on in zip(BUTTONS, action, strict=False) if on}, bins))
    return found


def test_bins_by_hand() -> None:
    """ln(1 + mu |x| / 10) / ln 11 * 5 + 5 at mu 10: at 10 |x| / 10 = x it is 5 ln(1 + x) / ln 11 + 5."""
    # 0.25: 5 * 0.22314 / 2.39790 = 0.465 -> 5;  0.3: 0.547 -> 6;  1: 1.445 -> 6;  2: 2.291 -> 7;  5: 3.736 -> 9
    table = {0: 5, 0.25: 5, 0.3: 6, 1: 6, 2: 7, 5: 9, 8: 10, 10: 10, 300: 10}
    for degrees, wanted in table.items():
        assert to_bins(np.array(degrees)) == wanted, degrees
        assert to_bins(np.array(-degrees)) == 10 - wanted, degrees
    # (11 ** (k / 5) - 1) of 10 / 10: 11 ** 0.2 = 1.61539, and its powers
    centres = [0, 0.61539, 1.60949, 3.21536, 5.80942, 10]
    assert to_degrees(np.arange(5, 11)) == pytest.approx(centres, abs=1e-4)
    assert to_degrees(np.arange(5, -1, -1)) == pytest.approx([-c for c in centres], abs=1e-4)


@given(st.floats(-400, 400), st.floats(-400, 400))
def test_bins_keep_order_and_sign(one: float, other: float) -> None:
    low, high = sorted((one, other))
    bins = to_bins(np.array([low, high]))
    assert 0 <= bins[0] <= bins[1] <= 10
    assert (to_bins(np.array([-low, -high])) == 10 - bins).all()
    assert (to_bins(to_degrees(bins)) == bins).all(), "a bin's own degrees lie in it"
    inside = np.clip([low, high], -MAX_DEGREES, MAX_DEGREES)
    edges = to_degrees(np.stack([bins - 0.5, bins + 0.5]))
    assert (edges[0] - 1e-9 <= inside).all()
    assert (inside <= edges[1] + 1e-9).all()


def test_an_action_is_the_flattened_space() -> None:
    (pressed, bins), *_ = read(tick(keys=[W, "key.keyboard.f9", "key.keyboard.7"], mouse={"dx": 20.0, "buttons": [1]}))
    assert pressed == {"forward", "hotbar.7", "use"}
    assert bins == (5, 8), "20 pixels are 3 degrees"
    native = {
        "buttons": np.array([b in pressed for b in BUTTONS], np.int8),
        "camera": np.int64(bins[0] * BINS + bins[1]),
    }
    codec = ActionCodec(SPACE)
    line = json.dumps(tick(keys=[W, "key.keyboard.7"], mouse={"dx": 20.0, "buttons": [1]})).encode()
    assert (TickReader().read(line).action == codec.encode(native)).all()
    assert spaces.flatdim(SPACE) == DIM == 23 + 121


def test_quirks() -> None:
    held = {"buttons": [0]}
    begins_stuck = [tick(mouse=held | {"newButtons": [0]}), tick(mouse=held), tick(mouse=held | {"newButtons": [0]})]
    assert [p for p, _ in read(*begins_stuck)] == [set(), set(), {"attack"}], "held from the start: not pressed"
    begins_free = [tick(), tick(mouse=held | {"newButtons": [0]}), tick(mouse=held)]
    assert [p for p, _ in read(*begins_free)] == [set(), {"attack"}, {"attack"}]
    scrolled = [tick(), tick(hotbar=3), tick(hotbar=3), tick(hotbar=0)]
    assert [p for p, _ in read(*scrolled)] == [set(), {"hotbar.4"}, set(), {"hotbar.1"}]
    escape = [tick(keys=["key.keyboard.escape"], isGuiOpen=w) for w in (True, False)]
    assert [p for p, _ in read(*escape)] == [{"inventory"}, {"ESC"}]
    moved = tick(isGuiOpen=True, mouse={"dy": 20.0})
    assert [read(moved, version=v)[0][1] for v in ("6.13", "6.9", "5.7")] == [(8, 5), (9, 5), (7, 5)]
    assert read(tick(mouse={"dx": 1300.0, "dy": -1200.0}))[0][1] == (0, 5), "more than half a turn is no turn"


def test_alignment_segments_and_the_cursor(tmp_path: Path) -> None:
    ticks = [tick(mouse={"dx": float(t)}, keys=[W] if t % 2 else []) for t in range(25)]
    ticks[7] |= {"isGuiOpen": True}
    reader = open_(pair(tmp_path, ticks), segment_steps=10)
    found = list(reader.read())
    assert [f.name for f in found] == ["one@0000000", "one@0000010", "one@0000020"]
    assert reader.episodes == 3
    assert [f.steps for f in found if isinstance(f, NamedEpisode)] == [11, 11, 5]
    for first, episode in zip((0, 10, 20), found, strict=True):
        assert isinstance(episode, NamedEpisode), episode
        arrays = episode.arrays
        assert episode.actors[0].source == "vpt-contractor"
        for t in range(episode.steps):
            same = arrays["image"][t] == picture(first + t)
            assert same.all() == (first + t != 7), "a window shows the cursor"
        assert not arrays["action"][0].any()
        forward = arrays["action"][1:, BUTTONS.index("forward")]
        assert forward.tolist() == [(first + t) % 2 for t in range(episode.steps - 1)]
        assert arrays["is_last"].tolist() == [False] * (episode.steps - 1) + [True]
        assert not arrays["is_terminal"].any()
        assert not arrays["reward"].any()
    changed = np.argwhere((found[0].arrays["image"][7] != picture(7)).any(-1))  # type: ignore[union-attr]
    assert changed.min(0).tolist() == [32, 32], "in the middle of the screen"
    assert changed.max(0).tolist() == [34, 33]
    again = reader.named("one@0000010")
    assert (again.arrays["image"] == found[1].arrays["image"]).all()  # type: ignore[union-attr]
    assert [f.name for f in reader.read({"one@0000000", "one@0000020"})] == ["one@0000010"]


def test_null_actions_can_be_left_out(tmp_path: Path) -> None:
    ticks = [tick(keys=[W] if t in (1, 4, 5, 8) else []) for t in range(10)]
    (found,) = open_(pair(tmp_path, ticks), drop_null=True).read()
    assert isinstance(found, NamedEpisode)
    assert (found.arrays["image"] == np.stack([picture(t) for t in (1, 4, 5, 8)])).all()


@pytest.mark.parametrize(("frames", "steps"), [(8, 8), (14, 10)])
def test_frames_and_lines_that_do_not_match(tmp_path: Path, frames: int, steps: int) -> None:
    (found,) = open_(pair(tmp_path, [tick(keys=[W])] * 10, frames=frames)).read()
    assert isinstance(found, NamedEpisode)
    assert found.steps == steps


def test_a_broken_line_costs_its_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair(tmp_path / "in", [tick(keys=[W])] * 40)
    path = tmp_path / "in/one.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    whole = lines[14]
    for broken in (whole[:50] + b"\n", b'{"mouse": 3}\n', whole.replace(b'"dx": 0.0', b'"dx": NaN')):
        lines[14] = broken
        path.write_bytes(b"".join(lines))
        found = list(open_(tmp_path / "in", segment_steps=10).read())
        assert [isinstance(f, Unreadable) for f in found] == [False, True, False, False]
        place = len(b"".join(lines[:14]))
        assert f"{path}, line 15 at byte {place}: " in found[1].reason  # type: ignore[union-attr]
    words = ["vpt", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--segment-steps", "10"]
    assert ingest.main(words) == 2
    assert "line 15" in capsys.readouterr().err
    lines[14] = whole
    path.write_bytes(b"".join(lines))
    assert ingest.main([*words, "--verify"]) == 0, "mended, the same command brings the rest"
    said = capsys.readouterr().out
    assert "3 episodes are there already" in said
    assert "verified: 4 episodes" in said


@pytest.mark.parametrize("counted", [True, False])
def test_lines_that_lost_their_frames_are_left_out(tmp_path: Path, counted: bool) -> None:
    """Ends of lines are among what is damaged: what comes behind would lie beside earlier frames. Without the
    recorder's count nobody could tell."""
    pair(tmp_path, [tick(keys=[W], mouse={"dx": float(t)}) | ({} if counted else {"tick": None}) for t in range(60)])
    path = tmp_path / "one.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    joined = b"".join(lines[14:18])
    zeroed = [b"\0" * len(joined)] if counted else [b"\0" * (len(lines[14]) - 1) + b"\n", *lines[15:18]]
    path.write_bytes(b"".join([*lines[:14], *zeroed, *lines[18:]]))
    found = list(open_(tmp_path, segment_steps=10).read())
    assert [(f.name, isinstance(f, Unreadable)) for f in found] == [("one@0000000", False), ("one@0000010", True)]


def test_a_video_that_is_cut_costs_what_comes_behind(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)
    write_lines(tmp_path / "a.jsonl", [tick(keys=[W])] * 60)
    path = write_video(tmp_path / "a.mp4", noise)
    pair(tmp_path, [tick(keys=[W])] * 5, name="b")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = list(open_(tmp_path, segment_steps=10).read())
    whole = [f for f in found if isinstance(f, NamedEpisode)]
    (wrong,) = [f for f in found if isinstance(f, Unreadable)]
    assert f"{path}, frame " in wrong.reason
    assert len(whole) >= 2, "the beginning"
    assert all((e.arrays["image"][3] == noise[10 * i + 3]).all() for i, e in enumerate(whole[:-1]))
    assert whole[-1].name == "b@0000000", "and the other recordings"


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no pair"):
        open_(tmp_path)
    pair(tmp_path, [tick(keys=[W])] * 5)
    write_video(tmp_path / "lonely.mp4", [picture(0)])
    (tmp_path / "rubbish.mp4").write_bytes(b"rubbish")
    write_lines(tmp_path / "rubbish.jsonl", [tick()] * 5)
    found = list(open_(tmp_path).read())
    reasons = [f.reason for f in found if isinstance(f, Unreadable)]
    assert len(found) == 3
    assert "lonely.jsonl is missing" in reasons[0]
    assert f"{tmp_path}/rubbish.mp4, frame 0" in reasons[1]


@pytest.mark.slow
def test_a_hundred_thousand_steps_in_bounded_memory(tmp_path: Path) -> None:
    steps = 100_000
    write_lines(tmp_path / "in/long.jsonl", (tick(keys=[W], mouse={"dx": float(t % 50)}) for t in range(steps)))
    write_video(tmp_path / "in/long.mp4", (picture(t) for t in range(steps)))
    script = (
        "import resource, sys; from distwm import ingest; code = ingest.main(sys.argv[1:]); "
        "print(f'peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB'); sys.exit(code)"
    )
    words = ["vpt", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    since_s = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=280)
    print(f"{done.stdout}{steps / (time.monotonic() - since_s):.0f} steps/s with the start of the process")
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.rpartition("peak ")[2].split()[0])
    assert peak < 600, "decoded, the frames alone are 1172 MiB"
