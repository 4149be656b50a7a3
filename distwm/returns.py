"""What every policy earned, and what it gained over the reference on the same start states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distwm.contest import Player
from distwm.statistics import Interval, t_interval

Episodes = Mapping[int, float]  # return by start state


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy in one readout."""

    policy: str
    mode: str
    returns: Interval
    gain: Interval | None  # over the reference; None for itself, or where it did not play


def by_policy(rows: Iterable[Mapping[str, Any]]) -> Mapping[Player, Episodes]:
    """Rows of results/returns.json -> returns by start state, by (policy, mode), of the last round that was played."""
    out: dict[tuple[str, str], dict[int, float]] = {}
    for row in _of_last_round(rows):
        out.setdefault((row["policy"], row["mode"]), {})[row["seed"]] = float(row["total_reward"])
    return out


def solved_by_policy(rows: Iterable[Mapping[str, Any]]) -> Mapping[Player, list[bool]]:
    """Whether each episode solved the task, by (policy, mode), in the same round; none where the suite does not say."""
    out: dict[tuple[str, str], list[bool]] = {}
    for row in _of_last_round(rows):
        if row.get("success") is not None:
            out.setdefault((row["policy"], row["mode"]), []).append(bool(row["success"]))
    return out


def milestones_by_policy(rows: Iterable[Mapping[str, Any]]) -> Mapping[Player, list[Mapping[str, bool]]]:
    """Which milestones each episode reached, by (policy, mode), in the same round; none where the suite has none."""
    out: dict[tuple[str, str], list[Mapping[str, bool]]] = {}
    for row in _of_last_round(rows):
        if row.get("milestones"):
            out.setdefault((row["policy"], row["mode"]), []).append(row["milestones"])
    return out


def _of_last_round(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    rows = list(rows)
    last = max((row.get("round", 0) for row in rows), default=0)
    return [row for row in rows if row.get("round", 0) == last]


def of_last_stage(evaluations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of results/curve.json of the stage that came last: in each round steps are counted anew."""
    return [row for row in evaluations if row.get("stage") == evaluations[-1].get("stage")]


def returns_table(played: Mapping[Player, Episodes], reference: Player) -> list[Row]:
    """One row for each policy and readout, in the order in which they played. Gains are over the reference in the same
    readout, or in its own where it did not play in that."""
    return [
        Row(
            policy=name,
            mode=mode,
            returns=t_interval([*episodes.values()]),
            gain=_gain(played, (name, mode), reference),
        )
        for (name, mode), episodes in played.items()
    ]


def differences(played: Mapping[Player, Episodes], ours: Player, theirs: Player) -> np.ndarray:
    """Return of `ours` minus that of `theirs`, for every start state that both met. Empty if one did not play."""
    a, b = played.get(ours, {}), played.get(theirs, {})
    return np.array([a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())])


def _gain(played: Mapping[Player, Episodes], ours: Player, reference: Player) -> Interval | None:
    theirs = (reference[0], ours[1])
    d = differences(played, ours, theirs if theirs in played else reference)
    return None if ours[0] == reference[0] or not len(d) else t_interval(d)
