"""Where the figures of a run go: always metrics.jsonl, TensorBoard files unless told otherwise, wandb when asked."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tensorboardX import SummaryWriter

from distwm.config import LogConfig, RunConfig, public_leaves
from distwm.rundir import RunDir
from replay.errors import Missing

Record = dict[str, Any]

_log = logging.getLogger(__name__)
_LABELS = ("time", "round", "stage", "kind", "step", "slice")


class Sink(Protocol):
    """Takes records as they come."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


def figures(record: Record) -> dict[str, float]:
    """The numbers of a record, without its labels."""
    numbers = {k: v for k, v in record.items() if k not in _LABELS and isinstance(v, int | float)}
    return {k: v for k, v in numbers.items() if not isinstance(v, bool) and math.isfinite(v)}


class JsonLines:
    """One JSON object a line, on disk before the next one comes. A figure that is not finite is null."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")

    def write(self, record: Record) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **record}
        self._file.write(json.dumps(_finite(line)) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Scalars `<stage>/<figure>` by the stage's steps."""

    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory), flush_secs=10)

    def write(self, record: Record) -> None:
        for name, value in figures(record).items():
            self._writer.add_scalar(f"{record['stage']}/{name}", value, record["step"])

    def close(self) -> None:
        self._writer.close()


class Wandb:
    """A wandb run of the same id in every attempt. Whatever fails here is logged once and never stops training."""

    def __init__(self, config: RunConfig, run_dir: RunDir) -> None:
        self._run: Any = None
        try:
            import wandb

            self._run = wandb.init(
                project=config.log.wandb_project,
                id=run_dir.run_id,
                resume="allow",
                dir=str(run_dir.root),
                config=public_leaves(config),
            )
        except Exception:  # noqa: BLE001 - a tracker that is away must not stop training
            _log.exception("wandb does not start; the figures are in metrics.jsonl")

    def write(self, record: Record) -> None:
        self._try(lambda: self._run.log({f"{record['stage']}/{k}": v for k, v in figures(record).items()}))

    def close(self) -> None:
        self._try(lambda: self._run.finish())

    def _try(self, action: Any) -> None:
        if self._run is None:
            return
        try:
            action()
        except Exception:  # noqa: BLE001 - see above
            _log.exception("wandb fails and is left out from now on")
            self._run = None


def check_wandb(config: LogConfig) -> None:
    """Sets wandb offline unless told otherwise: before Ray starts, since its workers copy the environment.

    Raises Missing if wandb is asked for and not installed.
    """
    if not config.wandb:
        return
    if importlib.util.find_spec("wandb") is None:
        raise Missing(
            "log.wandb is set, but wandb is not installed.", "pip install 'wandb==0.31.0', or log.wandb=false."
        )
    os.environ.setdefault("WANDB_MODE", "offline")


def open_sinks(config: RunConfig, run_dir: RunDir) -> list[Sink]:
    """Every sink that the configuration asks for."""
    sinks: list[Sink] = [JsonLines(run_dir.metrics)]
    if config.log.tensorboard:
        sinks.append(TensorBoard(run_dir.root / "tensorboard"))
    if config.log.wandb:
        sinks.append(Wandb(config, run_dir))
    return sinks


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
