"""What an agent remembers of many episodes, in whatever company they acted last."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from actors.inference.messages import Key
from learners.agent import Agent

Segment = tuple[Key, ...]  # what one request asks for


@dataclass(slots=True, eq=False)
class _Company:
    """Rows that share a carry."""

    segments: tuple[Segment, ...]
    sizes: dict[Key, int]
    carry: Any

    @property
    def keys(self) -> Segment:
        return tuple(itertools.chain.from_iterable(self.segments))

    def leave(self, key: Key) -> None:
        """The rows of that key are nobody's."""
        nobody = Key("", "", next(_numbers))
        self.segments = tuple(tuple(nobody if one == key else one for one in segment) for segment in self.segments)
        self.sizes[nobody] = self.sizes.pop(key)


_numbers = itertools.count()


class Carries:
    """The carries of one agent by key. Joining and splitting copies, so that is done only where the company changes."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._companies: dict[Key, _Company] = {}
        self._used_s: dict[Key, float] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._companies

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._companies))

    @property
    def rows(self) -> int:
        return sum(company.sizes[key] for key, company in self._companies.items())

    def begin(self, key: Key, size: int, seed: int) -> None:
        """Also once more."""
        self.drop(key)
        self._used_s[key] = time.monotonic()
        self._companies[key] = _Company(((key,),), {key: size}, self.agent.start(size, seed))

    def take(self, segments: Sequence[Segment]) -> Any:
        """The joined carry of these rows, in order. It is out until it is put back."""
        wanted = tuple(segments)
        company = self._companies[wanted[0][0]]
        if company.keys != tuple(itertools.chain.from_iterable(wanted)):
            company = self._together([self._isolated(segment) for segment in wanted], wanted)
        company.segments = wanted
        return company.carry

    def put(self, segments: Sequence[Segment], carry: Any) -> None:
        """The next carry of what was taken."""
        self._companies[segments[0][0]].carry = carry
        now = time.monotonic()
        self._used_s |= {key: now for segment in segments for key in segment}

    def drop(self, key: Key) -> None:
        """Its memory goes when the company changes, or when all have been dropped."""
        company = self._companies.pop(key, None)
        if company is not None:
            company.leave(key)
        self._used_s.pop(key, None)

    def unused(self, since_s: float) -> list[Key]:
        """Keys without a decision since that time of the monotonic clock."""
        return [key for key, used_s in self._used_s.items() if used_s < since_s]

    def _isolated(self, segment: Segment) -> _Company:
        """A company of these rows alone."""
        if self._companies[segment[0]].keys != segment:
            for company in dict.fromkeys(self._companies[key] for key in segment):
                whole = segment in company.segments
                self._part(company, company.segments if whole else [(key,) for key in company.keys])
        return self._together(list(dict.fromkeys(self._companies[key] for key in segment)), (segment,))

    def _part(self, company: _Company, segments: Sequence[Segment]) -> None:
        if len(segments) == 1:
            return
        sizes = [{key: company.sizes[key] for key in segment} for segment in segments]
        carries = self.agent.split(company.carry, [sum(each.values()) for each in sizes])
        for segment, each, carry in zip(segments, sizes, carries, strict=True):
            self._place(_Company((segment,), each, carry))

    def _together(self, parts: Sequence[_Company], segments: tuple[Segment, ...]) -> _Company:
        if len(parts) == 1:
            return parts[0]
        sizes = {key: size for part in parts for key, size in part.sizes.items()}
        return self._place(_Company(segments, sizes, self.agent.join([part.carry for part in parts])))

    def _place(self, company: _Company) -> _Company:
        self._companies |= {key: company for key in company.keys if key in self._companies}
        return company
