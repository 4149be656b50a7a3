"""Whether a chunk, and the observation it is made from, are what the spec says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from actors.sources.errors import BadChunk
from actors.sources.source import ANY, SourceSpec
from replay.errors import BadInput
from replay.schema import FieldSpec


def check_chunk(actions: Any, spec: SourceSpec, who: str) -> np.ndarray:
    """(T, A) float32. Raises BadChunk that says what came instead; `who` begins the sentence."""
    wanted = (spec.horizon, spec.action_dim)
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        came = f"{actions.dtype} numbers" if isinstance(actions, np.ndarray) else type(actions).__name__
        raise BadChunk(f"{who} answered with {came} for actions.", "Ask the server's owner: actions are numbers.")
    if actions.shape != wanted:
        raise BadChunk(
            f"{who} answered with actions of shape {actions.shape}, not {wanted}.", _mend(actions.shape, wanted)
        )
    with np.errstate(over="ignore"):
        actions = actions.astype(np.float32)  # also copies: what comes over a wire may be read only
    if not np.isfinite(actions).all():
        step, index = np.argwhere(~np.isfinite(actions))[0].tolist()
        raise BadChunk(
            f"{who} answered with {actions[step, index]} for action {index} of step {step}.",
            "Look at the server's own log: its model, or its normalisation, makes no numbers.",
        )
    return actions


def check_fields(fields: Mapping[str, np.ndarray], wanted: tuple[FieldSpec, ...], who: str) -> None:
    """Raises BadInput for an observation that lacks one of `wanted`, or has another shape or dtype."""
    for field in wanted:
        if field.name not in fields:
            raise BadInput(
                f"{who} reads {field.name!r}, and the observation has only {sorted(fields)}.",
                "Choose a task that shows it; pictures need env.pixels=true, the simulator's state env.state=true.",
            )
        values = fields[field.name]
        fits = len(values.shape) == len(field.shape) and all(
            size in (ANY, given) for size, given in zip(field.shape, values.shape, strict=True)
        )
        if not fits or values.dtype != field.dtype:
            raise BadInput(
                f"{who} reads {field.name!r} as {field.dtype} of shape {field.shape}, and it is {values.dtype} of "
                f"shape {values.shape}.",
                f"Choose a task that shows such; {ANY} stands for any size.",
            )


def _mend(shape: tuple[int, ...], wanted: tuple[int, int]) -> str:
    if len(shape) == 2 and shape[1] == wanted[1]:
        return f"Set source.horizon={shape[0]}."
    return "Set source.horizon and source.action_dim as the policy has them, or serve the policy of this robot."
