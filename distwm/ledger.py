"""What a run has done so far: the pipeline's memory, part of every checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from distwm.recipe import PlannedStage
from replay.errors import BadInput

LEDGER_FILE = "ledger.json"


@dataclass(slots=True, kw_only=True)
class Turns:
    """Where acting and learning stand in an online stage."""

    from_steps: int = -1  # records that the replay counted when the stage began; -1: it has not
    seed_steps: int = -1  # decisions of the seed episodes; -1: they are not played yet
    begun: bool = False  # the learners have
    episodes: int = 0  # collected in this stage
    updates: int = 0
    evaluations: int = 0


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Counts only what is finished. It is saved together with the weights, so a stage is never repeated or skipped."""

    slices: int = 0  # slices of work since the beginning
    stage: int = 0  # index of the current stage in the plan
    done_steps: int = 0  # steps of the current stage, extensions included
    attempt_steps: int = 0  # steps since the stage or its latest extension began
    extensions: int = 0  # extensions of the current stage so far
    stage_wall_s: float = 0.0
    turns: Turns = field(default_factory=Turns)  # of the current stage, if it is an online one
    explored: int = 0  # episodes of the latest online stage after its seed episodes, for schedules of exploration
    episodes: int = 0  # collected and acknowledged: also the index of the next episode
    collected_steps: int = 0  # acknowledged by the replay

    def attempt(self, stage: PlannedStage) -> str:
        """The name of the current attempt at a stage; random draws depend on it."""
        return f"{stage.key}+{self.extensions}" if self.extensions else stage.key

    def budget_steps(self, stage: PlannedStage) -> int:
        """The budget of the current attempt."""
        return stage.config.extend_steps if self.extensions else stage.config.budget_steps

    def total_steps(self, stage: PlannedStage) -> int:
        """The budget of the stage with the extensions begun so far."""
        return stage.config.budget_steps + self.extensions * stage.config.extend_steps

    def count(self, steps: int) -> None:
        """`steps` more of the current stage are done."""
        self.done_steps += steps
        self.attempt_steps += steps

    def extend(self) -> None:
        """The current stage goes on with a fresh attempt."""
        self.extensions += 1
        self.attempt_steps = 0

    def next_stage(self) -> None:
        self.stage += 1
        self.done_steps = self.attempt_steps = self.extensions = 0
        self.stage_wall_s = 0.0
        self.turns = Turns()

    def save(self, directory: Path) -> None:
        (directory / LEDGER_FILE).write_text(json.dumps(asdict(self), indent=1))

    @staticmethod
    def load(directory: Path) -> Ledger:
        """Raises BadInput if the checkpoint's ledger cannot be read."""
        path = directory / LEDGER_FILE
        try:
            saved = json.loads(path.read_text())
            return Ledger(**{**saved, "turns": Turns(**saved.get("turns", {}))})
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(
                f"{path} cannot be read: {error}.", "Delete this checkpoint; an older one is used."
            ) from error
