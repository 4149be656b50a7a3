"""What a process of its own costs an environment, against the same one stepped directly, and how soon it is replaced.

Both sides take short turns, on the wall's clock, since a process of its own does not spend this one's time; the median
over turns is shown. The direct side of LIBERO runs in LIBERO's interpreter and says how long it took.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium
import numpy as np
import pytest
from timing import arguments, table

from actors.envs.registry import EnvConfig, make
from actors.hosting.config import HostConfig
from actors.hosting.errors import HostedEnvError
from actors.hosting.hosted import HostedEnv
from actors.hosting.interpreters import interpreter, variables
from actors.hosting.process import ROOT, GuestSpec
from replay.errors import Missing

GUESTS = ROOT / "tests" / "actors" / "hosting_guests.py"
Turn = Callable[[], float]  # seconds a step

CASES = {  # what, configuration, steps of a turn
    "counting, state": (EnvConfig(task="counting/1000000", pixels=False), 500),
    "dmc walker, state": (EnvConfig(task="dmc/walker_walk", pixels=False), 100),
    "dmc walker, 64 px": (EnvConfig(task="dmc/walker_walk", image_size=64, render_size=64), 40),
}
LIBERO = EnvConfig(task="libero/libero_spatial/0", image_size=128, render_size=128)
LIBERO_STEPS = 10

DIRECT = """
import json, sys, time
sys.path.append(sys.argv[1])
from actors.hosting.guests.libero import Libero
import numpy as np
env = Libero(**json.loads(sys.argv[2]))
env.reset(seed=0)
action = np.zeros(7, np.float32)
print(0.0, flush=True)
for line in sys.stdin:
    begun = time.perf_counter()
    for _ in range(int(line)):
        env.step(action)
    print((time.perf_counter() - begun) / int(line), flush=True)
