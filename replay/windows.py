"""Uniform draws of windows: the part of sampling that every source shares. Pure numpy, no storage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from replay.schema import Batch, EpisodeKey, EpisodeSpec, Window
from replay.source import Split

# A stretch of an episode: index of its first step, and (T, *shape) arrays by field.
Piece = tuple[int, Mapping[str, np.ndarray]]


def split_of(key: EpisodeKey, valid_share: float) -> Split:
    """The side of an episode, for good: a function of its name alone, the same in every process."""
    digest = hashlib.blake2b(str(key).encode(), digest_size=8).digest()
    return "valid" if int.from_bytes(digest, "big") < valid_share * 2**64 else "train"


class WindowTable:
    """The windows of a fixed set of episodes, numbered: by episode in sorted order, then by start."""

    def __init__(self, lengths: Mapping[EpisodeKey, int]) -> None:
        """`lengths` in steps."""
        self.keys: tuple[EpisodeKey, ...] = tuple(sorted(lengths))
        self._steps = np.array([lengths[k] for k in self.keys], np.int64)
        self._ends: dict[int, np.ndarray] = {}  # window length -> number of windows up to and with each episode

    def draw(self, key: tuple[int, ...], batch_size: int, length: int) -> tuple[Window, ...]:
        """Windows drawn with replacement, each one equally likely. Raises LookupError if no episode is long enough."""
        if length < 1 or batch_size < 1:
            raise ValueError(f"a batch of {batch_size} windows of {length} steps")
        if length not in self._ends:
            self._ends[length] = np.cumsum(np.maximum(self._steps - length + 1, 0))
        ends = self._ends[length]
        if not len(ends) or ends[-1] == 0:
            longest = self._steps.max(initial=0)
            raise LookupError(f"no episode has {length} steps: there are {len(self.keys)}, the longest with {longest}")
        numbers = np.random.default_rng(np.random.SeedSequence(key)).integers(ends[-1], size=batch_size)
        episodes = np.searchsorted(ends, numbers, side="right")
        starts = numbers - np.where(episodes > 0, ends[episodes - 1], 0)
        pairs = zip(episodes.tolist(), starts.tolist(), strict=True)
        return tuple(Window(key=self.keys[e], start=s, length=length) for e, s in pairs)


def gather(
    spec: EpisodeSpec,
    windows: Sequence[Window],
    pieces: Callable[[Window], Iterable[Piece]],
    fields: Sequence[str] | None,
) -> Batch:
    """Copies windows of one length out of the pieces that hold them. Raises KeyError for an unknown field."""
    wanted = [spec[name] for name in fields] if fields is not None else list(spec.fields)
    arrays = {f.name: np.empty((len(windows), windows[0].length, *f.shape), f.dtype) for f in wanted}
    for row, window in enumerate(windows):
        filled = 0
        for first_step, piece in pieces(window):
            begin = window.start + filled - first_step
            taken = min(window.length - filled, len(piece["reward"]) - begin)
            for name, out in arrays.items():
                out[row, filled : filled + taken] = piece[name][begin : begin + taken]
            filled += taken
        if filled != window.length:
            raise RuntimeError(f"{window} was given {filled} steps")
    return Batch(arrays=arrays, windows=tuple(windows))
