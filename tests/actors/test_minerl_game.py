"""MineRL's environments around a stand-in for the game, which speaks Malmo's protocol to the package itself: started,
played, ended. Where MineRL's interpreter is absent, this says so and skips."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import minerl_stand_in as stand_in
import numpy as np
import pytest

from actors.data.camera import joint, to_degrees
from actors.data.minerl_fields import WORDS
from actors.data.vpt_actions import BUTTONS, SPACE
from actors.envs.flat_action import ActionCodec, native_action_space
from actors.envs.registry import EnvConfig, info_of, make
from actors.hosting.config import HostConfig
from actors.hosting.errors import HostedEnvError
from actors.hosting.guests import minerl_game
from actors.hosting.guests.minerl_progress import MILESTONES
from actors.hosting.interpreters import interpreter
from distwm.envs import main
from replay.errors import Missing

ROOT = Path(__file__).parents[2]
Host = Callable[..., gymnasium.Env]


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return interpreter("minerl")
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def host(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Makes an environment around a stand-in that plays `steps`; Java and a display seem to be there."""
    bin_folder, scratch = tmp_path / "bin", tmp_path / "scratch"
    scratch.mkdir()
    stand_in.write_java(bin_folder, "1.8.0_402")
    monkeypatch.setenv("PATH", str(bin_folder), prepend=os.pathsep)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("TMPDIR", str(scratch))
    made = []

    def build(task: str, script: dict[str, Any], **settings: Any) -> gymnasium.Env:
        game = stand_in.write_game(tmp_path / "game", **script)
        given = {"image_size": 8, "render_size": 16, "assets": str(game)} | settings
        made.append(make(EnvConfig(task=f"minerl/{task}", **given), 0))
        return made[-1]

    yield build
    for env in made:
        env.close()


def told(tmp_path: Path, key: str) -> list[Any]:
    """Of that name in the stand-in's log."""
    return [line[key] for line in stand_in.read_log(tmp_path / "game") if key in line]


