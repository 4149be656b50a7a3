"""Prioritised draws: in proportion, undone by their weights, never of what is gone; hints carry priorities over."""

from __future__ import annotations

from collections import Counter

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import Model, contents, cut, filled

from replay.config import SamplingConfig
from replay.errors import BadInput
from replay.sampling.hints import MAX_HINTS, BadHints, decode_hints, encode_hints
from replay.sampling.index import EpisodeIndex
from replay.sampling.sum_tree import SumTree
from replay.schema import ChunkId, EpisodeKey, Window

KEY = EpisodeKey("s", 1, 0)


def prioritised(*lives, alpha: float = 1.0, beta: float = 0.4) -> EpisodeIndex:
    config = SamplingConfig(kind="prioritised", priority_exponent=alpha, weight_exponent=beta)
    return filled(*lives, sampling=config)


def window(start: int, length: int = 4, key: EpisodeKey = KEY) -> Window:
    return Window(key=key, start=start, length=length)


def drawn(index: EpisodeIndex, draws: int, length: int = 4, **options) -> Counter:
    keys = ((step, 5) for step in range(draws // 50))
    return Counter(w for key in keys for w in index.draw(key, 50, length, **options).windows)


def chi_square(counts: Counter, expected: dict) -> float:
    assert counts.keys() <= expected.keys(), "nothing impossible is drawn"
    return sum((counts[k] - n) ** 2 / n for k, n in expected.items())


@given(
    st.integers(1, 70),
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e6)), max_size=40),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_the_tree_finds_what_a_running_sum_finds(blocks, changes, chances) -> None:
    weights = np.zeros(blocks * 64)
    tree = SumTree(weights)
    for place, weight in changes:
        weights[place % len(weights)] = weight
        tree.refresh(np.array([place % len(weights)]))
    assert tree.total == pytest.approx(weights.sum())
    if not tree.total:
        return
    values = np.array([*chances, 1.0]) * tree.total  # 1: what rounding may come to
    places = tree.find(values)
    assert (weights[places] > 0).all()
    sums = np.cumsum(weights)
    slack = 1e-9 * tree.total
    assert (sums[places] >= values - slack).all()
    assert (sums[places] - weights[places] <= values + slack).all()


def test_the_tree_takes_many_changes_at_once() -> None:
    rng = np.random.default_rng(0)
    weights = rng.random(64**2 * 3)
    tree = SumTree(weights)
    places = rng.integers(len(weights), size=5000)
    weights[places] = rng.random(5000)
    tree.refresh(places)
    assert tree.total == SumTree(weights).total, "no error adds up"
    assert np.array_equal(tree.find(np.array([0.0])), [0])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_equal_priorities_are_uniform(alpha: float) -> None:
    """With alpha = 0 whatever the priorities are."""
    lives = [cut("a", [3, 4, 10, 25], 4), cut("b", [2, 37], 4)]
    model, index = Model(), prioritised(*lives, alpha=alpha)
    for cursor, entry in enumerate(lives[0] + lives[1], 1):
        model.add(0, cursor, entry)
    if alpha == 0:
        index.feedback([window(3, key=EpisodeKey("b", 1, 1))], np.array([100.0]))
    windows = model.windows(4, 0, "train")
    assert chi_square(drawn(index, 10_000), dict.fromkeys(windows, 10_000 / len(windows))) < 103.4  # 99.9 % of 63
    weights = index.draw((0,), 50, 4).weights
    assert weights is not None
    assert weights.dtype == np.float32
    assert (weights == 1).all()


