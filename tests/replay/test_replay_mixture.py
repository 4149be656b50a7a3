"""Mixtures: exact shares, parts that lack episodes, keys that stay apart, feedback that finds its way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_cases import SPEC, make_episodes

from replay.arena.shared_file import private_directory
from replay.config import ReplayConfig
from replay.errors import BadInput
from replay.schema import Batch, EpisodeKey, EpisodeSpec, Window
from replay.source import Source
from replay.sources.chunk_source import ChunkSource
from replay.sources.limited import LimitedSource
from replay.sources.memory import MemorySource
from replay.sources.mixture import MixtureSource, parse_mixture
from replay.sources.opening import open_source


class Noting(MemorySource):
    """Keeps its feedback, and may give weights."""

    weights: np.ndarray | None = None

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        self.noted = (list(windows), priorities.tolist())

    def batch(self, *args, **options) -> Batch:
        batch = super().batch(*args, **options)
        weights = None if self.weights is None else np.resize(self.weights, len(batch.windows))
        return Batch(arrays=batch.arrays, windows=batch.windows, weights=weights, mask=batch.mask)


def source(lengths: list[int], stream: str = "s") -> Noting:
    return Noting(SPEC, make_episodes(stream, lengths), valid_share=0.0)


def rows(batch: Batch) -> list[int]:
    """The part of each row."""
    return [int(w.key.stream.partition(":")[0]) for w in batch.windows]


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.integers(1, 40), st.integers(0, 1000))
def test_each_batch_is_as_close_to_the_shares_as_can_be(shares: list[float], size: int, seed: int) -> None:
    mixture = MixtureSource([(source([9]), share) for share in shares])
    batch = mixture.batch((seed,), size, 4, ("reward",))
    assert len(batch.windows) == size == len(batch.arrays["reward"])
    for number, share in enumerate(shares):
        assert abs(rows(batch).count(number) - share / sum(shares) * size) < 1 + 1e-9
    assert rows(batch) == sorted(rows(batch))


def test_shares_are_exact_on_average() -> None:
    mixture = MixtureSource([(source([9]), 0.5), (source([9]), 0.3), (source([9]), 0.2)])
    every = [n for seed in range(4000) for n in rows(mixture.batch((seed, 3), 3, 4, ("reward",)))]
    assert np.bincount(every) / len(every) == pytest.approx([0.5, 0.3, 0.2], abs=0.01)


def test_a_batch_is_a_function_of_its_key() -> None:
    one, other = (MixtureSource([(source([9, 30]), 1), (source([50], "t"), 1)]) for _ in range(2))
    other.batch((1,), 7, 4)
    assert one.batch((5, 0), 8, 4).windows == other.batch((5, 0), 8, 4).windows
    assert one.batch((5, 1), 8, 4).windows != other.batch((5, 0), 8, 4).windows
    starts = [w.start for w in MixtureSource([(source([500]), 1), (source([500]), 1)]).batch((5, 0), 8, 4).windows]
    assert starts[:4] != starts[4:], "parts draw from numbers of their own"


def test_rows_hold_what_their_part_has() -> None:
    parts = [source([9, 30]), source([50], "t")]
    mixture = MixtureSource([(part, 0.5) for part in parts])
    batch = mixture.batch((0,), 10, 8, context=3)
    assert batch.mask is not None
    assert batch.mask.shape == (10, 11)
    for row, (number, window) in enumerate(zip(rows(batch), batch.windows, strict=True)):
        episode = mixture.episode(window.key)
        assert episode.key == window.key
        begin = max(window.start, 0)
        found = batch.arrays["image"][row, begin - window.start :]
        assert (found == episode.arrays["image"][begin : window.start + 11]).all()
        assert episode.key.stream == f"{number}:{'st'[number]}"


def test_episodes_of_all_parts_stay_apart() -> None:
    """Though two of them have the same keys."""
    mixture = MixtureSource([(source([9, 30]), 1), (source([50, 7]), 1)])
    keys = mixture.episodes("train")
    assert len(set(keys)) == 4
    assert [len(mixture.episode(key, ("reward",)).arrays["reward"]) for key in keys] == [9, 30, 50, 7]
    assert mixture.refresh() == 96
    assert mixture.episodes("valid") == []
    for stream in ("s", "2:s", "x:s", "-1:s"):
        with pytest.raises(KeyError):
            mixture.episode(EpisodeKey(stream, 1, 0))


def test_a_part_without_long_episodes_leaves_its_share(caplog: pytest.LogCaptureFixture) -> None:
    mixture = MixtureSource([(source([30]), 0.5), (source([5]), 0.25), (source([40]), 0.25)])
    with caplog.at_level(logging.WARNING):
        for seed in range(5):
            counts = np.bincount(rows(mixture.batch((seed,), 12, 8)), minlength=3)
            assert counts.tolist() == [8, 0, 4]
    assert len(caplog.records) == 1
    assert "Part 1 of the mixture leaves its train share to the others: no episode has 8 steps" in caplog.text
    assert np.bincount(rows(mixture.batch((0,), 12, 4))).tolist() == [6, 3, 3], "it is back as soon as it has some"
    with pytest.raises(LookupError, match="no part of the mixture"):
        mixture.batch((0,), 12, 41)
    assert mixture.batch((0,), 12, 35).windows[0].key.stream == "2:s"


def test_feedback_goes_to_the_parts() -> None:
    parts = [source([30]), source([30]), source([30])]
    mixture = MixtureSource([(part, 1) for part in parts])
    windows = mixture.batch((0,), 6, 4).windows
    mixture.feedback([windows[i] for i in (5, 0, 4)], np.array([1.0, 2.0, 3.0]))
    assert parts[0].noted == ([Window(key=EpisodeKey("s", 1, 0), start=windows[0].start, length=4)], [2.0])
    assert parts[2].noted[1] == [1.0, 3.0]
    assert not hasattr(parts[1], "noted")


def test_weights_of_one_part_leave_the_others_at_one() -> None:
    parts = [source([30]), source([30])]
    mixture = MixtureSource([(part, 1) for part in parts])
    assert mixture.batch((0,), 4, 4).weights is None
    parts[1].weights = np.array([0.5, 1.0], np.float32)
    assert mixture.batch((0,), 4, 4).weights.tolist() == [1, 1, 0.5, 1]


def test_what_a_part_would_refuse_is_refused() -> None:
    mixture = MixtureSource([(source([30]), 1), (source([30]), 1)])
    with pytest.raises(KeyError, match="sound"):
        mixture.batch((0,), 4, 4, ("sound",))
    windows = mixture.batch((0,), 4, 4).windows
    with pytest.raises(BadInput, match="priorit"):
        mixture.feedback(windows, np.ones(3))


def test_other_fields_are_refused() -> None:
    spec = EpisodeSpec.build({"image": ((8, 8, 3), "uint8"), "state": ((5,), "float32")}, action_dim=2)
    with pytest.raises(BadInput, match=r"Part 1 of the mixture has another field 'image'"):
        MixtureSource([(source([9]), 1), (MemorySource(spec, []), 1)])
    less = EpisodeSpec(fields=tuple(f for f in SPEC.fields if f.name != "state"))
    with pytest.raises(BadInput, match=r"another field 'state': None there"):
        MixtureSource([(source([9]), 1), (MemorySource(less, []), 1)])
    for shares in ([], [0.0], [-1.0], [float("nan")], [float("inf")]):
        with pytest.raises(BadInput, match="shares"):
            MixtureSource([(source([9]), share) for share in shares])


def test_mixtures_are_read_from_text() -> None:
    assert parse_mixture("live=1") == [("live", 1.0)]
    assert parse_mixture(" live=0.5, live:expert=0.25,/data/a=b=0.25") == [
        ("live", 0.5),
        ("live:expert", 0.25),
        ("/data/a=b", 0.25),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no part with a share"),
        ("live", "no part with a share"),
        ("=1", "no part with a share"),
        ("live=0.5,,x=0.5", "no part with a share"),
        ("live=half", "'half', which is no number"),
        ("live=nan", "a share above 0"),
        ("live=0,x=1", "a share above 0"),
        ("live=-1,x=2", "a share above 0"),
        ("live=0.5,x=0.25", "sum up to 0.75"),
        ("live=0.5,live=0.5", "'live' 2 times"),
    ],
)
def test_mixtures_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_mixture(text)


def test_closing_closes_every_part(config: ReplayConfig, run: str) -> None:
    """Also behind one that fails, behind the limiter, and behind a view of a live replay."""
    closed: list[int] = []

    class Closing(MemorySource):
        def close(self) -> None:
            closed.append(id(self))
            if len(closed) == 1:
                raise OSError("this part fails")

    parts = [Closing(SPEC, make_episodes("s", [9])) for _ in range(3)]
    mixture = LimitedSource(MixtureSource([(part, 1) for part in parts]))
    with pytest.raises(OSError, match="this part fails"):
        mixture.close()
    assert sorted(closed) == sorted(map(id, parts))
    live = open_source(replace(config, mixture="live:expert=0.5,live:random=0.5"), run, SPEC)
    arenas = [path for path in private_directory(config.arena_dir).iterdir() if path.name.startswith(f"{run}-")]
    assert arenas
    for _ in range(2):
        live.close()
        assert not any(path.exists() for path in arenas)


@pytest.mark.parametrize("kind", [ChunkSource, LimitedSource, MemorySource, MixtureSource])
def test_every_source_is_asked_the_same_way(kind: type) -> None:
    """So that one in front of another passes on all that can be asked."""
    for name in ("refresh", "episodes", "episode", "batch", "feedback", "close"):
        assert signature(getattr(kind, name)) == signature(getattr(Source, name))
