"""Recordings as the tools of others write them, small and generated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

PLAYED = ("attack", "back", "forward", "jump", "left", "right", "sneak", "sprint")


def picture(t: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """(H, W, 3): frame t of every video here; no two of the first 64 * 60 are alike."""
    frame = np.full((*size, 3), (t // 64 * 4 % 256, 120, 40), np.uint8)
    frame[:, : size[1] * (t % 64 + 1) // 64] = (200, t // 64 * 4 % 256, 90)
    return frame


def write_video(path: Path, pictures: Iterable[np.ndarray], *, fps: float = 20, lossy: bool = False) -> Path:
    """Lossless in RGB; `lossy` as the recorders do it. The index comes first, so a cut file shows its beginning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = iter(pictures)
    first = next(pictures)
    kind = {"codec": "libx264"} if lossy else {"codec": "libx264rgb", "output_params": ["-crf", "0"]}
    options = [*kind.pop("output_params", []), "-preset", "ultrafast", "-movflags", "+faststart", "-threads", "1"]
    height, width = first.shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, pix_fmt_in="rgb24", output_params=options, macro_block_size=2,
        **({"pix_fmt_out": "rgb24"} if not lossy else {}), **kind,
    )  # fmt: skip
    writer.send(None)
    for frame in [first]:
        writer.send(np.ascontiguousarray(frame))
    for frame in pictures:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return path


def tick(**changes: Any) -> dict[str, Any]:
    """A line of VPT's contractors: nothing pressed. `mouse` and `keys` are taken into it."""
    mouse = {"x": 640.0, "y": 360.0, "dx": 0.0, "dy": 0.0, "scaledX": 0.0, "scaledY": 0.0, "dwheel": 0.0}
    mouse |= {"buttons": [], "newButtons": []} | changes.pop("mouse", {})
    keys = changes.pop("keys", [])
    line = {"mouse": mouse, "keyboard": {"keys": keys, "newKeys": [], "chars": ""}, "isGuiOpen": False, "hotbar": 0}
    return line | {"yaw": 0.0, "pitch": 0.0, "inventory": []} | changes


def write_lines(path: Path, ticks: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.writelines(json.dumps({"tick": number, **one}) + "\n" for number, one in enumerate(ticks))
    return path


def minerl_arrays(steps: int, *, seed: int = 0, env: str = "MineRLTreechop-v0") -> dict[str, np.ndarray]:
    """What rendered.npz of `steps` decisions holds."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {f"action${n}": rng.integers(0, 2, steps) for n in PLAYED}
    arrays["action$camera"] = rng.uniform(-180, 180, (steps, 2)).astype(np.float32)
    arrays["reward"] = rng.integers(0, 2, steps).astype(np.float32)
    if "Navigate" in env:
        arrays["action$place"] = rng.choice(["dirt", "none"], steps)
        arrays["observation$compass$angle"] = rng.uniform(-180, 180, steps + 1).astype(np.float32)
        arrays["observation$inventory$dirt"] = rng.integers(0, 64, steps + 1)
    return arrays


def write_minerl(
    root: Path,
    stream: str,
    steps: int,
    *,
    env: str = "MineRLTreechop-v0",
    surplus: int = 3,
    success: bool = True,
    lossy: bool = False,
) -> Path:
    """The stream's folder. Frame t of the episode is `picture(t)`; those in front of it are white."""
    folder = root / env / stream
    folder.mkdir(parents=True)
    np.savez(folder / "rendered.npz", **minerl_arrays(steps, seed=steps, env=env))
    white = [np.full((64, 64, 3), 255, np.uint8)] * surplus
    write_video(folder / "recording.mp4", [*white, *(picture(t) for t in range(steps + 1))], lossy=lossy)
    notes = {"success": success, "true_video_frame_count": steps + 1 + surplus, "stream_name": stream}
    (folder / "metadata.json").write_text(json.dumps(notes))
    return folder
