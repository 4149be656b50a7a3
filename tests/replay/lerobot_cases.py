"""LeRobot data sets as others write them, small."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FPS, SIZE = 10, (32, 48)
LENGTHS = (12, 30, 7, 25)


def frames_of(episode: int, length: int) -> np.ndarray:
    """(T, H, W, 3): a bar that grows by a column each frame, in the colour of the episode."""
    frames = np.zeros((length, *SIZE, 3), np.uint8)
    for t, frame in enumerate(frames):
        frame[:, : t + 1] = (60 * episode, 200, 100)
    return frames


def foreign(
    directory: Path, *, camera: str = "image", rewards: bool = True, lengths: Sequence[int] = LENGTHS, files: int = 2
) -> Path:
    """Episode e has state (e, t, 0), action (e, t), reward 1 at its end. All frames of a file are one row group."""
    values = {"dtype": "float32", "names": None}
    features = {
        "observation.images.top": {"dtype": camera, "shape": [*SIZE, 3], "names": ["height", "width", "channels"]},
        "observation.state": values | {"shape": [3]},
        "observation.note": {"dtype": "string", "shape": [1], "names": None},
        "action": values | {"shape": [2]},
        **({"next.reward": values | {"shape": [1]}} if rewards else {}),
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "timestamp": values | {"shape": [1]},
        **{n: {"dtype": "int64", "shape": [1], "names": None} for n in ("frame_index", "episode_index", "index")},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (directory / "meta/episodes/chunk-000").mkdir(parents=True)
    info = {"codebase_version": "v3.0", "fps": FPS, "robot_type": "arm", "features": features, **paths}
    (directory / "meta/info.json").write_text(json.dumps(info))
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["lift", "turn"]})
    pq.write_table(tasks, directory / "meta/tasks.parquet")
    rows, begin = [], 0
    for file in range(files):
        numbers = [e for e in range(len(lengths)) if e * files // len(lengths) == file]
        rows += _write_file(directory, file, numbers, lengths, begin, camera, rewards)
        begin += sum(lengths[e] for e in numbers)
    pq.write_table(pa.Table.from_pylist(rows), directory / "meta/episodes/chunk-000/file-000.parquet")
    return directory


def _write_file(
    directory: Path, file: int, numbers: list[int], lengths: Sequence[int], begin: int, camera: str, rewards: bool
) -> list[dict]:
    rows, columns, shown = [], [], []
    for e in numbers:
        n, at = lengths[e], begin + len(columns)
        pictures = frames_of(e, n)
        shown.append(pictures)
        video = {"chunk_index": 0, "file_index": file, "from_timestamp": len(columns) / FPS}
        rows.append(
            {"episode_index": e, "tasks": [("lift", "turn")[e % 2]], "length": n, "data/chunk_index": 0}
            | {"data/file_index": file, "dataset_from_index": at, "dataset_to_index": at + n}
            | ({f"videos/observation.images.top/{k}": v for k, v in video.items()} if camera == "video" else {})
        )
        for t in range(n):
            row = {"observation.state": [e, t, 0], "observation.note": "x", "action": [e, t], "next.done": t == n - 1}
            row |= {"timestamp": t / FPS, "frame_index": t, "episode_index": e, "index": at + t, "task_index": e % 2}
            row |= {"next.reward": float(t == n - 1)} if rewards else {}
            row |= {"observation.images.top": {"bytes": png(pictures[t]), "path": None}} if camera == "image" else {}
            columns.append(row)
    table = pa.Table.from_pylist(columns)
    for name in ("observation.state", "action"):
        lists = table[name].cast(pa.list_(pa.float32()))
        table = table.set_column(table.column_names.index(name), name, lists)
    if rewards:
        reward = table["next.reward"].cast(pa.float32())
        table = table.set_column(table.column_names.index("next.reward"), "next.reward", reward)
    path = directory / f"data/chunk-000/file-{file:03d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    if camera == "video":
        _write_video(directory / f"videos/observation.images.top/chunk-000/file-{file:03d}.mp4", np.concatenate(shown))
    return rows


def png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def _write_video(path: Path, frames: np.ndarray) -> None:
    """Lossless, in colours and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = ["-crf", "0", "-preset", "ultrafast", "-pix_fmt", "gbrp"]
    writer = imageio_ffmpeg.write_frames(
        str(path), SIZE[::-1], fps=FPS, codec="libx264rgb", pix_fmt_out="rgb24", output_params=lossless[:4]
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
