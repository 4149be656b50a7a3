"""Guests for the tests of hosting, on Python 3.8 and numpy alone: one counts, one misbehaves as it is asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np

from actors.hosting import plain


class Counter:
    """Observes its step and its action; a hybrid action space; says which interpreter it runs on."""

    observation_space = plain.fields(
        count=plain.box(-(2**62), 2**62, (2,), np.int64),
        state=plain.box(-1.0, 1.0, (3,), np.float32),
        image=plain.box(0, 255, (4, 6, 3), np.uint8),
        door={"kind": "discrete", "n": 3, "start": 0},
    )
    action_space = {  # noqa: RUF012
        "kind": "tuple",
        "spaces": [
            {"kind": "discrete", "n": 3, "start": 0},
            plain.fields(force=plain.box(-1.0, 1.0, (3,), np.float32)),
        ],
    }
    task_text, fps, max_steps = "count to five", 10.0, 5

    def __init__(self, seed=0):
        self.seed, self.state, self.door = seed, np.zeros(3), 0

    def reset(self, seed=None, options=None):
        self.seed = self.seed + 1 if seed is None else seed
        self.count, self.state, self.door = 0, np.zeros(3), 0
        return self._observe(), {"version": "{}.{}".format(*sys.version_info[:2])}

    def step(self, action):
        assert isinstance(action, tuple), action
        self.count += 1
        self.door, self.state = int(action[0]), action[1]["force"]
        info = {"success": self.count == 5, "where": np.arange(2), "object": object()}
        return self._observe(), np.float64(self.count), self.count == 5, False, info

    def render(self):
        return np.full((4, 6, 3), self.count % 256, np.uint8)

    def close(self):
        pass

    def _observe(self):
        image = np.full((4, 6, 3), self.count % 256, np.uint8)
        return {"count": [self.seed, self.count], "state": self.state, "image": image, "door": self.door}


class Expected(Exception):
    """As a guest without our package says what is missing."""

    def __init__(self, message, mend):
        super().__init__(message)
        self.message, self.mend = message, mend


class Missing(Expected):
    pass


class Faulty:
    """`fault` happens at the first step, or as its name says."""

    observation_space = plain.fields(state=plain.box(-1.0, 1.0, (1,), np.float32))
    action_space = plain.box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, fault, seconds=3600.0):
        self.fault, self.seconds = fault, seconds
        if fault == "missing":
            raise Missing("There is no game.", "Install the game.")
        if fault == "slow start":
            time.sleep(seconds)
        if fault == "grandchildren":  # as launchers of games do: in a session of its own, and one that is orphaned
            command = f"import time; time.sleep({seconds})"
            self.children = [subprocess.Popen([sys.executable, "-c", command], start_new_session=True).pid]
            orphan = (
                "import subprocess as s, sys;print(s.Popen(sys.argv[1:], stdout=s.DEVNULL, start_new_session=True).pid)"
            )
            command_line = [sys.executable, "-c", orphan, sys.executable, "-c", command]
            self.children.append(int(subprocess.run(command_line, stdout=subprocess.PIPE, check=True).stdout))

    def reset(self, seed=None, options=None):
        if self.fault == "slow reset":
            time.sleep(self.seconds)
        children = getattr(self, "children", [])
        return {"state": np.zeros(1)}, {"children": np.array(children, np.int64)}

    def step(self, action):
        getattr(self, "_" + self.fault.replace(" ", "_"), lambda: None)()
        return {"state": np.zeros(1)}, 0.0, False, False, {}

    def close(self):
        if self.fault == "close hangs":
            time.sleep(self.seconds)

    def _hang(self):
        time.sleep(self.seconds)

    def _freeze(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def _raise(self):
        for number in range(200):
            print("line", number)
        raise RuntimeError("the simulator is unwell")

    def _kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _exit(self):
        os.write(2, b"farewell")
        os._exit(3)

    def _leak(self):
        self.leaked = []
        while True:
            self.leaked.append(np.ones(2**22))

    def _wrong_shape(self):
        raise ValueError
