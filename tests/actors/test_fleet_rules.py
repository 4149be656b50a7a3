"""What a fleet decides without looking at a process: when to try again, who stands still, what is no setting."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from fleet_kit import RANDOM, env_of
from hypothesis import given
from hypothesis import strategies as st

from actors.envs.registry import EnvConfig
from actors.fleet import FleetConfig, Member, Work
from actors.fleet.actor import Progress
from actors.fleet.pulse import WINDOW_S, Pulse
from actors.fleet.slot import Job, Slot
from actors.hosting.config import HostConfig
from actors.sources.source import SourceConfig
from replay.errors import BadInput


def progress(steps: int, **told: Any) -> Progress:
    return Progress(steps=steps, version=-1, doing="", **told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runners", 0),
        ("quarantine_after", 0),
        ("stall_s", 0.0),
        ("call_timeout_s", -1.0),
        ("backoff_s", -0.1),
        ("max_restarts", -2),
        ("max_retries", -1),
    ],
)
def test_settings_that_cannot_be_right(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=rf"fleet\.{name} is {value}"):
        FleetConfig(**{name: value})


def test_a_member_without_runners() -> None:
    with pytest.raises(BadInput, match="has 0 runners"):
        Member(env=env_of("counting/5"), run="r", runners=0)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_pauses_double_up_to_a_limit(failures: int, luck: float) -> None:
    config = FleetConfig(backoff_s=1.0, backoff_limit_s=60.0)
    longest = min(60.0, 2.0 ** min(failures - 1, 10))
    pause = config.backoff(failures, luck)
    assert longest / 2 <= pause <= longest
    assert pause <= config.backoff(failures + 1, luck)
    assert config.backoff(1, 0.999) < 1.0  # so that one that failed once is back within seconds


def test_who_stands_still() -> None:
    pulse = Pulse()
    pulse.note(progress(0), 100.0)
    pulse.begin(100.0)
    pulse.note(progress(0), 105.0)
    assert (pulse.still_s(105.0), pulse.stepped) == (5.0, False)
    pulse.note(progress(3), 106.0)
    assert (pulse.still_s(107.0), pulse.stepped) == (1.0, True)
    pulse.note(progress(3), 110.0)
    assert pulse.still_s(110.0) == 4.0
    pulse.note(progress(3, failures={"env_died": 1}), 111.0)  # another environment is being made
    assert pulse.still_s(111.0) == 0.0
    pulse.note(progress(3, failures={"env_died": 1}), 115.0)
    pulse.note(progress(3, failures={"env_died": 1}, storing=True), 116.0)  # the replay makes it wait
    assert pulse.still_s(117.0) == 1.0
    pulse.overlook(600.0)  # nobody asked: that proves nothing
    assert pulse.still_s(717.0) == 1.0


@given(st.lists(st.tuples(st.floats(0.1, 5.0), st.integers(0, 1000)), min_size=1, max_size=100))
def test_rates_are_those_of_the_last_half_minute(looks: list[tuple[float, int]]) -> None:
    pulse, now, steps = Pulse(), 0.0, 0
    seen = [(now, steps)]
    pulse.note(progress(0), now)
    for seconds, more in looks:
        now, steps = now + seconds, steps + more
        pulse.note(progress(steps), now)
        seen.append((now, steps))
    begin = next(look for look, later in pairwise(seen) if later[0] >= now - WINDOW_S)
    assert pulse.steps_per_s(now) == pytest.approx((steps - begin[1]) / (now - begin[0]))
    assert pulse.steps_per_s(now + WINDOW_S + 1) == 0.0  # nothing has been heard for so long


def test_waiting_for_the_replay_is_no_time_of_a_piece_of_work() -> None:
    slot = Slot(index=0, place=0, member=Member(env=env_of("counting/5"), run="r"), reserved=True)
    slot.note(progress(0), 5.0)
    slot.job = Job(work=Work(policy=RANDOM, numbers=(0,)), owner=0, begun_s=10.0)
    slot.note(progress(1, storing=True), 11.0)
    slot.note(progress(1, storing=True), 311.0)
    slot.note(progress(2), 312.0)
    slot.note(progress(3), 320.0)
    assert slot.job.taken_s(320.0) == 9.0


def test_making_and_resetting_environments_may_take_their_time() -> None:
    member = Member(env=env_of("counting/5"), run="r")  # start_s=1, reset_s=1
    slot = Slot(index=0, place=0, member=member, reserved=True)
    assert slot.stall_limit_s(120.0, 0.0) == 121.0
    slot.pulse.note(progress(1), 0.0)
    assert slot.stall_limit_s(120.0, 0.0) == 120.0
    assert slot.stall_limit_s(0.5, 0.0) == 1.0


def test_a_source_elsewhere_may_take_as_long_as_it_is_allowed_to() -> None:
    """In the middle of an episode too: its server came back, and compiles again."""
    env = EnvConfig(task="counting/5", host=HostConfig(start_s=1.0, reset_s=1.0))
    for kind, limit_s in (("openpi", 615.0), ("lerobot", 615.0), ("scripted", 60.0), ("", 60.0)):
        source = SourceConfig(kind=kind, first_timeout_s=600.0, connect_timeout_s=5.0)
        slot = Slot(index=0, place=0, member=Member(env=env, run="r", source=source), reserved=True)
        slot.pulse.note(progress(1), 0.0)
        assert slot.stall_limit_s(60.0, 0.0) == limit_s
    assert slot.stall_limit_s(900.0, 0.0) == 900.0


def test_one_that_is_made_again_may_take_as_long_as_the_first() -> None:
    """The others may be at their ends, and wait for it: 300 s to be made, 120 s to begin."""
    env = EnvConfig(task="counting/5", host=HostConfig(start_s=300.0, reset_s=120.0))
    slot = Slot(index=0, place=0, member=Member(env=env, run="r"), reserved=True)
    slot.pulse.note(progress(1), 0.0)
    slot.pulse.note(progress(1, failures={"env_died": 1}), 10.0)
    slot.pulse.note(progress(5, failures={"env_died": 1}), 20.0)
    for now, still in ((400.0, False), (429.0, False), (431.0, True)):
        assert (slot.pulse.still_s(now) > slot.stall_limit_s(60.0, now)) == still
    slot.pulse.overlook(100.0)
    assert slot.pulse.still_s(529.0) <= slot.stall_limit_s(60.0, 529.0)
    slot.pulse.note(progress(6, failures={"env_died": 1}), 600.0)
    assert slot.stall_limit_s(60.0, 600.0) == 120.0
