"""Episodes from a reader into a data set, and whether both hold the same afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Set
from typing import IO, Protocol

import numpy as np

from distwm.progress import metered
from replay.dataset.episodes import NamedEpisode, Reader, Unreadable
from replay.errors import BadInput


class Writer(Protocol):
    """DatasetWriter or LeRobotWriter."""

    @property
    def names(self) -> Set[str]: ...

    @property
    def steps(self) -> int: ...

    def write(self, episode: NamedEpisode) -> bool: ...

    def close(self) -> None: ...


def copy(reader: Reader, writer: Writer, title: str, stream: IO[str]) -> list[str]:
    """Writes every episode that is not there yet, and says how fast that was. Closes the writer.

    Returns what could not be read, and why.
    """
    wrong: list[str] = []
    present, steps, since_s = frozenset(writer.names), writer.steps, time.monotonic()
    try:
        with metered(stream, title, reader.episodes, len(present)) as meter:
            if present:
                meter.say(f"{len(present)} episodes are there already.")
            for found in reader.read(present):
                if isinstance(found, Unreadable):
                    wrong.append(found.reason)
                    meter.say(f"Left out: {found.reason}")
                else:
                    writer.write(found)
                meter.move(meter.done + 1)
    finally:
        writer.close()
    new, took_s = writer.steps - steps, time.monotonic() - since_s
    megabytes = new * sum(np.dtype(f.dtype).itemsize * math.prod(f.shape) for f in reader.spec.fields) / 1e6
    rate = f"{new / took_s:.0f} steps/s, {megabytes / took_s:.1f} MB/s of decoded data"
    stream.write(f"{len(writer.names)} episodes, {writer.steps} steps; {new} new ones in {took_s:.1f} s ({rate})\n")
    return wrong


def compare(reader: Reader, named: Callable[[str], NamedEpisode], stream: IO[str], *, tasks: bool = True) -> int:
    """Compares every episode that was written (`reader`) with the one of that name, bit by bit; returns how many.

    Raises BadInput, naming episode and field, if one differs; episodes that `named` no longer has are passed over.
    """
    equal = gone = 0
    with metered(stream, "compare", reader.episodes) as meter:
        for found in reader.read(frozenset()):
            meter.move(meter.done + 1)
            if isinstance(found, Unreadable):
                raise BadInput(f"What was written cannot be read: {found.reason}.", "Write it again elsewhere.")
            try:
                other = named(found.name)
            except KeyError:
                gone += 1
                continue
            if what := _difference(found, other, tasks):
                raise BadInput(f"Episode {found.name!r} differs: {what}.", "Write it again into another directory.")
            equal += 1
    stream.write(f"verified: {equal} episodes are equal bit by bit{f'; {gone} are gone by now' if gone else ''}\n")
    return equal


def complain(wrong: list[str], total: int) -> None:
    """Raises BadInput if episodes could not be read."""
    if wrong:
        raise BadInput(
            f"{len(wrong)} of {total} episodes could not be read, the first: {wrong[0]}.",
            "Restore what is damaged and run the same command again; the others are written.",
        )


def _difference(one: NamedEpisode, other: NamedEpisode, tasks: bool) -> str:
    """What differs, or nothing."""
    if one.arrays.keys() != other.arrays.keys():
        return "it has other fields"
    for name, array in one.arrays.items():
        there = other.arrays[name]
        if (array.dtype, array.shape) != (there.dtype, there.shape):
            return f"{name} is {array.dtype} {array.shape} and {there.dtype} {there.shape}"
        if np.ascontiguousarray(array).tobytes() != np.ascontiguousarray(there).tobytes():
            return f"the values of {name}"
    if one.actors != other.actors:
        return "who acted"
    return "the task" if tasks and one.task != other.task else ""
