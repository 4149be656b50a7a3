"""Waiting for what other threads and processes do."""

from __future__ import annotations

import gc
import os
from concurrent.futures import Future

from actors.envs.stepping import Signal


def test_a_signal_that_rang_leaves_no_descriptor() -> None:
    """There is one for each decision of a remote agent: collecting garbage would come too late."""
    before = len(os.listdir("/proc/self/fd"))
    gc.disable()
    try:
        for number in range(50):
            future: Future[int] = Future()
            signal = Signal(future)
            future.set_result(number)
            assert signal.result() == number
        del future, signal
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_a_signal_lives_until_it_has_rung() -> None:
    """Else the other thread would write to whatever has its descriptor by then."""
    before = len(os.listdir("/proc/self/fd"))
    future: Future[int] = Future()
    Signal(future)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    future.set_result(1)
    assert len(os.listdir("/proc/self/fd")) == before
