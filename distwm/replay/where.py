"""Where the replay is that a tool is to look at: that of a directory, served or at rest, or servers by address.

The directory of a training run holds one run of the replay, that of a collection one for each task.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from actors.envs.registry import unknown
from distwm.collect.manifest import MANIFEST, read_manifest
from distwm.overrides import apply, flatten
from distwm.presets import read
from replay.config import ReplayConfig
from replay.errors import BadInput, TryAgain
from replay.shards.address import addresses, public
from replay.shards.connection import Connection
from replay.shards.server import EmbeddedRedis
from replay.shards.survey import Surveyor

_PING_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A replay that can be reached. `config` has the url; of a replay that is known by its address alone, the rest is
    unknown and `known` is False."""

    config: ReplayConfig
    run: str
    known: bool
    title: str

    def shards(self, outage_s: float = 0.0) -> list[Surveyor]:
        """One for each server, not yet connected."""
        timeout_s = self.config.connect_timeout_s
        return [Surveyor(url, self.run, timeout_s, outage_s) for url in addresses(self.config.url)]

    @property
    def shard_bytes(self) -> int:
        """The budget of each shard; 0 if unknown."""
        return self.config.max_bytes // len(addresses(self.config.url)) if self.known else 0


@contextmanager
def find(where: str, url: str, run: str) -> Iterator[Place]:
    """The replay of directory `where` (of its run `run`, if it holds several), or of `run` at `url`. One that nobody
    serves is served for the duration.

    Raises BadInput if there is no such run, TryAgain if its replay can be neither reached nor served.
    """
    (run,) = _chosen(where, url, run, several=False)
    if url:
        yield Place(config=ReplayConfig(url=url), run=run, known=False, title=f"{run} at {public(url)}")
        return
    root = Path(where)
    config = _saved(root)[0]
    if config.url:
        yield Place(config=config, run=run, known=True, title=f"{run} in {root}")
        return
    with _served(root / "replay", config) as (served, how):
        yield Place(config=replace(config, url=served), run=run, known=True, title=f"{run} in {root}, {how}")


@contextmanager
def each(where: str, url: str, run: str) -> Iterator[tuple[str, ...]]:
    """The names of the runs that are meant: `run`, or all that the directory holds. `find` gives one after the other,
    and their replay stays up meanwhile. Raises as `find` does."""
    names = _chosen(where, url, run, several=True)
    if url or _saved(Path(where))[0].url:
        yield names
        return
    with _served(Path(where) / "replay", _saved(Path(where))[0]):
        yield names


def _chosen(where: str, url: str, run: str, several: bool) -> tuple[str, ...]:
    """The runs that are meant; not more than one unless `several`."""
    if bool(where) == bool(url) or (url and not run):
        raise BadInput("It is not clear which replay is meant.", "Give a run directory, or --url and --run.")
    held = (run,) if url else _saved(Path(where))[1]
    if run and run not in held:
        raise unknown(f"run of {where}", run, held)
    if not run and len(held) > 1 and not several:
        raise BadInput(f"{where} holds several runs.", f"Give --run with one of: {', '.join(held)}.")
    return (run,) if run else held


def _saved(root: Path) -> tuple[ReplayConfig, tuple[str, ...]]:
    """What was noted down: the replay's settings and the names of its runs."""
    config, names = _collected(root) if (root / MANIFEST).is_file() else _trained(root)
    if ":***@" in config.url:
        raise BadInput(
            f"What is in {root} was given a password as it is, which is not written down.",
            "Give --url 'redis://user:$NAME@host:port' with a variable that holds it, and --run with the run's name "
            f"({', '.join(names)}).",
        )
    return config, names


def _trained(root: Path) -> tuple[ReplayConfig, tuple[str, ...]]:
    if not (root / "config.yaml").is_file() or not (root / "run_id").is_file():
        raise BadInput(f"{root} holds no run.", "Give the run_dir of a run, which has a config.yaml.")
    settings = flatten(read(root / "config.yaml").get("replay", {}))
    return apply(ReplayConfig(), settings), ((root / "run_id").read_text().strip(),)


def _collected(root: Path) -> tuple[ReplayConfig, tuple[str, ...]]:
    manifest = read_manifest(root)
    settings = {k.removeprefix("replay."): v for k, v in manifest["settings"].items() if k.startswith("replay.")}
    names = dict.fromkeys(row["run"] for row in manifest["orders"].values())
    return apply(ReplayConfig(), settings), tuple(names)


@contextmanager
def _served(directory: Path, config: ReplayConfig) -> Iterator[tuple[str, str]]:
    """The url of the replay in a directory, and how it comes to be served: by the run that works there, or by us."""
    socket = directory / "redis.sock"  # a link, where the directory's name is too long for a socket's
    url = f"unix://{quote(os.path.realpath(socket))}"
    if socket.exists() and _answers(url):
        yield url, "running"
        return
    if not any(directory.glob("appendonly*")):
        raise BadInput(f"{directory} holds no experience.", "Look at a run that has collected some and kept it.")
    server = EmbeddedRedis(directory, config.max_bytes, config.durability)
    url = server.start()
    try:
        yield url, "at rest"
    finally:
        server.stop()


def _answers(url: str) -> bool:
    connection = Connection(url, _PING_S)
    try:
        return bool(connection.call("asking whether it runs", lambda r: r.ping(), 0.0))
    except TryAgain:
        return False
    finally:
        connection.close()