def gone(pids: list[int], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_up_to_where_the_game_is_needed(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISTWM_MINERL_GAME", str(tmp_path))
    assert main(["info", "minerl/ObtainDiamond", "image_size=64", "render_size=64"]) == 0
    shown = capsys.readouterr().out
    for words in (
        "[29] float32",
        "[64, 64, 3] uint8",
        "[49] float32 in [-1, 1]",
        "'nearbyCraft': Discrete(8)",
        "18000",
    ):
        assert words in shown
    assert main(["watch", "minerl/Treechop", "--out", str(tmp_path / "never.mp4")]) == 3
    assert f"cd {tmp_path} && ./gradlew -g run/gradle shadowJar" in capsys.readouterr().err


def test_check_as_it_is_typed(python: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "distwm.envs", "check", "minerl/Treechop"]
    variables = {**os.environ, "DISTWM_MINERL_GAME": str(tmp_path)}
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "missing" in done.stdout
    assert f"{tmp_path} holds no {minerl_game.JAR}" in done.stderr


def test_an_episode_of_the_technology_tree(host: Host, tmp_path: Path) -> None:
    rewards = [1, 2, 4, 4, 8, 16, 32, 32, 0, 0, 64, 128, 256]
    steps = [
        {"inventory": {item: 3, "dirt": 2}, "reward": reward}
        for item, reward in zip(MILESTONES[:-1], rewards, strict=True)
    ]
    env = host("ObtainDiamond", {"steps": [*steps, {"blank": True, "reward": 1024, "done": True, "inventory": {}}]})
    assert (info_of(env).fps, info_of(env).max_steps) == (20.0, 18000)
    observation, info = env.reset(seed=5)
    assert info == {"success": False, "milestones": dict.fromkeys(MILESTONES, False)}
    assert observation["image"].shape == (8, 8, 3)
    assert (observation["image"][-2:] == (255, 0, 0)).all(), "red is below"
    assert (observation["image"][:-2] == 0).all()
    assert env.render().shape == (16, 16, 3)  # type: ignore[union-attr]
    rest = ActionCodec(native_action_space(env))
    for number, item in enumerate(MILESTONES[:-1]):
        observation, reward, terminated, truncated, info = env.step(rest.encode(at_rest(env)))
        assert (reward, terminated, truncated) == (rewards[number], False, False)
        assert info["milestones"] == {name: place <= number for place, name in enumerate(MILESTONES)}
        assert observation["image"].max() == 255
        fields = dict(zip(names(env), observation["state"], strict=True))
        assert fields["inventory$dirt"] == 2
        assert fields.get(f"inventory${item}", 3) == 3
        assert fields["equipped_items$mainhand$damage"] == 3
        assert fields["equipped_items$mainhand$type/5"] == 1  # stone_axe
    _, reward, terminated, truncated, info = env.step(rest.encode(at_rest(env)))
    assert (reward, terminated, truncated, info["success"]) == (1024.0, True, False, True)
    assert info["milestones"]["diamond"]
    assert env.reset()[1]["success"] is False
    assert not any(env.step(rest.encode(at_rest(env)))[-1]["milestones"][name] for name in MILESTONES[1:])


def test_seeds_limits_and_what_is_left(host: Host, tmp_path: Path) -> None:
    steps: list[dict] = [{"inventory": {"log": 63}}, {"inventory": {"log": 64}, "reward": 1}]
    env = host("Treechop", {"steps": steps}, time_limit_s=0.2, pixels=False)
    assert list(env.observation_space) == ["image"]  # there is nothing else to observe  # type: ignore[call-overload]
    seeds: list[int | None] = [3, None, 3]
    for seed in seeds:
        env.reset(seed=seed)
        ends = [env.step(np.zeros(18, np.float32))[2:] for _ in range(4)]
        assert [end[:2] for end in ends] == [(False, False)] * 3 + [(False, True)]
        assert [end[2]["success"] for end in ends] == [False, True, True, True]
    first, second, third = told(tmp_path, "seed")
    assert first == third != second
    assert told(tmp_path, "limit_ms") == [[str((4 + 200) * 50)]] * 3  # behind ours
    assert told(tmp_path, "inventories") == [1] * 3
    assert told(tmp_path, "headless") == [None]
    (pids,) = told(tmp_path, "pids")
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    env.close()
    assert gone(pids)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_death_is_an_end_without_success(host: Host) -> None:
    env = host("NavigateDense", {"steps": [{"reward": 0.5}, {"reward": 1, "done": True}]})
    assert env.reset(seed=0)[0]["state"].tolist() == [12.5, 0.0]  # compass and dirt
    env.step(np.zeros(20, np.float32))
    _, reward, terminated, truncated, info = env.step(np.zeros(20, np.float32))
    assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, False)


def test_actions_of_vpt(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY")
    (tmp_path / "bin/xvfb-run").write_text("#!/bin/sh\n")
    (tmp_path / "bin/xvfb-run").chmod(0o755)
    env = host("ObtainIronPickaxe@vpt", {})
    assert native_action_space(env) == SPACE
    codec = ActionCodec(SPACE)
    pressed = np.array([name in ("attack", "hotbar.3", "swapHands", "ESC", "inventory") for name in BUTTONS], np.int8)
    given = codec.encode({"buttons": pressed, "camera": np.int64(joint(5, 8))})
    env.reset(seed=0)
    info = env.step(given)[-1]
    np.testing.assert_array_equal(info["action"], given)
    (commands,) = told(tmp_path, "commands")
    found = dict(command.split(" ", 1) for command in commands)
    assert found.keys() == {*BUTTONS, "camera"} - {"ESC", "inventory"}, "the game has no command for these"
    assert [name for name, word in found.items() if word == "1"] == ["attack", "hotbar.3", "swapHands"]
    pitch, yaw = map(float, found["camera"].split())
    assert pitch == 0.0
    assert yaw == pytest.approx(float(to_degrees(np.array(8))), abs=1e-5)
    assert told(tmp_path, "headless") == ["1"]  # launchClient.sh goes through xvfb-run then


def test_a_game_that_never_gets_ready(host: Host, tmp_path: Path) -> None:
    env = host("Treechop", {"hang": True})
    hosted: Any = env.unwrapped
    assert hosted.config.reset_s == HostConfig().reset_s + HostConfig().start_s, "the first reset starts the game"
    hosted.config = HostConfig(reset_s=5.0)
    with pytest.raises(HostedEnvError, match="was stopped in `reset`: no answer within 5 s") as caught:
        env.reset(seed=0)
    assert caught.value.tail[-1] == "Loading world", "the game's last words"
    assert gone(told(tmp_path, "pids")[0])
    (left,) = (tmp_path / "scratch").iterdir()  # nobody was there to remove it
    minerl_game._remove_unused(left)
    assert not left.exists()


def test_a_game_that_dies_in_a_step(host: Host, tmp_path: Path) -> None:
    env = host("Treechop", {"steps": [{}, {"gone": True}]})
    env.reset(seed=0)
    env.step(np.zeros(18, np.float32))
    with pytest.raises(HostedEnvError, match="failed in `step`: RuntimeError: the game is gone"):
        env.step(np.zeros(18, np.float32))
    assert gone(told(tmp_path, "pids")[0])


def at_rest(env: gymnasium.Env) -> dict[str, Any]:
    space = native_action_space(env)
    assert isinstance(space, gymnasium.spaces.Dict)
    none = {name: WORDS[f"action${name}"].index("none") for name in space if f"action${name}" in WORDS}
    return {name: none.get(name, np.zeros(one.shape or (), one.dtype)) for name, one in space.items()}


def names(env: gymnasium.Env) -> list[str]:
    fields = env.unwrapped.attributes["state_fields"]  # type: ignore[attr-defined]
    return [name if width == 1 else f"{name}/{n}" for name, width in fields for n in range(width)]
