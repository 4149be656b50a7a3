"""What every action source keeps: the contract in actors/sources/source.py, whatever predicts behind it."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpi_server import openpi_server
from sources_kit import Echo

from actors.envs.registry import EnvConfig
from actors.sources.opening import open_source
from actors.sources.serving import serving
from actors.sources.source import ANY, ActionSource, Request, SourceConfig
from replay.errors import BadInput

Opened = AbstractContextManager[ActionSource]


@contextmanager
def opened(task: str = "", **config: Any) -> Iterator[ActionSource]:
    source = open_source(SourceConfig(**config), EnvConfig(task=task, pixels=False) if task else EnvConfig())
    with contextlib.closing(source):
        yield source


def recording(folder: Path) -> Path:
    path = folder / "episodes.npz"
    actions = np.random.default_rng(0).uniform(-1, 1, (60, 7))
    np.savez(path, actions=actions, episode_ends=np.array([20, 60]))
    return path


@contextmanager
def over_a_server(folder: Path) -> Iterator[ActionSource]:
    """Any source, behind our own protocol."""
    with (
        opened(kind="recorded", path=str(recording(folder))) as local,
        serving(local) as url,
        opened(kind="openpi", url=url) as source,
    ):
        yield source


@contextmanager
def of_openpi(folder: Path) -> Iterator[ActionSource]:
    with openpi_server("echo") as url, opened(kind="openpi", url=url) as source:
        yield source


@contextmanager
def echoed(folder: Path) -> Iterator[ActionSource]:
    with serving(Echo()) as url, opened(kind="openpi", url=url) as source:
        yield source


SOURCES: dict[str, Callable[[Path], Opened]] = {  # one line for each implementation
    "scripted": lambda _: opened("tabletop/pick_place", kind="scripted"),
    "recorded": lambda folder: opened(kind="recorded", path=str(recording(folder))),
    "openpi": of_openpi,
    "ours over the wire": echoed,
    "recorded over the wire": over_a_server,
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ActionSource]:
    with SOURCES[request.param](tmp_path) as found:
        yield found


def asked(source: ActionSource, number: int, **changes: Any) -> Request:
    """A request with all that the source reads."""
    rng = np.random.default_rng(number)
    fields = {}
    for field in source.spec.fields:
        shape = [96 if size == ANY else size for size in field.shape]
        whole = field.dtype == "uint8"
        fields[field.name] = rng.integers(0, 256, shape, np.uint8) if whole else rng.normal(0, 0.1, shape).astype("f4")
    given = {
        "fields": fields,
        "prompt": "lift it",
        "episode": number,
        "step": 5 * number,
        "seed": number,
        "number": number,
    }
    return Request(**({"executed": np.zeros((5, source.spec.action_dim), np.float32)} | given | changes))


def test_it_says_what_it_is(source: ActionSource) -> None:
    spec = source.spec
    assert spec.action_dim > 0
    assert spec.horizon > 0
    assert spec.fps > 0
    assert len(spec.provenance) > 10
    assert len({field.name for field in spec.fields}) == len(spec.fields)


def test_chunks_are_as_it_says(source: ActionSource) -> None:
    for rows in (1, 3):
        chunk = source.act([asked(source, number) for number in range(rows)])
        assert chunk.actions.shape == (rows, source.spec.horizon, source.spec.action_dim)
        assert chunk.actions.dtype == np.float32
        assert np.isfinite(chunk.actions).all()
        assert chunk.latency_s.shape == chunk.source_s.shape == (rows,)
        assert (chunk.latency_s >= 0).all()
        assert all(math.isnan(seconds) or seconds >= 0 for seconds in chunk.source_s)
        chunk.actions[:] = 0.0  # they are the caller's


def test_the_same_request_has_the_same_answer(source: ActionSource) -> None:
    """Alone or beside others, in any order, and again."""
    requests = [asked(source, number) for number in range(5)]
    together = source.act(requests).actions
    np.testing.assert_array_equal(source.act(requests[::-1]).actions, together[::-1])
    for number in (3, 0):
        np.testing.assert_array_equal(source.act([requests[number]]).actions[0], together[number])


def test_nothing_of_a_request_is_changed(source: ActionSource) -> None:
    one = asked(source, 1)
    before = {name: values.copy() for name, values in one.fields.items()}
    for values in (*one.fields.values(), one.executed):
        values.flags.writeable = False
    source.act([one])
    for name, values in before.items():
        np.testing.assert_array_equal(one.fields[name], values)


def test_several_threads_may_ask(source: ActionSource) -> None:
    requests = [asked(source, number) for number in range(6)]
    wanted = source.act(requests).actions
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        found[number] = source.act([requests[number]]).actions[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack([found[number] for number in range(6)]), wanted)


def test_what_is_not_shown_is_named(source: ActionSource) -> None:
    if not source.spec.fields:
        return
    fewer = asked(source, 0, fields=dict(list(asked(source, 0).fields.items())[:-1]))
    with pytest.raises((BadInput, KeyError), match=source.spec.fields[-1].name):
        source.act([fewer])
    source.act([asked(source, 1)])


def test_it_may_be_closed_twice(source: ActionSource) -> None:
    source.act([asked(source, 0)])
    source.close()
    source.close()
