"""How far learners and actors may run apart: samples per insert, in steps, as Reverb counts them.

With I steps inserted and S steps sampled, by all writers and all learners since the run began, the error is

    S - samples_per_insert * (I - min_steps)

and stays within `slack_steps` on either side. Learners wait above the band, actors below it. Until `min_steps` are
inserted, actors never wait and learners always do. The counts live in Redis, so a crash forgets none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from replay.config import LimiterConfig
from replay.errors import BadInput


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to go on; if not, `reason` says who is ahead and by how much."""

    ok: bool
    reason: str = ""


class Held(Exception):
    """The limiter does not take this chunk, or this draw, yet: the server is well, the other side is behind."""

    def __init__(self, reason: str, inserted: int = 0, others: int = 0) -> None:
        """As counted so far: steps that were inserted, and those that other consumers have sampled."""
        super().__init__(reason)
        self.inserted, self.others = inserted, others


class Limiter:
    """Pure: the counts come from whoever asks."""

    def __init__(self, config: LimiterConfig) -> None:
        self.config = config

    @property
    def on(self) -> bool:
        return self.config.samples_per_insert > 0

    def error(self, inserted: int, sampled: int) -> float:
        """Sampled steps above (or below) what the inserted ones allow."""
        return sampled - self.config.samples_per_insert * (inserted - self.config.min_steps)

    def may_insert(self, inserted: int, sampled: int, steps: int) -> Verdict:
        """Whether `steps` more may be inserted."""
        if not self.on or inserted + steps <= self.config.min_steps:
            return Verdict(True)
        behind = -self.error(inserted + steps, sampled)
        if behind <= self.config.slack_steps:
            return Verdict(True)
        return Verdict(False, f"learners are behind: {self._said(inserted, sampled)}, {steps} more would be {behind:g}")

    def may_sample(self, inserted: int, sampled: int, steps: int) -> Verdict:
        """Whether `steps` more may be sampled."""
        if not self.on:
            return Verdict(True)
        if inserted < self.config.min_steps:
            return Verdict(False, f"{inserted} steps are stored so far; sampling begins at {self.config.min_steps}")
        ahead = self.error(inserted, sampled + steps)
        if ahead <= self.config.slack_steps:
            return Verdict(True)
        return Verdict(False, f"actors are behind: {self._said(inserted, sampled)}, {steps} more would be {ahead:g}")

    def forgotten(self, inserted: int, sampled: int) -> bool:
        """Whether so many steps can never have been sampled: then inserted ones were counted that are not any more."""
        return self.on and sampled > 0 and self.error(inserted, sampled) > self.config.slack_steps

    def fair(self, inserted: int) -> int:
        """The sampled steps at which nobody is ahead."""
        return max(0, int(-self.error(inserted, 0)))

    def check(self, chunk_steps: int, batch_steps: int = 0) -> None:
        """Raises BadInput where a chunk or a batch is too large for the band: both sides could wait for each other."""
        ratio, slack = self.config.samples_per_insert, self.config.slack_steps
        need = max(ratio * chunk_steps, batch_steps)
        if self.on and slack < need:
            raise BadInput(
                f"replay.limiter.slack_steps is {slack}; chunks of {chunk_steps} steps, sampled {ratio:g} times, and "
                f"batches of {batch_steps} steps need {need:g}.",
                f"Set replay.limiter.slack_steps to {-int(-need // 1)} or more.",
            )

    def _said(self, inserted: int, sampled: int) -> str:
        c = self.config
        return (
            f"{sampled} steps sampled, {inserted} inserted, {c.samples_per_insert:g} samples per insert after the "
            f"first {c.min_steps}; the slack is {c.slack_steps} steps"
        )
