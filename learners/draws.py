"""Random numbers for batches that were joined: each part draws from a generator of its own, as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class Draws:
    """Random numbers for the rows of one or several batches. Rows that were started together share a generator, so they
    can be joined with others and split off again, but not parted from each other."""

    def __init__(self, parts: Sequence[tuple[int, torch.Generator]]) -> None:
        """`parts`: number of rows and generator of each batch, in the order of the rows."""
        self._parts = tuple(parts)

    @staticmethod
    def start(batch_size: int, seed: int, device: torch.device | str = "cpu") -> Draws:
        return Draws([(batch_size, torch.Generator(device).manual_seed(seed))])

    def __len__(self) -> int:
        return sum(size for size, _ in self._parts)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape), independent standard normal."""
        return self._draw(lambda size, g: torch.randn(size, *shape, generator=g, device=g.device, dtype=dtype))

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape), independent and uniform in [0, 1)."""
        return self._draw(lambda size, g: torch.rand(size, *shape, generator=g, device=g.device, dtype=dtype))

    def categorical(self, probs: Tensor) -> Tensor:
        """Indices (B, ...) drawn with probabilities (B, ..., K); what torch.multinomial draws with one generator."""
        shape, dtype = probs.shape[1:], probs.dtype
        races = self._draw(
            lambda size, g: torch.empty(size, *shape, device=g.device, dtype=dtype).exponential_(generator=g)
        )
        return (probs / races).argmax(-1)

    @staticmethod
    def join(several: Sequence[Draws]) -> Draws:
        """The rows of all, in order. They share their generators with the given ones, which must not draw any more."""
        return Draws([part for one in several for part in one._parts])

    def split(self, sizes: Sequence[int]) -> list[Draws]:
        """Back into batches of these sizes. Raises ValueError if that parts rows which were started together."""
        parts, found = list(self._parts), []
        for size in sizes:
            mine: list[tuple[int, torch.Generator]] = []
            while parts and sum(n for n, _ in mine) < size:
                mine.append(parts.pop(0))
            found.append(Draws(mine))
        if parts or [len(one) for one in found] != list(sizes):
            raise ValueError(f"batches of {[n for n, _ in self._parts]} rows do not split into {list(sizes)}")
        return found

    def _draw(self, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        drawn = [draw(size, generator) for size, generator in self._parts]
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


Source = torch.Generator | Draws | None  # what random numbers come from; None: torch's global state


def randn_like(x: Tensor, source: Source) -> Tensor:
    """Standard normal numbers of the shape, type and device of x (B, ...)."""
    if isinstance(source, Draws):
        return source.normal(*x.shape[1:], dtype=x.dtype)
    return torch.randn(x.shape, generator=source, device=x.device, dtype=x.dtype)


def categorical(probs: Tensor, source: Source) -> Tensor:
    """Indices (B, ...) drawn with probabilities (B, ..., K)."""
    if isinstance(source, Draws):
        return source.categorical(probs)
    flat = torch.multinomial(probs.flatten(0, -2), 1, generator=source)
    return flat.view(probs.shape[:-1])
