"""Neither side leaves the band, neither waits for the other for ever, and a crash forgets no count."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_cases import SPEC, make_episodes, make_steps, write

from replay.config import LimiterConfig, ReplayConfig
from replay.errors import BadInput, TryAgain
from replay.schema import ChunkId, Entry
from replay.shards.commit import Pace
from replay.shards.limiter import Held, Limiter
from replay.shards.shard import Shard
from replay.sources.limited import LimitedSource
from replay.sources.memory import MemorySource
from replay.writing.writer import ReplayWriter

MOVES = st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=60)


@st.composite
def limiters(draw: st.DrawFn, chunk: int = 8, batch: int = 32) -> LimiterConfig:
    ratio = draw(st.floats(0.05, 8))
    need = max(2 * max(1.0, ratio), ratio * chunk, batch)
    return LimiterConfig(
        samples_per_insert=ratio,
        min_steps=draw(st.integers(1, 40)),
        slack_steps=int(need) + 1 + draw(st.integers(0, 20)),
    )


def within(config: LimiterConfig, inserted: int, sampled: int) -> bool:
    error = Limiter(config).error(inserted, sampled)
    return -config.slack_steps <= error <= config.slack_steps or (inserted <= config.min_steps and not sampled)


@given(limiters(), MOVES)
def test_the_error_stays_within_the_band(config: LimiterConfig, moves: list[tuple[bool, int]]) -> None:
    limiter, inserted, sampled = Limiter(config), 0, 0
    for insert, size in moves:
        if insert:
            inserted += size * limiter.may_insert(inserted, sampled, size).ok
        else:
            sampled += 4 * size * limiter.may_sample(inserted, sampled, 4 * size).ok
        assert within(config, inserted, sampled)


@given(limiters(), MOVES, st.integers(1, 8), st.integers(1, 32))
def test_one_side_can_always_go_on(config: LimiterConfig, moves: list, chunk: int, batch: int) -> None:
    limiter, inserted, sampled = Limiter(config), 0, 0
    limiter.check(chunk, batch)
    for insert, _ in moves:
        can_insert = limiter.may_insert(inserted, sampled, chunk)
        can_sample = limiter.may_sample(inserted, sampled, batch)
        assert can_insert.ok or can_sample.ok
        if can_insert.ok and (insert or not can_sample.ok):
            inserted += chunk
        else:
            sampled += batch


def test_who_is_behind_is_said() -> None:
    limiter = Limiter(LimiterConfig(samples_per_insert=2, min_steps=100, slack_steps=50))
    assert limiter.may_insert(0, 0, 100).ok
    assert limiter.may_insert(100, 0, 25).ok
    assert limiter.may_insert(100, 0, 26).reason == (
        "learners are behind: 0 steps sampled, 100 inserted, 2 samples per insert after the first 100; the slack is "
        "50 steps, 26 more would be 52"
    )
    assert limiter.may_sample(99, 0, 1).reason == "99 steps are stored so far; sampling begins at 100"
    assert limiter.may_sample(100, 0, 50).ok
    assert "actors are behind" in limiter.may_sample(100, 0, 51).reason
    off = Limiter(LimiterConfig())
    assert off.may_sample(0, 10**9, 1).ok
    assert off.may_insert(10**9, 0, 1).ok


def test_a_band_too_narrow_is_refused() -> None:
    narrow = LimiterConfig(samples_per_insert=4, slack_steps=255)
    with pytest.raises(BadInput, match="slack_steps to 256 or more"):
        Limiter(narrow).check(64)
    with pytest.raises(BadInput, match="1024 or more"):
        Limiter(narrow).check(8, 1024)
    Limiter(LimiterConfig(slack_steps=2)).check(64, 1024)


def entry(seq: int, steps: int) -> Entry:
    return Entry(id=ChunkId("s", 1, seq), episode=0, first_step=0, steps=steps, source="", policy_version=0, checksum=0)


def refusal(act: Callable[[], object]) -> str:
    try:
        act()
    except Held as held:
        return str(held)
    return ""


@settings(max_examples=40, deadline=None)
@given(limiters(), MOVES, st.integers(0, 20))
def test_redis_decides_as_the_formula_does(redis_url: str, config: LimiterConfig, moves: list, elsewhere: int) -> None:
    shard = Shard(redis_url, f"limits-{hash((config, tuple(moves), elsewhere)) & 0xFFFFFFFF}", 5, 5)
    pace, limiter, drawn, seq = Pace(config=config, elsewhere=elsewhere), Limiter(config), [0, 0], 0
    for insert, size in moves:
        inserted, sampled = shard.counters().get("inserted_steps", 0) + elsewhere, sum(shard.sampled().values())
        if insert:
            expected = limiter.may_insert(inserted, sampled, size)
            said = refusal(lambda: shard.commit(entry(seq, size), b"", 2**20, pace=pace))  # noqa: B023
            seq += expected.ok
        else:
            expected, who = limiter.may_sample(inserted, sampled, 4 * size), size % 2
            said = refusal(lambda: shard.draw(f"learner{who}", drawn[who] + 4 * size, pace))  # noqa: B023
            drawn[who] += 4 * size * expected.ok
        assert said == expected.reason
    assert sum(shard.sampled().values()) == sum(drawn)
    shard.evict(10**9)


CONFIG = LimiterConfig(samples_per_insert=2, min_steps=16, slack_steps=32, stall_s=0.3)


def source_of(config: ReplayConfig, run: str) -> LimitedSource:
    return LimitedSource(MemorySource(SPEC, make_episodes("s", [40] * 40)), config, run)


def limited(config: ReplayConfig, limiter: LimiterConfig = CONFIG) -> ReplayConfig:
    return ReplayConfig(url=config.url, chunk_steps=8, limiter=limiter)


def test_a_writer_waits_for_the_learners_and_gives_up_in_time(config: ReplayConfig, run: str, caplog) -> None:
    config = limited(config)
    writer = ReplayWriter(config, run, "s", SPEC)
    with pytest.raises(TryAgain, match=r"waited for 0.* learners are behind: 0 steps sampled, 32 inserted") as raised:
        write(writer, make_steps(100))
    assert "learners train" in raised.value.mend
    assert (writer.acknowledged, writer.waiting_chunks) == (32, 1)
    source = source_of(config, run)
    source.begin(0, 1, 0, lambda reason: None)
    source.batch((0,), 2, 8)
    source.take(source.drawn, lambda reason: None)
    writer.flush()
    assert writer.acknowledged == 40, "as many as the 16 sampled steps allow"


def test_a_learner_waits_for_the_actors_and_gives_up_in_time(config: ReplayConfig, run: str) -> None:
    config, said = limited(config), []
    source = source_of(config, run)
    with pytest.raises(TryAgain, match="0 steps are stored so far; sampling begins at 16"):
        source.begin(0, 1, 0, said.append)
    assert set(said) == {"waits for the limiter: 0 steps are stored so far; sampling begins at 16"}
    write(ReplayWriter(config, run, "s", SPEC), make_steps(16))
    source.begin(0, 1, 0, said.append)
    for step in range(2):
        source.batch((step,), 2, 8)
        assert source.take(source.drawn, said.append) < 0.3
    source.batch((2,), 1, 8)
    with pytest.raises(TryAgain, match="actors are behind: 32 steps sampled, 16 inserted"):
        source.take(source.drawn, said.append)
    with pytest.raises(BadInput, match="slack_steps to 64"):
        source.batch((3,), 8, 8)


def test_validation_and_other_draws_do_not_count(config: ReplayConfig, run: str) -> None:
    source = source_of(limited(config), run)
    source.batch((0,), 2, 8, split="valid")
    source.source.batch((0,), 2, 8)
    assert source.drawn == 0
    source.batch((0,), 2, 8, context=4)
    assert source.drawn == 16


def test_both_sides_at_once_end_together(config: ReplayConfig, run: str) -> None:
    config = limited(config, LimiterConfig(samples_per_insert=2, min_steps=16, slack_steps=32, stall_s=30))
    source = source_of(config, run)

    def learn() -> None:
        source.begin(0, 1, 0, lambda reason: None)
        for step in range(60):
            source.batch((step,), 2, 8)
            source.take(source.drawn, lambda reason: None)

    thread = threading.Thread(target=learn)
    thread.start()
    writer = ReplayWriter(config, run, "s", SPEC)
    write(writer, make_steps(496))
    writer.flush()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert source.drawn == 960 == 2 * (496 - 16)


def test_a_learner_that_resumes_goes_on_with_its_own_count(config: ReplayConfig, run: str) -> None:
    """Neither from zero nor with what was drawn after its checkpoint; and in a group of another size."""
    config = limited(config)
    write(ReplayWriter(config, run, "s", SPEC), make_steps(32))
    shard = Shard(config.url, run, 5, 5)
    first = source_of(config, run)
    first.begin(0, 1, 0, lambda reason: None)
    for _ in range(3):
        first.batch((0,), 2, 8)
        first.take(first.drawn, lambda reason: None)
    assert shard.sampled() == {"learner0of1": 48}
    again = source_of(config, run)
    again.begin(0, 1, 32, lambda reason: None)
    assert shard.sampled() == {"learner0of1": 32}
    pair = [source_of(config, run), source_of(config, run)]
    for rank, source in enumerate(pair):
        source.begin(rank, 2, 16, lambda reason: None)
    assert shard.sampled() == {"learner0of1": 0, "learner0of2": 16, "learner1of2": 16}


def test_several_shards_share_a_count(served, config: ReplayConfig, run: str) -> None:
    config = limited(ReplayConfig(url=f"{config.url},{served().start()}"))
    source = source_of(config, run)
    for stream in range(8):
        write(ReplayWriter(config, run, f"s{stream}", SPEC), make_steps(4))
    source.begin(0, 1, 0, lambda reason: None)
    shards = source._router.shards
    assert min(s.counters().get("inserted_steps", 0) for s in shards) > 0
    source.batch((0,), 4, 8)
    source.take(source.drawn, lambda reason: None)
    assert [s.sampled() for s in shards] == [{"learner0of1": 32}] * 2


def both_sides(source: LimitedSource, writer: ReplayWriter, updates: int, steps: int) -> None:
    """The learner's `updates` of 16 steps each, while the actor inserts an episode of `steps`."""
    failed: list[BaseException] = []

    def learn() -> None:
        try:
            for step in range(updates):
                source.batch((step,), 2, 8)
                source.take(source.drawn, lambda reason: None)
        except TryAgain as error:
            failed.append(error)

    thread = threading.Thread(target=learn)
    thread.start()
    try:
        write(writer, make_steps(steps))
        writer.flush()
    finally:
        thread.join()
    assert failed == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_server_that_lost_its_counts_holds_nobody_up(served, config: ReplayConfig, restarted: bool) -> None:
    """What was sampled is counted as far as the steps that are left allow it, also by a learner that resumes."""
    server = served()
    limiter = LimiterConfig(samples_per_insert=2, min_steps=16, slack_steps=32, stall_s=8)
    config = replace(limited(config, limiter), url=server.start(), on_loss="continue")
    source, writer = source_of(config, "r"), ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(16))
    source.begin(0, 1, 0, lambda reason: None)
    both_sides(source, writer, updates=20, steps=160)
    server.stop()
    for path in server.directory.glob("*.aof"):
        path.unlink()
    served().start()
    if restarted:
        again = source_of(config, "r")
        write(writer, make_steps(16))
        again.begin(0, 1, source.drawn, lambda reason: None)
        source = again
    both_sides(source, writer, updates=20, steps=176)
    assert source.drawn == 640, "for learners it is one count"
    shard = Shard(config.url, "r", 5, 5)
    assert within(limiter, shard.counters()["inserted_steps"], sum(shard.sampled().values()))


