"""A hand that picks things up and puts them down, without physics: action chunks for tests, as LIBERO's would look.

Motion is drawn: towards a point above the thing, down, close, up, over the goal, down, open, away, at 20 Hz, with a
steady hand's delay, a slow sway and a little noise in rotation. Deviations by dimension are about 0.26, 0.33, 0.48,
0.03, 0.06, 0.08 and 0.98 (the gripper, -1 open and +1 closed). Real policies move otherwise: no figure from this data
says anything about them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from replay.schema import Episode, EpisodeKey, EpisodeSpec, FieldSpec
from replay.sources.memory import MemorySource

ACTIONS, HORIZON, REPLAN = 7, 10, 5
STEP = 0.02  # m of motion at full scale
SPEC = EpisodeSpec.build({"state": ((3,), "float32")}, ACTIONS)
PLAN_SPEC = EpisodeSpec(
    fields=(
        *SPEC.fields,
        FieldSpec(name="plan", shape=(HORIZON, ACTIONS), dtype="float32", role="action"),
        FieldSpec(name="plan_step", shape=(), dtype="int32", role="action"),
    )
)


class Leg(NamedTuple):
    goal: np.ndarray  # (3,) m
    closed: bool
    steps: int  # at the most; a leg ends when the hand has arrived
    waits: int = 0  # steps at its end


def legs(rng: np.random.Generator) -> list[Leg]:
    thing = np.array([rng.uniform(-0.05, 0.15), rng.uniform(-0.25, 0.15), 0.0])
    goal = np.array([rng.uniform(0.0, 0.25), rng.uniform(0.05, 0.3), rng.uniform(0.0, 0.05)])
    above, lift = np.array([0, 0, rng.uniform(0.08, 0.14)]), np.array([0, 0, rng.uniform(0.12, 0.2)])
    near = np.array([0, 0, 0.03])
    return [
        Leg(thing + above, False, 60),
        Leg(thing, False, 25),
        Leg(thing, True, 0, int(rng.integers(4, 8))),
        Leg(thing + lift, True, 25),
        Leg(goal + lift, True, 60),
        Leg(goal + near, True, 25),
        Leg(goal + near, False, 0, int(rng.integers(3, 7))),
        Leg(goal + lift, False, 20),
    ]


def actions(seed: int, noise: float = 1.0) -> np.ndarray:
    """(T, 7) float32, the actions of one episode, T about 110."""
    rng = np.random.default_rng((7, seed))
    hand, speed = np.array([rng.uniform(-0.25, -0.1), rng.uniform(-0.05, 0.05), rng.uniform(0.2, 0.35)]), np.zeros(3)
    gain, sway, turn, drift = rng.uniform(2.5, 4.5), np.zeros(3), np.zeros(3), rng.normal(0, 0.8, 3)
    pace = rng.uniform(0.35, 0.9375)
    rows: list[np.ndarray] = []
    for leg in legs(rng):
        for number in range(leg.steps + leg.waits):
            gap = leg.goal - hand
            if number >= leg.waits and np.linalg.norm(gap) < 0.012:
                break
            sway = 0.8 * sway + 0.035 * noise * rng.normal(size=3)
            wanted = np.clip(gain * gap / STEP / 6, -1, 1) * pace
            speed = 0.35 * speed + 0.65 * wanted
            turn = 0.9 * turn + 0.1 * (drift + 2 * speed[[1, 0, 2]]) + 0.2 * noise * rng.normal(size=3)
            tremble = 0.02 * noise * rng.normal(size=3)
            move = np.clip(speed + sway + tremble, -0.9375, 0.9375)
            rotation = np.array([0.03, 0.06, 0.08]) * (turn + 0.1 * noise * rng.normal(size=3))
            hand = hand + STEP * move
            rows.append(np.concatenate([move, rotation, [1.0 if leg.closed else -1.0]]))
    return np.stack(rows).astype(np.float32)


def episode(number: int, plans: bool = False, stream: str = "picking") -> Episode:
    """Record t holds the action that led to it. With plans, a chunk is predicted every REPLAN steps, slightly wrong."""
    taken = actions(number)
    steps = len(taken) + 1
    action = np.concatenate([np.zeros((1, ACTIONS), np.float32), taken])
    flags = {name: np.zeros(steps, bool) for name in ("is_first", "is_last", "is_terminal")}
    flags["is_first"][0] = flags["is_last"][-1] = flags["is_terminal"][-1] = True
    state = np.cumsum(STEP * action[:, :3], 0, dtype=np.float32)
    reward = flags["is_last"].astype(np.float32)
    arrays: dict[str, Any] = {"state": state, "action": action, "reward": reward, **flags}
    if plans:
        arrays |= planned(taken)
    return Episode(key=EpisodeKey(stream, 0, number), source="scripted", policy_version=0, arrays=arrays)


def planned(taken: np.ndarray) -> dict[str, np.ndarray]:
    steps = len(taken)
    held = np.concatenate([taken, np.repeat(taken[-1:], HORIZON, 0)])
    plan = np.zeros((steps + 1, HORIZON, ACTIONS), np.float32)
    step = np.full(steps + 1, -1, np.int32)
    for t in range(steps):
        begun = t - t % REPLAN
        plan[t + 1], step[t + 1] = held[begun : begun + HORIZON], t - begun
    return {"plan": plan, "plan_step": step}


def source(episodes: int = 70, plans: bool = False, valid_share: float = 0.286) -> MemorySource:
    spec = PLAN_SPEC if plans else SPEC
    return MemorySource(spec, [episode(n, plans) for n in range(episodes)], valid_share)
