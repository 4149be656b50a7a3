"""The program of an environment's process: `python -I child.py ROOT QUESTIONS ANSWERS MEMORY MAX_BYTES`.

Runs on Python 3.8, numpy and msgpack. The guest that it is told to make needs no more: `factory(**arguments)` gives an
object with `observation_space`, `action_space` (gym's, gymnasium's or plain data), `reset(seed)`, `step(action)` and
`close()` as gymnasium has them, perhaps `render()`, and the attributes in ATTRIBUTES.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import resource
import sys
import threading
import time
import traceback
from typing import Any

ROOT, QUESTIONS, ANSWERS, MEMORY, MAX_BYTES = sys.argv[1], *map(int, sys.argv[2:6])
if __name__ == "__main__":  # nothing else is imported, and no thread runs, before the fork
    sys.path.append(ROOT)
    from actors.hosting import guardian

    guardian.fork_guarded()

import numpy as np  # noqa: E402

from actors.hosting import plain, slab, wire  # noqa: E402

ATTRIBUTES = ("task_text", "fps", "max_steps", "preprocess", "state_fields", "init_states", "success_terminates")
BEAT_S = 0.5


class Guest:
    """Answers the host's questions about one environment."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._outcome = slab.Outcome(descriptor)

    def make(self, factory: str, arguments: dict[str, Any]) -> list[Any]:
        self._env = load(factory)(**arguments)
        self._action = plain.describe(self._env.action_space)
        observation = plain.describe(self._env.observation_space)
        self._slab = slab.Slab(self._descriptor, plain.array_fields(observation))
        self._shared = slab.Slab(self._descriptor, plain.action_fields(self._action), self._slab.end)
        found = {name: getattr(self._env, name) for name in ATTRIBUTES if hasattr(self._env, name)}
        return [observation, self._action, found]

    def reset(self, seed: Any, options: Any) -> list[Any]:
        observation, info = self._env.reset(seed=seed, options=options)
        self._slab.write(observation)
        return [plain.portable(info)]

    def step(self, action: Any = None) -> list[Any] | None:
        """Without an argument, the action lies in shared memory. What comes back lies there, except for an info that
        says anything."""
        action = self._shared.read()["action"] if action is None else plain.restore(action, self._action)
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._slab.write(observation)
        self._outcome.write(float(reward), bool(terminated), bool(truncated))
        return [plain.portable(info)] if info else None

    def render(self) -> list[Any]:
        return [np.asarray(self._env.render())]

    def close(self) -> list[Any]:
        self._env.close()
        return []


def load(factory: str) -> Any:
    """What "module:name" or "file.py:name" names."""
    module, _, name = factory.rpartition(":")
    if not module.endswith(".py"):
        return getattr(importlib.import_module(module), name)
    spec = importlib.util.spec_from_file_location("guest", module)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return getattr(found, name)


def answer(guest: Guest, question: list[Any] | None) -> list[Any] | None:
    """[kind, ...]: "ok" and the result, or how the environment failed. None asks for a step with the action in shared
    memory, and says that the result is there too."""
    name, *arguments = question or ("step",)
    try:
        found = getattr(guest, name)(*arguments)
        return None if found is None else ["ok", *found]
    except MemoryError:
        return ["memory", traceback.format_exc(limit=-3)]
    except Exception as error:  # noqa: BLE001 (whatever a simulator raises is told to the host)
        traceback.print_exc()
        kind = type(error).__name__
        if hasattr(error, "mend"):  # one of ours, or of a guest that speaks like us
            return ["expected", kind, str(getattr(error, "message", error)), str(error.mend)]
        return ["raised", f"{kind}: {error}"]


def serve(channel: wire.Channel, guest: Guest) -> None:
    """Until the host closes or is gone."""
    while True:
        try:
            question = channel.receive()
        except (EOFError, OSError):
            return
        channel.send(answer(guest, question))
        if question and question[0] == "close":
            return


def beat(pulse: slab.Pulse) -> None:
    while True:
        pulse.beat()
        time.sleep(BEAT_S)


def main() -> None:
    if MAX_BYTES:
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    for descriptor in (QUESTIONS, ANSWERS, MEMORY):  # what it starts would keep the host waiting
        os.set_inheritable(descriptor, False)
    channel = wire.Channel(QUESTIONS, ANSWERS)
    pulse = slab.Pulse(MEMORY)
    threading.Thread(target=beat, args=(pulse,), name="heartbeat", daemon=True).start()
    channel.send(["ok", os.getpid()])
    serve(channel, Guest(MEMORY))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # simulators' threads and exit handlers are known to hang


if __name__ == "__main__":
    main()
