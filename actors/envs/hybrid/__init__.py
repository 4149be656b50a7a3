"""Games whose actions are a choice and a number, the benchmarks of HyAR (Li et al. 2022, arXiv 2109.05490):
`hybrid/platform`, `goal`, `hard_goal`, `catch_point`, `hard_move_<4..10>`, `simple_move`.

The native action is (k, (x_0, .., x_K-1)): one Box an action, of which the chosen one counts; in the point mass games
(k, x), one Box that all actions share. Two variants repeat slips of the published code, to match its numbers:
`goal@scalar_kick` and `hard_goal@constant_bins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from actors.envs.hybrid.base import HybridEnv
from actors.envs.hybrid.goal import Goal, HardGoal
from actors.envs.hybrid.platform import Platform
from actors.envs.hybrid.point_mass import CatchPoint, HardMove, SimpleMove
from actors.envs.registry import EnvConfig, unknown, variants

GAMES: Mapping[str, Callable[..., HybridEnv]] = {
    "platform": Platform,
    "goal": Goal,
    "hard_goal": HardGoal,
    "catch_point": CatchPoint,
    "simple_move": SimpleMove,
    **{f"hard_move_{n}": HardMove for n in range(4, 11)},
}
VARIANTS: Mapping[str, tuple[str, ...]] = {"goal": ("scalar_kick",), "hard_goal": ("scalar_kick", "constant_bins")}


def make(config: EnvConfig, seed: int) -> HybridEnv:
    name = config.task.partition("/")[2]
    game = name.partition("@")[0]
    if game not in GAMES:
        raise unknown("hybrid task", game, GAMES)
    _, chosen = variants(name, VARIANTS.get(game, ()))
    options: dict[str, object] = dict.fromkeys(chosen, True)
    if game.startswith("hard_move_"):
        options["actuators"] = int(game.rpartition("_")[2])
    return GAMES[game](config, seed, **options)


def tasks() -> tuple[str, ...]:
    return tuple(GAMES)
