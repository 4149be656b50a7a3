"""Draws: a function of key and episodes alone, uniform, of contiguous steps; the newest steps; each new step once."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import Model, contents, cut, filled

from replay.config import SamplingConfig
from replay.errors import BadInput
from replay.sampling.index import EpisodeIndex
from replay.sampling.online import OnlineQueue
from replay.schema import EpisodeKey, Window

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def chi_square(counts: Counter, expected: dict) -> float:
    assert counts.keys() <= expected.keys(), "nothing impossible is drawn"
    return sum((counts[k] - n) ** 2 / n for k, n in expected.items())


@given(st.lists(lengths, min_size=1, max_size=5), st.integers(1, 12), st.booleans(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_arrival_does_not_matter(lives, length, across, order: random.Random) -> None:
    """The same episodes in chunks of another length, from other shards, in another order, after others have gone."""
    plain = filled(*(cut(f"s{i}", lengths, 7) for i, lengths in enumerate(lives)))
    mixed, cursors = EpisodeIndex(0.0), [0, 0]
    for entry in cut("gone", [40] * 9, 3):
        cursors[0] += 1
        mixed.add(0, cursors[0], entry)
    waiting = [cut(f"s{i}", lengths, 3) for i, lengths in enumerate(lives)]
    while any(waiting):
        life = order.randrange(len(lives))
        if waiting[life]:
            cursors[life % 2] += 1
            mixed.add(life % 2, cursors[life % 2], waiting[life].pop(0))
        if order.random() < 0.1 and mixed.keys("train"):
            mixed.draw((0,), 2, 1, across=across)
    mixed.drop_before(0, 9 * 14 + 1)
    assert mixed.keys("train") == plain.keys("train")
    try:
        windows = plain.draw((3, 4), 8, length, across=across).windows
    except LookupError as error:
        with pytest.raises(LookupError, match=str(error)):
            mixed.draw((3, 4), 8, length, across=across)
    else:
        assert mixed.draw((3, 4), 8, length, across=across).windows == windows


@given(lengths, st.integers(1, 9), st.integers(1, 40), st.integers(0, 20), st.booleans())
@settings(deadline=None)
def test_windows_hold_consecutive_steps(lengths, chunk_steps, length, context, across) -> None:
    """Of one episode, or of episodes that follow each other; context from the window's own episode alone."""
    index = filled(cut("s", lengths, chunk_steps))
    every = [(EpisodeKey("s", 1, e), step) for e, n in enumerate(lengths) for step in range(n)]
    try:
        drawn = index.draw((1,), 5, length, context=context, across=across)
    except LookupError:
        assert sum(lengths) < length if across else max(lengths) < length
        return
    for row, (window, steps) in enumerate(zip(drawn.windows, contents(index, drawn), strict=True)):
        missing = steps.count(None)
        there = every.index(steps[missing])
        assert steps[missing:] == every[there : there + len(steps) - missing], "consecutive"
        assert window == Window(key=steps[context][0], start=steps[context][1] - context, length=context + length)
        assert missing == max(0, -window.start)
        assert {key for key, _ in steps[missing:context]} <= {window.key}
        if not across:
            assert {key for key, _ in steps[missing:]} == {window.key}
        if context:
            assert drawn.mask is not None
            assert drawn.mask[row].tolist() == [step is not None for step in steps]
    assert context or drawn.mask is None


def test_draws_are_uniform_over_windows() -> None:
    lives = [cut("a", [3, 4, 10, 25], 4), cut("b", [2, 37], 4)]
    model, index = Model(), filled(*lives)
    for cursor, entry in enumerate(lives[0] + lives[1], 1):
        model.add(0, cursor, entry)
    for across, possible in ((False, 1 + 7 + 22 + 34), (True, 39 + 36)):
        windows = model.windows(4, 0, "train", across=across)
        counts = Counter(w for step in range(200) for w in index.draw((3, step), 50, 4, across=across).windows)
        assert len(windows) == possible
        assert chi_square(counts, dict.fromkeys(windows, 10_000 / possible)) < 120  # 99.9 %: 103 and 118


def test_no_window_touches_the_other_side_of_the_split() -> None:
    index = filled(cut("s", [5] * 60, 5), valid_share=0.3)
    sides = {split: set(index.keys(split)) for split in ("train", "valid")}
    assert len(sides["train"]) + len(sides["valid"]) == 60
    for split, keys in sides.items():
        drawn = index.draw((0,), 50, 8, split, across=True)
        assert {key for steps in contents(index, drawn) for key, _ in steps} <= keys


