"""Which fields the records of a run have, and whose actions they hold."""

from __future__ import annotations

from pathlib import Path

from actors.envs.registry import episode_spec
from actors.sources.agent import briefly
from actors.sources.source import SourceConfig
from distwm.collect.manifest import MANIFEST
from distwm.collect.manifest import read_manifest as read_collection
from distwm.config import RunConfig
from distwm.overrides import apply, flatten
from distwm.presets import read
from replay.dataset.format import PROVENANCE, read_manifest
from replay.schema import EpisodeSpec
from replay.sources.opening import recorded_among, recorded_parts


def records_of(config: RunConfig) -> EpisodeSpec:
    """Those of the environment, and the chunks of its action source; of a run that plays nothing and learns from
    recorded data alone, the data's. Raises what making the environment raises, BadInput for data that is not there."""
    parts = recorded_parts(config.replay)
    if parts and not config.plays:
        return read_manifest(Path(parts[0]).expanduser()).spec
    return episode_spec(config.env, config.source.plan_steps)


def provenance_of(config: RunConfig) -> str:
    """Whose actions a run learns from, in words: what its action source says of itself, or where its data is from."""
    said = [_recorded(Path(part).expanduser()) for part in recorded_among(config.replay)]
    if recorded_parts(config.replay):
        return "; ".join(said)
    with briefly(config.source, config.env) as following:
        live = following.source.spec.provenance if following else f"policies of this run in {config.env.task}"
    return "; ".join([live, *said])


def noted_provenance(root: Path, run: str) -> str:
    """Whose actions a run of the replay in a directory holds, as the collection noted it or the configuration says."""
    if (root / MANIFEST).is_file():
        rows = read_collection(root)["orders"].values()
        return "; ".join(dict.fromkeys(row["source"] for row in rows if row["run"] == run and "source" in row))
    tree = read(root / "config.yaml")
    task = str(tree.get("env", {}).get("task", "an unknown task"))
    return _configured(apply(SourceConfig(), flatten(tree.get("source", {}))), task)


def _recorded(directory: Path) -> str:
    manifest = read_manifest(directory)
    return f"recorded data {manifest.name!r}: {manifest.origin.get(PROVENANCE) or dict(manifest.origin)}"


def _configured(source: SourceConfig, task: str) -> str:
    """What the settings say, where nobody has asked the source itself."""
    if not source.kind:
        return f"policies of this run in {task}"
    where = source.url if source.kind == "openpi" else source.path
    return f"action source of kind {source.kind}{f' at {where}' if where else ''} in {task}; it was not asked itself"
