"""HDF5 demonstrations as LIBERO and robomimic write them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from actors.data.libero_hdf5 import LiberoReader
from actors.data.options import ReadOptions
from distwm import ingest
from replay.dataset.episodes import NamedEpisode, Unreadable
from replay.errors import BadInput, Missing

h5py = pytest.importorskip("h5py")

LENGTHS = {0: 6, 1: 9, 10: 4, 2: 5}


def demo(number: int) -> dict[str, np.ndarray]:
    rng, n = np.random.default_rng(number), LENGTHS[number]
    return {
        "actions": rng.uniform(-1, 1, (n, 7)),
        "rewards": np.eye(n, dtype=np.uint8)[-1],
        "dones": np.eye(n, dtype=np.uint8)[-1],
        "obs/agentview_rgb": rng.integers(0, 256, (n, 16, 16, 3), np.uint8),
        "obs/eye_in_hand_rgb": rng.integers(0, 256, (n, 16, 16, 3), np.uint8),
        "obs/ee_states": rng.normal(size=(n, 6)),
        "obs/gripper_states": rng.normal(size=(n, 2)),
        "obs/joint_states": rng.normal(size=(n, 7)),
    }


def write(path: Path, numbers: tuple[int, ...] = (0, 1, 10, 2), *, robomimic: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if not robomimic:
            data.attrs["problem_info"] = json.dumps({"language_instruction": ["pick up ", "the bowl"]})
        for number in numbers:
            for key, values in demo(number).items():
                key = key.replace("eye_in_hand_rgb", "robot0_eye_in_hand_image") if robomimic else key
                key = key.replace("agentview_rgb", "agentview_image") if robomimic else key
                data[f"demo_{number}/{key}"] = values
                if robomimic and key.startswith("obs/"):
                    data[f"demo_{number}/next_{key}"] = np.roll(values, -1, axis=0) // 2
    return path


def open_(path: Path, rename: dict[str, str] | None = None, **options: int) -> LiberoReader:
    return LiberoReader(path, rename or {}, ReadOptions(**options))


def test_alignment_names_and_turned_pictures(tmp_path: Path) -> None:
    reader = open_(write(tmp_path / "KITCHEN_put_it_demo.hdf5"))
    names = [f"KITCHEN_put_it_demo/demo_{n}" for n in (0, 1, 2, 10)]
    found = list(reader.read())
    assert [f.name for f in found] == names
    assert {f.name for f in reader.spec.observations} == {
        *("agentview", "wrist", "proprio", "ee_states", "gripper_states", "joint_states"),
    }
    for number, episode in zip((0, 1, 2, 10), found, strict=True):
        assert isinstance(episode, NamedEpisode), episode
        arrays, wanted, n = episode.arrays, demo(number), LENGTHS[number]
        assert (episode.task, episode.actors[0].source, episode.steps) == ("pick up the bowl", "human", n + 1)
        assert not arrays["action"][0].any()
        assert (arrays["action"][1:] == wanted["actions"].astype(np.float32)).all()
        assert arrays["reward"].tolist() == [0] * n + [1]
        assert arrays["is_terminal"].tolist() == [False] * n + [True]
        assert (arrays["agentview"][:-1] == wanted["obs/agentview_rgb"][:, ::-1, ::-1]).all()
        assert (arrays["agentview"][-1] == arrays["agentview"][-2]).all()
        proprio = np.concatenate([wanted["obs/ee_states"], wanted["obs/gripper_states"]], axis=1)
        assert (arrays["proprio"][:-1] == proprio.astype(np.float32)).all()
    assert reader.origin["preprocess"] == {"agentview": "rotate180", "wrist": "rotate180"}
    assert (reader.named(names[1]).arrays["wrist"] == found[1].arrays["wrist"]).all()  # type: ignore[union-attr]
    assert [f.name for f in reader.read(set(names[:3]))] == names[3:]


def test_robomimic_has_the_last_observation(tmp_path: Path) -> None:
    write(tmp_path / "lift.hdf5", (1,), robomimic=True)
    (episode,) = open_(tmp_path, image_size=8).read()
    assert isinstance(episode, NamedEpisode)
    assert episode.task == "lift"
    assert episode.arrays["agentview"].shape == (10, 8, 8, 3)
    wanted = demo(1)
    assert (episode.arrays["joint_states"][:-1] == wanted["obs/joint_states"].astype(np.float32)).all()
    assert (episode.arrays["joint_states"][-1] == (wanted["obs/joint_states"][0] // 2).astype(np.float32)).all()
    blocks = wanted["obs/agentview_rgb"].reshape(9, 8, 2, 8, 2, 3).mean((2, 4))
    assert np.abs(episode.arrays["agentview"][:-1] - blocks).max() <= 1, "upright already: not turned"


def test_other_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5")
    reader = open_(path, {"agentview_rgb": "image", "eye_in_hand_rgb": "", "ee_states": ""})
    fields = {f.name for f in reader.spec.observations}
    assert fields == {"image", "gripper_states", "joint_states"}
    with pytest.raises(BadInput, match="no 'agentwiev'"):
        open_(path, {"agentwiev": "image"})


@pytest.mark.parametrize("lost", ["obs", "actions"])
def test_a_first_demonstration_without_its_fields_costs_itself_alone(tmp_path: Path, lost: str) -> None:
    path = write(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        del file[f"data/demo_0/{lost}"]
    wrong, *rest = open_(path).read()
    assert isinstance(wrong, Unreadable)
    assert f"{path}, data/demo_0: " in wrong.reason
    assert [f.name for f in rest if isinstance(f, NamedEpisode)] == [f"a/demo_{n}" for n in (1, 2, 10)]
    with h5py.File(path, "r+") as file:
        for number in (1, 2, 10):
            del file[f"data/demo_{number}/{lost}"]
    with pytest.raises(BadInput, match=f"holds no demonstrations: .*{lost}"):
        open_(path)


def test_damage_is_named_and_the_rest_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "in/a.hdf5")
    cut = write(tmp_path / "in/b.hdf5")
    cut.write_bytes(cut.read_bytes()[:-3000])
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/joint_states"]
        file["data/demo_2/actions"][3, 2] = np.nan
        del file["data/demo_10/rewards"]
        file["data/demo_10/rewards"] = np.zeros(2)
    found = list(open_(tmp_path / "in").read())
    said = {f.name: f.reason for f in found if isinstance(f, Unreadable)}
    assert said.keys() == {"b", "a/demo_1", "a/demo_2", "a/demo_10"}
    assert f"{cut} ({cut.stat().st_size} bytes): " in said["b"]
    assert "truncated" in said["b"]
    assert f"{path}, data/demo_1: " in said["a/demo_1"]
    assert "joint_states" in said["a/demo_1"]
    assert f"{path}, data/demo_2: Field 'action' is nan" in said["a/demo_2"]
    assert "data/demo_10: rewards has 2 rows for 4 actions" in said["a/demo_10"]
    words = ["libero", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert ingest.main(words) == 2
    assert "1 episodes, 7 steps" in capsys.readouterr().out
    write(path)
    write(cut)
    assert ingest.main([*words, "--verify"]) == 0
    assert "verified: 8 episodes" in capsys.readouterr().out


def test_a_flipped_byte_is_found_where_the_file_has_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write(path, (0,))
    with h5py.File(path, "r+") as file:
        values = file["data/demo_0/actions"][:]
        del file["data/demo_0/actions"]
        file.create_dataset("data/demo_0/actions", data=values, chunks=(2, 7), fletcher32=True)
    content = bytearray(path.read_bytes())
    place = content.rfind(values[2:4].tobytes())
    content[place + 40] ^= 4
    path.write_bytes(content)
    (found,) = open_(path).read()
    assert isinstance(found, Unreadable)
    assert f"{path}, data/demo_0: /data/demo_0/actions at byte {place}: " in found.reason


def test_wherever_a_file_is_damaged_it_is_named_and_other_files_are_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "in/whole.hdf5").read_bytes()
    path = tmp_path / "in/zdamaged.hdf5"
    lost = 0
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + b"\xff" * 48 + whole[place + 48 :])
        found = list(open_(tmp_path / "in").read())
        wrong = [one for one in found if isinstance(one, Unreadable)]
        assert all(str(path) in one.reason for one in wrong)
        assert {one.name for one in found if one not in wrong} >= {f"whole/demo_{number}" for number in LENGTHS}
        lost += bool(wrong)
    assert lost >= 5, "the rest fell into pictures and numbers without checksums"


def test_what_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="holds no demonstrations"):
        open_(tmp_path)
    (tmp_path / "a.hdf5").write_bytes(b"none")
    with pytest.raises(BadInput, match=r"a\.hdf5 \(4 bytes\)"):
        open_(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(Missing, match="pip install"):
        open_(tmp_path)
