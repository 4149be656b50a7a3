"""The index offers what is stored, whatever comes and goes, and stays as small as that."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_cases import Model, cut, filled, numbers

from replay.errors import BadInput
from replay.sampling.index import EpisodeIndex
from replay.schema import ChunkId, EpisodeKey

KEY = EpisodeKey("s", 1, 0)

lives = st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=6), min_size=1, max_size=4)
# An act: what, and a number that says on what. Most of them add the next chunk of a life, some leave one out.
acts = st.lists(st.tuples(st.sampled_from("aaaaaaxxgedxcdxx"), st.integers(0, 10**6)), min_size=15, max_size=120)


def play(lives, acts, chunk_steps: int, draw: Callable[[EpisodeIndex, Model], None] = lambda *_: None):
    """An index and a model after the same history, and the handles of all chunks that there ever were. Now and then
    something is drawn."""
    model, index = Model(valid_share=0.3), EpisodeIndex(valid_share=0.3)
    waiting = [cut(f"s{i}", lengths, chunk_steps, label="ab"[i % 2]) for i, lengths in enumerate(lives)]
    shards, cursors, ever = [i % 3 for i in range(len(lives))], [0, 0, 0], {}
    for act, number in acts:
        life = number % len(lives)
        shard = shards[life]
        if act in "ag" and waiting[life]:
            entry = waiting[life].pop(0)
            if act == "a":
                cursors[shard] += 1
                index.add(shard, cursors[shard], entry)
                index.add(shard, cursors[shard], entry)  # once more changes nothing
                model.add(shard, cursors[shard], entry)
            else:
                model.broken.add(entry.episode_key)
        elif act == "e":
            index.drop_before(shard, cursors[shard] - number % 7)
            model.drop_before(shard, cursors[shard] - number % 7)
        elif act == "d" and model.episodes:
            key = sorted(model.episodes)[number % len(model.episodes)]
            entries = model.entries(key)
            index.drop(index.refs(key)[number % len(entries)])
            model.drop(entries[number % len(entries)])
        elif act == "c" and number % 5 == 0:
            index.clear(shard)
            model.clear(shard)
        elif act == "x":
            draw(index, model)
        for key in model.episodes:
            ever |= dict(zip(index.refs(key), model.entries(key), strict=True))
    return index, model, ever


@given(lives, acts, st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_it_offers_what_is_stored(lives: list[list[int]], acts: list[tuple[str, int]], chunk_steps: int) -> None:
    index, model, ever = play(lives, acts, chunk_steps)
    stored = [entry for key in model.episodes for entry in model.entries(key)]
    assert (index.chunks, index.steps) == (len(stored), sum(e.steps for e in stored))
    for split in ("train", "valid"):
        assert list(index.keys(split)) == model.keys(split)
        for key in model.keys(split):
            assert [index.entry(ref) for ref in index.refs(key)] == model.entries(key)
            assert {index.shard(ref) for ref in index.refs(key)} == {model.episodes[key][0][0]}
    offered = {ref for key in model.episodes for ref in index.refs(key)}
    for ref, entry in ever.items():
        if ref in offered:
            assert index.entry(ref) == entry, "a handle names one chunk"
        else:
            with pytest.raises(KeyError):
                index.entry(ref)


@given(lives, acts, st.integers(1, 7), st.integers(1, 12), st.booleans(), st.integers(0, 5))
@settings(max_examples=300, deadline=None)
def test_it_draws_from_what_is_stored(lives, acts, chunk_steps, length, across, away) -> None:
    """The windows are those of the model, at any time, whatever was drawn before."""

    def draw(index: EpisodeIndex, model: Model) -> None:
        for split, labels, gone in (
            ("train", None, ()),
            ("train", {"a"}, ()),
            ("train", None, {away}),
            ("valid", None, ()),
        ):
            options = {"across": across, "labels": labels and frozenset(labels), "away": frozenset(gone)}
            windows = model.windows(length, 3, split, **options)
            if windows:
                drawn = index.draw((1,), 6, length, split, context=3, **options)
                assert list(drawn.windows) == [windows[n] for n in numbers((1,), len(windows), 6)]
            else:
                with pytest.raises(LookupError):
                    index.draw((1,), 6, length, split, context=3, **options)

    index, model, _ = play(lives, acts, chunk_steps, draw)
    draw(index, model)


def test_a_gap_ends_an_episode() -> None:
    entries = cut("s", [40], 8)
    index = filled([e for e in entries if e.id.seq != 2])
    assert [index.entry(ref).id.seq for ref in index.refs(KEY)] == [0, 1]
    assert (index.steps, index.chunks, index.cursor(0)) == (16, 2, 4)
    other = filled([e for e in cut("s", [8, 24], 8) if e.id.seq != 1])
    assert other.chunks == 1, "nor does a chunk of another episode follow"
    index.drop(index.refs(KEY)[1])
    assert index.steps == 8
    index.add(0, 5, entries[2])
    assert index.steps == 8, "nothing follows a chunk that is lost"


def test_an_episode_without_its_beginning_is_gone() -> None:
    index = filled(cut("s", [16, 8], 8))
    index.drop_before(0, 2)
    assert index.keys("train") == (EpisodeKey("s", 1, 1),)
    index.drop_before(0, 99)
    assert (index.keys("train"), index.steps, index.chunks) == ((), 0, 0)
    with pytest.raises(KeyError, match=r"s/1/e0"):
        index.refs(KEY)


def test_a_life_that_lost_everything_goes_on() -> None:
    entries = cut("s", [24, 8], 8)
    index = filled(entries[:1])
    index.drop_before(0, 2)
    for cursor, entry in enumerate(entries[1:], 2):
        index.add(0, cursor, entry)
    assert index.keys("train") == (EpisodeKey("s", 1, 1),), "from its next episode on"
    index.drop_before(0, 9)
    index.add(0, 6, cut("t", [8], 8)[0])
    index.drop_before(0, 9)
    assert index.chunks == 0, "what was evicted before it was read is forgotten too"


def test_the_version_tells_of_every_change() -> None:
    index, entries = EpisodeIndex(), cut("s", [24, 8], 8)
    versions = [index.version]
    for cursor, entry in enumerate(entries, 1):
        index.add(0, cursor, entry)
        versions.append(index.version)
    index.drop(index.refs(KEY)[2])
    versions.append(index.version)
    index.drop_before(0, 2)
    versions.append(index.version)
    assert len(set(versions)) == len(versions)
    index.drop_before(0, 2)
    index.drop_before(0, 1)
    index.add(0, 1, entries[0])
    assert index.version == versions[-1]


def test_chunks_are_named_by_their_content() -> None:
    lives = [cut(f"s{i}", [16] * 200, 8, incarnation=n) for i in range(5) for n in (1, 2)]
    one, other = filled(*lives), filled(*reversed(lives))
    names = {}
    for key in one.keys("train"):
        for a, b in zip(one.refs(key), other.refs(key), strict=True):
            name = one.keys128(np.array([a])).tobytes()
            assert name == other.keys128(np.array([b])).tobytes()
            names[name] = one.entry(a).id
    assert len(names) == one.chunks
    changed = [replace(e, checksum=e.checksum ^ 1) for e in lives[0]]
    a, b = (
        index.keys128(np.array(index.refs(index.keys("train")[0]))) for index in (filled(changed), filled(lives[0]))
    )
    assert (a != b).any(axis=1).all()


def test_it_stays_as_small_as_what_is_stored() -> None:
    """A hundred times what is stored comes and goes, in long lives and in short ones."""
    index, cursor, kept = EpisodeIndex(), 0, 2000
    rows = set()
    for life in range(200):
        for entry in cut(f"s{life % 7}", [80] * (100 if life % 2 else 3), 8, incarnation=life):
            cursor += 1
            index.add(0, cursor, entry)
            if cursor % 50 == 0:
                index.drop_before(0, cursor - kept)
        if life % 10 == 0:
            index.draw((life,), 4, 16)
        if cursor > 2 * kept:
            rows.add(len(index._rows.table))
    assert kept - 20 <= index.chunks <= kept + 50
    assert max(rows) < 2.5 * kept, "rows of chunks that are gone are used again"


def test_cursors_are_those_of_each_shard() -> None:
    index = EpisodeIndex()
    for cursor, entry in enumerate(cut("a", [16], 8), 1):
        index.add(0, cursor, entry)
    index.add(3, 7, cut("b", [8], 8)[0])
    assert [index.cursor(shard) for shard in range(4)] == [2, 0, 0, 7]
    index.drop_before(0, 100)
    assert index.keys("train") + index.keys("valid") == (EpisodeKey("b", 1, 0),)
    index.clear(3)
    assert (index.steps, index.cursor(3)) == (0, 0)


def test_a_chunk_that_cannot_be_right_is_left_out() -> None:
    entry = cut("s", [8], 8)[0]
    index = EpisodeIndex()
    index.add(0, 1, replace(entry, steps=0))
    index.add(0, 2, replace(entry, first_step=8))
    assert index.chunks == 0
    index.add(0, 3, entry)
    index.add(1, 1, replace(entry, id=ChunkId("s", 1, 1), episode=1))
    assert index.chunks == 1, "a life is on one shard"
    index.add(0, 5, entry)
    index.add(0, 6, replace(entry, first_step=8))
    index.add(0, 7, replace(entry, id=ChunkId("s", 1, 1)))
    assert index.chunks == 1, "chunks and episodes are counted upwards"
    with pytest.raises(BadInput, match="s/1/4 has numbers out of range"):
        index.add(0, 8, replace(entry, id=ChunkId("s", 1, 4), episode=2**40))
    assert list(itertools.chain(index.keys("train"), index.keys("valid"))) == [KEY]
