"""The directory of a run: what is where in it, who owns it now, and whether a configuration belongs to it."""

from __future__ import annotations

import fcntl
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from distwm.casting import as_text
from distwm.config import RunConfig, dump, load_saved, public_leaves
from replay.dataset.files import replace_file
from replay.errors import BadInput, TryAgain

# Settings that say how a run is executed, not what it computes: they may differ when the same run goes on.
MAY_CHANGE = (
    "run_dir",
    "log.*",
    "fleet.*",
    "cluster.*",
    "env.host.*",
    "runner.env_retries",
    "checkpoint_every_s",
    "keep_checkpoints",
    "learner.device",
    "learner.threads",
    "learner.prefetch",
    "source.url",  # a server that moved; which policy it serves is for whoever starts it to keep
    "source.api_key_env",
    "source.connections",
    "source.*timeout_s",
    "source.retries",
    "source.keepalive_s",
    "replay.url",
    "replay.connect_timeout_s",
    "replay.outage_s",
    "replay.on_loss",
    "replay.spool_*",
    "replay.arena_*",
)

# What a run leaves that was killed before its config.yaml was there.
BEGUN = {".lock", "run_id", "log.txt", "checkpoints", "results", "videos", ".config.yaml.tmp"}


class RunDir:
    """config.yaml, metrics.jsonl, log.txt, checkpoints/, results/, videos/, report/, replay/ and tune/ of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.config = self.root / "config.yaml"
        self.metrics = self.root / "metrics.jsonl"
        self.log = self.root / "log.txt"
        self.checkpoints = self.root / "checkpoints"
        self.results = self.root / "results"
        self.report = self.root / "report"
        self.replay = self.root / "replay"
        self.tune = self.root / "tune"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Holds the directory for this process. Raises TryAgain if another driver works in it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("w")
        except OSError as error:
            raise BadInput(f"{self.root} cannot be written: {error}.", "Give a run_dir that you may write.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise TryAgain(
                    f"Another run works in {self.root}.", "Wait for its end, or give another run_dir."
                ) from error
            yield

    def claim(self, config: RunConfig) -> bool:
        """Makes the directory that of `config`; True if the run began earlier.

        Raises BadInput if it holds something else, or a run of another configuration (naming the differing keys).
        """
        if self.config.is_file():
            different = differences(public_leaves(load_saved(self.config)), public_leaves(config))
            if different:
                raise BadInput(
                    f"{self.root} holds a run of another configuration: {'; '.join(different)}.",
                    "Give another run_dir, or the same settings to go on with that run.",
                )
            return True
        if {path.name for path in self.root.iterdir()} - BEGUN:
            raise BadInput(f"{self.root} is not empty and holds no run.", "Give a new or an empty run_dir.")
        for folder in (self.checkpoints, self.results, self.root / "videos"):
            folder.mkdir(exist_ok=True)
        (self.root / "run_id").write_text(f"{Path(config.recipe).stem}-{secrets.token_hex(4)}")
        write_atomically(self.config, dump(config))
        return False

    @property
    def run_id(self) -> str:
        """Names the run for good, also in a replay or a wandb project that several runs share."""
        return (self.root / "run_id").read_text().strip()

    def trim_metrics(self, slices: int) -> None:
        """Forgets records later than a checkpoint (and a line cut by a crash): they will be written again."""
        if not self.metrics.is_file():
            return
        kept = [line for line in self.metrics.read_text().splitlines() if _slice_of(line) <= slices]
        write_atomically(self.metrics, "".join(f"{line}\n" for line in kept))


def resolve_run_dir(config: RunConfig, name: str) -> Path:
    """`run_dir`, or the default. In a Ray job a relative path starts at home: the folder of the job does not last."""
    path = Path(config.run_dir) if config.run_dir else config.default_run_dir(name)
    return path if path.is_absolute() or "working_dir_files" not in Path.cwd().parts else Path.home() / path


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """`key (saved there, wanted here)` for every setting that may not change within a run."""
    keys = [key for key in {**saved, **wanted} if not any(fnmatch(key, pattern) for pattern in MAY_CHANGE)]
    shown = ({key: as_text(values[key]) if key in values else "absent" for key in keys} for values in (saved, wanted))
    there, here = shown
    return [f"{key} ({there[key]} there, {here[key]} here)" for key in keys if there[key] != here[key]]


def write_atomically(path: Path, text: str) -> None:
    """After a crash at any moment the file holds the old text or the new one, whole."""
    replace_file(path, text.encode())


def _slice_of(line: str) -> float:
    try:
        return json.loads(line)["slice"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
