"""Environments in processes of their own: what they answer, how they fail, and that nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from actors.hosting.config import HostConfig
from actors.hosting.errors import HostedEnvError
from actors.hosting.hosted import HostedEnv
from actors.hosting.interpreters import interpreter
from actors.hosting.process import GuestSpec
from replay.errors import BadInput, Missing

GUESTS = Path(__file__).with_name("hosting_guests.py")
QUICK = HostConfig(start_s=20.0, reset_s=1.0, step_s=1.0, close_s=1.0)
Host = Callable[..., HostedEnv]


@pytest.fixture
def host() -> Iterator[Host]:
    made: list[HostedEnv] = []

    def make(guest: str, config: HostConfig = QUICK, interpreter: str = sys.executable, **arguments: Any) -> HostedEnv:
        spec = GuestSpec(name=guest, factory=f"{GUESTS}:{guest}", arguments=arguments, interpreter=Path(interpreter))
        made.append(HostedEnv(spec, config))
        return made[-1]

    yield make
    for env in made:
        env.close()


def alive(pid: int) -> bool:
    """Whether it runs; the dead that nobody has buried yet do not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_dead(*pids: int, limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.02)


def test_answers_as_the_environment_does(host: Host) -> None:
    env = host("Counter", seed=3)
    assert isinstance(env.action_space, spaces.Tuple)
    assert env.observation_space["image"] == spaces.Box(0, 255, (4, 6, 3), np.uint8)
    assert env.observation_space["door"] == spaces.Discrete(3)
    assert (env.task_text, env.fps, env.max_steps) == ("count to five", 10.0, 5)
    first, info = env.reset(seed=7)
    assert info["version"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    np.testing.assert_array_equal(first["count"], [7, 0])
    for step in range(1, 6):
        action = env.action_space.sample()
        observation, reward, terminated, truncated, info = env.step(action)
        np.testing.assert_array_equal(observation["count"], [7, step])
        np.testing.assert_array_equal(observation["state"], action[1]["force"])
        assert observation["door"] == action[0]
        assert (observation["image"] == step).all()
        assert (reward, terminated, truncated) == (step, step == 5, False)
        assert info.keys() == {"success", "where"}  # what is no plain data stays behind
    np.testing.assert_array_equal(first["count"], [7, 0])  # a copy, not the shared memory
    assert (env.render() == 5).all()
    np.testing.assert_array_equal(env.reset()[0]["count"], [8, 0])


def test_several_are_stepped_at_once(host: Host) -> None:
    envs = [host("Counter", seed=number) for number in range(3)]
    for number, env in enumerate(envs):
        env.begin_reset(seed=10 * number)
    for env in envs:
        env.finish_reset()
    for env in envs:
        env.begin_step(env.action_space.sample())
    assert [env.finish_step()[0]["count"].tolist() for env in envs] == [[0, 1], [10, 1], [20, 1]]


def test_close_leaves_no_process_and_no_descriptor(host: Host) -> None:
    before = len(os.listdir("/proc/self/fd"))
    env = host("Counter")
    env.close()
    env.close()
    assert not alive(env.pid)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(BadInput, match="Counter is closed"):
        env.reset()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("hang", "timeout", "was stopped in `step`: no answer within 1 s"),
        ("freeze", "timeout", "was stopped in `step`: no answer within 1 s"),
        ("raise", "raised", "RuntimeError: the simulator is unwell"),
        ("kill", "died", "killed by SIGKILL"),
        ("exit", "died", "ended with exit code 3"),
        ("leak", "memory", "env.host.memory_bytes=536870912"),
    ],
)
def test_faults_are_found_in_time_and_named(host: Host, fault: str, kind: str, words: str) -> None:
    config = HostConfig(start_s=20.0, reset_s=1.0, step_s=1.0, memory_bytes=2**29)
    if fault == "leak":
        config = HostConfig(start_s=20.0, step_s=20.0, memory_bytes=2**29)
    env = host("Faulty", config, fault=fault)
    env.reset()
    with pytest.raises(HostedEnvError, match=words) as caught:
        env.step(np.zeros(1, np.float32))
    assert caught.value.kind == kind
    assert not alive(env.pid)


def test_the_last_lines_of_its_output_are_in_the_error(host: Host) -> None:
    env = host("Faulty", fault="raise")
    env.reset()
    with pytest.raises(HostedEnvError) as caught:
        env.step(np.zeros(1, np.float32))
    assert len(caught.value.tail) == 50
    assert "line 199" in caught.value.tail
    assert "RuntimeError: the simulator is unwell" in str(caught.value)
    env = host("Faulty", fault="exit")
    env.reset()
    with pytest.raises(HostedEnvError) as caught:
        env.step(np.zeros(1, np.float32))
    assert caught.value.tail == ("farewell",)


