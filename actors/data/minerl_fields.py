"""The handlers of MineRL v0 (0.4.4) as vectors: what herobraine's spaces are, flattened in the order of their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_TOOLS = tuple(f"{material}_{tool}" for material in ("iron", "stone", "wooden") for tool in ("axe", "pickaxe"))
_CRAFTED = ("furnace", *_TOOLS[:2], "none", *_TOOLS[2:])
# Words in the order of herobraine's Enum, which sorts them.
WORDS: Mapping[str, tuple[str, ...]] = {
    "action$craft": ("crafting_table", "none", "planks", "stick", "torch"),
    "action$equip": ("air", *_TOOLS[:2], "none", *_TOOLS[2:]),
    "action$nearbyCraft": _CRAFTED,
    "action$nearbySmelt": ("coal", "iron_ingot", "none"),
    "action$place": ("cobblestone", "crafting_table", "dirt", "furnace", "none", "stone", "torch"),
    "observation$equipped_items$mainhand$type": ("air", *_TOOLS[:2], "none", "other", *_TOOLS[2:]),
}
NAVIGATE_PLACE = ("dirt", "none")
HIGH = {"action$camera": 180.0, "action$vector": 1.05}  # of a Box from -HIGH to HIGH


class BadKey(Exception):
    """An array that is not what its handler writes; names its key."""


@dataclass(frozen=True, slots=True)
class Part:
    """One array of rendered.npz as columns of a vector."""

    key: str
    width: int
    words: tuple[str, ...] = ()
    binary: bool = False
    high: float = 1.0

    def columns(self, values: np.ndarray) -> np.ndarray:
        """(T, width) float32. Raises BadKey, naming the row."""
        if self.words:
            return self._one_hot(np.searchsorted(self.words, values.astype(str)) % len(self.words), values)
        if values.dtype.kind not in "biuf" or values.size != len(values) * (1 if self.binary else self.width):
            raise BadKey(f"{self.key}: it holds {values.dtype} {values.shape}")
        if self.binary:
            return self._one_hot(np.clip(values.reshape(-1), 0, 1).astype(np.int64), values.reshape(-1))
        scaled = values.reshape(len(values), -1).astype(np.float64) / self.high
        return (np.clip(scaled, -1, 1) if self.key in HIGH else scaled).astype(np.float32)

    def _one_hot(self, chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
        meant = np.array(self.words)[chosen] if self.words else chosen
        if len(wrong := np.flatnonzero(meant != values)):
            raise BadKey(f"{self.key}, row {wrong[0]}: {values[wrong[0]]!r} is none of {self.words or (0, 1)}")
        return np.eye(self.width, dtype=np.float32)[chosen]


def parts_of(env: str, arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[Part, ...]:
    """The parts of the vector of `prefix` ("action" or "observation") in their order; pov is none of them."""
    keys = sorted((k for k in arrays if k.startswith(prefix + "$") and not k.endswith("$pov")), key=_order)
    return tuple(_part(env, key, arrays[key]) for key in keys)


def vector(parts: Sequence[Part], arrays: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """(rows, width) float32. Raises BadKey if an array is missing, too short or something else."""
    found = []
    for part in parts:
        if part.key not in arrays:
            raise BadKey(f"{part.key}: it is missing")
        if len(arrays[part.key]) < rows:
            raise BadKey(f"{part.key}: it ends at row {len(arrays[part.key])} of {rows}")
        found.append(part.columns(arrays[part.key][:rows]))
    return np.concatenate(found, axis=1) if found else np.zeros((rows, 0), np.float32)


def layout(parts: Sequence[Part]) -> list[Any]:
    """What a manifest says of a vector: each array and its width, with the words of one-hot parts."""
    return [[p.key.partition("$")[2], p.width, *([list(p.words)] if p.words else [])] for p in parts]


def _order(key: str) -> list[str]:
    return key.split("$")


def _part(env: str, key: str, values: np.ndarray) -> Part:
    if key in WORDS:
        words = NAVIGATE_PLACE if key == "action$place" and "Navigate" in env else WORDS[key]
        return Part(key, len(words), words)
    width = int(np.prod(values.shape[1:], dtype=np.int64))
    if key.startswith("action$") and key not in HIGH:
        return Part(key, 2, binary=True)
    return Part(key, width, high=HIGH.get(key, 1.0))
