"""Which fields the records of a run have."""

from __future__ import annotations

from pathlib import Path

from actors.envs.registry import episode_spec
from actors.sources.agent import briefly
from distwm.config import RunConfig
from replay.dataset.format import read_manifest
from replay.schema import EpisodeSpec
from replay.sources.opening import recorded_parts


def records_of(config: RunConfig) -> EpisodeSpec:
    """Those of the environment, and the chunks of its action source; of a run that plays nothing and learns from
    recorded data alone, the data's. Raises what making the environment raises, BadInput for data that is not there."""
    parts = recorded_parts(config.replay)
    if parts and not config.plays:
        return read_manifest(Path(parts[0]).expanduser()).spec
    return episode_spec(config.env, config.source.plan_steps)


def provenance_of(config: RunConfig) -> str:
    """Whose actions a run learns from, in words: what its action source says of itself, or where its data is from."""
    if parts := recorded_parts(config.replay):
        manifests = [read_manifest(Path(part).expanduser()) for part in parts]
        return "; ".join(f"recorded data {one.name!r}, {dict(one.origin)}" for one in manifests)
    with briefly(config.source, config.env) as following:
        return following.source.spec.provenance if following else f"policies of this run in {config.env.task}"
