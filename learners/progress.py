"""A stage under way: where it stands, and what it takes to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from learners import optim
from learners.ema import EMA
from learners.prefetch import Prefetcher
from learners.system import Objective
from replay.errors import TrainingFailed


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where a stage stands: the part of it that is saved as JSON."""

    stage: str
    objective: str
    total: int  # updates
    step: int = 0  # updates done, skipped ones included
    skips: int = 0  # in a row, up to now
    ema_updates: int = 0

    def count(self, finite: bool, max_skips: int) -> None:
        """One more update. Raises TrainingFailed if too many in a row had to be skipped."""
        self.step += 1
        self.skips = 0 if finite else self.skips + 1
        if self.skips > max_skips:
            raise TrainingFailed(
                f"Loss or gradient was not finite {self.skips} times in a row, up to update {self.step} of stage "
                f"{self.stage}.",
                f"Lower the learning rate of {self.objective}, or raise learner.max_skips.",
            )


@dataclass(slots=True, kw_only=True)
class Run:
    """A stage that is being trained."""

    progress: Progress
    objective: Objective
    loss: Callable[[Any, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]
    optimiser: optim.Optimiser
    ema: EMA | None
    batches: Prefetcher
    lr: float = 0.0  # of the last update
