"""The host's end of an environment's process: started, watched, asked and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.hosting.slab import HEADER, Outcome, Pulse, Slab
from actors.hosting.wire import Channel

CHILD = Path(__file__).with_name("child.py")
ROOT = CHILD.parents[2]
LOOK_S = 0.1  # between two looks at an environment that has not answered
END_S = 15.0  # for the guardian to kill what it guards, which takes milliseconds unless the machine is in trouble


class Late(Exception):
    """No answer in time; says why."""


class Gone(Exception):
    """The process has ended, or its connection has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """What to make in the process: `factory` is "module:function" or "file.py:function", its arguments plain data."""

    name: str  # for messages
    factory: str
    arguments: Mapping[str, Any]
    interpreter: Path = field(default_factory=lambda: Path(sys.executable))
    variables: Mapping[str, str] = field(default_factory=dict)  # added to the environment's variables


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """How a process ended: its exit status (negative: the signal), None if unknown, and the last lines it wrote."""

    status: int | None
    tail: tuple[str, ...]


class GuestProcess:
    """One environment's process under a guardian (actors/hosting/guardian.py), with two pipes and shared memory."""

    def __init__(self, spec: GuestSpec, memory_bytes: int) -> None:
        """Starts it and does not wait. Raises OSError if the interpreter cannot be started."""
        heard, told = os.pipe()  # by it
        answers, answered = os.pipe()
        self._memory = os.memfd_create("distwm-env")
        os.ftruncate(self._memory, HEADER)
        self._pulse = Pulse(self._memory)
        self._pulse.beat()
        self.outcome = Outcome(self._memory)
        self.channel = Channel(answers, told, LOOK_S)
        try:
            self._guardian = _spawn(spec, (heard, answered, self._memory), memory_bytes)
        except OSError:
            self.channel.close()
            self._release()
            raise
        finally:
            os.close(heard)
            os.close(answered)
        self._ended: LastWords | None = None

    def ask(self, question: Any) -> None:
        """Raises Gone when nobody can hear it, TypeError for what is no plain data."""
        try:
            self.channel.send(question)
        except OSError as error:
            raise Gone(str(error)) from error

    def hear(self, limit_s: float, heartbeat_s: float, asked_s: float) -> Any:
        """The answer to what was asked at `asked_s` (time.monotonic()). Raises as `check`."""
        try:
            return self.channel.receive(lambda: self.check(asked_s, limit_s, heartbeat_s))
        except (EOFError, OSError) as error:
            raise Gone(str(error)) from error

    def check(self, asked_s: float, limit_s: float, heartbeat_s: float) -> None:
        """Raises Late from `limit_s` after the question on, or `heartbeat_s` after the last heartbeat; Gone when the
        process is."""
        if self._guardian.poll() is not None:
            raise Gone("the process has ended")
        if time.monotonic() > asked_s + limit_s:
            raise Late(f"no answer within {limit_s:g} s (its last heartbeat is {self._pulse.age():.1f} s old)")
        if self._pulse.age() > heartbeat_s:
            raise Late(f"no heartbeat for {heartbeat_s:g} s")

    def slabs(self, observation: Any, action: Any) -> tuple[Slab, Slab]:
        """The shared memory of observations and of actions, from their fields."""
        first = Slab(self._memory, observation)
        return first, Slab(self._memory, action, first.end)

    def wait(self, limit_s: float) -> None:
        """Gives the process time to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guardian.wait(limit_s)

    def end(self) -> LastWords:
        """Ends the process and everything below it, if anything still runs. Harmless when repeated."""
        if self._ended is None:
            self._ended = last_words(self._guardian)
            self.channel.close()
            self._release()
        return self._ended

    def _release(self) -> None:
        self._pulse.close()
        self.outcome.close()
        os.close(self._memory)


def _spawn(spec: GuestSpec, descriptors: Sequence[int], memory_bytes: int) -> subprocess.Popen[bytes]:
    command = [spec.interpreter, "-I", CHILD, ROOT, *descriptors, memory_bytes]
    return spawn_guarded(list(map(str, command)), spec.variables, descriptors)


def spawn_guarded(
    command: Sequence[str], variables: Mapping[str, str], descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """A program that calls `guardian.fork_guarded` first. Raises OSError if it cannot be started."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # open as long as the host lives and wants the program
        stdout=subprocess.PIPE,  # its last words
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
        pass_fds=descriptors,
        start_new_session=True,  # ctrl-c is for the driver
    )


def last_words(guardian: subprocess.Popen[bytes]) -> LastWords:
    """Closes the guardian's input, which ends all that it guards, and hears it out."""
    try:
        words, _ = guardian.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        os.killpg(guardian.pid, signal.SIGKILL)
        words, _ = guardian.communicate()
    try:
        found = json.loads(words)
    except ValueError:  # somebody killed the guardian
        return LastWords(status=None, tail=())
    status = found["status"]
    return LastWords(
        status=None if status is None else os.waitstatus_to_exitcode(status),
        tail=tuple(found["tail"]),
    )
