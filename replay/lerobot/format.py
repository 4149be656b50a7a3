"""The files of a LeRobot data set, version 3.0, and how the fields of our records are laid out as its columns.

    meta/info.json                              features, fps, totals; our own notes under "distwm"
    meta/stats.json, meta/tasks.parquet         statistics of all frames; the tasks in words
    meta/episodes/chunk-000/file-000.parquet    a row an episode: where its frames are, its own statistics
    data/chunk-000/file-000.parquet             a row a frame
    videos/<camera>/chunk-000/file-000.mp4      frames of several episodes (we read them and write none)

Their frame t is (o_t, a_t, next.reward), our record t is (o_t, a_{t-1}, r_t). So actions and rewards move up by one,
and the last frame, after which nothing happens, has those of our first record, which are zeros. Nothing is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from replay.errors import BadInput
from replay.schema import EpisodeSpec, FieldSpec

CODEBASE = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_IN_CHUNK = 1000

SOURCE, POLICY_VERSION = "distwm.source", "distwm.policy_version"  # columns: who acted in front of the frame
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_INDICES = {"timestamp": "float32", **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the data files. `shape` is that of a frame, () for a plain number."""

    name: str
    dtype: str  # of numpy; "string" for texts
    shape: tuple[int, ...] = ()
    kind: Literal["image", "array"] = "array"

    @property
    def type(self) -> pa.DataType:
        """What a frame holds."""
        if self.kind == "image":
            return IMAGE_TYPE
        kind = pa.string() if self.dtype == "string" else pa.from_numpy_dtype(self.dtype)
        if len(self.shape) == 1:
            return pa.list_(kind, self.shape[0])
        for _ in self.shape:
            kind = pa.list_(kind)
        return kind

    @property
    def feature(self) -> dict[str, Any]:
        """Its entry in info.json."""
        if self.kind == "image":
            return {"dtype": "image", "shape": [*self.shape], "names": ["height", "width", "channels"]}
        return {"dtype": self.dtype, "shape": [*self.shape] or [1], "names": None}

    @property
    def hub_feature(self) -> dict[str, Any]:
        """What the parquet file itself says, so that viewers know an image when they see one."""
        if self.kind == "image":
            return {"_type": "Image"}
        value = {"dtype": self.dtype, "_type": "Value"}
        if not self.shape:
            return value
        if len(self.shape) == 1:
            return {"feature": value, "length": self.shape[0], "_type": "Sequence"}
        return {"shape": [*self.shape], "dtype": self.dtype, "_type": f"Array{len(self.shape)}D"}


def column_of(field: FieldSpec) -> Column:
    """Where a field of ours goes. Raises BadInput for a shape that the format does not know."""
    shape = () if field.shape == (1,) else field.shape
    if 0 in shape or len(shape) > 5:
        raise BadInput(f"Field {field.name!r} has the shape {field.shape}.", "Leave it out: LeRobot cannot hold it.")
    if is_image(field):
        return Column(name=f"observation.images.{field.name}", dtype="uint8", shape=field.shape, kind="image")
    prefix = {"observation": "observation.", "action": "action.", "reward": "next."}.get(field.role, "distwm.")
    name = "action" if field.name == "action" else prefix + field.name
    return Column(name=name.replace("/", "."), dtype=field.dtype, shape=shape)


def is_image(field: FieldSpec) -> bool:
    """Grey or RGB pictures are kept as PNG."""
    return field.role == "observation" and field.dtype == "uint8" and len(field.shape) == 3 and field.shape[2] in (1, 3)


def columns_of(spec: EpisodeSpec) -> dict[str, Column]:
    """The column of each field, by the field's name. Raises BadInput if two would be the same."""
    columns = {field.name: column_of(field) for field in spec.fields}
    names = [c.name for c in (*columns.values(), *extra_columns())]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise BadInput(f"Two fields would be the column {twice[0]!r}.", "Give one of them another name.")
    return columns


def extra_columns() -> tuple[Column, ...]:
    """Columns that are no field of ours: the format's own, and who acted."""
    return (
        Column(name="next.done", dtype="bool"),
        Column(name=SOURCE, dtype="string"),
        Column(name=POLICY_VERSION, dtype="int64"),
        *(Column(name=name, dtype=dtype) for name, dtype in _INDICES.items()),
    )


def is_shifted(field: FieldSpec) -> bool:
    """Whether the field tells of the step that led to the record, which LeRobot keeps one frame earlier."""
    return field.role in ("action", "reward")


def place(number: int) -> dict[str, int]:
    """Chunk and file of the n-th file."""
    chunk, file = divmod(number, FILES_IN_CHUNK)
    return {"chunk_index": chunk, "file_index": file}


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Of the data files."""
    return pa.schema([(c.name, c.type) for c in columns])
