"""Opens what a learner draws from: the live replay of its run, or the mixture that the configuration asks for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from replay.arena.arena import discard
from replay.arena.shared_file import private_directory
from replay.config import ReplayConfig
from replay.dataset.format import read_manifest
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.source import Source
from replay.sources.dataset_source import DatasetSource, arena_name
from replay.sources.mixture import MixtureSource, parse_mixture
from replay.sources.redis_source import RedisSource

_LIVE = "live"


def open_source(config: ReplayConfig, run: str, spec: EpisodeSpec, timeout_s: float = 60) -> Source:
    """`live` is what the run's actors collect, `live:expert` the part of it that began with this label, and everything
    else the directory of a data set. The arena is shared out among them.

    Raises BadInput for data with other fields than `spec`, or a mixture that makes no sense; TryAgain if Redis is away.
    """
    if not config.mixture:
        return RedisSource(config, run, spec, timeout_s)
    parts = parse_mixture(config.mixture)
    live_share = sum(share for name, share in parts if _is_live(name))
    live = RedisSource(_part_of(config, live_share), run, spec, timeout_s) if live_share else None
    sources: list[tuple[Source, float]] = []
    for name, share in parts:
        if live is None or not _is_live(name):
            sources.append((_recorded(_part_of(config, share), name, spec), share))
        else:
            label = name.partition(":")[2]
            sources.append((live.only({label}) if label else live, share))
    return MixtureSource(sources)


def check_recorded(config: ReplayConfig, spec: EpisodeSpec) -> None:
    """Raises BadInput for a mixture that makes no sense, or with a data set that is not there or has other fields."""
    for name, _ in parse_mixture(config.mixture) if config.mixture else ():
        if not _is_live(name):
            _check_spec(Path(name).expanduser(), spec)


def recorded_parts(config: ReplayConfig) -> list[str]:
    """The data sets of a mixture without live experience; none of one that has any."""
    names = [name for name, _ in parse_mixture(config.mixture)] if config.mixture else []
    return [] if any(map(_is_live, names)) else names


def recorded_among(config: ReplayConfig) -> list[str]:
    """The data sets of a mixture, whether there is live experience beside them or not."""
    names = [name for name, _ in parse_mixture(config.mixture)] if config.mixture else []
    return [name for name in names if not _is_live(name)]


def discard_arenas(config: ReplayConfig, run: str) -> None:
    """Removes what killed readers of `open_source` have left in this machine's memory; not what others still use."""
    if not config.arena_bytes:
        return
    names = [run]
    for name, _ in parse_mixture(config.mixture) if config.mixture else ():
        with suppress(BadInput):  # the data may be gone by now
            names += [] if _is_live(name) else [arena_name(read_manifest(Path(name).expanduser()))]
    for name in names:
        discard(private_directory(config.arena_dir), name)


def located(config: ReplayConfig) -> ReplayConfig:
    """The same with absolute paths in the mixture, for processes that work in other directories."""
    parts = [
        f"{name if _is_live(name) else Path(name).expanduser().absolute()}={share!r}"
        for name, share in (parse_mixture(config.mixture) if config.mixture else ())
    ]
    return replace(config, mixture=",".join(parts))


def _recorded(config: ReplayConfig, directory: str, spec: EpisodeSpec) -> Source:
    path = Path(directory).expanduser()
    _check_spec(path, spec)
    return DatasetSource(path, replace(config, sampling=replace(config.sampling, online_share=0.0)))


def _check_spec(directory: Path, spec: EpisodeSpec) -> None:
    """Raises BadInput if the data set has other fields; their order does not matter."""
    there = {f.name: f for f in read_manifest(directory).spec.fields}
    wanted = {f.name: f for f in spec.fields}
    for name in {**wanted, **there}:
        if there.get(name) != wanted.get(name):
            raise BadInput(
                f"The data set {directory} does not fit the environment: its field {name!r} is {there.get(name)}, not "
                f"{wanted.get(name)}.",
                "Record with the same environment settings, or rename and leave out fields with distwm.ingest.",
            )


def _part_of(config: ReplayConfig, share: float) -> ReplayConfig:
    return replace(config, arena_bytes=int(share * config.arena_bytes))


def _is_live(name: str) -> bool:
    return name == _LIVE or name.startswith(_LIVE + ":")
