"""From a configuration to an action source."""

from __future__ import annotations

from actors.envs.registry import EnvConfig
from actors.sources.scripted import Scripted
from actors.sources.source import ActionSource, SourceConfig
from replay.errors import BadInput


def open_source(config: SourceConfig, env: EnvConfig) -> ActionSource:
    """Raises BadInput where none is set, and what the source's own making raises."""
    if config.kind == "scripted":
        return Scripted(config, env)
    raise BadInput(f"There is no action source {config.kind!r}.", "Set source.kind=scripted.")
