"""Checkpoints that are complete or absent: a kill at any moment costs the newest one at most."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

DONE = "done"


class Checkpoints:
    """Numbered directories below `root`; the newest `keep` stay."""

    def __init__(self, root: Path, keep: int) -> None:
        self.root, self.keep = root, keep

    def save(self, name: str, write: Callable[[Path], None]) -> Path:
        """Has `write` fill a directory and makes it the newest checkpoint. Names sort by age."""
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f".{name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        for path in temporary.rglob("*"):
            _sync(path)
        (temporary / DONE).touch()
        _sync(temporary)
        final = self.root / name
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _sync(self.root)
        for old in self._complete()[: -self.keep]:
            shutil.rmtree(old)
        return final

    def newest(self) -> Path | None:
        """The newest complete checkpoint."""
        complete = self._complete()
        return complete[-1] if complete else None

    def _complete(self) -> list[Path]:
        return sorted(path.parent for path in self.root.glob(f"[0-9]*/{DONE}"))


def _sync(path: Path) -> None:
    """What is in the page cache of a file or a directory goes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
