"""Batches mixed from several sources by fixed shares: half live experience, a quarter of experts, a recorded set."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from replay.errors import BadInput
from replay.sampling.priorities import check_priorities
from replay.schema import Batch, Episode, EpisodeKey, Window
from replay.source import Source, Split

_log = logging.getLogger(__name__)
_EXAMPLE = "Write parts and their shares of each batch, such as live=0.5,live:expert=0.25,/data/set=0.25."


def parse_mixture(text: str) -> list[tuple[str, float]]:
    """Parts and shares of `part=share,part=share`. Raises BadInput unless the shares are above 0 and sum up to 1."""
    parts = [_parse_part(item.strip()) for item in text.split(",")]
    names = [name for name, _ in parts]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"The mixture has {name!r} {names.count(name)} times.", "Give each part one share.")
    total = sum(share for _, share in parts)
    if not math.isclose(total, 1, abs_tol=1e-6):
        raise BadInput(f"The shares of the mixture sum up to {total:g}.", "Choose shares that sum up to 1.")
    return parts


def _parse_part(item: str) -> tuple[str, float]:
    name, _, share = item.rpartition("=")
    if not name.strip():
        raise BadInput(f"The mixture has {item!r}, which is no part with a share.", _EXAMPLE)
    try:
        value = float(share)
    except ValueError:
        raise BadInput(f"The mixture gives {name} the share {share!r}, which is no number.", _EXAMPLE) from None
    if not 0 < value <= 1:
        raise BadInput(f"The mixture gives {name} the share {share}.", "Choose a share above 0, up to 1.")
    return name.strip(), value


class MixtureSource:
    """Implements `Source` on several. Each batch has, of each part, its share of the rows, rounded up or down at random
    so that the average is exact; the rows lie part by part.

    Keys of different parts may be equal, so here the stream of part i is called "i:" and its name there. What two parts
    both offer (live and live:expert do) is offered twice, once under each.
    """

    def __init__(self, parts: Sequence[tuple[Source, float]]) -> None:
        """Sources and their shares, in proportion. Raises BadInput for parts with other fields than the first."""
        if not parts or not all(0 < share < math.inf for _, share in parts):
            raise BadInput(f"The mixture has the shares {[share for _, share in parts]}.", "Give shares above 0.")
        self.parts = tuple(source for source, _ in parts)
        self.spec = self.parts[0].spec
        for number, part in enumerate(self.parts):
            self._check_spec(number, part)
        self._shares = np.array([share for _, share in parts], np.float64)
        self._lacking: set[tuple[int, Split]] = set()  # told so far

    def refresh(self) -> int:
        """Looks for new experience in all parts; returns the number of steps on offer, those of each part counted."""
        return sum(part.refresh() for part in self.parts)

    def episodes(self, split: Split) -> Sequence[EpisodeKey]:
        """Keys of all parts, part by part, sorted within each."""
        return [_outer(number, key) for number, part in enumerate(self.parts) for key in part.episodes(split)]

    def episode(self, key: EpisodeKey, fields: Sequence[str] | None = None) -> Episode:
        """One episode; only `fields` if given. Raises KeyError."""
        number, inner = self._inner(key)
        return replace(self.parts[number].episode(inner, fields), key=key)

    def batch(
        self,
        key: tuple[int, ...],
        batch_size: int,
        length: int,
        fields: Sequence[str] | None = None,
        split: Split = "train",
        *,
        context: int = 0,
        across: bool = False,
    ) -> Batch:
        """See `Source`. A part without a long enough episode leaves its share to the others.

        Raises LookupError if there is none in any part.
        """
        able = list(range(len(self.parts)))
        while able:
            rows = self._rows(key, batch_size, able)
            drawn: dict[int, Batch] = {}
            for number in sorted(rows, key=lambda n: (n, split) not in self._lacking):  # to find out before the work
                part, its_key = self.parts[number], (*key, number + 1)  # SeedSequence does not tell a last 0
                try:
                    drawn[number] = part.batch(
                        its_key, rows[number], length, fields, split, context=context, across=across
                    )
                except KeyError:
                    raise  # a field that nobody has
                except LookupError as error:
                    self._leave_out(number, split, error)
                    able.remove(number)
                    break
            else:
                self._lacking -= {(number, split) for number in drawn}
                return _joined(drawn)
        raise LookupError(f"no part of the mixture has an episode of {length} steps")

    def feedback(self, windows: Sequence[Window], priorities: np.ndarray) -> None:
        """Tells each part of its own windows."""
        inner = [self._inner(window.key) for window in windows]
        priorities = check_priorities(windows, priorities)
        for number, part in enumerate(self.parts):
            mine = [row for row, (owner, _) in enumerate(inner) if owner == number]
            if mine:
                part.feedback([replace(windows[row], key=inner[row][1]) for row in mine], priorities[mine])

    def close(self) -> None:
        """Closes every part."""
        with ExitStack() as parts:  # one that fails holds up no other
            for part in self.parts:
                parts.callback(part.close)

    def _rows(self, key: tuple[int, ...], batch_size: int, able: Sequence[int]) -> dict[int, int]:
        """The rows of each part that has some: systematic sampling, so each has its share rounded up or down."""
        shares = np.array([self._shares[number] for number in able])
        offset = np.random.default_rng(np.random.SeedSequence(key)).random()
        ends = np.floor(np.cumsum(shares) / shares.sum() * batch_size + offset).astype(int)
        ends[-1] = batch_size
        return {number: n for number, n in zip(able, np.diff(ends, prepend=0).tolist(), strict=True) if n}

    def _leave_out(self, number: int, split: Split, error: LookupError) -> None:
        if (number, split) not in self._lacking:
            _log.warning("Part %d of the mixture leaves its %s share to the others: %s", number, split, error)
        self._lacking.add((number, split))

    def _check_spec(self, number: int, part: Source) -> None:
        mine, theirs = ({f.name: f for f in spec.fields} for spec in (self.spec, part.spec))
        for name in {**mine, **theirs}:
            if mine.get(name) != theirs.get(name):
                raise BadInput(
                    f"Part {number} of the mixture has another field {name!r}: {theirs.get(name)} there, "
                    f"{mine.get(name)} in part 0.",
                    "Mix sources of the same environment and settings.",
                )

    def _inner(self, key: EpisodeKey) -> tuple[int, EpisodeKey]:
        """The part that a key is of, and its name there. Raises KeyError."""
        number, _, stream = key.stream.partition(":")
        if not (number.isdecimal() and int(number) < len(self.parts)):
            raise KeyError(f"episode {key} is in no part of the mixture")
        return int(number), replace(key, stream=stream)


def _outer(number: int, key: EpisodeKey) -> EpisodeKey:
    return EpisodeKey(f"{number}:{key.stream}", key.incarnation, key.episode)


def _joined(drawn: Mapping[int, Batch]) -> Batch:
    """One batch, part by part."""
    batches = [drawn[number] for number in sorted(drawn)]
    windows = [(_outer(number, w.key), w) for number in sorted(drawn) for w in drawn[number].windows]
    return Batch(
        arrays={name: np.concatenate([batch.arrays[name] for batch in batches]) for name in batches[0].arrays},
        windows=tuple(Window(key=key, start=w.start, length=w.length) for key, w in windows),
        weights=_joined_weights(batches),
        mask=np.concatenate([b.mask for b in batches if b.mask is not None]) if batches[0].mask is not None else None,
    )


def _joined_weights(batches: Sequence[Batch]) -> np.ndarray | None:
    if all(batch.weights is None for batch in batches):
        return None
    return np.concatenate([np.ones(len(b.windows), np.float32) if b.weights is None else b.weights for b in batches])
