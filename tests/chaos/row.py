"""A line of the table of faults: what was done how often, what it cost, and whether that keeps the promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from audit import Audit, audit

from replay.config import ReplayConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured number and what it must be: at most, or at least, `limit`."""

    value: float
    unit: str = "s"
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ok(self) -> bool:
        low = self.at_least is None or self.value >= self.at_least
        return low and (self.at_most is None or self.value <= self.at_most)

    def __str__(self) -> str:
        wanted = [f"<= {self.at_most:g}"] if self.at_most is not None else []
        wanted += [f">= {self.at_least:g}"] if self.at_least is not None else []
        said = f"{self.value:.3g} {self.unit}".strip() + (f" ({', '.join(wanted)})" if wanted else "")
        return said if self.ok else f"**{said}**"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault. `audit` is None where nothing could be run; `skipped` says why."""

    fault: str
    times: int = 1
    audit: Audit | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()  # what else went wrong, in words
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Nothing lost, doubled or torn, and every figure within its limit."""
        return self.safe and all(f.ok for f in self.figures.values())

    @property
    def safe(self) -> bool:
        """The part of `ok` that no slow machine can spoil."""
        return self.audit is not None and self.audit.clean and self.audit.acknowledged > 0 and not self.wrong

    def cells(self) -> list[str]:
        if self.audit is None:
            said = f"not run: {self.skipped}" if self.skipped else f"**{'; '.join(self.wrong)}**"
            return [self.fault, "-", "-", "-", "-", "-", said]
        a = self.audit
        figures = "; ".join(f"{name} {figure}" for name, figure in self.figures.items())
        counted = [str(n) for n in (self.times, a.acknowledged, len(a.lost), len(a.duplicates), len(a.torn))]
        return [self.fault, *counted, figures + "".join(f"; **{w}**" for w in self.wrong)]

    def said(self) -> str:
        """Why it is not ok, for an assertion."""
        return "\n".join([" | ".join(self.cells()), *self._evidence()])

    def _evidence(self) -> Iterator[str]:
        if self.audit is not None:
            for name in ("lost", "duplicates", "torn"):
                found = getattr(self.audit, name)
                yield from (f"{name}: {line}" for line in found[:5])


def audited(place: Path, urls: str, since: float = 0.0, live: bool = False) -> Audit:
    """The audit of workers that kept their ledgers in `place`; of what was acknowledged later than `since`."""
    return audit(ReplayConfig(url=urls), "chaos", sorted(place.glob("*.ledger")), since, live)
