"""A gymnasium environment that lives in a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from actors.hosting import spaces
from actors.hosting.config import HostConfig
from actors.hosting.errors import HostedEnvError, Kind
from actors.hosting.plain import action_fields, array_fields
from actors.hosting.process import Gone, GuestProcess, GuestSpec, LastWords, Late
from replay import errors

EXPECTED = {kind.__name__: kind for kind in (errors.BadInput, errors.Missing, errors.TrainingFailed, errors.TryAgain)}
MEMORY_WORDS = ("MemoryError", "bad_alloc", "Cannot allocate memory", "out of memory", "Unable to allocate")


class HostedEnv(gymnasium.Env):
    """Asks the process, waits no longer than the deadlines allow, and copies observations out of shared memory.

    After any HostedEnvError the process is gone, with everything that it had started: make another HostedEnv. Errors of
    ours that the environment raises (BadInput, Missing) come as they are. To step several at once, call `begin_step`
    on each, then `finish_step`; `fileno` is readable when the answer is there. Deadlines run from the beginning.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (gymnasium's own attribute)
    render_mode = "rgb_array"

    def __init__(self, spec: GuestSpec, config: HostConfig) -> None:
        """Raises HostedEnvError, or what the environment's factory raises of ours; Missing without an interpreter."""
        self._spec, self.config = spec, config
        self._asked_s, self._limit_s = time.monotonic(), config.start_s  # of the question that is to be answered
        try:
            self._process: GuestProcess | None = GuestProcess(spec, config.memory_bytes)
        except OSError as error:
            raise errors.Missing(
                f"The interpreter {spec.interpreter} of {spec.name} cannot be started: {error}.",
                "Install it again: python -m distwm.envs install.",
            ) from error
        (self.pid,) = self._hear("start")
        self._ask(["make", spec.factory, dict(spec.arguments)])
        observation, action, attributes = self._hear("make")
        shared = action_fields(action)
        self._slab, self._action = self._process.slabs(array_fields(observation), shared)
        self._shares_action = bool(shared)
        self.observation_space = spaces.build(observation)
        self.action_space = spaces.build(action)
        self.attributes: Mapping[str, Any] = attributes  # what the environment says of itself
        self.task_text: str = attributes.get("task_text", "")
        self.fps: float = attributes.get("fps", 0.0)
        self.max_steps: int = attributes.get("max_steps", 0)
        self.init_states: int = attributes.get("init_states", 0)
        self.success_terminates: bool = attributes.get("success_terminates", False)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict, dict]:
        self.begin_reset(seed=seed, options=options)
        return self.finish_reset()

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        self.begin_step(action)
        return self.finish_step()

    def begin_reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        self._limit_s = self.config.reset_s
        self._ask(["reset", seed, options])

    def finish_reset(self) -> tuple[dict, dict]:
        (info,) = self._hear("reset")
        return self._slab.read(), info

    def begin_step(self, action: Any) -> None:
        self._limit_s = self.config.step_s
        if not self._shares_action:
            return self._ask(["step", action])
        self._alive()
        try:
            self._action.write({"action": action})
        except (TypeError, ValueError) as error:
            raise self._bad("step", error) from error
        self._ask(None)

    def finish_step(self) -> tuple[dict, float, bool, bool, dict]:
        info = self._hear("step")
        reward, terminated, truncated = self._alive().outcome.read()
        return self._slab.read(), reward, terminated, truncated, info[0] if info else {}

    def fileno(self) -> int:
        """Of the pipe through which the answer comes, for `select`."""
        return self._alive().channel.fileno()

    @property
    def late(self) -> bool:
        """Whether a deadline of the question that was begun has passed: finishing it does not wait any more."""
        try:
            self._alive().check(self._asked_s, self._limit_s, self.config.heartbeat_s)
        except (Gone, Late):
            return True
        return False

    def render(self) -> np.ndarray:  # type: ignore[override]
        self._limit_s = self.config.step_s
        self._ask(["render"])
        (frame,) = self._hear("render")
        return frame

    def close(self) -> None:
        """Lets the environment close itself, then ends its process; never raises, harmless when repeated."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.ask(["close"])
            process.hear(self.config.close_s, self.config.close_s, time.monotonic())
            process.wait(self.config.close_s)
        except (Gone, Late, ValueError):
            pass  # it is ended all the same
        self._end(process)

    def _ask(self, question: list[Any] | None) -> None:
        """None: to step with the action that lies in shared memory."""
        self._asked_s = time.monotonic()
        try:
            self._alive().ask(question)
        except Gone:
            pass  # hearing says more about it
        except TypeError as error:
            raise self._bad(question[0] if question else "step", error) from error

    def _bad(self, name: str, error: Exception) -> errors.BadInput:
        return errors.BadInput(
            f"{self._spec.name} was asked to {name} with what cannot travel: {error}.",
            "Give what its action_space holds, and plain data as options.",
        )

    def _hear(self, what: str) -> list[Any]:
        """What the environment answers, after "ok"; nothing if the answer lies in shared memory."""
        try:
            answer = self._alive().hear(self._limit_s, self.config.heartbeat_s, self._asked_s)
        except Late as error:
            raise self._failed("timeout", what, str(error)) from None
        except (Gone, ValueError) as error:
            raise self._failed("died", what, str(error)) from None
        if answer is None:
            return []
        kind, *found = answer
        if kind == "ok":
            return found
        if kind == "expected" and found[0] in EXPECTED:
            self.close()
            raise EXPECTED[found[0]](found[1], found[2])
        raise self._failed("memory" if kind == "memory" else "raised", what, found[-1])

    def _failed(self, kind: Kind, what: str, why: str) -> HostedEnvError:
        """Ends the process; the error that says how it failed."""
        process = self._alive()
        self._process = None
        words = self._end(process)
        if kind == "died":
            why = _ending(words.status)
            kind = "memory" if any(word in line for line in words.tail for word in MEMORY_WORDS) else "died"
        if kind == "memory":
            why = f"out of memory, of which env.host.memory_bytes={self.config.memory_bytes} allows it no more"
        verb = {"timeout": "was stopped", "raised": "failed", "memory": "ran", "died": "died"}[kind]
        return HostedEnvError(f"{self._spec.name} {verb} in `{what}`: {why}.", MENDS[kind], kind, words.tail)

    def _end(self, process: GuestProcess) -> LastWords:
        if hasattr(self, "_slab"):
            self._slab.close()
            self._action.close()
        return process.end()

    def _alive(self) -> GuestProcess:
        if self._process is None:
            raise errors.BadInput(f"{self._spec.name} is closed.", "Make another environment.")
        return self._process


MENDS: Mapping[Kind, str] = {
    "died": "Make it again; if it dies each time, its last lines say why.",
    "timeout": "Make it again, or allow more time with env.host.start_s, reset_s or step_s.",
    "raised": "Make it again; if it fails each time, its last lines say where.",
    "memory": "Make it again, or allow more with env.host.memory_bytes.",
}


def _ending(status: int | None) -> str:
    """In words."""
    if status is None:
        return "its process is gone, nobody knows how"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"its process ended with exit code {status}"
