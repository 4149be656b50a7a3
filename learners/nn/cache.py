"""What the layers over time remember: keys and values of the last frames, in a ring.

Shapes: B rows, S tokens of a frame, C frames of context, K key heads, E channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Cache:
    """Keys and values of the last C frames of each time layer, for rows that may start at different times.

    `write` puts a frame into the slot of the present; until `advance` the next write replaces it. That slot held the
    frame that has just left the window, so drafts of the present (denoising steps) and its final commit cost the same.

    Rows that were joined may have seen different numbers of frames. Each then has its own slot of the present; as long
    as all have seen as many, `lag` is None and nothing is paid for it.
    """

    def __init__(self, batch: int, layers: int, context: int, tokens: int, device: torch.device) -> None:
        self.position = 0  # of the present, in the rows that have seen most
        self.lag: Tensor | None = None  # (B,) how much smaller the position of each row is
        self.context, self.tokens = context, tokens
        self.first = torch.zeros(batch, dtype=torch.long, device=device)  # position of each row's first frame
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.mask: Tensor | None = None
        self._lags = (0,) * batch  # `lag` as plain numbers: on a GPU reading it would wait
        self._fresh = True

    def __len__(self) -> int:
        return len(self._lags)

    def restart(self, rows: Tensor) -> None:
        """Rows (B,) bool forget the past: the present is their first frame."""
        if rows.any():
            self.first = torch.where(rows, self.now, self.first)
            self._fresh = True

    def advance(self) -> None:
        self.position += 1
        self._fresh = True

    @property
    def now(self) -> Tensor | int:
        """The position of the present: one for all rows, or (B,)."""
        return self.position if self.lag is None else self.position - self.lag

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (S B, K, 1, E) of the present; returns what is remembered, (S B, K, C, E), with the present in it.

        S may be smaller than the `tokens` that the cache was made for: the last tokens of a frame (the agent's) can be
        left out of a pass. Token-major rows make the rest one contiguous piece. C grows until the ring is full.
        """
        keys, values = self.keys[layer], self.values[layer]
        if keys is None or values is None:
            keys = self.keys[layer] = self._ring(k)
            values = self.values[layer] = self._ring(v)
        rows, slot = len(k), self.now % self.context
        if isinstance(slot, int):
            keys[:rows, :, slot] = k[:, :, 0]
            values[:rows, :, slot] = v[:, :, 0]
        else:
            at = (torch.arange(rows, device=k.device), slice(None), slot.repeat(rows // len(self)))
            keys[at], values[at] = k[:, :, 0], v[:, :, 0]
        return keys[:rows, :, : self.filled], values[:rows, :, : self.filled]

    @property
    def filled(self) -> int:
        """Slots that hold a frame, the present's included, in the rows that have seen most."""
        return min(self.position + 1, self.context)

    def visible(self) -> Tensor | None:
        """(B, C) true for slots in a row's window; None when all are. Computed once a frame."""
        if self._fresh:
            slots = torch.arange(self.filled, device=self.first.device)
            now = self.now if isinstance(self.now, int) else self.now[:, None]
            held = now - (now - slots) % self.context  # the position that each slot holds; negative if it holds none
            mask = held >= self.first[:, None]
            self.mask = None if bool(mask.all()) else mask
            self._fresh = False
        return self.mask

    @staticmethod
    def join(caches: Sequence[Cache]) -> Cache:
        """The rows of all, in order, copied. They are of one transformer."""
        one = caches[0]
        found = Cache(sum(map(len, caches)), len(one.keys), one.context, one.tokens, one.first.device)
        found.first = torch.cat([cache.first for cache in caches])
        found._set_clock([cache.position - lag for cache in caches for lag in cache._lags])
        for layer in range(len(one.keys)):
            found.keys[layer] = _join([cache.keys[layer] for cache in caches], caches)
            found.values[layer] = _join([cache.values[layer] for cache in caches], caches)
        return found

    def split(self, sizes: Sequence[int]) -> list[Cache]:
        """Caches of so many rows each, in order, copied."""
        ends = torch.tensor(sizes).cumsum(0).tolist()
        return [self._rows(end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def _rows(self, begin: int, end: int) -> Cache:
        found = Cache(end - begin, len(self.keys), self.context, self.tokens, self.first.device)
        found.first = self.first[begin:end].clone()
        found._set_clock([self.position - lag for lag in self._lags[begin:end]])
        found.keys = [None if x is None else self._cut(x, begin, end) for x in self.keys]
        found.values = [None if x is None else self._cut(x, begin, end) for x in self.values]
        return found

    def _cut(self, ring: Tensor, begin: int, end: int) -> Tensor:
        return ring.unflatten(0, (self.tokens, -1))[:, begin:end].flatten(0, 1)

    def _ring(self, like: Tensor) -> Tensor:
        return like.new_zeros((self.tokens * len(self), like.shape[1], self.context, like.shape[-1]))

    def _set_clock(self, positions: Sequence[int]) -> None:
        self.position = max(positions)
        self._lags = tuple(self.position - position for position in positions)
        self.lag = torch.tensor(self._lags, device=self.first.device) if any(self._lags) else None


def _join(rings: Sequence[Tensor | None], caches: Sequence[Cache]) -> Tensor | None:
    """A ring that was never written holds nothing that is looked at."""
    written = next((ring for ring in rings if ring is not None), None)
    if written is None:
        return None
    full = [cache._ring(written) if ring is None else ring for ring, cache in zip(rings, caches, strict=True)]
    by_token = [ring.unflatten(0, (cache.tokens, -1)) for ring, cache in zip(full, caches, strict=True)]
    return torch.cat(by_token, dim=1).flatten(0, 1)
