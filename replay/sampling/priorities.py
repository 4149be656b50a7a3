"""Prioritised draws: a chunk is drawn in proportion to priority ** alpha, for each of the windows that start in it.

Schaul et al., Prioritized Experience Replay (2016), section 3.3 and 3.4, with chunks in the place of transitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.config import SamplingConfig
from replay.errors import BadInput
from replay.sampling.rows import Rows
from replay.sampling.starts import Groups, Starts
from replay.sampling.sum_tree import SumTree

_TURNS = 1000
LEAST, MOST = 1e-6, 1e6  # a chunk of priority 0 is still drawn at times, and none is drawn for ever


class Priorities:
    """How much learners want to see each chunk, in a column of the rows."""

    def __init__(self, rows: Rows) -> None:
        self.largest = 1.0  # that anybody gave
        self._rows = rows
        rows.column(self, "f4")

    def arrived(self, row: int) -> None:
        """A new chunk gets the largest priority seen."""
        self._rows.columns[self][row] = self.largest

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows),) float64."""
        return self._rows.columns[self][rows].astype(np.float64)

    def set(self, rows: np.ndarray, priorities: np.ndarray) -> None:
        """Of a row that is given twice the larger one counts."""
        priorities = np.clip(priorities, LEAST, MOST)
        order = np.argsort(priorities, kind="stable")
        self._rows.columns[self][rows[order]] = priorities[order]
        self.largest = max(self.largest, float(priorities.max(initial=0)))


class PrioritisedStarts(Starts):
    """Starts that are drawn by their chunks' priorities."""

    def __init__(
        self, rows: Rows, length: int, across: bool, groups: Groups, priorities: Priorities, config: SamplingConfig
    ) -> None:
        super().__init__(rows, length, across, groups)
        self._priorities, self._config = priorities, config
        self._weights = ("weights", self)
        rows.column(self._weights, "f8")
        self._tree: SumTree | None = None
        self._layout = -1  # of the rows that the tree is over

    def close(self) -> None:
        super().close()
        del self._rows.columns[self._weights]

    def reprice(self, rows: np.ndarray) -> None:
        self._counted(rows, self.counts(rows))

    def lose(self, begin: int, end: int) -> None:
        """The chunks of these rows are gone."""
        self._set(np.arange(begin, end), np.zeros(end - begin))

    def draw(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows, steps within them, and weights that undo the preference, the largest being 1."""
        rows = self._rows_of(rng, size)
        counts = self.counts(rows)
        begin = (rng.random(size) * counts).astype(np.int64)
        preference = self._rows.columns[self._weights][rows] / counts  # for the very window, up to a factor
        weights = preference**-self._config.weight_exponent
        return rows, begin, (weights / weights.max(initial=0)).astype(np.float32)

    def _rows_of(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draws again what lies on a shard that is away."""
        tree, rows = self._grown(), np.zeros(0, np.int64)
        for _ in range(_TURNS):
            found = tree.find(rng.random(size - len(rows)) * tree.total)
            if self.away:
                found = found[~self.is_away(self._rows.table["life"][found])]
            rows = np.append(rows, found)
            if len(rows) == size:
                return rows
        raise LookupError("all that has some priority is on shards that are away")

    def _counted(self, rows: np.ndarray, counts: np.ndarray) -> None:
        self._set(rows, self._priorities.of(rows) ** self._config.priority_exponent * counts)

    def _set(self, rows: np.ndarray, weights: np.ndarray) -> None:
        self._rows.columns[self._weights][rows] = weights
        if self._tree is not None and self._layout == self._rows.layout:
            self._tree.refresh(rows)

    def _grown(self) -> SumTree:
        """The tree; a new one if rows have moved."""
        if self._tree is None or self._layout != self._rows.layout:
            self._tree, self._layout = SumTree(self._rows.columns[self._weights]), self._rows.layout
        return self._tree


def check_priorities(windows: Sequence[object], priorities: np.ndarray) -> np.ndarray:
    """As float64 (len(windows),). Raises BadInput for others than finite numbers of 0 or more, one for each window."""
    priorities = np.asarray(priorities, np.float64)
    if priorities.shape != (len(windows),):
        raise BadInput(
            f"There are {len(windows)} windows and priorities of shape {priorities.shape}.",
            "Give one priority for each window.",
        )
    bad = ~(np.isfinite(priorities) & (priorities >= 0))
    if bad.any():
        raise BadInput(
            f"A priority is {priorities[bad][0]}.", "Give finite priorities of 0 or more, such as |td error|."
        )
    return priorities
