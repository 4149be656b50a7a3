"""Where the replay is that a tool is to look at: that of a run directory, served or at rest, or servers by address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

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
    """The replay of run directory `where`, or of `run` at `url`. One that nobody serves is served for the duration.

    Raises BadInput if there is no such run, TryAgain if its replay can be neither reached nor served.
    """
    if bool(where) == bool(url) or bool(url) != bool(run):
        raise BadInput("It is not clear which replay is meant.", "Give a run directory, or --url and --run.")
    if url:
        yield Place(config=ReplayConfig(url=url), run=run, known=False, title=f"{run} at {public(url)}")
        return
    root = Path(where)
    config, run = _saved(root)
    if config.url:
        yield Place(config=config, run=run, known=True, title=f"{run} in {root}")
        return
    with _served(root / "replay", config) as (served, how):
        yield Place(config=replace(config, url=served), run=run, known=True, title=f"{run} in {root}, {how}")


def _saved(root: Path) -> tuple[ReplayConfig, str]:
    """What the run noted down: its replay's settings and its name."""
    if not (root / "config.yaml").is_file() or not (root / "run_id").is_file():
        raise BadInput(f"{root} holds no run.", "Give the run_dir of a run, which has a config.yaml.")
    settings = flatten(read(root / "config.yaml").get("replay", {}))
    config = apply(ReplayConfig(), settings)
    if ":***@" in config.url:
        raise BadInput(
            f"The run in {root} was given a password as it is, which is not written down.",
            "Give --url 'redis://user:$NAME@host:port' with a variable that holds it, and --run with the run's name "
            f"({(root / 'run_id').read_text().strip()}).",
        )
    return config, (root / "run_id").read_text().strip()


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
