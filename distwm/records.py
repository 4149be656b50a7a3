"""Which fields the records of a run have, and whose actions they hold."""

from __future__ import annotations

from pathlib import Path

from actors.envs.registry import episode_spec
from actors.sources.source import SourceConfig
from distwm.collect.manifest import MANIFEST
from distwm.collect.manifest import read_manifest as read_collection
from distwm.config import RunConfig
from distwm.overrides import apply, flatten
from distwm.presets import read
from distwm.rundir import write_atomically
from replay.dataset.format import PROVENANCE, read_manifest
from replay.schema import EpisodeSpec
from replay.sources.opening import recorded_among, recorded_parts

NOTES = "provenance.txt"  # of a run directory: what its action source says of itself


def records_of(config: RunConfig) -> EpisodeSpec:
    """Those of the environment, and the chunks of its action source; of a run that plays nothing and learns from
    recorded data alone, the data's. Raises what making the environment raises, BadInput for data that is not there."""
    parts = recorded_parts(config.replay)
    if parts and not config.plays:
        return read_manifest(Path(parts[0]).expanduser()).spec
    return episode_spec(config.env, config.source.plan_steps)


def note_provenance(root: Path, said: str) -> None:
    """Keeps what the action source of a run says of itself. Another one that the run went on with is added."""
    noted, said = _noted(root), " ".join(said.split())  # in one line: it may come from a server
    if said and said not in noted:
        write_atomically(root / NOTES, "".join(f"{line}\n" for line in [*noted, said]))


def provenance_of(config: RunConfig, root: Path) -> str:
    """Whose actions the run in `root` learns from, in words: what was noted of its action source, or where its data is
    from. Asks no source: it may be gone by now."""
    said = [_recorded(Path(part).expanduser()) for part in recorded_among(config.replay)]
    if recorded_parts(config.replay):
        return "; ".join(said)
    live = _noted(root) or [_configured(config.source, config.env.task)]
    return "; ".join([*live, *said])


def noted_provenance(root: Path, run: str) -> str:
    """Whose actions a run of the replay in a directory holds, as was noted, or as the settings say."""
    if (root / MANIFEST).is_file():
        rows = read_collection(root)["orders"].values()
        return "; ".join(dict.fromkeys(row["source"] for row in rows if row["run"] == run and "source" in row))
    if noted := _noted(root):
        return "; ".join(noted)
    tree = read(root / "config.yaml")
    task = str(tree.get("env", {}).get("task", "an unknown task"))
    return _configured(apply(SourceConfig(), flatten(tree.get("source", {}))), task)


def _noted(root: Path) -> list[str]:
    path = root / NOTES
    return path.read_text().splitlines() if path.is_file() else []


def _recorded(directory: Path) -> str:
    manifest = read_manifest(directory)
    return f"recorded data {manifest.name!r}: {manifest.origin.get(PROVENANCE) or dict(manifest.origin)}"


def _configured(source: SourceConfig, task: str) -> str:
    """What the settings say, where nobody has asked the source itself."""
    if not source.kind:
        return f"policies of this run in {task}"
    where = source.url if source.kind == "openpi" else source.path
    return f"action source of kind {source.kind}{f' at {where}' if where else ''} in {task}; it was not asked itself"
