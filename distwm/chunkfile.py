"""Chunks of actions in one npz file, for tokenizers and sources elsewhere. The same episodes give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from learners.rvq.chunks import ChunksConfig, has_plans, planned, windows
from replay.dataset.episodes import NamedEpisode, Reader
from replay.dataset.files import replace_file
from replay.dataset.format import PROVENANCE
from replay.errors import BadInput
from replay.schema import Episode, EpisodeKey

FILE, CARD = "chunks.npz", "card.json"


def write_chunks(reader: Reader, out: Path, size: int, config: ChunksConfig | None = None) -> dict[str, Any]:
    """`out`/chunks.npz with actions (N, size, A) float32 in environment units, episode (N,) and start (N,) int64 (which
    action of its episode a chunk begins with), names (E,); and `out`/card.json, which is returned: how many there are,
    of what kind, whose they are, and the SHA-256 of the file.

    Episodes are ordered by their streams, numbers in them by value, so that it does not matter who played them or when.
    Raises BadInput where there is no chunk.
    """
    config = config or ChunksConfig()
    cut = planned if has_plans(reader.spec, config) else windows
    episodes = sorted(_whole(reader), key=_order)
    parts = [cut(_episode(one), size, config, config.stride) for one in episodes]
    if not sum(len(actions) for actions, _ in parts):
        raise BadInput("There is no chunk of actions.", "Collect or ingest some episodes first.")
    arrays: dict[str, np.ndarray] = {
        "actions": np.concatenate([actions for actions, _ in parts]).astype(np.float32),
        "episode": np.repeat(np.arange(len(parts)), [len(actions) for actions, _ in parts]),
        "start": np.concatenate([starts for _, starts in parts]).astype(np.int64),
        "names": np.array([_stream(one) for one in episodes]),
    }
    out.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    replace_file(out / FILE, content.getvalue())
    said = reader.origin.get(PROVENANCE)
    card = {
        "episodes": len(episodes),
        "chunks": len(arrays["actions"]),
        "shape": [size, arrays["actions"].shape[-1]],
        "kind": "predicted at replan points" if cut is planned else f"windows, stride {config.stride}",
        "acted_by": sorted({actor.source for one in episodes for actor in one.actors}),
        **({PROVENANCE: said} if said else {}),
        "sha256": hashlib.sha256(content.getvalue()).hexdigest(),
    }
    replace_file(out / CARD, (json.dumps(card, indent=1) + "\n").encode())
    return card


def _whole(reader: Reader) -> Iterator[NamedEpisode]:
    """Raises BadInput for an episode that cannot be read."""
    for found in reader.read(()):
        if not isinstance(found, NamedEpisode):
            raise BadInput(f"An episode cannot be read: {found.reason}.", "Mend the data, or export it as a dataset.")
        yield found


def _stream(episode: NamedEpisode) -> str:
    return episode.key.stream if episode.key else episode.name


def _order(episode: NamedEpisode) -> tuple[Any, ...]:
    return tuple((part.isdigit(), int(part) if part.isdigit() else 0, part) for part in _stream(episode).split("/"))


def _episode(named: NamedEpisode) -> Episode:
    key = named.key or EpisodeKey(named.name, 0, 0)
    return Episode(key=key, source=named.actors[0].source, policy_version=0, arrays=named.arrays)
