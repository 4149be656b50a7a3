"""The readers of recorded data over 100,000 steps: how fast, and how much memory, against reading the whole at once.

Files are made first: one recording as VPT's contractors wrote them (640 x 360, 20 Hz, a line of JSON for each frame;
one minute of motion over and over), and one HDF5 file as LIBERO and robomimic have them (demonstrations of 200 steps,
two cameras of 64 x 64, uncompressed). Each side is a process of its own, one after the other; its memory is the most
that it and its children had resident, less what it had before. The peers keep what they read, as scripts do that load
a file: imageio's frames stacked at full size, as its imread does, with the lines beside them, as many as fit; h5py's
arrays.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
import pytest
from timing import table

from actors.data.libero_hdf5 import LiberoReader
from actors.data.options import ReadOptions
from actors.data.vpt import open_vpt
from actors.hosting.guardian import descendants
from actors.hosting.process import ROOT
from replay.dataset.episodes import NamedEpisode, Unreadable

STEPS, PEER_STEPS = 100_000, 5_000
LOOK_S = 0.05  # between two looks at how much memory is used
LOOP, DEMO, SIDE = 1200, 200, 64  # frames that are encoded, steps of a demonstration, pixels of its cameras
KEYS = ["key.keyboard.w", "key.keyboard.space", "key.keyboard.a", "key.keyboard.left.shift"]


def make_vpt(folder: Path, steps: int) -> Path:
    """The folder with the recording."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    once = folder / "once.mp4"
    writer = imageio_ffmpeg.write_frames(str(once), (640, 360), fps=20, codec="libx264", macro_block_size=2)
    writer.send(None)
    blocks = rng.integers(0, 256, (46, 82, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for t in range(LOOP):
        writer.send(np.ascontiguousarray(np.roll(blocks, (t % 8, t), (0, 1))[:360, :640]))
    writer.close()
    video = folder / "6.9-recording.mp4"
    rounds = ["-stream_loop", str(-(-steps // LOOP) - 1)]
    words = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *rounds, "-i", str(once), "-c", "copy"]
    words += ["-movflags", "+faststart", str(video)]  # so that what is left of a cut file can be read
    subprocess.run(words, check=True, timeout=600, stdin=subprocess.DEVNULL)
    once.unlink()
    with video.with_suffix(".jsonl").open("w") as file:
        file.writelines(json.dumps(tick(t, rng)) + "\n" for t in range(steps))
    return folder


def tick(t: int, rng: np.random.Generator) -> dict[str, Any]:
    dx, dy = map(float, rng.normal(0, 20, 2))
    mouse = {"x": 640.0, "y": 360.0, "dx": dx, "dy": dy, "scaledX": 0.0, "scaledY": 0.0, "dwheel": 0.0}
    mouse |= {"buttons": [0] if t // 40 % 2 else [], "newButtons": []}
    keys = {"keys": KEYS[: t // 60 % 5], "newKeys": [], "chars": ""}
    line = {"mouse": mouse, "keyboard": keys, "isGuiOpen": False, "hotbar": t // 500 % 9}
    return line | {
        "tick": t,
        "yaw": dx,
        "pitch": dy,
        "xpos": 1.5 * t,
        "inventory": [{"type": "oak_log", "quantity": 3}],
    }


def make_hdf5(folder: Path, steps: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2 * DEMO, SIDE, SIDE, 3), np.uint8)
    with h5py.File(folder / "task_demo.hdf5", "w") as file:
        for number in range(steps // DEMO):
            group = file.create_group(f"data/demo_{number}")
            group["actions"] = rng.uniform(-1, 1, (DEMO, 7))
            group["rewards"] = group["dones"] = np.eye(DEMO, dtype=np.uint8)[-1]
            for name in ("agentview_rgb", "eye_in_hand_rgb"):
                group[f"obs/{name}"] = frames[number % DEMO :][:DEMO]
            group["obs/ee_states"], group["obs/gripper_states"] = rng.normal(size=(DEMO, 6)), rng.normal(size=(DEMO, 2))
    return folder


def counted(episodes: Iterator[NamedEpisode | Unreadable]) -> tuple[int, list[str]]:
    """Decisions that were read, and what could not be."""
    steps, wrong = 0, []
    for episode in episodes:
        if isinstance(episode, Unreadable):
            wrong.append(episode.reason)
        else:
            steps += episode.steps - 1
    return steps, wrong


def ours_vpt(folder: Path, steps: int) -> tuple[int, list[str]]:
    return counted(open_vpt(folder, {}, ReadOptions()).read())


def imageio_vpt(folder: Path, steps: int) -> tuple[int, list[str]]:
    (video,) = folder.glob("*.mp4")
    frames = np.stack([frame for frame, _ in zip(iio.imiter(video, plugin="FFMPEG"), range(steps), strict=False)])
    with video.with_suffix(".jsonl").open() as file:
        lines = [json.loads(line) for line, _ in zip(file, range(steps), strict=False)]
    return min(len(frames), len(lines)), []


def ours_hdf5(folder: Path, steps: int) -> tuple[int, list[str]]:
    return counted(LiberoReader(folder, {}, ReadOptions()).read())


def h5py_hdf5(folder: Path, steps: int) -> tuple[int, list[str]]:
    found = []
    with h5py.File(next(folder.glob("*.hdf5"))) as file:
        for demo in file["data"].values():
            arrays = {name: demo[name][:] for name in ("actions", "rewards", "dones")}
            found.append(arrays | {name: values[:] for name, values in demo["obs"].items()})
    return sum(len(arrays["actions"]) for arrays in found), []


SIDES: dict[str, Callable[[Path, int], tuple[int, list[str]]]] = {
    "distwm, VPT": ours_vpt,
    "imageio, all frames kept": imageio_vpt,
    "distwm, HDF5": ours_hdf5,
    "h5py, whole file": h5py_hdf5,
}


def side(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """One side, in a process of its own, which is looked at before it begins."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    cpu, begun = spent(), time.perf_counter()
    done, wrong = SIDES[name](folder, steps)
    seconds = time.perf_counter() - begun
    return {"steps": done, "rate": done / seconds, "cpu": done / (spent() - cpu), "wrong": wrong}


def spent() -> float:
    """Seconds of CPU of this process and its children that have ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def run(name: str, folder: Path, steps: int) -> dict[str, Any]:
    """What `side` found, and the most memory it used while this process looked."""
    words = [sys.executable, __file__, "--side", name, "--folder", str(folder), "--steps", str(steps)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": path}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=variables) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before, most = resident_mib(process.pid), 0.0
        process.stdin.write("go\n")
        while process.poll() is None:
            most = max(most, resident_mib(process.pid))
            time.sleep(LOOK_S)
        return {**json.loads(process.stdout.read()), "mib": most - before}


def resident_mib(pid: int) -> float:
    """Of a process and those below it."""
    pages = 0
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):  # it has just ended
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def damage(vpt: Path, hdf5: Path) -> None:
    """One line in the middle, and the end of the video; a place among the names of the demonstrations."""
    lines, video, file = next(vpt.glob("*.jsonl")), next(vpt.glob("*.mp4")), next(hdf5.glob("*.hdf5"))
    with lines.open("r+b") as stream:
        stream.seek(lines.stat().st_size // 2)
        stream.write(b"\x00\x00\x00")
    with video.open("r+b") as stream:
        stream.truncate(video.stat().st_size * 9 // 10)
    with h5py.File(file) as opened:
        place = opened["data/demo_7/actions"].id.get_offset()
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(np.full(7, np.nan).tobytes())


def report(steps: int, peer_steps: int, folder: Path) -> None:
    made = {"VPT": make_vpt(folder / "vpt", steps), "HDF5": make_hdf5(folder / "hdf5", steps)}
    rows = []
    for kind, peer, limit in (("VPT", "imageio, all frames kept", peer_steps), ("HDF5", "h5py, whole file", steps)):
        ours, theirs = run(f"distwm, {kind}", made[kind], steps), run(peer, made[kind], limit)
        ratio = f"{ours['cpu'] / theirs['cpu']:.2f}x"
        rows += [[f"distwm, {kind}", *cells(ours), ""], [peer, *cells(theirs), ratio]]
    table(["side", "steps", "steps/s", "steps/CPU-s", "memory MiB", "distwm is faster by, CPU"], rows)
    sizes = {kind: sum(path.stat().st_size for path in place.iterdir()) >> 20 for kind, place in made.items()}
    sys.stdout.write(f"\nMiB of the files: {sizes}; load {os.getloadavg()[0]:.1f}. After damage to each file:\n\n")
    damage(made["VPT"], made["HDF5"])
    for kind, place in made.items():
        found = run(f"distwm, {kind}", place, steps)
        sys.stdout.write(f"{kind}: {found['steps']} of {steps} steps were read; left out:\n")
        sys.stdout.writelines(f"  {why}\n" for why in found["wrong"])


def cells(found: dict[str, Any]) -> list[object]:
    return [found["steps"], *(f"{found[name]:.0f}" for name in ("rate", "cpu", "mib"))]


@pytest.mark.bench
def test_readers(tmp_path: Path) -> None:
    report(steps=10_000, peer_steps=1_000, folder=tmp_path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--peer-steps", type=int, default=PEER_STEPS, help="frames of 675 KiB that imageio keeps")
    parser.add_argument("--folder", type=Path, help="for some 3 GiB of files; a temporary one if not given")
    parser.add_argument("--side", choices=SIDES, help="one side alone: what the bench calls itself with")
    given = parser.parse_args()
    if given.side:
        sys.stdout.write(json.dumps(side(given.side, given.folder, given.steps)) + "\n")
        return
    folder = Path(tempfile.mkdtemp(prefix="readers-", dir=given.folder))
    try:
        report(given.steps, given.peer_steps, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
