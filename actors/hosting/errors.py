"""How an environment in a process of its own fails."""

from __future__ import annotations

from typing import Literal

from replay.errors import TryAgain

Kind = Literal["died", "timeout", "raised", "memory"]


class HostedEnvError(TryAgain):
    """The environment died, took too long, raised an error or ran out of memory. Another one may be made at once."""

    def __init__(self, message: str, mend: str, kind: Kind = "died", tail: tuple[str, ...] = ()) -> None:
        super().__init__(message, mend)
        self.args = (message, mend, kind, tail)  # so that the error survives a trip through Ray
        self.kind, self.tail = kind, tail  # the last lines that the environment wrote

    def __str__(self) -> str:
        words = "".join(f"\n  | {line}" for line in self.tail)
        return super().__str__() + (f"\nThe last lines of its output:{words}" if words else "")
