"""From a configuration to an action source."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from actors.envs.registry import EnvConfig, unknown
from actors.sources.source import ActionSource, SourceConfig
from replay.errors import BadInput

# Kind -> module with `make(config, env) -> ActionSource`, imported when it is asked for.
KINDS: Mapping[str, str] = {
    "scripted": "actors.sources.scripted",
    "openpi": "actors.sources.openpi",
    "lerobot": "actors.sources.lerobot",
    "recorded": "actors.sources.recorded",
}


def open_source(config: SourceConfig, env: EnvConfig) -> ActionSource:
    """Raises BadInput where none is set or the configuration cannot be right, and what the source's own making
    raises: Missing, or an error of errors.py where it is elsewhere."""
    if not config.kind:
        raise BadInput("There is no action source.", "Set source.kind=scripted, openpi, lerobot or recorded.")
    if config.kind not in KINDS:
        raise unknown("kind of action source", config.kind, KINDS)
    if not 1 <= config.execute_steps <= config.horizon:
        raise BadInput(
            f"source.execute_steps={config.execute_steps} of chunks of {config.horizon} actions.",
            "Set it to 1 or more, and at most source.horizon.",
        )
    source: ActionSource = importlib.import_module(KINDS[config.kind]).make(config, env)
    return source