"""


def stepping(env: gymnasium.Env, steps: int) -> Turn:
    env.reset(seed=0)
    assert env.action_space.shape is not None
    action = np.zeros(env.action_space.shape, np.float32)

    def turn() -> float:
        seconds = 0.0
        for _ in range(steps):
            begun = time.perf_counter()
            _, _, terminated, truncated, _ = env.step(action)
            seconds += time.perf_counter() - begun
            if terminated or truncated:
                env.reset()
        return seconds / steps

    return turn


@contextmanager
def direct_libero() -> Iterator[Turn]:
    """Stepped in a process that has nothing else to do."""
    view = {"size": LIBERO.image_size, "render_size": LIBERO.render_size, "pixels": True, "state": True}
    task = {"suite": "libero_spatial", "number": 0, "assets": os.environ["DISTWM_LIBERO_ASSETS"]}
    command = [
        interpreter("libero"),
        "-I",
        "-c",
        DIRECT,
        ROOT,
        json.dumps(task | view | {"max_steps": 10**6, "seed": 0}),
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | variables("libero"),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    told = process.stdout
    told.readline()

    def turn() -> float:
        process.stdin.write(f"{LIBERO_STEPS}\n")
        process.stdin.flush()
        return float(told.readline())

    try:
        yield turn
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def compared(direct: Turn, hosted: Turn, repetitions: int) -> list[object]:
    """Microseconds of both, what is added, steps/s of both and their ratio."""
    direct(), hosted()
    pairs = []
    for number in range(repetitions):
        if number % 2:
            there = hosted()
            pairs.append((direct(), there))
        else:
            pairs.append((direct(), hosted()))
    here, there = (median(pair[side] for pair in pairs) for side in (0, 1))
    added = median(b - a for a, b in pairs)
    best = min(b for _, b in pairs) - min(a for a, _ in pairs)
    ratio = median(a / b for a, b in pairs)
    return [f"{1e6 * here:.0f}", f"{1e6 * there:.0f}", f"{1e6 * added:.0f}", f"{1e6 * best:.0f}", f"{ratio:.3f}"]


def copying(env: gymnasium.Env) -> float:
    """Microseconds to copy one observation."""
    observation, _ = env.reset(seed=0)
    begun = time.perf_counter()
    for _ in range(1000):
        _ = {name: value.copy() for name, value in observation.items()}
    return (time.perf_counter() - begun) * 1e3


def overheads(repetitions: int) -> list[list[object]]:
    rows: list[list[object]] = []
    for what, (config, steps) in CASES.items():
        with closing(make(config, 0)) as here, closing(make(replace(config, hosted=True), 0)) as there:
            figures = compared(stepping(here, steps), stepping(there, steps), repetitions)
            rows.append([what, *figures, f"{copying(there):.1f}"])
    try:
        with direct_libero() as direct, closing(make(replace(LIBERO, time_limit_s=1e6), 0)) as there:
            figures = compared(direct, stepping(there, LIBERO_STEPS), max(5, repetitions // 3))
            rows.append(["LIBERO, 2 x 128 px", *figures, f"{copying(there):.1f}"])
    except (Missing, KeyError) as missing:
        rows.append(["LIBERO", str(missing), *[""] * 5])
    return rows


def mended(fault: str, config: HostConfig, deadline_s: float) -> list[object]:
    """One fault: seconds until it was known, and until another environment had begun an episode; orphans."""
    spec = GuestSpec(name="faulty", factory=f"{GUESTS}:Faulty", arguments={"fault": fault})
    env = HostedEnv(spec, config)
    pid, begun = env.pid, time.monotonic()
    try:
        env.reset()
        if fault == "killed from outside":
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            env.step(np.zeros(1, np.float32))
    except HostedEnvError as error:
        known, kind = time.monotonic() - begun, error.kind
    left = Path(f"/proc/{pid}").exists()
    begun = time.monotonic()
    with closing(HostedEnv(replace(spec, arguments={"fault": "none"}), config)) as again:
        again.reset()
        restarted = time.monotonic() - begun
    return [fault, kind, f"{deadline_s:g}", f"{known:.2f}", f"{restarted:.2f}", int(left)]


def faults() -> list[list[object]]:
    quick = HostConfig(start_s=20.0, reset_s=2.0, step_s=2.0, memory_bytes=2**30)
    patient = replace(quick, step_s=30.0)
    return [
        mended("killed from outside", quick, 0.0),
        mended("kill", quick, 0.0),
        mended("hang", quick, 2.0),
        mended("freeze", replace(patient, heartbeat_s=2.0), 2.0),
        mended("slow reset", quick, 2.0),
        mended("leak", patient, 30.0),
        mended("raise", quick, 0.0),
    ]


def restart_of(config: EnvConfig) -> list[object]:
    """Seconds from SIGKILL to the first observation of the environment made after it."""
    with closing(make(config, 0)) as env:
        inner: Any = env.unwrapped
        env.reset(seed=0)
        begun = time.monotonic()
        os.kill(inner.pid, signal.SIGKILL)
        try:
            env.step(np.zeros(env.action_space.shape or (), np.float32))
        except HostedEnvError:
            known = time.monotonic() - begun
    with closing(make(config, 0)) as again:
        again.reset(seed=0)
        return [config.task, f"{known:.3f}", f"{time.monotonic() - begun:.2f}"]


def report(repetitions: int) -> None:
    head = [
        "environment",
        "direct us",
        "hosted us",
        "added us",
        "added us, best turns",
        "hosted/direct steps/s",
        "copy us",
    ]
    table(head, overheads(repetitions))
    print()
    table(["fault", "kind", "deadline s", "known after s", "another one after s", "left"], faults())
    print()
    rows = [restart_of(replace(config, hosted=True)) for config, _ in CASES.values()]
    try:
        rows.append(restart_of(LIBERO))
    except Missing as missing:
        print(missing)
    table(["killed", "known after s", "next episode after s"], rows)


@pytest.mark.bench
def test_hosting() -> None:
    report(repetitions=9)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    report(arguments(__doc__).repetitions or 31)