def test_a_slow_reset_and_a_slow_start(host: Host) -> None:
    with pytest.raises(HostedEnvError, match=r"was stopped in `reset`.*heartbeat is 0"):
        host("Faulty", fault="slow reset").reset()
    patient = host("Faulty", HostConfig(reset_s=20.0), fault="slow reset", seconds=1.2)
    patient.reset()
    with pytest.raises(HostedEnvError, match="was stopped in `make`"):
        host("Faulty", HostConfig(start_s=1.5), fault="slow start")


def test_a_stopped_heart_is_not_waited_for(host: Host) -> None:
    env = host("Faulty", HostConfig(step_s=60.0, heartbeat_s=1.5), fault="freeze")
    env.reset()
    with pytest.raises(HostedEnvError, match=r"no heartbeat for 1\.5 s"):
        env.step(np.zeros(1, np.float32))


def test_errors_that_a_person_can_mend_come_as_they_are(host: Host) -> None:
    with pytest.raises(Missing, match="There is no game") as caught:
        host("Faulty", fault="missing")
    assert caught.value.mend == "Install the game."
    with pytest.raises(Missing, match="cannot be started"):
        host("Counter", interpreter="/nowhere/python")
    env = host("Counter")
    env.reset()
    with pytest.raises(BadInput, match="cannot travel"):
        env.step(object())
    env = host("Faulty", fault="none")
    env.reset()
    for action in (object(), np.zeros(2, np.float32)):
        with pytest.raises(BadInput, match="cannot travel"):
            env.step(action)
    env.step([0.5])


def test_whatever_it_started_ends_with_it(host: Host) -> None:
    """Also children that went into a session of their own, and orphans."""
    for end in ("close", "kill"):
        env = host("Faulty", fault="grandchildren")
        children = env.reset()[1]["children"].tolist()
        assert len(children) == 2
        assert all(map(alive, children))
        if end == "close":
            env.close()
        else:
            os.kill(env.pid, signal.SIGKILL)
        await_dead(env.pid, *children)


def test_an_environment_that_will_not_close_is_ended(host: Host) -> None:
    env = host("Faulty", fault="close hangs")
    env.close()
    assert not alive(env.pid)


def test_nothing_outlives_a_host_that_was_killed() -> None:
    """Nor if it is stopped, or in the middle of a step that never ends."""
    script = f"""
import sys
from actors.hosting.config import HostConfig
from actors.hosting.hosted import HostedEnv
from actors.hosting.interpreters import interpreter
from actors.hosting.process import GuestSpec
env = HostedEnv(GuestSpec(name="x", factory={f"{GUESTS}:Faulty"!r}, arguments=dict(fault=sys.argv[1])), HostConfig())
print(env.pid, *env.reset()[1]["children"], flush=True)
env.step([0.0])
sys.stdin.read()
"""
    for fault in ("grandchildren", "freeze", "hang"):
        process = subprocess.Popen(
            [sys.executable, "-c", script, fault], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        pids = list(map(int, process.stdout.readline().split()))
        assert len(pids) == (3 if fault == "grandchildren" else 1)
        time.sleep(0.2)
        process.kill()
        process.communicate()
        await_dead(*pids)


def test_it_outlives_the_thread_that_made_it(host: Host) -> None:
    """A signal for the death of the parent, if the kernel were asked for one, would come with that of the thread."""
    made: list[HostedEnv] = []
    thread = threading.Thread(target=lambda: made.append(host("Counter")))
    thread.start()
    thread.join()
    deadline = time.monotonic() + 10.0
    while Path(f"/proc/self/task/{thread.native_id}").exists():  # Python is done with it before the kernel is
        assert time.monotonic() < deadline
        time.sleep(0.001)
    (env,) = made
    for step in range(20):
        observation = env.reset(seed=step)[0] if step == 0 else env.step(env.action_space.sample())[0]
        np.testing.assert_array_equal(observation["count"], [0, step])
        time.sleep(0.01)
    assert alive(env.pid)
    assert env.reset(seed=9)[0]["count"].tolist() == [9, 0]


def test_other_interpreters_need_only_numpy_and_msgpack(host: Host) -> None:
    """Python 3.8: that of MineRL, where it is installed."""
    try:
        python = interpreter("minerl")
    except Missing as missing:
        pytest.skip(str(missing))
    env = host("Counter", interpreter=str(python))
    assert env.reset()[1]["version"] == "3.8"
    action = env.action_space.sample()
    np.testing.assert_array_equal(env.step(action)[0]["state"], action[1]["force"])
