"""Herobraine's spaces and values, which are nested and full of words, as arrays and numbers; and back.

"state" is what is observed besides the picture: every leaf in the order of herobraine's names, numbers as they are and
words one-hot. Actions keep their parts; a word becomes its place among the words. Both as the readers of recorded
data have them (actors/data/minerl_fields.py). Runs on Python 3.8 and numpy; spaces are told by the names of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from actors.hosting import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Leaf = tuple[tuple[str, ...], Any]  # names from the top, the space

POV = "pov"


class State:
    """The leaves of an observation as one vector."""

    def __init__(self, space: Any) -> None:
        self._leaves = [leaf for leaf in leaves(space) if leaf[0] != (POV,)]
        self.fields = [["$".join(names), width(one)] for names, one in self._leaves]  # as the readers name them

    def space(self) -> dict[str, Any]:
        bounds = [_bounds(one) for _, one in self._leaves]
        low, high = (np.concatenate(side).astype(np.float32) for side in zip(*bounds))  # noqa: B905 (Python 3.8)
        return plain.box(low, high, low.shape, np.float32)

    def read(self, seen: Any) -> np.ndarray:
        """(S,) float32."""
        return np.concatenate([column(one, _inside(seen, names)) for names, one in self._leaves])


def leaves(space: Any, above: Sequence[str] = ()) -> Iterator[Leaf]:
    for name, one in space.spaces.items():
        if hasattr(one, "spaces"):
            yield from leaves(one, (*above, name))
        else:
            yield (*above, name), one


def width(space: Any) -> int:
    return len(space.values) if _is_enum(space) else int(np.prod(space.shape, dtype=np.int64))


def column(space: Any, value: Any) -> np.ndarray:
    """(width,) float32. Raises KeyError for a word that the space lacks."""
    if _is_enum(space):
        return np.eye(len(space.values), dtype=np.float32)[space.value_map[str(value)]]
    return np.asarray(value, np.float32).reshape(-1)


def action_space(space: Any) -> dict[str, Any]:
    """A Dict of Discrete and Box."""
    return plain.fields(**{name: _part(one) for name, one in space.spaces.items()})


def to_hero(space: Any, action: Mapping[str, Any]) -> dict[str, Any]:
    """Herobraine's action of ours."""
    return {name: _value(one, action[name]) for name, one in space.spaces.items()}


def from_hero(space: Any, action: Mapping[str, Any]) -> dict[str, Any]:
    """Ours of herobraine's; what it does not name is at rest."""
    return {name: _place(one, action.get(name, one.no_op())) for name, one in space.spaces.items()}


def _part(space: Any) -> dict[str, Any]:
    kind = {"kind": "discrete", "n": int(getattr(space, "n", 0)), "start": 0}
    return kind if _is_discrete(space) else plain.describe(space)


def _value(space: Any, value: Any) -> Any:
    if _is_enum(space):
        return str(space.values[int(value)])
    return int(value) if _is_discrete(space) else np.asarray(value, space.dtype)


def _place(space: Any, value: Any) -> Any:
    if _is_enum(space):
        return int(space.value_map[str(value)])
    return int(value) if _is_discrete(space) else np.asarray(value, space.dtype)


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    if _is_enum(space):
        return np.zeros(len(space.values)), np.ones(len(space.values))
    return np.reshape(space.low, -1), np.reshape(space.high, -1)


def _inside(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        value = value[name]
    return value


def _is_enum(space: Any) -> bool:
    return hasattr(space, "value_map")


def _is_discrete(space: Any) -> bool:
    return hasattr(space, "n")