def test_who_stops_at_a_loss_counts_on(served, config: ReplayConfig) -> None:
    """The data may come back."""
    server = served()
    config = replace(limited(config, replace(CONFIG, stall_s=4)), url=server.start())
    source, writer = source_of(config, "r"), ReplayWriter(config, "r", "s", SPEC)
    write(writer, make_steps(40))
    source.begin(0, 1, 0, lambda reason: None)
    for step in range(4):
        source.batch((step,), 2, 8)
        source.take(source.drawn, lambda reason: None)
    server.stop()
    for path in server.directory.glob("*.aof"):
        path.unlink()
    served().start()
    source.batch((4,), 2, 8)
    with pytest.raises(TryAgain, match="sampling begins at 16"):
        source.take(source.drawn, lambda reason: None)


def test_what_a_shard_that_is_away_had_taken_counts(served, config: ReplayConfig, run: str, tmp_path: Path) -> None:
    """Also for a learner that starts meanwhile."""
    other = served(tmp_path / "other")
    limiter = replace(CONFIG, min_steps=32, stall_s=8)
    config = replace(limited(config, limiter), url=f"{config.url},{other.start()}")
    for stream in range(12):
        write(ReplayWriter(config, run, f"s{stream}", SPEC), make_steps(4))
    first = source_of(config, run)
    first.begin(0, 1, 0, lambda reason: None)
    here, there = (shard.counters().get("inserted_steps", 0) for shard in first._router.shards)
    assert (min(here, there) > 0, here + there) == (True, 48)
    for step in range(2):
        first.batch((step,), 2, 8)
        first.take(first.drawn, lambda reason: None)
    other.stop()
    again = source_of(config, run)
    again.begin(0, 1, first.drawn, lambda reason: None)
    for step in range(2, 4):  # 64 steps: as many as all inserted ones allow
        again.batch((step,), 2, 8)
        again.take(again.drawn, lambda reason: None)
    again.batch((4,), 1, 8)
    with pytest.raises(TryAgain, match="64 steps sampled, 48 inserted"):
        again.take(again.drawn, lambda reason: None)


def test_off_costs_nothing() -> None:
    """No connection, no waiting: the address does not exist."""
    source = source_of(ReplayConfig(url="unix:///nowhere/redis.sock"), "r")
    source.begin(0, 1, 5, lambda reason: None)
    source.batch((0,), 2, 8)
    assert source.take(source.drawn, lambda reason: None) < 0.1
    assert source.drawn == 21
