"""Byte pair encoding (Sennrich et al. 2016) of sequences of small integers: frequent neighbours become one symbol.

Shapes: N sequences of S symbols; V symbols there are, merged ones included.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

END = -1  # between two sequences


@dataclass(slots=True)
class BytePairs:
    """Symbols 0 .. alphabet - 1, and one more for each merge. Merges are made in the order they were learnt in."""

    alphabet: int
    merges: list[tuple[int, int]] = field(default_factory=list)

    @staticmethod
    def fit(sequences_NS: np.ndarray, alphabet: int, vocabulary: int, least: int = 2) -> BytePairs:
        """The most frequent pair becomes a symbol, until there are `vocabulary` of them or none occurs `least` times.

        Of pairs that are as frequent, the one with the lower symbols.
        """
        found, flat = BytePairs(alphabet), _flat(sequences_NS)
        while alphabet + len(found.merges) < vocabulary:
            pair, times = _most_frequent(flat, alphabet + len(found.merges))
            if times < least:
                break
            flat = _merged(flat, pair, alphabet + len(found.merges))
            found.merges.append(pair)
        return found

    @property
    def vocabulary(self) -> int:
        return self.alphabet + len(self.merges)

    def encode(self, sequences_NS: np.ndarray) -> list[np.ndarray]:
        """Symbols of each sequence. Raises ValueError for a symbol that is not of the alphabet."""
        if sequences_NS.size and (sequences_NS.min() < 0 or sequences_NS.max() >= self.alphabet):
            raise ValueError(f"symbols must lie in [0, {self.alphabet})")
        flat = _flat(sequences_NS)
        for number, pair in enumerate(self.merges):
            flat = _merged(flat, pair, self.alphabet + number)
        return np.split(flat[flat != END], np.cumsum(_lengths(flat))[:-1])

    def decode(self, symbols: np.ndarray) -> np.ndarray:
        """The symbols of the alphabet that a sequence stands for."""
        parts: list[np.ndarray] = [np.array([letter]) for letter in range(self.alphabet)]
        for first, second in self.merges:
            parts.append(np.concatenate([parts[first], parts[second]]))
        return np.concatenate([parts[symbol] for symbol in symbols]) if len(symbols) else np.zeros(0, np.int64)


def _flat(sequences_NS: np.ndarray) -> np.ndarray:
    return np.pad(np.asarray(sequences_NS, np.int64), ((0, 0), (0, 1)), constant_values=END).ravel()


def _lengths(flat: np.ndarray) -> np.ndarray:
    return np.diff(np.flatnonzero(np.concatenate([[END], flat]) == END)) - 1


def _most_frequent(flat: np.ndarray, count: int) -> tuple[tuple[int, int], int]:
    """A symbol three times in a row is counted as two pairs, as is usual."""
    first, second = flat[:-1], flat[1:]
    inside = (first != END) & (second != END)
    times = np.bincount(first[inside] * count + second[inside], minlength=1)
    best = int(times.argmax())
    return divmod(best, count), int(times[best])


def _merged(flat: np.ndarray, pair: tuple[int, int], symbol: int) -> np.ndarray:
    places = np.flatnonzero((flat[:-1] == pair[0]) & (flat[1:] == pair[1]))
    if pair[0] == pair[1]:
        places = _every_other(places)
    if not len(places):
        return flat
    out = flat.copy()
    out[places] = symbol
    return np.delete(out, places + 1)


def _every_other(places: np.ndarray) -> np.ndarray:
    """In a run of equal symbols, pairs are taken from the left and do not overlap."""
    starts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    within = np.arange(len(places)) - np.repeat(starts, np.diff(np.append(starts, len(places))))
    return places[within % 2 == 0]
