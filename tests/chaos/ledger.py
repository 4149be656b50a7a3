"""What was promised: the chunks that a writer saw acknowledged, on disk before anything else happens."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from replay.schema import ChunkId, Entry


@dataclass(frozen=True, slots=True)
class Promise:
    """An acknowledged chunk: its name, its steps, the checksum of its body, and when (time.monotonic)."""

    id: ChunkId
    steps: int
    checksum: int
    at: float


class Ledger:
    """One writer's own file; a line a chunk, synced before `append` returns, so that it survives kill -9."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if os.fstat(self._file).st_size:
            os.write(self._file, b"\n")  # ends the torn line of a killed predecessor

    def append(self, entry: Entry) -> None:
        e = entry
        words = [e.id.stream, e.id.incarnation, e.id.seq, e.steps, e.checksum, f"{time.monotonic():.6f}", "."]
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())
        os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_ledgers(paths: Iterable[Path]) -> dict[ChunkId, Promise]:
    """The promises of all these files. A line that was torn by a kill promises nothing."""
    promises = {}
    for path in paths:
        for line in path.read_text().splitlines():
            words = line.split(" ")
            if len(words) == 7 and words[6] == ".":
                id = ChunkId(words[0], int(words[1]), int(words[2]))
                promises[id] = Promise(id, int(words[3]), int(words[4]), float(words[5]))
    return promises
