"""The counting environment with a fault in it: `faulty/<fault>@<amount>`, to test what survives which."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import numpy as np

from actors.envs.counting import CountingEnv
from actors.envs.registry import EnvConfig, unknown
from replay.errors import BadInput

LENGTH = 20
FAULTS = {
    "crash": "raises RuntimeError with this probability a step",
    "kill": "kills its own process (SIGKILL) with this probability a step",
    "stall": "sleeps for an hour with this probability a step",
    "nan": "rewards with NaN after this many steps",
}


def make(config: EnvConfig, seed: int) -> FaultyEnv:
    return FaultyEnv(config, seed)


def tasks() -> tuple[str, ...]:
    """One example for each fault."""
    return tuple(f"{fault}@0.01" for fault in FAULTS)


class FaultyEnv(CountingEnv):
    """Episodes of 20 decisions. Faults are not seeded: the episode that failed may succeed when it is tried again."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        super().__init__(replace(config, task=f"counting/{LENGTH}"), seed)
        self.fault, self.amount = _parse(config.task.partition("/")[2])
        self._luck = np.random.default_rng()

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.fault == "nan":
            reward = float("nan") if self._step > self.amount else reward
        elif self._luck.random() < self.amount:
            self._fail()
        return observation, reward, terminated, truncated, info

    def _fail(self) -> None:
        if self.fault == "crash":
            raise RuntimeError("the simulator crashed, as it was asked to")
        if self.fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600)


def _parse(text: str) -> tuple[str, float]:
    fault, _, amount = text.partition("@")
    if fault not in FAULTS:
        raise unknown("fault", fault, FAULTS)
    try:
        return fault, float(amount)
    except ValueError:
        raise BadInput(f"faulty/{text} names no amount.", f"Write faulty/{fault}@0.01.") from None
