"""The table-top game: its arm by hand-worked steps, and that its expert solves it."""

from __future__ import annotations

import numpy as np
import pytest

from actors.envs.registry import EnvConfig, make
from actors.envs.tabletop import CUBE, ON, PLATE, Tabletop
from actors.experts import expert
from actors.experts.arm import Arm, from_state, into_state
from replay.errors import BadInput

CONFIG = EnvConfig(task="tabletop/pick_place", pixels=False)
OPEN, CLOSE = -1.0, 1.0


def command(x: float = 0.0, y: float = 0.0, z: float = 0.0, gripper: float = OPEN) -> np.ndarray:
    return np.array([x, y, z, 0.0, 0.0, 0.0, gripper])


def arm(opening: float = 0.08, thing: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Arm:
    return Arm(hand=np.zeros(3), speed=np.zeros(3), opening=opening, closing=0.0, thing=np.array(thing), width=0.04)


def test_the_hand_lags_behind_its_commands() -> None:
    """A constant command: 0.094 * 0.05 m in the first step, and 0.62 of the step before more in each other one."""
    moved, first = arm().moved(command(x=1.0)), 0.094 * 0.05
    assert moved.hand == pytest.approx([first, 0, 0])
    assert moved.moved(command(x=1.0)).hand == pytest.approx([first + (1.62) * first, 0, 0])
    for _ in range(60):
        moved = moved.moved(command(x=1.0))
    assert moved.speed == pytest.approx([first / 0.38, 0, 0])  # the sum of the series


def test_fingers_close_on_what_is_between_them_and_carry_it() -> None:
    held = arm()
    for _ in range(20):
        held = held.moved(command(gripper=CLOSE))
    assert held.held
    assert held.opening == pytest.approx(0.04)
    lifted = held.moved(command(z=1.0, gripper=CLOSE))
    assert lifted.thing[2] == lifted.hand[2] > 0
    assert not lifted.moved(command()).held


def test_fingers_close_on_nothing_where_there_is_nothing() -> None:
    empty = arm(thing=(0.2, 0.0, 0.0))
    for _ in range(30):
        empty = empty.moved(command(gripper=CLOSE))
    assert not empty.held
    assert empty.opening == 0.0


def test_a_state_gives_the_arm_back() -> None:
    state = np.zeros(32)
    before = arm().moved(command(x=0.3, y=-1.0)).moved(command(x=0.3, y=-1.0))
    after = from_state(into_state(before, state), np.array([command(x=0.3, y=-1.0)] * 2))
    for name in ("hand", "speed", "thing"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))
    assert after.opening == pytest.approx(before.opening)


def test_the_expert_solves_it() -> None:
    env, act, ends = make(CONFIG, 0), expert(CONFIG.task), []
    for seed in range(20):
        seen, _ = env.reset(seed=seed)
        for _ in range(200):
            seen, _, success, late, _ = env.step(act(seen["state"]).astype(np.float32))
            if success or late:
                break
        ends.append(success)
    assert ends == [True] * 20


def test_what_is_let_go_falls_to_the_plate_or_beside_it() -> None:
    env = make(CONFIG, 0).unwrapped
    assert isinstance(env, Tabletop)
    for away, height in ((0.0, PLATE + CUBE), (ON + 0.04, CUBE)):
        env.reset(seed=1)
        env._arm.thing[:] = env._plate + np.array([away, 0.0, 0.2])
        ended = [env.step(command())[2] for _ in range(5)]
        assert env._arm.thing[2] == pytest.approx(height)
        assert any(ended) == (away == 0.0)


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(BadInput, match="pick_place"):
        make(EnvConfig(task="tabletop/pick"), 0)
