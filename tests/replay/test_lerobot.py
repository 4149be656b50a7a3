"""LeRobot data sets: ours come back bit by bit, those of others by the rules that are written down."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from lerobot_cases import FPS, LENGTHS, SIZE, foreign, frames_of
from replay_cases import SPEC, make_steps

from replay.check import DTYPES
from replay.dataset.episodes import Actor, NamedEpisode, Unreadable
from replay.errors import BadInput
from replay.lerobot.export import LeRobotWriter
from replay.lerobot.reader import LeRobotReader
from replay.lerobot.stats import array_stats, image_stats, merged
from replay.schema import FLAGS, EpisodeKey, EpisodeSpec, FieldSpec

ACTORS = (Actor(0, "random", 0),)


def export(directory: Path, spec: EpisodeSpec, episodes: list[NamedEpisode], **options: int) -> Path:
    with LeRobotWriter(directory, spec, fps=20, task="balance", **options) as writer:
        assert all(writer.write(e) for e in episodes)
        assert not any(writer.write(e) for e in episodes), "there already"
    return directory


def episode(number: int, length: int, **changes: object) -> NamedEpisode:
    values = {"name": f"e{number}", "arrays": make_steps(length, seed=number), "actors": ACTORS}
    return NamedEpisode(**values | {"key": EpisodeKey("s", 1, number)} | changes)


def assert_equal(one: NamedEpisode, other: NamedEpisode | Unreadable) -> None:
    assert isinstance(other, NamedEpisode), other
    assert (one.name, one.key, one.task, one.actors) == (other.name, other.key, other.task, other.actors)
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert (array.dtype, array.shape) == (other.arrays[name].dtype, other.arrays[name].shape), name
        assert np.ascontiguousarray(array).tobytes() == other.arrays[name].tobytes(), name


@st.composite
def specs(draw: st.DrawFn) -> EpisodeSpec:
    fields = [
        FieldSpec(name="cam", shape=draw(st.sampled_from([(4, 3, 3), (2, 5, 1)])), dtype="uint8", role="observation")
    ]
    for number in range(draw(st.integers(0, 4))):
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=4)))
        dtype, role = draw(st.sampled_from(sorted(DTYPES))), draw(st.sampled_from(["observation", "action", "reward"]))
        fields.append(FieldSpec(name=f"f{number}", shape=shape, dtype=dtype, role=role))
    fields.append(FieldSpec(name="action", shape=(draw(st.integers(1, 3)),), dtype="float32", role="action"))
    fields.append(FieldSpec(name="reward", shape=(), dtype="float32", role="reward"))
    return EpisodeSpec(fields=(*fields, *(FieldSpec(name=n, shape=(), dtype="bool", role="flag") for n in FLAGS)))


@st.composite
def episodes(draw: st.DrawFn, spec: EpisodeSpec, number: int) -> NamedEpisode:
    steps, arrays = draw(st.integers(1, 7)), {}
    for field in spec.fields:
        kind = np.dtype(field.dtype)
        finite = {"allow_nan": False, "allow_infinity": False} if kind.kind == "f" else {}
        values = draw(hnp.arrays(kind, (steps, *field.shape), elements=hnp.from_dtype(kind, **finite)))
        if field.role in ("action", "reward"):
            values[0] = -0.0 if kind.kind == "f" and draw(st.booleans()) else 0
        arrays[field.name] = values
    for flag in FLAGS:
        arrays[flag][:] = False
    arrays["is_first"][0] = True
    arrays["is_last"][-1] = draw(st.booleans())
    arrays["is_terminal"][-1] = arrays["is_last"][-1] and draw(st.booleans())
    actors = [Actor(0, draw(st.text(max_size=4)), draw(st.integers(0, 2**40)))]
    if steps > 2:
        actors.append(Actor(2, actors[0].source + "'", 0))
    return NamedEpisode(
        name=f"e{number}",
        arrays=arrays,
        actors=tuple(actors),
        key=EpisodeKey("s", 1, number),
        task=draw(st.text(max_size=4)),
    )


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_exports_come_back_bit_by_bit(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    spec = data.draw(specs())
    given_ = [data.draw(episodes(spec, number)) for number in range(data.draw(st.integers(1, 4)))]
    reader = LeRobotReader(export(tmp_path_factory.mktemp("set") / "x", spec, given_, max_file_rows=8))
    assert reader.spec == spec
    found = list(reader.read())
    assert len(found) == len(given_)
    for one, other in zip(given_, found, strict=True):
        assert_equal(one, other)


def test_a_frame_has_the_action_that_follows(tmp_path: Path) -> None:
    """Their frame t is (o_t, a_t, next.reward); our record t is (o_t, a_{t-1}, r_t)."""
    one = episode(0, 9)
    export(tmp_path, SPEC, [one])
    frames = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")
    action, reward = np.array(frames["action"].to_pylist(), np.float32), frames["next.reward"].to_numpy()
    assert (np.array(frames["observation.state"].to_pylist(), np.float32) == one.arrays["state"]).all()
    assert (action[:-1] == one.arrays["action"][1:]).all()
    assert (reward[:-1] == one.arrays["reward"][1:]).all()
    assert not action[-1].any(), "nothing is done after the last observation"
    assert not reward[-1]
    assert frames["next.done"].to_pylist() == [False] * 7 + [True, True]
    assert frames["frame_index"].to_pylist() == list(range(9))
    assert (frames["timestamp"].to_numpy() == (np.arange(9) / 20).astype(np.float32)).all()


def test_the_files_are_those_of_the_format(tmp_path: Path) -> None:
    lengths = [9, 20, 4, 15, 30]
    export(tmp_path, SPEC, [episode(i, n, task="x" if i == 3 else "") for i, n in enumerate(lengths)], max_file_rows=25)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"]) == ("v3.0", 20, 5)
    assert (info["total_frames"], info["total_tasks"], info["splits"]) == (78, 2, {"train": "0:5"})
    assert info["features"]["observation.images.image"] == {
        "dtype": "image",
        "shape": [4, 4, 3],
        "names": ["height", "width", "channels"],
    }
    assert info["features"]["next.reward"] == {"dtype": "float32", "shape": [1], "names": None}
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert tasks.to_pydict() == {"task_index": [0, 1], "task": ["balance", "x"]}
    rows = [
        row
        for file in sorted((tmp_path / "meta/episodes/chunk-000").iterdir())
        for row in pq.read_table(file).to_pylist()
    ]
    begins = np.cumsum([0, *lengths]).tolist()
    for number, row in enumerate(rows):
        assert (row["episode_index"], row["length"]) == (number, lengths[number])
        assert (row["dataset_from_index"], row["dataset_to_index"]) == (begins[number], begins[number + 1])
        path = info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        frames = pq.read_table(tmp_path / path)
        assert set(frames.column_names) == set(info["features"])
        mine = frames.filter(pa.compute.equal(frames["episode_index"], number))
        assert mine["index"].to_pylist() == list(range(begins[number], begins[number + 1]))
        assert row["stats/observation.state/mean"] == pytest.approx(
            make_steps(lengths[number], number)["state"].mean(0)
        )
    assert [row["data/file_index"] for row in rows] == [0, 0, 1, 1, 1], "a file ends with the episode that fills it"


def test_statistics_are_of_all_frames(tmp_path: Path) -> None:
    lengths = [9, 20, 4]
    export(tmp_path, SPEC, [episode(i, n) for i, n in enumerate(lengths)])
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    arrays = [make_steps(n, i) for i, n in enumerate(lengths)]
    state = np.concatenate([a["state"] for a in arrays]).astype(float)
    images = np.concatenate([a["image"] for a in arrays]) / 255
    for name, of in {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}.items():
        assert stats["observation.state"][name] == pytest.approx(of(state, axis=0))
        assert np.ravel(stats["observation.images.image"][name]) == pytest.approx(of(images, axis=(0, 1, 2)))
    assert stats["action"]["count"] == stats["observation.images.image"]["count"] == [33]
    assert np.shape(stats["observation.images.image"]["q50"]) == (3, 1, 1)


@given(hnp.arrays(np.float32, (7, 2), elements=st.floats(-9, 9, width=32)), st.integers(1, 6))
def test_merged_statistics_are_those_of_both(values: np.ndarray, cut: int) -> None:
    whole, one, other = (array_stats({"x": v, "y": v[:, 0]}) for v in (values, values[:cut], values[cut:]))
    assert whole["y"]["max"].tolist() == [values[:, 0].max()]
    both, whole = merged(one["x"], other["x"]), whole["x"]
    for name in ("min", "max", "mean", "std", "count"):
        assert both[name] == pytest.approx(whole[name], abs=1e-6)


@given(hnp.arrays(np.uint8, (3, 4, 5, 3)))
def test_picture_statistics_are_exact(frames: np.ndarray) -> None:
    stats, levels = image_stats(frames), frames.reshape(-1, 3) / 255
    for name, of in {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}.items():
        assert stats[name].ravel() == pytest.approx(of(levels, axis=0), abs=1e-7)
    assert stats["q50"].ravel() == pytest.approx(np.quantile(levels, 0.5, axis=0, method="inverted_cdf"))


def test_an_export_goes_on(tmp_path: Path) -> None:
    several = [episode(i, 5 + i) for i in range(9)]
    export(tmp_path / "once", SPEC, several, max_file_rows=12)
    export(tmp_path / "twice", SPEC, several[:4], max_file_rows=12)
    (tmp_path / "twice/data/chunk-000/file-002.parquet").write_bytes(b"of a writer that was killed")
    with LeRobotWriter(tmp_path / "twice", SPEC, fps=20, task="balance", max_file_rows=12) as writer:
        assert writer.names == {e.name for e in several[:4]}
        assert [writer.write(e) for e in several] == [False] * 4 + [True] * 5
    one, other = (list(LeRobotReader(tmp_path / name).read()) for name in ("once", "twice"))
    for a, b in zip(one, other, strict=True):
        assert isinstance(a, NamedEpisode)
        assert_equal(a, b)
    infos = [json.loads((tmp_path / name / "meta/stats.json").read_text()) for name in ("once", "twice")]
    assert infos[0]["observation.state"]["mean"] == pytest.approx(infos[1]["observation.state"]["mean"])
    with pytest.raises(BadInput, match="its fps is 20"):
        LeRobotWriter(tmp_path / "twice", SPEC, fps=30, task="balance")


@pytest.mark.parametrize("camera", ["image", "video"])
def test_data_of_others(tmp_path: Path, camera: str, caplog: pytest.LogCaptureFixture) -> None:
    reader = LeRobotReader(foreign(tmp_path / "set", camera=camera))
    assert "observation.note" in caplog.text, "what is left out is said"
    assert reader.spec["image"].shape == (*SIZE, 3), "the only camera is the image"
    assert (reader.origin["fps"], reader.origin["tasks"]) == (FPS, ["lift", "turn"])
    for number, (found, n) in enumerate(zip(reader.read(), LENGTHS, strict=True)):
        assert isinstance(found, NamedEpisode), found
        arrays, t = found.arrays, np.arange(n)
        assert (found.name, found.task) == (f"episode-{number:06d}", ("lift", "turn")[number % 2])
        assert found.steps == n + 1, "one record more, for the last reward"
        assert (arrays["image"][:-1] == frames_of(number, n)).all()
        assert (arrays["image"][-1] == arrays["image"][-2]).all()
        assert (arrays["state"][:-1, 1] == t).all()
        assert not arrays["action"][0].any()
        assert (arrays["action"][1:] == np.stack([np.full(n, number), t], axis=1)).all()
        assert arrays["reward"].tolist() == [0] * n + [1]
        assert arrays["is_first"].tolist() == [True] + [False] * n
        assert arrays["is_last"].tolist() == arrays["is_terminal"].tolist() == [False] * n + [True]
    skipped = [e.name for e in reader.read(skip={"episode-000000", "episode-000002"})]
    assert skipped == ["episode-000001", "episode-000003"]
    again = reader.named("episode-000001")
    assert (again.arrays["image"][:-1] == frames_of(1, LENGTHS[1])).all(), "from the middle of a video too"


def test_rewards_that_are_missing_are_zeros(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        reader = LeRobotReader(
            foreign(tmp_path / "set", rewards=False), {"observation.images.top": "", "observation.state": "pose"}
        )
    assert "all rewards are zeros" in caplog.text
    assert [f.name for f in reader.spec.fields] == ["pose", "action", "reward", *FLAGS]
    for found, n in zip(reader.read(), LENGTHS, strict=True):
        assert isinstance(found, NamedEpisode)
        assert found.steps == n, "no outcome of the last action is known"
        assert found.arrays["action"][1:, 1].tolist() == list(range(n - 1))
        assert not found.arrays["reward"].any()


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        ({"observation.imagen": "x"}, "no column 'observation.imagen'"),
        ({"observation.state": "image"}, "field 'image'"),
    ],
)
def test_names_must_make_sense(tmp_path: Path, rename: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        LeRobotReader(foreign(tmp_path / "set"), rename)


def test_a_damaged_picture_costs_its_episode(tmp_path: Path) -> None:
    path = foreign(tmp_path / "set") / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pictures = table["observation.images.top"].to_pylist()
    pictures[15]["bytes"] = pictures[15]["bytes"][:60]
    column = pa.array(pictures, table.schema.field("observation.images.top").type)
    pq.write_table(
        table.set_column(table.column_names.index("observation.images.top"), "observation.images.top", column), path
    )
    found = list(LeRobotReader(tmp_path / "set").read())
    assert [isinstance(f, Unreadable) for f in found] == [False, True, False, False]
    assert found[1].reason.startswith(f"{path}, row 15: column 'observation.images.top': no picture")


def test_a_damaged_file_costs_its_episodes(tmp_path: Path) -> None:
    path = foreign(tmp_path / "set") / "data/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    found = list(LeRobotReader(tmp_path / "set").read())
    assert [isinstance(f, Unreadable) for f in found] == [True, True, False, False]
    assert all(str(path) in f.reason for f in found[:2])


def test_a_video_that_is_cut_short_costs_the_episodes_behind(tmp_path: Path) -> None:
    path = foreign(tmp_path / "set", camera="video") / "videos/observation.images.top/chunk-000/file-001.mp4"
    path.unlink()
    found = list(LeRobotReader(tmp_path / "set").read())
    assert [isinstance(f, Unreadable) for f in found] == [False, False, True, True]
    assert f"{path} is missing" in found[2].reason
    path.write_bytes(b"no video at all")
    found = list(LeRobotReader(tmp_path / "set").read())
    assert [isinstance(f, Unreadable) for f in found] == [False, False, True, True]
    assert str(path) in found[2].reason


def test_frames_of_another_episode_are_refused(tmp_path: Path) -> None:
    path = foreign(tmp_path / "set") / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1]["dataset_from_index"] -= 1
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = list(LeRobotReader(tmp_path / "set").read())
    assert [isinstance(f, Unreadable) for f in found] == [False, True, False, False]
    assert "row 11: column 'episode_index': it is 0, not 1" in found[1].reason


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_a_flipped_bit_in_our_frames_never_passes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = export(tmp_path_factory.mktemp("set") / "x", SPEC, [episode(i, 9) for i in range(3)])
    path = directory / "data/chunk-000/file-000.parquet"
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    for number, found in enumerate(LeRobotReader(directory).read()):
        if isinstance(found, Unreadable):
            assert str(path) in found.reason
        else:
            assert_equal(episode(number, 9), found)


def test_columns_of_another_width_are_cast(tmp_path: Path) -> None:
    """As LeRobot does: info.json says what a column is."""
    path = foreign(tmp_path / "set") / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    for name, kind in (("action", pa.list_(pa.float64())), ("next.done", pa.list_(pa.bool_(), 1))):
        values = table[name].to_pylist()
        column = pa.array(values if name == "action" else [[v] for v in values], kind)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, path)
    found = next(iter(LeRobotReader(tmp_path / "set").read()))
    assert isinstance(found, NamedEpisode), found
    assert found.arrays["action"].dtype == np.float32
    assert found.arrays["action"][1:, 1].tolist() == list(range(LENGTHS[0]))
    assert found.arrays["is_terminal"][-1]


def test_a_damaged_table_of_episodes_is_named(tmp_path: Path) -> None:
    directory = export(tmp_path, SPEC, [episode(i, 9) for i in range(6)], max_file_rows=20)
    path = directory / "meta/episodes/chunk-000/file-001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    found = list(LeRobotReader(directory).read())
    assert isinstance(found[0], Unreadable)
    assert str(path) in found[0].reason
    assert [f.name for f in found[1:]] == ["e0", "e1", "e2"], "the rest is read"


def test_nothing_outside_is_read(tmp_path: Path) -> None:
    foreign(tmp_path / "other")
    info = foreign(tmp_path / "set") / "meta/info.json"
    tree = json.loads(info.read_text())
    tree["data_path"] = "../other/" + tree["data_path"]
    info.write_text(json.dumps(tree))
    found = list(LeRobotReader(tmp_path / "set").read())
    assert all("lies outside the data set" in f.reason for f in found if isinstance(f, Unreadable))
    assert len(found) == 4
    assert all(isinstance(f, Unreadable) for f in found)


def test_other_versions_are_refused(tmp_path: Path) -> None:
    info = foreign(tmp_path / "set") / "meta/info.json"
    info.write_text(info.read_text().replace("v3.0", "v2.1"))
    with pytest.raises(BadInput, match=r"is of version v2\.1"):
        LeRobotReader(tmp_path / "set")
    with pytest.raises(BadInput, match=r"no meta/info\.json"):
        LeRobotReader(tmp_path)
