"""Kills at random moments, from the fork to the last answer: each is noticed, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from actors.hosting.config import HostConfig
from actors.hosting.guardian import descendants
from actors.hosting.hosted import HostedEnv
from actors.hosting.process import GuestSpec
from replay.errors import TryAgain

GUESTS = Path(__file__).with_name("hosting_guests.py")
SPEC = GuestSpec(name="counter", factory=f"{GUESTS}:Counter", arguments={})
CONFIG = HostConfig(start_s=20.0, reset_s=10.0, step_s=10.0)


def play_until_it_fails(deadline_s: float) -> None:
    env = HostedEnv(SPEC, CONFIG)
    try:
        env.reset(seed=0)
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            env.step(env.action_space.sample())
    finally:
        env.close()


def kill_one(after_s: float, which: int) -> None:
    """The guardian or the environment, so many seconds after there is one."""
    deadline = time.monotonic() + 20.0
    while not descendants(os.getpid()) and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(after_s)
    found = sorted(descendants(os.getpid()))
    with contextlib.suppress(ProcessLookupError):
        os.kill(found[which % len(found)], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_moment_is_noticed_and_leaves_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = len(os.listdir("/proc/self/fd"))
    assert not descendants(os.getpid())
    for _ in range(15):
        killer = threading.Thread(target=kill_one, args=(rng.uniform(0.0, 0.25), int(rng.integers(2))))
        killer.start()
        with pytest.raises(TryAgain, match=r"died|ended"):
            play_until_it_fails(30.0)
        killer.join()
    assert not descendants(os.getpid())
    assert len(os.listdir("/proc/self/fd")) == before
