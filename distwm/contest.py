"""Whom an evaluation is about, and whom it is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Player = tuple[str, str]  # policy and readout


@dataclass(frozen=True, slots=True)
class Contest:
    """The comparison that was fixed before the evaluation: its policies, each in its readout."""

    subject: Player = ("policy", "sample")
    reference: Player = ("bc", "sample")
    control: Player | None = ("control", "sample")  # trained like the subject, but so that no gain may come of it
    data: Player = ("behaviour", "sample")  # who made the data that the reference is cloned from

    @staticmethod
    def of(config: Mapping[str, Any]) -> Contest:
        """As a saved configuration says it; older ones say nothing, and mean the default."""
        said = config.get("evaluate", {})
        default = Contest()
        return Contest(
            subject=player(said["subject"]) if said.get("subject") else default.subject,
            reference=player(said["reference"]) if said.get("reference") else default.reference,
            control=(player(said["control"]) if said["control"] else None) if "control" in said else default.control,
        )

    @property
    def players(self) -> list[Player]:
        """Everybody who is compared."""
        return [*dict.fromkeys(player for pair in self.pairs for player in pair)]

    @property
    def pairs(self) -> list[tuple[Player, Player]]:
        """What is compared: ours and theirs."""
        (subject, _), (reference, _) = self.subject, self.reference
        found = [(self.subject, self.reference)]
        if self.subject[1] == self.reference[1]:
            found.append(((subject, "mode"), (reference, "mode")))
        if self.control:
            found += [(self.control, self.reference), (self.subject, self.control)]
        return [*dict.fromkeys([*found, (self.subject, self.data), (self.subject, ("random", "sample"))])]


def player(text: str) -> Player:
    """`name` or `name:mode`."""
    name, _, mode = text.partition(":")
    return name, mode or "sample"
