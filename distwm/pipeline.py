"""The staged pipeline as a Tune Trainable: one `step` is one slice of the current stage."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from ray import tune

from distwm.checkpoints import LEARNER, Checkpoints
from distwm.config import RunConfig
from distwm.crew import Crew
from distwm.ledger import Ledger
from distwm.overrides import apply
from distwm.placement import Shares
from distwm.recipe import PlannedStage
from distwm.stages import run_slice, total_steps
from replay.errors import DistwmError

_log = logging.getLogger(__name__)


class Pipeline(tune.Trainable):
    """Executes a recipe. It moves no arrays: it says who works on what, reads figures and writes checkpoints.

    It resumes by itself from the newest checkpoint below `root`. We do not leave that to Tune: its record of an
    experiment is written on a timer and may name a checkpoint that is pruned already; ours are complete or absent.
    So the same path serves a crash of this process (Tune starts it again) and a rerun of the command.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], base: RunConfig, run: str, root: str, share: Shares
    ) -> None:
        """`config` holds overrides by dotted key (a Tune space); `base` everything else."""
        self.settings = apply(base, config)
        self.plan = self.settings.plan
        self.checkpoints = Checkpoints(Path(root) / "checkpoints", keep=self.settings.keep_checkpoints)
        self.crew = Crew(self.settings, run, Path(root), share)
        self.ledger = Ledger()
        self._saved_slices, self._saved_s = 0, time.monotonic()
        self._resume = True
        self._broken = False  # a step failed, so learners may be ahead of the ledger: nothing is saved any more

    def step(self) -> dict[str, Any]:
        """A slice of work. A failure that a person can mend ends the trial and travels in the result."""
        self._broken = True
        try:
            result = self._step()
        except DistwmError as error:
            cause = getattr(error, "cause", error)  # Ray wraps what comes from another process
            _log.error("%s", cause)
            return {"records": [], "done": True, "error": [type(cause).__name__, cause.message, cause.mend]}
        self._broken = False
        return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Ledger and learners; the replay stays where it is and is referred to by its name."""
        self.crew.learners.save(Path(checkpoint_dir) / LEARNER)
        self.ledger.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str | None) -> None:  # type: ignore[override]
        self._resume = False
        if checkpoint:
            self.ledger = Ledger.load(Path(checkpoint))
            self.crew.learners.load(Path(checkpoint) / LEARNER)

    def cleanup(self) -> None:
        """Called when the trial is stopped: a last checkpoint, then everybody goes home."""
        try:
            if self.ledger.slices > self._saved_slices and not self._broken:
                self._save()
        finally:
            self.crew.close()

    def _step(self) -> dict[str, Any]:
        if self._resume:
            self._load_newest()
        if self.ledger.stage >= len(self.plan):
            return {"records": [], "done": True}
        stage, begun_s = self.plan[self.ledger.stage], time.monotonic()
        records, finished = run_slice(self.crew, stage, self.ledger)
        if stage.config.kind != "train" and (fleet := self.crew.look_after_fleet()):  # training lets the runners be
            of_fleet = {f"fleet_{name}": value for name, value in fleet.items()}
            records.append({"kind": "fleet", "step": self.ledger.done_steps, **of_fleet})
        self.ledger.slices += 1
        wall_s = time.monotonic() - begun_s
        self.ledger.stage_wall_s += wall_s
        if finished:
            records.append({"kind": "stage_end", "step": self.ledger.done_steps, "wall_s": self.ledger.stage_wall_s})
        labels = {"round": stage.round, "stage": stage.key, "slice": self.ledger.slices}
        status = self._status(stage) | {"records": [{"wall_s": wall_s, **labels, **record} for record in records]}
        if finished:
            self.ledger.next_stage()
        if (
            finished
            or has_acted(stage, records)
            or time.monotonic() - self._saved_s >= self.settings.checkpoint_every_s
        ):
            self._save()
        return status | {"done": self.ledger.stage == len(self.plan)}

    def _status(self, stage: PlannedStage) -> dict[str, Any]:
        total = total_steps(stage, self.ledger, self.settings)
        return {
            "slice": self.ledger.slices,
            "stage": stage.key,
            "stage_index": self.ledger.stage,
            "stages": len(self.plan),
            "step": self.ledger.done_steps,
            "total": total,
            "progress": (self.ledger.stage + self.ledger.done_steps / max(total, 1)) / len(self.plan),
        }

    def _load_newest(self) -> None:
        self._resume = False
        newest = self.checkpoints.newest()
        if newest:
            self.load_checkpoint(str(newest))
            self._saved_slices = self.ledger.slices
            self.ledger.collected_steps = self.crew.recount_replay(self.ledger.collected_steps)

    def _save(self) -> None:
        self.checkpoints.save(self.ledger.slices, lambda path: self.save_checkpoint(str(path)))
        self._saved_slices, self._saved_s = self.ledger.slices, time.monotonic()


def has_acted(stage: PlannedStage, records: list[dict[str, Any]]) -> bool:
    """Whether an online stage has stored episodes. A checkpoint that did not know them would have them played again,
    with the noise that they had, beside those that are stored."""
    return stage.config.kind == "online" and any(record["kind"] == "collect" for record in records)
