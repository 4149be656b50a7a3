"""A guest for the tests of rollouts, on Python 3.8 and numpy alone: it waits for what other guests do."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from actors.hosting import plain

STEPS = 5  # of an episode


class Meeting:
    """Each step is announced as a file `name-step` in the folder, and ends when the file `awaited` is there, in which
    {step} stands for the step."""

    observation_space = plain.fields(state=plain.box(-1.0, 1.0, (1,), np.float32))
    action_space = {"kind": "discrete", "n": 2, "start": 0}  # noqa: RUF012
    task_text, fps, max_steps = "meet", 1.0, STEPS

    def __init__(self, folder, name, awaited):
        self.folder, self.name, self.awaited = Path(folder), name, awaited

    def reset(self, seed=None, options=None):
        self.count = 0
        return {"state": np.zeros(1)}, {}

    def step(self, action):
        self.count += 1
        (self.folder / f"{self.name}-{self.count}").touch()
        while not (self.folder / self.awaited.format(step=self.count)).exists():
            time.sleep(0.001)
        return {"state": np.zeros(1)}, float(action), False, self.count == STEPS, {"success": self.count == 2}

    def close(self):
        pass
