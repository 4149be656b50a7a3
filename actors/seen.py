"""What environments show, as an observation that is made when the agent looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from actors.lane import Record
from learners.agent import Observation


class Seen(Observation):
    """Of these records, one a row. For an agent that looks at nothing, or seldom, no arrays are made: beside a quick
    simulator they are a good part of a decision."""

    _records: Sequence[Record]
    _names: Sequence[str]

    def __init__(self, records: Sequence[Record], names: Sequence[str]) -> None:
        """`names`: of the fields that are observations."""
        self.__dict__.update(_records=records, _names=names)  # an Observation is frozen

    @cached_property
    def fields(self) -> Mapping[str, np.ndarray]:
        return {name: self._column(name) for name in self._names}

    @cached_property
    def previous_action(self) -> np.ndarray:
        return self._column("action")

    @cached_property
    def is_first(self) -> np.ndarray:
        return self._column("is_first")

    def _column(self, name: str) -> np.ndarray:
        return np.array([record[name] for record in self._records])  # quicker than np.stack
