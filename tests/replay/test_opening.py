"""What a learner draws from, as the configuration says."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
from replay_cases import SPEC, make_steps, write

from replay.config import ReplayConfig
from replay.dataset.writer import DatasetWriter
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.sources.mixture import MixtureSource
from replay.sources.opening import check_recorded, discard_arenas, located, open_source
from replay.sources.redis_source import RedisSource
from replay.writing.writer import ReplayWriter


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Recorded episodes whose seeds begin at 100."""
    with DatasetWriter(tmp_path / "set", SPEC, name="set") as writer:
        for number in range(100, 110):
            writer.add(str(number), make_steps(20, seed=number))
    return tmp_path / "set"


@pytest.fixture
def mixed(config: ReplayConfig, run: str) -> ReplayConfig:
    """A live replay with ten random episodes, of seeds from 0, and ten of an expert, from 50."""
    writer = ReplayWriter(config, run, "s", SPEC)
    for number in range(10):
        write(writer, make_steps(20, seed=number), source="random")
        write(writer, make_steps(20, seed=50 + number), source="expert")
    writer.close()
    return replace(config, valid_share=0.0)


def test_without_a_mixture_it_is_the_live_replay(mixed: ReplayConfig, run: str) -> None:
    source = open_source(mixed, run, SPEC)
    assert isinstance(source, RedisSource)
    source.close()


def test_a_batch_has_the_shares_of_the_mixture(mixed: ReplayConfig, run: str, data: Path) -> None:
    config = replace(mixed, mixture=f"live=0.5,live:expert=0.25,{data}=0.25")
    source = open_source(config, run, SPEC)
    assert isinstance(source, MixtureSource)
    seeds = [source.batch((step,), 8, 6).arrays["state"][:, 0, 1] for step in range(10)]
    for batch in seeds:
        assert (batch[4:6] >= 50).all(), "experts"
        assert (batch[4:6] < 100).all()
        assert (batch[6:] >= 100).all(), "recorded"
        assert (batch[:4] < 100).all()


def test_recorded_data_alone_needs_no_redis(run: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    config = located(ReplayConfig(mixture="set=1", valid_share=0.0))
    monkeypatch.chdir("/")
    assert open_source(config, run, SPEC).refresh() == 200


def test_data_must_fit_the_environment(tmp_path: Path, data: Path) -> None:
    other = EpisodeSpec.build({"image": ((4, 4, 3), "uint8"), "state": ((6,), "float32")}, action_dim=2)
    with pytest.raises(BadInput, match=rf"{data} does not fit the environment: its field 'state'"):
        check_recorded(ReplayConfig(mixture=f"{data}=1"), other)
    with pytest.raises(BadInput, match="no recorded data"):
        check_recorded(ReplayConfig(mixture=f"live=0.5,{tmp_path / 'none'}=0.5"), SPEC)


def _killed(config: ReplayConfig, run: str) -> None:
    open_source(config, run, SPEC).batch((0,), 16, 4)
    os._exit(9)  # as a kill -9: nothing is tidied up


def test_killed_readers_leave_nothing_in_memory(mixed: ReplayConfig, run: str, data: Path, tmp_path: Path) -> None:
    config = replace(mixed, mixture=f"live=0.5,{data}=0.5", arena_dir=str(tmp_path / "arena"), arena_bytes=2**24)
    reader = multiprocessing.get_context("spawn").Process(target=_killed, args=(config, run))
    reader.start()
    reader.join(60)
    left = [path.name.rpartition("-")[0] for path in (tmp_path / "arena").rglob("*.arena")]
    assert sorted(left) == sorted([run, "dataset-set"])
    discard_arenas(config, run)
    assert not [path for path in (tmp_path / "arena").rglob("*") if path.is_file()]
