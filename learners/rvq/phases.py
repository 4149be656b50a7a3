"""What a robot is doing when it begins a chunk: reaching, grasping or placing, told from its gripper alone.

Shapes: T actions of an episode, N chunks, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PHASES = ("reach", "grasp", "place")
REACH, GRASP, PLACE = range(3)
MARGIN = 10  # actions on either side of a closing that are the grasp: half a second at 20 Hz


def phases(closed_T: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    """(T,) int64 indices of PHASES, from whether the gripper is told to be closed at each action.

    A closing is an action that is closed after one that was open (or at the very start). Up to `margin` actions around
    a closing are grasp; what lies before the last closing and is none is reach, as long as the gripper is open there,
    else place (carrying); all after the last closing's grasp is place: carrying, letting go, leaving. An episode that
    never closes is reach. So a grasp that failed is reach and grasp again, whoever acts.
    """
    closed = np.asarray(closed_T, bool)
    closings = np.flatnonzero(closed & ~np.concatenate([[False], closed[:-1]]))
    found = np.full(len(closed), REACH)
    if not len(closings):
        return found
    found[closed] = PLACE
    found[closings[-1] :] = PLACE
    for place in closings:
        found[max(0, place - margin) : place + margin] = GRASP
    return found


def of_chunks(
    taken: Sequence[np.ndarray],
    episode_N: np.ndarray,
    start_N: np.ndarray,
    size: int,
    gripper: int,
    middle: float,
    closed_is_high: bool = True,
    margin: int = MARGIN,
) -> np.ndarray:
    """(N,) the phase of each chunk: that of the middle of the `size` actions that it stands for.

    `middle`: the gripper's action between open and closed.
    """
    by_episode = [phases((actions[:, gripper] >= middle) == closed_is_high, margin) for actions in taken]
    at = [min(start + size // 2, len(by_episode[e]) - 1) for e, start in zip(episode_N, start_N, strict=True)]
    return np.asarray([by_episode[e][t] for e, t in zip(episode_N, at, strict=True)], np.int64)


def layers_needed(errors_LN: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) how many layers bring each chunk's error to `threshold`; L + 1 where all of them do not."""
    enough = errors_LN <= threshold
    return np.where(enough.any(0), enough.argmax(0) + 1, len(errors_LN) + 1)


def by_phase(needed_N: np.ndarray, phase_N: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    """Rows are PHASES: `counts` (3, L + 1) of chunks by layers needed, the last column for those that L do not satisfy;
    `mean` (3,), nan for a phase without chunks; `chunks` (3,)."""
    counts = np.stack([np.bincount(needed_N[phase_N == p] - 1, minlength=layers + 1) for p in range(len(PHASES))])
    chunks = counts.sum(1)
    with np.errstate(invalid="ignore"):
        mean = (counts * np.arange(1, layers + 2)).sum(1) / chunks
    return {"phases": np.asarray(PHASES), "counts": counts, "mean": mean, "chunks": chunks}
