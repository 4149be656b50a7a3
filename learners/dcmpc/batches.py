"""What DC-MPC trains on: short stretches of single episodes, time in front of rows.

Shapes: T transitions (T + 1 records), H of them that the world model learns from, B rows, O numbers of an observation,
A of an action.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learners.dcmpc.targets import Returns, Transitions
from replay.errors import BadInput
from replay.schema import EpisodeSpec
from replay.source import Source, Split

FIELDS = ("action", "reward", "is_first", "is_last", "is_terminal")


class Stretch(NamedTuple):
    """Transition t leads from observation t, by action t, to observation t + 1."""

    observation: Tensor  # (T + 1, B, O) float32
    action: Tensor  # (T, B, A)
    seen: Transitions


class Update(NamedTuple):
    """The batch of one update."""

    observation: Tensor  # (T + 1, B, O) float32
    action: Tensor  # (T, B, A)
    reward: Tensor  # (T, B)
    weight: Tensor  # (H, B) float32, of a transition in the loss of the world model; 0 where it is left out
    returns: Returns
    whole: Tensor  # (B,) float32: 1 where the row has a first transition, else 0
    improves: bool  # whether the policy is updated too


def width(spec: EpisodeSpec, field: str) -> int:
    """O. Raises BadInput for an observation that there is not, or that is an image."""
    known = {found.name: found for found in spec.observations}
    vectors = sorted(name for name, found in known.items() if len(found.shape) == 1)
    if field not in vectors:
        raise BadInput(f"DC-MPC cannot read the observation {field!r}.", f"Set observation to one of {vectors}.")
    return known[field].shape[0]


def draw(
    source: Source,
    key: tuple[int, ...],
    rows: int,
    transitions: int,
    field: str,
    split: Split = "train",
    across: bool = False,
) -> Stretch:
    """Uniform stretches of the split; see Source.batch for `key` and `across`."""
    drawn = source.batch(key, rows, transitions + 1, [field, *FIELDS], split, across=across).arrays
    record = {name: _time_first(drawn[name][:, 1:]) for name in FIELDS}
    inside = ~(record["is_first"].cumsum(0) > 0)  # a window across episodes meets the first record of the next one
    seen = Transitions(record["reward"], record["is_terminal"], record["is_last"], inside)
    return Stretch(_time_first(drawn[field]).float(), record["action"], seen)


def _time_first(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, 1, 0)))
