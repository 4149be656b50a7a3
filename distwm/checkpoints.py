"""Checkpoints of the pipeline: complete or absent, so a kill at any moment costs the newest one at most."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from learners.checkpoint import DONE, sync, verify
from replay.errors import BadInput

LEARNER = "learner"  # the part that learners.checkpoint writes

_log = logging.getLogger(__name__)


class Checkpoints:
    """Numbered directories below `root`; the newest `keep` stay."""

    def __init__(self, root: Path, keep: int) -> None:
        self.root, self.keep = root, keep

    def save(self, number: int, write: Callable[[Path], None]) -> Path:
        """Has `write` fill a directory, and makes it the newest checkpoint."""
        temporary, final = self.root / f".{number:08d}.tmp", self.root / f"{number:08d}"
        for left in self.root.glob(".*.tmp"):
            shutil.rmtree(left)
        temporary.mkdir(parents=True)
        write(temporary)
        for path in temporary.rglob("*"):
            sync(path)
        (temporary / DONE).touch()
        sync(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        sync(self.root)
        for old in list(self._newest_first())[self.keep :]:
            shutil.rmtree(old)
        return final

    def newest(self) -> Path | None:
        """The newest checkpoint that is complete and undamaged; damaged ones are passed over with a warning."""
        for path in self._newest_first():
            try:
                verify(path / LEARNER)
            except BadInput as error:
                _log.warning("skipped a checkpoint: %s", error)
                continue
            return path
        return None

    def _newest_first(self) -> Iterator[Path]:
        yield from (done.parent for done in sorted(self.root.glob(f"[0-9]*/{DONE}"), reverse=True))
