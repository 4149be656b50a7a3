"""MineRL v0: `<env id>/<stream>/{rendered.npz, recording.mp4, metadata.json}` (Guss et al. 2019, arXiv 1907.13440)."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np

from actors.data.frames import BadVideo, frames
from actors.data.minerl_fields import BadKey, Part, layout, parts_of, vector
from actors.data.options import ReadOptions, no_other_names
from actors.data.segments import Damage, Labels, SegmentReader, Step
from replay.dataset.episodes import Unreadable
from replay.errors import BadInput
from replay.schema import EpisodeSpec

VERSIONS = (3, 4)
SIZE, SEGMENT_STEPS = 64, 8192
_ERRORS = (OSError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class MineRLStream:
    """One recording. Implements `Recording`. Opened, it reads the rewards alone.

    As minerl.data has it: the video's surplus frames lead, and the last state shows the frame before once more.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """Raises Unusable."""
        self.name, self._folder, self._size = f"{folder.parent.name}/{folder.name}", folder, size
        self._numbers = folder / "rendered.npz"
        self.states = len(_arrays(self._numbers, ("reward",))["reward"]) + 1
        try:
            notes = json.loads((folder / "metadata.json").read_bytes())
            self._surplus = int(notes["true_video_frame_count"]) - self.states
            self.success = bool(notes.get("success"))
        except _ERRORS as error:
            raise Unusable(f"{folder / 'metadata.json'}: {_brief(error)}") from error
        if self._surplus < 0 or self.states < 2:
            raise Unusable(f"{folder / 'metadata.json'}: there are {-self._surplus} frames less than states")

    def parts(self) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """Of the action and of the state. Raises Unusable."""
        arrays = _arrays(self._numbers)
        env = self._folder.parent.name
        return parts_of(env, arrays, "action"), parts_of(env, arrays, "observation")

    def steps(self) -> Iterator[Step | Damage]:
        try:
            actions, states, rewards, own = self._labels()
        except (Unusable, BadKey) as error:
            yield Damage(0, str(error) if isinstance(error, Unusable) else f"{self._numbers}, {error}")
            return
        index, frame, video = -1, None, frames(self._folder / "recording.mp4", self._size)
        try:
            for index, frame in enumerate(islice(video, self._surplus, self._surplus + self.states - 1)):
                yield Step(index, _seen(frame, states[index], own), actions[index], float(rewards[index]))
            if index + 2 < self.states or frame is None:
                raise BadVideo(f"{self._folder / 'recording.mp4'} ends at frame {self._surplus + index + 1}")
            yield Step(index + 1, _seen(frame, states[index + 1], own), actions[-1])
        except BadVideo as error:
            yield Damage(index + 1, f"{error}; what comes behind is left out")
        finally:
            video.close()  # type: ignore[attr-defined]

    def _labels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Actions (T, A), states (T + 1, S), rewards (T,), and whether there are states."""
        arrays = _arrays(self._numbers)
        action, state = self.parts()
        actions, states = vector(action, arrays, self.states - 1), vector(state, arrays, self.states)
        return actions, states, arrays["reward"].astype(np.float32), bool(state)


class Unusable(Exception):
    """A recording that cannot even be opened; names the file and the place in it."""


def open_minerl(path: Path, rename: Mapping[str, str], options: ReadOptions) -> SegmentReader:
    """The data's folder, or that of one environment. Raises BadInput if there is none, or several that differ."""
    no_other_names(rename)
    path = Path(path).resolve()
    _check_version(path)
    found = sorted({p.parent for name in ("rendered.npz", "recording.mp4") for p in _below(path, name)})
    if not found:
        raise BadInput(f"{path} holds no MineRL recordings.", "Give the folder with <env id>/<stream>/rendered.npz.")
    streams, wrong = [], []
    spaces: dict[str, tuple[tuple[Part, ...], tuple[Part, ...]]] = {}
    for folder in found:
        try:
            stream = MineRLStream(folder, options.image_size or SIZE)
            if folder.parent.name not in spaces:
                spaces[folder.parent.name] = stream.parts()
            streams.append((stream, Labels(source="human", task=folder.parent.name, terminal=stream.success)))
        except Unusable as error:
            wrong.append(Unreadable(name=f"{folder.parent.name}/{folder.name}", reason=str(error)))
    if not spaces:
        raise BadInput(f"No recording in {path} can be read, the first: {wrong[0].reason}.", "Restore the files.")
    if len(set(spaces.values())) > 1:
        raise BadInput(f"The environments in {path} have different spaces.", f"Give one of them: {path}/{min(spaces)}.")
    action, state = next(iter(spaces.values()))
    origin = {
        "format": "minerl",
        "path": str(path),
        "fps": 20.0,
        "environments": sorted(spaces),
        "source": "human: players of the MineRL server",
        "action": layout(action),
        "state": layout(state),
    }
    spec = _spec(action, state, options.image_size or SIZE)
    return SegmentReader(spec, origin, streams, options.segment_steps or SEGMENT_STEPS, wrong)


def _spec(action: tuple[Part, ...], state: tuple[Part, ...], size: int) -> EpisodeSpec:
    fields: dict[str, tuple[tuple[int, ...], str]] = {"image": ((size, size, 3), "uint8")}
    if state:
        fields["state"] = ((sum(p.width for p in state),), "float32")
    return EpisodeSpec.build(fields, sum(p.width for p in action))


def _seen(frame: np.ndarray, state: np.ndarray, own: bool) -> dict[str, np.ndarray]:
    return {"image": frame, "state": state} if own else {"image": frame}


def _below(path: Path, name: str) -> Iterator[Path]:
    for pattern in (f"*/{name}", f"*/*/{name}"):
        yield from path.glob(pattern)


def _check_version(path: Path) -> None:
    for file in (path / "VERSION", path.parent / "VERSION"):
        if file.is_file():
            said = file.read_text(errors="replace").strip()
            if said not in map(str, VERSIONS):
                raise BadInput(f"{file} says version {said[:20]!r}.", "Give MineRL data of version 3 or 4.")
            return


def _arrays(path: Path, names: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Arrays of an npz file, all of them if none is named. Objects are refused. Raises Unusable."""
    name = ""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {}
            for name in names or file.files:
                found[name] = file[name]
            return found
    except FileNotFoundError as error:
        raise Unusable(f"{path} is missing") from error
    except _ERRORS as error:
        size = path.stat().st_size if path.is_file() else 0
        place = f"array {name!r}" if name else f"byte {size}, its end"
        raise Unusable(f"{path}, {place}: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