def test_labels_and_shards_are_chosen() -> None:
    index = filled(cut("a", [20], 8, label="expert"), cut("b", [20], 8, label="random"))
    for cursor, entry in enumerate(cut("c", [20], 8, label="expert"), 1):
        index.add(1, cursor, entry)

    def streams(**options) -> set[str]:
        return {w.key.stream for w in index.draw((0,), 64, 8, **options).windows}

    assert streams() == {"a", "b", "c"}
    assert streams(labels=frozenset({"expert"})) == {"a", "c"}
    assert streams(away=frozenset({0})) == {"c"}
    assert streams(labels=frozenset({"random", "nobody"})) == {"b"}
    assert streams() == {"a", "b", "c"}, "a shard that is back is drawn again"
    with pytest.raises(LookupError, match="there are 0"):
        index.draw((0,), 1, 8, labels=frozenset({"random"}), away=frozenset({0}))
    with pytest.raises(LookupError, match=r"no episode has 21 steps: there are 3, the longest with 20"):
        index.draw((0,), 1, 21)


def test_what_cannot_be_asked_for() -> None:
    index = filled(cut("a", [20], 8))
    for size, length, context in ((0, 1, 0), (1, 0, 0), (1, 1, -1)):
        with pytest.raises(ValueError, match="a batch of"):
            index.draw((0,), size, length, context=context)


def test_many_kinds_of_draws_cost_bounded_memory() -> None:
    index = filled(cut("a", [100], 8))
    for length in [*range(1, 60), 1]:
        index.draw((0,), 2, length)
    assert len(index._rows.columns) == 16


def test_the_newest_steps_alone() -> None:
    """Windows that start in the newest 100 steps of each shard's share; the oldest chunk counts as a whole."""
    index = EpisodeIndex(0.0, SamplingConfig(latest_steps=200))
    lives = [cut("a", [80] * 6, 8), cut("b", [80] * 6, 8)]
    for cursor, (one, other) in enumerate(zip(*lives, strict=True), 1):
        index.add(0, cursor, one)
        index.add(1, cursor, other)
        drawn = index.draw((cursor,), 20, 4) if cursor > 1 else None
        for w in drawn.windows if drawn else ():
            assert w.key.episode * 80 + w.start >= cursor * 8 - 104
    starts = Counter(w for step in range(100) for w in index.draw((step,), 20, 4).windows)
    assert min(w.key.episode * 80 + w.start for w in starts) == 480 - 104
    assert chi_square(starts, dict.fromkeys(starts, 2000 / 2 / 98)) < 280  # 99.9 % of 195
    index.draw((0,), 20, 4, away=frozenset({0}))
    assert min(w.key.episode * 80 + w.start for w in index.draw((0,), 99, 4).windows) >= 480 - 104


def test_the_newest_of_a_shard_with_many_lives() -> None:
    index = EpisodeIndex(0.0, SamplingConfig(latest_steps=3000))
    streams = [cut(f"s{i}", [40] * 50, 8) for i in range(5)]
    for cursor, entry in enumerate((e for row in zip(*streams, strict=True) for e in row), 1):
        index.add(0, cursor, entry)
    oldest = min(w.key.episode * 40 + w.start for step in range(50) for w in index.draw((step,), 20, 1).windows)
    assert oldest == 2000 - 600
    with pytest.raises(BadInput, match="latest_steps"):
        SamplingConfig(latest_steps=10, kind="prioritised")


def online(share: float) -> EpisodeIndex:
    index = EpisodeIndex(0.0, SamplingConfig(online_share=share))
    for cursor, entry in enumerate(cut("old", [50], 8), 1):
        index.add(0, cursor, entry)
    return index


