"""Whether a stage is good enough to go on: held-out figures against the thresholds of the recipe."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from replay.errors import BadInput

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One figure of a gate. A figure that is not a number never passes."""

    value: float
    threshold: str
    passed: bool


def parse(threshold: str) -> tuple[Callable[[float, float], bool], float]:
    """ ">=0.95" -> (>=, 0.95). Raises BadInput if it is anything else."""
    match = re.fullmatch(r"\s*(>=|<=|>|<)\s*(\S+)\s*", threshold)
    try:
        if match:
            return _COMPARE[match[1]], float(match[2])
    except ValueError:
        pass
    raise BadInput(f"A gate cannot be {threshold!r}.", 'Write a comparison and a number, such as ">=0.95".')


def judge(figures: Mapping[str, float], gate: Mapping[str, str]) -> dict[str, Verdict]:
    """The verdict on every figure that has a threshold. Raises BadInput if one of them is not reported."""
    verdicts = {}
    for name, threshold in gate.items():
        if not threshold:
            continue
        if name not in figures:
            raise BadInput(f"The gate asks for {name!r}, which nobody reports.", f"Use one of {', '.join(figures)}.")
        compare, bound = parse(threshold)
        verdicts[name] = Verdict(value=figures[name], threshold=threshold, passed=compare(figures[name], bound))
    return verdicts