def test_draws_are_in_proportion_and_weights_undo_it() -> None:
    index = prioritised(cut("s", [24], 8), alpha=0.5, beta=1.0)
    index.draw((0,), 1, 4)
    index.feedback([window(0), window(9), window(20)], np.array([1.0, 4.0, 16.0]))
    preferences = {s: [1, 2, 4][s // 8] for s in range(21)}
    total = sum(preferences.values())
    counts = drawn(index, 20_000)
    assert chi_square(counts, {window(s): 20_000 * p / total for s, p in preferences.items()}) < 45.3  # 99.9 % of 20
    batch = index.draw((1,), 200, 4)
    assert batch.weights is not None
    for w, weight in zip(batch.windows, batch.weights, strict=True):
        assert weight == pytest.approx(1 / preferences[w.start])


def test_the_largest_of_several_priorities_of_a_chunk_counts() -> None:
    index = prioritised(cut("s", [16], 8), beta=1.0)
    index.draw((0,), 1, 4)
    index.feedback([window(0), window(1), window(2), window(9)], np.array([1.0, 8.0, 2.0, 1.0]))
    batch = index.draw((1,), 100, 4)
    assert {w.start // 8: float(x) for w, x in zip(batch.windows, batch.weights, strict=True)} == {0: 0.125, 1: 1.0}


def test_one_of_many_chunks() -> None:
    """In a tree of several levels."""
    index = prioritised(cut("s", [8] * 500, 8))
    index.draw((0,), 1, 4)
    for episode in (0, 77, 499, 250):
        chosen = window(0, 4, EpisodeKey("s", 1, episode))
        index.feedback([chosen], np.array([1e6]))
        assert Counter(w.key for w in drawn(index, 100)).most_common(1)[0][0] == chosen.key
        index.feedback([chosen], np.array([0.0]))
        assert chosen.key not in {w.key for w in drawn(index, 500)}
    index.drop_before(0, 490)
    assert min(w.key.episode for w in drawn(index, 200)) == 489
    index.add_many(0, enumerate(cut("t", [8] * 2000, 8), 1000))
    counts = Counter(w.key.stream for w in drawn(index, 1000))
    assert counts["s"] < 30, "11 of 2011"


def test_a_new_chunk_has_the_largest_priority() -> None:
    index, entries = prioritised(cut("s", [8], 8), beta=1.0), cut("t", [8, 8], 8)
    index.draw((0,), 1, 4)
    index.feedback([window(0)], np.array([5.0]))
    index.feedback([window(0)], np.array([0.05]))
    index.add(0, 50, entries[0])
    batch = index.draw((1,), 400, 4)
    shares = {w.key.stream: round(1 / float(x)) for w, x in zip(batch.windows, batch.weights, strict=True)}
    assert shares in ({"s": 1, "t": 100}, {"t": 100}), "one hundred times as often"


def test_nothing_is_never_drawn_and_nothing_for_ever() -> None:
    index = prioritised(cut("s", [8, 8], 8))
    index.draw((0,), 1, 4)
    index.feedback([window(0), window(0, key=EpisodeKey("s", 1, 1))], np.array([0.0, 0.0]))
    assert {w.key.episode for w in index.draw((1,), 64, 4).windows} == {0, 1}
    index.feedback([window(0)], np.array([1e300]))
    batch = index.draw((2,), 64, 4)
    assert np.isfinite(batch.weights).all()
    assert (batch.weights > 0).all()


def test_context_is_left_aside() -> None:
    """A window with context is about the chunk in which its own steps start."""
    index = prioritised(cut("s", [24], 8), beta=1.0)
    index.draw((0,), 1, 4, context=6)
    index.feedback([window(3, length=10), window(-6, length=10)], np.array([10.0, 1.0]))
    counts = Counter((w.start + 6) // 8 for w in index.draw((1,), 1000, 4, context=6).windows)
    assert counts[1] > 5 * counts[0]
    assert counts[1] > counts[2]


@pytest.mark.parametrize("bad", [[np.nan], [-1.0], [np.inf], [1.0, 2.0], [[1.0]], []])
@pytest.mark.parametrize("kind", ["uniform", "prioritised"])
def test_priorities_that_cannot_be(bad: list, kind: str) -> None:
    index = filled(cut("s", [8], 8), sampling=SamplingConfig(kind=kind))
    with pytest.raises(BadInput, match="priorit"):
        index.feedback([window(0)], np.array(bad))


def test_feedback_on_what_is_gone_is_ignored() -> None:
    index = prioritised(cut("s", [24, 8], 8))
    index.draw((0,), 1, 4)
    index.drop(index.refs(KEY)[1])
    gone = [window(8), window(99), window(0, key=EpisodeKey("nobody", 1, 0)), window(0, key=EpisodeKey("s", 1, 7))]
    index.feedback(gone, np.ones(4))
    assert index.take_hints() == {}
    assert filled(cut("s", [8], 8)).feedback([window(0)], np.ones(1)) is None, "uniform draws have no use for it"


@given(st.lists(st.tuples(st.sampled_from("aaaaaaaweedfww"), st.integers(0, 10**6)), min_size=20, max_size=80))
@settings(deadline=None)
def test_any_history_leaves_the_right_preferences(acts) -> None:
    """After any order of arrivals, evictions, losses and feedback, the weights tell each chunk's priority."""
    index, priorities, largest = prioritised(beta=1.0), {}, 1.0
    waiting, cursor = [cut(f"s{i}", [9, 21, 4, 13] * 3, 5) for i in range(2)], 0
    for act, number in acts:
        chunks = [ref for key in index.keys("train") for ref in index.refs(key)]
        if act == "a" and waiting[number % 2]:
            cursor += 1
            priorities[waiting[number % 2][0].id] = largest
            index.add(0, cursor, waiting[number % 2].pop(0))
        elif act == "e":
            index.drop_before(0, cursor - number % 9)
        elif act == "d" and chunks:
            index.drop(chunks[number % len(chunks)])
        elif act == "f" and chunks:
            entry, priority = index.entry(chunks[number % len(chunks)]), float(1 + number % 7)
            index.feedback([window(entry.first_step, 3, entry.episode_key)], np.array([priority]))
            priorities[entry.id], largest = priority, max(largest, priority)
        stored = {ref: index.entry(ref) for key in index.keys("train") for ref in index.refs(key)}
        try:
            batch = index.draw((number,), 40, 3) if act == "w" else None
        except LookupError:
            continue
        if batch is None:
            continue
        expected = []
        for w, steps in zip(batch.windows, contents(index, batch), strict=True):
            assert steps == [(w.key, w.start + i) for i in range(3)]
            (entry,) = (e for e in stored.values() if e.episode_key == w.key and 0 <= w.start - e.first_step < e.steps)
            expected.append(1 / priorities[entry.id])
        assert batch.weights == pytest.approx(np.array(expected) / max(expected), rel=1e-5)


def test_evicted_chunks_are_never_drawn() -> None:
    """In a stretch that is full over and over, its rows moving."""
    index = prioritised()
    for cursor, entry in enumerate(cut("s", [40] * 200, 8), 1):
        index.add(0, cursor, entry)
        index.drop_before(0, cursor - 30)
        if cursor > 10:
            stored = set(index.keys("train"))
            windows = index.draw((cursor,), 8, 12).windows if cursor % 3 else ()
            assert {w.key for w in windows} <= stored
            index.feedback(windows, np.full(len(windows), 1.0 + cursor % 5))


def test_shards_that_are_away_are_not_drawn() -> None:
    index = prioritised(cut("a", [40], 8))
    for cursor, entry in enumerate(cut("b", [40], 8), 1):
        index.add(1, cursor, entry)
    assert {w.key.stream for w in index.draw((0,), 64, 8).windows} == {"a", "b"}
    for away, left in (({0}, "b"), ({1}, "a")):
        assert {w.key.stream for w in index.draw((0,), 64, 8, away=frozenset(away)).windows} == {left}
    with pytest.raises(LookupError):
        index.draw((0,), 4, 8, away=frozenset({0, 1}))
    assert {w.key.stream for w in index.draw((0,), 64, 8).windows} == {"a", "b"}


def test_new_steps_go_along_with_priorities() -> None:
    config = SamplingConfig(kind="prioritised", online_share=0.25)
    index = filled(cut("old", [80], 8), sampling=config)
    index.draw((0,), 8, 8)
    for cursor, entry in enumerate(cut("new", [16], 8), 100):
        index.add(0, cursor, entry)
    batch = index.draw((1,), 8, 8)
    assert [w.key.stream for w in batch.windows[:2]] == ["new", "new"]
    assert batch.weights is not None
    assert batch.weights.shape == (8,)
    assert (batch.weights[:2] == 1).all()


def test_hints_tell_other_learners() -> None:
    lives = [cut("s", [24], 8), cut("t/u", [8], 8)]
    one, other = prioritised(*lives, beta=1.0), prioritised(*lives, beta=1.0)
    one.draw((0,), 1, 4)
    one.feedback([window(0), window(9), window(0, key=EpisodeKey("t/u", 1, 0))], np.array([1.0, 4.0, 2.0]))
    payloads = one.take_hints()
    assert payloads.keys() == {0}
    assert one.take_hints() == {}
    other.give_hints(payloads[0])
    a, b = one.draw((1,), 50, 4), other.draw((1,), 50, 4)
    assert a.windows == b.windows
    assert np.array_equal(a.weights, b.weights)
    one.feedback([window(0)], np.array([3.0]))
    one.give_hints(payloads[0])
    assert not np.array_equal(one.draw((1,), 50, 4).weights, b.weights), "its own hints are no news"
    unknown = encode_hints("x", {ChunkId("nobody", 1, 0): 3.0, ChunkId("s", 1, 99): 1.0})
    other.give_hints(unknown)
    assert other.malformed_hints == 0


def test_hints_are_bounded() -> None:
    index = prioritised(cut("s", [2] * (MAX_HINTS + 10), 2))
    index.draw((0,), 1, 2)
    windows = [window(0, 2, EpisodeKey("s", 1, e)) for e in range(MAX_HINTS + 10)]
    index.feedback(windows, np.ones(len(windows)))
    sender, hints = decode_hints(index.take_hints()[0])
    assert len(hints) == MAX_HINTS
    assert ChunkId("s", 1, MAX_HINTS + 9) in hints
    with pytest.raises(ValueError, match="more than"):
        encode_hints(sender, dict.fromkeys((ChunkId("s", 1, i) for i in range(MAX_HINTS + 1)), 1.0))


ids = st.builds(ChunkId, st.text(), st.integers(0, 2**31), st.integers(0, 2**31))


@given(st.text(), st.dictionaries(ids, st.floats(0, 1e300), max_size=20))
def test_hints_round_trip(sender: str, hints: dict) -> None:
    assert decode_hints(encode_hints(sender, hints)) == (sender, hints)


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(msgpack.packb))
def test_malformed_hints_are_counted(payload: bytes) -> None:
    index = prioritised(cut("s", [8], 8))
    index.give_hints(payload)
    try:
        decode_hints(payload)
    except BadHints:
        assert index.malformed_hints == 1
    else:
        assert index.malformed_hints == 0


@pytest.mark.parametrize(
    "value", [["me", [["s/1/0", -1.0]]], ["me", [["s/1/0", float("nan")]]], ["me", [["s/1", 1.0]]], ["me", [["s/1/0"]]]]
)
def test_hints_of_the_wrong_kind(value: list) -> None:
    with pytest.raises(BadHints):
        decode_hints(msgpack.packb(value))
    with pytest.raises(BadHints, match="bytes"):
        decode_hints(bytes(2**21))
