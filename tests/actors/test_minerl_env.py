"""MineRL in its own interpreter, with herobraine's own spaces; tasks, goals and what is missing without it. Where the
interpreter is absent, this says so and skips; test_minerl_game.py plays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import minerl_stand_in as stand_in
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.data.camera import joint, to_degrees
from actors.data.minerl_fields import WORDS, layout, parts_of, vector
from actors.data.vpt_actions import BUTTONS
from actors.envs.flat_action import ActionCodec
from actors.envs.minerl import TASKS, turns
from actors.envs.registry import EnvConfig, make, tasks
from actors.hosting import spaces
from actors.hosting.guests import minerl_game
from actors.hosting.guests.minerl_progress import MILESTONES, Progress, watched
from actors.hosting.interpreters import interpreter
from replay.errors import BadInput, Missing

ROOT = Path(__file__).parents[2]
PEER = Path(__file__).with_name("minerl_peer.py")
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return interpreter("minerl")
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def ask(python: Path) -> Iterator[Ask]:
    """Questions to minerl_peer.py."""
    words = [str(python), str(PEER), str(ROOT)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        talk, hear = peer.stdin, peer.stdout

        def question(*parts: Any) -> Any:
            talk.write(json.dumps(parts, default=lambda value: value.tolist()) + "\n")
            talk.flush()
            return json.loads(hear.readline())

        yield question
        talk.close()


def test_tasks_and_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tasks("minerl") == sorted(f"minerl/{name}" for name in TASKS)
    with pytest.raises(BadInput, match="Did you mean 'Treechop'"):
        make(EnvConfig(task="minerl/TreeChop"), 0)
    with pytest.raises(BadInput, match=r"variant of 'Treechop' 'vtp'\.") as caught:
        make(EnvConfig(task="minerl/Treechop@vtp"), 0)
    assert "'vpt'" in caught.value.mend
    with pytest.raises(BadInput, match="no multiple of image_size"):
        make(EnvConfig(task="minerl/Treechop", image_size=64, render_size=96), 0)
    monkeypatch.setenv("DISTWM_ENVS", str(tmp_path))
    with pytest.raises(Missing, match="minerl is not installed") as missing:
        make(EnvConfig(task="minerl/Treechop"), 0)
    assert missing.value.mend == "Run: python -m distwm.envs install minerl"


def test_what_the_game_lacks_is_named_one_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("DISPLAY", raising=False)
    found = dict(minerl_game.lacking(tmp_path))
    assert next(iter(found)).partition(";")[0] == "MineRL's game needs Java 8"
    assert any(f"cd {tmp_path} && ./gradlew" in mend for mend in found.values())
    assert any(mend.startswith("Run: apt-get install") and "xvfb" in mend for mend in found.values())
    stand_in.write_java(tmp_path / "bin", "17.0.15")
    assert "java here is 17" in next(iter(minerl_game.lacking(tmp_path)))[0]
    stand_in.write_java(tmp_path / "bin", "1.8.0_402")
    stand_in.write_game(tmp_path / "game")
    monkeypatch.setenv("DISPLAY", ":0")
    assert list(minerl_game.lacking(tmp_path / "game")) == []
    assert stand_in.JAR == minerl_game.JAR


def test_what_killed_environments_left_is_removed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = minerl_game.Scratch()
    (tmp_path / "distwm-minerl-dead").mkdir()
    (tmp_path / "distwm-minerl-dead" / "lock").touch()
    (tmp_path / "another").mkdir()
    second = minerl_game.Scratch()
    assert {p.name for p in tmp_path.iterdir()} == {first.path.name, second.path.name, "another"}
    first.remove()
    second.remove()
    assert [p.name for p in tmp_path.iterdir()] == ["another"]


def test_milestones_are_kept_once_held() -> None:
    progress = Progress("ObtainDiamond")
    held: dict[str, int] = {}
    for number, item in enumerate(MILESTONES[:-1]):
        held = {item: 2, "dirt": 9}  # what it was made of is used up
        progress.see(held, 1.0, False)
        assert [name for name, there in progress.milestones.items() if there] == list(MILESTONES[: number + 1])
        assert not progress.success
    progress.see({}, 1024.0, True)  # the last step of the game tells no inventory
    assert progress.success
    assert all(progress.milestones.values())


@pytest.mark.parametrize(
    ("task", "steps", "solved_at"),
    [
        ("Treechop", [({}, 1.0, False)] * 64, 63),
        ("Treechop", [({"log": 63}, 1.0, False), ({"log": 64}, 0.0, True)], 1),
        ("Treechop", [({"log": 63}, 1.0, False), ({}, 0.0, True)], None),  # died
        ("Navigate", [({}, 0.0, False), ({}, 100.0, True)], 1),
        ("NavigateDense", [({}, 0.3, False), ({}, 99.7, True)], 1),
        ("NavigateExtremeDense", [({}, 0.3, False)] * 300, None),
        ("ObtainDiamond", [({}, 256.0, False), ({"diamond": 1}, 0.0, False)], 1),
        ("ObtainDiamondDense", [({"iron_ingot": 9}, 256.0, False), ({}, 256.0, True)], None),
        ("ObtainIronPickaxe", [({}, 128.0, False), ({}, 256.0, True)], 1),
        ("ObtainIronPickaxeDense", [({}, 256.0, False), ({}, -1.0, True)], None),  # two ingots at once, and death
    ],
)
def test_success(task: str, steps: list, solved_at: int | None) -> None:
    progress, found = Progress(task), []
    for step in steps:
        progress.see(*step)
        found.append(progress.success)
    assert found == [solved_at is not None and number >= solved_at for number in range(len(steps))]


@given(st.lists(st.tuples(st.dictionaries(st.sampled_from(MILESTONES), st.integers(0, 70)), st.floats(-9, 2000))))
def test_progress_never_goes_back(steps: list) -> None:
    for task in TASKS:
        progress, before = Progress(task), 0
        for inventory, reward in steps:
            solved = progress.success
            progress.see(inventory, reward, False)
            assert progress.success >= solved
            assert sum(progress.milestones.values()) >= before
            before = sum(progress.milestones.values())
        assert list(progress.milestones) == list(watched(task))


def test_the_camera_of_vpt_in_degrees() -> None:
    table = turns()
    assert table.shape == (121, 2)
    for pitch, yaw in ((5, 5), (0, 10), (7, 2)):
        assert table[joint(pitch, yaw)].tolist() == [to_degrees(np.array(pitch)), to_degrees(np.array(yaw))]


# Against herobraine itself


def test_every_task_of_the_package_is_listed_with_its_limit(ask: Ask) -> None:
    assert sorted(ask("listed")) == sorted([f"MineRL{name}-v0", limit] for name, (limit, _) in TASKS.items())


@pytest.mark.parametrize("task", TASKS)
def test_every_action_space_maps(ask: Ask, task: str) -> None:
    found = ask("space", task)
    space = spaces.build(found["ours"])
    assert isinstance(space, gymnasium.spaces.Dict)
    assert list(space) == found["names"] == sorted(found["names"])
    for name, words in found["words"].items():
        assert space[name] == gymnasium.spaces.Discrete(len(words))
        if name != "place":  # of which Navigate has words of its own
            assert tuple(words) == WORDS[f"action${name}"]
    codec = ActionCodec(space)
    rest = ask("ours", task, ask("no_op", task))
    assert ask("hero", task, native(codec.decode(codec.encode(typed(space, rest))))) == {
        "action": ask("no_op", task),
        "theirs": True,
    }


@pytest.mark.parametrize("keys", [(), BUTTONS])
def test_missions_are_what_the_game_can_read(ask: Ask, keys: tuple[str, ...]) -> None:
    for task in TASKS:
        assert ask("mission", task, keys) == [None, None]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 2**31 - 1))
def test_actions_flatten_and_come_back(ask: Ask, task: str, seed: int) -> None:
    """Those that herobraine drew, and ours."""
    space = spaces.build(ask("space", task)["ours"])
    codec = ActionCodec(space)
    theirs = ask("sample", task, seed)
    ours = typed(space, ask("ours", task, theirs))
    assert ours in space
    assert_same(codec.decode(codec.encode(ours)), ours)
    back = ask("hero", task, native(codec.decode(codec.encode(ours))))
    assert back["theirs"]
    assert_same(back["action"], theirs)
    space.seed(seed)
    drawn = space.sample()
    assert_same(typed(space, ask("ours", task, ask("hero", task, native(drawn))["action"])), drawn)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(TASKS)), st.integers(0, 2**31 - 1))
def test_states_are_as_recorded_data_has_them(ask: Ask, task: str, seed: int) -> None:
    found = ask("observe", task, seed)
    arrays = {f"observation${name}": np.array([value]) for name, value in found["leaves"].items()}
    parts = parts_of(f"MineRL{task}-v0", arrays, "observation")
    assert [part[:2] for part in layout(parts)] == found["fields"]
    state = np.asarray(found["state"], np.float32)
    np.testing.assert_array_equal(state, vector(parts, arrays, 1)[0])
    assert (np.asarray(found["low"]) <= state).all()
    assert (state <= np.asarray(found["high"])).all()
    assert bool(found["fields"]) == (task != "Treechop")


def typed(space: gymnasium.Space, action: dict) -> dict:
    """From JSON."""
    assert isinstance(space, gymnasium.spaces.Dict)
    return {name: np.asarray(value, space[name].dtype) for name, value in action.items()}


def native(action: dict) -> dict:
    return {name: np.asarray(value).tolist() for name, value in action.items()}


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name == "camera":
            np.testing.assert_allclose(value, other[name], atol=1e-4)  # degrees
        else:
            assert value == other[name]