@given(lengths, st.integers(1, 9), st.integers(1, 12), st.booleans())
def test_each_new_step_is_shown_once(lengths, chunk_steps, length, across) -> None:
    """Windows lie end to end; only the end of an episode overlaps with what came before."""
    queue, entries = OnlineQueue(length, across), cut("s", [*lengths, 1], chunk_steps)
    for entry in entries:
        queue.arrived(0, entry.id.seq, entry)
    queue.take((0,))
    ends = iter(queue.pop, None)
    firsts = np.cumsum([0, *(e.steps for e in entries)])
    shown = Counter(step for ref, end in ends for step in range(firsts[ref] + end - length, firsts[ref] + end))
    total, begin = sum(lengths), 0
    if across:
        assert shown == dict.fromkeys(range((total + 1) // length * length), 1)
        return
    for n in lengths:
        times = [shown[step] for step in range(begin, begin + n)]
        whole = n // length * length if n >= length else n
        assert set(times[whole:]) <= {1}
        assert sum(times) == (0 if n < length else n + (n > whole) * (whole + length - n))
        begin += n


def test_new_steps_come_once_and_soon() -> None:
    index = online(0.5)
    index.draw((0,), 4, 8)
    for cursor, entry in enumerate(cut("new", [20, 8], 8), 100):
        index.add(0, cursor, entry)
    batches = [index.draw((step,), 2, 8).windows for step in range(8)]
    first = [batch[0] for batch in batches]
    new = [EpisodeKey("new", 1, 0)] * 3 + [EpisodeKey("new", 1, 1)]
    assert [w.key for w in first[:4]] == new
    assert [w.start for w in first[:4]] == [0, 8, 12, 0], "an episode's end comes when the next one begins"
    assert len({w for batch in batches[4:] for w in batch}) > 4, "then all is drawn as ever"


def test_new_steps_of_others_are_not_shown() -> None:
    """Those held out, of other labels, or on a shard that is away."""
    index = EpisodeIndex(0.5, SamplingConfig(online_share=1.0))
    index.add_many(0, enumerate(cut("old", [50] * 9, 8, label="expert"), 1))
    options = {"labels": frozenset({"expert"}), "away": frozenset({1})}
    index.draw((0,), 4, 8, **options)
    index.add_many(0, enumerate(cut("a", [24] * 20, 8, label="expert") + cut("b", [24] * 20, 8, label="random"), 100))
    index.add_many(1, enumerate(cut("c", [24] * 20, 8, label="expert"), 1))
    index.drop(index.refs(index.keys("train")[0])[0])
    windows = [w for step in range(20) for w in index.draw((step,), 10, 8, **options).windows]
    assert {w.key.stream for w in windows[:-10]} == {"a", "old"}
    assert {w.key for w in windows} <= set(index.keys("train"))


def test_new_steps_next_to_those_held_out_are_shown() -> None:
    """Windows that run across episodes stop at one that is held out, and the rest in front of it still comes."""
    index, length = EpisodeIndex(0.3, SamplingConfig(online_share=1.0)), 16
    index.add_many(0, enumerate(cut("old", [36] * 9, 8), 1))
    index.draw((0,), 1, length, across=True)
    index.add_many(0, enumerate(cut("new", [36] * 50, 8), 100))
    windows = [w for step in range(90) for w in index.draw((step,), 1, length, across=True).windows]
    firsts = [w.key.episode * 36 + w.start for w in windows if w.key.stream == "new"]
    shown = {step for first in firsts for step in range(first, first + length)}
    train = {key.episode for key in index.keys("train") if key.stream == "new"}
    assert {step // 36 for step in shown} <= train
    assert sum(len(set(range(e * 36, e * 36 + 36)) - shown) for e in train) < length, "all but the newest few"


def test_a_draw_that_is_repeated_shows_the_same_new_steps() -> None:
    index = online(1.0)
    index.draw((0,), 4, 8)
    for cursor, entry in enumerate(cut("new", [40], 8), 100):
        index.add(0, cursor, entry)
    once = index.draw((1,), 2, 8).windows
    assert index.draw((1,), 2, 8).windows == once
    assert index.draw((2,), 2, 8).windows != once
    index.drop(index.refs(EpisodeKey("new", 1, 0))[4])
    assert all(w.start + 8 <= 32 for w in index.draw((3,), 2, 8).windows if w.key.stream == "new"), "what is left"


def test_validation_is_drawn_from_all_there_is() -> None:
    index = EpisodeIndex(0.99, SamplingConfig(online_share=1.0, latest_steps=8))
    for cursor, entry in enumerate(cut("s", [80] * 5, 8), 1):
        index.add(0, cursor, entry)
    plain = filled(cut("s", [80] * 5, 8), valid_share=0.99)
    assert index.draw((5,), 9, 8, "valid").windows == plain.draw((5,), 9, 8, "valid").windows


def test_the_numbers_stay_what_they_were() -> None:
    """Golden: runs that resume, and curves of the past, rely on these draws."""
    index = filled(*(cut(f"s{i}", [30, 64, 100], 16) for i in range(3)), valid_share=0.1)
    golden = [("s2", 2, 25), ("s2", 1, 30), ("s2", 2, 28), ("s0", 1, 35), ("s0", 2, 54), ("s0", 2, 18)]
    assert [(w.key.stream, w.key.episode, w.start) for w in index.draw((7, 1), 6, 9).windows] == golden
